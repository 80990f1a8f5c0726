"""The ledger in memory: the outbox.

Owns: the meaning of those verbs.
Does not know: what is delivered, or how.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.ledger import records, rules
from gateway.ledger.memory_store import MemoryStore
from gateway.ports import Delivery


class MemoryDeliveries(MemoryStore):
    """See ports.Ledger."""

    async def post(
        self, *, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float = 0.0
    ) -> bool:
        """See ports.Ledger."""
        data = records.json({**payload})
        rules.check_delivery(delivery_id, channel, data, seconds)
        books, now = self._at(account)
        due_ms = now + int(rules.ms(seconds))
        made = Delivery(
            account=account, id=delivery_id, channel=channel, payload=orjson.loads(data), created_ms=now, due_ms=due_ms
        )
        return books.posts.post(now, made)

    async def claim_deliveries(
        self, *, limit: int, lease_seconds: float, account_max: int = 1000, busy: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """See ports.Ledger."""
        claimed: list[Delivery] = []
        for account in [name for name in self._books if name not in busy]:
            books, now = self._at(account)
            posts = books.posts
            due = [delivery for delivery in posts.listed(now, dead=False) if delivery.due_ms <= now]
            for delivery in due[: min(limit - len(claimed), account_max)]:
                posts.kept[delivery.id] = replace(delivery, due_ms=now + int(rules.ms(lease_seconds)))
                posts.claimed.add(delivery.id)
                claimed.append(delivery)
        return claimed

    async def delivered(self, *, account: str, delivery_id: str) -> None:
        """See ports.Ledger."""
        books, _ = self._at(account)
        if books.posts.kept.pop(delivery_id, None) is not None:
            books.posts.claimed.discard(delivery_id)
            books.posts.sent.add(delivery_id)

    async def put_off(
        self, *, account: str, delivery_id: str, seconds: float, why: str = "", attempted: bool = True
    ) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        waits = books.posts.waiting(delivery_id)
        if waits is not None:
            books.posts.claimed.discard(delivery_id)
            books.posts.kept[delivery_id] = replace(
                waits,
                due_ms=now + int(rules.ms(seconds)),
                attempts=waits.attempts + attempted,
                why=rules.reason(why) or waits.why,
            )

    async def bury(self, *, account: str, delivery_id: str, why: str) -> None:
        """See ports.Ledger."""
        books, now = self._at(account)
        waits = books.posts.waiting(delivery_id)
        if waits is not None:
            books.posts.let_die(now, replace(waits, attempts=waits.attempts + 1), rules.reason(why))

    async def revive(self, *, account: str, delivery_id: str) -> bool:
        """See ports.Ledger."""
        books, now = self._at(account)
        dead = books.posts.kept.get(delivery_id)
        if dead is None or not dead.dead:
            return False
        books.posts.kept[delivery_id] = replace(dead, due_ms=now, attempts=0, why="", dead=False)
        return True

    async def deliveries(self, account: str, *, dead: bool = False, limit: int = 100) -> Sequence[Delivery]:
        """See ports.Ledger."""
        books, now = self._at(account)
        return books.posts.listed(now, dead=dead)[:limit]

    async def delivery(self, *, account: str, delivery_id: str) -> Delivery | None:
        """See ports.Ledger."""
        books, now = self._at(account)
        found = books.posts.kept.get(delivery_id)
        return None if found is None else replace(found, now_ms=now)
