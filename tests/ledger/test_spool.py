"""The spool: what it keeps survives, in order, and is applied once it can be."""

import asyncio
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import pytest

from gateway.core.errors import LedgerRefused, LedgerUnavailable
from gateway.ledger.spool import Record, Spool, SpoolFull
from tests.upstream.proxying import until

ROOT = Path(__file__).parents[2]


def opened(directory: Path, name: str = "a", *, bytes_max: int = 10_000) -> Spool:
    """A spool in a directory."""
    spool = Spool(directory, bytes_max=bytes_max)
    spool.open(name)
    return spool


async def test_records_are_applied_in_order_and_then_gone(tmp_path: Path) -> None:
    """What was applied is not applied again, and the file is empty afterwards."""
    spool = opened(tmp_path)
    for number in range(3):
        await spool.append({"n": number})
    applied: list[int] = []

    async def apply(record: Record) -> None:
        applied.append(record["n"])

    assert await spool.replay(apply) == (3, 0)
    assert await spool.replay(apply) == (0, 0)
    assert applied == [0, 1, 2]
    assert (tmp_path / "a.spool").stat().st_size == 0
    spool.close()
    assert not list(tmp_path.glob("*.spool"))


async def test_the_ledger_going_away_in_the_middle_keeps_the_rest(tmp_path: Path) -> None:
    """A replay stops at the first record that cannot be done, and goes on there."""
    spool = opened(tmp_path)
    for number in range(3):
        await spool.append({"n": number})
    applied: list[int] = []
    away = True

    async def apply(record: Record) -> None:
        if record["n"] == 1 and away:
            raise LedgerUnavailable
        applied.append(record["n"])

    assert await spool.replay(apply) == (1, 0)
    away = False
    assert await spool.replay(apply) == (2, 0)
    assert applied == [0, 1, 2]
    spool.close()


async def test_a_server_that_is_away_holds_up_none_of_another_s(tmp_path: Path) -> None:
    """Records of other servers are applied; what one owner has stays in order, though its server changes meanwhile."""
    spool = opened(tmp_path)
    for name in ("a1", "b1", "a2", "c1", "e1", "f1", "g1", "b2", "a3", "d1"):
        await spool.append({"owner": name[0], "n": int(name[1])})
    servers = {owner: "two" if owner in "bd" else "one" for owner in "abcdefg"}
    away = {"one"}
    applied: list[str] = []
    asked: list[str] = []

    async def apply(record: Record) -> None:
        name = f"{record['owner']}{record['n']}"
        asked.append(name)
        if servers[record["owner"]] in away:
            servers["a"] = "two"  # its replica takes over
            raise LedgerUnavailable
        applied.append(name)

    def about(record: Record) -> tuple[str, str]:
        return record["owner"], servers[record["owner"]]

    assert await spool.replay(apply, about) == (3, 0)
    assert (applied, asked) == (["b1", "b2", "d1"], ["a1", "b1", "c1", "e1", "b2", "d1"])
    assert (len(spool), spool.first) == (7, {"owner": "a", "n": 1})
    await spool.append({"owner": "d", "n": 2})
    assert (tmp_path / "a.spool").stat().st_size > 0, "what is not done is kept"
    away.clear()
    assert await spool.replay(apply, about) == (8, 0)
    assert applied == ["b1", "b2", "d1", "a1", "a2", "c1", "e1", "f1", "g1", "a3", "d2"]
    assert (tmp_path / "a.spool").stat().st_size == 0
    spool.close()


async def test_a_dead_process_s_file_is_adopted_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    """The next process applies what the last one left; a file whose process lives stays its own."""
    dead, living = opened(tmp_path, "dead"), opened(tmp_path, "living")
    await dead.append({"n": 1})
    await living.append({"n": 2})
    dead.close()  # as a killed process: its lock is gone, its file is not
    heir = opened(tmp_path, "heir")
    applied: list[int] = []

    async def apply(record: Record) -> None:
        applied.append(record["n"])

    assert len(heir) == 1
    await heir.replay(apply)
    assert applied == [1]
    assert sorted(path.name for path in tmp_path.glob("*.spool")) == ["heir.spool", "living.spool"]
    heir.close()
    living.close()


async def test_what_a_process_leaves_behind_is_adopted_by_one_that_runs(tmp_path: Path) -> None:
    """Workers end while others live: one of those takes the file, and only one, however often they look."""
    leaving, first, second = (opened(tmp_path, name) for name in "abc")
    await leaving.append({"n": 1})
    await first.append({"n": 2})
    for spool in (first, second):
        spool.adopt()
        assert len(spool) == (spool is first), "its process lives"
    leaving.close()
    for spool in (second, first, second):
        spool.adopt()
    assert (len(first), len(second)) == (1, 1)
    applied: list[int] = []

    async def apply(record: Record) -> None:
        applied.append(record["n"])

    assert await second.replay(apply) == (1, 0)
    first.adopt()
    assert await first.replay(apply) == (1, 0)
    assert applied == [1, 2]
    for spool in (first, second):
        spool.close()
    assert not list(tmp_path.iterdir())


async def test_processes_that_start_at_once_leave_each_other_s_files_alone(tmp_path: Path) -> None:
    """A file is found by others only once it is locked: no process adopts that of one that is just starting."""
    script = """
import asyncio
import sys
from pathlib import Path
from gateway.ledger.spool import Spool
async def main():
    for number in range(200):
        spool = Spool(Path(sys.argv[1]), bytes_max=10_000)
        spool.open(f"{sys.argv[2]}-{number}")
        await spool.append({"n": 1})
        assert len(spool) == 1, spool
        spool._pending.clear()
        spool.close()
asyncio.run(main())
"""
    starting = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path), name, cwd=ROOT)
        for name in ("a", "b", "c")
    ]
    assert [await process.wait() for process in starting] == [0, 0, 0]


async def test_a_line_torn_by_a_crash_is_left_out(tmp_path: Path) -> None:
    """The half line of a write that never returned is not an operation."""
    (tmp_path / "dead.spool").write_bytes(b'{"n":1}\n{"n":2')
    heir = opened(tmp_path, "heir")
    assert len(heir) == 1
    heir.close()


async def test_a_refused_record_is_put_aside_for_people(tmp_path: Path) -> None:
    """It blocks nothing, and is kept with the reason."""
    spool = opened(tmp_path)
    await spool.append({"n": 1})
    await spool.append({"n": 2})
    applied: list[int] = []

    async def apply(record: Record) -> None:
        if record["n"] == 1:
            raise LedgerRefused("another charge was made for this hold")
        applied.append(record["n"])

    assert await spool.replay(apply) == (1, 1)
    assert applied == [2]
    assert "another charge" in (tmp_path / "rejected.jsonl").read_text()
    spool.close()


class Counting(Spool):
    """Counts its writes, each of which ends in a sync."""

    writes = 0

    def _put(self, lines: bytes) -> None:
        self.writes += 1
        super()._put(lines)


async def test_records_of_one_moment_are_synced_together(tmp_path: Path) -> None:
    """A thousand calls that find the ledger away at once cost one sync, and none goes on before it."""
    spool = Counting(tmp_path, bytes_max=10**6)
    spool.open("a")
    keeping = [asyncio.create_task(spool.append({"n": number})) for number in range(1000)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in keeping)
    keeping[0].cancel()  # its record is kept all the same
    await asyncio.gather(*keeping, return_exceptions=True)
    assert spool.writes == 1
    assert len((tmp_path / "a.spool").read_bytes().splitlines()) == 1000
    assert await all_of(spool) == list(range(1000))


async def test_the_spool_is_bounded(tmp_path: Path) -> None:
    """Beyond its bound a record is refused, not half kept."""
    spool = opened(tmp_path, bytes_max=20)
    await spool.append({"n": 1})
    with pytest.raises(SpoolFull):
        await spool.append({"text": "x" * 20})
    assert len(spool) == 1
    spool.close()


@contextmanager
def full_disk(bytes_max: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond so many bytes: in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_a_full_disk_does_not_take_is_written_when_there_is_room(tmp_path: Path) -> None:
    """It waits in memory, in its order, is told to be there only, and no half of it is on the disk."""
    spool = opened(tmp_path, bytes_max=10**6)
    await spool.append({"n": 1})
    assert spool.is_sound
    with full_disk(30):
        for number in (2, 3):
            with pytest.raises(OSError, match="no room"):
                await spool.append({"n": number})
        assert (len(spool), spool.unwritten, spool.is_sound) == (3, 2, False)
        assert len((tmp_path / "a.spool").read_bytes().splitlines()) == 1
    await spool.write()
    assert (len(spool), spool.unwritten, spool.is_sound) == (3, 0, True)
    assert spool.close() == 0
    assert await all_of(opened(tmp_path, "heir")) == [1, 2, 3]


class Hanging(Spool):
    """On a disk that takes nothing until it is let."""

    def __init__(self, directory: Path, *, disk_seconds_max: float = 60.0) -> None:
        super().__init__(directory, bytes_max=10**6, disk_seconds_max=disk_seconds_max)
        self.let = threading.Event()

    def _put(self, lines: bytes) -> None:
        file, self._file = self._file, cast("IO[bytes]", object())  # whoever asks it now would wait for the disk
        self.let.wait(60)
        self._file = file
        super()._put(lines)


async def test_a_disk_that_hangs_stops_nobody_else(tmp_path: Path) -> None:
    """The loop goes on; who waits is told after a while that the disk is late; all is written once it answers."""
    spool = Hanging(tmp_path, disk_seconds_max=0.2)
    spool.open("a")
    first = asyncio.create_task(spool.append({"n": 1}))
    turns = 0
    while not first.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert turns > 1
    with pytest.raises(OSError, match="not answered in time"):
        await first
    with pytest.raises(OSError, match="not answered in time"):
        await spool.append({"n": 2})
    assert (len(spool), spool.unwritten, spool.is_sound) == (2, 2, False)
    spool.let.set()
    await until(lambda: not spool.unwritten)
    with suppress(OSError):  # it may be late once more, on a busy machine
        await spool.append({"n": 3})
    await until(lambda: spool.is_sound and len((tmp_path / "a.spool").read_bytes().splitlines()) == 3)
    assert (len(spool), spool.unwritten) == (3, 0)
    spool.close()
    assert await all_of(opened(tmp_path, "heir")) == [1, 2, 3]


async def test_a_replay_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """The ledger is back while records are on their way to the disk: they are applied, and leave no trace there."""
    spool = Hanging(tmp_path)
    spool.open("a")
    keeping = asyncio.create_task(spool.append({"n": 1}))
    await asyncio.sleep(0.01)
    applied: list[int] = []

    async def apply(record: Record) -> None:
        applied.append(record["n"])

    assert await spool.replay(apply) == (1, 0)
    assert not keeping.done()
    spool.let.set()
    await keeping
    assert (applied, (tmp_path / "a.spool").stat().st_size) == ([1], 0)
    spool.close()


async def test_what_the_disk_never_took_is_counted_or_applied(tmp_path: Path) -> None:
    """A ledger that is back first makes the disk's refusal harmless; a process that ends before says what is lost."""
    for back in (True, False):
        spool = opened(tmp_path)
        with full_disk(3):
            with pytest.raises(OSError, match="no room"):
                await spool.append({"n": 1})
            if back:
                assert await all_of(spool) == [1]
            else:
                assert spool.close() == 1


async def test_who_waits_for_a_spool_that_is_closed_is_told(tmp_path: Path) -> None:
    """A close in the same turn of the loop writes what has gathered; where the disk is full, nobody waits for ever."""
    for room, turns in ((10_000, 1), (3, 1), (10_000, 2), (3, 2)):  # it has gathered; it is on its way
        spool = opened(tmp_path, f"of-{room}-{turns}")
        with full_disk(room):
            keeping = asyncio.create_task(spool.append({"n": 1}))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert spool.close() == (room == 3)
            (fault,) = await asyncio.wait_for(asyncio.gather(keeping, return_exceptions=True), 10)
        assert isinstance(fault, OSError) == (room == 3)


async def test_a_line_that_the_disk_changed_is_not_taken_for_a_charge(tmp_path: Path) -> None:
    """One digit of an amount is another: its checksum tells. Lines of an older version, without one, are read."""
    dead = opened(tmp_path, "dead")
    for number in (100, 200):
        await dead.append({"n": number})
    dead.close()
    file = tmp_path / "dead.spool"
    file.write_bytes(file.read_bytes().replace(b"200", b"900") + b'{"n":300}\n')
    assert await all_of(opened(tmp_path, "heir")) == [100, 300]
    assert "900" in (tmp_path / "rejected.jsonl").read_text()


async def all_of(spool: Spool) -> list[int]:
    """What a spool applies."""
    applied: list[int] = []

    async def apply(record: Record) -> None:
        applied.append(record["n"])

    await spool.replay(apply)
    spool.close()
    return applied
