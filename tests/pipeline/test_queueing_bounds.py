"""Jobs that wait, at the edges: what is kept of them, pages of them, their webhooks, accounts without credit."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.money import ZERO, parse_usd
from gateway.edge.clock import SystemClock
from gateway.edge.operations.jobs import JobOperations, open_jobs
from gateway.ports import ResourceRef
from tests.harness import ADMIN_TOKEN, Change, running
from tests.pipeline.helpers import charges, chat, finished, holding, submit, without_rates
from tests.pipeline.hooks import Hooks, called_back

TIERS = "config/tiers.yaml"


def places(**share: Any) -> dict[str, Change]:
    """One place, and a queue of four, unless it says otherwise."""

    def change(data: dict[str, Any]) -> None:
        without_rates(data)
        data["tiers"]["payg"]["products"]["speech-to-text"] = {"concurrency": 1, "queued_max": 4, **share}

    return {TIERS: change}


async def test_what_is_kept_of_a_job_that_waits_is_bounded(tmp_path: Path, empty_redis: str) -> None:
    """A large request runs where there is a place; where there is none it is refused, and nothing is held for it."""
    async with running(tmp_path, empty_redis, changes=places()) as gw:
        key = await gw.open_account("a", credit="10")
        large: dict[str, Any] = {"word_boost": ["x" * 1000] * 200}
        assert (await submit(gw, key, knobs={"job_seconds": 30}, **large)).status == 200
        held = (await gw.ledger.account("a")).held
        refused = await submit(gw, key, **large)
        assert (refused.status, refused.code) == (429, "too_many_concurrent")
        assert "Retry-After" in refused.headers
        assert ((await gw.ledger.account("a")).held, await gw.ledger.queued("a")) == (held, [])
        assert (await submit(gw, key)).json["status"] == "queued"
        assert not await gw.ledger.verify("a")


async def test_pages_go_through_the_queue_and_on_to_what_is_at_the_upstream(tmp_path: Path, empty_redis: str) -> None:
    """One at a time by the links of each page: every job once, newest first."""
    async with running(tmp_path, empty_redis, changes=places()) as gw:
        key = await gw.open_account("a", credit="10")
        made = [(await submit(gw, key, knobs={"job_seconds": 30})).json["id"] for _ in range(4)]
        for limit in (1, 2, 3):
            seen: list[str] = []
            path = f"/v2/transcript?limit={limit}"
            for _ in range(len(made)):
                page = (await gw.call("GET", path, key)).json
                seen += [item["id"] for item in page["transcripts"]]
                older = page["page_details"]["prev_url"]
                if older is None:
                    break
                path = older.removeprefix(gw.url)
            assert seen == made[::-1], limit


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_pages_after_a_job_lead_through_what_runs_into_the_queue(
    tmp_path: Path, empty_redis: str, limit: int
) -> None:
    """The newer ones next to it, though others' jobs are between; after one that waits, what waits behind it."""
    async with running(tmp_path, empty_redis, changes=places(concurrency=2, queued_max=3)) as gw:
        key, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
        made = []
        for _ in range(5):
            await submit(gw, other, knobs={"job_seconds": 30})
            made.append((await submit(gw, key, knobs={"job_seconds": 30})).json["id"])
        assert [ref.id for ref in await gw.ledger.queued("a")] == made[2:]
        seen = made[:1]
        while True:
            page = (await gw.call("GET", f"/v2/transcript?limit={limit}&after_id={seen[-1]}", key)).json
            found = [item["id"] for item in page["transcripts"]]
            assert len(found) <= limit
            if not found:
                break
            assert f"before_id={found[-1]}" in page["page_details"]["prev_url"]
            assert "after_id" not in page["page_details"]["prev_url"]
            seen += found[::-1]
        assert seen == made
        for first, last in ((0, 4), (1, 3), (2, 4), (3, 4)):
            between = f"/v2/transcript?before_id={made[last]}&after_id={made[first]}"
            found = [item["id"] for item in (await gw.call("GET", between, key)).json["transcripts"]]
            assert found == made[first + 1 : last][::-1]


async def test_a_job_that_waits_says_so_as_the_service_would(tmp_path: Path, empty_redis: str) -> None:
    """It is throttled, and is listed among those of its day only."""
    async with running(tmp_path, empty_redis, changes=places()) as gw:
        key = await gw.open_account("a", credit="10")
        runs = (await submit(gw, key, knobs={"job_seconds": 30})).json
        waits = (await submit(gw, key)).json
        assert (runs["throttled"], waits["throttled"]) == (False, True)
        (item, _) = (await gw.call("GET", "/v2/transcript", key)).json["transcripts"]
        day = item["created"][:10]
        for asked, count in ((day, 2), ("2020-01-01", 0)):
            page = (await gw.call("GET", f"/v2/transcript?created_on={asked}", key)).json
            assert len(page["transcripts"]) == count, asked


async def test_a_webhook_names_the_job_by_the_id_that_its_client_knows(tmp_path: Path, empty_redis: str) -> None:
    """Of a job that waited, called by the service itself; its header comes with it, its value is shown to nobody."""
    async with running(tmp_path, empty_redis, changes={**called_back(), **places()}) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="10")
        await gw.knobs(job_seconds=1.0)
        first = (await submit(gw, key)).json["id"]
        hook: dict[str, Any] = {
            "webhook_url": hooks.url("/hook"),
            "webhook_auth_header_name": "X-My",
            "webhook_auth_header_value": "s3",
        }
        waits = (await submit(gw, key, **hook)).json
        assert (waits["status"], waits["webhook_url"]) == ("queued", hook["webhook_url"])
        assert "s3" not in str(waits.values())
        await finished(gw, key, f"/v2/transcript/{first}")
        (told,) = await hooks.hears("/hook", 1)
        assert (orjson.loads(told.body)["transcript_id"], told.headers["X-My"]) == (waits["id"], "s3")
        assert len(await charges(gw, "a")) == 2


async def test_a_job_that_waited_is_known_by_the_services_id_too(tmp_path: Path, empty_redis: str) -> None:
    """Where the service calls clients itself it names no other: whatever takes an id takes it, of its account."""
    async with running(tmp_path, empty_redis, changes=places()) as gw, Hooks() as hooks:
        key, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
        await gw.knobs(job_seconds=0.5)
        first = (await submit(gw, key)).json["id"]
        ours = (await submit(gw, key, webhook_url=hooks.url("/hook"), speaker_labels=True)).json["id"]
        await finished(gw, key, f"/v2/transcript/{first}")
        (told,) = await hooks.hears("/hook", 1)
        theirs = orjson.loads(told.body)["transcript_id"]
        assert theirs != ours
        assert (await finished(gw, key, f"/v2/transcript/{theirs}")).json["id"] == ours
        task = {
            "transcript_id": theirs,
            "speech_understanding": {"request": {"translation": {"target_languages": ["es"]}}},
        }
        understood = await gw.call("POST", "/v1/understanding", key, json=task)
        assert (understood.status, understood.charge) == (200, parse_usd("0.06"))
        assert (await gw.call("GET", f"/v2/transcript/{theirs}/sentences", key)).json["id"] == ours
        held = {}
        for named in (None, ours, theirs):  # its text is in the prompt, however it is named
            call = asyncio.create_task(chat(gw, key, {"transcript_id": named}, latency_seconds=0.5))
            held[named] = await holding(gw, "a")
            assert (await call).status == 200
        assert held[theirs] == held[ours] > held[None]
        for method, path in (("GET", ""), ("GET", "/srt"), ("DELETE", "")):
            assert (await gw.call(method, f"/v2/transcript/{theirs}{path}", other)).code == "not_found"
        assert (await gw.call("POST", "/v1/understanding", other, json=task)).code == "not_found"
        assert (await gw.call("DELETE", f"/v2/transcript/{theirs}", key)).json["id"] == ours
        for gone in (ours, theirs):
            assert (await gw.call("GET", f"/v2/transcript/{gone}", key)).code == "not_found"
        assert len(await charges(gw, "a")) == 6


@pytest.mark.parametrize("how", ["refused", "released", "given back"])
async def test_a_client_is_told_at_once_of_a_job_that_will_never_run(
    tmp_path: Path, empty_redis: str, how: str
) -> None:
    """The service was not given it, so nobody waits for its callback; nothing is charged or held for it."""
    changes = {**called_back(grace_seconds=600), **places()}
    async with running(tmp_path, empty_redis, changes=changes) as gw, Hooks() as hooks:
        key = await gw.open_account("a", credit="10")
        await gw.knobs(job_seconds=0.3 if how == "refused" else 30)
        first = (await submit(gw, key)).json["id"]
        waits = (await submit(gw, key, audio_url="ftp://example.com/a", webhook_url=hooks.url("/hook"))).json["id"]
        ref = ResourceRef(kind="transcript", id=waits)
        if how == "released":
            upstreams = gw.gateway.upstreams
            desk = JobOperations(ledger=gw.ledger, runtime=gw.runtime, upstreams=upstreams, clock=SystemClock())
            await desk.release_job("a", ref)
        elif how == "given back":
            record = await gw.ledger.resource(account="a", ref=ref)
            assert record is not None
            url = f"{gw.ops_url}/admin/v1/accounts/a/holds/{record.hold}/release"
            async with gw.http.post(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as response:
                assert (await response.json())["released"] is True
        else:
            await finished(gw, key, f"/v2/transcript/{first}")
        (told,) = await hooks.hears("/hook", 1, seconds=30)
        assert orjson.loads(told.body) == {"transcript_id": waits, "status": "error"}
        assert (await finished(gw, key, f"/v2/transcript/{waits}")).json["status"] == "error"
        assert [job.record.ref for job in await open_jobs(gw.ledger, "a", limit=10) if job.record.ref == ref] == []
        assert [each.request["audio_url"] for each in gw.sandbox.state.jobs.values()].count("ftp://example.com/a") == 0


async def test_without_credit_the_queue_hands_out_no_more_than_the_plan_says(tmp_path: Path, empty_redis: str) -> None:
    """Three places with credit, one without: jobs for which nothing is held run one after the other."""
    changes = places(concurrency=3, when_negative={"concurrency": 1})
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="0.10")
        await gw.knobs(job_seconds=0.3)
        first = (await submit(gw, key)).json["id"]
        await finished(gw, key, f"/v2/transcript/{first}")
        assert (await gw.ledger.account("a")).balance < ZERO
        made = [(await submit(gw, key)).json["id"] for _ in range(3)]
        for job in made:
            assert (await finished(gw, key, f"/v2/transcript/{job}")).json["status"] == "completed"
        async with gw.http.get(f"{gw.sandbox.url}/sandbox/state") as response:
            assert (await response.json())["transcripts_most_at_once"] == 1
        assert not await gw.ledger.verify("a")
