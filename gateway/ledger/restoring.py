"""The ledger on Redis: an empty one filled again from what was exported.

Owns: the order of writes: an account's hash is the last of its own keys, so that one which is there is there whole, and
a restoration that was broken off may be begun again. Holds, jobs, uploads, answers kept for repeats, deliveries that
wait and the audit log are not restored.
Does not know: what entries mean (rebuilding), or where they come from. Nobody else writes meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.errors import LedgerRefused
from gateway.core.months import month_of
from gateway.ledger.condition import epochs
from gateway.ledger.connection import Part
from gateway.ledger.link import LinkError
from gateway.ledger.marks import lost
from gateway.ledger.payment_rules import KNOWN_SECONDS
from gateway.ledger.rebuilding import Rebuilt, months_done, stream_fields, usage_hashes, volume_hashes
from gateway.ledger.rules import USAGE_DAYS
from gateway.ledger.store import Store
from gateway.ports import Entry

_TOGETHER: Final = 500
_DAY_MS: Final = 86_400_000
NOT_EMPTY: Final = "this Redis has accounts: a ledger is restored into an empty one only"


@dataclass(slots=True)
class Restored:
    """What became of one account. `keys_lost`: keys of which no digest is known. `wrong`: the first entry whose balance
    is not the sum up to it. `payment`: an attempt of autopay was under way.
    """

    account: str
    entries: int = 0
    balance: int = 0
    keys: int = 0
    keys_lost: list[str] = field(default_factory=list)
    wrong: str = ""
    payment: str = ""


class Restoring(Store):
    """Not of the port: only a ledger that can be lost needs it."""

    async def begin_restore(self) -> None:
        """LedgerRefused unless there is no account, or those of a restoration that was broken off.

        Where one primary of a cluster has lost its data there may be those of the others.
        """
        there = await self._call("EXISTS", self._names.restoring)
        if not there and await self._call("SCARD", self._names.accounts) and not await self._lost_in_part():
            raise LedgerRefused(NOT_EMPTY)
        await self._call("SET", self._names.restoring, "1")

    async def _lost_in_part(self) -> bool:
        prefix = self._names.prefix
        try:
            return self._link.is_cluster and await lost(self._link, prefix, await epochs(self._link, prefix))
        except LinkError as error:
            raise self._unavailable(error, "begin_restore") from error

    async def end_restore(self) -> None:
        """All accounts are there."""
        await self._call("DEL", self._names.restoring)

    async def restore_account(
        self,
        account: str,
        standing: Mapping[str, Any],
        entries: AsyncIterator[Entry],
        *,
        sink: str,
        sinks: Collection[str],
        forget_ms: int,
    ) -> Restored | None:
        """Fill one account from its entries, all of which `sink` has; None if it is there already: then only how it is
        found is written again, which may have been elsewhere.

        Entries that are older than `forget_ms`, and that all of the `sinks` had, are not kept here.
        """
        if await self._call("EXISTS", self._names.account(account)):
            await self._list(account)
            await self._write(await self._digests(account))
            return None
        now = await self._now_ms()
        await self._list(account)
        await self._call("DEL", self._names.ledger(account))
        had = standing.get("exported", {})
        forget = _Forgetting(forget_ms, [_id(had.get(name, "")) for name in sinks if name != sink])
        rebuilt, last = await self._entries(account, entries, forget, now)
        await self._write([*self._money(account, rebuilt, now), *self._remembered(account, rebuilt, now)])
        await self._write(self._settings(account, standing, rebuilt, now))
        cursors = {**had, sink: last, f"{sink}.changes": standing["account"].get("changes", "0")}
        keys = standing.get("keys", {})
        await self._write(
            [
                ("HSET", self._names.exported(account), *_flat({name: text for name, text in cursors.items() if text})),
                *(
                    ("SET", self._names.digest(key["digest"]), f"{account}|{key_id}")
                    for key_id, key in keys.items()
                    if "digest" in key
                ),
            ]
        )
        facts = {name: text for name, text in standing["account"].items() if name != "trimmed"}
        facts |= {"balance": str(rebuilt.balance), "debt": str(rebuilt.debt), "held": "0", **forget.fact()}
        facts |= months_done(rebuilt, facts)
        facts["grants_made"] = str(max(rebuilt.grants_made, int(facts.get("grants_made", "0"))))
        await self._call("HSET", self._names.account(account), *_flat(facts))
        autopay = standing.get("autopay", {})
        return Restored(
            account=account,
            entries=rebuilt.entries,
            balance=rebuilt.balance,
            keys=sum("digest" in key for key in keys.values()),
            keys_lost=sorted(key_id for key_id, key in keys.items() if "digest" not in key),
            wrong=next(iter(rebuilt.entered.wrong), ""),
            payment=autopay.get("attempt", "") if autopay.get("state", "idle") == "charging" else "",
        )

    async def _digests(self, account: str) -> list[tuple[Part, ...]]:
        """What finds the keys that the account has."""
        ids = [key_id.decode() for key_id in await self._call("SMEMBERS", self._names.keys(account))]
        names = [self._names.key(account, key_id) for key_id in ids]
        found = await asyncio.gather(*(self._call("HGET", name, "digest") for name in names))
        return [
            ("SET", self._names.digest(digest.decode()), f"{account}|{key_id}")
            for key_id, digest in zip(ids, found, strict=True)
            if digest is not None
        ]

    async def _entries(
        self, account: str, entries: AsyncIterator[Entry], forget: "_Forgetting", now: int
    ) -> tuple[Rebuilt, str]:
        """Keep the entries, a few hundred at once; what they make of the account, and the last one's id."""
        rebuilt, last, waiting = Rebuilt(remember_ms=now - self._operation_seconds * 1000), "", []
        async for entry in entries:
            rebuilt.add(entry)
            last = entry.id
            if not forget.take(entry, rebuilt.balance):
                waiting.append(("XADD", self._names.ledger(account), entry.id, *stream_fields(entry)))
            if len(waiting) >= _TOGETHER:
                await self._write(waiting)
                waiting = []
        await self._write(waiting)
        return rebuilt, last

    def _money(self, account: str, rebuilt: Rebuilt, now: int) -> list[tuple[Part, ...]]:
        """Grants with their ends, counters of usage, refunds, payments."""
        _, _, due, grants, burn, _ = (str(name) for name in self._names.six(account))
        commands: list[tuple[Part, ...]] = []
        for grant_id, grant in rebuilt.grants.items():
            commands.append(("HSET", grants, grant_id, grant.record, f"{grant_id}.left", str(grant.left)))
            commands.append(("ZADD", burn, str(grant.priority), grant.burn_member(grant_id)))
            if grant.expires_ms is not None:
                commands.append(("ZADD", due, str(grant.expires_ms), f"g:{grant_id}"))
        since = month_of(now - USAGE_DAYS * _DAY_MS)
        for month, counters in usage_hashes(rebuilt, since).items():
            commands += self._expiring(self._names.usage(account, month), counters, USAGE_DAYS * 86_400)
        if rebuilt.refunds:
            told = {entry_id: str(amount) for entry_id, amount in rebuilt.refunds.items()}
            commands.append(("HSET", self._names.refunds(account), *_flat(told)))
        for operation, payment in rebuilt.payments.items():
            _, provider, payment_id = operation.split(":", 2)
            commands += self._expiring(
                self._names.payment(account, provider, payment_id), payment.hash(), KNOWN_SECONDS
            )
            if payment.fields:
                name = self._names.paid(provider, payment_id)
                commands.append(("SET", name, account, "NX", "EX", str(KNOWN_SECONDS)))
        return commands

    def _remembered(self, account: str, rebuilt: Rebuilt, now: int) -> list[tuple[Part, ...]]:
        """What was done and would be done again by a repeat: charges from a spool, an administrator's operations."""
        told = [(self._names.end(account, hold_id), *end) for hold_id, end in rebuilt.ends.items()]
        told += [(self._names.operation(account, name), *done) for name, done in rebuilt.operations.items()]
        return [
            ("SET", name, text, "PX", str(max(1000, at_ms + self._operation_seconds * 1000 - now)))
            for name, text, at_ms in told
        ]

    def _settings(
        self, account: str, standing: Mapping[str, Any], rebuilt: Rebuilt, now: int
    ) -> list[tuple[Part, ...]]:
        """Keys with what they spent, autopay, watches, volumes of the month."""
        commands: list[tuple[Part, ...]] = []
        for key_id, key in standing.get("keys", {}).items():
            month, spent = rebuilt.spent(key_id) or (key.get("month", month_of(now)), 0)
            facts = {**key, "held": "0", "month": month, "spent": str(spent)}
            commands.append(("HSET", self._names.key(account, key_id), *_flat(facts)))
            commands.append(("SADD", self._names.keys(account), key_id))
        for name, facts in (
            (self._names.autopay(account), standing.get("autopay", {})),
            (self._names.watches(account), standing.get("watches", {})),
        ):
            if facts:
                commands.append(("HSET", name, *_flat(facts)))
        since = month_of(now - USAGE_DAYS * _DAY_MS)
        for month, volumes in volume_hashes(rebuilt, standing.get("volumes", {}), since).items():
            commands += self._expiring(self._names.volume(account, month), volumes, USAGE_DAYS * 86_400)
        return commands

    @staticmethod
    def _expiring(name: str, facts: Mapping[str, str], seconds: int) -> list[tuple[Part, ...]]:
        return [("HSET", name, *_flat(facts)), ("EXPIRE", name, str(seconds))]

    async def _write(self, commands: list[tuple[Part, ...]]) -> None:
        """In order, a few hundred at once."""
        for start in range(0, len(commands), _TOGETHER):
            await asyncio.gather(*(self._call(*command) for command in commands[start : start + _TOGETHER]))


class _Forgetting:
    """Which entries are not kept, from the first on: old ones that all other sinks have had."""

    def __init__(self, forget_ms: int, cursors: list[tuple[int, int]]) -> None:
        self._before = min([(forget_ms, 0), *cursors])
        self._trimmed = ""
        self._kept = False

    def take(self, entry: Entry, total: int) -> bool:
        """Whether this one, up to which entries add up to `total`, is not kept."""
        self._kept = self._kept or _id(entry.id) >= self._before
        if not self._kept:
            self._trimmed = f"{entry.id} {total}"
        return not self._kept

    def fact(self) -> dict[str, str]:
        """What the account says of those."""
        return {"trimmed": self._trimmed} if self._trimmed else {}


def _id(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms or 0), int(number or 0)


def _flat(facts: Mapping[str, str]) -> list[Part]:
    return [word for pair in facts.items() for word in pair]
