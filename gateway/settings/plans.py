"""Plans and prices, compiled: what a tier gives, and every price table by its version and rate card.

Owns: the shape of them, and which table is in force. Does not know: YAML, accounts.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.admission import Concurrency, Rate
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.pricing import PriceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class TierProduct:
    """What a tier gives of one product. `models` None: all. `rates` hold for this product only.

    `per_model` rates are named after the model asked for.
    """

    models: frozenset[str] | None = None
    concurrency: Concurrency | None = None
    rates: tuple[Rate, ...] = ()
    per_model: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A named plan. Amounts in nano-dollars; `rates` count every request of an account, `per_key` those of each key."""

    name: str
    title: str
    signup_grant: Nanos
    rate_card: str
    overdraft: Nanos
    rates: tuple[Rate, ...]
    products: Mapping[str, TierProduct]
    monthly_grant: MonthlyGrant | None = None
    per_key: tuple[Rate, ...] = ()
    region: str = ""  # what is never sent elsewhere; only accounts have one


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Every price table there is, by version and rate card. `starts` (epoch seconds) and `versions` go in step."""

    starts: tuple[float, ...]
    versions: tuple[str, ...]
    tables: Mapping[tuple[str, str], PriceTable]

    def current(self, now: float, rate_card: str) -> PriceTable:
        """The table in force at `now` for a rate card that exists."""
        return self.tables[self.versions[max(0, bisect_right(self.starts, now) - 1)], rate_card]

    def pinned(self, version: str, rate_card: str) -> PriceTable | None:
        """The table that a hold was priced by; None if the config no longer has it."""
        return self.tables.get((version, rate_card))

    def rewritten(self, last: "PriceBook", now: float) -> list[str]:
        """Versions of the last book, of those that have admitted anything, that say something else here of what they
        priced, or are gone: what is held by them is not over.
        """
        begun = last.versions[: max(1, bisect_right(last.starts, now))]
        cards = {card for _, card in last.tables}
        return [
            version
            for version in begun
            if any(
                _differs(self.tables.get((version, card)), was)
                for card in cards
                if (was := last.tables.get((version, card))) is not None
            )
        ]


def _differs(now: PriceTable | None, was: PriceTable) -> bool:
    """Whether something that was priced costs something else. What has come beside it is nothing to what is held."""
    return now is None or any(
        (now.prices.get(sku), now.steps.get(sku)) != (price, was.steps.get(sku)) for sku, price in was.prices.items()
    )
