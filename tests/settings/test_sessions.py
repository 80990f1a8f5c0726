"""The shipped sockets: what of them is watched, how they refuse, what clients may send, their tokens and limits."""

import json
import re
from typing import Any

import pytest
from assemblyai.streaming.v3 import models as vendor

from gateway.core.admission import Scaling
from gateway.core.errors import NO_CREDIT, REFUSALS, Code
from gateway.core.extract import fields_on
from gateway.core.parameters import parameters_of, unknown_on
from gateway.pipeline import pricing
from gateway.pipeline.entitlement import add_ons_of, entitled_to_add_ons
from gateway.pipeline.objections import asked_models, objection, unpriced
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime
from gateway.settings.sessions import FrameWording, Session
from tests.settings.project import Project
from tests.settings.test_config import fields_of, route_of


@pytest.fixture
def runtime(project: Project) -> Runtime:
    """The shipped config, compiled."""
    return project.load()


def session_of(runtime: Runtime, name: str) -> Session:
    """The session of a route."""
    session = route_of(runtime, name).session
    assert session is not None
    return session


def wording(session: Session, code: Code) -> FrameWording:
    """How a session words a code."""
    assert session.refusal is not None
    return session.refusals.get(code, session.refusal)


# ---- frames


def test_the_frames_of_streaming(runtime: Runtime) -> None:
    """Begin names it, Termination reports it, UpdateConfiguration changes it, Terminate ends it; no more is read."""
    session = session_of(runtime, "streaming.session")
    assert (session.type_field, session.begins, session.ends, session.reports) == (
        "type", "Begin", "Termination", frozenset(),
    )  # fmt: skip
    assert session.updates == {"UpdateConfiguration"} and not session.judged and not session.kind
    assert str(session.id) == "frame.id"
    assert json.loads(session.terminate) == {"type": "Terminate"}
    assert session.client_binary
    assert runtime.products["streaming-speech-to-text"].dropped_query == {"token"}
    assert (session.seconds_max, session.idle_seconds_max) == (10_800, 0)


def test_the_frames_of_a_voice_agent(runtime: Runtime) -> None:
    """It is told by session.ready and session.ended, and ended by session.end: a bare close would be paid for."""
    session = session_of(runtime, "agent.session")
    assert (session.begins, session.ends, str(session.id)) == ("session.ready", "session.ended", "frame.session_id")
    assert json.loads(session.terminate) == {"type": "session.end"}
    assert not session.client_binary
    assert session.warning is None
    assert session.message_bytes_max >= 1024**2
    judged = {each.type: (each.requirement.kind, each.requirement.field) for each in session.judged}
    frames: dict[str, dict[str, Any]] = {
        "session.update": {"type": "session.update", "session": {"agent_id": "agent_1"}},
        "session.resume": {"type": "session.resume", "session_id": "sess_1"},
    }
    named = {kind: (judged[kind][0], judged[kind][1].read({"frame": frame})) for kind, frame in frames.items()}
    assert named == {"session.update": ("agent", "agent_1"), "session.resume": (session.kind, "sess_1")}


def test_a_slice_is_the_estimate(runtime: Runtime) -> None:
    """The credit that is held at the opening is what one slice costs, add-ons included."""
    table = runtime.prices.tables["2026-04-07", "standard"]
    route = route_of(runtime, "streaming.session")
    sources = {"query": {"keyterms_prompt": ["a"]}}
    assert pricing.estimate(route, sources, ("universal-streaming",), table, 0) == 1_583_333  # 30 s of 0.19 an hour
    assert pricing.estimate(route_of(runtime, "agent.session"), {"query": {}}, ("",), table, 0) == 37_500_000


# ---- refusals in band

#: The contract's codes and texts.
STREAMING = [
    (Code.UNAUTHORIZED, 1008, "Unauthorized Connection: {problem}"),
    (Code.INSUFFICIENT_CREDIT, 1008, f"Unauthorized Connection: {NO_CREDIT}"),
    (Code.RATE_LIMITED, 1008, "Unauthorized Connection: Too many concurrent sessions"),
    (Code.TOO_MANY_CONCURRENT, 1008, "Unauthorized Connection: Too many concurrent sessions"),
    (Code.KEY_DISABLED, 1008, f"Unauthorized Connection: {REFUSALS[Code.KEY_DISABLED].message}"),
    (Code.NOT_ENTITLED, 1008, f"Unauthorized Connection: {REFUSALS[Code.NOT_ENTITLED].message}"),
    (Code.SESSION_EXPIRED, 3008, "Session Expired: Maximum session duration exceeded"),
    (Code.SESSION_IDLE, 4031, "Session idle for too long"),
    (Code.INVALID_REQUEST, 3006, f"User Input Validation Error: {REFUSALS[Code.INVALID_REQUEST].message}"),
    (Code.UNKNOWN_MODEL, 3006, f"User Input Validation Error: {REFUSALS[Code.UNKNOWN_MODEL].message}"),
    (Code.UNPRICED_FIELD, 3006, f"User Input Validation Error: {REFUSALS[Code.UNPRICED_FIELD].message}"),
    (Code.UNSUPPORTED, 3006, f"User Input Validation Error: {REFUSALS[Code.UNSUPPORTED].message}"),
    (Code.UPSTREAM_UNREACHABLE, 3005, "Session Cancelled: An error occurred"),
    (Code.UPSTREAM_TIMEOUT, 3005, "Session Cancelled: An error occurred"),
    (Code.LEDGER_UNAVAILABLE, 3005, "Session Cancelled: An error occurred"),
    (Code.OVERLOADED, 3005, "Session Cancelled: An error occurred"),
    (Code.INTERNAL, 3005, "Session Cancelled: An error occurred"),
]


@pytest.mark.parametrize(("code", "close_code", "text"), STREAMING, ids=[code for code, _, _ in STREAMING])
def test_streaming_refuses_as_the_contract_says(runtime: Runtime, code: Code, close_code: int, text: str) -> None:
    """The Error frame's code is the close code, its text the vendor's, and the close reason is always the same."""
    worded = wording(session_of(runtime, "streaming.session"), code)
    message = worded.message or REFUSALS[code].message
    assert worded.body["type"] == "Error"
    assert worded.body["error_code"] in ("{close_code}", close_code)
    assert worded.body["error"].replace("{message}", message) == text
    assert (worded.close_code, worded.close_reason) == (close_code, "See Error message for details")
    assert close_code == 1008 or close_code in vendor.RealTimeErrorCodes


def test_voice_agents_refuse_as_the_contract_says(runtime: Runtime) -> None:
    """A session.error with a code of its own, then a close; what is not the caller's reads as what does not exist."""
    session = session_of(runtime, "agent.session")
    unauthorized = wording(session, Code.UNAUTHORIZED)
    assert unauthorized.body == {
        "type": "session.error", "code": "{code}", "message": "{message}", "param": None, "session_id": "{session_id}",
    }  # fmt: skip
    assert (unauthorized.message, unauthorized.close_code, unauthorized.close_reason) == (
        "Authentication failed", 1008, "{code}",
    )  # fmt: skip
    assert wording(session, Code.INSUFFICIENT_CREDIT).body == unauthorized.body
    assert wording(session, Code.INTERNAL).close_code == 1011
    told = {each.type: each.refusal.body["code"] for each in session.judged if each.refusal is not None}
    assert told == {"session.update": "agent_not_found", "session.resume": "session_not_found"}


# ---- what the official client can send


def test_every_parameter_of_the_official_client_is_known(runtime: Runtime) -> None:
    """Each parameter of the SDK is free, charged, or refused with a sentence of its own."""
    route = route_of(runtime, "streaming.session")
    names = fields_of(vendor.RealTimeParameters) | {"_customer_support_audio_capture"}  # of JavaScript
    assert len(names) > 35 and route.known_parameters is not None
    assert names - route.known_parameters == set()
    assert {str(rejection.field) for rejection in route.rejections} == {"query.llm_gateway"}
    assert "token" in route.known_parameters


def test_every_update_of_the_official_client_is_known(runtime: Runtime) -> None:
    """Each field of UpdateConfiguration is free or charged; another one that is on is refused."""
    route = route_of(runtime, "streaming.session")
    assert route.known_fields is not None
    update: dict[str, Any] = dict.fromkeys(fields_of(vendor.UpdateConfiguration), "on")
    assert len(update) > 10 and fields_on(update, route.known_fields) is None
    refused = unpriced(route, {"type": "UpdateConfiguration", "redact_pii": True})
    assert refused is not None and (refused.code, refused.details) == (Code.UNPRICED_FIELD, {"field": "redact_pii"})
    assert unpriced(route, {"type": "UpdateConfiguration", "prompt": "p"}) is None
    assert unpriced(route_of(runtime, "agent.session"), {"type": "session.update", "session": {}}) is None


def test_every_model_of_the_official_client_is_known(runtime: Runtime) -> None:
    """Each model has a price; what is asked for and not known is refused."""
    models = runtime.products["streaming-speech-to-text"].models
    assert models is not None
    assert {str(model) for model in vendor.SpeechModel} == models.known.keys()
    assert models.known[models.default] == "universal-streaming"
    refused = objected(runtime, "speech_model=universal-9")
    assert refused == Code.UNKNOWN_MODEL


def objected(runtime: Runtime, query: str, name: str = "streaming.session") -> Code | None:
    """Why a session with this query is refused before anybody's credit is looked at."""
    route = route_of(runtime, name)
    sources = {"query": parameters_of(query)}
    models = asked_models(route.product.models, sources) if route.product.models else ()
    refused = objection(route, sources, models, passed_over=False)
    return None if refused is None else refused.code


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", None),
        ("sample_rate=16000&format_turns=True&keyterms_prompt=%5B%22a%22%5D&token=t", None),
        ("webhook_url=https://example.com&webhook_auth_header_name=X&webhook_auth_header_value=y", None),
        ("speech_model=whisper-rt&new_add_on=false", None),
        ("new_add_on=true", Code.UNPRICED_FIELD),
        ("Speaker_Labels=true", Code.UNPRICED_FIELD),
        ('llm_gateway={"model":"gpt-5.2","messages":[]}', Code.UNSUPPORTED),
        ("llm_gateway=gpt-5.2", Code.UNSUPPORTED),
        ("llm_gateway=", None),
        ("speech_model=true", Code.UNKNOWN_MODEL),
        ('speech_model=["whisper-rt","u3-rt-pro-9"]', Code.UNKNOWN_MODEL),
    ],
)
def test_what_a_handshake_may_ask_for(runtime: Runtime, query: str, code: Code | None) -> None:
    """What is free or charged passes; what may cost and has no price, or no tokens to count, does not."""
    assert objected(runtime, query) == code


def test_a_voice_agent_has_no_parameters(runtime: Runtime) -> None:
    """But for our token: agents and sessions are named in frames, where they are judged."""
    assert objected(runtime, "token=x", "agent.session") is None
    assert objected(runtime, "agent_id=agent_1", "agent.session") == Code.UNPRICED_FIELD
    assert objected(runtime, "session_id=sess_1", "agent.session") == Code.UNPRICED_FIELD


def test_what_may_stand_only_once(runtime: Runtime) -> None:
    """Whatever decides a price or a right: of two, the upstream might take the other one."""
    route = route_of(runtime, "streaming.session")
    assert route.read_parameters == {
        "speech_model", "keyterms_prompt", "prompt", "domain", "speaker_labels", "redact_pii", "filter_profanity",
        "llm_gateway",
    }  # fmt: skip
    assert not route_of(runtime, "transcript.create").read_parameters


@pytest.mark.parametrize(
    ("query", "add_ons"),
    [("prompt=p", ()), ("redact_pii=true", ("guardrails",)), ("llm_gateway={\"model\":\"x\"}", ("llm-gateway",)),
     ("filter_profanity=True&llm_gateway=[1]", ("guardrails", "llm-gateway")), ("redact_pii=False", ())],
)  # fmt: skip
def test_other_products_of_a_session(runtime: Runtime, query: str, add_ons: tuple[str, ...]) -> None:
    """Guardrails and the LLM gateway are products of their own: who does not have them is not entitled."""
    route, sources = route_of(runtime, "streaming.session"), {"query": parameters_of(query)}
    assert add_ons_of(route, sources) == add_ons
    assert entitled_to_add_ons(runtime.tiers["payg"], add_ons)
    assert entitled_to_add_ons(runtime.tiers["free"], add_ons) is ("llm-gateway" not in add_ons)


def test_a_charge_by_the_query_makes_parameters_known(project: Project) -> None:
    """Without free_parameters everything else would be free by accident: that is a problem."""
    path = project.path("streaming")
    text = path.read_text()
    listed = re.search(r"    # Parameters without a price.*?(?=    # The same of UpdateConf)", text, re.DOTALL)
    assert listed is not None
    path.write_text(text.replace(listed[0], ""))
    (problem,) = project.problems()
    assert problem.endswith(
        "routes[0]: charges depend on what the query switches on: list the other parameters in free_parameters, "
        "so that none is free by accident"
    )


# ---- tokens and limits


@pytest.mark.parametrize(
    ("name", "product"), [("streaming.token", "streaming-speech-to-text"), ("agent.token", "voice-agent")]
)
def test_tokens(runtime: Runtime, name: str, product: str) -> None:
    """The gateway's own, for sessions of the product, with the bounds of the contract; they may be used again."""
    mint = route_of(runtime, name).mints
    assert mint is not None
    assert (mint.product, mint.once) == (product, False)
    assert (mint.expires_parameter, mint.session_parameter) == ("expires_in_seconds", "max_session_duration_seconds")
    assert (mint.expires_seconds_min, mint.expires_seconds_max, mint.expires_seconds_default) == (1, 600, None)
    assert (mint.session_seconds_min, mint.session_seconds_max) == (60, 10_800)
    assert mint.reply == {"token": "{token}", "expires_in_seconds": "{expires_in_seconds}"}
    assert not route_of(runtime, name).metered and not route_of(runtime, name).public


@pytest.mark.parametrize("product", ["streaming-speech-to-text", "voice-agent"])
def test_new_sessions_a_minute(runtime: Runtime, product: str) -> None:
    """Five for free; a hundred for payers, following their use as at the vendor; any number may be open."""
    shares = {name: tier.products[product] for name, tier in runtime.tiers.items()}
    (free,), (paid,), (contracted,) = (shares[name].rates for name in ("free", "payg", "contracted"))
    assert (free.name, free.quota, free.window_seconds, free.scaling) == (product, 5, 60, None)
    assert (paid.quota, paid.window_seconds) == (100, 60)
    assert paid.scaling == Scaling(grow_at_percent=70, grow_percent=10, shrink_below_percent=50, quota_max=1_000_000)
    assert contracted.quota > paid.quota and contracted.scaling == paid.scaling
    assert {share.concurrency for share in shares.values()} == {None}


# ---- what a product's file may leave out, and what it may not


def bare(
    session: str = "", usage: str = "{from: frame.seconds, clock: true}", charge: str = "quantity: seconds"
) -> str:
    """The least file of a product with a socket."""
    return f"""
product: dubbing
title: Live dubbing
upstream: agents
errors: {{body: {{error: "{{message}}"}}}}
routes:
  - name: dubbing.session
    match: GET /v9/dub
    meter: session
    usage: {{seconds: {usage}}}
    charges: [{{sku: voice-agent.session, {charge}}}]
    session: {{{session}}}
"""


def with_product(project: Project, text: str) -> Project:
    """The shipped config with one product more."""
    project.write("config/products/dubbing.yaml", text)
    tier = "      voice-agent: {requests: {quota: 5, window_seconds: 60}}\n"
    project.edit("config/tiers.yaml", tier, f"{tier}      dubbing: {{}}\n")
    return project


def test_the_least_session(project: Project) -> None:
    """A socket without frames or words: it is measured by the clock, closed without a frame, refused over HTTP."""
    route = route_of(with_product(project, bare("frames: {ends: end}")).load(), "dubbing.session")
    session = route.session
    assert session is not None
    assert (session.refusal, session.refusals, session.terminate, session.begins) == (None, {}, "", "")
    assert (session.kind, session.id, session.judged, session.updates) == ("", None, (), frozenset())
    assert (session.slice_seconds, session.renew_before_seconds) == (30, 5)
    assert route.product.dropped_query == {"token"}, "a token of ours is never passed on"


def test_refusals_without_frames(project: Project) -> None:
    """A dialect may have no frames: then a refusal in band is only a close, with the code as its reason."""
    session = session_of(with_product(project, bare("frames: {ends: end}, refusals: {}")).load(), "dubbing.session")
    assert session.refusal == FrameWording(body=None, close_code=1008, close_reason="{code}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bare(), "session: no frame of the upstream's is read: name types in begins, ends or reports"),
        (
            bare(usage="{from: request.seconds, clock: true}"),
            "session: request.x is a field of the client's updates: name their types in updates",
        ),
        (
            bare("frames: {judged: [{type: a, resource: agent, id: frame.b, refusal: {message: m}}]}", "{clock: true}"),
            "judged[0].refusal: refusals are worded in band only with refusals",
        ),
        (
            bare("frames: {ends: end}, message_bytes_max: 100"),
            "session.message_bytes_max: must be at least 1024",
        ),
        (
            bare("frames: {ends: end}", charge="quantity: seconds, when: job.usage.x"),
            "charges[0].when: a session has no reply and no job: write frame.x, request.x or query.x",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together(project: Project, text: str, problem: str) -> None:
    """What would never be read, or never be said, is told when the config is read."""
    found = with_product(project, text).problems()
    assert [each for each in found if problem in each], found


def test_any_text_may_end_a_session(project: Project) -> None:
    """A text is sent as it is; anything else as JSON."""
    session = session_of(with_product(project, bare("frames: {ends: e, terminate: CLOSE}")).load(), "dubbing.session")
    assert session.terminate == "CLOSE"


def test_a_route_of_a_socket_needs_no_body(runtime: Runtime) -> None:
    """A handshake has no body, although updates have fields that are charged."""
    route: Route = route_of(runtime, "streaming.session")
    assert route.body == "stream" and route.metered and not route.public
    assert unknown_on({"sample_rate": 1}, route.known_parameters or ()) is None
