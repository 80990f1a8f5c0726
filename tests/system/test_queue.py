"""Jobs beyond an account's places, by the official client and over real processes: in order, never too many, once."""

import asyncio
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import assemblyai as aai
import pytest

from gateway.core.money import Nanos, parse_usd
from tests.harness import Running
from tests.pipeline.helpers import charges, in_order, until, without_rates
from tests.system.processes import Served, World

PLACES = 5
JOBS = 12
HOUR = parse_usd("0.21")
LEASE_SECONDS = 3
pytestmark = pytest.mark.system


def limits(data: dict[str, Any]) -> None:
    """What a killed process had claimed is free soon."""
    data["limits"].update(hold_lease_seconds=LEASE_SECONDS, sweep_seconds=0.2)


CHANGES = {"config/tiers.yaml": without_rates, "gateway.yaml": limits}


def audio(number: int) -> str:
    """An hour of audio."""
    return f"https://example.com/{number}.wav?duration=3600"


async def test_assemblyai_submits_more_jobs_than_may_run(gw: Running) -> None:
    """Twelve on the free tier: all complete under the ids that they were given, five at once, in order, once each."""
    await gw.knobs(job_seconds=2)
    key = await gw.open_account("a", tier="free", credit="50")
    settings = aai.Settings(api_key=key, base_url=gw.url, polling_interval=0.1)
    client = aai.Client(settings=settings)
    transcriber = aai.Transcriber(client=client)
    waiting = [await asyncio.to_thread(transcriber.submit, audio(number)) for number in range(JOBS)]
    made = [transcript.id for transcript in waiting]
    assert len(gw.sandbox.state.jobs) == PLACES
    assert waiting[-1].status == aai.TranscriptStatus.queued
    done = await asyncio.gather(*(asyncio.to_thread(each.wait_for_completion) for each in waiting))
    assert {transcript.status for transcript in done} == {aai.TranscriptStatus.completed}
    assert [transcript.id for transcript in done] == made
    assert "-->" in await asyncio.to_thread(done[-1].export_subtitles_srt)
    jobs = list(gw.sandbox.state.jobs.values())
    assert [job.request["audio_url"] for job in jobs] == [audio(number) for number in range(JOBS)]
    async with gw.http.get(f"{gw.sandbox.url}/sandbox/state") as response:
        assert (await response.json())["transcripts_most_at_once"] == PLACES
    assert len(await charges(gw, "a")) == JOBS
    await in_order(gw, "a", balance=Nanos(parse_usd("50") - JOBS * HOUR))
    listed = await asyncio.to_thread(transcriber.list_transcripts, aai.ListTranscriptParameters(limit=20))
    assert [item.id for item in listed.transcripts] == made[::-1]
    client.http_client.close()


async def _submit(world: World, at: Served, key: str, number: int) -> str:
    """The id of a job."""
    headers = {"Authorization": key}
    async with world.http.post(
        f"{at.url}/v2/transcript", json={"audio_url": audio(number)}, headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["id"])


async def _completed(world: World, at: Served, key: str, job: str) -> bool:
    async with world.http.get(f"{at.url}/v2/transcript/{job}", headers={"Authorization": key}) as response:
        assert response.status == 200, await response.text()
        found = await response.json()
    assert (found["id"], found["status"] == "error") == (job, False)
    return bool(found["status"] == "completed")


async def _all_complete(world: World, at: list[Served], key: str, jobs: list[str]) -> None:
    """Poll every job, here and there, until each is over."""
    for number, job in enumerate(jobs):
        assert await until(partial(_completed, world, at[number % len(at)], key, job)), number


async def _charged_once_each(world: World, jobs: int) -> None:
    """So many charges of an hour, each for a call of its own; nothing is held, and the books agree."""
    found = [entry for entry in await world.ledger.entries("a", limit=1000) if entry.kind == "charge"]
    assert [-entry.amount for entry in found] == [HOUR] * jobs
    assert len({entry.operation for entry in found}) == jobs
    account = await world.ledger.account("a")
    assert (account.held, account.open_holds) == (0, 0)
    assert not await world.ledger.verify("a")


async def test_two_gateways_of_two_workers_share_one_queue(tmp_path: Path, empty_redis: str) -> None:
    """Submitted and polled at both: five at once over all of them, each job reaches the upstream once."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        world.sandbox.state.knobs = replace(world.sandbox.state.knobs, job_seconds=2)
        gateways = [await world.serve("one", workers=2), await world.serve("two", workers=2)]
        key = await world.open_account("a", tier="free", credit="50")
        jobs = [await _submit(world, gateways[number % 2], key, number) for number in range(JOBS)]
        await _all_complete(world, gateways, key, jobs)
        state = world.sandbox.state
        assert sorted(job.request["audio_url"] for job in state.jobs.values()) == sorted(map(audio, range(JOBS)))
        async with world.http.get(f"{world.sandbox.url}/sandbox/state") as response:
            assert (await response.json())["transcripts_most_at_once"] == PLACES
        await _charged_once_each(world, JOBS)
        assert {await served.end() for served in gateways} == {0}
        assert "".join(served.errors for served in gateways) == ""


async def test_what_a_killed_gateway_was_submitting_is_submitted_by_the_next(tmp_path: Path, empty_redis: str) -> None:
    """Killed between the claim and the upstream's answer: the job keeps its id and its place, and is charged once."""
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        state = world.sandbox.state
        state.knobs = replace(state.knobs, job_seconds=60)
        served = await world.serve("one")
        key = await world.open_account("a", tier="free", credit="50")
        *running, waiting = [await _submit(world, served, key, number) for number in range(PLACES + 1)]
        state.knobs = replace(state.knobs, job_seconds=0.05, latency_seconds=60)
        asked = len(state.entries)
        (first, *_) = [job for job in await world.ledger.jobs("a") if job.record.ref.id == running[0]]
        await world.ledger.release(account="a", hold_id=first.record.hold, resource=first.record.ref)

        async def submitting() -> bool:
            return any(entry.method == "POST" for entry in list(state.entries)[asked:])

        assert await until(submitting)
        await served.end(signal.SIGKILL)
        state.knobs = replace(state.knobs, latency_seconds=0)
        assert len(state.jobs) == PLACES
        other = await world.serve("two")
        await _all_complete(world, [other], key, [waiting])
        assert [job.request["audio_url"] for job in state.jobs.values()] == [audio(n) for n in range(PLACES + 1)]
        assert await world.charged("a") == [HOUR]
        assert (await world.ledger.account("a")).open_holds == PLACES - 1
        assert not await world.ledger.verify("a")
        assert await other.end() == 0
