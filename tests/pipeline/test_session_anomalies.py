"""What is strange about a session is told to whoever watches over its account, through real sockets."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from standardwebhooks.webhooks import Webhook

from tests.harness import Running, running
from tests.pipeline.hooks import Hooks
from tests.pipeline.sockets import FRAME, begun, slices, to_the_end
from tests.pipeline.test_alerts import admin

CHANGES = slices(slice_seconds=0.5, renew_before_seconds=0.1, warn_seconds=0, grace_seconds=1, seconds_max=4)


def reaching_here(data: dict[str, Any]) -> None:
    """This machine may be called."""
    data["outward"] = {"allow": ["127.0.0.1"]}


async def session(gw: Running, key: str, *, frames: int = 5, seconds: float = 0.0, ends: bool = False) -> None:
    """A session with so much audio, to its end: by its client after so many seconds, or by somebody else."""
    socket = await begun(gw, key)
    for _ in range(frames):
        await socket.send_bytes(FRAME)
    await asyncio.sleep(seconds)
    if ends:
        await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)


async def test_sessions_that_went_astray_are_told_of_once(tmp_path: Path, empty_redis: str) -> None:
    """Lost in the middle, ended by the service without a report, run to its longest time, paid for and silent: each is
    told, signed, the first of its sort; one that went well, or its client ended, is not; nor are watches of jobs.
    """
    async with (
        Hooks() as hooks,
        running(tmp_path, empty_redis, changes={**CHANGES, "gateway.yaml": reaching_here}) as gw,
    ):
        key = await gw.open_account("a", credit="5")
        to = [{"type": "webhook", "url": hooks.url("/sessions")}]
        _, made = await admin(gw, "PUT", "alerts/s", {"kind": "session_anomaly", "to": to})
        jobs = [{"type": "slack", "url": hooks.url("/jobs")}]
        assert (await admin(gw, "PUT", "alerts/j", {"kind": "job_anomaly", "to": jobs}))[0] == 200

        await session(gw, key, seconds=0.3, ends=True)
        await session(gw, key, frames=0, seconds=0.2, ends=True)  # within its first slice
        await asyncio.gather(
            session(gw, key),
            session(gw, key, frames=0, seconds=1.2, ends=True),
            session(gw, key, frames=0, seconds=1.2, ends=True),
        )
        for code in (1011, 1006):
            await gw.knobs(close_code=code, close_after_seconds=0.3)
            await asyncio.gather(session(gw, key), session(gw, key))
        secret = made["to"][0]["secret"]
        told = [Webhook(secret).verify(each.body, each.headers) for each in await hooks.hears("/sessions", 4)]
        assert sorted(each["data"]["what"] for each in told) == ["lost", "silent", "unreported", "whole_length"]
        for each in told:
            assert each["type"] == "alert.session_anomaly"
            assert each["data"]["product"] == "streaming-speech-to-text"
            assert "a session went wrong" in each["data"]["text"] and each["data"]["call_id"] in each["data"]["text"]
        assert not hooks.told["/jobs"]
        assert (await gw.ledger.account("a")).held == 0
        assert not await gw.ledger.verify("a")
        async with gw.http.get(f"{gw.ops_url}/metrics") as response:
            counted = await response.text()
        for how in ("upstream", "upstream_lost"):
            assert f'gateway_sessions_total{{ended="{how}",product="streaming-speech-to-text"}} 2.0' in counted
        gone = "gateway_clients_gone_total"
        assert f'{gone}{{product="streaming-speech-to-text"}} 0.0' in counted, (
            "who closes a session that is over left none"
        )
        assert orjson.dumps(told).find(key.encode()) == -1
