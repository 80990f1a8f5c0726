"""The ledger's records as plain data: what the admin API answers and the command line prints with `--json`.

Owns: the names of the fields, decimal strings with their currency beside them, RFC 3339 times.
Does not know: where the records come from.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core import overrides
from gateway.core.money import Nanos, format_usd
from gateway.ports import Account, Drift, Entry, Grant, Hold, Key, Receipt, Resource

Data = dict[str, Any]
CURRENCY: Final = {"currency": "USD"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def when(ms: int) -> str:
    """A moment of the store's clock."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _perhaps(ms: int | None) -> str | None:
    return None if ms is None else when(ms)


def view_account(account: Account, overdraft: Nanos) -> Data:
    """An account and its credit, without its grants. `overdraft` is its tier's, or its own."""
    return {
        "id": account.id,
        "tier": account.plan.tier,
        "rate_card": account.plan.rate_card or None,
        "overrides": overrides.shown(account.plan.overrides),
        "status": account.status,
        "balance": format_usd(account.balance),
        "held": format_usd(account.held),
        "overdraft": format_usd(overdraft),
        "available": format_usd(account.balance - account.held + overdraft),
        "debt": format_usd(account.debt),
        **CURRENCY,
        "open_holds": account.open_holds,
        "created_at": when(account.created_ms),
    }


def view_grant(grant: Grant) -> Data:
    """Credit given, and what is left of it."""
    return {
        "id": grant.id,
        "kind": grant.kind,
        "amount": format_usd(grant.amount),
        "remaining": format_usd(grant.remaining),
        **CURRENCY,
        "priority": grant.priority,
        "expires_at": _perhaps(grant.expires_ms),
        "created_at": when(grant.created_ms),
    }


def view_key(key: Key) -> Data:
    """A key without its secret. `spent` and `held` are this month's."""
    return {
        "id": key.id,
        "account": key.account,
        "name": key.name,
        "project": key.project or None,
        "disabled": key.disabled,
        "expires_at": _perhaps(key.expires_ms),
        "products": None if key.products is None else list(key.products),
        "monthly_budget": None if key.monthly_budget is None else format_usd(key.monthly_budget),
        "billing": key.billing,
        "spent": format_usd(key.spent),
        "held": format_usd(key.held),
        **CURRENCY,
        "created_at": when(key.created_ms),
    }


def view_hold(hold: Hold) -> Data:
    """Credit set aside: in use, not spent."""
    return {
        "id": hold.id,
        "amount": format_usd(hold.amount),
        **CURRENCY,
        "product": hold.product,
        "resource": None if hold.resource is None else {"kind": hold.resource.kind, "id": hold.resource.id},
        "key": hold.key_id,
        "concurrency_class": hold.concurrency_class,
        "price_version": hold.price_version,
        "created_at": when(hold.created_ms),
        "expires_at": when(hold.expires_ms),
    }


def view_job(record: Resource, look_ms: int = 0, place: int = 0) -> Data:
    """A job, and when it is looked at next, or its place in the queue. `held` is what was set aside for it."""
    return {
        "kind": record.ref.kind,
        "id": record.ref.id,
        "state": record.state,
        "product": record.product,
        "call_id": record.hold,
        "key": record.key_id,
        "held": format_usd(Nanos(int(record.facts.get("held", 0)))),
        **CURRENCY,
        "price_version": record.price_version,
        "rate_card": record.rate_card or None,
        "usage": dict(record.usage) or None,
        "created_at": when(record.created_ms),
        "deadline_at": _perhaps(record.deadline_ms or None),
        "gone_since": _perhaps(record.gone_ms or None),
        "next_look_at": _perhaps(look_ms or None),
        "place": place or None,
        "upstream_id": None if record.only_here else record.upstream_id,
    }


def view_entry(entry: Entry) -> Data:
    """One line of the ledger, with what explains it."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "amount": format_usd(entry.amount),
        "balance": format_usd(entry.balance),
        **CURRENCY,
        "operation": entry.operation,
        "at": when(entry.at_ms),
        "data": _explained(entry.data),
    }


def view_moved(receipt: Receipt, **what: str) -> Data:
    """What an operation moved: its entry, what that is about, and the balance after it."""
    return {
        "entry": receipt.entry_id,
        **what,
        "amount": format_usd(-receipt.charged),
        "balance": format_usd(receipt.balance),
        **CURRENCY,
    }


def view_drift(drift: Drift) -> Data:
    """A number that is not what the entries say, in the ledger's own unit (nano-dollars, counts)."""
    return {"what": drift.what, "stored": str(drift.stored), "recomputed": str(drift.recomputed)}


def _explained(data: Mapping[str, Any]) -> Data:
    """An entry's explanation: its amounts, integers of the ledger, as decimals, its times as times."""
    shown = dict(data)
    if isinstance(items := shown.get("items"), list | tuple):
        shown["items"] = [{**item, "amount": format_usd(int(item["amount"]))} for item in items]
    if isinstance(moved := shown.get("grants"), Mapping):
        shown["grants"] = {grant: format_usd(int(amount)) for grant, amount in moved.items()}
    for name in ("debt", "committed", "charged"):
        if name in shown:
            shown[name] = format_usd(int(shown[name]))
    if "expires_ms" in shown:
        shown["expires_at"] = _perhaps(shown.pop("expires_ms"))
    return shown
