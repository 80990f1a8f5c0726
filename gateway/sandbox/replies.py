"""Replies and their delivery.

Owns: the value in which a product's handler answers (`Reply`), and every way, good or bad, in which its bytes can
reach the client.
Does not know: products, credentials, or why a reply says what it says.
"""

import asyncio
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

from gateway.sandbox.knobs import Knobs

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"

_EARLY_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </hint>; rel=preload\r\n\r\n"
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers, and the body in the parts in which it is sent: one, unless it is a stream of events."""

    status: int
    parts: tuple[bytes, ...]
    content_type: str = JSON
    headers: Mapping[str, str] | None = None
    streamed: bool = False


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON reply."""
    return Reply(status, (orjson.dumps(value),), JSON, headers)


def text_reply(text: str) -> Reply:
    """A reply of text."""
    return Reply(200, (text.encode(),), "text/plain; charset=utf-8")


async def send_early_hints(request: web.Request, count: int) -> None:
    """So many interim responses, past the framework, which knows none."""
    if request.transport is not None:
        request.transport.write(_EARLY_HINTS * count)


def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection; what the framework writes afterwards has nowhere to go."""
    transport = request.transport
    if transport is not None:
        request.protocol.force_close()
        transport.close()
    return web.Response()


async def keep_waiting(request: web.Request, closing: asyncio.Event) -> web.StreamResponse:
    """Give no answer until the client leaves or the sandbox stops."""
    while not closing.is_set() and request.transport is not None and not request.transport.is_closing():
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await closing.wait()
        except TimeoutError:
            continue
    return hang_up(request)


async def deliver(request: web.Request, reply: Reply, knobs: Knobs, closing: asyncio.Event) -> web.StreamResponse:
    """Send the reply as the knobs say."""
    if knobs.body == "no_reply":
        return hang_up(request)
    if knobs.body == "hang":
        return await keep_waiting(request, closing)
    headers = _headers(reply, knobs)
    if knobs.body_bytes:
        reply = _padded(reply, knobs.body_bytes)
    if reply.streamed:
        reply = replace(reply, parts=tuple(_dressed(part, knobs) for part in reply.parts))
    if reply.status in (204, 304):
        return web.Response(status=reply.status, headers=headers)
    if request.method == "HEAD":
        return web.Response(status=reply.status, body=b"".join(reply.parts), headers=headers)
    if knobs.trailers is not None:
        return _send_with_trailers(request, reply, headers, knobs.trailers)
    if reply.streamed and knobs.events_max is not None:
        reply = replace(reply, parts=reply.parts[: knobs.events_max])
    elif knobs.body in ("auto", "content-length") and not (reply.streamed and knobs.body == "auto"):
        return web.Response(status=reply.status, body=b"".join(reply.parts), headers=headers)
    return await _stream(request, reply, headers, knobs)


def _headers(reply: Reply, knobs: Knobs) -> CIMultiDict[str]:
    headers = CIMultiDict({"Content-Type": reply.content_type})
    if reply.headers is not None:
        headers.update(reply.headers)
    if knobs.headers is not None:
        headers.update(knobs.headers)
    if knobs.set_cookie is not None:
        headers.add("Set-Cookie", knobs.set_cookie)
    return headers


def _padded(reply: Reply, count: int) -> Reply:
    first = reply.parts[0] if reply.parts else b""
    if reply.content_type == EVENTS:
        parts = (b": " + b"x" * count + b"\n\n", *reply.parts)
    elif reply.content_type == JSON and first.startswith(b"{") and len(first) > 2:
        parts = (b'{"padding":"' + b"x" * count + b'",' + first[1:], *reply.parts[1:])
    else:
        parts = (*reply.parts, b" " * count)
    return Reply(reply.status, parts, reply.content_type, reply.headers, reply.streamed)


def _send_with_trailers(
    request: web.Request, reply: Reply, headers: CIMultiDict[str], trailers: Mapping[str, str]
) -> web.StreamResponse:
    """Written past the framework, which has no trailers; the connection ends with it."""
    headers["Transfer-Encoding"] = "chunked"
    headers["Connection"] = "close"
    headers["Trailer"] = ", ".join(trailers)
    head = f"HTTP/1.1 {reply.status} Sandbox\r\n" + "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    end = "0\r\n" + "".join(f"{name}: {text}\r\n" for name, text in trailers.items()) + "\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in reply.parts if part)
    if request.transport is not None:
        request.transport.write(head.encode() + b"\r\n" + chunks + end.encode())
    return hang_up(request)


async def _stream(request: web.Request, reply: Reply, headers: CIMultiDict[str], knobs: Knobs) -> web.StreamResponse:
    parts: Iterable[bytes] = reply.parts
    pause = knobs.event_seconds if reply.streamed else 0.0
    length = None if reply.streamed else sum(map(len, reply.parts))
    if knobs.body == "gzip":
        headers["Content-Encoding"] = "gzip"
        parts = list(_gzipped(reply))
        length = None if reply.streamed else sum(map(len, parts))
    elif knobs.body == "slow":
        parts, pause = _pieces(b"".join(reply.parts), knobs.chunk_bytes), knobs.chunk_seconds
    elif knobs.body == "truncated":
        parts = _half(reply)

    response = web.StreamResponse(status=reply.status, headers=headers)
    if length is not None and knobs.body != "chunked":
        response.content_length = length
    elif request.version >= (1, 1):
        response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            if pause:
                await asyncio.sleep(pause)
    except ConnectionError:
        return response  # the client is gone
    if knobs.body == "truncated" or (reply.streamed and knobs.events_max is not None):
        hang_up(request)
    return response


_LINE_ENDS: Final = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def _dressed(part: bytes, knobs: Knobs) -> bytes:
    """A streamed event in the form that the knobs want."""
    if knobs.event_comments:
        part = b": keep-alive\n\n" + part
    return part if knobs.event_lines == "lf" else part.replace(b"\n", _LINE_ENDS[knobs.event_lines])


def _gzipped(reply: Reply) -> Iterator[bytes]:
    if not reply.streamed:
        yield gzip.compress(b"".join(reply.parts), mtime=0)
        return
    packer = zlib.compressobj(wbits=31)
    for part in reply.parts:
        yield packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _half(reply: Reply) -> tuple[bytes, ...]:
    if reply.streamed:
        return reply.parts[: max(1, len(reply.parts) // 2)]
    whole = b"".join(reply.parts)
    return (whole[: max(1, len(whole) // 2)],)


def _pieces(whole: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]
