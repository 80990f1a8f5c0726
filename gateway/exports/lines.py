"""What is exported, as JSON data.

Owns: the names of the fields. Money is in integers of nano-dollars, as in the ledger itself.
Does not know: files, services, tables.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from gateway.ports import Entry


def entry_line(account: str, entry: Entry) -> dict[str, Any]:
    """An entry. `account` and `id` name it: the same two again are the same entry again."""
    return {
        "account": account,
        "id": entry.id,
        "kind": entry.kind,
        "amount_nanos": entry.amount,
        "balance_nanos": entry.balance,
        "operation": entry.operation,
        "at": time_of(entry.at_ms),
        "data": entry.data,
    }


def usage_lines(account: str, entry: Entry) -> Iterator[dict[str, Any]]:
    """What a charge is for, item by item. `account`, `entry` and `item` name it."""
    if entry.kind != "charge":
        return
    told = ("product", "route", "key_id", "call_id", "price_version", "rate_card", "basis")
    facts = {name: entry.data.get(name, "") for name in told}
    for number, item in enumerate(entry.data.get("items", ())):
        yield {
            "account": account,
            "entry": entry.id,
            "item": number,
            "at": time_of(entry.at_ms),
            "sku": item["sku"],
            "quantity": item["quantity"],
            "unit": item["unit"],
            "unit_price": item["unit_price"],
            "amount_nanos": item["amount"],
            **facts,
        }


def time_of(at_ms: int) -> str:
    """A time as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
