"""What a fault cost: the vendor's record beside the ledger's, session by session.

Owns: what counts as used, charged and lost, and the table of it.
Does not know: what was done to the gateway.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from gateway.ledger.redis import RedisLedger
from gateway.ports import Entry
from gateway.sandbox.state import SandboxState
from tests.faults.crowd import STREAMING, Kind, Talker
from tests.system.processes import World

_HEADS: Final = {
    "fault": "fault",
    "what": "of",
    "opened": "opened",
    "cut": "lines lost",
    "unit": "unit",
    "used": "vendor's record",
    "charged": "charged",
    "lost": "lost in all",
    "lost_most": "lost at most",
    "holds": "holds left",
    "late": "late charges",
    "drift": "books that differ",
    "owed": "webhooks owed",
    "told": "told",
    "told_again": "told again",
}

_WORDS: Final = {"fault", "what", "unit"}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One line of the table. `lost` is what the vendor served and nobody pays for, `lost_most` in one session. Of the
    webhooks that were `owed`, so many were `told` at least once; `told_again` counts what they were told beyond that.
    """

    fault: str
    what: str
    opened: int
    cut: int
    unit: str = "seconds"
    used: float
    charged: float
    lost: float
    lost_most: float
    holds: int
    late: int
    drift: int
    owed: int = 0
    told: int = 0
    told_again: int = 0

    @property
    def in_order(self) -> bool:
        """Nothing is held any more, and the books agree."""
        return not self.holds and not self.drift

    @property
    def exact(self) -> bool:
        """In order, and to the last nano-dollar what the vendor says."""
        return self.in_order and self.used == self.charged and not self.lost and self.owed == self.told


@dataclass(frozen=True)
class Charged:
    """What the ledger has of a session: its call, and its nano-dollars, corrections included."""

    call: str
    amount: int


def used_seconds(state: SandboxState, kind: Kind, session: str) -> Decimal:
    """What the vendor bills for the session: what it reported, or until the line dropped."""
    if kind is STREAMING:
        record = state.streams[session]
        assert record.session_seconds is not None, "the vendor's session goes on"
        return Decimal(math.ceil(record.session_seconds) if record.ended == "terminated" else record.session_seconds)
    agent = state.agent_sessions[session]
    if agent.ended_at is not None:
        return Decimal(str(agent.seconds(agent.ended_at)))
    assert agent.left_at is not None, "the vendor's session goes on"
    return Decimal(agent.left_at - agent.born)  # beside the time that the vendor waits for the client to resume


async def all_entries(ledger: RedisLedger, account: str) -> list[Entry]:
    """Every entry of the account."""
    found: list[Entry] = []
    while page := await ledger.entries(account, after=found[-1].id if found else "", limit=1000):
        found += page
    return found


def by_session(entries: Iterable[Entry]) -> Mapping[str, Charged]:
    """The upstream's id of each session that was charged."""
    amounts: defaultdict[str, int] = defaultdict(int)
    sessions: dict[str, str] = {}
    for entry in entries:
        if entry.kind in {"charge", "correction"}:
            call = entry.data["call_id"]
            amounts[call] -= entry.amount
            if session := entry.data.get("upstream_id"):
                sessions[call] = session
    return {session: Charged(call, amounts[call]) for call, session in sessions.items()}


async def figures(fault: str, world: World, talkers: Sequence[Talker]) -> Figures:
    """The line of these sessions, all of one kind, whose account is named like it."""
    kind = talkers[0].kind
    entries = await all_entries(world.ledger, kind.name)
    charged = by_session(entries)
    used = lost = lost_most = taken = 0
    for talker in talkers:
        seconds = used_seconds(world.sandbox.state, kind, talker.session)
        owed = int((seconds * kind.second).quantize(Decimal(1), ROUND_HALF_UP))
        amount = charged[talker.session].amount if talker.session in charged else 0
        assert amount <= owed, f"{fault}: charged {amount} of {owed} nano-dollars"
        used, taken = used + owed, taken + amount
        lost, lost_most = lost + owed - amount, max(lost_most, owed - amount)
    account = await world.ledger.account(kind.name)
    return Figures(
        fault=fault,
        what=kind.name,
        opened=len(talkers),
        cut=sum(talker.lost for talker in talkers),
        used=used / kind.second,
        charged=taken / kind.second,
        lost=lost / kind.second,
        lost_most=lost_most / kind.second,
        holds=account.open_holds,
        late=sum(bool(entry.data.get("late")) for entry in entries),
        drift=len(await world.ledger.verify(kind.name)),
    )


def table(rows: Iterable[Figures]) -> str:
    """All lines, in Markdown."""
    names = [each.name for each in fields(Figures)]
    lines = [
        [_HEADS[name] for name in names],
        ["---" if name in {"fault", "what", "unit"} else "---:" for name in names],
    ]
    for row in rows:
        values = (getattr(row, name) for name in names)
        lines.append([f"{value:.1f}" if isinstance(value, float) else str(value) for value in values])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
