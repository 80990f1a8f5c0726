"""Answers to customers, as they are written on their connection: whole, or piece by piece.

Owns: an answer's head and framing, whether a connection has another answer after this one.
Does not know: products, money, where an answer comes from.
"""

from http import HTTPStatus
from typing import Final, Protocol

import aiohttp
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict

from gateway.edge.server.carrier import Carrier
from gateway.pipeline.call import Answer

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_LENGTH: Final = frozenset({204, 304})
#: After these nobody waits for the rest of a body.
_GIVES_UP: Final = frozenset({408, 413})


class Asked(Protocol):
    """A request that is answered."""

    @property
    def connection(self) -> Carrier: ...
    @property
    def message(self) -> RawRequestMessage: ...
    @property
    def payload(self) -> StreamReader: ...


def write_whole(asked: Asked, answer: Answer) -> bool:
    """Write head and body at once; whether another request may follow. ConnectionResetError if the client has left."""
    message, status, headers, body = asked.message, answer.status, answer.headers, answer.body
    method = message.method
    framing = f"Content-Length: {len(body)}\r\n"
    if "Content-Length" in headers or status in _WITHOUT_LENGTH or (not body and method == "HEAD"):
        framing = ""  # what GET would send is not known to us
    keep_alive = not message.should_close and not _ends_connection(asked, status)
    head = answer_head(message, status, answer.reason, headers, framing, keep_alive=keep_alive)
    asked.connection.send(head if method == "HEAD" else head + body)
    return keep_alive


class StreamedResponse:
    """An answer whose body follows its head piece by piece, with its bytes as the upstream sent them.

    What is written may wait in memory for a slow client: whoever writes on waits until it has drained. A
    ConnectionResetError means that the client has left.
    """

    __slots__ = ("_asked", "_chunked", "complete", "keep_alive")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._chunked = False
        self.complete = False
        self.keep_alive = False

    def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Write the head."""
        message = self._asked.message
        self._chunked = length is None and message.version >= aiohttp.HttpVersion11
        if self._chunked:
            framing = "Transfer-Encoding: chunked\r\n"
        else:
            framing = "" if length is None else f"Content-Length: {length}\r\n"
        unending = length is None and not self._chunked
        self.keep_alive = not message.should_close and not unending and not _ends_connection(self._asked, status)
        head = answer_head(message, status, reason, headers, framing, keep_alive=self.keep_alive)
        self._asked.connection.send(head)

    def write(self, chunk: bytes) -> None:
        """Write a piece."""
        if chunk:
            self._asked.connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def finish(self) -> None:
        """The body is complete."""
        if self._chunked:
            self._asked.connection.send(b"0\r\n\r\n")
        self.complete = True


def answer_head(
    message: RawRequestMessage, status: int, reason: str, headers: CIMultiDict[str], framing: str, *, keep_alive: bool
) -> bytes:
    """An answer's head, in the client's version."""
    version = message.version
    if "Date" not in headers:
        framing += f"Date: {rfc822_formatted_time()}\r\n"
    if not keep_alive:
        framing += "Connection: close\r\n"
    elif version < aiohttp.HttpVersion11:
        framing += "Connection: keep-alive\r\n"
    line = f"HTTP/1.{int(version != aiohttp.HttpVersion10)} {status} {reason or _REASONS.get(status, '')}"
    head = "\r\n".join((line, *map(": ".join, headers.items()), framing))
    return f"{head}\r\n".encode("utf-8", "surrogateescape")


def _ends_connection(asked: Asked, status: int) -> bool:
    """Whether this is the connection's last answer: we are closing, or a refused body will not come, or go on for long.

    A client that waits for `100 Continue` must not take its next request for the body that it kept to itself.
    """
    if asked.connection.closing:
        return True
    return status >= 400 and not asked.payload.is_eof() and (status in _GIVES_UP or "Expect" in asked.message.headers)
