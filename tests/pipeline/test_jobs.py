"""Transcription jobs: charged once, by whoever sees their end first, at the prices that they were admitted with."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import (
    beside,
    charges,
    finished,
    in_order,
    sandbox,
    skus,
    submit,
    submitted,
    until,
    without_rates,
)

EXPORTS = ("srt", "vtt", "sentences", "paragraphs", "word-search?words=the")
HOUR = parse_usd("0.21")


async def test_a_plain_job_holds_an_hour_of_the_dearest_model(gw: Running) -> None:
    """Before anything is known of the audio, one hour of the default model is set aside."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, 60)
    assert (await gw.ledger.account("a")).held == HOUR
    (hold,) = await gw.ledger.holds("a")
    assert hold.expires_ms - hold.created_ms > 86_000_000, "a job's hold lasts until its deadline"
    got = await finished(gw, key, path)
    assert got.charge == parse_usd("0.0035")
    await in_order(gw, "a", balance=parse_usd("49.9965"))


@pytest.mark.parametrize("export", EXPORTS)
async def test_an_export_before_any_poll_settles_the_job(gw: Running, export: str) -> None:
    """The result leaves only once the job is charged, whichever way it leaves."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key)
    await asyncio.sleep(0.1)
    got = await gw.call("GET", f"{path}/{export}", key)
    assert got.status == 200
    await in_order(gw, "a", balance=parse_usd("49.79"))
    assert (await finished(gw, key, path)).charge is None, "the poll after it is free"


async def test_what_a_job_cost_beyond_its_hold_is_counted(gw: Running) -> None:
    """Ten hours where one was held: nine are told to ops, whoever saw the end; a shorter one adds nothing."""
    key = await gw.open_account("a", credit="50")
    await finished(gw, key, await submitted(gw, key, 36_000))
    await finished(gw, key, await submitted(gw, key, 60))
    assert sum(gw.gateway.measured().count("gateway_charged_above_hold_nanos").values()) == 9 * HOUR
    await submitted(gw, key, 36_000)

    async def seen() -> bool:
        return sum(gw.gateway.measured().count("gateway_charged_above_hold_nanos").values()) == 18 * HOUR

    assert await until(seen), "the gateway looks by itself"


async def test_an_end_that_many_see_at_once_is_told_once(gw: Running) -> None:
    """Of polls that all find the job over, one says what it cost, and the metrics count what the ledger charged; also
    where it was a request about the transcript that found it over."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 0.2})
    late = sandbox(latency_seconds=0.5)  # all of them are on their way before the first is answered
    polls = await asyncio.gather(*(gw.call("GET", path, key, headers=late) for _ in range(8)))
    assert sorted(got.charge or 0 for got in polls) == [0] * 7 + [HOUR]
    transcript = (await submitted(gw, key, 60)).rpartition("/")[2]
    tasks = {"request": {"translation": {"target_languages": ["de"]}}}
    understood = {"transcript_id": transcript, "speech_understanding": tasks}

    async def over() -> bool:
        at_service = f"{gw.sandbox.url}/v2/transcript/{transcript}"
        async with gw.http.get(at_service, headers={"Authorization": "sandbox-service-key"}) as response:
            return bool((await response.json())["status"] == "completed")

    assert await until(over)
    assert (await gw.call("POST", "/v1/understanding", key, json=understood)).charge == parse_usd("0.001")
    charged = gw.gateway.measured().count("gateway_charges_nanos")
    assert sum(charged.values()) == sum(charge["amount"] for charge in await charges(gw, "a"))
    assert len(await charges(gw, "a")) == 3


async def test_an_export_that_overtakes_the_end_of_its_job_settles_it(gw: Running) -> None:
    """The job ends between the gateway's look and the upstream's answer: the result still leaves only when charged."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 0.15})
    got = await gw.call("GET", f"{path}/srt", key, headers=sandbox(latency_seconds=0.4))
    assert got.status == 200
    assert len(await charges(gw, "a")) == 1
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_an_export_of_an_unfinished_job_charges_nothing(gw: Running) -> None:
    """The upstream's refusal passes through, the job stays open, and is charged when it ends."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 0.4})
    got = await gw.call("GET", f"{path}/srt", key)
    assert got.status == 400
    assert got.code == ""
    assert (await gw.ledger.account("a")).held == HOUR
    assert (await finished(gw, key, path)).charge == HOUR


async def test_a_delete_settles_a_finished_job_first(gw: Running) -> None:
    """Deleting without having polled is no way around the charge; afterwards the job is gone, the charge stays."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key)
    await asyncio.sleep(0.1)
    assert (await gw.call("DELETE", path, key)).status == 200
    await in_order(gw, "a", balance=parse_usd("49.79"))
    got = await gw.call("GET", path, key)
    assert (got.status, got.code) == (404, "not_found")
    assert len(await charges(gw, "a")) == 1


async def test_a_delete_that_overtakes_the_end_of_its_job_settles_it(gw: Running) -> None:
    """The job ends between the gateway's look and its deletion: it ran, so it is charged."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 0.15})
    got = await gw.call("DELETE", path, key, headers=sandbox(latency_seconds=0.4))
    assert got.status == 200
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_delete_that_the_upstream_refuses_changes_nothing(gw: Running) -> None:
    """A running job cannot be deleted: it stays the customer's, with its hold, and is charged when it ends."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 0.3})
    assert (await gw.call("DELETE", path, key)).status == 400
    assert (await gw.ledger.account("a")).held == HOUR
    assert (await finished(gw, key, path)).charge == HOUR


async def test_many_polls_at_once_are_one_charge(gw: Running) -> None:
    """Twenty polls see the end together: one entry, and every one of them shows the result."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key)
    await asyncio.sleep(0.1)
    polls = await asyncio.gather(*(gw.call("GET", path, key) for _ in range(20)))
    assert {poll.json["status"] for poll in polls} == {"completed"}
    assert len(await charges(gw, "a")) == 1
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_polls_and_exports_and_deletes_at_once_are_one_charge(gw: Running) -> None:
    """However the end is seen, and by two processes at that, it is one charge."""
    key = await gw.open_account("a", tier="free", credit="50")
    for number in range(5):
        path = await submitted(gw, key)
        await asyncio.sleep(0.08)
        await asyncio.gather(
            *(gw.call("GET", path, key) for _ in range(3)),
            *(gw.call("GET", f"{path}/srt", key) for _ in range(3)),
            gw.call("DELETE", path, key),
        )
        assert len(await charges(gw, "a")) == number + 1
    await in_order(gw, "a", balance=parse_usd("48.95"))


async def test_a_failed_job_is_released_and_costs_nothing(gw: Running) -> None:
    """Status error, status 200: the hold is given back, no entry is written."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_status": "error"})
    got = await finished(gw, key, path)
    assert (got.json["status"], got.charge) == ("error", None)
    assert not await charges(gw, "a")
    await in_order(gw, "a", balance=parse_usd("50"))
    assert (await gw.call("GET", f"{path}/srt", key)).status == 400


async def test_a_refused_submission_costs_nothing(gw: Running) -> None:
    """What the upstream does not take holds nothing afterwards."""
    key = await gw.open_account("a", tier="free", credit="50")
    for body in ({"audio_url": "ftp://x"}, {"audio_url": ""}, {"redact_pii_audio": True}):
        got = await submit(gw, key, **body)
        assert (got.status, got.code) == (400, "")
    await in_order(gw, "a", balance=parse_usd("50"))


async def test_an_empty_answer_to_a_submission_is_no_job(gw: Running) -> None:
    """A success without a body names no job that anybody could ask for: its client is told so, and holds nothing."""
    key = await gw.open_account("a", credit="10")
    got = await submit(gw, key, knobs={"status": 204})
    assert (got.status, got.code) == (502, "upstream_unreachable")
    await in_order(gw, "a", balance=parse_usd("10"))


async def test_a_long_signed_address_is_an_address(gw: Running) -> None:
    """Signed URLs of object stores are longer than any id; they are the upstream's to fetch. There is an end to it: of
    one without end nobody could tell in time whose it is.
    """
    key = await gw.open_account("a", tier="free", credit="50")
    assert (await submit(gw, key, audio_url=f"https://example.com/a.wav?signature={'x' * 1800}")).status == 200
    got = await submit(gw, key, audio_url="https://" + "\u00ad" * 20_000 + "/a.wav")
    assert (got.status, got.code) == (400, "invalid_request")


async def test_a_job_without_a_duration_costs_its_hold_and_says_so(gw: Running) -> None:
    """Completed, but nothing reported: the hold is charged, marked as estimated."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"usage": "missing"})
    got = await finished(gw, key, path)
    assert got.charge == HOUR
    (charge,) = await charges(gw, "a")
    assert charge["basis"] == "estimated"
    await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_multichannel_audio_costs_each_channel(gw: Running) -> None:
    """The duration times the channels for the model; add-ons once."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, multichannel=True, sentiment_analysis=True)
    assert (await finished(gw, key, path)).charge == parse_usd("0.44")
    assert await skus(gw, "a") == {"stt.universal-3-pro": "7200", "understanding.sentiment_analysis": "3600"}


ADD_ONS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"speaker_labels": True}, {"stt.speaker_labels": "0.02"}),
    ({"keyterms_prompt": ["credit"]}, {"stt.keyterms": "0.05"}),
    ({"prompt": "It is about money."}, {"stt.prompting": "0.05"}),
    ({"domain": "medical-v1"}, {"stt.medical": "0.15"}),
    ({"entity_detection": True}, {"understanding.entity_detection": "0.08"}),
    ({"sentiment_analysis": True}, {"understanding.sentiment_analysis": "0.02"}),
    ({"auto_chapters": True}, {"understanding.auto_chapters": "0.08"}),
    ({"auto_highlights": True}, {"understanding.key_phrases": "0.01"}),
    ({"iab_categories": True}, {"understanding.topic_detection": "0.15"}),
    ({"summarization": True, "summary_type": "bullets"}, {"understanding.summarization": "0.03"}),
    ({"filter_profanity": True}, {"guardrails.profanity": "0.01"}),
    ({"redact_pii": True, "redact_pii_policies": ["person_name"]}, {"guardrails.pii_text": "0.08"}),
    (
        {"redact_pii": True, "redact_pii_audio": True},
        {"guardrails.pii_text": "0.08", "guardrails.pii_audio": "0.05"},
    ),
    ({"content_safety": True}, {"guardrails.content_moderation": "0.15"}),
    (
        {"speech_understanding": {"request": {"translation": {"target_languages": ["de", "es"]}}}},
        {"understanding.translation": "0.06"},
    ),
    (
        {
            "speaker_labels": True,
            "speech_understanding": {"request": {"speaker_identification": {"speaker_type": "role"}}},
        },
        {"stt.speaker_labels": "0.02", "understanding.speaker_identification": "0.02"},
    ),
    (
        {"speech_understanding": {"request": {"custom_formatting": {"date": "mm/dd/yyyy"}}}},
        {"understanding.custom_formatting": "0.03"},
    ),
    (
        {"speech_understanding": {"request": {"summarization": {"summary_type": "bullets"}}}},
        {"understanding.summarization": "0.03"},
    ),
    ({"language_detection": True, "punctuate": False, "disfluencies": True, "custom_spelling": []}, {}),
]


@pytest.mark.parametrize(("body", "added"), ADD_ONS, ids=["+".join(added) or "free" for _, added in ADD_ONS])
async def test_every_add_on_is_a_line_of_the_charge(gw: Running, body: dict[str, Any], added: dict[str, str]) -> None:
    """Each flag adds its own price for the same audio, to the hold and to the charge."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, **body)
    whole = HOUR + sum(parse_usd(usd) for usd in added.values())
    assert (await gw.ledger.account("a")).held == whole
    assert (await finished(gw, key, path)).charge == whole
    assert set(await skus(gw, "a")) == {"stt.universal-3-pro", *added}
    await in_order(gw, "a", balance=parse_usd("50") - whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "used", "sku", "charge"),
    [
        (["universal-3-5-pro", "universal-2"], "universal-2", "stt.universal-2", "0.15"),
        (["universal-2"], "universal-3-pro", "stt.universal-3-pro", "0.21"),
        (["universal-2"], "universal-9", "stt.universal-3-pro", "0.21"),
        (None, "universal-2", "stt.universal-2", "0.15"),
        (["universal-2"], None, "stt.universal-2", "0.15"),
    ],
)
async def test_the_model_that_ran_is_charged(
    gw: Running, asked: list[str] | None, used: str | None, sku: str, charge: str
) -> None:
    """What the finished transcript says counts, not what was asked for; one that nobody knows is the dearest."""
    key = await gw.open_account("a", tier="free", credit="50")
    body: dict[str, Any] = {"speech_models": asked} if asked else {}
    path = await submitted(gw, key, knobs={"model_used": used} if used else {}, **body)
    assert (await finished(gw, key, path)).charge == parse_usd(charge)
    assert await skus(gw, "a") == {sku: "3600"}


async def test_key_terms_are_part_of_universal_2(gw: Running) -> None:
    """Where the cheaper model ran, keyterms and prompts are not charged again."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, speech_models=["universal-2"], keyterms_prompt=["a"], prompt="b")
    assert (await finished(gw, key, path)).charge == parse_usd("0.15")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"brand_new_analysis": True}, "unpriced_field"),
        ({"brand_new_analysis": {}}, "unpriced_field"),
        ({"speech_understanding": {"request": {"brand_new": {"a": 1}}}}, "unpriced_field"),
        ({"speech_understanding": {"brand_new": {"a": 1}}}, "unpriced_field"),
        ({"speaker_options": {"brand_new": True}}, "unpriced_field"),
        ({"speech_models": ["universal-9"]}, "unknown_model"),
        ({"speech_models": ["universal-2", "universal-9"]}, "unknown_model"),
        ({"speech_model": "best"}, "unsupported"),
        ({"dual_channel": True}, "unsupported"),
    ],
)
async def test_what_has_no_price_is_refused(gw: Running, body: dict[str, Any], code: str) -> None:
    """A field or model that the price list does not know is a gap: 400, and nothing is forwarded."""
    key = await gw.open_account("a", tier="free", credit="50")
    got = await submit(gw, key, **body)
    assert (got.status, got.code) == (400, code)
    assert not await gw.seen()
    await in_order(gw, "a", balance=parse_usd("50"))


async def test_fields_that_are_off_are_nobodys_business(gw: Running) -> None:
    """An unknown field that is null or false costs nothing and is let through, as clients send them."""
    key = await gw.open_account("a", tier="free", credit="50")
    assert (await submit(gw, key, brand_new=None, other_new=False, more=[])).status == 200


async def test_a_job_keeps_the_prices_that_it_was_admitted_with(tmp_path: Path, empty_redis: str) -> None:
    """A new price list comes into force while the job runs: it settles at the old price, the next one at the new."""

    def dearer(data: dict[str, Any]) -> None:
        data["price_lists"].append(
            {
                "version": "2026-11-01", "effective_from": "2026-11-01T00:00:00Z",
                "prices": {"stt.universal-3-pro": {"per_hour": "9"}},
            }
        )  # fmt: skip

    async with running(tmp_path / "old", empty_redis) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        path = await submitted(gw, key)
        async with beside(gw, tmp_path / "new", empty_redis, {"config/prices.yaml": dearer}) as new:
            assert (await finished(new, key, path)).charge == HOUR
            assert (await charges(gw, "a"))[-1]["price_version"] == "2026-10-07"
            assert (await finished(new, key, await submitted(new, key))).charge == parse_usd("9")
            assert (await charges(gw, "a"))[-1]["price_version"] == "2026-11-01"
        await in_order(gw, "a", balance=parse_usd("40.79"))


async def test_a_job_is_settled_by_another_process_than_the_one_that_took_it(tmp_path: Path, empty_redis: str) -> None:
    """What a job needs is in the store: any gateway may see its end, also after the first one is gone."""
    async with running(tmp_path / "one", empty_redis) as gw:
        async with beside(gw, tmp_path / "two", empty_redis) as other:
            key = await gw.open_account("a", tier="free", credit="50")
            path = await submitted(other, key)
        assert (await finished(gw, key, path)).charge == HOUR
        await in_order(gw, "a", balance=parse_usd("49.79"))


async def test_a_large_result_is_charged_before_it_leaves(gw: Running) -> None:
    """A transcript too large to be answered whole by default: its first byte comes after the charge."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key)
    await asyncio.sleep(0.1)
    headers = {"Authorization": key, **sandbox(body_bytes=3_000_000, body="slow", chunk_bytes=500_000)}
    async with gw.http.get(gw.url + path, headers=headers) as response:
        await response.content.read(1000)
        assert len(await charges(gw, "a")) == 1
        response.close()
    await in_order(gw, "a", balance=parse_usd("49.79"))


@pytest.mark.parametrize("stays", [True, False])
async def test_a_result_that_is_larger_than_what_is_metered_is_charged(
    tmp_path: Path, empty_redis: str, stays: bool
) -> None:
    """Nothing is free for its size: what cannot be read costs the hold, whether or not its client stays to the end."""

    def little(data: dict[str, Any]) -> None:
        data["metered_body_bytes_max"] = 100_000
        data["drain_bytes_max"] = 0

    async with running(tmp_path, empty_redis, changes={"config/products/speech-to-text.yaml": little}) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        path = await submitted(gw, key, 60)
        await asyncio.sleep(0.1)
        headers = {"Authorization": key, **sandbox(body_bytes=9_000_000)}
        async with gw.http.get(gw.url + path, headers=headers) as response:
            if stays:
                assert len(await response.read()) > 9_000_000
            else:
                await response.content.read(1000)
                response.close()
        for _ in range(100):
            if await charges(gw, "a"):
                break
            await asyncio.sleep(0.02)
        (charge,) = await charges(gw, "a")
        assert charge["amount"] in (HOUR, parse_usd("0.0035"))
        assert (await gw.ledger.account("a")).held == 0


async def test_a_job_whose_creation_is_answered_at_endless_length_holds_nothing(
    tmp_path: Path, empty_redis: str
) -> None:
    """Too large to be read, and its client leaves: no job is known of it, nothing is charged, and no fault is ours."""

    def little(data: dict[str, Any]) -> None:
        data["metered_body_bytes_max"] = 100_000
        data["drain_bytes_max"] = 0

    async with running(tmp_path, empty_redis, changes={"config/products/speech-to-text.yaml": little}) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        headers = {"Authorization": key, **sandbox(body_bytes=9_000_000)}
        body = {"audio_url": "https://example.com/a.wav"}
        async with gw.http.post(f"{gw.url}/v2/transcript", json=body, headers=headers) as response:
            await response.content.read(1000)
            response.close()
        async with asyncio.timeout(30):
            while (await gw.ledger.account("a")).held:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
        assert not await charges(gw, "a")
        facts = {"event": "internal_error", "product": "speech-to-text"}
        assert not gw.gateway.measured().registry.get_sample_value("gateway_events_total", facts)


async def test_understanding_costs_the_audio_of_its_transcript(gw: Running) -> None:
    """Each task is charged for the duration that the job was settled on."""
    key = await gw.open_account("a", credit="10")
    path = await submitted(gw, key, 1800)
    await finished(gw, key, path)
    body = {
        "transcript_id": path.rpartition("/")[2],
        "speech_understanding": {
            "request": {"translation": {"target_languages": ["es", "de"]}, "summarization": {"summary_type": "bullets"}}
        },
    }
    got = await gw.call("POST", "/v1/understanding", key, json=body)
    assert got.status == 200
    assert got.charge == parse_usd("0.045")
    assert await skus(gw, "a") == {"understanding.translation": "1800", "understanding.summarization": "1800"}
    again = await gw.call("POST", "/v1/understanding", key, json=body)
    assert again.charge == parse_usd("0.045"), "asking again is another call"
    await in_order(gw, "a", balance=parse_usd("9.805"))


async def test_understanding_settles_the_transcript_that_nobody_polled(gw: Running) -> None:
    """The job is charged first, then the task on its audio."""
    key = await gw.open_account("a", credit="10")
    path = await submitted(gw, key, 1800)
    body = {
        "transcript_id": path.rpartition("/")[2],
        "speech_understanding": {"request": {"translation": {"target_languages": ["es"]}}},
    }
    await asyncio.sleep(0.1)
    assert (await gw.call("POST", "/v1/understanding", key, json=body)).charge == parse_usd("0.03")
    assert [charge["amount"] for charge in await charges(gw, "a")] == [parse_usd("0.105"), parse_usd("0.03")]


async def test_understanding_of_an_unfinished_or_failed_transcript_is_refused(gw: Running) -> None:
    """Its price is not known: 400 that says so, nothing charged."""
    key = await gw.open_account("a", credit="10")
    running_ = await submitted(gw, key, knobs={"job_seconds": 30})
    failed = await submitted(gw, key, knobs={"job_status": "error"})
    await finished(gw, key, failed)
    for path, code, told in ((running_, "job_not_finished", "not completed yet"), (failed, "job_failed", "no result")):
        body = {
            "transcript_id": path.rpartition("/")[2],
            "speech_understanding": {"request": {"translation": {"target_languages": ["es"]}}},
        }
        got = await gw.call("POST", "/v1/understanding", key, json=body)
        assert (got.status, got.code) == (400, code)
        assert told in str(got.json)
    assert not await charges(gw, "a")


@pytest.mark.parametrize(
    ("tasks", "code"),
    [({"brand_new": {"a": 1}}, "unpriced_field"), ({"brand_new": {}}, "unpriced_field")],
)
async def test_understanding_refuses_tasks_without_a_price(gw: Running, tasks: dict[str, Any], code: str) -> None:
    """A task that the price list does not know is refused before it is forwarded."""
    key = await gw.open_account("a", credit="10")
    path = await submitted(gw, key, 60)
    await finished(gw, key, path)
    seen = len(await gw.seen())
    body = {"transcript_id": path.rpartition("/")[2], "speech_understanding": {"request": tasks}}
    got = await gw.call("POST", "/v1/understanding", key, json=body)
    assert (got.status, got.code) == (400, code)
    assert len(await gw.seen()) == seen


async def test_understanding_that_runs_nothing_costs_nothing(gw: Running) -> None:
    """Without a task the upstream refuses, and no charge is made."""
    key = await gw.open_account("a", credit="10")
    path = await submitted(gw, key, 60)
    await finished(gw, key, path)
    body = {"transcript_id": path.rpartition("/")[2], "speech_understanding": {"request": {}}}
    assert (await gw.call("POST", "/v1/understanding", key, json=body)).status == 400
    assert len(await charges(gw, "a")) == 1
    for wrong in ({}, {"transcript_id": None}, {"transcript_id": ""}, {"transcript_id": 5}):
        got = await gw.call(
            "POST", "/v1/understanding", key, json={**body, **wrong, **({} if wrong else {"transcript_id": []})}
        )
        assert (got.status, got.code) == (400, "invalid_request")


async def test_redacted_audio_is_a_result_too(gw: Running) -> None:
    """Fetching it before any poll settles the job."""
    key = await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, redact_pii=True, redact_pii_audio=True)
    await asyncio.sleep(0.1)
    got = await gw.call("GET", f"{path}/redacted-audio", key)
    assert got.status == 200
    assert got.json["status"] == "redacted_audio_ready"
    await in_order(gw, "a", balance=parse_usd("49.66"))


async def test_the_holds_of_running_jobs_are_the_limit_of_concurrency(tmp_path: Path, empty_redis: str) -> None:
    """Without a queue a sixth job of a free account is told to wait; when one has ended there is room again."""

    def without_queue(data: dict[str, Any]) -> None:
        without_rates(data)
        data["tiers"]["free"]["products"]["speech-to-text"].pop("queued_max")

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": without_queue}) as gw:
        key = await gw.open_account("a", tier="free", credit="50")
        paths = [await submitted(gw, key, knobs={"job_seconds": 0.1}) for _ in range(5)]
        got = await submit(gw, key)
        assert (got.status, got.code) == (429, "too_many_concurrent")
        assert int(got.headers["Retry-After"]) >= 1
        assert "5" in got.json["error"]
        await finished(gw, key, paths[0])
        assert (await submit(gw, key)).status == 200


@pytest.mark.parametrize("padding", [0, 1_000_000])
async def test_ids_of_the_service_itself_do_not_leave(gw: Running, padding: int) -> None:
    """project_id and token_id are removed from every reply, whatever its size, and what is left is the upstream's."""
    key = await gw.open_account("a", tier="free", credit="50")
    made = await submit(gw, key, knobs={"body": "gzip"})
    assert "Content-Encoding" not in made.headers
    path = f"/v2/transcript/{made.json['id']}"
    done = await finished(gw, key, path)
    again = await gw.call("GET", path, key, headers=sandbox(body_bytes=padding))
    assert len(again.body) > padding
    for got in (made, done, again, await gw.call("DELETE", path, key)):
        assert got.status == 200
        assert not {"project_id", "token_id"} & got.json.keys()
        assert got.json["id"] == made.json["id"]
