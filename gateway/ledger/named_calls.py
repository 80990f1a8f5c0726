"""The ledger on Redis: calls that their clients named.

Owns: the arguments and answers of the verbs name_call, keep_answer, free_name.
Does not know: what a name or an answer is made of.
"""

from typing import Any, cast

from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import NamedCall, Naming


class NamedCalls(Store):
    """See ports.Ledger."""

    async def name_call(self, named: NamedCall) -> Naming:
        """See ports.Ledger."""
        account, times = named.account, (str(named.lease_seconds * 1000), str(named.keep_seconds * 1000))
        args: list[Part] = [named.name, named.hold_id, named.content, *times, str(named.names_max)]
        tag, rest = await self._run("name_call", account, self._names.named(account, named.name), args)
        if tag == b"done":
            return Naming(state="done", hold_id=rest[0].decode(), answer=rest[1])
        if tag == b"full":
            return Naming(state="full", retry_after_seconds=-(-int(rest[0]) // 1000))
        return Naming(state=cast("Any", tag.decode()))

    async def has_name(self, *, account: str, name: str) -> bool:
        """See ports.Ledger."""
        return bool(await self._call("EXISTS", self._names.named(account, name)[-1]))

    async def keep_answer(self, *, account: str, name: str, hold_id: str, answer: bytes, bytes_max: int) -> bool:
        """See ports.Ledger."""
        args: list[Part] = [name, hold_id, answer, str(bytes_max)]
        _, (kept,) = await self._run("keep_answer", account, self._names.named(account, name), args)
        return bool(kept == b"1")

    async def free_name(self, *, account: str, name: str, hold_id: str) -> None:
        """See ports.Ledger."""
        await self._run("free_name", account, self._names.named(account, name), [name, hold_id])
