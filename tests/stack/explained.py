"""Whether each charge of an account explains itself: by the config's own text, not by what reads it.

Owns: the sums. Does not know: the gateway's tariff.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from gateway.ports import Entry

_UNITS = {"per_hour": 3600, "per_minute": 60, "per_second": 1, "per_1m_tokens": 1_000_000, "per_1k_characters": 1000}
_NANOS = 10**9
_SESSIONS = ("streaming-speech-to-text", "voice-agent")


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Price lists: by version, what a SKU costs, as the file writes it."""

    prices: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, path: Path) -> "Lists":
        """Those of a file. A later list names what changes, and inherits the rest."""
        prices: dict[str, dict[str, str]] = {}
        before: dict[str, str] = {}
        for each in yaml.safe_load(path.read_text())["price_lists"]:
            named = {
                sku: " ".join(reversed(next(iter(price.items())))) for sku, price in each.get("prices", {}).items()
            }
            before = prices[each["version"]] = {**before, **named}
        return cls(prices=prices)

    def wrong(self, entry: Entry) -> str:
        """What a charge does not explain; empty where it explains all."""
        version, items = entry.data["price_version"], entry.data["items"]
        if version not in self.prices:
            return f"no list {version}"
        if sum(item["amount"] for item in items) != -entry.amount:
            return "its items are another sum"
        # A slice is the difference of two amounts that were rounded (record 10); everything else was rounded once.
        within = Fraction(1) if entry.data["product"] in _SESSIONS else Fraction(1, 2)
        return "; ".join(filter(None, (self._wrong(self.prices[version], item, within) for item in items)))

    @staticmethod
    def _wrong(prices: Mapping[str, str], item: Mapping[str, Any], within: Fraction) -> str:
        listed = prices.get(item["sku"])
        if listed is None or listed != item["unit_price"]:
            return f"{item['sku']} costs {listed}, not {item['unit_price']}"
        price, unit = listed.split()
        exact = Fraction(item["quantity"]) * Fraction(price) * _NANOS / _UNITS[unit]
        return "" if abs(exact - item["amount"]) <= within else f"{item['sku']}: {item['amount']} is not {exact}"


def versions_in_order(entries: Sequence[Entry], *, before_ms: int, after_ms: int, old: str, new: str) -> str:
    """What is wrong with the price lists of charges: the old one until a reload began, the new one once it was over.

    A charge is looked at by when it was made: one that was admitted before and made after may have either.
    """
    early = {entry.data["price_version"] for entry in entries if entry.at_ms < before_ms}
    late = {entry.data["price_version"] for entry in entries if entry.at_ms > after_ms}
    if early - {old}:
        return f"before the reload: {early}"
    return "" if late <= {new} else f"after it: {late}"
