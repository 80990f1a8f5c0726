"""A pepper that is replaced by another: whatever was made with the old one goes on working, and goes over."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.cli.accounts import _pepper_tables
from gateway.core.money import parse_usd
from gateway.core.signatures import signed_headers
from gateway.edge.keys import identified, key_digest, pepper_id
from gateway.edge.operations.peppers import show_peppers
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from gateway.workers.alerts import signing_key, signing_secret
from tests.harness import Running, running
from tests.pipeline.helpers import CHAT, CHAT_PATH, sandbox

PRICE = parse_usd("0.00315")


@asynccontextmanager
async def peppered(directory: Path, redis_url: str, pepper: str, *accepted: str) -> AsyncIterator[Running]:
    """A gateway with these peppers, on the same ledger as the others."""

    def change(data: dict[str, Any]) -> None:
        data.update(key_pepper=pepper, key_peppers_accepted=list(accepted))
        data.setdefault("limits", {})["unknown_keys_per_minute_max"] = 5

    async with running(directory / f"{pepper}-{'-'.join(accepted)}", redis_url, changes={"gateway.yaml": change}) as gw:
        yield gw


async def paid(gw: Running, key: str, word: str = "") -> tuple[int, bool]:
    """A paid call's status, and whether it is a repeat of the one with this word."""
    headers = sandbox(input_tokens=1000, output_tokens=100) | ({"Idempotency-Key": word} if word else {})
    got = await gw.call("POST", CHAT_PATH, key, data=orjson.dumps(CHAT), headers=headers)
    return got.status, "Idempotent-Replayed" in got.headers


async def reads(redis_url: str, name: str = "get") -> int:
    """How many commands of this name the server has done."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    text = await link.call("INFO", "commandstats")
    assert isinstance(text, bytes), "INFO is text"
    await link.close()
    lines = [line for line in text.decode().splitlines() if line.startswith(f"cmdstat_{name}:")]
    return int(lines[0].split("calls=")[1].split(",")[0]) if lines else 0


async def test_keys_and_calls_outlive_the_pepper(tmp_path: Path, empty_redis: str) -> None:
    """By the old, by both, by the new alone: a key works, a token opens sessions, a named call is charged once."""
    async with peppered(tmp_path, empty_redis, "old") as gw:
        key = await gw.open_account("a")
        assert await paid(gw, key, "word") == (200, False)
        path = "/v3/token?expires_in_seconds=600"
        token = (await gw.call("GET", path, key)).json["token"]
    async with peppered(tmp_path, empty_redis, "new", "old") as gw:
        assert [await paid(gw, key, "word") for _ in range(2)] == [(200, True)] * 2
        assert set(await asyncio.gather(*(paid(gw, key) for _ in range(10)))) == {(200, False)}
        url = f"{gw.url}/v3/ws?sample_rate=16000&speech_model=u3-rt-pro&token={token}"
        async with gw.http.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "Begin"
        found = await show_peppers(gw.ledger, gw.runtime)
        assert found["left"] == [] and found["complete"]
        assert {row["is"]: row["keys"] for row in found["peppers"]} == {"key_pepper": 1, "accepted": 0}
        assert "all have gone over" in _pepper_tables(found)
        assert gw.ledger.known(key_digest("new", key)) is not None  # the next call asks nobody
        assert await paid(gw, key) == (200, False)
    async with peppered(tmp_path, empty_redis, "new") as gw:
        assert await paid(gw, key) == (200, False)
        assert gw.ledger.known(key_digest("old", key)) is None
        charges = [int(entry.amount) for entry in await gw.ledger.entries("a") if entry.kind == "charge"]
        assert charges.count(-PRICE) == 13


async def test_keys_that_were_not_used_are_named(tmp_path: Path, empty_redis: str) -> None:
    """So that nobody takes a pepper away that a key still needs; without it the key is nobody's."""
    async with peppered(tmp_path, empty_redis, "new", "old") as gw:
        await gw.open_account("a")
        key = await gw.open_account("b")
        await gw.ledger.move_key(
            identity=(await identified(gw.ledger, ("new",), key)) or pytest.fail("it is there"),
            old=key_digest("new", key), new=key_digest("old", key), pepper=pepper_id("old"),
        )  # fmt: skip
        found = await show_peppers(gw.ledger, gw.runtime)
        assert [(row["account"], row["pepper"]) for row in found["left"]] == [("a", None), ("b", pepper_id("old"))]
        assert {row["is"] for row in found["peppers"]} == {"key_pepper", "accepted", "not known"}


async def test_guesses_cost_no_more(tmp_path: Path, empty_redis: str) -> None:
    """A key that nobody has by any pepper is one guess, and is not looked for again at once."""
    async with peppered(tmp_path, empty_redis, "new", "old", "older") as gw:
        before = await reads(empty_redis)
        assert [(await gw.call("GET", "/v2/transcript", "nobody")).status for _ in range(20)] == [401] * 20
        assert await reads(empty_redis) - before <= 3 * 3  # a second may end meanwhile
        guesses = [(await gw.call("GET", "/v2/transcript", f"guess-{n}")).code for n in range(20)]
        assert guesses[-1] == "too_many_unknown_keys"


def test_a_hook_is_signed_for_both() -> None:
    """Whoever was given a secret before the pepper was replaced can still check who calls; so can who came after."""
    peppers, body = ("new", "old"), b'{"type":"alert.balance"}'
    keys = [signing_key(pepper, "a", "salt") for pepper in peppers]
    headers = signed_headers(keys, "id", int(time.time()), body)
    for pepper in peppers:
        Webhook(signing_secret(pepper, "a", "salt")).verify(body, dict(headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_secret("other", "a", "salt")).verify(body, dict(headers))
