"""Receipts of every product at the shipped prices, computed by hand from the contract's list.

90 seconds are a fortieth of an hour: an add-on of 0.08 an hour is 0.08/40 = 0.002.
"""

from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, format_usd
from gateway.core.parameters import parameters_of
from gateway.core.pricing import Charge, PriceTable
from gateway.pipeline import pricing
from gateway.settings.load import load
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime
from tests.settings.project import ROOT, Project

Receipt = dict[str, str]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    """The shipped config."""
    return load(ROOT / "gateway.yaml", {})


def route_of(runtime: Runtime, name: str) -> Route:
    """A route by its name."""
    return next(route for route in runtime.routes if route.name == name)


def charge_of(runtime: Runtime, name: str, table: PriceTable | None = None, **sources: Any) -> Charge:
    """What a call of a route costs."""
    route = route_of(runtime, name)
    metering = route.job.metering if route.job is not None else route.metering
    assert metering is not None
    table = table or runtime.prices.tables["2026-04-07", "standard"]
    priced = pricing.price(metering, pricing.ran_model(route.product, sources), sources, table, Nanos(0))
    assert priced is not None
    charge, _ = priced
    assert charge.basis == "reported"
    assert charge.amount == sum(item.amount for item in charge.items)
    return charge


def receipt(charge: Charge) -> Receipt:
    """The lines by SKU (equal ones joined), and the sum."""
    lines: dict[str, int] = {}
    for item in charge.items:
        lines[item.sku] = lines.get(item.sku, 0) + item.amount
    return {**{sku: format_usd(amount) for sku, amount in lines.items()}, "sum": format_usd(charge.amount)}


def transcript(runtime: Runtime, table: PriceTable | None = None, **fields: Any) -> Charge:
    """The charge of a finished transcript of 90 seconds that says of itself what is in `fields`."""
    reply = {"id": "t", "status": "completed", "audio_duration": 90, "speech_model_used": "universal-2", **fields}
    return charge_of(runtime, "transcript.create", table, reply=reply, job={})


# ---- pre-recorded speech-to-text


def test_the_models(runtime: Runtime) -> None:
    """Each model at its own rate, to the second, rounded up at half a nano."""
    # 90 s x 0.15/h = 0.00375; 90 s x 0.21/h = 0.00525; 70 s x 0.21/3600 = 0.0040833333...
    assert receipt(transcript(runtime)) == {"stt.universal-2": "0.003750000", "sum": "0.003750000"}
    pro = {"stt.universal-3-pro": "0.005250000", "sum": "0.005250000"}
    assert receipt(transcript(runtime, speech_model_used="universal-3-pro")) == pro
    assert receipt(transcript(runtime, speech_model_used="universal-3-5-pro")) == pro
    assert (
        receipt(transcript(runtime, speech_model_used="universal-3-5-pro", audio_duration=70))["sum"] == "0.004083333"
    )


def test_what_ran_is_charged(runtime: Runtime) -> None:
    """The model in the reply counts; without it the first asked for; unknown and silent ones cost the dearest."""
    both = {"speech_models": ["universal-3-5-pro", "universal-2"]}
    reply = {"status": "completed", "audio_duration": 90}

    def sku(reply: dict[str, Any], job: dict[str, Any]) -> str:
        return charge_of(runtime, "transcript.create", reply=reply, job=job).items[0].sku

    assert sku({**reply, "speech_model_used": "universal-2"}, both) == "stt.universal-2"
    assert sku({**reply, "speech_model_used": None}, {"speech_models": ["universal-2"]}) == "stt.universal-2"
    assert sku({**reply, "speech_model_used": "universal-9"}, both) == "stt.universal-3-pro"
    assert sku(reply, {}) == "stt.universal-3-pro"


#: What the finished transcript says, and the add-on's line for 90 seconds: its rate per hour / 40.
ADD_ONS: list[tuple[dict[str, Any], str, str]] = [
    ({"speaker_labels": True}, "stt.speaker_labels", "0.000500000"),  # 0.02
    ({"metadata": {"domain_used": "medical-v1"}}, "stt.medical", "0.003750000"),  # 0.15
    ({"domain": "medical-v1"}, "stt.medical", "0.003750000"),
    ({"entity_detection": True}, "understanding.entity_detection", "0.002000000"),  # 0.08
    ({"sentiment_analysis": True}, "understanding.sentiment_analysis", "0.000500000"),  # 0.02
    ({"auto_chapters": True}, "understanding.auto_chapters", "0.002000000"),  # 0.08
    ({"auto_highlights": True}, "understanding.key_phrases", "0.000250000"),  # 0.01
    ({"iab_categories": True}, "understanding.topic_detection", "0.003750000"),  # 0.15
    ({"summarization": True}, "understanding.summarization", "0.000750000"),  # 0.03
    ({"filter_profanity": True}, "guardrails.profanity", "0.000250000"),  # 0.01
    ({"redact_pii": True}, "guardrails.pii_text", "0.002000000"),  # 0.08
    ({"redact_pii_audio": True}, "guardrails.pii_audio", "0.001250000"),  # 0.05
    ({"content_safety": True}, "guardrails.content_moderation", "0.003750000"),  # 0.15
]
TASKS = [
    ("speaker_identification", "0.000500000"),  # 0.02
    ("translation", "0.001500000"),  # 0.06
    ("custom_formatting", "0.000750000"),  # 0.03
    ("summarization", "0.000750000"),  # 0.03
]


@pytest.mark.parametrize(
    ("flags", "sku", "amount"), ADD_ONS, ids=[f"{sku}-{next(iter(flags))}" for flags, sku, _ in ADD_ONS]
)
def test_each_add_on(runtime: Runtime, flags: dict[str, Any], sku: str, amount: str) -> None:
    """An add-on is a line of its own beside the model's, by the same seconds."""
    found = receipt(transcript(runtime, **flags))
    assert found.keys() == {"stt.universal-2", sku, "sum"}
    assert found[sku] == amount


@pytest.mark.parametrize(
    ("flags", "sku", "amount"), ADD_ONS, ids=[f"{sku}-{next(iter(flags))}" for flags, sku, _ in ADD_ONS]
)
def test_the_request_counts_where_the_reply_is_silent(
    runtime: Runtime, flags: dict[str, Any], sku: str, amount: str
) -> None:
    """A flag that the reply does not echo is charged as it was asked for; one that it denies is not."""
    reply = {"status": "completed", "audio_duration": 90, "speech_model_used": "universal-2"}
    if "metadata" in flags:
        return  # only a reply says this
    assert receipt(charge_of(runtime, "transcript.create", reply=reply, job=flags))[sku] == amount
    denied = {**reply, **dict.fromkeys(flags, False)}
    assert sku not in receipt(charge_of(runtime, "transcript.create", reply=denied, job=flags))


@pytest.mark.parametrize(("task", "amount"), TASKS)
def test_each_inline_task(runtime: Runtime, task: str, amount: str) -> None:
    """Speech understanding within the job: charged by its response, else by its request."""
    response = {"request": {task: {}}, "response": {task: {"status": "success"}}}
    assert receipt(transcript(runtime, speech_understanding=response))[f"understanding.{task}"] == amount
    asked = {"request": {task: {"x": 1}}, "response": None}
    assert receipt(transcript(runtime, speech_understanding=asked))[f"understanding.{task}"] == amount
    assert f"understanding.{task}" not in receipt(transcript(runtime, speech_understanding={"request": {task: None}}))


def test_keyterms_and_prompts(runtime: Runtime) -> None:
    """0.05 an hour each with Universal-3 Pro, included in Universal-2."""
    fields: dict[str, Any] = {"keyterms_prompt": ["gateway"], "prompt": "A talk."}
    assert receipt(transcript(runtime, **fields)) == {"stt.universal-2": "0.003750000", "sum": "0.003750000"}
    assert receipt(transcript(runtime, speech_model_used="universal-3-pro", **fields)) == {
        "stt.universal-3-pro": "0.005250000",
        "stt.keyterms": "0.001250000",  # 0.05/40
        "stt.prompting": "0.001250000",
        "sum": "0.007750000",
    }


def test_experimental_speaker_labels(runtime: Runtime) -> None:
    """0.065 an hour in all; only with speaker labels, and only by that method."""
    options = {"long_file_diarization_method": "experimental"}
    found = receipt(transcript(runtime, speaker_labels=True, speaker_options=options))
    assert found["stt.speaker_labels"] == "0.000500000"  # 0.02/40
    assert found["stt.speaker_labels_experimental"] == "0.001125000"  # 0.045/40: 0.001625 = 0.065/40 together
    assert receipt(transcript(runtime, speaker_options=options)).keys() == {"stt.universal-2", "sum"}
    standard = {"long_file_diarization_method": "standard"}
    assert "stt.speaker_labels_experimental" not in receipt(
        transcript(runtime, speaker_labels=True, speaker_options=standard)
    )


def test_multichannel(runtime: Runtime) -> None:
    """Channels multiply the model's line and no add-on's."""
    found = receipt(transcript(runtime, multichannel=True, audio_channels=2, redact_pii=True))
    assert found == {
        "stt.universal-2": "0.007500000",  # 2 x 0.00375
        "guardrails.pii_text": "0.002000000",
        "sum": "0.009500000",
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [(None, 3_750_000), (0, 3_750_000), (0.001, 3_750_000), (1.5, 5_625_000), (32, 120_000_000)]
    + [(said, "hold") for said in (33, 10**9, 10**30, -1, "two", True, [2])],
)
def test_absurd_channels_are_neither_free_nor_a_fortune(runtime: Runtime, said: Any, expected: int | str) -> None:
    """What multiplies a price is at least one; a report of what no audio has is none, and the hold is charged."""
    route = route_of(runtime, "transcript.create")
    assert route.job is not None
    reply = {"id": "t", "status": "completed", "audio_duration": 90, "speech_model_used": "universal-2"}
    sources = {"reply": reply | {"audio_channels": said}, "job": {}}
    table = runtime.prices.tables["2026-04-07", "standard"]
    priced = pricing.price(route.job.metering, "universal-2", sources, table, Nanos(77))
    assert priced is not None
    assert (priced[0].amount, priced[0].basis) == ((77, "estimated") if expected == "hold" else (expected, "reported"))
    silent = {"reply": reply | {"audio_channels": 0, "audio_duration": 0}, "job": {}}
    nothing = pricing.price(route.job.metering, "universal-2", silent, table, Nanos(77))
    assert nothing is not None and nothing[0].amount == 0, "of no audio there are no channels"


EVERYTHING = {
    "stt.universal-3-pro": "0.010500000",  # 2 x 0.21/40
    "stt.speaker_labels": "0.000500000",  # 0.02/40
    "stt.speaker_labels_experimental": "0.001125000",  # 0.045/40
    "stt.keyterms": "0.001250000",  # 0.05/40
    "stt.prompting": "0.001250000",  # 0.05/40
    "stt.medical": "0.003750000",  # 0.15/40
    "understanding.entity_detection": "0.002000000",  # 0.08/40
    "understanding.sentiment_analysis": "0.000500000",  # 0.02/40
    "understanding.auto_chapters": "0.002000000",  # 0.08/40
    "understanding.key_phrases": "0.000250000",  # 0.01/40
    "understanding.topic_detection": "0.003750000",  # 0.15/40
    "understanding.summarization": "0.001500000",  # 0.03/40, the flag and the task
    "understanding.speaker_identification": "0.000500000",  # 0.02/40
    "understanding.translation": "0.001500000",  # 0.06/40
    "understanding.custom_formatting": "0.000750000",  # 0.03/40
    "guardrails.profanity": "0.000250000",  # 0.01/40
    "guardrails.pii_text": "0.002000000",  # 0.08/40
    "guardrails.pii_audio": "0.001250000",  # 0.05/40
    "guardrails.content_moderation": "0.003750000",  # 0.15/40
    "sum": "0.038375000",
}


def test_everything_at_once(runtime: Runtime) -> None:
    """One transcript of 90 seconds and two channels with every add-on that there is, by its reply or by its request."""
    tasks: dict[str, Any] = {task: {"status": "success"} for task, _ in TASKS}
    flags: dict[str, Any] = {
        "speaker_labels": True, "speaker_options": {"long_file_diarization_method": "experimental"},
        "keyterms_prompt": ["a"], "prompt": "p", "domain": "medical-v1", "entity_detection": True,
        "sentiment_analysis": True, "auto_chapters": True, "auto_highlights": True, "iab_categories": True,
        "summarization": True, "filter_profanity": True, "redact_pii": True, "redact_pii_audio": True,
        "content_safety": True,
    }  # fmt: skip
    ran: dict[str, Any] = {"speech_model_used": "universal-3-5-pro", "multichannel": True, "audio_channels": 2}
    told = transcript(runtime, **ran, **flags, speech_understanding={"response": tasks})
    assert receipt(told) == EVERYTHING
    reply = {"status": "completed", "audio_duration": 90, **ran}
    asked = {**flags, "speech_understanding": {"request": tasks}}
    assert receipt(charge_of(runtime, "transcript.create", reply=reply, job=asked)) == EVERYTHING


def test_every_line_of_a_transcript_is_here(runtime: Runtime) -> None:
    """No line of the job's charge is without a receipt."""
    job = route_of(runtime, "transcript.create").job
    assert job is not None
    skus = {rule.sku.replace("{model}", "universal-3-pro") for rule in job.metering.rules}
    assert skus == EVERYTHING.keys() - {"sum"}


def test_a_silent_job_costs_nothing_for_no_audio(runtime: Runtime) -> None:
    """Zero seconds are a report: a charge of nothing, with no line."""
    assert receipt(transcript(runtime, audio_duration=0, redact_pii=True)) == {"sum": "0.000000000"}


# ---- speech understanding


@pytest.mark.parametrize(("task", "amount"), TASKS)
def test_understanding(runtime: Runtime, task: str, amount: str) -> None:
    """Each task by the seconds of the job that was settled, whatever the reply says of audio."""
    request = {"transcript_id": "t", "speech_understanding": {"request": {task: {"x": 1}}}}
    reply = {"request_id": "r", "speech_understanding": {"response": {task: {"status": "success"}}}}
    job = {"usage": {"audio_seconds": 90, "audio_channels": 2}}
    found = charge_of(runtime, "understanding.create", request=request, reply=reply, job=job)
    assert receipt(found) == {f"understanding.{task}": amount, "sum": amount}


def test_understanding_of_several_tasks(runtime: Runtime) -> None:
    """Translation into any number of languages is one task; several tasks are several lines."""
    tasks = {"translation": {"target_languages": ["es", "de", "fr"]}, "summarization": {"summary_type": "bullets"}}
    request = {"transcript_id": "t", "speech_understanding": {"request": tasks}}
    found = charge_of(
        runtime, "understanding.create", request=request, reply={}, job={"usage": {"audio_seconds": 1800}}
    )
    assert receipt(found) == {
        "understanding.translation": "0.030000000",  # 0.06/2
        "understanding.summarization": "0.015000000",  # 0.03/2
        "sum": "0.045000000",
    }


# ---- streaming speech-to-text: 90 seconds of an open session


def session(
    runtime: Runtime,
    query: str = "",
    *,
    configuration: dict[str, Any] | None = None,
    update: dict[str, Any] | None = None,
    table: PriceTable | None = None,
) -> Receipt:
    """The receipt of a session opened with this query, that says this of itself, after an update by its client."""
    frame = {"type": "Termination", "configuration": configuration or {}, "session_duration_seconds": 90}
    sources = {"query": parameters_of(query), "frame": frame, **({"request": update} if update is not None else {})}
    return receipt(charge_of(runtime, "streaming.session", table, **sources))


STREAMING_MODELS = [
    ("universal-streaming-english", "streaming.universal-streaming", "0.003750000"),  # 0.15/40
    ("universal-streaming-multilingual", "streaming.universal-streaming", "0.003750000"),
    ("u3-rt-pro", "streaming.universal-3-pro", "0.011250000"),  # 0.45/40
    ("u3-rt-pro-beta-1", "streaming.universal-3-pro", "0.011250000"),
    ("u3-pro", "streaming.universal-3-pro", "0.011250000"),
    ("universal-3-5-pro", "streaming.universal-3-pro", "0.011250000"),
    ("universal-3-6", "streaming.universal-3-pro", "0.011250000"),
    ("universal-3-6-pro", "streaming.universal-3-pro", "0.011250000"),
    ("whisper-rt", "streaming.whisper", "0.007500000"),  # 0.30/40
]


@pytest.mark.parametrize(("model", "sku", "amount"), STREAMING_MODELS)
def test_each_streaming_model(runtime: Runtime, model: str, sku: str, amount: str) -> None:
    """The model that the session says it runs, else the one that was asked for."""
    expected = {sku: amount, "sum": amount}
    assert session(runtime, f"speech_model={model}") == expected
    assert session(runtime, "speech_model=whisper-rt", configuration={"model": model}) == expected


def test_every_streaming_model_is_here(runtime: Runtime) -> None:
    """No model of the config is without a receipt."""
    models = runtime.products["streaming-speech-to-text"].models
    assert models is not None and models.known.keys() == {model for model, _, _ in STREAMING_MODELS}


def test_no_streaming_model_and_an_unknown_one(runtime: Runtime) -> None:
    """Without a word it is the default; what runs and is not listed costs what the dearest does."""
    assert session(runtime)["streaming.universal-streaming"] == "0.003750000"
    unknown = session(runtime, configuration={"model": "universal-9"})
    assert unknown == {"streaming.universal-3-pro": "0.011250000", "sum": "0.011250000"}


STREAMING_ADD_ONS = [
    ("keyterms_prompt=%5B%22gateway%22%5D", "streaming.keyterms", "0.001000000"),  # 0.04/40
    ("prompt=A+talk.", "streaming.prompting", "0.001250000"),  # 0.05/40
    ("domain=medical-v1", "streaming.medical", "0.003750000"),  # 0.15/40
    ("speaker_labels=true", "streaming.speaker_labels", "0.003000000"),  # 0.12/40
    ("redact_pii=True", "guardrails.pii_text", "0.002000000"),  # 0.08/40
    ("filter_profanity=1", "guardrails.profanity", "0.000250000"),  # 0.01/40
]


@pytest.mark.parametrize(("query", "sku", "amount"), STREAMING_ADD_ONS)
def test_each_streaming_add_on(runtime: Runtime, query: str, sku: str, amount: str) -> None:
    """An add-on that was asked for is a line of its own; one that is off is none."""
    found = session(runtime, query)
    assert found.keys() == {"streaming.universal-streaming", sku, "sum"}
    assert found[sku] == amount
    for off in ("false", "False", "0", "", "[]", "null"):
        assert sku not in session(runtime, f"{query.partition('=')[0]}={off}")


def test_what_the_session_says_of_itself_counts(runtime: Runtime) -> None:
    """A flag that the session denies is not charged, one that it has is, whatever was asked for."""
    flags = {"redact_pii": False, "speaker_labels": False, "filter_profanity": False}
    assert session(runtime, "redact_pii=true&speaker_labels=true&filter_profanity=true", configuration=flags) == {
        "streaming.universal-streaming": "0.003750000", "sum": "0.003750000",
    }  # fmt: skip
    found = session(runtime, configuration={**dict.fromkeys(flags, True), "domain": "medical-v2"})
    assert found["sum"] == "0.012750000"  # 0.00375 + 0.002 + 0.003 + 0.00025 + 0.00375


def test_what_the_client_changes_counts_from_then_on(runtime: Runtime) -> None:
    """An update switches on, and off again, whatever was asked for or said before."""
    update = {"type": "UpdateConfiguration", "keyterms_prompt": ["a"], "prompt": "p", "filter_profanity": True}
    assert session(runtime, configuration={"filter_profanity": False}, update=update) == {
        "streaming.universal-streaming": "0.003750000", "streaming.keyterms": "0.001000000",
        "streaming.prompting": "0.001250000", "guardrails.profanity": "0.000250000", "sum": "0.006250000",
    }  # fmt: skip
    off = {"type": "UpdateConfiguration", "keyterms_prompt": [], "prompt": "", "filter_profanity": False}
    query = "keyterms_prompt=%5B%22a%22%5D&prompt=p&filter_profanity=true"
    assert session(runtime, query, update=off)["sum"] == "0.003750000"


def test_keyterms_are_included_in_the_dearest_model(runtime: Runtime) -> None:
    """Prompts are not."""
    found = session(runtime, "speech_model=u3-rt-pro&keyterms_prompt=%5B%22a%22%5D&prompt=p")
    assert found == {
        "streaming.universal-3-pro": "0.011250000", "streaming.prompting": "0.001250000", "sum": "0.012500000",
    }  # fmt: skip


def test_every_streaming_add_on_at_once(runtime: Runtime) -> None:
    """One session of 90 seconds with everything that there is, and at another rate card."""
    query = "&".join(["speech_model=whisper-rt", *(query for query, _, _ in STREAMING_ADD_ONS)])
    assert session(runtime, query)["sum"] == "0.018750000"  # 0.0075 and 0.01125 of add-ons
    nonprofit = runtime.prices.tables["2026-04-07", "nonprofit"]
    assert session(runtime, query, table=nonprofit)["sum"] == "0.015000000"  # 20 % off everything


# ---- voice agents


@pytest.mark.parametrize(
    ("seconds", "amount"),
    [
        (3600, "4.500000000"),
        (60, "0.075000000"),
        (14.084401, "0.017605501"),  # 14.084401 x 0.00125 = 0.01760550125
        (0.0004, "0.000000500"),
        (0, "0.000000000"),
    ],
)
def test_a_voice_agent(runtime: Runtime, seconds: float, amount: str) -> None:
    """4.50 an hour of the reported seconds, fractions included, exactly; everything else is in it."""
    frame = {"session_id": "s", "session_duration_seconds": seconds, "audio_duration_seconds": None}
    found = receipt(charge_of(runtime, "agent.session", query={}, frame=frame))
    assert found == {**({"voice-agent.session": amount} if seconds else {}), "sum": amount}


# ---- LLM gateway


def completion(runtime: Runtime, model: str, usage: dict[str, Any], table: PriceTable | None = None) -> Receipt:
    """The receipt of a chat completion that this model answered."""
    request = {"model": "gpt-5.2"}
    return receipt(
        charge_of(runtime, "chat.completions", table, request=request, reply={"model": model, "usage": usage})
    )


#: Dollars per million tokens in and out: a million of each, so the list itself.
MODELS = [
    ("gpt-5.2", "1.750000000", "14.000000000"),
    ("gpt-5.1", "1.250000000", "10.000000000"),
    ("gpt-4.1", "2.000000000", "8.000000000"),
    ("claude-sonnet-4-6", "3.000000000", "15.000000000"),
    ("claude-opus-4-6", "5.000000000", "25.000000000"),
    ("claude-3-5-haiku", "0.800000000", "4.000000000"),
    ("gemini-2.5-flash", "0.300000000", "2.500000000"),
    ("qwen3-32b", "0.150000000", "0.600000000"),
    ("qwen3.5-4b-32k-fast", "0.100000000", "0.500000000"),
]


@pytest.mark.parametrize(("model", "tokens_in", "tokens_out"), MODELS)
def test_each_model(runtime: Runtime, model: str, tokens_in: str, tokens_out: str) -> None:
    """A million tokens in and out cost what the list says, by either naming scheme."""
    for usage in (
        {"prompt_tokens": 10**6, "completion_tokens": 10**6, "total_tokens": 2 * 10**6},
        {"input_tokens": 10**6, "output_tokens": 10**6},
    ):
        found = completion(runtime, model, usage)
        assert (found[f"llm.{model}.input"], found[f"llm.{model}.output"]) == (tokens_in, tokens_out)


def test_cached_and_reasoning_tokens(runtime: Runtime) -> None:
    """Cached tokens have a price of their own; reasoning tokens cost what output does, on a line of their own."""
    usage = {
        "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }  # fmt: skip
    reply = {"model": "gpt-5.2", "usage": usage}
    charge = charge_of(runtime, "chat.completions", request={}, reply=reply)
    assert [(item.sku, item.quantity, format_usd(item.amount)) for item in charge.items] == [
        ("llm.gpt-5.2.input", "600", "0.001050000"),  # 600 x 1.75/1e6
        ("llm.gpt-5.2.cached_input", "400", "0.000070000"),  # 400 x 0.175/1e6
        ("llm.gpt-5.2.output", "70", "0.000980000"),  # 70 x 14/1e6
        ("llm.gpt-5.2.output", "30", "0.000420000"),  # 30 x 14/1e6, reasoning
    ]
    assert format_usd(charge.amount) == "0.002520000"


def test_cache_writes(runtime: Runtime) -> None:
    """Writing a cache costs more than reading the input, for an hour even more."""
    usage = {
        "prompt_tokens": 10_000, "completion_tokens": 10,
        "prompt_tokens_details": {
            "cached_tokens": 2000, "cache_write_tokens": 5000,
            "cache_creation": {"ephemeral_5m_input_tokens": 4000, "ephemeral_1h_input_tokens": 1000},
        },
    }  # fmt: skip
    assert completion(runtime, "claude-sonnet-4-6", usage) == {
        "llm.claude-sonnet-4-6.input": "0.009000000",  # (10000 - 2000 - 5000) x 3/1e6
        "llm.claude-sonnet-4-6.cached_input": "0.000600000",  # 2000 x 0.3/1e6
        "llm.claude-sonnet-4-6.cache_write": "0.015000000",  # (5000 - 1000) x 3.75/1e6
        "llm.claude-sonnet-4-6.cache_write_1h": "0.006000000",  # 1000 x 6/1e6
        "llm.claude-sonnet-4-6.output": "0.000150000",  # 10 x 15/1e6
        "sum": "0.030750000",
    }


def test_caches_without_a_price(runtime: Runtime) -> None:
    """A model without cache prices pays the input's for every token of the input."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 900}}
    # (100 + 900) x 0.15/1e6
    assert completion(runtime, "qwen3-32b", usage) == {"llm.qwen3-32b.input": "0.000150000", "sum": "0.000150000"}


def test_who_answered_is_charged(runtime: Runtime) -> None:
    """A fallback at its own price, another name of the same model alike, an unknown one as the dearest."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    assert completion(runtime, "claude-3-5-haiku", usage)["sum"] == "0.000800000"
    assert completion(runtime, "qwen3.5-4b-32k", usage)["sum"] == "0.000100000"
    assert completion(runtime, "gpt-9", usage) == {"llm.claude-opus-4-6.input": "0.005000000", "sum": "0.005000000"}


# ---- versions and rate cards


def test_a_new_price_list(tmp_path: Path) -> None:
    """A list is in force from its moment on; what it does not name costs what it did; pinned versions stay."""
    project = Project(tmp_path)
    since = '    effective_from: "2026-10-07T00:00:00Z"\n'
    project.edit("config/prices.yaml", since, since + '    prices: {stt.universal-2: {per_hour: "0.18"}}\n')
    runtime = project.load()
    book = runtime.prices
    start = 1_791_331_200.0  # 2026-10-07T00:00:00Z
    old, new = "0.003750000", "0.004500000"  # 90 s x 0.15/h, 90 s x 0.18/h
    for now, version, amount in ((0.0, "2026-04-07", old), (start - 1, "2026-04-07", old), (start, "2026-10-07", new)):
        table = book.current(now, "standard")
        charge = transcript(runtime, table, redact_pii=True)
        assert (table.version, charge.price_version) == (version, version)
        assert receipt(charge)["stt.universal-2"] == amount
        assert receipt(charge)["guardrails.pii_text"] == "0.002000000"
    pinned = book.pinned("2026-04-07", "standard")
    assert pinned is not None
    assert receipt(transcript(runtime, pinned))["stt.universal-2"] == old
    assert book.pinned("2025-01-01", "standard") is None
    overridden = book.current(start, "acme")
    assert receipt(transcript(runtime, overridden))["stt.universal-2"] == "0.003000000"  # 0.12, in every version


@pytest.mark.parametrize(
    ("card", "model", "pii", "prompt"),
    [
        ("standard", "0.003750000", "0.002000000", "0.001750000"),
        ("nonprofit", "0.003000000", "0.001600000", "0.001400000"),  # 20% off everything
        ("startup", "0.001875000", "0.002000000", "0.001575000"),  # 50% off speech-to-text, 10% off llm.*
        ("acme", "0.003000000", "0.002000000", "0.001750000"),  # 0.12 for Universal-2
    ],
)
def test_rate_cards(runtime: Runtime, card: str, model: str, pii: str, prompt: str) -> None:
    """Each card by hand: 90 seconds of Universal-2 with PII redaction, and 1000 tokens into gpt-5.2."""
    table = runtime.prices.tables["2026-04-07", card]
    charge = transcript(runtime, table, redact_pii=True)
    found = receipt(charge)
    assert (found["stt.universal-2"], found["guardrails.pii_text"]) == (model, pii)
    assert charge.rate_card == card
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    assert completion(runtime, "gpt-5.2", usage, table)["sum"] == prompt
    written = {item.sku: item.unit_price for item in charge.items}
    assert written["stt.universal-2"] == {
        "standard": "0.15 per_hour", "nonprofit": "0.15 per_hour -20%", "startup": "0.15 per_hour -50%",
        "acme": "0.12 per_hour",
    }[card]  # fmt: skip


def test_the_most_specific_discount(tmp_path: Path) -> None:
    """A SKU before its longest prefix, before a product, before everything; they do not add up."""
    project = Project(tmp_path)
    discounts = (
        '{"*": "1", speech-to-text: "2", "stt.*": "3", "stt.universal*": "4", stt.universal-2: "5", llm-gateway: "6"}'
    )
    project.edit("config/prices.yaml", '{discounts: {"*": "20"}}', f"{{discounts: {discounts}}}")
    runtime = project.load()
    listed = runtime.prices.tables["2026-04-07", "nonprofit"].prices
    assert listed["stt.universal-2"].listed.endswith("-5%")
    assert listed["stt.universal-3-pro"].listed.endswith("-4%")
    assert listed["stt.medical"].listed.endswith("-3%")
    assert listed["llm.gpt-5.2.input"].listed.endswith("-6%")
    assert listed["guardrails.pii_text"].listed.endswith("-1%")
