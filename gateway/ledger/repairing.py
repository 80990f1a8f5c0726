"""The ledger on Redis: numbers that differ made to agree, by an entry that says so.

Owns: what is set to what, by whom is trusted; that nothing is changed but what was looked at.
Does not know: how they came to differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import Nanos
from gateway.core.months import month_of
from gateway.ledger import records
from gateway.ledger.administration import Administration
from gateway.ledger.connection import Part
from gateway.ledger.rules import REPAIR, SEPARATOR, USAGE_DAYS
from gateway.ledger.verify import Entered, State, recompute, refunds_of, volumes_of
from gateway.ports import Drift

Trust = Literal["entries", "counter"]
_LOOKS_MAX: Final = 20
_BUSY: Final = "the account changes faster than it can be read: try again when it is quieter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What differed, and what was (or would be) done: the balance after it, the entry's amount, its id ("": none)."""

    account: str
    drift: tuple[Drift, ...]
    balance: Nanos
    amount: Nanos
    entry_id: str = ""


class Repairing(Administration):
    """Not of the port: in memory no number is kept twice."""

    async def repair(
        self, *, operation: str, account: str, trust: Trust, data: Mapping[str, Any], apply: bool
    ) -> Repair:
        """Make the account's numbers agree, if they do not; without `apply`, only say what would be done.

        `trust` entries: the balance becomes their sum. `trust` counter: the balance stays, and the entry is of what
        the entries lack. What grants and debt add up to follows the balance; what follows from records, the records.
        """
        entered: Entered | None = None
        start = "-"
        for _ in range(_LOOKS_MAX):
            state = await self._state(account)
            entered = entered or Entered.after(state.account.get("trimmed", ""), state.refunds.keys())
            start = await self._enter(account, entered, start, state.last_entry)
            drift = tuple(recompute(account, state, entered))
            stored = int(state.account["balance"])
            balance = entered.total if trust == "entries" else stored
            amount = Nanos(balance - entered.total)
            planned = Repair(account=account, drift=drift, balance=Nanos(balance), amount=amount)
            if not apply or not drift:
                return planned
            told = {found.what: [found.stored, found.recomputed] for found in drift}
            explained = records.json({**data, "key_id": "", "repair": trust, "drift": told})
            args: list[Part] = [f"{REPAIR}{operation}", state.last_entry, str(stored), str(balance), str(amount)]
            args += [explained, *_numbers(state, entered)]
            names = [self._names.operation(account, f"{REPAIR}{operation}"), self._names.keys(account)]
            content = records.digest("repair", trust, records.json({**data}))
            tag, answer = await self._run("repair", account, names, [content, *args])
            if tag == b"repaired":
                entry_id, after = answer[0]
                return Repair(
                    account=account, drift=drift, balance=Nanos(int(after)), amount=amount, entry_id=entry_id.decode()
                )
        raise LedgerUnavailable(_BUSY)


def _numbers(state: State, entered: Entered) -> list[Part]:
    """What keys spent, usage, volumes and refunds, as the entries have it: those that are proven by them and differ."""
    words: list[Part] = []
    for key_id, key in state.keys.items():
        spent = entered.spent[key_id, key["month"]]
        if key["month"] > month_of(entered.forgotten_ms) and int(key["spent"]) != spent:
            words += [f"key:{key_id}", "spent", str(spent), ""]
    for (day, product, key_id), charged in entered.proven_usage(state).items():
        if state.usage.get((day, product, key_id), 0) != charged:
            line, lives = SEPARATOR.join((day[8:], product, key_id)), str(USAGE_DAYS * 86_400)
            words += [f"usage:{day[:7]}", line, str(charged), lives]
            if (day, product, key_id) not in state.usage:  # how often is not known any more
                words += [f"usage:{day[:7]}", f"{line}{SEPARATOR}n", "1", lives]
    for sku, (there, taken) in volumes_of(state, entered).items():
        month = max(month for month, each in entered.volumes if each == sku)
        volume = state.volumes[month].get(sku, 0) + taken - there
        words += [f"volume:{month}", sku, str(volume), str(USAGE_DAYS * 86_400)] if taken != there else []
    for entry_id, (stored, found) in refunds_of(state, entered).items():
        words += ["refunds", entry_id, str(found), ""] if stored != found else []
    return words
