"""Paid calls from end to end: what is charged, what is refused, what the customer sees."""

import asyncio

from gateway.core.errors import NO_CREDIT
from gateway.core.money import parse_usd
from tests.harness import Running

CHAT = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hello there"}]}
CHAT_PATH = "/v1/chat/completions"


async def test_a_chat_completion_is_charged_by_the_tokens_it_reports(gw: Running) -> None:
    """1.75 and 14 dollars for a million tokens: 1000 in and 100 out are 0.00315, and the balance moves by just that."""
    key = await gw.open_account("a", credit="10")
    got = await gw.call(
        "POST",
        CHAT_PATH,
        key,
        json={**CHAT, "model": "gpt-5.2"},
        headers={"X-Sandbox-Input-Tokens": "1000", "X-Sandbox-Output-Tokens": "100"},
    )
    assert got.status == 200
    assert got.headers["X-Gateway-Charge"] == "0.003150000"
    assert await gw.balance("a") == parse_usd("9.99685")
    assert (await gw.ledger.account("a")).held == 0
    entries = await gw.ledger.entries("a")
    assert [item["sku"] for item in entries[-1].data["items"]] == ["llm.gpt-5.2.input", "llm.gpt-5.2.output"]
    assert entries[-1].data["call_id"] == got.headers["X-Gateway-Call-Id"]
    assert not await gw.ledger.verify("a")


async def test_a_spent_account_is_refused_with_the_exact_sentence(gw: Running) -> None:
    """Status 400, the code beside it, and the vendor's body to the letter; nothing reaches the upstream."""
    key = await gw.open_account("a", tier="free", credit="0")
    got = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
    assert got.status == 400
    assert got.code == "insufficient_credit"
    assert (
        got.body == b'{"error": "Your current account balance is negative. Please top up to continue using the API."}'
    )
    assert not await gw.seen()


async def test_the_llm_refuses_no_credit_in_its_own_dialect(gw: Running) -> None:
    """The same sentence in OpenAI's shape."""
    key = await gw.open_account("a", credit="0")
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
    assert (got.status, got.code) == (400, "insufficient_credit")
    assert got.json["error"]["message"] == NO_CREDIT


async def test_the_free_tier_has_no_llm(gw: Running) -> None:
    """403 that names the product and the plans that have it."""
    key = await gw.open_account("a", tier="free", credit="50")
    got = await gw.call("POST", CHAT_PATH, key, json=CHAT)
    assert (got.status, got.code) == (403, "not_entitled")
    assert "LLM Gateway" in got.json["error"]["message"]


async def test_a_job_is_charged_by_the_poll_that_sees_it_completed(gw: Running) -> None:
    """An hour of Universal-2 with speaker labels: 0.15 + 0.02; later polls are free."""
    key = await gw.open_account("a", tier="free", credit="50")
    body = {
        "audio_url": "https://example.com/a.wav?duration=3600",
        "speech_models": ["universal-2"],
        "speaker_labels": True,
    }
    made = await gw.call("POST", "/v2/transcript", key, json=body)
    assert made.status == 200
    assert made.charge is None
    path = f"/v2/transcript/{made.json['id']}"
    assert (await gw.ledger.account("a")).held > 0
    await asyncio.sleep(0.1)
    polled = await gw.call("GET", path, key)
    assert polled.json["status"] == "completed"
    assert polled.charge == parse_usd("0.17")
    again = await gw.call("GET", path, key)
    assert again.charge is None
    account = await gw.ledger.account("a")
    assert (account.balance, account.held) == (parse_usd("49.83"), 0)
    assert "project_id" not in polled.json
