"""The books of a long run, beside what customers and the vendor know.

Owns: what must be equal at the end, and which of it may differ for those whom a fault has cut.
Does not know: which faults there were.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from gateway.core.money import format_usd, parse_usd
from gateway.ports import Entry
from tests.faults.crowd import Kind, Talker
from tests.faults.figures import all_entries, by_session, used_seconds
from tests.faults.stage import SLICE_SECONDS
from tests.pipeline.helpers import until
from tests.soak.faults import AWAY_SECONDS
from tests.soak.traffic import ACCOUNTS, CHARGE, STREAMED_CHARGE, Told
from tests.system.processes import Served, World

SETTLED_SECONDS_MAX: Final = 90.0
#: Thirty-six seconds of audio of the dearest model; and of that with its personal data redacted, in text and audio.
JOB_CHARGE: Final = parse_usd("0.0021")
REDACTED_CHARGE: Final = parse_usd("0.0034")
#: What a session may lose that was cut: its slice, and what was used while nobody could charge it.
LOST_SECONDS_MAX: Final = SLICE_SECONDS + AWAY_SECONDS + 2.0
#: By how much the gateway's clock may be ahead of the vendor's, where no report has told it better.
AHEAD_SECONDS_MAX: Final = 0.5


@dataclass
class Audit:
    """What was found. `wrong` says each thing that must not be."""

    charges: int = 0
    nanos: int = 0
    lost: int = 0
    doubled: int = 0
    for_refused: int = 0
    unasked: int = 0
    """Charges of calls whose answer was cut on its way to the client."""
    sessions: int = 0
    sessions_exact: int = 0
    session_seconds_lost: float = 0.0
    session_seconds_lost_most: float = 0.0
    late: int = 0
    wrong: list[str] = field(default_factory=list)

    def expect(self, *, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)


async def audit(world: World, served: Served, told: Told, talkers: dict[Kind, list[Talker]]) -> Audit:
    """Wait until everything is settled, then count."""
    found = Audit()
    await _settled(world, served, found)
    charged: defaultdict[str, list[Entry]] = defaultdict(list)
    for name in ACCOUNTS:
        entries = await all_entries(world.ledger, name)
        charged[name] = [entry for entry in entries if entry.kind == "charge"]
        found.charges += len(charged[name])
        found.nanos -= sum(entry.amount for entry in entries if entry.kind in ("charge", "correction"))
        found.late += sum(bool(entry.data.get("late")) for entry in entries)
        account = await world.ledger.account(name)
        found.expect(right=account.balance >= 0, otherwise=f"{name} was overspent: {format_usd(account.balance)}")
        found.wrong += [f"{name}: {drift.what} differs" for drift in await world.ledger.verify(name)]
        for kind, those in talkers.items():
            if kind.name == name:
                _sessions(world, kind, those, entries, found)
    count_calls(told, charged, found)
    _jobs(world, told, charged, found)
    found.expect(right=not found.lost, otherwise=f"{found.lost} charges were lost")
    found.expect(right=not found.doubled, otherwise=f"{found.doubled} charges were doubled")
    found.expect(right=not found.for_refused, otherwise=f"{found.for_refused} charges for what was not delivered")
    return found


async def _settled(world: World, served: Served, found: Audit) -> None:
    async def held_nothing() -> bool:
        return not any([(await world.ledger.account(name)).open_holds for name in ACCOUNTS])

    async def nothing_waits() -> bool:
        return not any([await world.ledger.deliveries(name) for name in ACCOUNTS])

    async def spooled_nothing() -> bool:
        return not served.spooled

    for done, what in (held_nothing, "holds"), (spooled_nothing, "the spool"), (nothing_waits, "the outbox"):
        found.expect(right=await until(done, SETTLED_SECONDS_MAX), otherwise=f"{what} did not empty")
    for name in ACCOUNTS:
        found.expect(right=not await world.ledger.jobs(name), otherwise=f"{name}: jobs are followed that are over")
    rejected = served.directory / "spool" / "rejected.jsonl"
    found.expect(right=not rejected.exists(), otherwise="the spool has operations that the ledger did not take")


def count_calls(told: Told, charged: Mapping[str, list[Entry]], found: Audit) -> None:
    """Calls that are paid for by themselves: those of the LLM, and the understanding of transcripts."""
    paid: Counter[str] = Counter()
    for name in ("llm-a", "llm-b", "poor", "jobs-a", "jobs-b"):
        paid.update(entry.data["call_id"] for entry in charged.get(name, ()))
    found.lost += sum(call not in paid for call in told.served)
    found.doubled += sum(count - 1 for count in paid.values())
    found.for_refused += sum(call in paid for call in told.refused)
    completions = [entry for name in ("llm-a", "llm-b", "poor") for entry in charged.get(name, ())]
    found.unasked = sum(entry.data["call_id"] not in told.served for entry in completions)
    amounts = {-entry.amount for entry in completions}
    prices = {CHARGE, STREAMED_CHARGE}
    found.expect(right=amounts <= prices, otherwise=f"completions of {prices} were charged {amounts - prices}")


def _jobs(world: World, told: Told, charged: dict[str, list[Entry]], found: Audit) -> None:
    """Each job that is completed once, at its price; none that failed."""
    amounts: defaultdict[str, list[int]] = defaultdict(list)
    for name in ("jobs-a", "jobs-b"):
        for entry in charged[name]:
            if entry.data["product"] == "speech-to-text":
                amounts[entry.data["upstream_id"]].append(-entry.amount)
    for id_, job in world.sandbox.state.jobs.items():
        if job.error is not None:
            found.for_refused += len(amounts[id_])
            continue
        found.doubled += max(0, len(amounts[id_]) - 1)
        found.lost += id_ in told.jobs and not amounts[id_]
        price = REDACTED_CHARGE if job.request.get("redact_pii_audio") else JOB_CHARGE
        found.expect(right=set(amounts[id_]) <= {price}, otherwise=f"a job of {price} was charged {amounts[id_]}")


def _sessions(world: World, kind: Kind, talkers: list[Talker], entries: list[Entry], found: Audit) -> None:
    """Those that ended in good order to the last nano-dollar; of others, no more than was used, and most of it."""
    charged = by_session(entries)
    for talker in talkers:
        seconds = used_seconds(world.sandbox.state, kind, talker.session)
        owed = int((seconds * kind.second).quantize(Decimal(1), ROUND_HALF_UP))
        amount = charged[talker.session].amount if talker.session in charged else 0
        lost = (owed - amount) / kind.second
        found.sessions += 1
        found.sessions_exact += owed == amount
        found.session_seconds_lost += max(0.0, lost)
        found.session_seconds_lost_most = max(found.session_seconds_lost_most, lost)
        in_order = talker.code == 1000
        found.expect(
            right=owed == amount if in_order else -AHEAD_SECONDS_MAX <= lost <= LOST_SECONDS_MAX,
            otherwise=f"a session of {kind.name} that ended with {talker.code}: {lost:.3f} s were not charged",
        )
