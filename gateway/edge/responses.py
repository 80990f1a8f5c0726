"""Answers to customers, as aiohttp's connection writes them: whole, or piece by piece.

Owns: an answer's head and framing, the wait for a slow reader, whether a connection has another answer after this one.
Does not know: products, money, where an answer comes from.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from gateway.pipeline.call import Answer

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_LENGTH: Final = frozenset({204, 304})
#: After these nobody waits for the rest of a body.
_GIVES_UP: Final = frozenset({408, 413})
_TAKES_NOTHING_SECONDS: Final = 60.0


class WholeResponse:
    """An answer whose body is in hand: head and body leave in one write, with none of the machinery of a stream.

    It has what aiohttp's connection asks of a response: `prepare`, `write_eof`, `keep_alive`.
    """

    __slots__ = ("_answer", "_protocol", "keep_alive")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._protocol: Any = None
        self.keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write everything. A client that has left is a ConnectionResetError, which aiohttp understands."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        answer = self._answer
        self._protocol = request.protocol
        self.keep_alive = request.keep_alive and not _ends_connection(request, answer.status)
        length = len(answer.body)
        fields = f"Content-Length: {length}\r\n"
        if "Content-Length" in answer.headers or answer.status in _WITHOUT_LENGTH:
            fields = ""
        elif not length and request.method == "HEAD":
            fields = ""  # what GET would send is not known to us
        head = answer_head(request, answer.status, answer.reason, answer.headers, fields, keep_alive=self.keep_alive)
        transport.write(head if request.method == "HEAD" else head + answer.body)

    async def write_eof(self) -> None:
        """Nothing is left to write; a slow reader is waited for before its next request is read.

        One that takes nothing at all for `_TAKES_NOTHING_SECONDS` is cut: its answer would stay in memory for ever.
        """
        protocol, transport = self._protocol, self._protocol.transport
        if not protocol.writing_paused or transport is None:
            return
        # Of its own: one that was cancelled cannot be awaited again.
        drained = asyncio.ensure_future(protocol._drain_helper())
        try:
            while True:
                left = transport.get_write_buffer_size()
                await asyncio.wait({drained}, timeout=_TAKES_NOTHING_SECONDS)
                if drained.done():
                    drained.result()
                    return
                if transport.get_write_buffer_size() >= left:
                    transport.abort()
                    raise ConnectionResetError("the client takes nothing")
        finally:
            drained.cancel()


class StreamedResponse:
    """An answer whose body follows its head piece by piece, with its bytes as the upstream sent them.

    It has what aiohttp's connection asks of a response: `prepare`, `write_eof`, `keep_alive`.
    """

    __slots__ = ("_chunked", "_complete", "_request", "keep_alive")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._chunked = False
        self._complete = False
        self.keep_alive = False

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Write the head. ConnectionError if the client has left, as in what follows."""
        request = self._request
        self._chunked = length is None and request.version >= aiohttp.HttpVersion11
        if self._chunked:
            fields = "Transfer-Encoding: chunked\r\n"
        else:
            fields = "" if length is None else f"Content-Length: {length}\r\n"
        unending = length is None and not self._chunked
        self.keep_alive = request.keep_alive and not unending and not _ends_connection(request, status)
        await self._send(answer_head(request, status, reason, headers, fields, keep_alive=self.keep_alive))

    async def write(self, chunk: bytes) -> None:
        """Write a piece, and wait while the client is slow."""
        if chunk:
            await self._send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    async def finish(self) -> None:
        """The body is complete."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")
        self._complete = True

    async def _send(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        transport.write(data)
        protocol = self._request.protocol
        if protocol.writing_paused:
            await protocol._drain_helper()

    async def prepare(self, _request: web.BaseRequest) -> None:
        """Nothing is left to do; of a body that was not finished, nothing more can come."""
        if not self._complete:
            raise ConnectionResetError("the answer was cut")

    async def write_eof(self) -> None:
        """Nothing is left to write."""


def answer_head(
    request: web.BaseRequest, status: int, reason: str, headers: CIMultiDict[str], framing: str, *, keep_alive: bool
) -> bytes:
    """An answer's head, in the client's version."""
    version = request.version
    if "Date" not in headers:
        framing += f"Date: {rfc822_formatted_time()}\r\n"
    if not keep_alive:
        framing += "Connection: close\r\n"
    elif version < aiohttp.HttpVersion11:
        framing += "Connection: keep-alive\r\n"
    line = f"HTTP/1.{int(version != aiohttp.HttpVersion10)} {status} {reason or _REASONS.get(status, '')}"
    head = "\r\n".join((line, *map(": ".join, headers.items()), framing))
    return f"{head}\r\n".encode("utf-8", "surrogateescape")


def _ends_connection(request: web.BaseRequest, status: int) -> bool:
    """Whether this is the connection's last answer: we are closing, or a refused body will not come, or go on for long.

    A client that waits for `100 Continue` must not take its next request for the body that it kept to itself.
    """
    if request.protocol.closing:  # type: ignore[attr-defined]
        return True
    return status >= 400 and not request.content.is_eof() and (status in _GIVES_UP or "Expect" in request.headers)
