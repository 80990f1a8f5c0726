"""Accounts with charges, and exporters on them, for the tests of exports.

Owns: how they are made. Does not know: sinks.
"""

import asyncio
from typing import Any

from gateway.edge.clock import SystemClock
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import ExportTried, Key, Sink
from gateway.workers.export import Exporter
from tests.ledger.ledgers import DOLLAR, FREE, bill, usd


class Told:
    """An observer that remembers the batches and the events."""

    def __init__(self) -> None:
        self.batches: list[ExportTried] = []
        self.events: list[str] = []

    def call_finished(self, record: Any) -> None:
        """Nobody calls here."""

    session_finished = job_looked = queue_left = delivery_tried = payment_told = call_finished

    def export_tried(self, record: ExportTried) -> None:
        self.batches.append(record)

    def event(self, name: str, *, value: int = 1, **facts: str) -> None:
        self.events.append(name)


class Stage:
    """A ledger on a real server, with exporters that are asked for their rounds by hand."""

    def __init__(self, link: SingleLink, *sinks: str) -> None:
        self.link = link
        self.ledger = RedisLedger(link)
        self.ledger.export_to(sinks)
        self.told = Told()
        self.made: dict[str, list[str]] = {}  # by account: operations, in order

    async def open(self, account: str) -> None:
        """An account with a key and a hundred dollars."""
        await self.ledger.open_account(operation=f"open-{account}", account=account, plan=FREE, signup=usd(100))
        made = Key(id=f"{account}-key", account=account)
        await self.ledger.put_key(operation="key", key=made, digest=f"{account}-digest")
        self.made[account] = [f"open-{account}"]

    async def charge(self, account: str, count: int) -> None:
        """So many charges, one after the other, of two items each."""
        for _ in range(count):
            operation = f"{account}-{len(self.made[account])}"
            await self.ledger.settle(bill(operation, DOLLAR // 20, account=account))
            self.made[account].append(operation)

    async def traffic(self, accounts: int, count: int) -> None:
        """So many accounts, at once, with so many charges each."""
        names = [f"account-{number}" for number in range(accounts)]
        await asyncio.gather(*(self.open(name) for name in names if name not in self.made))
        await asyncio.gather(*(self.charge(name, count) for name in names))

    def exporter(self, sink: Sink, **changes: Any) -> Exporter:
        """An exporter to the sink."""
        values: dict[str, Any] = {"walk_accounts": 1000, **changes}
        return Exporter(ledger=self.ledger, sink=sink, observer=self.told, clock=SystemClock(), **values)


def firsts(found: list[tuple[str, str]]) -> dict[str, list[str]]:
    """By account, the operations in the order in which each came for the first time."""
    order: dict[str, dict[str, None]] = {}
    for account, operation in found:
        order.setdefault(account, {})[operation] = None
    return {account: list(operations) for account, operations in order.items()}
