"""What the operators' pages show, made of the ledger's records, the metrics and the config.

Owns: which facts stand on a page and in what order. No secret of the config is among them.
Does not know: HTTP, how facts are worded or laid out.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.alerts import ALERT
from gateway.core.record import record
from gateway.edge.operations.alerts import view_alert
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import open_jobs
from gateway.edge.pages import billing_view as view
from gateway.edge.pages import plan_view
from gateway.edge.pages.funds_view import alert as alert_line
from gateway.ports import Clock, Ledger
from gateway.settings.runtime import Runtime

#: What a page says after a form, by the word in its address.
DID: Final[Mapping[str, str]] = {
    "granted": "The credit was given. It is in force everywhere now.",
    "suspended": "The account is suspended.",
    "activated": "The account is active again.",
    "disabled": "The key is disabled, at every worker and in every open session.",
    "enabled": "The key works again.",
    "released": "The credit that was set aside was given back.",
    "settled": "The job has ended, and was charged.",
    "running": "The job is not over: the service is still at it.",
    "replayed": "It is delivered again.",
    "over": "It had ended before. Nothing was done.",
}


async def picture(
    ledger: Ledger,
    runtime: Runtime,
    name: str,
    *,
    clock: Clock,
    before: str,
    entries: int,
    jobs: int,
    deliveries: int,
) -> dict[str, Any]:
    """All that is known of an account, so many of each at most."""
    (account, keys, holds), (followed, autopay, watches), committed, (lines, waiting, dead) = await asyncio.gather(
        asyncio.gather(ledger.account(name), ledger.keys(name), ledger.holds(name)),
        asyncio.gather(open_jobs(ledger, name, limit=jobs), ledger.autopay(name), ledger.watches(name)),
        CommitmentOperations(ledger=ledger, clock=clock).show(name),
        asyncio.gather(
            ledger.entries(name, before=before, limit=entries + 1, newest_first=True),
            ledger.deliveries(name, limit=deliveries),
            ledger.deliveries(name, dead=True, limit=deliveries),
        ),
    )
    names, now_ms = view.key_names(keys), int(clock.now() * 1000)
    page = lines[:entries]
    return {
        "standing": view.standing(runtime, account),
        "keys": view.key_lines(runtime, keys, now_ms),
        "holds": view.hold_lines(runtime, holds, names),
        "jobs": view.job_lines(runtime, followed, names),
        "autopay": autopay,
        "commitment": plan_view.commitment(committed),
        "alerts": [alert_line(view_alert(watch)) for watch in watches if watch.channel == ALERT],
        "lines": view.entry_lines(runtime, page, names),
        "older": page[-1].id if len(lines) > entries else "",
        "first": not before,
        "waiting": waiting,
        "dead": dead,
        "now_ms": now_ms,
    }


@record
class Figures:
    """The metrics that tell how it goes: refusals by code with their products, calls by outcome, some gauges."""

    refusals: tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...]
    outcomes: tuple[tuple[str, int], ...]
    gauges: tuple[tuple[str, float], ...]


def figures(counted: Mapping[str, Any]) -> Figures:
    """From the figures of `Metrics`: since the gateway was started."""
    refused: dict[str, dict[str, int]] = defaultdict(dict)
    for (product, code), count in counted["counts"]["gateway_refusals"]:
        refused[code][product or "no product"] = int(count)
    outcomes: dict[str, int] = defaultdict(int)
    for (_, _, outcome, _), count in counted["counts"]["gateway_calls"]:
        outcomes[outcome] += int(count)
    summed = {name: sum(products.values()) for name, products in counted["by_product"].items()}
    rows = [
        (code, sum(products.values()), tuple(sorted(products.items(), key=lambda each: -each[1])))
        for code, products in refused.items()
    ]
    return Figures(
        refusals=tuple(sorted(rows, key=lambda row: -row[1])),
        outcomes=tuple(sorted(outcomes.items(), key=lambda each: -each[1])),
        gauges=tuple(sorted({**counted["gauges"], **summed}.items())),
    )


def config(runtime: Runtime, now: float) -> dict[str, Any]:
    """The config in force, without its secrets."""
    upstreams = {product.upstream.name: product.upstream for product in runtime.products.values() if product.forwarded}
    routes = Counter(route.product.name for route in runtime.routes)
    redis = urlsplit(runtime.redis.url)
    where = f"{redis.hostname}:{redis.port or 6379}" if redis.hostname else redis.scheme or "embedded"
    card = runtime.tiers[runtime.default_tier].rate_card
    return {
        "digest": runtime.digest,
        "facts": (
            ("Customers", f"{runtime.customers.host}:{runtime.customers.port}"),
            ("TLS", "on" if runtime.customers_tls is not None else "off"),
            ("Operators", f"{runtime.ops.host}:{runtime.ops.port}"),
            ("Redis", where),
            ("Price list", runtime.prices.current(now, card).version),
            ("Default plan", runtime.default_tier),
        ),
        "upstreams": [(name, upstream.base_url) for name, upstream in sorted(upstreams.items())],
        "products": [
            (name, product.title, routes[name], product.upstream.name or "none")
            for name, product in sorted(runtime.products.items())
        ],
        "tiers": list(runtime.tiers.values()),
    }
