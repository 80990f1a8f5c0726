"""What a watcher sees, decides and says, and where its own messages stand among the others."""

import asyncio
import struct
import tracemalloc
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from gateway.core.errors import Code, Refused
from gateway.core.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, encoded
from tests.sockets.relaying import Observed, alone, relaying, until

FIN = 0x80
UPSTREAM: dict[str, Any] = {"from_upstream": frozenset({"Begin", "Termination"})}
CLIENT: dict[str, Any] = {"from_client": frozenset({"session.update"})}
UPDATE = b'{"type":"session.update","session":{"agent_id":"a"}}'


# ---- the upstream's messages


async def test_watched_messages_are_shown_as_they_pass() -> None:
    """Those of the named types, in order, whole or in fragments, in one read with others; the bytes are the same."""
    async with relaying(**UPSTREAM) as relay:
        client, upstream = await relay.both()
        raw = b"".join(
            [
                encoded(TEXT, b'{"type":"Begin","id":"1"}'),
                encoded(TEXT, b'{"type":"Turn","transcript":"Begin"}'),
                encoded(BINARY, b'{"type":"Begin","id":"2"}'),
                encoded(TEXT, b'{"type":"Begin", broken'),
            ]
        )
        upstream.writer.write(raw)
        upstream.send(TEXT, b'{"type":"Termi', final=False)
        upstream.send(PING, b'{"type":"Begin","id":"3"}')
        upstream.send(CONTINUATION, b"", final=False)
        upstream.send(CONTINUATION, b'nation","session_duration_seconds":7}')
        assert await client.reader.readexactly(len(raw)) == raw
        assert await client.frame() == (TEXT, b'{"type":"Termi')
        assert await client.frame() == (FIN | PING, b'{"type":"Begin","id":"3"}')
        assert await client.frame() == (CONTINUATION, b"")
        assert await client.frame() == (FIN | CONTINUATION, b'nation","session_duration_seconds":7}')
        assert relay.watchers[0].told == [
            ("said", "Begin", {"type": "Begin", "id": "1"}),
            ("said", "Termination", {"type": "Termination", "session_duration_seconds": 7}),
        ]


async def test_a_message_that_the_watcher_keeps_does_not_reach_the_client() -> None:
    """It is shown and dropped; what stands before and behind it in the same read passes as it is."""
    async with relaying(**UPSTREAM) as relay:
        client, upstream = await relay.both()
        relay.watchers[0].drops = frozenset({"Termination"})
        before, behind = encoded(TEXT, b'{"type":"Turn"}'), encoded(BINARY, b"\x00" * 200)
        upstream.writer.write(before + encoded(TEXT, b'{"type":"Termination"}') + behind)
        assert await client.reader.readexactly(len(before + behind)) == before + behind
        assert relay.watchers[0].told == [("said", "Termination", {"type": "Termination"})]


async def test_a_message_that_the_watcher_changes_keeps_its_place() -> None:
    """What it is changed to stands where it stood, between what is before and behind it in the same read."""
    async with relaying(**UPSTREAM) as relay:
        client, upstream = await relay.both()
        relay.watchers[0].changes = {"Begin": b'{"type":"Begin","id":"ours"}'}
        before, behind = encoded(TEXT, b'{"type":"Turn"}'), encoded(BINARY, b"\x00" * 200)
        upstream.writer.write(before + encoded(TEXT, b'{"type":"Begin","id":"1"}') + behind)
        expected = before + encoded(TEXT, b'{"type":"Begin","id":"ours"}') + behind
        assert await client.reader.readexactly(len(expected)) == expected


async def test_an_upstream_reports_after_its_client_has_left() -> None:
    """Its last messages are still shown, and dropped."""
    async with relaying(**UPSTREAM, prepare=alone) as relay:
        client, upstream = await relay.both()
        watcher = relay.watchers[0]
        client.drop()
        await until(lambda: watcher.told == [("client left", None, b"")])
        watcher.joined.tell_upstream(b'{"type":"Terminate"}')
        assert await upstream.frame() == (FIN | TEXT, b'{"type":"Terminate"}')
        upstream.send(TEXT, b'{"type":"Termination","session_duration_seconds":3}')
        upstream.close(1000, b"Session Ended")
        await until(lambda: len(watcher.told) == 3)
        assert watcher.told[1][1] == "Termination"
        assert watcher.told[2] == ("upstream left", 1000, b"Session Ended")
        watcher.joined.close_upstream(1000)
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1000))
        upstream.writer.close()
        await relay.ended()


# ---- the client's messages


class Judge:
    """Decides when it is told to."""

    def __init__(self, watcher: Observed) -> None:
        self.asked = 0
        self.verdicts: asyncio.Queue[Refused | Exception | None] = asyncio.Queue()
        watcher.judge = self.judge

    async def judge(self, _kind: str, _message: Mapping[str, Any]) -> Refused | None:
        self.asked += 1
        verdict = await self.verdicts.get()
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


async def test_a_judged_message_waits_and_so_does_what_follows() -> None:
    """It passes whole and unchanged when it is let; in the order in which the client sent; pings before it do not."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        judge = Judge(relay.watchers[0])
        before = client.send(BINARY, b"audio 1")
        parts = [UPDATE[:9], UPDATE[9:20], UPDATE[20:]]
        sent = client.send(TEXT, parts[0], final=False)
        before += client.send(PING, b"within")
        sent += client.send(CONTINUATION, parts[1], final=False) + client.send(CONTINUATION, parts[2])
        after = client.send(BINARY, b"audio 2") + client.send(TEXT, b'{"type":"input.audio"}')
        assert await upstream.frame() == (FIN | BINARY, b"audio 1")
        assert await upstream.frame() == (FIN | PING, b"within")
        await until(lambda: judge.asked == 1)
        after += client.send(BINARY, b"audio 3")
        await asyncio.sleep(0.05)
        assert relay.watchers[0].joined.traffic.client_bytes == len(before)
        judge.verdicts.put_nowait(None)
        assert await upstream.reader.readexactly(len(sent + after)) == sent + after
        assert relay.watchers[0].told == [
            ("says", "session.update", {"type": "session.update", "session": {"agent_id": "a"}})
        ]


async def test_a_message_of_many_tiny_fragments_takes_little_memory() -> None:
    """It is kept until it is whole, as bytes: objects of a byte each would take ninety times what was sent."""
    fragment, count = b"\x00\x81" + bytes(4) + b" ", 10_000
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        sent = client.send(TEXT, b"[", final=False) + fragment * count
        tracemalloc.start()
        try:
            client.writer.write(fragment * count)
            client.send(PING, b"behind")
            assert await upstream.frame() == (FIN | PING, b"behind")
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken < 30 * count
        sent += client.send(CONTINUATION, b"]")
        assert await upstream.reader.readexactly(len(sent)) == sent


async def test_a_refused_message_is_dropped() -> None:
    """And what follows it passes."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        judge = Judge(relay.watchers[0])
        client.send(TEXT, UPDATE)
        client.send(TEXT, UPDATE)
        client.send(TEXT, b"last")
        judge.verdicts.put_nowait(Refused(code=Code.NOT_FOUND))
        judge.verdicts.put_nowait(None)
        assert await upstream.frame() == (FIN | TEXT, UPDATE)
        assert await upstream.frame() == (FIN | TEXT, b"last")


async def test_a_judged_message_before_the_upstream_is_there() -> None:
    """Is judged at once, and passed later."""
    async with relaying(**CLIENT) as relay:
        relay.dials.clear()
        client = await relay.client(behind=encoded(TEXT, UPDATE, b"abcd"))
        client.send(TEXT, b"next")
        await until(lambda: bool(relay.watchers and relay.watchers[0].told))
        relay.dials.set()
        upstream = await relay.upstream_wire()
        assert await upstream.frame() == (FIN | TEXT, UPDATE)
        assert await upstream.frame() == (FIN | TEXT, b"next")


@pytest.mark.parametrize(
    ("text", "code"),
    [(b'{"type":"session.update","type":"x"}', 1008), (b'{"type":"session.update", NaN}', 1007)],
)
async def test_a_message_that_could_be_read_in_two_ways(text: bytes, code: int) -> None:
    """Breaks the session off: nothing of it, or after it, passes."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        client.send(TEXT, text)
        client.send(TEXT, b"after")
        assert await client.frame() == (FIN | CLOSE, struct.pack("!H", code))
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
        assert relay.watchers[0].told[0] == ("broken", "client", code)


async def test_nothing_is_read_after_a_message_that_breaks_the_session_off() -> None:
    """Not even pings, whatever the watcher does about it."""
    async with relaying(**CLIENT, prepare=alone) as relay:
        client, upstream = await relay.both()
        client.send(TEXT, b'{"type":"session.update","type":"x"}')
        client.send(PING, b"after")
        client.close(1000)
        watcher = relay.watchers[0]
        await until(lambda: bool(watcher.told))
        await asyncio.sleep(0.05)
        watcher.joined.close_upstream(1001)
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1001))
        assert watcher.told == [("broken", "client", 1008)]


async def test_a_client_that_is_muted_while_it_is_judged() -> None:
    """Is not let through afterwards."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        judge = Judge(relay.watchers[0])
        client.send(TEXT, UPDATE)
        await until(lambda: judge.asked == 1)
        relay.watchers[0].joined.mute_client()
        judge.verdicts.put_nowait(None)
        client.send(PING, b"after")
        assert await upstream.frame() == (FIN | PING, b"after")


async def test_a_client_that_leaves_while_it_is_judged() -> None:
    """Is told of after the judgement, its messages first."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        judge = Judge(relay.watchers[0])
        client.send(TEXT, UPDATE)
        client.send(TEXT, b"last")
        client.close(1000, b"bye")
        await until(lambda: judge.asked == 1)
        client.drop()
        await asyncio.sleep(0.05)
        judge.verdicts.put_nowait(None)
        assert await upstream.frame() == (FIN | TEXT, UPDATE)
        assert await upstream.frame() == (FIN | TEXT, b"last")
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1000) + b"bye")
        upstream.writer.close()
        await relay.ended()


async def test_a_fault_of_the_watcher_ends_the_relay() -> None:
    """Whoever waits for the relay gets it, and both sides are cut."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        judge = Judge(relay.watchers[0])
        client.send(TEXT, UPDATE)
        client.send(TEXT, UPDATE)
        judge.verdicts.put_nowait(ValueError("a fault"))
        await client.gone()
        await upstream.gone()
        await relay.ended()
        assert [str(fault) for fault in relay.faults] == ["a fault"]
        assert judge.asked == 1


async def test_a_judgement_ends_with_the_relay() -> None:
    """Whoever cuts the relay does not leave it behind."""
    async with relaying(**CLIENT) as relay:
        client, _ = await relay.both()
        ended = asyncio.Event()

        async def judge(_kind: str, _message: Mapping[str, Any]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        relay.watchers[0].judge = judge
        client.send(TEXT, UPDATE)
        await until(lambda: bool(relay.watchers[0].told))
        relay.clients[0].cut()
        await asyncio.wait_for(ended.wait(), 30)
        await client.gone()


# ---- messages of ours


async def test_our_messages_stand_between_two_others() -> None:
    """Towards either side: after the message that is under way, at once if none is."""
    async with relaying() as relay:
        client, upstream = await relay.both()
        joined = relay.watchers[0].joined
        joined.tell_client(b"first")
        assert await client.frame() == (FIN | TEXT, b"first")
        for sender, receiver, tell in (
            (upstream, client, joined.tell_client),
            (client, upstream, joined.tell_upstream),
        ):
            sender.send(TEXT, b"one", final=False)
            assert await receiver.frame() == (TEXT, b"one")
            tell(b"ours")
            tell(b"ours too")
            sender.send(PING)
            sender.send(CONTINUATION, b"two", final=False)
            sender.send(CONTINUATION, b"three")
            assert await receiver.frame() == (FIN | PING, b"")
            assert await receiver.frame() == (CONTINUATION, b"two")
            assert await receiver.frame() == (FIN | CONTINUATION, b"three")
            assert await receiver.frame() == (FIN | TEXT, b"ours")
            assert await receiver.frame() == (FIN | TEXT, b"ours too")


async def test_our_messages_before_and_after() -> None:
    """Before the upstream is there they wait their turn; after a Close they are nothing."""
    async with relaying() as relay:
        relay.dials.clear()
        client = await relay.client()
        sent = client.send(TEXT, b"from the client")
        joined = relay.watchers[0].joined
        await until(lambda: joined.traffic.client_bytes == len(sent))
        joined.tell_upstream(b"from us")
        relay.dials.set()
        upstream = await relay.upstream_wire()
        assert await upstream.frame() == (FIN | TEXT, b"from the client")
        assert await upstream.frame() == (FIN | TEXT, b"from us")
        joined.close_client(1000)
        joined.tell_client(b"too late")
        joined.close_upstream(1000)
        joined.tell_upstream(b"too late")
        for wire in (client, upstream):
            assert await wire.frame() == (FIN | CLOSE, struct.pack("!H", 1000))
            wire.close(1000)
            wire.writer.close()
        await relay.ended()
        joined.tell_client(b"far too late")
        joined.mute_client()
        joined.close_client(1000)
        joined.close_upstream(None)


async def test_a_muted_client() -> None:
    """Its messages go nowhere, its pings do; the one that it was in the middle of is ended, so that ours can follow."""
    async with relaying() as relay:
        client, upstream = await relay.both()
        joined = relay.watchers[0].joined
        client.send(BINARY, b"begun", final=False)
        assert await upstream.frame() == (BINARY, b"begun")
        joined.mute_client()
        joined.tell_upstream(b'{"type":"Terminate"}')
        client.send(CONTINUATION, b"goes on", final=False)
        client.send(CONTINUATION, b"and ends")
        client.send(TEXT, b"more")
        client.send(PING, b"ping")
        client.send(BINARY, b"more")
        client.close(1000)
        assert await upstream.frame() == (FIN | CONTINUATION, b"")
        assert await upstream.frame() == (FIN | TEXT, b'{"type":"Terminate"}')
        assert await upstream.frame() == (FIN | PING, b"ping")
        assert await upstream.frame() == (FIN | CLOSE, struct.pack("!H", 1000))


async def test_a_client_that_leaves_in_the_middle_of_a_message() -> None:
    """What it began is ended, so that ours can follow."""
    async with relaying(prepare=alone) as relay:
        client, upstream = await relay.both()
        client.send(BINARY, b"begun", final=False)
        assert await upstream.frame() == (BINARY, b"begun")
        client.drop()
        await until(lambda: bool(relay.watchers[0].told))
        relay.watchers[0].joined.tell_upstream(b'{"type":"Terminate"}')
        assert await upstream.frame() == (FIN | CONTINUATION, b"")
        assert await upstream.frame() == (FIN | TEXT, b'{"type":"Terminate"}')


async def test_a_session_cut_in_the_upstreams_midst() -> None:
    """The client's Close does not wait for a message that may never end."""
    async with relaying() as relay:
        client, upstream = await relay.both()
        upstream.send(TEXT, b"begun", final=False)
        assert await client.frame() == (TEXT, b"begun")
        relay.watchers[0].joined.tell_client(b"no place for this")
        relay.watchers[0].joined.close_client(1008, b"no credit")
        assert await client.frame() == (FIN | CLOSE, struct.pack("!H", 1008) + b"no credit")


async def test_many_tiny_messages_do_not_keep_others_waiting() -> None:
    """A read full of them is taken in parts."""
    async with relaying(**CLIENT) as relay:
        client, upstream = await relay.both()
        count, steps = 30_000, [0]
        message = encoded(TEXT, b"{}", b"abcd")
        client.writer.write(message * count)
        async with asyncio.timeout(20):
            while steps[-1] < count:
                await asyncio.sleep(0)
                steps.append(relay.watchers[0].joined.traffic.client_bytes // len(message))
            await upstream.reader.readexactly(count * 8)
        assert max(after - before for before, after in pairwise(steps)) <= 2 * 256
