"""The service refuses our own account there: whoever the customer is, it is not the customer's business."""

from pathlib import Path
from typing import Any

from gateway.core.money import parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, NO_CREDIT, charges, in_order, sandbox, submitted
from tests.pipeline.test_following import counted

NEGATIVE = {"error": NO_CREDIT}
UNENTITLED = {
    "code": 400, "message": "invalid request body", "request_id": "r",
    "metadata": {"errors": ["Your account does not have access to this LLM Gateway model"]},
}  # fmt: skip
SPEECH, LLM, AGENTS = "speech-to-text", "llm-gateway", "voice-agent"
CALLS: list[tuple[str, str, str, Any, int, Any]] = [
    (SPEECH, "POST", "/v2/transcript", {"audio_url": "https://example.com/a.wav"}, 400, NEGATIVE),
    (SPEECH, "POST", "/v2/upload", None, 400, NEGATIVE),
    (SPEECH, "GET", "{transcript}", None, 400, NEGATIVE),
    (SPEECH, "GET", "/v2/transcript", None, 400, NEGATIVE),
    ("guardrails", "GET", "{transcript}/redacted-audio", None, 400, NEGATIVE),
    (LLM, "POST", CHAT_PATH, CHAT, 400, NEGATIVE),
    (LLM, "POST", CHAT_PATH, {**CHAT, "stream": True}, 400, UNENTITLED),
    (AGENTS, "GET", "/v1/agents", None, 404, {"detail": "Invalid API key"}),
    (AGENTS, "POST", "/v1/agents", {"name": "a"}, 404, {"detail": "Invalid API key"}),
    # Whatever their words are.
    (SPEECH, "GET", "/v2/transcript", None, 401, {"error": "API token invalid"}),
    (LLM, "POST", CHAT_PATH, CHAT, 401, "your key is wrong"),
    (LLM, "POST", CHAT_PATH, {**CHAT, "stream": True}, 402, "your balance is negative"),
    (AGENTS, "GET", "/v1/agents", None, 402, {}),
]


async def test_it_is_no_word_to_customers(gw: Running) -> None:
    """Nobody is told that their balance is negative, or their key unknown: 502, nothing charged, somebody called."""
    key = await gw.open_account("a", credit="10")
    transcript = await submitted(gw, key)
    told: dict[str, int] = {}
    for body in ("content-length", "chunked", "gzip"):
        for product, method, path, request, status, said in CALLS:
            await gw.knobs(status=status, status_body=said, body=body)
            sent = {"data": b"audio"} if path == "/v2/upload" else {"json": request}
            got = await gw.call(method, path.format(transcript=transcript), key, **sent)
            assert (got.status, got.code) == (502, "upstream_unreachable"), (body, method, path, got.body)
            assert b"negative" not in got.body
            assert b"key" not in got.body
            told[product] = told.get(product, 0) + 1
    for product, times in told.items():
        assert counted(gw, "gateway_events_total", event="credential_refused", product=product) == times
    assert not await charges(gw, "a")
    assert len(await gw.ledger.holds("a")) == 1, "the job that was there before goes on"


async def test_however_long_it_is(tmp_path: Path, empty_redis: str) -> None:
    """A refusal of our own account that is larger than what is read of a reply is shown to nobody either."""

    def little(data: dict[str, Any]) -> None:
        data["metered_body_bytes_max"] = 1024

    async with running(tmp_path, empty_redis, changes={"config/products/llm-gateway.yaml": little}) as gw:
        key = await gw.open_account("a", credit="10")
        await gw.knobs(status=401, status_body="your key is wrong" * 1000)
        got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
        assert (got.status, got.code) == (502, "upstream_unreachable")
        assert b"key" not in got.body
        await gw.knobs(status=400, status_body="too long" * 1000)
        got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
        assert (got.status, got.body) == (400, b"too long" * 1000)
        await in_order(gw, "a", balance=parse_usd("10"))


async def test_other_refusals_are_the_customers(gw: Running) -> None:
    """What the service says of the call itself passes as it came; a fault of the service's is none of our account."""
    key = await gw.open_account("a", credit="10")
    request = {"audio_url": "https://example.com/a.wav"}
    for status, said in ((400, {"error": "audio_url is not reachable"}), (404, {}), (500, NEGATIVE), (400, "text")):
        await gw.knobs(status_body=said)
        got = await gw.call("POST", "/v2/transcript", key, json=request, headers=sandbox(status=status))
        assert (got.status, got.code) == (status, "")
        assert got.body.decode() == said if isinstance(said, str) else got.json == said
    assert counted(gw, "gateway_events_total", event="credential_refused", product=SPEECH) == 0
    await in_order(gw, "a", balance=parse_usd("10"))
