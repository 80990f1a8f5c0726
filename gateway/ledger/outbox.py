"""The ledger on Redis: the outbox.

Owns: the arguments and answers of those verbs, and the index of the accounts that have deliveries.
Does not know: what is delivered, or how. Scripts post by themselves too (scripts/outbox.lua).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gateway.ledger import records, rules
from gateway.ledger.connection import Part
from gateway.ledger.store import Store
from gateway.ports import Delivery


class Deliveries(Store):
    """See ports.Ledger."""

    async def post(
        self, *, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float = 0.0
    ) -> bool:
        """See ports.Ledger."""
        data = records.json({**payload})
        rules.check_delivery(delivery_id, channel, data, seconds)
        args: list[Part] = [delivery_id, channel, data, rules.ms(seconds), self._token()]
        _, (new,) = await self._run("post", account, [], args)
        return bool(new == b"1")

    async def claim_deliveries(
        self, *, limit: int, lease_seconds: float, account_max: int = 1000, busy: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """See ports.Ledger. One account after the other, the one that has waited longest first."""
        return await self._visit(
            self._names.outbox,
            limit,
            lambda account, most: self._claim_deliveries(account, min(most, account_max), lease_seconds),
            busy=busy,
        )

    async def _claim_deliveries(self, account: str, limit: int, lease_seconds: float) -> list[Delivery]:
        args = [str(limit), rules.ms(lease_seconds)]
        _, (now, claimed) = await self._run("claim_deliveries", account, [], args)
        return [records.delivery(account, now, *one) for one in claimed]

    async def delivered(self, *, account: str, delivery_id: str) -> None:
        """See ports.Ledger."""
        await self._run("delivered", account, [], [delivery_id])

    async def put_off(
        self, *, account: str, delivery_id: str, seconds: float, why: str = "", attempted: bool = True
    ) -> None:
        """See ports.Ledger."""
        args: list[Part] = [delivery_id, rules.ms(seconds), rules.reason(why), str(int(attempted)), self._token()]
        await self._run("put_off", account, [], args)

    async def bury(self, *, account: str, delivery_id: str, why: str) -> None:
        """See ports.Ledger."""
        await self._run("bury", account, [], [delivery_id, rules.reason(why)])

    async def revive(self, *, account: str, delivery_id: str) -> bool:
        """See ports.Ledger."""
        _, (revived,) = await self._run("revive", account, [], [delivery_id, self._token()])
        return bool(revived == b"1")

    async def deliveries(self, account: str, *, dead: bool = False, limit: int = 100) -> Sequence[Delivery]:
        """See ports.Ledger."""
        return await self._listed(account, "", dead=dead, limit=limit)

    async def delivery(self, *, account: str, delivery_id: str) -> Delivery | None:
        """See ports.Ledger."""
        for dead in (False, True):
            for found in await self._listed(account, delivery_id, dead=dead, limit=1):
                return found
        return None

    async def _listed(self, account: str, delivery_id: str, *, dead: bool, limit: int) -> list[Delivery]:
        args = ["dead" if dead else "waiting", str(limit), delivery_id]
        _, (now, listed) = await self._run("deliveries", account, [], args)
        return [records.delivery(account, now, *one, dead=dead) for one in listed]
