"""What is held for a job: by the header of an upload as it streamed past, by its size, by default, never more than
there is.
"""

import asyncio
from collections.abc import AsyncIterator
from gzip import compress
from io import BytesIO
from pathlib import Path
from typing import Any

from gateway.core.money import Nanos, parse_usd
from tests.audio import MAKERS, flac, mp4, opus, pieces, wav
from tests.harness import Got, Running, running
from tests.pipeline.helpers import finished, in_order, without_rates

HOUR = parse_usd("0.21")


def price(seconds: int) -> Nanos:
    """So much audio in the dearest model, without add-ons."""
    return Nanos((HOUR * seconds * 2 + 3600) // 7200)


async def uploaded(gw: Running, key: str, data: Any, **headers: str) -> str:
    """The URL of an upload."""
    body = BytesIO(data) if isinstance(data, bytes) else data
    got = await gw.call("POST", "/v2/upload", key, data=body, headers=headers)
    assert got.status == 200, got.body
    url: str = got.json["upload_url"]
    return url


async def submit(gw: Running, key: str, url: str, **fields: Any) -> Got:
    """A job on this audio."""
    return await gw.call("POST", "/v2/transcript", key, json={"audio_url": url, **fields})


async def held(gw: Running, key: str, url: str, **fields: Any) -> int:
    """What a job on this audio holds, which is then over."""
    account = key.removeprefix("secret-of-")
    before = (await gw.ledger.account(account)).held
    got = await submit(gw, key, url, **fields)
    assert got.status == 200, got.body
    found = (await gw.ledger.account(account)).held - before
    await finished(gw, key, f"/v2/transcript/{got.json['id']}")
    return found


async def test_ten_minutes_hold_ten_minutes(gw: Running) -> None:
    """Whatever the container, an upload holds what it will cost; of two channels twice, where they are asked for."""
    key = await gw.open_account("a")
    for kind, made in MAKERS.items():
        url = await uploaded(gw, key, made(600, channels=2))
        assert await held(gw, key, url) == price(600), kind
        assert await held(gw, key, url, multichannel=True) == price(1200), kind
        assert await held(gw, key, url, multichannel=False) == price(600), kind
        labels = parse_usd("0.02") // 6
        assert await held(gw, key, url, multichannel=True, speaker_labels=True) == price(1200) + labels, kind


async def test_bytes_that_come_slowly_are_read_alike(gw: Running) -> None:
    """A body of no known length, in pieces with pauses, is passed on byte by byte and read all the same."""
    key = await gw.open_account("a")
    data = mp4(600)

    async def slowly() -> AsyncIterator[bytes]:
        for piece in pieces(data, 400):
            yield piece
            await asyncio.sleep(0.001)

    assert await held(gw, key, await uploaded(gw, key, slowly())) == price(600)
    sent = [each for each in await gw.seen() if each["path"] == "/v2/upload"]
    assert sent[-1]["body_bytes"] == len(data)


async def test_what_a_header_does_not_say(gw: Running) -> None:
    """Where nothing says how long an upload is, its size does, at the lowest plausible rate and up to the most that
    the service takes; of a URL nothing is known, so it is an hour, and two channels.
    """
    key = await gw.open_account("a")
    assert await held(gw, key, await uploaded(gw, key, b"x" * 60_000)) == price(100)
    assert await held(gw, key, await uploaded(gw, key, flac(0, size=60_000 - 42))) == price(100)
    assert await held(gw, key, await uploaded(gw, key, b"x" * 30_000_000)) == price(36_000)
    assert await held(gw, key, await uploaded(gw, key, compress(wav(60)), **{"Content-Encoding": "gzip"})) == HOUR
    assert await held(gw, key, "https://example.com/a.wav") == HOUR
    assert await held(gw, key, "https://example.com/a.wav", multichannel=True) == 2 * HOUR


async def test_headers_that_lie(gw: Running) -> None:
    """A header says neither less than the bytes must be, nor more than the service takes."""
    key = await gw.open_account("a")
    assert await held(gw, key, await uploaded(gw, key, mp4(1, size=25_000_000))) == price(21)
    assert await held(gw, key, await uploaded(gw, key, mp4(10**9 * 3600, long=True))) == price(36_000)
    loud = await uploaded(gw, key, opus(1, channels=255))
    assert await held(gw, key, loud, multichannel=True) == price(32)


async def test_a_hold_is_never_more_than_there_is(gw: Running) -> None:
    """A customer with a cent left is not refused a long recording, and is charged what it was; a second job at once
    finds nothing left.
    """
    key = await gw.open_account("a", credit="0.01")
    url = await uploaded(gw, key, wav(600))
    first, second = await submit(gw, key, url), await submit(gw, key, url)
    assert (first.status, second.code) == (200, "insufficient_credit")
    await finished(gw, key, f"/v2/transcript/{first.json['id']}")
    await in_order(gw, "a", balance=Nanos(parse_usd("0.01") - price(600)))


async def test_short_jobs_do_not_wait_for_one_another(gw: Running) -> None:
    """With twenty cents, nineteen recordings of a minute run at once: each holds a minute, not an hour."""
    key = await gw.open_account("a", credit="0.20")
    url = await uploaded(gw, key, wav(60))
    jobs = await asyncio.gather(*(submit(gw, key, url) for _ in range(19)))
    assert {job.status for job in jobs} == {200}
    assert (await gw.ledger.account("a")).held == 19 * price(60)


async def test_a_foreign_upload_says_nothing(gw: Running) -> None:
    """Another account's upload is not found, however much is known of it, and nothing is held."""
    mine, other = await gw.open_account("a"), await gw.open_account("b")
    url = await uploaded(gw, mine, wav(60))
    assert (await submit(gw, other, url)).code == "not_found"
    await in_order(gw, "b", balance=parse_usd("100"))


async def test_what_a_client_declares(tmp_path: Path, empty_redis: str) -> None:
    """Where a config lets clients say it, that counts first: within what the size allows, and what the config does."""

    def declaring(data: dict[str, Any]) -> None:
        data["jobs"]["transcript"]["usage"]["audio_seconds"]["estimate"] = {
            "from": ["request.duration", "resource.seconds"], "bytes": "resource.bytes", "bytes_per_unit_min": 1600,
            "bytes_per_unit_max": 10_000, "default": 3600, "max": 7200,
        }  # fmt: skip

    changes = {"config/products/speech-to-text.yaml": declaring, "config/tiers.yaml": without_rates}
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a")
        url = await uploaded(gw, key, b"x" * 80_000)
        for declared, seconds in [(120, 120), (1, 8), (10**7, 7200), ("soon", 7200), (None, 50)]:
            assert await held(gw, key, url, duration=declared) == price(seconds), declared
