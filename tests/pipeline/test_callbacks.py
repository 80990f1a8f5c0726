"""Services call back when jobs are over: each is settled, and then its client is told."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import Nanos, parse_usd
from gateway.sandbox.jobs import Job
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pipeline.helpers import charges, finished, in_order, sandbox, submit, submitted, until, without_rates
from tests.pipeline.hooks import Hooks, Told, called_back
from tests.pipeline.test_following import counted, over
from tests.pipeline.test_queueing import TIERS

HOUR = parse_usd("0.21")
AUDIO = "https://example.com/a.wav?duration=3600&channels=2"
SECRET = "s3cret-of-the-client"


def one_place(data: dict[str, Any]) -> None:
    """One job at a time, and one that waits."""
    without_rates(data)
    data["tiers"]["payg"]["products"]["speech-to-text"] = {"concurrency": 1, "queued_max": 1}


def job_of(gw: Running, path: str) -> Job:
    """The vendor's job behind a transcript."""
    return gw.sandbox.state.jobs[path.rpartition("/")[2]]


async def test_a_webhook_goes_through_the_gateway(tmp_path: Path, empty_redis: str) -> None:
    """The service gets a callback of ours in its place, and nothing else is another; the client sees what it gave, is
    told once, by the service's own words and with its own header, and a job that nobody polls is charged before that.
    """
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        charged: list[int] = []

        async def note(_told: Told) -> None:
            charged.append(len(await charges(gw, "a")))

        hooks.when_told = note
        url = hooks.url("/hook?customer_id=7&next=%2Fa")
        body = (
            f'{{"audio_url":  "{AUDIO}", "webhook_url": "{url}", "webhook_auth_header_name": "X-Hook",\n'
            f' "webhook_auth_header_value": "{SECRET}", "punctuate": true }}'
        )
        headers = {"Content-Type": "application/json", **sandbox(job_seconds=0.4)}
        made = await gw.call("POST", "/v2/transcript", key, data=body, headers=headers)
        assert made.status == 200, made.body
        path = f"/v2/transcript/{made.json['id']}"
        early = (await gw.call("GET", path, key)).json
        job = job_of(gw, path)
        ours = str(job.request["webhook_url"])
        assert ours.startswith(f"{gw.runtime.public_url}/callbacks/")
        sent = f'{{"audio_url":  "{AUDIO}", "webhook_url": "{ours}", "punctuate": true }}'
        entry = next(entry for entry in gw.sandbox.state.entries if entry.method == "POST")
        assert entry.sha256 == hashlib.sha256(sent.encode()).hexdigest()

        (told,) = await hooks.hears("/hook")
        assert told.target == "/hook?customer_id=7&next=%2Fa"
        assert told.body == b'{"transcript_id": "%s", "status": "completed"}' % job.id.encode()
        assert (told.headers["X-Hook"], told.headers["Content-Type"]) == (SECRET, "application/json")
        assert charged == [1], "it was charged before the client was told"
        await in_order(gw, "a", balance=parse_usd("49.79"))
        late = (await gw.call("GET", path, key)).json
        for seen in (made.json, early, late):
            assert seen["webhook_url"] == url
            assert (seen["webhook_auth"], seen["webhook_auth_header_name"]) == (True, "X-Hook")
            assert seen["webhook_status_code"] is None
            assert "/callbacks/" not in orjson.dumps(seen).decode()
        gone = await gw.call("DELETE", path, key)
        assert (gone.status, gone.json["webhook_url"]) == (200, url)
        assert counted(gw, "gateway_job_looks_total", product="speech-to-text", outcome="settled") == 1


async def test_what_a_client_gave_is_shown_to_nobody_else(
    tmp_path: Path, empty_redis: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """No admin view, no log and no metric has the webhook's URL, its header, or a callback's token."""
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        hooks.answers["/private-hook"] = [404]
        asked: dict[str, Any] = {"webhook_auth_header_name": "X-Hook", "webhook_auth_header_value": SECRET}
        path = await submitted(gw, key, knobs={"job_seconds": 0.5}, webhook_url=hooks.url("/private-hook"), **asked)
        token = str(job_of(gw, path).request["webhook_url"]).rpartition("/")[2]
        job = path.rpartition("/")[2]
        pages = ["/admin/accounts/a/jobs", f"/admin/accounts/a/jobs/transcript/{job}", "/metrics"]
        seen = ""
        for _ in range(2):
            for page in pages:
                bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
                async with gw.http.get(gw.ops_url + page, headers=bearer) as reply:
                    assert reply.status == 200, page
                    seen += await reply.text()
            await hooks.hears("/private-hook")
        assert job in seen
    seen += "".join(capfd.readouterr())
    assert "transcript.create" in seen
    for private in ("private-hook", SECRET, "X-Hook", token):
        assert private not in seen


async def test_callbacks_that_come_twice_and_in_the_wrong_order_are_told_once_each(
    tmp_path: Path, empty_redis: str
) -> None:
    """The redacted audio's URL may come before the end of its job: the job is charged first, whatever comes first."""
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        charged: list[tuple[str, int]] = []

        async def note(told: Told) -> None:
            charged.append((told.status, len(await charges(gw, "a"))))

        hooks.when_told = note
        knobs = {"webhook_copies": 3, "webhook_reversed": "true", "webhook_retry_seconds": 0.1}
        asked = {"redact_pii": True, "redact_pii_audio": True}
        await submitted(gw, key, knobs=knobs, webhook_url=hooks.url("/hook"), **asked)
        told = await hooks.hears("/hook", 2)
        assert {each.status for each in told} == {"completed", "redacted_audio_ready"}
        assert sorted(charged) == [("completed", 1), ("redacted_audio_ready", 1)]
        assert await until(lambda: _sent(gw, 6))
        await hooks.hears("/hook", 2)
        assert len(await charges(gw, "a")) == 1

        # One that comes before the job is over, by whoever's fault, is put off: its URL does not leave unpaid.
        path = await submitted(gw, key, knobs={"job_seconds": 60, "webhook_copies": 0}, webhook_url=hooks.url("/early"))
        ours = str(job_of(gw, path).request["webhook_url"])
        body = {"status": "redacted_audio_ready", "redacted_audio_url": "https://example.com/a.mp3"}
        async with gw.http.post(ours, json=body) as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert hooks.told["/early"] == []
        job_of(gw, path).seconds = 0
        async with gw.http.post(ours, json=body) as reply:
            assert reply.status == 200
        (early,) = await hooks.hears("/early")
        assert orjson.loads(early.body) == body
        assert len(await charges(gw, "a")) == 2


async def _sent(gw: Running, count: int) -> bool:
    return gw.sandbox.state.counts["webhooks_sent"] >= count


async def test_a_callback_may_be_quicker_than_the_answer(tmp_path: Path, empty_redis: str) -> None:
    """One that comes before the reply that names the job is not lost: the service is told to repeat it."""
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        knobs = {"job_seconds": 0, "body": "slow", "chunk_bytes": 2048, "webhook_retry_seconds": 0.2}
        await submitted(gw, key, knobs={**knobs, "chunk_seconds": 0.05}, webhook_url=hooks.url("/hook"))
        assert counted(gw, "gateway_events_total", event="callback_put_off", product="speech-to-text") >= 1
        await hooks.hears("/hook")
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_callback_may_be_quicker_than_the_answer_to_a_job_that_waited(tmp_path: Path, empty_redis: str) -> None:
    """It is submitted by us, and called back for while it still counts as queued: charged first, then told."""
    async with running(tmp_path, empty_redis, changes={**called_back(), TIERS: one_place}) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        charged: list[int] = []

        async def note(_told: Told) -> None:
            charged.append(len(await charges(gw, "a")))

        hooks.when_told = note
        first = await submitted(gw, key, knobs={"job_seconds": 600})
        waits = (await submit(gw, key, webhook_url=hooks.url("/hook"))).json
        assert waits["status"] == "queued"
        await gw.knobs(job_seconds=0, body="slow", chunk_bytes=2048, chunk_seconds=0.05, webhook_retry_seconds=0.2)
        job_of(gw, first).seconds = 0
        await finished(gw, key, first)
        (told,) = await hooks.hears("/hook", seconds=30)
        assert orjson.loads(told.body) == {"transcript_id": waits["id"], "status": "completed"}
        assert charged == [2], "it was charged before its client was told"
        await in_order(gw, "a", balance=Nanos(parse_usd("50") - 2 * HOUR))


async def test_a_client_is_told_although_the_service_forgets_to(tmp_path: Path, empty_redis: str) -> None:
    """What the gateway learns in another way, it tells the client itself after a grace, in the service's form: also of
    jobs that failed, or are gone.
    """
    changes = called_back(grace_seconds=0.3)
    of_jobs = changes["config/products/speech-to-text.yaml"]

    def closely(data: dict[str, Any]) -> None:
        of_jobs(data)
        data["jobs"]["transcript"] |= {"look_first_seconds": 0.2, "look_seconds_max": 0.5, "gone_seconds": 1}

    changes["config/products/speech-to-text.yaml"] = closely
    async with running(tmp_path, empty_redis, changes=changes) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        for how, knobs in (("completed", {}), ("error", {"job_status": "error"}), ("gone", {"job_seconds": 60})):
            path = await submitted(
                gw, key, knobs={"webhook_copies": 0, **knobs}, webhook_url=hooks.url(f"/{how}"),
                webhook_auth_header_name="X-Hook", webhook_auth_header_value=SECRET,
            )  # fmt: skip
            job = job_of(gw, path).id
            if how == "gone":
                del gw.sandbox.state.jobs[job]
            (told,) = await hooks.hears(f"/{how}")
            status = "completed" if how == "completed" else "error"
            assert told.body == b'{"transcript_id":"%s","status":"%s"}' % (job.encode(), status.encode())
            assert told.headers["X-Hook"] == SECRET
        assert await until(lambda: over(gw, "a"))
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_client_that_polls_is_told_once_in_the_services_words(tmp_path: Path, empty_redis: str) -> None:
    """A poll that sees the end first promises a webhook of ours; the service's own takes its place."""
    async with running(tmp_path, empty_redis, changes=called_back(grace_seconds=30)) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        path = await submitted(gw, key, knobs={"webhook_delay_seconds": 0.5}, webhook_url=hooks.url("/hook"))
        assert (await finished(gw, key, path)).charge == HOUR
        (waiting,) = await gw.ledger.deliveries("a")
        assert (waiting.channel, waiting.attempts) == ("webhook", 0)
        (told,) = await hooks.hears("/hook")
        assert told.body == b'{"transcript_id": "%s", "status": "completed"}' % job_of(gw, path).id.encode()
        assert await gw.ledger.deliveries("a") == []
        assert len(await charges(gw, "a")) == 1


async def test_a_callback_of_ours_without_a_webhook(tmp_path: Path, empty_redis: str) -> None:
    """With `always`, a job is settled by a callback although its client gave no webhook, and knows of none."""
    async with running(tmp_path, empty_redis, changes=called_back(always=True)) as gw:
        key = await gw.open_account("a", credit="50")
        for empty in ({}, {"webhook_url": None}, {"webhook_url": ""}):
            made = await submit(gw, key, **empty)
            assert made.json["webhook_url"] is None
            path = f"/v2/transcript/{made.json['id']}"
            assert "/callbacks/" in str(job_of(gw, path).request["webhook_url"])
            assert await until(lambda: over(gw, "a"))
            shown = (await gw.call("GET", path, key)).json
            assert (shown["webhook_url"], shown["webhook_auth"], shown["webhook_status_code"]) == (None, False, None)
        assert len(await charges(gw, "a")) == 3
        assert await gw.ledger.deliveries("a") == []


async def test_webhooks_that_cannot_be_called_are_refused(tmp_path: Path, empty_redis: str) -> None:
    """An address inside, another scheme, no text at all, a header that would break the request: 400 that says which,
    nothing forwarded, nothing held. Who is refused for another reason is told that one.
    """
    async with running(tmp_path, empty_redis, changes=called_back()) as gw:
        key = await gw.open_account("a", credit="50")
        header = {"webhook_auth_header_name": "Host", "webhook_auth_header_value": "inside"}
        long = {"webhook_auth_header_name": "X-Me", "webhook_auth_header_value": "x" * 4093}
        for body, reason in (
            ({"webhook_url": "https://169.254.169.254/latest"}, "its address is not a public one"),
            ({"webhook_url": "http://[::1]:6379/"}, "its address is not a public one"),
            ({"webhook_url": "http://example.com/"}, "it must start with https://"),
            ({"webhook_url": "example.com"}, "it must start with https://"),
            ({"webhook_url": ["https://example.com"]}, "it is no text"),
            ({"webhook_url": "https://example.com", "webhook_auth_header_name": 1}, "it is no text"),
            ({"webhook_url": "https://example.com", **header}, "a header of it cannot be sent"),
            ({"webhook_url": "https://example.com", **long}, "a header of it has more than 4096 characters"),
        ):
            refused = await submit(gw, key, **body)
            assert (refused.status, refused.code) == (400, "invalid_request"), body
            assert refused.json == {"error": f"Invalid request: webhook_url: {reason}"}
        assert (await submit(gw, "nobody", webhook_url="http://10.0.0.1/")).code == "unauthorized"
        assert gw.sandbox.state.counts["transcripts_created"] == 0
        assert await over(gw, "a")


async def test_without_a_public_url_requests_go_on_as_they_are(tmp_path: Path, empty_redis: str) -> None:
    """Services that cannot reach us call clients themselves, as they did; the gateway settles jobs without them."""
    changes = called_back()
    del changes["gateway.yaml"]
    async with running(tmp_path, empty_redis, changes=changes) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        body = b'{"audio_url": "%s" ,"webhook_url":"%s"}' % (AUDIO.encode(), hooks.url("/hook").encode())
        made = await gw.call("POST", "/v2/transcript", key, data=body, headers={"Content-Type": "application/json"})
        entry = next(entry for entry in gw.sandbox.state.entries if entry.method == "POST")
        assert entry.sha256 == hashlib.sha256(body).hexdigest()
        await hooks.hears("/hook")
        assert (await gw.call("GET", f"/v2/transcript/{made.json['id']}", key)).charge == HOUR


async def test_callbacks_while_the_service_is_silent_are_put_off(tmp_path: Path, empty_redis: str) -> None:
    """A callback that cannot be looked into, says nothing, or is about a deleted job, ends without a charge lost."""
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="50")
        path = await submitted(gw, key, knobs={"webhook_copies": 0}, webhook_url=hooks.url("/hook"))
        job = job_of(gw, path)
        ours, body = str(job.request["webhook_url"]), {"transcript_id": job.id, "status": "completed"}
        await asyncio.sleep(0.25)
        await gw.knobs(status=500)
        async with gw.http.post(ours, json=body) as reply:
            assert reply.status == 503
        await gw.knobs(status=None)
        for wrong, status in ((b"no JSON", 400), (b"[]", 400), (b" " * 28_673, 413)):
            async with gw.http.post(ours, data=wrong) as reply:
                assert reply.status == status
        assert await charges(gw, "a") == []
        async with gw.http.post(ours, json=body) as reply:
            assert reply.status == 200
        await hooks.hears("/hook")
        for number, odd in enumerate((["redacted"], 'audio "ready"/é'), 2):
            async with gw.http.post(ours, json={**body, "status": odd}) as reply:
                assert reply.status == 200, "whatever the service calls it, its client is told"
            await hooks.hears("/hook", number)
        assert (await gw.call("DELETE", path, key)).status == 200
        async with gw.http.post(ours, json={**body, "status": "redacted_audio_ready"}) as reply:
            assert reply.status == 200, "it is over for good: nobody repeats it"
        await hooks.hears("/hook", 3)
        assert len(await charges(gw, "a")) == 1
        await in_order(gw, "a", balance=parse_usd("49.79"))
