"""Products that nobody has written code for: a file, a price and a place in a tier are enough."""

from decimal import Decimal
from typing import Any

import pytest

from gateway.core.errors import Code
from gateway.core.money import Nanos
from gateway.core.pricing import Charge, charge_for
from gateway.core.usage import Usage, estimate_usage
from gateway.pipeline import pricing
from gateway.pipeline.objections import unpriced
from gateway.settings.routes import Route
from tests.settings.project import Project

SPEECH = """
product: text-to-speech
title: Text to speech
upstream: tts
errors:
  body: {code: "{code}", message: "{message}", param: null, request_id: "{call_id}", retryable: false}
routes:
  - name: speech.create
    match: POST /v1/speech
    meter: response
    usage: {METER}
    charges: [{sku: tts.characters, quantity: characters}]
    sample:
      request: {text: "Grüß dich!"}
      reply: {billed: 10}
      reply_headers: {X-TTS-Billed-Characters: "10"}
      charge: "0.000150000"
  - name: speech.realtime_token
    match: GET tts.example.com/v1/token
"""
PER_REQUEST = "{characters: {from: request.text, count: characters, estimate: {default: 1000}}}"
BY_REPLY = "{characters: {from: reply.billed, estimate: {from: request.units, default: 1000, max: 5000}}}"
BY_HEADER = "{characters: {from: reply_header.X-TTS-Billed-Characters, estimate: {request_bytes_per_unit: 2}}}"


@pytest.fixture
def extended(project: Project) -> Project:
    """The shipped config with an upstream, a price and a tier for text to speech."""
    project.edit(
        "gateway.yaml", "upstreams:\n", "upstreams:\n  tts: {base_url: 'https://tts.example.com/', credential: x}\n"
    )
    price = '      tts.characters: {per_1m_characters: "15"}\n'
    project.edit(
        "config/prices.yaml",
        '      stt.medical: {per_hour: "0.15"}\n',
        f'      stt.medical: {{per_hour: "0.15"}}\n{price}',
    )
    project.edit(
        "config/tiers.yaml",
        "      speech-to-text: {concurrency: 5, queued_max: 1000}\n",
        "      speech-to-text: {concurrency: 5, queued_max: 1000}\n      text-to-speech: {}\n",
    )
    return project


def route_of(project: Project, meter: str) -> Route:
    """The route of text to speech, metered this way."""
    project.write("config/products/text-to-speech.yaml", SPEECH.replace("{METER}", meter))
    return next(route for route in project.load().routes if route.name == "speech.create")


def charged(project: Project, route: Route, **sources: Any) -> Nanos:
    """What a call costs at list prices."""
    assert route.metering is not None
    table = project.load().prices.tables["2026-04-07", "standard"]
    priced = pricing.price(route.metering, pricing.ran_model(route.product, sources), sources, table, Nanos(0))
    assert priced is not None
    assert priced[0].basis == "reported"
    return priced[0].amount


def expected(project: Project, route: Route, request: dict[str, Any]) -> Nanos:
    """What a call is expected to cost before it is forwarded."""
    assert route.metering is not None
    usage = estimate_usage(route.metering.measures, {"request": request}, 99)
    table = project.load().prices.tables["2026-04-07", "standard"]
    charge = charge_for(route.metering.rules, usage, {"request": request}, "", table)
    assert isinstance(charge, Charge)
    return charge.amount


def test_by_the_characters_of_the_request(extended: Project) -> None:
    """Characters are counted, not bytes; the reply is not even read, and the estimate is exact."""
    route = route_of(extended, PER_REQUEST)
    assert charged(extended, route, request={"text": "Grüß dich!"}) == 150_000  # 10 of 15/1e6 dollars
    assert charged(extended, route, request={"text": "🙂" * 1_000_000}) == 15_000_000_000
    assert route.body == "json"
    assert route.metering is not None and not route.metering.reads_reply
    assert expected(extended, route, {"text": "abc"}) == 45_000


def test_by_a_field_of_the_reply(extended: Project) -> None:
    """The number that the reply reports is charged, zero included; the request only says what to expect."""
    route = route_of(extended, BY_REPLY)
    assert charged(extended, route, request={"text": "abc"}, reply={"billed": 7}) == 105_000
    assert charged(extended, route, request={"text": "abc"}, reply={"billed": 0}) == 0
    assert route.metering is not None and route.metering.reads_reply
    assert expected(extended, route, {"units": 2000}) == 30_000_000
    assert expected(extended, route, {"units": 10**9}) == 75_000_000


def test_by_a_header_of_the_reply(extended: Project) -> None:
    """Headers are text and found in any case; a body is then streamed both ways."""
    route = route_of(extended, BY_HEADER)
    assert charged(extended, route, reply_header={"x-tts-billed-characters": "1234"}) == 18_510_000
    assert route.body == "stream"
    assert route.metering is not None and not route.metering.reads_reply


def test_its_own_upstream_and_dialect(extended: Project) -> None:
    """Upstream URLs lose the slash at their end; the dialect is the product's own."""
    product = route_of(extended, PER_REQUEST).product
    assert product.upstream.base_url == "https://tts.example.com"
    assert product.errors.body["retryable"] is False


def test_priced_in_the_wrong_unit(extended: Project) -> None:
    """Milliseconds priced by the hour would cost a thousandfold: the measure's name tells."""
    meter = "{audio_ms: {from: reply.audio_duration_ms, estimate: {default: 1}}}"
    text = SPEECH.replace("{METER}", meter).replace("quantity: characters", "quantity: audio_ms")
    extended.write("config/products/text-to-speech.yaml", text)
    assert any(
        "audio_ms is counted in milliseconds, and the SKU is priced by the character" in each
        for each in extended.problems()
    )


def test_a_job_with_fractions_of_a_second(extended: Project) -> None:
    """A job of a product of our own, charged by an exact decimal that its reply reports."""
    extended.write("config/products/dubbing.yaml", """
product: dubbing
title: Dubbing
upstream: tts
errors: {body: {error: "{message}"}}
jobs:
  dub:
    id: reply.job.id
    status: reply.job.state
    completed: done
    failed: [failed, cancelled]
    look: /v1/dubs/{id}
    usage: {audio_seconds: {from: [reply.job.seconds], estimate: {from: request.seconds, default: 60, max: 3600}}}
    charges: [{sku: stt.universal-2, quantity: audio_seconds}]
routes:
  - name: dub.create
    match: POST /v1/dubs
    meter: job
    job: dub
    hold: {fixed: "0.05"}
    sample: {reply: {job: {id: a, state: done, seconds: 0.5}}, charge: "0.000020833"}
  - {name: dub.get, match: "GET /v1/dubs/{id}", requires: [{resource: dub, id: path.id}], reports: dub}
""")  # fmt: skip
    extended.edit("config/tiers.yaml", "      text-to-speech: {}\n", "      dubbing: {}\n")
    runtime = extended.load()
    create = next(route for route in runtime.routes if route.name == "dub.create")
    assert create.job is not None and create.hold == 50_000_000
    sources = {"reply": {"job": {"seconds": Decimal("12.34")}}, "job": {}}
    model = pricing.ran_model(create.product, sources)
    priced = pricing.price(
        create.job.metering, model, sources, runtime.prices.tables["2026-04-07", "standard"], Nanos(0)
    )
    assert priced is not None
    assert priced[0].amount == 514_167  # 12.34 s x 0.15/3600 = 0.000514166...


INTERPRETER = """
product: interpreter
title: Live interpreting
upstream: tts
errors: {body: {problem: "{message}"}}
models:
  asked: [query.voice]
  ran: [frame.started.voice, query.voice]
  default: plain
  unknown: studio
  known: {plain: plain, studio: studio, studio-2: studio}
routes:
  - name: interpreter.session
    match: GET /v2/interpret
    meter: session
    free_parameters: [from, to]
    free_fields: [volume]
    usage:
      open_seconds: {clock: true}
      spoken_characters: {from: [frame.spoken.characters, frame.done.characters], default: 0}
    charges:
      - {sku: "interpreter.{model}", quantity: open_seconds}
      - {sku: interpreter.subtitles, quantity: open_seconds, when: [request.subtitles, query.subtitles]}
      - {sku: tts.characters, quantity: spoken_characters}
    session:
      slice_seconds: 0.5
      renew_before_seconds: 0.1
      seconds_max: 600
      resource: interpretation
      frames:
        type_field: event
        begins: started
        id: frame.started.id
        reports: [spoken]
        ends: done
        updates: [tune]
        terminate: {event: stop}
        warning: {event: low, seconds: "{seconds_left}"}
        judged:
          - type: continue
            resource: interpretation
            id: frame.of
            refusal: {body: {event: gone}, close_code: 4404}
      refusals:
        body: {event: refused, why: "{code}", call: "{call_id}"}
        close_code: 4000
        close_reason: "{message}"
        codes: {insufficient_credit: {close_code: 4402, message: "Nothing left."}}
  - name: interpreter.pass
    match: GET /v2/pass
    mints:
      expires: seconds
      expires_seconds_max: 30
      expires_seconds_default: 10
      once: true
      reply: {pass: "{token}"}
  - name: interpreter.get
    match: GET /v2/interpretations/{id}
    requires: [{resource: interpretation, id: path.id}]
"""


@pytest.fixture
def interpreter(extended: Project) -> Project:
    """The shipped config with a product of sockets in a dialect of its own."""
    extended.write("config/products/interpreter.yaml", INTERPRETER)
    extended.edit("config/tiers.yaml", "      text-to-speech: {}\n", "      interpreter: {}\n")
    extended.edit("config/prices.yaml", "      tts.characters:", """\
      interpreter.plain: {per_minute: "0.06"}
      interpreter.studio: {per_minute: "0.12"}
      interpreter.subtitles: {per_second: "0.0001"}
      tts.characters:""")  # fmt: skip
    return extended


def test_a_socket_of_another_dialect(interpreter: Project) -> None:
    """Frames, words, prices by the clock and by reports, a kind of resource, one-time tokens: all by YAML."""
    routes = {route.name: route for route in interpreter.load().routes}
    route = routes["interpreter.session"]
    session, mint = route.session, routes["interpreter.pass"].mints
    assert session is not None and mint is not None
    assert (session.type_field, session.begins, session.ends) == ("event", "started", "done")
    assert session.reports == {"spoken"}
    assert session.kind == routes["interpreter.get"].requires[0].kind == session.judged[0].requirement.kind
    assert session.refusals[Code.INSUFFICIENT_CREDIT].close_code == 4402
    refusal = session.judged[0].refusal
    assert refusal is not None and (refusal.body, refusal.close_code) == ({"event": "gone"}, 4404)
    assert (mint.product, mint.once, mint.expires_seconds_default) == ("interpreter", True, 10)
    assert route.metering is not None and [measure.clock for measure in route.metering.measures] == [True, False]


def test_its_price(interpreter: Project) -> None:
    """A second of the model that it says it runs, subtitles from the update on, and the characters that were spoken."""
    route = next(route for route in interpreter.load().routes if route.name == "interpreter.session")
    assert route.metering is not None
    table = interpreter.load().prices.tables["2026-04-07", "standard"]
    usage = Usage(quantities={"calls": 1, "open_seconds": Decimal("1.5"), "spoken_characters": 20})
    sources = {"query": {}, "frame": {"started": {"voice": "studio-2"}}, "request": {"subtitles": True}}
    charge = charge_for(route.metering.rules, usage, sources, pricing.ran_model(route.product, sources), table)
    assert isinstance(charge, Charge)
    assert [(item.sku, item.amount) for item in charge.items] == [
        ("interpreter.studio", 3_000_000),  # 1.5 s of 0.12 a minute
        ("interpreter.subtitles", 150_000),
        ("tts.characters", 300_000),
    ]
    assert pricing.estimate(route, {"query": {}}, ("plain",), table, 0) == 1_000_000  # a slice, in whole seconds
    refused = unpriced(route, {"event": "tune", "volume": 3, "autotune": True})
    assert refused is not None and refused.details == {"field": "autotune"}
