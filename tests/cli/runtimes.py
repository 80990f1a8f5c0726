"""A config made by hand, for tests that look at accounts and not at products."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.core.pricing import PriceTable
from gateway.core.upstreams import Upstream
from gateway.settings.plans import PriceBook, Tier
from gateway.settings.products import ErrorStyle, Product
from gateway.settings.runtime import Limits, Listener, RedisSettings, Runtime

TOKEN = "an-admin-token"
PEPPER = "a-pepper"


def usd(dollars: int) -> Nanos:
    return Nanos(dollars * NANOS_PER_USD)


def tier(name: str, *, signup: int = 0, overdraft: int = 0) -> Tier:
    return Tier(
        name=name,
        title=name,
        signup_grant=usd(signup),
        rate_card="standard",
        overdraft=usd(overdraft),
        rates=(),
        products={},
    )


def make_runtime(redis: RedisSettings | None = None, **changes: Any) -> Runtime:
    style = ErrorStyle(body={"error": "{message}"})
    upstream = Upstream(name="up", base_url="http://127.0.0.1:1", credential="service")
    cards = ("standard", "charity")
    runtime = Runtime(
        customers=Listener(host="127.0.0.1", port=0),
        ops=Listener(host="127.0.0.1", port=0),
        redis=redis or RedisSettings(),
        spool_directory=Path("unused"),
        admin_token=TOKEN,
        key_pepper=PEPPER,
        trust_forwarded_for=False,
        log_level="info",
        limits=Limits(),
        products={name: Product(name=name, title=name, upstream=upstream, errors=style) for name in ("speech", "chat")},
        routes=(),
        tiers={one.name: one for one in (tier("free", signup=50), tier("payg", overdraft=5))},
        default_tier="free",
        prices=PriceBook(
            starts=(0.0,),
            versions=("v1",),
            tables={("v1", card): PriceTable(version="v1", rate_card=card, prices={}) for card in cards},
        ),
        default_errors=style,
        digest="d",
    )
    return replace(runtime, **changes)
