"""Jobs beyond an account's places: taken in, shown as queued, submitted in their turn, under one id all the while."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import assemblyai as aai
import pytest

from gateway.core.money import Nanos, parse_usd
from gateway.edge.clock import SystemClock
from gateway.edge.operations.jobs import JobOperations
from gateway.ports import ResourceRef
from tests.harness import Running, running
from tests.pipeline.helpers import NO_CREDIT, charges, finished, in_order, submit, until, without_rates

HOUR = parse_usd("0.21")
TIERS = "config/tiers.yaml"


def few(data: dict[str, Any]) -> None:
    """Two places, and a queue of three."""
    without_rates(data)
    data["tiers"]["payg"]["products"]["speech-to-text"] = {"concurrency": 2, "queued_max": 3}


def soon(data: dict[str, Any]) -> None:
    """The gateway looks at jobs soon."""
    data["jobs"]["transcript"].update(look_first_seconds=0.2, look_seconds_max=0.5)


CHANGES = {TIERS: few, "config/products/speech-to-text.yaml": soon}


@pytest.fixture
async def gw(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """A gateway with few places, that looks at jobs soon."""
    async with running(tmp_path, empty_redis, changes=CHANGES) as found:
        yield found


def at_upstream(gw: Running) -> list[str]:
    """What the upstream was asked to transcribe, in order."""
    return [str(job.request["audio_url"]) for job in gw.sandbox.state.jobs.values()]


def running_now(gw: Running) -> int:
    """How many jobs run at the upstream."""
    now = asyncio.get_running_loop().time()
    return sum(job.status(now) != "completed" for job in gw.sandbox.state.jobs.values())


async def jobs(gw: Running, key: str, count: int, *, job_seconds: float = 30.0, **body: Any) -> list[str]:
    """So many jobs of an hour, one after the other; their ids."""
    made = []
    for number in range(count):
        url = f"https://example.com/{number}.wav?duration=3600"
        got = await submit(gw, key, knobs={"job_seconds": job_seconds}, audio_url=url, **body)
        assert got.status == 200, got.body
        made.append(str(got.json["id"]))
    return made


async def test_a_job_beyond_the_places_is_taken_in_and_shown_as_queued(gw: Running) -> None:
    """Its reply looks like the vendor's, its credit is held, the upstream knows nothing; one more is refused."""
    key = await gw.open_account("a", credit="10")
    await jobs(gw, key, 2)
    got = await submit(gw, key, audio_url="https://example.com/c.wav", speaker_labels=True)
    assert (got.status, got.json["status"], got.json["speaker_labels"]) == (200, "queued", True)
    assert got.json["audio_url"] == "https://example.com/c.wav"
    assert str(UUID(got.json["id"])) == got.json["id"]
    assert got.headers["Content-Type"] == "application/json"
    assert len(at_upstream(gw)) == 2
    held = (await gw.ledger.account("a")).held
    assert held > 2 * HOUR
    path = f"/v2/transcript/{got.json['id']}"
    shown = await gw.call("GET", path, key)
    assert (shown.status, shown.json) == (200, got.json)
    for export in ("sentences", "srt"):
        assert (await gw.call("GET", f"{path}/{export}", key)).code == "job_not_finished"
    stranger = await gw.open_account("b", credit="10")
    assert (await gw.call("GET", path, stranger)).code == "not_found"
    await jobs(gw, key, 2)
    refused = await submit(gw, key)
    assert (refused.status, refused.code) == (429, "too_many_concurrent")
    assert not await gw.ledger.verify("a")


async def test_jobs_run_in_their_order_under_the_ids_that_they_were_given(gw: Running) -> None:
    """Five jobs on two places: all complete, each is charged once, in order, and no more than two run at once."""
    key = await gw.open_account("a", credit="10")
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            running_now = [
                job
                for job in gw.sandbox.state.jobs.values()
                if job.status(asyncio.get_running_loop().time()) != "completed"
            ]
            most = max(most, len(running_now))
            await asyncio.sleep(0.01)

    await gw.knobs(job_seconds=1.0)
    watcher = asyncio.create_task(watch())
    made = []
    for number in range(5):
        got = await submit(gw, key, audio_url=f"https://example.com/{number}.wav?duration=3600")
        made.append(got.json["id"])
    done = [await finished(gw, key, f"/v2/transcript/{job}") for job in made]
    watcher.cancel()
    assert [got.json["id"] for got in done] == made
    assert {got.json["status"] for got in done} == {"completed"}
    assert at_upstream(gw) == [f"https://example.com/{number}.wav?duration=3600" for number in range(5)]
    theirs = list(gw.sandbox.state.jobs)
    assert theirs[:2] == made[:2]
    assert not set(theirs[2:]) & set(made)
    assert len(await charges(gw, "a")) == 5
    await in_order(gw, "a", balance=Nanos(parse_usd("10") - 5 * HOUR))
    assert most <= 2


async def test_every_later_route_knows_the_id_that_was_given(gw: Running) -> None:
    """Exports, understanding, lists and deletes: ours in, the upstream's behind, ours out."""
    key = await gw.open_account("a", credit="10")
    await gw.knobs(job_seconds=0.2)
    made = [(await submit(gw, key, speaker_labels=True)).json["id"] for _ in range(4)]
    for job in made:
        await finished(gw, key, f"/v2/transcript/{job}")
    ours = made[3]
    theirs = list(gw.sandbox.state.jobs)[3]
    assert ours != theirs
    for export in ("sentences", "paragraphs", "srt", "vtt", "word-search?words=a"):
        got = await gw.call("GET", f"/v2/transcript/{ours}/{export}", key)
        assert got.status == 200, got.body
        assert theirs.encode() not in got.body
    listed = (await gw.call("GET", "/v2/transcript?limit=10", key)).json["transcripts"]
    assert [item["id"] for item in listed] == made[::-1]
    assert theirs not in str(listed)
    older = (await gw.call("GET", f"/v2/transcript?limit=2&before_id={ours}", key)).json["transcripts"]
    assert [item["id"] for item in older] == [made[2], made[1]]
    task = {"transcript_id": ours, "speech_understanding": {"request": {"translation": {"target_languages": ["es"]}}}}
    understood = await gw.call("POST", "/v1/understanding", key, json=task)
    assert understood.status == 200, understood.body
    assert theirs.encode() not in understood.body
    deleted = await gw.call("DELETE", f"/v2/transcript/{ours}", key)
    assert (deleted.status, deleted.json["id"]) == (200, ours)
    assert gw.sandbox.state.jobs[theirs].deleted
    assert (await gw.call("GET", f"/v2/transcript/{ours}", key)).code == "not_found"


async def test_what_waits_stands_first_in_lists_and_can_be_deleted(gw: Running) -> None:
    """Newest first, unless another status is asked for; a deleted one never runs, gives its credit back, nobody's."""
    key = await gw.open_account("a", credit="10")
    made = await jobs(gw, key, 4)
    listed = (await gw.call("GET", "/v2/transcript", key)).json
    assert [item["id"] for item in listed["transcripts"]] == made[::-1]
    assert [item["status"] for item in listed["transcripts"]][:2] == ["queued", "queued"]
    assert listed["transcripts"][0]["resource_url"].endswith(f"/v2/transcript/{made[3]}")
    for status, expected in (("queued", made[:1:-1]), ("processing", []), ("completed", [])):
        page = (await gw.call("GET", f"/v2/transcript?status={status}", key)).json["transcripts"]
        assert [item["id"] for item in page if item["id"] in made[2:]] == expected, status
    before = (await gw.ledger.account("a")).held
    gone = await gw.call("DELETE", f"/v2/transcript/{made[2]}", key)
    assert (gone.status, gone.json["id"]) == (200, made[2])
    assert (await gw.ledger.account("a")).held == before - HOUR
    assert (await gw.call("GET", f"/v2/transcript/{made[2]}", key)).code == "not_found"
    assert [ref.id for ref in await gw.ledger.queued("a")] == [made[3]]
    assert await charges(gw, "a") == []
    assert not await gw.ledger.verify("a")


async def test_one_that_the_upstream_refuses_fails_for_its_client(gw: Running) -> None:
    """The poll shows the vendor's own words, nothing is charged; one that it cannot take now is tried again."""
    key = await gw.open_account("a", credit="10")
    await gw.knobs(job_seconds=1.5)
    made = [(await submit(gw, key)).json["id"] for _ in range(2)]
    bad = (await submit(gw, key, audio_url="ftp://example.com/a.wav")).json["id"]
    later = (await submit(gw, key)).json["id"]
    failed = await finished(gw, key, f"/v2/transcript/{bad}")
    assert failed.json["status"] == "error"
    assert failed.json["error"] == "Transcript creation error, audio_url must be a valid URL"
    for job in (*made, later):
        assert (await finished(gw, key, f"/v2/transcript/{job}")).json["status"] == "completed"
    await in_order(gw, "a", balance=Nanos(parse_usd("10") - 3 * HOUR))


@pytest.mark.parametrize(
    "broken",
    [
        {"fail_rate": 1.0, "fail_status": 503},
        {"fail_rate": 1.0, "fail_status": 401},
        {"status": 400, "status_body": {"error": NO_CREDIT}},
    ],
    ids=["away", "our key", "our credit"],
)
async def test_an_upstream_that_is_away_is_asked_again(gw: Running, broken: dict[str, Any]) -> None:
    """A 503 loses nothing, nor does a refusal of our own key or account: the job is submitted later."""
    key = await gw.open_account("a", credit="10")
    await gw.knobs(job_seconds=0.3)
    first = [(await submit(gw, key)).json["id"] for _ in range(2)]
    waiting = (await submit(gw, key)).json["id"]
    await gw.knobs(job_seconds=0.3, **broken)
    await asyncio.sleep(0.9)
    await gw.knobs(job_seconds=0.3, **dict.fromkeys(broken))
    for job in (*first, waiting):
        assert (await finished(gw, key, f"/v2/transcript/{job}")).json["status"] == "completed"
    assert len(await charges(gw, "a")) == 3


async def test_a_repeat_of_a_queued_submission_is_the_same_job(gw: Running) -> None:
    """The same Idempotency-Key gives the same id, and one job."""
    key = await gw.open_account("a", credit="10")
    await jobs(gw, key, 2)
    request = {"audio_url": "https://example.com/a.wav"}
    first, again = [
        await gw.call("POST", "/v2/transcript", key, json=request, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]
    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await gw.ledger.queued("a")) == 1


async def test_without_credit_jobs_run_one_at_a_time_where_the_plan_says_so(tmp_path: Path, empty_redis: str) -> None:
    """`when_negative: {concurrency: 1}`: debt grows, and no call is refused for it; other products refuse."""

    def lenient(data: dict[str, Any]) -> None:
        few(data)
        data["tiers"]["payg"]["products"]["speech-to-text"]["when_negative"] = {"concurrency": 1}

    async with running(tmp_path, empty_redis, changes={**CHANGES, TIERS: lenient}) as gw:
        key = await gw.open_account("a", credit="0.10")
        await gw.knobs(job_seconds=1.0)
        first = (await submit(gw, key)).json["id"]
        await finished(gw, key, f"/v2/transcript/{first}")
        assert (await gw.ledger.account("a")).balance < 0
        second, third = [(await submit(gw, key)).json for _ in range(2)]
        assert third["status"] == "queued"
        assert len(at_upstream(gw)) == 2
        for job in (second, third):
            assert (await finished(gw, key, f"/v2/transcript/{job['id']}")).json["status"] == "completed"
        assert len(await charges(gw, "a")) == 3
        assert not await gw.ledger.verify("a")


async def test_the_official_client_submits_twelve_jobs_on_five_places(
    tmp_path: Path, empty_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the free tier: all complete, at most five run at once, the upstream gets them in order."""
    async with running(tmp_path, empty_redis, changes={"config/products/speech-to-text.yaml": soon}) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        await gw.knobs(job_seconds=0.3)
        monkeypatch.setattr(aai.settings, "base_url", gw.url)
        monkeypatch.setattr(aai.settings, "polling_interval", 0.05)
        monkeypatch.setattr(aai.settings, "api_key", key)
        most = 0

        def client() -> list[aai.Transcript]:
            transcriber = aai.Transcriber()
            found = [transcriber.submit(f"https://example.com/{number}.wav?duration=60") for number in range(12)]
            return [transcript.wait_for_completion() for transcript in found]

        working = asyncio.create_task(asyncio.to_thread(client))
        while not working.done():
            most = max(most, running_now(gw))
            await asyncio.sleep(0.005)
        transcripts = await working
        assert {transcript.status for transcript in transcripts} == {aai.TranscriptStatus.completed}
        assert at_upstream(gw) == [f"https://example.com/{number}.wav?duration=60" for number in range(12)]
        assert most <= 5

        async def charged() -> bool:
            return len(await charges(gw, "a")) == 12

        assert await until(charged)
        assert (await gw.ledger.account("a")).held == 0
        assert not await gw.ledger.verify("a")


async def test_operators_see_the_queue_and_take_jobs_out(gw: Running) -> None:
    """Listed after the running ones with their places; one that is released never runs."""
    key = await gw.open_account("a", credit="10")
    made = await jobs(gw, key, 4)
    desk = JobOperations(ledger=gw.ledger, runtime=gw.runtime, upstreams=gw.gateway.upstreams, clock=SystemClock())
    listed = (await desk.list_jobs("a", limit=100))["items"]
    assert [(job["id"], job["state"], job["place"]) for job in listed[2:]] == [
        (made[2], "queued", 1), (made[3], "queued", 2),
    ]  # fmt: skip
    assert {job["state"] for job in listed[:2]} == {"open"}
    for place, waits in enumerate(made[2:], 1):
        shown = await desk.show_job("a", ResourceRef(kind="transcript", id=waits))
        assert (shown["place"], shown["upstream_id"]) == (place, None)
        settled = await desk.settle_job("a", ResourceRef(kind="transcript", id=waits), charge_hold=True)
        assert (settled["found"], settled["charged"]) == ("queued", None)
    async with gw.http.get(f"{gw.ops_url}/metrics") as response:
        assert 'gateway_queue_jobs{product="speech-to-text"} 2.0' in await response.text()
    released = await desk.release_job("a", ResourceRef(kind="transcript", id=made[2]))
    assert (released["released"], released["job"]["state"]) == (True, "released")
    assert (released["job"]["place"], released["job"]["upstream_id"]) == (None, None)
    assert [ref.id for ref in await gw.ledger.queued("a")] == [made[3]]
    told = (await gw.call("GET", f"/v2/transcript/{made[2]}", key)).json
    assert (told["status"], told["error"]) == ("error", "The job was taken out of the queue.")
    assert not await gw.ledger.verify("a")
