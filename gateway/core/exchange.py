"""The life of a call: one literal table of its states and moves.

Owns: which move leads from which state to which. Anything that may change a call's state is in this table.
Does not know: how a move is brought about. An illegal move raises `IllegalMove` and changes nothing.

The diagram in ARCHITECTURE.md is printed from `TABLE` by `diagram()`, and a test compares the two.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.core.errors import IllegalMove


class State(StrEnum):
    """Where a call stands."""

    __hash__ = str.__hash__  # the enum's own is a Python function, and every move looks up two

    RECEIVED = "received"
    REFUSED = "refused"
    ADMITTED = "admitted"
    FORWARDED = "forwarded"
    METERED = "metered"
    FAILED = "failed"
    JOB_ACCEPTED = "job_accepted"
    SESSION_OPEN = "session_open"
    EXPIRED = "expired"
    RELEASED = "released"
    SETTLED = "settled"


class Move(StrEnum):
    """What may happen to a call."""

    __hash__ = str.__hash__

    REFUSE = "refuse"
    ADMIT = "admit"
    FORWARD = "forward"
    METER = "meter"
    FAIL = "fail"
    ACCEPT_JOB = "accept_job"
    OPEN_SESSION = "open_session"
    RENEW = "renew"
    EXPIRE = "expire"
    RELEASE = "release"
    SETTLE = "settle"


TABLE: Final[Mapping[State, Mapping[Move, State]]] = {
    State.RECEIVED: {Move.REFUSE: State.REFUSED, Move.ADMIT: State.ADMITTED},
    State.REFUSED: {},
    State.ADMITTED: {Move.FORWARD: State.FORWARDED, Move.RELEASE: State.RELEASED, Move.EXPIRE: State.EXPIRED},
    State.FORWARDED: {
        Move.METER: State.METERED,
        Move.FAIL: State.FAILED,
        Move.ACCEPT_JOB: State.JOB_ACCEPTED,
        Move.OPEN_SESSION: State.SESSION_OPEN,
        Move.EXPIRE: State.EXPIRED,
    },
    # A job's usage is seen by whoever comes first: the client's poll, a callback, the reconciler.
    State.JOB_ACCEPTED: {Move.METER: State.METERED, Move.FAIL: State.FAILED, Move.EXPIRE: State.EXPIRED},
    # A renewal settles the slice used and holds the next one in a single step.
    State.SESSION_OPEN: {
        Move.RENEW: State.SESSION_OPEN,
        Move.METER: State.METERED,
        Move.FAIL: State.FAILED,
        Move.EXPIRE: State.EXPIRED,
    },
    # Usage that was not reported is released where the policy says so.
    State.METERED: {Move.SETTLE: State.SETTLED, Move.RELEASE: State.RELEASED, Move.EXPIRE: State.EXPIRED},
    State.FAILED: {Move.RELEASE: State.RELEASED, Move.EXPIRE: State.EXPIRED},
    # Nobody came back in time. A settlement that comes later still charges, once, and is marked late.
    State.EXPIRED: {Move.SETTLE: State.SETTLED, Move.RELEASE: State.RELEASED},
    State.RELEASED: {},
    State.SETTLED: {},
}


def after(state: State, move: Move) -> State:
    """The state that `move` leads to; IllegalMove if there is no such move from `state`."""
    try:
        return TABLE[state][move]
    except KeyError:
        raise IllegalMove(f"a call that is {state} cannot {move}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for ARCHITECTURE.md."""
    lines = ["stateDiagram-v2", "    [*] --> received"]
    for state, moves in TABLE.items():
        lines += [f"    {state} --> {target}: {move}" for move, target in moves.items()]
        if not moves:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)
