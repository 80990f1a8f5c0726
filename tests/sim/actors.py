"""The actors: calls, jobs, sessions, administrators, and the loops of a gateway, on the real ledger and spool.

Owns: what each does, in the order in which the pipeline does it; what it promises the auditor.
Does not know: what goes wrong meanwhile (world).

A process may die wherever its actors wait. What was promised then is `maybe`; what had been promised before stands.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from gateway.core.admission import Concurrency
from gateway.core.errors import LedgerRefused, LedgerUnavailable, Refused
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.ledger.redis import RedisLedger
from gateway.ledger.spool import Spool
from gateway.pipeline.books import Books
from gateway.pipeline.leases import Leases
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    Clock,
    Observer,
    Plan,
    PlanChanged,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
)  # fmt: skip
from tests.ledger.ledgers import ask, bill
from tests.sim.auditor import Auditor, Promise
from tests.sim.world import Gateway, World

LEASE_SECONDS = 30
JOB_SECONDS_MAX = 600
PLANS = (Plan(tier="free"), Plan(tier="payg"), Plan(tier="payg", rate_card="card"))
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

    async def replay(self, apply: Callable[[dict[str, Any]], Awaitable[None]]) -> tuple[int, int]:
        """In order, until the ledger is away again."""
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
class Upstream:
    """What the service knows of its jobs: when each is over, and what it then costs (None: it failed)."""

    jobs: dict[str, tuple[int, int | None]] = field(default_factory=dict)


class Process:
    """A gateway that lives: its ledger, books, leases, and the loops that go with them."""

    def __init__(
        self, name: str, world: World, auditor: Auditor, upstream: Upstream, disk: Disk, *, loops: bool = True
    ) -> None:
        self.world, self.auditor, self.upstream, self.disk = world, auditor, upstream, disk
        self.gateway = Gateway(name)
        observer, clock = cast("Observer", Silent()), cast("Clock", world)
        self.ledger = RedisLedger(world.link(self.gateway), operation_seconds=400_000_000)
        self.books = Books(
            ledger=self.ledger, spool=cast("Spool", disk), observer=observer, clock=clock, operation_seconds=10**9
        )
        self.leases = Leases(ledger=self.ledger, observer=observer, lease_seconds=LEASE_SECONDS)
        self.plans: dict[str, Plan] = {}
        if loops:
            for life in (self._renew(), self._replay(), self._sweep(), self._reconcile()):
                world.start(self.gateway, life)

    # ---- loops

    async def _renew(self) -> None:
        while True:
            await self.world.sleep(LEASE_SECONDS / 3)
            await self.leases.renew()

    async def _replay(self) -> None:
        while True:
            await self.world.sleep(1.0)
            await self.books.replay()

    async def _sweep(self) -> None:
        while True:
            await self.world.sleep(15.0)
            for account in self.auditor.accounts:
                await _tried(self.ledger.sweep(account))

    async def _reconcile(self) -> None:
        while True:
            await self.world.sleep(5.0)
            claimed = await _tried(self.ledger.claim_jobs(limit=5, lease_seconds=20))
            for followed in claimed or ():
                if not await self._end_job(followed.account, followed.record):
                    ref = followed.record.ref
                    await _tried(self.ledger.look_later(account=followed.account, ref=ref, seconds=10, gone=False))

    async def _end_job(self, account: str, record: Resource) -> bool:
        """Charge a job that is over, or give its hold back; whether it is over."""
        over_ms, cost = self.upstream.jobs[record.ref.id]
        if record.state != "open" or self.world.now_ms < over_ms:
            return record.state != "open"
        if cost is None:
            await self.books.release(account, record.hold, record.ref)
        else:
            await self.books.settle(bill(record.hold, cost, account=account, resource=record.ref))
        return True

    # ---- what customers do

    async def call(self, account: str, hold: str) -> None:
        """A paid call: admitted, forwarded, charged or given back."""
        promise = await self._admitted(account, hold)
        if promise is None:
            return
        dice = self.world.dice
        failed, cost = dice.random() < 0.2, self._cost(promise.amount)
        await self.world.sleep(dice.choice((0.1, 1.0, 20.0, 45.0, 100.0)))
        promise.fate = "maybe"
        if failed:
            await self.books.release(account, hold)
            promise.fate = "free"
        else:
            promise.amount = cost
            await self.books.settle(bill(hold, cost, account=account))
            promise.fate = "owed"
        self.leases.discard(hold)

    async def job(self, account: str, hold: str) -> None:
        """A job: admitted, accepted, and then everybody's. Sometimes its client polls, from here."""
        promise = await self._admitted(account, hold)
        if promise is None:
            return
        dice = self.world.dice
        failed, cost = dice.random() < 0.2, self._cost(promise.amount)
        seconds = dice.choice((0.5, 8.0, 60.0, 300.0))
        await self.world.sleep(0.3)
        ref = ResourceRef(kind="job", id=f"job-{hold}")
        self.upstream.jobs[ref.id] = (self.world.now_ms + round(seconds * 1000), None if failed else cost)
        record = Resource(ref=ref, state="open", product="speech-to-text", hold=hold, key_id=f"{account}-key")
        promise.fate = "maybe"
        await self.books.accept(
            account, record, deadline_seconds=JOB_SECONDS_MAX, keep_seconds=0, look_seconds=dice.choice((0.0, 10.0))
        )
        promise.fate = "free" if failed else "owed"
        promise.amount = cost
        self.leases.discard(hold)
        for _ in range(dice.randrange(3)):
            await self.world.sleep(dice.uniform(0, 2 * seconds))
            found = await _tried(self.ledger.resource(account=account, ref=ref))
            if found is not None:
                await self._end_job(account, found)

    async def session(self, account: str, hold: str) -> None:
        """A session: slices, each charged as the next one is held, corrected at its end."""
        slices, total = [await self._admitted(account, f"{hold}.0")], 0
        while (promise := slices[-1]) is not None and len(slices) < 6:
            await self.world.sleep(self.world.dice.choice((1.0, 10.0, 35.0)))
            name, following = f"{hold}.{len(slices) - 1}", f"{hold}.{len(slices)}"
            cost = min(promise.amount, self._cost(promise.amount))
            promise.amount, promise.fate = cost, "maybe"
            total += cost
            more = self.world.dice.random() < 0.7
            renewed = await self._renewed(account, name, cost, following) if more else None
            if renewed is None:  # nobody can say: charged again by its id, and what was held for the next given back
                await self.books.settle(bill(name, cost, account=account))
                if more:
                    await self.books.release(account, following)
            promise.fate = "owed"
            self.leases.discard(name)
            if renewed is None or renewed.refused is not None:
                break
            slices.append(Promise(account, renewed.hold, fate="free"))
            self.auditor.promises[following] = cast("Promise", slices[-1])
            self.leases.add(following, account)
        else:
            if promise is not None:
                await self.books.release(account, f"{hold}.{len(slices) - 1}")
        if total and self.world.dice.random() < 0.3:
            await self.books.correct(
                operation=f"{hold}:correct", account=account, key_id=f"{account}-key", amount=Nanos(total // 2 + 1),
                data={"call_id": hold},
            )  # fmt: skip

    async def _renewed(self, account: str, name: str, cost: int, following: str) -> Renewed | None:
        settlement = bill(name, cost, account=account)
        for _ in range(4):
            request = self._request(account, following)
            answer = await _tried(self.ledger.renew(Renewal(settlement=settlement, request=request)))
            if isinstance(answer, PlanChanged):
                self.plans[account] = answer.plan
            elif answer is not None:
                return answer
        return None

    async def _admitted(self, account: str, hold: str) -> Promise | None:
        promise = self.auditor.promises[hold] = Promise(account, fate="free")
        for _ in range(3):
            try:
                answer = await self.ledger.admit(self._request(account, hold))
            except LedgerUnavailable:
                return None  # refused with 503; a hold that was taken all the same ends with its lease
            if isinstance(answer, PlanChanged):
                self.plans[account] = answer.plan
                continue
            if isinstance(answer, Refused):
                return None
            assert isinstance(answer, Admitted)
            promise.amount = answer.hold
            self.leases.add(hold, account)
            return promise
        return None

    def _request(self, account: str, hold: str) -> AdmissionRequest:
        # The estimate follows from the id: a repeat of a renewal must ask for the same.
        estimate = Nanos((sum(hold.encode()) * 7919 % 2000 + 1) * NANOS_PER_USD // 1000)
        return ask(
            hold, account=account, estimate=estimate, plan=self.plans.get(account, PLANS[0]), overdraft=ZERO,
            lease_seconds=LEASE_SECONDS, concurrency=Concurrency(name="calls", limit=12),
        )  # fmt: skip

    def _cost(self, held: int) -> int:
        """Mostly within what was held, sometimes above, sometimes nothing."""
        roll = self.world.dice.random()
        if roll < 0.05:
            return 0
        return held + self.world.dice.randrange(1, NANOS_PER_USD) if roll < 0.15 else self.world.dice.randint(0, held)

    # ---- what administrators do

    async def administrate(self, account: str, operation: str) -> None:
        """A change, tried until its outcome is known; one that stops the account is taken back after a while."""
        dice, ledger, key = self.world.dice, self.ledger, f"{account}-key"
        amount = Nanos(dice.randint(1, 2 * NANOS_PER_USD))
        match dice.choice(("grant", "grant", "plan", "status", "key", "budget", "correct")):
            case "grant":
                expires = self.world.now_ms + dice.choice((40, 400)) * 1000 if dice.random() < 0.3 else None
                grant = partial(ledger.grant, kind="purchase", priority=dice.choice((10, 50)), expires_ms=expires)
                if await self._changed(grant, operation, account=account, amount=amount):
                    self.auditor.acknowledged[operation] = account
            case "plan":
                await self._changed(ledger.change_account, operation, account=account, plan=dice.choice(PLANS))
            case "status":
                for status in ("suspended", "active"):
                    await self._changed(ledger.change_account, f"{operation}:{status}", account=account, status=status)
                    await self.world.sleep(5.0)
            case "key":
                for disabled in (True, False):
                    change = partial(ledger.change_key, key_id=key, changes={"disabled": disabled})
                    await self._changed(change, f"{operation}:{disabled}", account=account)
                    await self.world.sleep(5.0)
            case "budget":
                budget = {"monthly_budget": Nanos(100 * amount) if dice.random() < 0.5 else None}
                change = partial(ledger.change_key, key_id=key, changes=budget)
                await self._changed(change, operation, account=account)
            case _:
                moved = Nanos(amount // 10 if dice.random() < 0.5 else -(amount // 100) - 1)
                correct = partial(ledger.correct, key_id=key, amount=moved, data={"reason": "simulated"})
                if await self._changed(correct, operation, account=account):
                    self.auditor.acknowledged[operation] = account

    async def _changed(self, change: Callable[..., Awaitable[object]], operation: str, **facts: object) -> bool:
        """Whether the change was made: tried until that is known."""
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


async def _tried(operation: Awaitable[Answer]) -> Answer | None:
    """Its answer, or None where the ledger is away."""
    try:
        return await operation
    except LedgerUnavailable:
        return None
