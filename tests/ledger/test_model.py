"""A machine that tries to steal a credit, and fails.

It does the same random operations, replays of old ones, and old ids with other content to the specification
(MemoryLedger) and to the ledger under test, and compares every answer and, after every step, everything there is to
read. RedisLedger works on a real server over a line that loses replies at random, so that its link repeats scripts
that were done already.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.core.admission import KEY_RATE, Concurrency, Rate, Scaling
from gateway.core.errors import LedgerRefused, Refused
from gateway.core.money import BALANCE_MAX, Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.months import begins_ms, following, month_of
from gateway.ledger.link import LinkSettings
from gateway.ledger.rebuilding import Rebuilt
from gateway.ledger.single import SingleLink
from gateway.ports import (
    Admitted,
    Entry,
    Grant,
    GrantKind,
    Key,
    NamedCall,
    Naming,
    PaymentBegun,
    Plan,
    Receipt,
    Renewal,
    Renewed,
    Resource,
    ResourceRef,
    UsageDay,
    Watch,
)
from tests.fakes.link import CuttingRelay
from tests.ledger.ledgers import FREE, MemoryWorld, RedisWorld, World, ask, bill

STEPS_MIN = 2000
MODEL = settings(
    max_examples=90,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

#: What must have happened in a run for it to mean anything; in a short one, all but a few.
RARE_MAX = 4
HAPPENED = (
    "admit Admitted", "admit OperationConflict", "admit PlanChanged", "admit insufficient_credit",
    "admit key_budget_exceeded", "admit rate_limited", "admit too_many_concurrent", "admit not_found",
    "admit not_entitled",
    "settle in time", "settle late", "settle OperationConflict", "release True", "release False",
    "renew in time", "renew late", "renew insufficient_credit", "renew key_budget_exceeded",
    "renew too_many_concurrent", "renew PlanChanged", "renew OperationConflict",
    "correct in time", "correct OperationConflict", "correct LedgerRefused", "use_once True", "use_once False",
    "name_call taken", "name_call running", "name_call done", "name_call other", "name_call full",
    "name_call OperationConflict", "keep_answer True", "keep_answer False",
    "post True", "post False", "revive True", "revive False",
    "accept NoneType", "accept OperationConflict", "grant Grant", "grant OperationConflict", "grant LedgerRefused",
    "credit_payment Grant", "credit_payment OperationConflict", "credit_payment LedgerRefused", "reverse_payment int",
    "set_autopay Autopay", "set_autopay LedgerRefused", "begin_payment begun",
    "begin_payment in_flight", "begin_payment off", "begin_payment disabled", "begin_payment enough",
    "begin_payment backing_off", "begin_payment capped", "grant_monthly True", "grant_monthly False",
    "grant_monthly LedgerRefused", "commit Commitment", "commit LedgerRefused", "commit OperationConflict",
    "close_month True", "close_month False", "refund in time", "refund LedgerRefused", "refund OperationConflict",
    "end_grant in time", "end_grant LedgerRefused",
    "take_volume dict", "take_volume OperationConflict",
)  # fmt: skip

PAID = Plan(tier="payg", rate_card="startup")
ACCOUNTS = ("acme", "rival")
CLEARED = {"overdraft": None, "x.requests": None}
REFS = tuple(ResourceRef(kind="transcript", id=f"t{n}") for n in range(4))
RATES = (
    Rate(name="minute", quota=6, window_seconds=60),
    Rate(name="burst", quota=3, window_seconds=1, scaling=Scaling(grow_percent=50, quota_max=7)),
    Rate(name=KEY_RATE, quota=4, window_seconds=20),
)
ON: dict[str, Any] = {"enabled": True, "threshold": 5_000_000, "target": 50_000_000, "provider": "stripe"}
AUTOPAYS = (
    ON, ON, ON | {"monthly_cap": None}, ON | {"monthly_cap": 9_000_000}, ON | {"threshold": 1}, ON | {"target": 7},
    {"enabled": False}, {"enabled": True}, {"method": "pm_1"}, {"provider": ""},
)  # fmt: skip
WATCHED = (
    *(("balance_below", 1500), ("balance_below", 300), ("balance_below_percent", 50)),
    *(("grant_nearly_spent", 60), ("grant_expiring", 30)),
    *(("spent_day", 500), ("spent_month", 700), ("key_budget", 80)),
)
CLASSES = (None, Concurrency(name="jobs", limit=1), Concurrency(name="streams", limit=3))

accounts = st.sampled_from(ACCOUNTS)
keys = st.sampled_from(["one", "two"])
holds = st.sampled_from([f"call-{n}" for n in range(30)])
some_hold = holds | st.integers(0, 20) | st.integers(0, 20) | st.integers(-20, -1)  # numbers: see Machine.hold
operations = st.sampled_from([f"op-{n}" for n in range(40)])
amounts = st.sampled_from([0, 1, 7, 100, 333, 1000, 4000]).map(Nanos)
refs = st.sampled_from(REFS)
months = st.sampled_from([0, 0, 0, 1, -1])


class Machine(RuleBasedStateMachine):
    """One run: two ledgers, one list of what was done to both."""

    def __init__(self, runner: asyncio.Runner, subject: World, relay: CuttingRelay | None, tally: Counter[str]) -> None:
        super().__init__()
        self.runner = runner
        self.model = MemoryWorld()
        self.subject = subject
        self.relay = relay
        self.tally = tally
        self.done: list[tuple[str, dict[str, Any]]] = []
        subject.now = self.model.now

    # ---- doing

    def do(self, name: str, lose: int = 0, idle: float = 0, /, **arguments: Any) -> Any:
        """Do one operation to both, after a while in which nothing looked at them; their answers must be equal."""
        if idle:
            self.wait(idle)
        if not name.startswith("claim"):  # what is due stands in an index that only a sweep is sure to make good
            self.done.append((name, arguments))
        answer = self.runner.run(outcome(self.model, name, arguments))
        self.tally[describe(name, answer)] += 1
        # What is claimed or given up by a repeat is not answered again: such a reply is not lost here.
        self.lose_replies(0 if name in {"claim_jobs", "give_up", "claim_deliveries"} else lose)
        assert self.runner.run(outcome(self.subject, name, arguments)) == answer
        self.lose_replies(0)
        return answer

    def lose_replies(self, count: int) -> None:
        """Lose the next replies; 0 ends that, and counts those that were lost."""
        if self.relay is not None:
            if count == 0:
                self.tally["lost"] += self.asked - self.relay.replies_to_drop
            self.asked = count
            self.relay.drop_replies(count)

    def wait(self, seconds: float) -> None:
        for world in (self.model, self.subject):
            self.runner.run(world.advance(seconds))

    def hold(self, account: str, pick: str | int) -> str:
        """The hold picked: by its id, from the open ones by a number, from all there ever were by a negative one."""
        if isinstance(pick, str):
            return pick
        open_holds = self.runner.run(outcome(self.model, "holds", {"account": account}))
        admissions = [arguments["request"] for name, arguments in self.done if name == "admit"]
        renewals = [arguments["renewal"].request for name, arguments in self.done if name == "renew"]
        asked = [request.hold_id for request in (*admissions, *renewals) if request.account == account]
        ids = [hold.id for hold in open_holds] if pick >= 0 else asked
        return ids[pick % len(ids)] if ids else "call-0"

    asked = 0
    lost = st.sampled_from([0, 0, 0, 1, 1, 2])
    idle = st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 61.0])

    @initialize(watched=st.lists(st.sampled_from(WATCHED), max_size=4))
    def begin(self, watched: list[tuple[Any, int]]) -> None:
        """Two tenants with two keys each, one of them with a budget and a list of products; both are watched."""
        for account in ACCOUNTS:
            self.do("open_account", operation="open", account=account, plan=FREE, signup=Nanos(2000))
            for key_id, budget, products in (("one", None, None), ("two", Nanos(400), ("speech-to-text", "x"))):
                key = Key(id=key_id, account=account, monthly_budget=budget, products=products)
                self.do("put_key", operation=f"key-{key_id}", key=key, digest=f"{account}-{key_id}")
            for name, (kind, amount) in zip("wxyz", watched, strict=False):
                self.do("put_watch", account=account, watch=Watch(id=name, kind=kind, amount=amount, channel="alert"))

    # ---- the path of a call

    @rule(
        account=accounts,
        key_id=keys,
        hold_id=holds,
        estimate=amounts,
        plan=st.sampled_from([FREE] * 9 + [PAID]),
        metered=st.sampled_from([True, True, True, False]),
        covers_estimate=st.sampled_from([False, False, True]),
        overdraft=st.sampled_from([Nanos(0), Nanos(0), Nanos(50)]),
        rates=st.sampled_from([(), (), RATES]),
        concurrency=st.sampled_from(CLASSES),
        resources=st.sampled_from([(), (), (), (), (), REFS[:1], REFS[1:3]]),
        add_ons=st.sampled_from([(), (), ("x",), ("y", "x")]),
        lease_seconds=st.sampled_from([2, 60, 3600, 3600]),
        lose=lost,
        idle=idle,
    )
    def admit(self, hold_id: str, lose: int, idle: float, **changes: Any) -> None:
        """Ask for a call."""
        request = ask(hold_id, **changes)
        answer = self.do("admit", lose, idle, request=request)
        if (
            isinstance(answer, Admitted)
            and request.terms.metered
            and ("admit", {"request": request}) not in self.done[:-1]
        ):
            assert answer.available >= 0, "more is held than there is"

    @rule(
        account=accounts,
        key_id=keys,
        count=st.integers(2, 12),
        estimate=amounts,
        concurrency=st.sampled_from(CLASSES),
        turn=st.integers(0, 3),
        lose=lost,
    )
    def admit_at_once(self, count: int, turn: int, lose: int, **changes: Any) -> None:
        """Ask for many calls in the same instant: as if they had come one after the other."""
        requests = [ask(f"at-once-{turn}-{n}", rates=RATES, **changes) for n in range(count)]
        every = [{"request": request} for request in requests]
        wanted = [self.runner.run(outcome(self.model, "admit", arguments)) for arguments in every]
        self.lose_replies(lose)
        assert self.runner.run(outcomes(self.subject, "admit", every)) == wanted
        self.lose_replies(0)
        self.done += [("admit", arguments) for arguments in every]
        self.tally.update(describe("admit", answer) for answer in wanted)

    @rule(
        account=accounts,
        pick=some_hold,
        key_id=keys,
        amount=amounts,
        ref=st.none() | refs,
        lose=lost,
        idle=idle,
    )
    def settle(
        self, account: str, pick: str | int, key_id: str, amount: Nanos, ref: ResourceRef | None, lose: int, idle: float
    ) -> None:
        """Charge a hold: open, ended, or never seen."""
        usage = {"seconds": amount / 8}
        settlement = bill(
            self.hold(account, pick), amount, account=account, key_id=key_id, resource=ref, resource_usage=usage
        )
        self.do("settle", lose, idle, settlement=settlement)

    @rule(account=accounts, pick=some_hold, ref=st.none() | refs, lose=lost)
    def release(self, account: str, pick: str | int, ref: ResourceRef | None, lose: int) -> None:
        """Give a hold back."""
        self.do("release", lose, account=account, hold_id=self.hold(account, pick), resource=ref)

    @rule(
        account=accounts,
        pick=st.integers(0, 20),
        ends=st.lists(st.sampled_from(["settle", "release", "expire", "admit"]), min_size=2, max_size=3),
        amount=amounts,
        ref=refs,
        lose=lost,
    )
    def end_more_than_once(
        self, account: str, pick: int, ends: list[str], amount: Nanos, ref: ResourceRef, lose: int
    ) -> None:
        """An open hold, often a job's, is ended in two or three ways, or taken anew between."""
        hold_id = self.hold(account, pick)
        resource = Resource(ref=ref, state="open", product="speech-to-text", hold=hold_id)
        self.do("accept", account=account, resource=resource, deadline_seconds=50, keep_seconds=0)
        for end in ends:
            if end == "settle":
                self.do("settle", lose, settlement=bill(hold_id, amount, account=account, key_id="one", resource=ref))
            elif end == "release":
                self.do("release", lose, account=account, hold_id=hold_id, resource=ref)
            elif end == "expire":
                self.wait(51)
            else:
                self.do("admit", lose, request=ask(hold_id, account=account, key_id="one"))

    @rule(account=accounts, picks=st.lists(some_hold, max_size=6), lease=st.sampled_from([1, 90]), lose=lost)
    def extend(self, account: str, picks: list[str | int], lease: int, lose: int) -> None:
        """Extend leases."""
        hold_ids = [self.hold(account, pick) for pick in picks]
        self.do("extend", lose, account=account, hold_ids=hold_ids, lease_seconds=lease)

    @rule(
        account=accounts,
        pick=some_hold,
        next_pick=holds | st.integers(0, 3),
        key_id=keys,
        amount=amounts,
        estimate=amounts,
        plan=st.sampled_from([FREE] * 4 + [PAID]),
        covers_estimate=st.sampled_from([False, False, True]),
        concurrency=st.sampled_from([*CLASSES, Concurrency(name="jobs", limit=0)]),
        lease_seconds=st.sampled_from([2, 60, 3600]),
        lose=lost,
        idle=idle,
    )
    def renew(
        self, account: str, pick: str | int, next_pick: str | int, amount: Nanos, lose: int, idle: float, **next_: Any
    ) -> None:
        """Charge a slice and hold the next: mostly of an open hold, for an id of its own."""
        used = self.hold(account, pick)
        hold_id = next_pick if isinstance(next_pick, str) else f"{used}.{next_pick}"
        if hold_id != used:
            settlement = bill(used, amount, account=account, key_id=next_["key_id"])
            renewal = Renewal(settlement=settlement, request=ask(hold_id, account=account, **next_))
            self.do("renew", lose, idle, renewal=renewal)

    @rule(
        account=accounts,
        key_id=keys,
        number=st.integers(0, 5),
        slices=st.lists(st.sampled_from([1, 7, 100, 333]).map(Nanos), min_size=1, max_size=4),
        concurrency=st.sampled_from(CLASSES),
        lose=lost,
        idle=idle,
    )
    def run_a_session(
        self,
        account: str,
        key_id: str,
        number: int,
        slices: list[Nanos],
        concurrency: Concurrency | None,
        lose: int,
        idle: float,
    ) -> None:
        """A session of some slices, each renewal asked for twice."""
        terms: dict[str, Any] = {"account": account, "key_id": key_id}
        wanted: dict[str, Any] = {**terms, "estimate": Nanos(100), "concurrency": concurrency}
        used = f"session-{number}"
        self.do("admit", lose, request=ask(used, **wanted))
        for amount in slices:
            request = ask(f"{used}.1", **wanted)
            renewal = Renewal(settlement=bill(used, amount, **terms), request=request)
            self.do("renew", lose, idle, renewal=renewal)
            self.do("renew", renewal=renewal)
            used = request.hold_id

    @rule(account=accounts, name=st.sampled_from("abc"), by=some_hold, lose=lost)
    def use_once(self, account: str, name: str, by: str | int, lose: int) -> None:
        """Use what may be used by one only."""
        self.do("use_once", lose, account=account, name=name, by=self.hold(account, by), seconds=40)

    @rule(
        account=accounts,
        asked=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xxy"), some_hold), min_size=2, max_size=5),
        then=st.lists(st.sampled_from(["admit", "settle", "release", "keep", "free"]), max_size=4),
        answer=st.sampled_from([b"\xff" * 60, b"\xff" * 40, b"yes"]),
        lose=lost,
        idle=idle,
    )
    def name_calls(
        self, account: str, asked: list[tuple[str, str, str | int]], then: list[str], answer: bytes, lose: int,
        idle: float,
    ) -> None:  # fmt: skip
        """Clients' names for some calls, and after each of them a part of what may follow."""
        for number, (name, content, pick) in enumerate(asked):
            hold_id = self.hold(account, pick)
            its: dict[str, Any] = {"account": account, "name": name, "hold_id": hold_id}
            named = NamedCall(**its, content=content, lease_seconds=3, keep_seconds=5000, names_max=2)
            self.do("name_call", lose, idle, named=named)
            for end in then[number:]:
                if end == "keep":
                    self.do("keep_answer", lose, **its, answer=answer, bytes_max=100)
                elif end == "free":
                    self.do("free_name", lose, **its)
                elif end == "admit":
                    self.do("admit", lose, request=ask(hold_id, account=account, key_id="one"))
                elif end == "settle":
                    self.do("settle", lose, settlement=bill(hold_id, 100, account=account, key_id="one"))
                else:
                    self.do("release", lose, account=account, hold_id=hold_id)

    @rule(account=accounts, ref=refs, pick=some_hold | st.just(""), keep=st.sampled_from([0, 50]), lose=lost)
    def accept(self, account: str, ref: ResourceRef, pick: str | int, keep: int, lose: int) -> None:
        """Record a job, or an upload."""
        hold_id = self.hold(account, pick)
        resource = Resource(
            ref=ref, state="open" if hold_id else "kept", product="speech-to-text", hold=hold_id, facts={"channels": 2}
        )
        self.do("accept", lose, account=account, resource=resource, deadline_seconds=120, keep_seconds=keep)

    @rule()
    def claim(self) -> None:
        """Take what is to be looked at, and what is to be delivered. A sweep first: a script whose reply was lost could
        not tell the index of accounts what it posted."""
        for account in ACCOUNTS:
            self.do("sweep", account=account)
        self.do("claim_jobs", limit=1000, lease_seconds=30)
        self.do("claim_deliveries", limit=1000, lease_seconds=30)

    @rule(
        account=accounts, ref=refs, seconds=st.sampled_from([0.0, 0.5, 40.0]), gone=st.booleans() | st.none(), lose=lost
    )
    def look_later(self, account: str, ref: ResourceRef, seconds: float, gone: bool | None, lose: int) -> None:
        """A job was looked at, and is not over."""
        self.do("look_later", lose, account=account, ref=ref, seconds=seconds, gone=gone)

    @rule(account=accounts, ref=refs, pick=some_hold)
    def give_up(self, account: str, ref: ResourceRef, pick: str | int) -> None:
        """A job is not followed any more."""
        self.do("give_up", account=account, ref=ref, hold_id=self.hold(account, pick))

    @rule(
        account=accounts,
        name=st.sampled_from("abc"),
        seconds=st.sampled_from([0.0, 40.0]),
        ends=st.sampled_from(
            [
                *((), ("put_off", "delivered"), ("bury", "revive"), ("bury", "bury", "revive", "delivered")),
                *(("delivered", "revive"), ("revive", "put_off", "bury"), ("drop_watch",)),
            ]
        ),
        lose=lost,
    )
    def tell_somebody(self, account: str, name: str, seconds: float, ends: Sequence[str], lose: int) -> None:
        """Post a delivery, and what becomes of it, in any order."""
        more: dict[str, dict[str, Any]] = {"put_off": {"seconds": 5, "why": "busy"}, "bury": {"why": "gone"}}
        self.do("post", lose, account=account, delivery_id=name, channel="alert", payload={"n": 1}, seconds=seconds)
        for end in ends:
            which = {"watch_id": "w"} if end == "drop_watch" else {"delivery_id": name}
            self.do(end, lose, account=account, **which, **more.get(end, {}))

    @rule(account=accounts, ref=refs, lose=lost)
    def forget(self, account: str, ref: ResourceRef, lose: int) -> None:
        """Delete a resource."""
        self.do("forget", lose, account=account, ref=ref)

    @rule(seconds=st.sampled_from([0.5, 1.0, 1.0, 1.5, 30.0, 61.0, 3600.0, 20 * 86_400.0]))
    def let_time_pass(self, seconds: float) -> None:
        """Let leases, grants, windows and months go by."""
        self.wait(seconds)

    @rule(account=accounts, lose=lost, idle=st.sampled_from([2.0, 61.0, 3600.0]))
    def sweep(self, account: str, lose: int, idle: float) -> None:
        """End what is over."""
        self.do("sweep", lose, idle, account=account)

    # ---- administration

    @rule(
        account=accounts,
        operation=operations,
        amount=st.sampled_from([0, 1, 100, 1000, 4000, 20_000]).map(Nanos),
        priority=st.sampled_from([10, 50]),
        life=st.sampled_from([None, 20_000, 90_000, 40 * 86_400_000]),
        ends=st.sampled_from([*[0] * 9, 1, 2, 3]),
        lose=lost,
    )
    def grant(
        self, account: str, operation: str, amount: Nanos, priority: int, life: int | None, ends: int, lose: int
    ) -> None:
        """Give credit, and sometimes end a grant, which may be spent, or never was."""
        if ends:
            its: dict[str, Any] = {"grant_id": f"g{ends:08}", "data": {"reason": "r"}}
            self.do("end_grant", lose, operation=f"{operation}-end", account=account, **its)
        self.do(
            "grant", lose, operation=operation, account=account, kind="promotion", amount=amount, priority=priority,
            expires_ms=self.model.now + life if life else None,
        )  # fmt: skip

    @rule(
        account=accounts,
        operation=operations,
        plan=st.sampled_from([None, FREE, FREE, FREE, PAID]),
        status=st.sampled_from([None, *["active"] * 6, "suspended"]),
        overrides=st.sampled_from([*[CLEARED] * 6, {"overdraft": "1"}, {"x.requests": "1/2", "overdraft": None}]),
        lose=lost,
    )
    def change_account(
        self, account: str, operation: str, plan: Plan | None, status: Any, overrides: Any, lose: int
    ) -> None:
        """Change tier, status or overrides."""
        its = {"account": account, "plan": plan, "status": status, "overrides": overrides}
        self.do("change_account", lose, operation=operation, **its)

    @rule(
        account=accounts,
        operation=operations,
        key_id=keys,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "disabled": st.sampled_from([False, False, False, True]),
                "monthly_budget": st.sampled_from([None, Nanos(0), Nanos(400), Nanos(9000)]),
                "products": st.sampled_from([None, None, (), ("speech-to-text", "x")]),
            },
        ),
        lose=lost,
    )
    def change_key(self, account: str, operation: str, key_id: str, changes: dict[str, Any], lose: int) -> None:
        """Change a key."""
        self.do("change_key", lose, operation=operation, account=account, key_id=key_id, changes=changes)

    @rule(
        account=accounts,
        operation=operations,
        key_id=keys,
        amount=st.sampled_from([-4000, -333, -1, 0, 1, 333, 4000, BALANCE_MAX]).map(Nanos),
        lose=lost,
    )
    def correct(self, account: str, operation: str, key_id: str, amount: Nanos, lose: int) -> None:
        """Give back, or charge more; with one of the keys, of what a call was charged."""
        call_id = f"call-{abs(amount) % 30}"
        arguments = {"key_id": key_id, "amount": amount, "data": {"reason": "reported", "call_id": call_id}}
        arguments |= {"of_call": call_id} if key_id == "two" else {}
        self.do("correct", lose, operation=operation, account=account, **arguments)

    # ---- payments

    @rule(
        account=accounts,
        payment=st.sampled_from(["pi_1", "pi_2", "pi_3"]),
        amount=st.sampled_from([0, 1, 333, 4000, BALANCE_MAX]).map(Nanos),
        attempt=st.sampled_from(["", "a1", "a2"]),
        upgrades=st.sampled_from([{}, {}, {"free": "payg"}, {"payg": "free"}]),
        told=st.lists(
            st.tuples(st.sampled_from(["refund", "dp_1"]), amounts, st.booleans(), st.booleans()), max_size=3
        ),
        lose=lost,
    )
    def pay(
        self, account: str, payment: str, amount: Nanos, attempt: str, upgrades: dict[str, str],
        told: list[tuple[str, Nanos, bool, bool]], lose: int,
    ) -> None:  # fmt: skip
        """A payment is told, between what takes it back: in no order."""
        its: dict[str, Any] = {"account": account, "provider": "stripe", "payment": payment}
        for number, (source, taken, final, stop) in enumerate(told):
            if number == 1:
                self.do("credit_payment", lose, **its, amount=amount, attempt=attempt, upgrades=upgrades)
            its_take: dict[str, Any] = {
                "source": source,
                "amount": taken,
                "final": final,
                "why": "refund",
                "stop": stop,
            }
            self.do("reverse_payment", lose, **its, **its_take)
        self.do("credit_payment", lose, **its, amount=amount, attempt=attempt, upgrades=upgrades)

    @rule(
        account=accounts,
        operation=operations,
        changes=st.sampled_from(AUTOPAYS),
        attempts=st.lists(st.sampled_from(["a1", "a2"]), min_size=2, max_size=5),
        failures_max=st.sampled_from([0, 1, 2]),
        lose=lost,
        idle=st.sampled_from([0.0, 61.0]),
    )
    def autopay(
        self, account: str, operation: str, changes: dict[str, Any], attempts: list[str], failures_max: int,
        lose: int, idle: float,
    ) -> None:  # fmt: skip
        """Autopay is set, and attempts begin, all of which fail if `failures_max` is not 0."""
        self.do("set_autopay", lose, operation=operation, account=account, changes=changes)
        for attempt in attempts:
            bounds = {"amount_min": Nanos(10_000_000), "amount_max": Nanos(40_000_000)}
            self.do("begin_payment", lose, idle, account=account, attempt=attempt, **bounds)
            if failures_max:
                its: dict[str, Any] = {"account": account, "attempt": attempt, "why": "declined"}
                self.do("fail_payment", lose, **its, retry_seconds=9, failures_max=failures_max)

    @rule(
        account=accounts,
        key_id=keys,
        operation=operations,
        amounts=st.lists(st.sampled_from([7, 100, 333, 1000]).map(Nanos), min_size=1, max_size=3),
        by_hand=st.booleans(),
        ends=st.lists(
            st.sampled_from(["settle", "release", "renew", "admit", "grant", "sweep"]), min_size=1, max_size=6
        ),
        charged=amounts,
        lose=lost,
    )
    def outlive_grants(
        self, account: str, key_id: str, operation: str, amounts: list[Nanos], by_hand: bool, ends: list[str],
        charged: Nanos, lose: int,
    ) -> None:  # fmt: skip
        """Grants end one after the other, by their time or by hand, while there are holds, which end then."""
        its: dict[str, Any] = {"account": account, "key_id": key_id}
        for number, amount in enumerate(amounts):
            given = {"kind": "promotion", "amount": amount, "priority": 10 * number}
            life = self.model.now + 2_000 * (number + 1)
            self.do("grant", lose, operation=f"{operation}-{number}", account=account, **given, expires_ms=life)
            self.do("admit", lose, request=ask(f"old-{number}", **its, estimate=amount, lease_seconds=3600))
        if by_hand:
            grants = self.runner.run(outcome(self.model, "account", {"account": account})).grants
            for grant in grants[:2]:
                what: dict[str, Any] = {"account": account, "grant_id": grant.id, "data": {"reason": "r"}}
                self.do("end_grant", lose, operation=f"{operation}-{grant.id}", **what)
        self.wait(3.0)
        for number, end in enumerate(ends):
            used = self.hold(account, number)
            following_ = ask(f"{used}.{number}", **its, estimate=Nanos(333), lease_seconds=60)
            if end == "settle":
                self.do("settle", lose, 2.0, settlement=bill(used, charged, **its))
            elif end == "release":
                self.do("release", lose, account=account, hold_id=used)
            elif end == "renew":
                self.do("renew", lose, renewal=Renewal(settlement=bill(used, charged, **its), request=following_))
            elif end == "admit":
                self.do("admit", lose, request=following_)
            elif end == "grant":
                self.do("grant", lose, operation=f"{operation}-{end}", account=account, kind="goodwill", amount=charged)
            else:
                self.do("sweep", lose, account=account)
            self.tally["kept"] += bool(self.kept(account))

    def kept(self, account: str) -> int:
        """What is kept of grants that are over, as the specification has it."""
        standing = self.runner.run(outcome(self.model, "account", {"account": account}))
        over = [grant.remaining for grant in standing.grants if (grant.expires_ms or sys.maxsize) <= self.model.now]
        assert sum(over) <= standing.held, "more is kept than holds rest on"
        return sum(over)

    # ---- what is done by calendar month

    @rule(account=accounts, amount=amounts, plan=st.sampled_from([FREE, FREE, FREE, PAID]), ahead=months, lose=lost)
    def grant_monthly(self, account: str, amount: Nanos, plan: Plan, ahead: int, lose: int) -> None:
        """The grant of this month, or of another."""
        month = self.month(ahead)
        its: dict[str, Any] = {"account": account, "plan": plan, "month": month, "grant": MonthlyGrant(amount=amount)}
        self.do("grant_monthly", lose, **its, expires_ms=begins_ms(following(month)))

    @rule(
        account=accounts,
        operation=operations,
        amount=amounts,
        ahead=months,
        charged=amounts,
        passes=st.sampled_from([0] * 9 + [20]),
        lose=lost,
    )
    def commit(
        self, account: str, operation: str, amount: Nanos, ahead: int, charged: Nanos, passes: int, lose: int
    ) -> None:
        """Commit to an amount, and close the first month that is not closed: it may be over, or days pass before."""
        self.do("commit", lose, operation=operation, account=account, month=self.month(ahead), amount=amount)
        commitment = self.runner.run(outcome(self.model, "commitment", {"account": account}))
        if passes:
            self.wait(passes * 86_400)
        if commitment.closing:
            self.do("close_month", lose, account=account, commitment=commitment, charged=charged)
            self.do("close_month", lose, account=account, commitment=commitment, charged=charged)

    def month(self, ahead: int) -> str:
        """The model's month, or another."""
        month = month_of(self.model.now + ahead * 31 * 86_400_000)
        return month if ahead else month_of(self.model.now)

    # ---- charges that are given back, and volumes

    @rule(
        account=accounts,
        operation=operations,
        which=st.integers(0, 20),
        amount=st.sampled_from([None, None, 1, 7, 333]),
        lose=lost,
    )
    def refund(self, account: str, operation: str, which: int, amount: Any, lose: int) -> None:
        """Give a charge back, or a part of it: more than there is left of it, too. Each ledger has its own id of it."""
        both = [self.runner.run(charges_of(world, account)) for world in (self.model, self.subject)]
        if not both[0]:
            return
        its: dict[str, Any] = {"account": account, "operation": operation, "amount": amount, "data": {"reason": "r"}}
        model, subject = (ids[which % len(ids)] for ids in both)
        answer = self.runner.run(outcome(self.model, "refund", {**its, "entry_id": model}))
        self.tally[describe("refund", answer)] += 1
        self.lose_replies(lose)
        assert self.runner.run(outcome(self.subject, "refund", {**its, "entry_id": subject})) == answer
        self.lose_replies(0)

    @rule(
        account=accounts,
        pick=some_hold,
        volumes=st.dictionaries(st.sampled_from(["sku-0", "sku-1"]), st.sampled_from([1, 10**6, 10**16]), min_size=1),
        amount=amounts,
        charged=st.booleans(),
        lose=lost,
    )
    def take_volume(
        self, account: str, pick: str | int, volumes: dict[str, int], amount: Nanos, charged: bool, lose: int
    ) -> None:
        """Take volume for a hold: open, ended, or never seen; and perhaps charge it."""
        hold_id = self.hold(account, pick)
        taken = self.do("take_volume", lose, account=account, hold_id=hold_id, volumes=volumes)
        if charged:
            its = volumes if isinstance(taken, dict) else None
            self.do("settle", lose, settlement=bill(hold_id, amount, account=account, key_id="one", volumes=its))

    # ---- trying again what was done before

    @rule(which=st.integers(0, 10_000), lose=lost)
    def replay(self, which: int, lose: int) -> None:
        """Any operation of the past once more, as it was."""
        name, arguments = self.done[which % len(self.done)]
        self.do(name, lose, **arguments)

    @rule(which=st.integers(0, 10_000), amount=amounts, lose=lost)
    def replay_with_other_content(self, which: int, amount: Nanos, lose: int) -> None:
        """The id of an operation of the past with another amount."""
        name, arguments = self.done[which % len(self.done)]
        if name == "admit":
            arguments = {"request": replace(arguments["request"], estimate=amount)}
        elif name == "settle":
            arguments = {"settlement": replace(arguments["settlement"], charge=bill("x", amount).charge)}
        elif name == "renew":
            renewal = arguments["renewal"]
            arguments = {"renewal": replace(renewal, request=replace(renewal.request, estimate=amount))}
        elif name in {"grant", "correct", "credit_payment"}:
            arguments = arguments | {"amount": amount}
        elif name == "open_account":
            arguments = arguments | {"signup": amount}
        elif name == "put_watch":
            arguments = arguments | {"watch": replace(arguments["watch"], amount=amount)}
        self.do(name, lose, **arguments)

    # ---- what always holds

    @invariant()
    def looks(self) -> None:
        """Most differences stay, so that a look at every fourth step, and at the last, finds them."""
        self.tally["steps"] += 1
        if self.tally["steps"] % 4 == 0:
            self.everything_agrees_and_adds_up()

    def teardown(self) -> None:
        self.everything_agrees_and_adds_up()

    def everything_agrees_and_adds_up(self) -> None:
        """All there is to read is equal, and the invariants 1 to 4 and 7 of the credit semantics hold."""
        wanted, found = (self.runner.run(everything(world)) for world in (self.model, self.subject))
        assert found == wanted
        for facts in found.values():
            account, entries, open_holds = facts["account"], facts["entries"], facts["holds"]
            assert account.balance == sum(entry.amount for entry in entries)  # 1
            assert account.balance == sum(grant.remaining for grant in account.grants) - account.debt
            assert account.held == sum(hold.amount for hold in open_holds)
            assert not (account.debt and account.grants)
            charged = [entry.operation for entry in entries if entry.kind == "charge"]
            assert len(charged) == len(set(charged))  # 2
            assert not set(charged) & {hold.id for hold in open_holds}
            given = [entry.operation for entry in entries if entry.kind in {"grant", "correction", "commitment"}]
            assert len(given) == len(set(given))  # 3
            assert account.held == 0 or min(hold.amount for hold in open_holds) >= 0  # 4: with admit's `available`
            assert facts["drift"] == []
            assert replayed(entries) == (account.debt, sorted(account.grants, key=attrgetter("id")), facts["usage"])
        for ref in REFS:  # 7: of its own account only, with its own facts
            for account_id, facts in found.items():
                assert facts["owned"][ref] == (ref in {r.ref for r in facts["resources"]}), account_id


def describe(name: str, answer: Any) -> str:
    """The kind of an answer, in a word or two."""
    if isinstance(answer, type):
        return f"{name} {answer.__name__}"
    if isinstance(answer, Refused):
        return f"{name} {answer.code}"
    if isinstance(answer, Renewed):
        return f"{name} {answer.refused.code}" if answer.refused else describe(name, answer.receipt)
    if isinstance(answer, PaymentBegun):
        return f"{name} {answer.verdict}"
    if isinstance(answer, Naming):
        return f"{name} {answer.state}"
    if isinstance(answer, Receipt):
        return f"{name} {'late' if answer.late else 'in time'}"
    return f"{name} {answer if isinstance(answer, bool) else type(answer).__name__}"


async def outcome(world: World, name: str, arguments: dict[str, Any]) -> Any:
    """The answer, or the kind of error; what differs between stores by right (ids of entries) is left out."""
    try:
        answer = await getattr(world.ledger, name)(**arguments)
    except LedgerRefused as error:
        return type(error)
    if isinstance(answer, Renewed):
        return replace(answer, receipt=replace(answer.receipt, entry_id=""))
    if name == "claim_jobs":
        return sorted(answer, key=lambda job: (job.account, job.record.ref.kind, job.record.ref.id))
    if name == "claim_deliveries":
        return sorted(answer, key=lambda delivery: (delivery.account, delivery.id))
    return replace(answer, entry_id="") if isinstance(answer, Receipt) else answer


async def outcomes(world: World, name: str, every: list[dict[str, Any]]) -> list[Any]:
    return list(await asyncio.gather(*(outcome(world, name, arguments) for arguments in every)))


async def everything(world: World) -> dict[str, dict[str, Any]]:
    """All that can be read of both accounts."""
    return dict(zip(ACCOUNTS, await asyncio.gather(*(read(world, account) for account in ACCOUNTS)), strict=True))


async def read(world: World, account: str) -> dict[str, Any]:
    ledger = world.ledger
    standing, open_holds, every_key, drift, owned, changes = await asyncio.gather(
        ledger.account(account),
        ledger.holds(account),
        ledger.keys(account),
        ledger.verify(account),
        ledger.owned(account=account, refs=REFS),
        ledger.changes([account]),
    )
    followed = list(await ledger.jobs(account))
    deliveries = [*await ledger.deliveries(account), *await ledger.deliveries(account, dead=True)]
    resources = await asyncio.gather(*(ledger.resource(account=account, ref=ref) for ref in REFS))
    entries: list[Entry] = list(await ledger.entries(account, limit=1000))
    return {
        "account": standing,
        "holds": list(open_holds),
        "keys": list(every_key),
        "drift": list(drift),
        "changes": changes,
        "autopay": await ledger.autopay(account),
        "followed": followed,
        "deliveries": deliveries,
        "watches": list(await ledger.watches(account)),
        "usage": list(await ledger.usage(account, since="2026-11-23", until="2027-11-25")),
        "commitment": await ledger.commitment(account),
        "volumes": [await ledger.volumes(account, month=month) for month in ("2026-11", "2026-12")],
        "owned": dict(zip(REFS, owned, strict=True)),
        "resources": [found for found in resources if found is not None],
        "entries": [replace(entry, id="", data={**entry.data, "refunds": ""}) for entry in entries],
    }


def replayed(entries: Sequence[Entry]) -> tuple[int, list[Grant], list[UsageDay]]:
    """What the entries alone say of debt, grants and usage: from these a lost ledger is restored."""
    rebuilt = Rebuilt(remember_ms=0)
    for entry in entries:
        rebuilt.add(entry)
    grants = [
        Grant(
            id=grant_id, kind=cast("GrantKind", grant.kind), amount=Nanos(grant.amount), remaining=Nanos(grant.left),
            priority=grant.priority, expires_ms=grant.expires_ms, created_ms=grant.created_ms,
        )
        for grant_id, grant in sorted(rebuilt.grants.items())
    ]  # fmt: skip
    usage = [
        UsageDay(
            day=day, product=product, key_id=key_id, calls=rebuilt.calls[day, product, key_id], charged=Nanos(charged)
        )
        for (day, product, key_id), charged in sorted(rebuilt.entered.usage.items())
    ]
    return rebuilt.debt, grants, usage


async def charges_of(world: World, account: str) -> list[str]:
    """The ids of its charges, in their order."""
    entries = await world.ledger.entries(account, limit=1000)
    return [entry.id for entry in entries if entry.kind == "charge"]


def run(make: Callable[[asyncio.Runner], Machine], runner: asyncio.Runner, model: settings = MODEL) -> None:
    factory = cast("type[Machine]", lambda: make(runner))  # Hypothesis calls it, no more
    run_state_machine_as_test(factory, settings=model)


def compare(redis_url: str, model: settings) -> Counter[str]:
    """Run the machine on RedisLedger behind a relay; how many steps were done and replies lost."""
    tally: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        relay = CuttingRelay(redis_url)
        runner.run(relay.start())
        link = SingleLink(LinkSettings(url=relay.url, command_seconds_max=20.0))
        direct = SingleLink(LinkSettings(url=redis_url))
        runner.run(link.open())
        runner.run(direct.open())

        def fresh(runner: asyncio.Runner) -> Machine:
            runner.run(flush(direct))
            return Machine(runner, RedisWorld(link, direct=direct), relay, tally)

        try:
            run(fresh, runner, model)
        finally:
            runner.run(link.close())
            runner.run(direct.close())
            runner.run(relay.stop())
    return tally


async def flush(link: SingleLink) -> None:
    await link.call("FLUSHALL")


def test_redis_is_the_specification_though_replies_are_lost(redis_url: str) -> None:
    """At least 2,000 random steps over a line that loses replies: RedisLedger and MemoryLedger never differ."""
    tally = compare(redis_url, MODEL)
    assert tally["steps"] >= STEPS_MIN, tally
    assert tally["lost"] >= STEPS_MIN // 10, tally
    assert tally["kept"], tally
    missing = set(HAPPENED) - tally.keys()
    assert len(missing) <= RARE_MAX, missing


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_redis_is_the_specification_for_long(redis_url: str) -> None:
    """The same with other seeds every time, and longer runs."""
    long = settings(MODEL, max_examples=400, stateful_step_count=120, derandomize=False)
    tally = compare(redis_url, long)
    assert tally["lost"] >= STEPS_MIN
    assert set(HAPPENED) <= tally.keys(), set(HAPPENED) - tally.keys()


def test_the_specification_agrees_with_itself() -> None:
    """The same machine on two MemoryLedgers: the invariants hold for the specification too."""
    tally: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        run(lambda runner: Machine(runner, MemoryWorld(), None, tally), runner)
    assert tally["steps"] >= STEPS_MIN, tally
