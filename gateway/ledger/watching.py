"""The ledger on Redis: what is watched of an account.

Owns: the arguments and answers of those verbs. Does not know: who is told. What a watch finds is in scripts/watch.lua.
"""

from collections.abc import Sequence

from gateway.core.errors import LedgerRefused
from gateway.ledger import records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import Watch


class Watching(Store):
    """See ports.Ledger."""

    async def put_watch(self, *, account: str, watch: Watch, anew: bool = False) -> Watch:
        """See ports.Ledger."""
        data = records.json({**watch.data})
        rules.check_watch(watch, data)
        args: list[Part] = [watch.id, watch.kind, str(watch.amount), watch.channel, data, str(rules.WATCHES_MAX)]
        args.append("1" if anew else "")
        tag, answer = await self._run("put_watch", account, [], args)
        if tag == b"too_many":
            raise LedgerRefused(rules.TOO_MANY_WATCHES)
        return records.watch(*answer[0])

    async def drop_watch(self, *, account: str, watch_id: str) -> None:
        """See ports.Ledger."""
        await self._run("drop_watch", account, [], [watch_id])

    async def watches(self, account: str) -> Sequence[Watch]:
        """See ports.Ledger."""
        _, (listed,) = await self._run("watches", account, [], [])
        return [records.watch(*one) for one in listed]
