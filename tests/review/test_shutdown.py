"""A process that is told to stop does so in its time, whatever an upstream does."""

import asyncio
import time
from pathlib import Path

from tests.fakes.upstream import Line, ScriptedUpstream, message
from tests.upstream.proxying import JSON, before, get_bytes, opened


async def test_a_look_at_a_job_does_not_hold_up_the_end(tmp_path: Path, empty_redis: str) -> None:
    """What is finished after a call is cut down is its work in the ledger, not its waiting for an upstream."""

    async def script(line: Line) -> None:
        while (await upstream.taken(line)).first.startswith(b"POST"):
            await line.send(message("HTTP/1.1 200 OK", JSON, body=b'{"id": "t1", "status": "queued"}'))
        await line.ended()

    upstream = ScriptedUpstream(script)
    async with before(upstream, tmp_path, empty_redis, limits={"shutdown_seconds_max": 1.0}) as gw:
        key = await gw.open_account("a")
        await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
        client = await opened(gw)
        await client.send(get_bytes("/v2/transcript/t1/srt", f"Authorization: {key}"))
        await asyncio.sleep(0.3)
        started = time.monotonic()
    took = time.monotonic() - started
    client.cut()
    await asyncio.sleep(0.05)  # for the connections that were cut
    assert took < 8
