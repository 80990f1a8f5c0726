"""A corpus of what nobody in good faith sends, to every route of our own and to customers' calls: no fault of ours, no
connection that hangs, and nothing behind it is served.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.edge.plugged import TOKEN, plugged
from tests.fakes.upstream import RawClient, message
from tests.harness import ADMIN_TOKEN, running
from tests.pipeline.helpers import CHAT_PATH
from tests.upstream.proxying import CHAT, get_bytes

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Bodies that JSON has words for, and none.
BODIES = (
    b"[" * 50_000, b'{"a":' * 20_000, b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b'""', b"0", b"", b"{", b"NaN",
    b'{"id":"\\ud800"}', b'{"id":"x","id":"y"}', b'{"id":' + b"9" * 5000 + b"}", b'{"id":"../x\\u0000"}',
    b'{"amount":"1e9","kind":"goodwill"}', b'{"amount":1e999}', b'{"amount":"-0"}', b'{"estimate":{"a":1e999}}',
    b'{"api_key":{},"route":[]}', b'{"id":"x","overrides":{"requests_per_key":"0/0","a":{"b":1}}}',
)  # fmt: skip
QUERIES = (
    "limit=99999999999999999999", "limit=-1", "limit=%00", "limit=1&limit=2", "after=%ff", "after=0-0", "&&&=",
    "%ff=%ff", "after=" + "9" * 500, "since=x&until=y", "since=9999-12-31&until=9999-12-31", "since=0001-01-01",
    "account=%00", "format=%0d%0aX:y", "for=auth_request", "token=%ff",
)  # fmt: skip
FIELDS = (
    "Expect: 100-continue", "Expect: a-miracle", "Content-Encoding: br", "Content-Encoding: gzip", "Range: bytes=0-0",
    "Content-Type: multipart/form-data", "Content-Type: \xff", "Idempotency-Key: \xff",
    f"Idempotency-Key: {'k' * 5000}",
    "Cookie: gateway_billing=\xff; gateway_ops=.", "X-Forwarded-For: \x7f, ::::", "X-Forwarded-Uri: //\\..;/%zz?%00",
    "X-Forwarded-Method: \xff", "Accept: \xff/*;q=x", "Accept-Encoding: *;q=0", "traceparent: 00-zz",
    "Upgrade: websocket", "X-HTTP-Method-Override: DELETE", "Transfer-Encoding: chunked",
)  # fmt: skip
WRITES = {
    "ops": ("/admin/v1/accounts", "/admin/v1/accounts/a/grants", "/admin/v1/accounts/a/keys/x", "/admin/ui/sign-in"),
    "customers": ("/credit/v1/holds", "/credit/v1/holds/x/settle", "/billing/v1/alerts/x", "/billing/sign-in",
                  "/billing/webhooks/stripe", "/callbacks/a/b/c", "/authz", "/authz/path/v1/renderings", CHAT_PATH),
}  # fmt: skip
READS = {
    "ops": ("/admin/v1/accounts", "/admin/v1/audit", "/admin/v1/accounts/a/entries", "/admin/v1/accounts/%00/keys",
            "/admin/ui/accounts/%2e%2e", "/admin/ui/assets/..%2f..%2fops.py", "/metrics", "/readyz"),
    "customers": ("/billing/v1/charges", "/billing/v1/usage", "/billing/assets/..%2f..%2fsite.py", "/v2/transcript",
                  "/v1/sessions", "/v3/token", "/v3/ws", "/authz", "/credit/v1/openapi.json"),
}  # fmt: skip


def sender(path: str, key: str) -> tuple[str, ...]:
    """Who may ask there, so that what is odd is read at all."""
    if path.startswith("/credit"):
        return (f"Authorization: Bearer {TOKEN}",)
    return (f"Authorization: {key}", f"X-Gateway-Token: {TOKEN}")


def corpus(which: str, key: str) -> Iterable[bytes]:
    """Every request."""
    for path in WRITES[which]:
        who, method = sender(path, key), "PUT" if path.endswith("/x") else "POST"
        for body in BODIES:
            yield message(f"{method} {path} HTTP/1.1", "Host: h", *who, body=body)
        for field in FIELDS:
            yield message(f"{method} {path} HTTP/1.1", "Host: h", *who, field, body=b"{}")
    for path in READS[which]:
        who = sender(path, key)
        for query in QUERIES:
            yield get_bytes(f"{path}?{query}", *who)
        for field in FIELDS[:-1]:
            yield get_bytes(path, *who, field)
        for method in ("HEAD", "OPTIONS", "TRACE", "PATCH", "\x7f"):
            yield get_bytes(path, *who, method=method)


async def answered(port: int, request: bytes) -> int:
    """The status that a request is answered with, on a connection of its own; 0 for none."""
    told = b""
    async with await RawClient.open(port) as client:
        with suppress(ConnectionError, TimeoutError):
            await client.send(request)
            async with asyncio.timeout(30):
                while not told.removeprefix(CONTINUE):
                    if not (piece := await client.reader.read(2**16)):
                        break
                    told += piece
    return int(told.removeprefix(CONTINUE)[9:12] or 0)


async def test_nothing_that_is_sent_is_a_fault_of_ours(
    tmp_path: Path, empty_redis: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hundreds of odd requests to both listeners: each is answered, none with a 5xx, and no fault is logged."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("a", tier="contracted")  # no limit of requests is reached
        assert gw.operators is not None, "both listen"
        ports = {"ops": (gw.operators.port, f"Bearer {ADMIN_TOKEN}"), "customers": (gw.gateway.customers_port, key)}
        at_once = asyncio.Semaphore(16)

        async def tried(port: int, request: bytes) -> tuple[bytes, int]:
            async with at_once:
                return request, await answered(port, request)

        for which, (port, who) in ports.items():
            found = await asyncio.gather(*(tried(port, request) for request in corpus(which, who)))
            assert len(found) > 300
            assert [(request[:300], status) for request, status in found if not 200 <= status < 500] == []
        faults = [each for each in caplog.records if each.name.startswith("gateway") and each.levelno >= logging.ERROR]
        assert faults == []
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200
