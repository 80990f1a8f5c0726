"""The shipped config: complete, with the prices of the contract, and what the official client can send."""

from inspect import signature
from pathlib import Path
from typing import Any, get_overloads

import assemblyai.types as vendor
import pytest
import yaml
from assemblyai.llm_gateway.v1.client import CompletionsResource

from gateway.core.errors import Code
from gateway.core.extract import fields_on
from gateway.core.money import format_usd
from gateway.settings.overview import price_table
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime
from gateway.settings.schema.checked import keys_of, models_in
from gateway.settings.schema.gateway import GatewaySettings
from tests.settings.project import ROOT, Project


@pytest.fixture
def runtime(project: Project) -> Runtime:
    """The shipped config, compiled."""
    return project.load()


def route_of(runtime: Runtime, name: str) -> Route:
    """A route by its name."""
    return next(route for route in runtime.routes if route.name == name)


def test_it_loads(runtime: Runtime) -> None:
    """The six products, three tiers and four rate cards are there, with the default listeners."""
    assert set(runtime.products) == {
        "speech-to-text", "streaming-speech-to-text", "voice-agent", "llm-gateway", "speech-understanding",
        "guardrails",
    }  # fmt: skip
    assert set(runtime.tiers) == {"free", "payg", "contracted"}
    assert {card for _, card in runtime.prices.tables} == {"standard", "nonprofit", "startup", "acme"}
    assert (runtime.customers.port, runtime.ops.port) == (8080, 8081)
    assert runtime.redis.url == ""
    assert {product.upstream.base_url for product in runtime.products.values()} == {"http://127.0.0.1:8082"}


def test_the_environment_and_secret_files(project: Project, tmp_path: Path) -> None:
    """Secrets come from the environment or from files; numbers and URLs may come from the environment."""
    (tmp_path / "pepper").write_text("  from-a-file\n")
    project.edit("gateway.yaml", "${GATEWAY_KEY_PEPPER:-demo-key-pepper}", "file:pepper")
    project.edit("gateway.yaml", "  port: 8080 ", "  port: ${PORT:-8080} ")
    project.edit("gateway.yaml", "  # url: ${REDIS_URL} ", "  url: ${REDIS_URL} ")
    environ = {
        "PORT": "9000",
        "REDIS_URL": f"file:{tmp_path}/url",
        "GATEWAY_ADMIN_TOKEN": "007",
        "UPSTREAM_CREDENTIAL": "real",
    }
    (tmp_path / "url").write_text("rediss://user:password@host/0\n")
    runtime = project.load(environ)
    assert runtime.key_pepper == "from-a-file"
    assert runtime.customers.port == 9000
    assert runtime.redis.url == "rediss://user:password@host/0"
    assert runtime.admin_token == "007"
    assert {product.upstream.credential for product in runtime.products.values()} == {"real"}
    assert not any(secret in repr(runtime) for secret in ("from-a-file", "password", "007", "real'"))
    assert any(
        "customers.port: must be a whole number" in problem for problem in project.problems({**environ, "PORT": "x"})
    )


def test_a_price_that_an_earlier_list_has_may_change_in_a_later_one(project: Project) -> None:
    """Nobody charges it any more: in the first list it stands beside the price that it is almost the name of."""
    old, october = 'understanding.translation: {per_hour: "0.06"}', '    effective_from: "2026-10-07T00:00:00Z"\n'
    project.edit("config/prices.yaml", old, f"{old}\n      {old.replace('translation', 'translations')}")
    project.edit(
        "config/prices.yaml", october, october + '    prices: {understanding.translations: {per_hour: "0.07"}}\n'
    )
    assert len(project.load().prices.versions) == 2


def test_any_value_may_come_from_the_environment(project: Project) -> None:
    """Text, names, words of a list, booleans and fractions: each is read as what its key wants."""
    project.edit("gateway.yaml", "  host: 127.0.0.1  ", "  host: ${HOST}  ")
    project.edit("gateway.yaml", "  level: info  ", "  level: ${LEVEL}  ")
    project.edit("gateway.yaml", "  prefix: gw  ", "  prefix: ${PREFIX}  ")
    project.edit("gateway.yaml", "trust_forwarded_for: false", "trust_forwarded_for: ${TRUST}")
    project.edit("gateway.yaml", "  sweep_seconds: 1.0 ", "  sweep_seconds: ${SWEEP} ")
    environ = {"HOST": "0.0.0.0", "LEVEL": "debug", "PREFIX": "p1", "TRUST": "true", "SWEEP": "0.5"}
    runtime = project.load(environ)
    found = (
        runtime.customers.host, runtime.log_level, runtime.redis.prefix, runtime.trust_forwarded_for,
        runtime.limits.sweep_seconds,
    )  # fmt: skip
    assert found == ("0.0.0.0", "debug", "p1", True, 0.5)
    assert [type(value) for value in found] == [str, str, str, bool, float]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff", "is not UTF-8 text"),
        (b"a\nb", "one line"),
        (b"x" * 70000, "too large"),
    ],
)
def test_secret_files_that_are_none(project: Project, tmp_path: Path, content: bytes, message: str) -> None:
    """A secret's file is one line of text, and never shown."""
    (tmp_path / "pepper").write_bytes(content)
    project.edit("gateway.yaml", "${GATEWAY_KEY_PEPPER:-demo-key-pepper}", "file:pepper")
    (problem,) = project.problems()
    assert message in problem


def test_the_digest_tells_configs_apart(project: Project) -> None:
    """The same files have the same digest; any changed file another."""
    before = project.load().digest
    assert project.load({"GATEWAY_ADMIN_TOKEN": "x"}).digest == before
    project.edit("config/tiers.yaml", "quota: 2,", "quota: 3,")
    assert project.load().digest != before


def test_every_key_of_the_main_file_is_in_it() -> None:
    """gateway.yaml shows every key that it may have, in a comment at least."""
    text = (ROOT / "gateway.yaml").read_text()

    def keys(model: type) -> set[str]:
        found: set[str] = set()
        for info in model.model_fields.values():  # type: ignore[attr-defined]
            for below in models_in(info.annotation):
                found |= keys(below)
        return found | set(keys_of(model))

    wanted = keys(GatewaySettings) - {"status", "message"}
    assert {name for name in wanted if f"{name}:" not in text} == set()


def test_defaults_are_what_the_file_says(project: Project) -> None:
    """A file of only what must be given describes the same process as the shipped one."""
    shipped = project.load()
    written = yaml.safe_load(project.path("gateway.yaml").read_text())
    least = {name: written[name] for name in ("admin_token", "key_pepper", "upstreams", "include")}
    project.write("gateway.yaml", yaml.safe_dump(least))
    loaded = project.load()
    for name in ("customers", "ops", "limits", "log_level", "trust_forwarded_for", "default_errors", "redis"):
        assert getattr(loaded, name) == getattr(shipped, name), name
    assert loaded.spool_directory == shipped.spool_directory


# ---- tiers


def test_the_free_tier(runtime: Runtime) -> None:
    """$50, everything but the LLM gateway, five jobs at a time."""
    free = runtime.tiers[runtime.default_tier]
    assert format_usd(free.signup_grant) == "50.000000000"
    assert set(free.products) == set(runtime.products) - {"llm-gateway"}
    concurrency = free.products["speech-to-text"].concurrency
    assert concurrency is not None and (concurrency.name, concurrency.limit) == ("speech-to-text", 5)
    assert [(rate.quota, rate.window_seconds) for rate in free.rates] == [(20_000, 300)]
    assert [(rate.quota, rate.window_seconds) for rate in free.products["speech-understanding"].rates] == [(2, 60)]


def test_the_paid_tiers(runtime: Runtime) -> None:
    """Pay as you go has the LLM gateway at 30 a minute and model; contracted may go below zero."""
    share = runtime.tiers["payg"].products["llm-gateway"]
    assert share.rates == ()
    assert [(rate.name, rate.quota, rate.window_seconds) for rate in share.per_model] == [("llm-gateway", 30, 60)]
    concurrency = runtime.tiers["payg"].products["speech-to-text"].concurrency
    assert concurrency is not None and concurrency.limit == 200
    assert runtime.tiers["payg"].overdraft == 0
    assert format_usd(runtime.tiers["contracted"].overdraft) == "500.000000000"


# ---- routes


def test_what_is_free_and_what_costs(runtime: Runtime) -> None:
    """Only a job, understanding, chat completions and sockets need credit; only the list of models no key."""
    assert {route.name: route.meter for route in runtime.routes if route.metered} == {
        "transcript.create": "job",
        "understanding.create": "response",
        "chat.completions": "sse",
        "streaming.session": "session",
        "agent.session": "session",
    }
    assert {route.name for route in runtime.routes if route.public} == {"models.list"}


def test_bodies(runtime: Runtime) -> None:
    """A body is parsed where a field of it is read; an upload passes as it comes."""
    bodies = {route.name: route.body for route in runtime.routes}
    assert {name for name, body in bodies.items() if body == "json"} == {
        "transcript.create", "understanding.create", "understanding.validate", "chat.completions",
    }  # fmt: skip
    assert route_of(runtime, "upload.create").body_bytes_max == 2_200_000_000


def test_the_record_of_a_job_is_read_where_its_usage_is(runtime: Runtime) -> None:
    """Understanding is priced by the job's seconds, so it needs the record; nothing else does."""
    assert [route.name for route in runtime.routes if route.needs_record] == ["understanding.create"]


def test_every_transcript_route_is_for_its_owner(runtime: Runtime) -> None:
    """Whatever names a transcript in its path requires that it is the caller's."""
    for route in runtime.routes:
        if "transcript_id" in route.parameters:
            assert [(need.kind, str(need.field)) for need in route.requires] == [("transcript", "path.transcript_id")]


def test_the_facts_of_a_job(runtime: Runtime) -> None:
    """Every flag that a job's price is read from is kept of its request."""
    job = route_of(runtime, "transcript.create").job
    assert job is not None
    kept = {str(field) for field in job.facts}
    assert {"request.speech_models.0", "request.speaker_labels", "request.redact_pii", "request.prompt"} <= kept
    assert "request.speech_understanding.request.translation" in kept


# ---- what the official client can send

REFUSED = {"speech_model", "dual_channel"}


def fields_of(model: Any) -> set[str]:
    """The names of a model's fields; the SDK's models are of either version of pydantic."""
    return set(model.model_fields if hasattr(model, "model_fields") else model.__fields__)


def test_every_field_of_the_official_client_is_known(runtime: Runtime) -> None:
    """Each field of the SDK's request is free, charged, or refused with a sentence of its own."""
    create = route_of(runtime, "transcript.create")
    assert create.known_fields is not None
    fields = {"audio_url", *fields_of(vendor.RawTranscriptionConfig)}
    assert len(fields) > 50
    assert fields - REFUSED - create.known_fields.keys() == set()
    assert {str(rejection.field) for rejection in create.rejections} == {f"request.{name}" for name in REFUSED}


def test_every_option_of_the_official_client_is_known(runtime: Runtime) -> None:
    """So is what the SDK nests: speaker options and the tasks of speech understanding."""
    create = route_of(runtime, "transcript.create")
    assert create.known_fields is not None
    for name in fields_of(vendor.SpeakerOptions):
        assert fields_on({"speaker_options": {name: 1}}, create.known_fields) is None
    for name in fields_of(vendor.SpeechUnderstandingFeatureRequests):
        body = {"speech_understanding": {"request": {name: {"any": 1}}}}
        assert fields_on(body, create.known_fields) is None
        understanding = route_of(runtime, "understanding.create")
        assert understanding.known_fields is not None
        assert fields_on({"transcript_id": "x", **body}, understanding.known_fields) is None


def test_every_field_that_the_llm_client_names_is_known(runtime: Runtime) -> None:
    """What the SDK offers for a chat completion by name is taken."""
    known = route_of(runtime, "chat.completions").known_fields
    assert known is not None
    overloads = get_overloads(CompletionsResource.create)
    fields = {name for each in overloads for name in signature(each).parameters} - {"self", "kwargs"}
    assert len(fields) > 10
    assert fields - known.keys() == set()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"new_add_on": True}, "new_add_on"),
        ({"new_add_on": {}}, "new_add_on"),
        ({"speech_understanding": {"request": {"new_task": {}}}}, "speech_understanding.request.new_task"),
        ({"speaker_options": {"new": "x"}}, "speaker_options.new"),
        ({"speaker_options": "experimental"}, "speaker_options"),
        ({"speech_understanding": {"request": ["translation"]}}, "speech_understanding.request.0"),
        ({"speaker_options": None, "speech_understanding": False}, None),
        ({"new_add_on": False, "other": None, "list": [], "text": ""}, None),
    ],
)
def test_an_unknown_add_on_is_never_free(runtime: Runtime, body: dict[str, object], field: str | None) -> None:
    """A field that is on and has no price is found; one that is off is not."""
    known = route_of(runtime, "transcript.create").known_fields
    assert known is not None
    assert fields_on({"audio_url": "u", **body}, known) == field


# ---- dialects


def test_dialects(runtime: Runtime) -> None:
    """The vendor's shape everywhere but on the LLM routes, which speak OpenAI's; statuses are the vendor's."""
    bodies = {name: product.errors.body for name, product in runtime.products.items()}
    vendors = {"error": "{message}"}
    assert [bodies[name] for name in ("speech-to-text", "speech-understanding", "guardrails")] == [vendors] * 3
    assert bodies["llm-gateway"]["error"]["message"] == "{message}"
    assert not any(Code.INSUFFICIENT_CREDIT in product.errors.codes for product in runtime.products.values())
    unknown = runtime.products["speech-to-text"].errors.codes[Code.NOT_FOUND]
    assert (unknown.status, unknown.message) == (None, "Transcript lookup error, transcript id not found")


# ---- prices

CONTRACT = {
    "stt.universal-3-pro": "0.21 per_hour", "stt.universal-2": "0.15 per_hour", "stt.keyterms": "0.05 per_hour",
    "stt.prompting": "0.05 per_hour", "stt.medical": "0.15 per_hour", "stt.speaker_labels": "0.02 per_hour",
    "stt.speaker_labels_experimental": "0.045 per_hour",
    "streaming.universal-3-pro": "0.45 per_hour", "streaming.universal-streaming": "0.15 per_hour",
    "streaming.whisper": "0.30 per_hour", "streaming.keyterms": "0.04 per_hour",
    "streaming.prompting": "0.05 per_hour", "streaming.medical": "0.15 per_hour",
    "streaming.speaker_labels": "0.12 per_hour", "voice-agent.session": "4.50 per_hour",
    "understanding.speaker_identification": "0.02 per_hour", "understanding.translation": "0.06 per_hour",
    "understanding.custom_formatting": "0.03 per_hour", "understanding.entity_detection": "0.08 per_hour",
    "understanding.sentiment_analysis": "0.02 per_hour", "understanding.auto_chapters": "0.08 per_hour",
    "understanding.key_phrases": "0.01 per_hour", "understanding.topic_detection": "0.15 per_hour",
    "understanding.summarization": "0.03 per_hour",
    "guardrails.profanity": "0.01 per_hour", "guardrails.pii_audio": "0.05 per_hour",
    "guardrails.pii_text": "0.08 per_hour", "guardrails.content_moderation": "0.15 per_hour",
    "llm.gpt-5.2.input": "1.75 per_1m_tokens", "llm.gpt-5.2.output": "14 per_1m_tokens",
    "llm.gpt-5.1.input": "1.25 per_1m_tokens", "llm.gpt-5.1.output": "10 per_1m_tokens",
    "llm.gpt-4.1.input": "2 per_1m_tokens", "llm.gpt-4.1.output": "8 per_1m_tokens",
    "llm.claude-sonnet-4-6.input": "3 per_1m_tokens", "llm.claude-sonnet-4-6.output": "15 per_1m_tokens",
    "llm.claude-opus-4-6.input": "5 per_1m_tokens", "llm.claude-opus-4-6.output": "25 per_1m_tokens",
    "llm.claude-3-5-haiku.input": "0.80 per_1m_tokens", "llm.claude-3-5-haiku.output": "4 per_1m_tokens",
    "llm.gemini-2.5-flash.input": "0.30 per_1m_tokens", "llm.gemini-2.5-flash.output": "2.50 per_1m_tokens",
    "llm.qwen3-32b.input": "0.15 per_1m_tokens", "llm.qwen3-32b.output": "0.60 per_1m_tokens",
    "llm.qwen3.5-4b-32k-fast.input": "0.10 per_1m_tokens", "llm.qwen3.5-4b-32k-fast.output": "0.50 per_1m_tokens",
}  # fmt: skip


def test_the_price_list_is_the_contract(runtime: Runtime) -> None:
    """Every list price of the contract, as it is listed there; besides it only what caches cost."""
    listed = {row.sku: row.unit_price for row in price_table(runtime)}
    assert {sku: listed.get(sku) for sku in CONTRACT} == CONTRACT
    assert all("cache" in sku for sku in listed.keys() - CONTRACT.keys())


def test_the_price_table(runtime: Runtime) -> None:
    """One row for each SKU and version, with the product whose charge it is."""
    rows = price_table(runtime)
    assert len(rows) == 2 * len({row.sku for row in rows})
    first = next(row for row in rows if row.sku == "understanding.translation")
    assert (first.version, first.effective_from, first.product) == (
        "2026-04-07",
        "2026-04-07T00:00:00Z",
        "speech-understanding",
    )
    assert {row.product for row in rows} == set(runtime.products)
    assert {row.unit_price for row in price_table(runtime, "acme") if row.sku == "stt.universal-2"} == {"0.12 per_hour"}
    discounted = {row.sku: row.unit_price for row in price_table(runtime, "startup")}
    assert discounted["stt.medical"] == "0.15 per_hour -50%"
    assert discounted["llm.gpt-5.2.input"] == "1.75 per_1m_tokens -10%"
    assert discounted["guardrails.pii_text"] == "0.08 per_hour"
