"""A gateway that lives: its ledger, books, leases, config and cashier, and what lies outside of all gateways.

Owns: how a process asks to be admitted, what it promises the auditor, the loops that keep its own house.
Does not know: what customers, payers and administrators want; what goes wrong meanwhile (world).

A process may die wherever its actors wait. What was promised then is `maybe`; what had been promised before stands.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from gateway.core.admission import Concurrency
from gateway.core.errors import LedgerRefused, LedgerUnavailable, Refused
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.core.monthly import expires_ms
from gateway.ledger.redis import RedisLedger
from gateway.ledger.spool import About, Spool
from gateway.payments.cashier import Cashier
from gateway.pipeline.books import Books
from gateway.pipeline.leases import Leases
from gateway.ports import AdmissionRequest, Admitted, Clock, Monthly, Observer, PaymentEvent, PlanChanged
from gateway.workers.commitments import Commitments
from tests.ledger.ledgers import ask
from tests.sim.auditor import Auditor, Promise
from tests.sim.configs import CONFIGS, MONTHLY, PAYMENTS, PLANS, PRICES, Config
from tests.sim.world import Gateway, World

LEASE_SECONDS = 30
CALLS = Concurrency(name="calls", limit=12)
Answer = TypeVar("Answer")


class Silent:
    """An observer that is told and says nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_facts: None


class Disk:
    """A spool that outlives its process, in memory: `ledger.spool.Spool` without the files."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, record: dict[str, Any]) -> None:
        """Keep it."""
        self.records.append(record)

    async def replay(
        self, apply: Callable[[dict[str, Any]], Awaitable[None]], _about: Callable[[dict[str, Any]], About]
    ) -> tuple[int, int]:
        """In order, until the ledger is away again: it is one server."""
        done = refused = 0
        while self.records:
            record = self.records[0]
            try:
                await apply(record)
                done += 1
            except LedgerUnavailable:
                break
            except LedgerRefused:
                refused += 1
            if self.records and self.records[0] is record:
                self.records.pop(0)
        return done, refused


@dataclass
class Outside:
    """What is known outside of all gateways.

    `jobs`: when each is over, and what it then costs (None: it failed). `turned_away`: queued jobs that the upstream
    never took. `attempts` of autopay: what became of each; `paid` by them. `untold`: what the bank has to tell and
    nobody has taken.
    """

    jobs: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    turned_away: set[str] = field(default_factory=set)
    attempts: dict[str, str] = field(default_factory=dict)
    paid: set[str] = field(default_factory=set)
    untold: list[PaymentEvent] = field(default_factory=list)


class Process:
    """One gateway."""

    def __init__(self, name: str, world: World, auditor: Auditor, outside: Outside, disk: Disk) -> None:
        self.world, self.auditor, self.outside, self.disk = world, auditor, outside, disk
        self.gateway = Gateway(name)
        self.config: Config = world.dice.choice(CONFIGS)
        observer, clock = cast("Observer", Silent()), cast("Clock", world)
        self.ledger = RedisLedger(world.link(self.gateway), operation_seconds=400_000_000)
        self.books = Books(
            ledger=self.ledger, spool=cast("Spool", disk), observer=observer, clock=clock, operation_seconds=10**9,
            prices=PRICES,
        )  # fmt: skip
        self.leases = Leases(ledger=self.ledger, observer=observer, lease_seconds=LEASE_SECONDS)
        self.cashier = Cashier(ledger=self.ledger, settings=PAYMENTS, observer=observer, clock=clock)
        self._commitments = Commitments(ledger=self.ledger, observer=observer)
        self.plans: dict[str, Any] = {}

    def every(self, seconds: float, turn: Callable[[], Awaitable[object]]) -> None:
        """Do this again and again, for as long as the process lives."""

        async def loop() -> None:
            while True:
                await self.world.sleep(seconds)
                await turn()

        self.world.start(self.gateway, loop())

    def keep_house(self) -> None:
        """The loops that know nothing of what is done: leases, spool, sweeps."""
        self.every(LEASE_SECONDS / 3, self.leases.renew)
        self.every(1.0, self.books.replay)
        self.every(25.0, self._sweep)

    async def _sweep(self) -> None:
        for account in self.auditor.accounts:
            swept = await tried(self.ledger.sweep(account))
            if swept is not None and swept.monthly is not None:
                await tried(self._commitments.visit(account, swept.monthly))
                await tried(self._grant(account, swept.monthly))

    async def _grant(self, account: str, monthly: Monthly) -> None:
        if monthly.granted < monthly.now:
            month, grant = monthly.now, MONTHLY
            expires = expires_ms(grant, self.world.now_ms)
            await self.ledger.grant_monthly(
                account=account, plan=monthly.plan, month=month, grant=grant, expires_ms=expires
            )

    async def admitted(
        self, account: str, hold: str, places: Concurrency = CALLS
    ) -> tuple[Promise, AdmissionRequest, Admitted] | None:
        """Ask until the plan is known. What was asked in the end and what came of it; None if it was refused."""
        promise = self.auditor.promises[hold] = Promise(account, fate="free")
        for _ in range(3):
            request = self.request(account, hold, places)
            # None: refused with 503; a hold that was taken all the same ends with its lease.
            answer = await tried(self.ledger.admit(request))
            if isinstance(answer, PlanChanged):
                self.plans[account] = answer.plan
                continue
            if answer is None or isinstance(answer, Refused):
                return None
            promise.amount = answer.hold
            self.leases.add(hold, account, "")
            return promise, request, answer
        return None

    def request(self, account: str, hold: str, places: Concurrency = CALLS) -> AdmissionRequest:
        """What is asked of the ledger. The estimate follows from the id: a repeat must ask for the same."""
        estimate = Nanos((sum(hold.encode()) * 7919 % 2000 + 1) * NANOS_PER_USD // 1000)
        return ask(
            hold, account=account, estimate=estimate, plan=self.plans.get(account, PLANS[0]), overdraft=ZERO,
            lease_seconds=LEASE_SECONDS, concurrency=places, price_version=self.config.version,
        )  # fmt: skip

    def cost(self, held: int) -> int:
        """Mostly within what was held, sometimes above, sometimes nothing."""
        roll = self.world.dice.random()
        if roll < 0.05:
            return 0
        return held + self.world.dice.randrange(1, NANOS_PER_USD) if roll < 0.15 else self.world.dice.randint(0, held)

    async def changed(self, change: Callable[..., Awaitable[object]], operation: str, **facts: object) -> bool:
        """Whether a change was made: tried until that is known."""
        for _ in range(50):
            try:
                await change(operation=operation, **facts)
            except LedgerUnavailable:
                await self.world.sleep(1.0)
            except LedgerRefused:
                return False
            else:
                return True
        return False


def poor(account: str) -> bool:
    """Some accounts never have much, and live by what autopay brings."""
    return sum(account.encode()) % 2 == 1


def some(process: Process, account: str) -> Nanos:
    """An amount of money."""
    return Nanos(process.world.dice.randint(1, NANOS_PER_USD // 8 if poor(account) else 3 * NANOS_PER_USD))


async def tried(operation: Awaitable[Answer]) -> Answer | None:
    """Its answer, or None where the ledger is away."""
    try:
        return await operation
    except LedgerUnavailable:
        return None
