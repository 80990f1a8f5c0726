"""No result of a job leaves before its charge, however the upstream answers: broken, encoded, or out of step."""

import gzip
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.core.money import parse_usd
from tests.fakes.upstream import Line, Received, ScriptedUpstream, message
from tests.harness import Got, Running
from tests.upstream.proxying import JSON, before

DONE = orjson.dumps({"id": "t1", "status": "completed", "audio_duration": 3600, "text": "the result"})
QUEUED = orjson.dumps({"id": "t1", "status": "queued"})


def service(answer: Callable[[Received], bytes]) -> ScriptedUpstream:
    """An upstream that answers each request with what `answer` makes of it."""

    async def script(line: Line) -> None:
        while True:
            await line.send(answer(await upstream.taken(line)))

    upstream = ScriptedUpstream(script)
    return upstream


async def submitted(gw: Running, key: str) -> Got:
    """A transcript, as the upstream says it was made."""
    return await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})


async def test_a_result_waits_while_nothing_is_known_of_its_job(tmp_path: Path, empty_redis: str) -> None:
    """The status cannot be had, the export can: it is kept back, and the job stays open to be charged later."""

    def answer(request: Received) -> bytes:
        if request.first.startswith(b"POST"):
            return message("HTTP/1.1 200 OK", JSON, body=QUEUED)
        if request.target.endswith(b"/sentences"):
            return message("HTTP/1.1 200 OK", JSON, body=b'{"sentences": [{"text": "the result"}]}')
        return message("HTTP/1.1 500 Oops", JSON, body=b"{}")

    async with before(service(answer), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        assert (await submitted(gw, key)).status == 200
        got = await gw.call("GET", "/v2/transcript/t1/sentences", key)
        assert (got.status, got.code) == (400, "job_not_finished")
        assert b"result" not in got.body
        assert len(await gw.ledger.holds("a")) == 1


@pytest.mark.parametrize("how", ["an unknown encoding", "two gzip members", "no JSON"])
async def test_a_poll_that_cannot_be_read_shows_nothing(tmp_path: Path, empty_redis: str, how: str) -> None:
    """A finished transcript in bytes that we cannot read must not leave unpaid; two gzip members we can read."""
    bodies = {
        "an unknown encoding": (b"\x1bnot really brotli: the result", "Content-Encoding: br"),
        "two gzip members": (gzip.compress(DONE[:20]) + gzip.compress(DONE[20:]), "Content-Encoding: gzip"),
        "no JSON": (DONE[:-1], "X-Nothing: 1"),
    }

    def answer(request: Received) -> bytes:
        if request.first.startswith(b"POST"):
            return message("HTTP/1.1 200 OK", JSON, body=QUEUED)
        body, field = bodies[how]
        return message("HTTP/1.1 200 OK", JSON, field, body=body)

    async with before(service(answer), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        assert (await submitted(gw, key)).status == 200
        got = await gw.call("GET", "/v2/transcript/t1", key)
        charged = parse_usd("100") - await gw.balance("a")
        if how == "two gzip members":
            assert (got.status, charged) == (200, parse_usd("0.21"))
        else:
            assert (got.status, got.code, charged) == (502, "upstream_unreachable", 0)
            assert len(await gw.ledger.holds("a")) == 1


async def test_a_job_whose_id_cannot_be_read_is_no_success(tmp_path: Path, empty_redis: str) -> None:
    """Nobody could ever poll it: the client is told so, and the hold is given back."""

    def answer(_request: Received) -> bytes:
        return message("HTTP/1.1 200 OK", JSON, "Content-Encoding: br", body=b"\x1bnot really brotli")

    async with before(service(answer), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        got = await submitted(gw, key)
        assert (got.status, got.code) == (502, "upstream_unreachable")
        account = await gw.ledger.account("a")
        assert (account.held, account.balance) == (0, parse_usd("100"))


async def test_a_job_that_is_named_twice_is_one_job(tmp_path: Path, empty_redis: str) -> None:
    """A service may answer another request with a job that it has already: whoever sees its end, it is charged once,
    and nothing is held for the second request. One that failed may be tried again under its name.
    """
    says = QUEUED

    def answer(_request: Received) -> bytes:
        return message("HTTP/1.1 200 OK", JSON, body=says)

    async def paid(gw: Running) -> tuple[int, int, int]:
        account = await gw.ledger.account("a")
        return parse_usd("100") - account.balance, account.open_holds, len(await gw.ledger.jobs("a"))

    async with before(service(answer), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        assert (await submitted(gw, key)).status == 200
        says = orjson.dumps({"id": "t1", "status": "error", "error": "no audio"})
        assert (await gw.call("GET", "/v2/transcript/t1", key)).json["status"] == "error"
        assert await paid(gw) == (0, 0, 0)
        says = QUEUED
        for _ in range(2):
            assert (await submitted(gw, key)).status == 200
            assert await paid(gw) == (0, 1, 1)
        says = DONE
        assert (await submitted(gw, key)).charge == parse_usd("0.21")
        assert (await gw.call("GET", "/v2/transcript/t1", key)).charge is None
        assert (await submitted(gw, key)).charge is None
        says = QUEUED
        assert (await submitted(gw, key)).charge is None
        assert await paid(gw) == (parse_usd("0.21"), 0, 0)
        assert await gw.ledger.verify("a") == []


@pytest.mark.parametrize(("status", "charged"), [("processing", "0"), ("completed", "0.21")])
async def test_what_a_deletion_says_is_no_result(tmp_path: Path, empty_redis: str, status: str, charged: str) -> None:
    """Services write that it was deleted where the text would be; only one that was over by then is charged."""
    deleted = {"id": "t1", "status": status, "text": "Deleted by user.", "words": ["Deleted by user."]}

    def answer(request: Received) -> bytes:
        if request.first.startswith(b"DELETE"):
            audio = {"audio_duration": 3600} if status == "completed" else {}
            return message("HTTP/1.1 200 OK", JSON, body=orjson.dumps({**deleted, **audio}))
        return message("HTTP/1.1 200 OK", JSON, body=QUEUED)

    async with before(service(answer), tmp_path, empty_redis) as gw:
        key = await gw.open_account("a")
        assert (await submitted(gw, key)).status == 200
        assert (await gw.call("DELETE", "/v2/transcript/t1", key)).status == 200
        account = await gw.ledger.account("a")
        assert (account.held, parse_usd("100") - account.balance) == (0, parse_usd(charged))
        assert (await gw.call("GET", "/v2/transcript/t1", key)).status == 404
