"""Autopay: when an account's card is charged by itself, how much, and what follows.

Owns: the states of an account's autopay and their moves, as one literal table; whether an attempt begins now and of
what amount; how long a failure puts the next one off. `ledger/scripts/begin_payment.lua` is `judge` next to the live
numbers; the contract's tests hold the two together.
Does not know: providers, or where the numbers come from. Everything, now included, is handed in.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final, Literal

from gateway.core.errors import IllegalMove
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.core.record import record

#: Providers count in whole cents.
CENT: Final = Nanos(NANOS_PER_USD // 100)
#: A failure is waited out at most so long before the next attempt, in seconds.
BACK_OFF_SECONDS_MAX: Final = 86_400


class AutopayState(StrEnum):
    """Where an account's autopay stands."""

    IDLE = "idle"
    CHARGING = "charging"
    FAILED = "failed"
    DISABLED = "disabled"


class AutopayMove(StrEnum):
    """What may happen to it."""

    BEGIN = "begin"
    CREDIT = "credit"
    FAIL = "fail"
    GIVE_UP = "give_up"
    RESET = "reset"


#: `credit` is for the attempt that was the last to begin: a provider may say late that it was paid after all.
TABLE: Final[Mapping[AutopayState, Mapping[AutopayMove, AutopayState]]] = {
    AutopayState.IDLE: {AutopayMove.BEGIN: AutopayState.CHARGING, AutopayMove.RESET: AutopayState.IDLE},
    # Settings may change while an attempt is under way; it is still that attempt which ends.
    AutopayState.CHARGING: {
        AutopayMove.CREDIT: AutopayState.IDLE,
        AutopayMove.FAIL: AutopayState.FAILED,
        AutopayMove.GIVE_UP: AutopayState.DISABLED,
        AutopayMove.RESET: AutopayState.CHARGING,
    },
    AutopayState.FAILED: {
        AutopayMove.BEGIN: AutopayState.CHARGING,
        AutopayMove.CREDIT: AutopayState.IDLE,
        AutopayMove.RESET: AutopayState.IDLE,
    },
    # Only somebody's change of the settings, or the money itself, ends this.
    AutopayState.DISABLED: {AutopayMove.CREDIT: AutopayState.IDLE, AutopayMove.RESET: AutopayState.IDLE},
}


@record
class Autopay:
    """An account's autopay: what it is set to, and how it stands. Amounts in nano-dollars, times of the store, in ms.

    Below `threshold` the balance is brought to `target`, by at most `monthly_cap` in a calendar month (None: no limit).
    `customer` and `method` are what `provider` calls the payer and its card. `attempt` is the last that began, at the
    provider `by`, of `amount`, at `begun_ms`. There were `failures` since money came, the last one because of `why` (a
    word of the provider's), and the next attempt begins not before `retry_ms`. `paid` is what autopay paid in `month`.
    """

    enabled: bool = False
    threshold: Nanos = ZERO
    target: Nanos = ZERO
    monthly_cap: Nanos | None = None
    provider: str = ""
    customer: str = ""
    method: str = ""
    state: AutopayState = AutopayState.IDLE
    attempt: str = ""
    by: str = ""
    amount: Nanos = ZERO
    begun_ms: int = 0
    failures: int = 0
    retry_ms: int = 0
    month: str = ""
    paid: Nanos = ZERO
    why: str = ""

    @property
    def coherent(self) -> bool:
        """Whether it could work: it is off, or it has a provider, and a target above its threshold."""
        return not self.enabled or (self.provider != "" and ZERO < self.threshold < self.target)

    def paid_in(self, month: str) -> Nanos:
        """What autopay paid in this month."""
        return self.paid if self.month == month else ZERO


#: `begun`: by whoever asked. `in_flight`: another's attempt. The others say why none begins.
Verdict = Literal["begun", "in_flight", "off", "suspended", "disabled", "enough", "backing_off", "capped"]


def after(state: AutopayState, move: AutopayMove) -> AutopayState:
    """The state that `move` leads to; IllegalMove if there is no such move from `state`."""
    try:
        return TABLE[state][move]
    except KeyError:
        raise IllegalMove(f"an autopay that is {state} cannot {move}") from None


def allows(state: AutopayState, move: AutopayMove) -> bool:
    """Whether there is such a move."""
    return move in TABLE[state]


def judge(
    autopay: Autopay,
    attempt: str,
    *,
    active: bool,
    balance: int,
    now_ms: int,
    month: str,
    amount_min: Nanos,
    amount_max: Nanos,
) -> tuple[Verdict, Nanos]:
    """Whether this attempt begins now, and its amount. One that is under way is found whatever was set since; one that
    is over, and was only sent once more, does not begin again: its provider would say again what it said of it.

    `active`: the account is not suspended.
    """
    if autopay.state == AutopayState.CHARGING:
        return ("begun" if autopay.attempt == attempt else "in_flight"), autopay.amount
    if not autopay.enabled:
        return "off", ZERO
    if not active:
        return "suspended", ZERO
    if not allows(autopay.state, AutopayMove.BEGIN):
        return "disabled", ZERO
    if balance >= autopay.threshold:
        return "enough", ZERO
    if (autopay.state == AutopayState.FAILED and now_ms < autopay.retry_ms) or attempt == autopay.attempt:
        return "backing_off", ZERO
    amount = min(whole_cents(autopay.target - balance), amount_max)
    if autopay.monthly_cap is not None:
        amount = min(amount, autopay.monthly_cap - autopay.paid_in(month))
        if amount < amount_min:
            return "capped", ZERO
    return "begun", Nanos(amount)


def begun(autopay: Autopay, attempt: str, amount: Nanos, now_ms: int) -> Autopay:
    """After an attempt began."""
    state = after(autopay.state, AutopayMove.BEGIN)
    return replace(autopay, state=state, attempt=attempt, by=autopay.provider, amount=amount, begun_ms=now_ms)


def credited(autopay: Autopay, attempt: str, amount: Nanos, month: str) -> Autopay:
    """After one of its attempts was paid: what it paid counts, and if it was the last one, all is well again."""
    autopay = replace(autopay, month=month, paid=Nanos(autopay.paid_in(month) + amount))
    if autopay.attempt != attempt or not allows(autopay.state, AutopayMove.CREDIT):
        return autopay
    return replace(autopay, state=after(autopay.state, AutopayMove.CREDIT), failures=0, retry_ms=0, why="")


def failed(autopay: Autopay, *, why: str, now_ms: int, retry_seconds: int, failures_max: int) -> Autopay:
    """After the attempt under way failed: put off, or disabled after so many failures."""
    failures = autopay.failures + 1
    move = AutopayMove.GIVE_UP if failures >= failures_max else AutopayMove.FAIL
    retry_ms = now_ms + min(retry_seconds << (failures - 1), BACK_OFF_SECONDS_MAX) * 1000
    return replace(autopay, state=after(autopay.state, move), failures=failures, retry_ms=retry_ms, why=why)


def reset(autopay: Autopay) -> Autopay:
    """After somebody changed what it is set to: failures are forgotten."""
    return replace(autopay, state=after(autopay.state, AutopayMove.RESET), failures=0, retry_ms=0, why="")


def taken_back(autopay: Autopay, *, balance: int, why: str, stop: bool) -> Autopay:
    """After a payment was taken back: whoever has just got money back is not charged for it again at once, and with
    `stop` not later either, until somebody turns it on.
    """
    if not autopay.enabled or not (stop or balance < autopay.threshold):
        return autopay
    return replace(autopay, enabled=False, why=why)


def whole_cents(amount: int) -> int:
    """The least whole number of cents that is not less, in nano-dollars."""
    return amount + -amount % CENT


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/concepts/autopay.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {AutopayState.IDLE}"]
    for state, moves in TABLE.items():
        lines += [f"    {state} --> {target}: {move}" for move, target in moves.items() if target is not state]
    return "\n".join(lines)
