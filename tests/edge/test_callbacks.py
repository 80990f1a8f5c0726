"""`POST /callbacks/{token}`: only URLs that we made are known, and what is unknown costs nothing."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.edge.callbacks import BODY_BYTES_MAX, add_callback_routes, read_callback_token, write_callback_token
from gateway.edge.tokens import write_token
from gateway.observe.metrics import Metrics
from gateway.pipeline.callbacks import CallbackToken
from gateway.pipeline.called_back import Outcome
from gateway.ports import Plan, TemporaryToken

PEPPER = "pepper"
TOKEN = CallbackToken(account="acme", kind="transcript", call_id="c-1", expires=1_000)


@dataclass
class Taken:
    """What takes callbacks, and its clock: nothing but a record of what it was given."""

    outcome: Outcome = "taken"
    seen: list[tuple[CallbackToken, bytes, str]] = field(default_factory=list)
    time: float = 999.0

    async def take(self, token: CallbackToken, body: bytes, content_type: str) -> Outcome:
        """Note it."""
        self.seen.append((token, body, content_type))
        return self.outcome

    def now(self) -> float:
        """Seconds."""
        return self.time

    monotonic = now


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
async def http(taken: Taken) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the route."""
    app = web.Application()
    observer = Metrics(version="1", config="c")
    add_callback_routes(app, take=taken.take, pepper=PEPPER, clock=taken, observer=observer)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        yield session


async def test_a_callback_is_taken_as_it_is(http: aiohttp.ClientSession, taken: Taken) -> None:
    """With what its URL says, and its bytes; what cannot be done yet is a 503 that says when to repeat."""
    path = f"/callbacks/{write_callback_token(PEPPER, TOKEN)}"
    for outcome, status in (("taken", 200), ("later", 503), ("unknown", 404), ("unreadable", 400)):
        taken.outcome = outcome  # type: ignore[assignment]
        async with http.post(path, data=b'{ "a":1}', headers={"Content-Type": "application/json"}) as reply:
            assert (reply.status, reply.headers.get("Retry-After")) == (status, "2" if status == 503 else None)
    assert taken.seen == [(TOKEN, b'{ "a":1}', "application/json")] * 4


async def test_what_we_did_not_make_is_unknown_at_no_cost(http: aiohttp.ClientSession, taken: Taken) -> None:
    """Forged, cut, of another pepper or purpose, too late, too large: nobody is asked about it."""
    text = write_callback_token(PEPPER, TOKEN)
    body, _, mac = text.partition(".")
    other, _, _ = write_callback_token(PEPPER, replace(TOKEN, account="other")).partition(".")
    session = TemporaryToken(
        id="i", account="acme", key_id="k", plan=Plan(tier="payg"), product="streaming", expires=10_000
    )
    forged = [
        f"{other}.{mac}",
        f"{body}.{mac[:-2]}AA",
        body,
        f"{body}.",
        f".{mac}",
        ".",
        "%00",
        "é",
        "a" * 5000,
        base64.urlsafe_b64encode(b"[]").decode(),
        write_callback_token("other", TOKEN),
        write_callback_token(PEPPER, replace(TOKEN, expires=999)),
        write_token(PEPPER, session),
        write_token(PEPPER, session).removeprefix("gwt_"),
    ]
    for token in forged:
        async with http.post(f"/callbacks/{token}", data=b"{}") as reply:
            assert reply.status == 404, token
    async with http.post(f"/callbacks/{text}", data=b" " * (BODY_BYTES_MAX + 1)) as reply:
        assert reply.status == 413
    async with http.get(f"/callbacks/{text}") as reply:
        assert reply.status == 405
    assert taken.seen == []


async def test_a_callback_that_takes_too_long_is_repeated(taken: Taken) -> None:
    """Before the service gives up waiting, it is told to call again."""

    async def never(token: CallbackToken, body: bytes, content_type: str) -> Outcome:
        await asyncio.sleep(3600)
        return "taken"

    app = web.Application()
    observer = Metrics(version="1", config="c")
    add_callback_routes(app, take=never, pepper=PEPPER, clock=taken, observer=observer, seconds_max=0.05)
    path = f"/callbacks/{write_callback_token(PEPPER, TOKEN)}"
    async with TestServer(app) as server, aiohttp.request("POST", server.make_url(path), data=b"{}") as reply:
        assert reply.status == 503


def test_a_token_says_what_it_was_made_for() -> None:
    """Until its time is over."""
    text = write_callback_token(PEPPER, TOKEN)
    assert read_callback_token(PEPPER, text, 999.9) == TOKEN
    assert read_callback_token(PEPPER, text, 1_000.0) is None
