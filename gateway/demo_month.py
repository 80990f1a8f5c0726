"""The demo's month: what an account of a small company would have used in the last thirty days.

Owns: which calls there were and when, and the one way in which entries get a time that is over.
Does not know: which account it is, or what else the demo has.

The calls are priced by the config, held and settled by the ledger's own scripts. Only their time is another one: `Past`
gives the scripts a clock of ours instead of the store's. It is a link that changes their text, used by nothing else, so
no script of the gateway can be told the time.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from gateway.core.errors import LedgerRefused, OperationConflict, Refused
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.core.pricing import Charge, Unpriced, charge_for
from gateway.core.record import record
from gateway.core.usage import read_usage
from gateway.edge.keys import key_digest, repeatable_secret
from gateway.ledger.connection import NOTHING, Packed, Part
from gateway.ledger.link import RedisLink, Reply, Script
from gateway.ledger.redis import RedisLedger
from gateway.pipeline.pricing import ran_model
from gateway.ports import Account, AdmissionRequest, AdmissionTerms, Key, Ledger, Plan, PlanChanged, Settlement
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

DAYS: Final = 30
_PURCHASE: Final = Nanos(60 * NANOS_PER_USD)
_TOP_UP: Final = Nanos(40 * NANOS_PER_USD)
_LOW: Final = Nanos(20 * NANOS_PER_USD)
_BUDGET: Final = Nanos(40 * NANOS_PER_USD)
#: The operation of the first purchase: an account that has it, has a month.
BEGUN: Final = "demo:month:purchase"
_KEY: Final = "demo:month:key"
_ROUND: Final = "demo:month:round"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_TIME: Final = "local time = call('TIME')\n"
_TIME_TOLD: Final = "local time = {call('GET', BASE .. 'demo-time'), 0}\n"
_NEXT_ID: Final = "call('XADD', LEDGER, '*',"
_ID_TOLD: Final = "call('XADD', LEDGER, amount(NOW) .. '-*',"


class Clocked(Protocol):
    """A ledger at a time that is over."""

    async def at(self, account: str, ms: int) -> Ledger:
        """The ledger as if it were then, for this account."""

    async def now(self, account: str) -> None:
        """The account is in the present again."""


class Past:
    """`Clocked` for a ledger on Redis. Whoever else uses the account meanwhile is not put into the past."""

    def __init__(self, ledger: RedisLedger, prefix: str) -> None:
        self._link = ledger._link
        self._prefix = prefix
        self._ledger = RedisLedger(_ToldTheTime(self._link), prefix)

    async def at(self, account: str, ms: int) -> Ledger:
        """See `Clocked`."""
        await self._link.call("SET", self._clock(account), str(ms // 1000))
        return self._ledger

    async def now(self, account: str) -> None:
        """See `Clocked`."""
        await self._link.call("DEL", self._clock(account))

    def _clock(self, account: str) -> str:
        return f"{self._prefix}:{{{account}}}:demo-time"


class _ToldTheTime:
    """A link on which scripts are told the time by a key in the account's slot. Entries get ids of that time."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._told: dict[str, Script] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Reply:
        """See `RedisLink`."""
        if script.name not in self._told:
            source = script.source
            assert source.count(_TIME) == 1 and source.count(_NEXT_ID) == 1, "the scripts take their time elsewhere"
            source = source.replace(_TIME, _TIME_TOLD).replace(_NEXT_ID, _ID_TOLD)
            self._told[script.name] = Script(f"demo-{script.name}", source)
        return await self._link.run(self._told[script.name], keys, args, first_keys=first_keys, last_args=last_args)


@record
class Call:
    """A call that there was: when, of which key, what it told its meter."""

    ms: int
    key: str
    route: str
    sources: Mapping[str, Any]


@record
class Month:
    """Whose month it is: the account, its plan, the keys of its two programs. `left`: what there is at its end."""

    account: str
    plan: Plan
    keys: tuple[str, str]
    left: Nanos


async def open_month(past: Clocked, runtime: Runtime, month: Month, *, now_ms: int) -> None:
    """Open the account a month ago, with its first purchase and a key for its second program."""
    account = month.account
    ledger = await past.at(account, (now_ms // _DAY_MS - DAYS) * _DAY_MS)
    try:
        with suppress(LedgerRefused):  # it is there, and nothing else: a run was killed long ago
            await ledger.open_account(operation="demo:open", account=account, plan=month.plan)
        batch = Key(id=month.keys[1], account=account, name="Nightly batch", monthly_budget=_BUDGET)
        secret = repeatable_secret(runtime.key_pepper, account, _KEY)  # nobody has it: this key only has a past
        await ledger.put_key(operation=_KEY, key=batch, digest=key_digest(runtime.key_pepper, secret))
        await ledger.grant(operation=BEGUN, account=account, kind="purchase", amount=_PURCHASE, note="Card 4242")
    finally:
        await past.now(account)


async def seed_month(past: Clocked, runtime: Runtime, month: Month, begin: Account, done: frozenset[str]) -> None:
    """Make the calls of the month. `begin`: the account as it stands; what is `done` (operations) stays as it is."""
    balance = begin.balance
    made = [(number, call, _priced(runtime, month, call)) for number, call in enumerate(calls(begin.created_ms))]
    due = [(f"demo:month:{number}", call, charge) for number, call, charge in made if charge is not None]
    try:
        for operation, call, charge in due:
            if operation in done:
                continue
            ledger = await past.at(month.account, call.ms)
            if balance < _LOW:
                await ledger.grant(
                    operation=f"{operation}:top-up", account=month.account, kind="purchase", amount=_TOP_UP,
                    note="Card 4242",
                )  # fmt: skip
                balance = Nanos(balance + _TOP_UP)
            left = Nanos(balance - charge.amount)
            if operation == due[-1][0] and left < month.left and _ROUND not in done:
                await ledger.grant(
                    operation=_ROUND, account=month.account, kind="promotion", amount=Nanos(month.left - left),
                    note="To begin with a round sum",
                )  # fmt: skip
            if await _charged(ledger, runtime, month, call, operation, charge):
                balance = left
    finally:
        await past.now(month.account)


def calls(begin_ms: int) -> Iterator[Call]:
    """The calls of thirty days, oldest first: fewer on weekends, more every week."""
    dice = random.Random("a month")  # noqa: S311 - the same month for everybody
    for day in range(DAYS):
        midnight = begin_ms + day * _DAY_MS
        weekend = (_EPOCH + timedelta(milliseconds=midnight)).weekday() >= 5
        busy = (0.35 if weekend else 1.0) * (0.75 + day / 60)
        count = max(1, round(busy * dice.randint(7, 12)))
        times = sorted(dice.randrange(8 * 3_600_000, 20 * 3_600_000) for _ in range(count))
        for ms in times:
            yield _call(dice, midnight + ms)


def _call(dice: random.Random, ms: int) -> Call:
    """One call of a kind that the dice choose."""
    kind = dice.choices(("chat", "job", "agent", "stream"), (5, 4, 1, 2))[0]
    if kind == "chat":
        read, wrote = dice.randint(4_000, 90_000), dice.randint(300, 5_000)
        model = dice.choice(("gpt-5.2", "gpt-5.1", "claude-opus-4-6"))
        reply: dict[str, Any] = {"model": model, "usage": {"prompt_tokens": read, "completion_tokens": wrote}}
        return Call(ms=ms, key="app", route="chat.completions", sources={"request": {"model": model}, "reply": reply})
    if kind == "job":
        reply = {
            "status": "completed", "audio_duration": dice.randint(300, 5_400), "speech_model_used": "universal-3-pro",
            "speaker_labels": dice.random() < 0.5,
        }  # fmt: skip
        return Call(ms=ms, key="batch", route="transcript.create", sources={"reply": reply, "job": {}})
    seconds = dice.randint(120, 900)
    if kind == "agent":
        frame: dict[str, Any] = {"session_duration_seconds": seconds}
        return Call(ms=ms, key="app", route="agent.session", sources={"query": {}, "frame": frame})
    frame = {"configuration": {"model": "u3-rt-pro"}, "session_duration_seconds": 3 * seconds}
    return Call(ms=ms, key="app", route="streaming.session", sources={"query": {}, "frame": frame})


def _priced(runtime: Runtime, month: Month, call: Call) -> Charge | None:
    """What the call costs by the config; None where the config does not have it."""
    route = _route(runtime, call.route)
    metering = None if route is None else route.job.metering if route.job is not None else route.metering
    tier = runtime.tiers[month.plan.tier]
    if route is None or metering is None or route.product.name not in tier.products:
        return None
    usage = read_usage(metering.measures, call.sources)
    model = ran_model(route.product, call.sources)
    table = runtime.prices.current(call.ms / 1000, month.plan.rate_card or tier.rate_card)
    charge = charge_for(metering.rules, usage, call.sources, model, table)
    return None if usage.missing or isinstance(charge, Unpriced) or not charge.amount else charge


async def _charged(ledger: Ledger, runtime: Runtime, month: Month, call: Call, operation: str, charge: Charge) -> bool:
    """Admitted, held and settled, as a call is. False: it was refused."""
    route = _route(runtime, call.route)
    assert route is not None, "it was priced"
    key_id, product = month.keys[call.key == "batch"], route.product.name
    terms = AdmissionTerms(
        plan=month.plan, product=product, entitled=True, metered=True, overdraft=ZERO,
        price_version=charge.price_version,
    )  # fmt: skip
    request = AdmissionRequest(
        account=month.account, key_id=key_id, terms=terms, hold_id=operation, estimate=charge.amount
    )
    try:
        if isinstance(await ledger.admit(request), Refused | PlanChanged):
            return False
    except OperationConflict:  # a run was killed in between: its hold has ended, its charge is still due
        pass
    settlement = Settlement(
        account=month.account, hold_id=operation, key_id=key_id, product=product, route=call.route, call_id=operation,
        charge=charge,
    )  # fmt: skip
    await ledger.settle(settlement)
    return True


def _route(runtime: Runtime, name: str) -> Route | None:
    return next((route for route in runtime.routes if route.name == name), None)
