"""What a session switches on: charged as the session says it runs, and refused where the plan or the key lacks it."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.core.money import parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import charges, in_order
from tests.pipeline.sockets import begun, connected, slices, to_the_end

LLM = {"llm_gateway": '{"model": "gpt-5.2", "messages": []}'}


def path(**parameters: Any) -> str:
    """A handshake as the official client writes it: True and False with capitals, lists as JSON."""
    return f"/v3/ws?{urlencode({'sample_rate': 16000, **parameters})}"


async def lines(gw: Running, account: str) -> dict[str, int]:
    """What was charged for each SKU, in nano-dollars a second."""
    (charge,) = await charges(gw, account)
    return {item["sku"]: item["amount"] // int(item["quantity"]) for item in charge["items"]}


async def test_what_the_session_runs_is_charged(gw: Running) -> None:
    """Each add-on is a line of its own, by the seconds that are reported; one that was asked to be off is none."""
    key = await gw.open_account("a", credit="1")
    on = {"keyterms_prompt": '["gateway"]', "speaker_labels": True, "domain": "medical-v1", "redact_pii": True}
    socket = await begun(gw, key, path(speech_model="whisper-rt", filter_profanity=False, **on))
    await socket.send_json({"type": "Terminate"})
    said, _ = await to_the_end(socket)
    assert said[-1]["session_duration_seconds"] == 1
    assert await lines(gw, "a") == {
        "streaming.whisper": 83_333,  # 0.30 an hour
        "streaming.keyterms": 11_111,  # 0.04
        "streaming.speaker_labels": 33_333,  # 0.12
        "streaming.medical": 41_667,  # 0.15
        "guardrails.pii_text": 22_222,  # 0.08
    }
    assert [record.parameters["redact_pii"] for record in gw.sandbox.state.streams.values()] == ["True"]


@pytest.mark.parametrize(
    ("tier", "products", "parameters"),
    [
        ("free", None, LLM),
        ("payg", ["streaming-speech-to-text", "guardrails"], LLM),
        ("payg", ["streaming-speech-to-text"], {"redact_pii": True}),
        ("payg", ["streaming-speech-to-text"], {"filter_profanity": True}),
        ("payg", ["voice-agent"], {}),
    ],
)
async def test_who_lacks_the_product_of_an_add_on(
    gw: Running, tier: str, products: list[str] | None, parameters: dict[str, Any]
) -> None:
    """Neither the plan nor the key's list of products is passed by through a parameter."""
    key = await gw.open_account("a", tier=tier, credit="1", products=None if products is None else tuple(products))
    async with connected(gw, key, path(**parameters)) as socket:
        said, code = await to_the_end(socket)
    assert code == 1008
    assert "does not include" in said[-1]["error"]
    assert not gw.sandbox.state.streams.values()
    await in_order(gw, "a", balance=parse_usd("1"))


async def test_the_missing_product_is_named(gw: Running) -> None:
    """And which plans have it."""
    key = await gw.open_account("a", tier="free", credit="1")
    async with connected(gw, key, path(**LLM)) as socket:
        said, _ = await to_the_end(socket)
    assert said[-1]["error"] == (
        "Unauthorized Connection: Your plan (Free) does not include LLM Gateway. "
        "It is included in: Pay as you go, Contracted."
    )


async def test_an_update_is_judged_like_a_handshake(tmp_path: Path, empty_redis: str) -> None:
    """A plan without guardrails does not get them in the middle of a session; what has no price nobody gets."""

    def fewer(data: dict[str, Any]) -> None:
        del data["tiers"]["free"]["products"]["guardrails"]

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": fewer}) as gw:
        key = await gw.open_account("a", tier="free", credit="1")
        for update, code, text in (
            ({"filter_profanity": True}, 1008, "Your plan (Free) does not include Guardrails."),
            ({"turbo": True}, 3006, "The field turbo is not supported here."),
        ):
            socket = await begun(gw, key, path())
            await socket.send_json({"type": "UpdateConfiguration", "format_turns": True})
            await socket.send_json({"type": "UpdateConfiguration", **update})
            said, closed = await to_the_end(socket)
            assert (said[-1]["error_code"], closed) == (code, code)
            assert text in said[-1]["error"]
        passed = [record.view()["updates"] for record in gw.sandbox.state.streams.values()]
        assert passed == [[{"type": "UpdateConfiguration", "format_turns": True}]] * 2


async def test_a_key_does_not_get_an_add_on_by_an_update(tmp_path: Path, empty_redis: str) -> None:
    """Only the ledger knows a key's products: it is asked at once, and not when the slice is over."""
    async with running(tmp_path, empty_redis, changes=slices(slice_seconds=3600)) as gw:
        key = await gw.open_account("a", credit="10", products=("streaming-speech-to-text",))
        both = await gw.open_account("b", credit="10", products=("streaming-speech-to-text", "guardrails"))
        for secret, last in ((key, 1008), (both, 1000)):
            socket = await begun(gw, secret, path())
            await socket.send_json({"type": "UpdateConfiguration", "filter_profanity": True})
            if last == 1000:
                await socket.send_json({"type": "Terminate"})
            said, closed = await to_the_end(socket)
            assert closed == last
            if last == 1008:
                assert "This API key does not include all of Streaming speech-to-text, Guardrails." in said[-1]["error"]
