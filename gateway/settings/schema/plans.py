"""`config/tiers.yaml` and `config/prices.yaml`: plans, price lists, rate cards."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, model_validator

from gateway.core.money import ZERO
from gateway.core.monthly import MONTH, days_of
from gateway.settings.schema.base import Filled, Flag, Money, Name, Percent, Price, Settings, Sku, Whole, key, text_of

#: How a volume is written -> (the unit of what is counted, how many of them).
VOLUME_UNITS: Final = {
    "hours": ("second", 3600),
    "minutes": ("second", 60),
    "seconds": ("second", 1),
    "milliseconds": ("millisecond", 1),
    "tokens": ("token", 1),
    "characters": ("character", 1),
    "calls": ("call", 1),
    "units": ("unit", 1),
}

# ---- tiers


class RequestsSettings(Settings):
    """A limit of requests."""

    quota: Whole = key("Requests in a window", unit="requests", ge=1, le=10**9)
    window_seconds: Whole = key("Length of a window", unit="seconds", ge=1, le=86400)


class ScalingSettings(Settings):
    """How a quota follows its use, window by window. Percent of the quota in force, which never falls below `quota`."""

    grow_at_percent: Whole = key("Used so much, the next window's is larger", default=70, unit="percent", ge=1, le=100)
    grow_percent: Whole = key("By so much, and smaller by as much", default=10, unit="percent", ge=1, le=100)
    shrink_below_percent: Whole = key(
        "Used less, the next window's is smaller", default=50, unit="percent", ge=0, le=100
    )
    quota_max: Whole = key("Never larger", default=1_000_000, unit="requests", ge=1, le=10**9)


class ProductRequestsSettings(RequestsSettings):
    """A limit of one product's metered requests, and of its new sessions."""

    per_model: Flag = key("Counted for each model on its own", default=False)
    scaling: ScalingSettings | None = key("How the quota follows its use", default=None, shown="it does not")


def _refuse(value: Any) -> Any:
    return {} if value == "refuse" else value


class WhenNegativeSettings(Settings):
    """What an account may do that has no credit."""

    concurrency: Whole = key("Jobs at a time, with nothing held; 0: none", default=0, unit="jobs", ge=0, le=1000)


class TierProductSettings(Settings):
    """What a tier gives of one product."""

    models: list[Filled] | None = key(
        "Models that may be used, as requests name them", default=None, shown="all", min_length=1
    )
    concurrency: Whole | None = key(
        "Open holds at a time", default=None, unit="calls, jobs and sessions", ge=1, le=1_000_000, shown="no limit"
    )
    queued_max: Whole = key(
        "Jobs beyond `concurrency` that wait for their place, first in, first out; one more is refused", default=0,
        unit="jobs", ge=0, le=100_000,
    )  # fmt: skip
    when_negative: Annotated[WhenNegativeSettings, BeforeValidator(_refuse)] = key(
        "Jobs of an account without credit: `refuse`, or `{concurrency: 1}` for one at a time", shown="refuse",
        default=WhenNegativeSettings,
    )  # fmt: skip
    requests: ProductRequestsSettings | None = key("Limit of metered requests", default=None, shown="no limit")


def _lasting(text: str) -> str:
    days_of(text)
    return text


class MonthlyGrantSettings(Settings):
    """What a plan gives each calendar month (UTC): once a month, and what is left of it does not roll over."""

    amount: Money = key("So much", unit="dollars")
    expires_after: Annotated[Filled, AfterValidator(_lasting)] = key(
        "How long it lasts: until the end of the `month`, or so many days, like `30 days`", default=MONTH
    )

    @model_validator(mode="after")
    def _something(self) -> "MonthlyGrantSettings":
        if self.amount == 0:
            raise ValueError("a grant of nothing is none: leave monthly_grant out")
        return self


class TierSettings(Settings):
    """A plan."""

    title: Filled = key("Name for people")
    signup_grant: Money = key("Credit that an account opens with", default=ZERO, unit="dollars", shown='"0"')
    monthly_grant: MonthlyGrantSettings | None = key("Credit of each calendar month", default=None, shown="none")
    rate_card: Name = key("Rate card of accounts without one of their own")
    overdraft: Money = key("How far below zero an account may go", default=ZERO, unit="dollars", shown='"0"')
    requests: RequestsSettings | None = key("Limit of all requests of an account", default=None, shown="no limit")
    requests_per_key: RequestsSettings | None = key(
        "Limit of all requests of each of its keys, with the sessions of the key's tokens", default=None,
        shown="no limit",
    )  # fmt: skip
    products: dict[Name, TierProductSettings] = key("What it includes, by product", default=dict, shown="nothing")


class TiersSettings(Settings):
    """Every plan."""

    default_tier: Name = key("Tier of accounts that are opened without one")
    tiers: dict[Name, TierSettings] = key("The tiers, by name", min_length=1)


# ---- prices


class PriceSettings(Settings):
    """What one SKU costs: exactly one of the `per_` keys."""

    per_hour: Price | None = key("Price of 3600 seconds", default=None, unit="dollars", shown="none")
    per_minute: Price | None = key("Price of 60 seconds", default=None, unit="dollars", shown="none")
    per_second: Price | None = key("Price of a second", default=None, unit="dollars", shown="none")
    per_hour_of_ms: Price | None = key("Price of 3600000 milliseconds", default=None, unit="dollars", shown="none")
    per_1m_tokens: Price | None = key("Price of a million tokens", default=None, unit="dollars", shown="none")
    per_1k_tokens: Price | None = key("Price of a thousand tokens", default=None, unit="dollars", shown="none")
    per_1m_characters: Price | None = key("Price of a million characters", default=None, unit="dollars", shown="none")
    per_1k_characters: Price | None = key("Price of a thousand characters", default=None, unit="dollars", shown="none")
    per_character: Price | None = key("Price of a character", default=None, unit="dollars", shown="none")
    per_call: Price | None = key("Price of a call", default=None, unit="dollars", shown="none")
    per_unit: Price | None = key("Price of whatever the measure counts", default=None, unit="dollars", shown="none")
    free: Flag = key("The price is meant to be 0", default=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> "PriceSettings":
        if len(self.written) != 1:
            raise ValueError('a price has exactly one unit, like {per_hour: "0.21"}')
        (text,) = self.written.values()
        if not text.strip("0.") and not self.free:
            raise ValueError("a price of 0 must say that it is meant: add free: true")
        if text.strip("0.") and self.free:
            raise ValueError("it cannot be free and cost something: remove free: true")
        return self

    @property
    def written(self) -> dict[str, str]:
        """The unit and the price, as written."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("per_")}
        return {name: text for name, text in given.items() if text is not None}


def _instant(value: Any) -> Any:
    text = text_of(value, 'must be a time in quotes, like "2026-04-07T00:00:00Z"')
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a time: write it like "2026-04-07T00:00:00Z"') from None
    if instant.tzinfo is None:
        raise ValueError('the time needs its zone: write it like "2026-04-07T00:00:00Z"')
    return instant


def _version(text: str) -> str:
    if not text.isprintable() or len(text) > 64:
        raise ValueError("a version is a short text, like 2026-04-07")
    return text


Instant = Annotated[datetime, BeforeValidator(_instant)]


class PriceListSettings(Settings):
    """The prices from one moment on."""

    version: Annotated[Filled, AfterValidator(_version)] = key("Name of this list; every charge carries it")
    effective_from: Instant = key(
        "From when it is in force; calls under way keep the version that they were admitted with"
    )
    prices: dict[Sku, PriceSettings] = key(
        "The price of each SKU; a SKU that is not named costs what it did", default=dict, shown="as before"
    )


def _volume(text: str) -> str:
    number, _, unit = text.partition(" ")
    if unit not in VOLUME_UNITS or re.fullmatch(r"[1-9][0-9]{0,14}", number) is None:
        raise ValueError(f'must be a whole number and a unit ({", ".join(VOLUME_UNITS)}), like "1000 hours"')
    return text


class StepSettings(Settings):
    """What is cheaper from a volume on: exactly one of `percent` and `price`."""

    above: Annotated[Filled, AfterValidator(_volume)] = key(
        "From how much of the SKU in a calendar month (UTC) on, like `1000 hours`"
    )
    percent: Percent | None = key("Percent off what the first unit costs", default=None, unit="percent", shown="none")
    price: PriceSettings | None = key("What it costs, undiscounted", default=None, shown="none")

    @model_validator(mode="after")
    def _exactly_one(self) -> "StepSettings":
        if (self.percent is None) == (self.price is None):
            raise ValueError("a step says one of percent and price")
        return self


class RateCardSettings(Settings):
    """How one kind of customer sees the price list."""

    discounts: dict[Filled, Percent] = key(
        "Percent off, by SKU, SKU prefix (`stt.*`), product, or `*`; the most specific counts", default=dict,
        unit="percent", shown="none",
    )  # fmt: skip
    overrides: dict[Sku, PriceSettings] = key("Prices in place of the list's, undiscounted", default=dict, shown="none")
    steps: dict[Filled, list[StepSettings]] = key(
        "What gets cheaper with the volume of a calendar month, by SKU or SKU prefix (`stt.*`), lowest first; each SKU "
        "is counted on its own",
        default=dict,
        shown="none",
    )


class PricesSettings(Settings):
    """Every price list and rate card."""

    currency: Filled = key("Currency of every amount; only USD", default="USD")
    price_lists: list[PriceListSettings] = key("The price lists, oldest first", min_length=1)
    rate_cards: dict[Name, RateCardSettings] = key("The rate cards, by name", min_length=1)
