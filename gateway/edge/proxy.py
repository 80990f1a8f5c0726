"""The customers' listener: aiohttp's low-level server on one side, the pipeline on the other.

Owns: reading and writing the customer's bytes, noticing that the customer left, `Expect: 100-continue`.
Does not know: products, money.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import Code, Refused
from gateway.pipeline.call import Answer, BodyRefused, ClientGone
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits

_BODY_FAILED: Final = (ConnectionError, web.RequestPayloadError, aiohttp.ClientError)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_LENGTH: Final = frozenset({204, 304})
_DRAIN_SECONDS_DEFAULT: Final = 60.0


class CustomerConnection(web.RequestHandler):
    """aiohttp's connection, which also tells the call at hand that its client has left."""

    call: "RequestClient | None" = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone: bound what the call may still do."""
        call = self.call
        super().connection_lost(exc)
        if call is not None:
            call.lost()


class CustomerServer(web.Server):
    """Makes `CustomerConnection`s; every option of aiohttp's server by name."""

    def __init__(self, pipeline: HttpPipeline, limits: Limits) -> None:
        super().__init__(self._handle, handler_cancellation=False)
        self._pipeline = pipeline
        self._limits = limits
        self._options: dict[str, Any] = {
            "keepalive_timeout": 75.0,
            "tcp_keepalive": True,
            "access_log": None,
            "max_line_size": limits.header_bytes_max,
            "max_field_size": limits.header_bytes_max,
            "max_headers": 128,
            "lingering_time": 10.0,
            "read_bufsize": 2**16,
            "auto_decompress": False,
        }

    def __call__(self) -> web.RequestHandler:
        """A new connection. Over the limit of connections it is closed at once."""
        connection = CustomerConnection(self, loop=asyncio.get_running_loop(), **self._options)
        if len(self._connections) >= self._limits.connections_max:
            connection.force_close()
        return connection

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        client = RequestClient(request, self._limits)
        connection = request.protocol
        connection.call = client  # type: ignore[attr-defined]
        try:
            answer = await self._pipeline.serve(client)
        finally:
            connection.call = None  # type: ignore[attr-defined]
            client.done()
        if answer is None:
            return client.response or web.Response(status=400)
        return cast("web.StreamResponse", WholeResponse(answer))


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
        self.keep_alive = request.keep_alive
        reason = answer.reason or _REASONS.get(answer.status, "")
        lines = [f"HTTP/{request.version.major}.{request.version.minor} {answer.status} {reason}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in answer.headers.items()]
        if "Date" not in answer.headers:
            lines.append(f"Date: {rfc822_formatted_time()}\r\n")
        if "Content-Length" not in answer.headers and answer.status not in _WITHOUT_LENGTH:
            lines.append(f"Content-Length: {len(answer.body)}\r\n")
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        elif request.version < aiohttp.HttpVersion11:
            lines.append("Connection: keep-alive\r\n")
        lines.append("\r\n")
        head = "".join(lines).encode("utf-8", "surrogateescape")
        transport.write(head if request.method == "HEAD" else head + answer.body)

    async def write_eof(self) -> None:
        """Nothing is left to write; a slow reader is waited for before its next request is read."""
        if self._protocol.writing_paused:
            await self._protocol._drain_helper()


class RequestClient:
    """A `pipeline.call.Client` over one aiohttp request."""

    __slots__ = ("_drain_seconds", "_limits", "_lost_timer", "_request", "_task", "gone", "response")

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self._task = request.task
        self._drain_seconds = _DRAIN_SECONDS_DEFAULT
        self._lost_timer: asyncio.TimerHandle | None = None
        self.gone = False
        self.response: web.StreamResponse | None = None

    # ---- what was asked

    @property
    def method(self) -> str:
        """The method as sent."""
        return self._request.method

    @property
    def host(self) -> str:
        """The `Host` field, or where we listen."""
        return self._request.host

    @property
    def scheme(self) -> str:
        """http or https, as this listener saw it."""
        return self._request.scheme

    @property
    def raw_path(self) -> str:
        """Percent-encoded, without the query."""
        return self._request.raw_path.partition("?")[0]

    @property
    def query_string(self) -> str:
        """The raw query, without its question mark."""
        return self._request.raw_path.partition("?")[2]

    @property
    def query(self) -> Mapping[str, str]:
        """The query's fields, the last one of a name."""
        query = self.query_string
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=1000)) if query else {}

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """As sent."""
        return self._request.headers

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._request.remote or ""

    @property
    def content_length(self) -> int | None:
        """As declared."""
        return self._request.content_length

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self._request.body_exists

    # ---- its body

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; BodyRefused if it is too large, too slow, or cut short."""
        if not self._request.body_exists:
            return b""
        content = self._request.content
        if content.is_eof() and content.exception() is None:  # in hand already: nothing to wait for
            body = content.read_nowait(-1)
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_read_seconds_max):
                async for chunk in self._chunks():
                    size += len(chunk)
                    if size > bytes_max:
                        raise _too_large(bytes_max)
                    chunks.append(chunk)
        except TimeoutError:
            raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def stream(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes; a pause longer than `body_read_seconds_max` is BodyRefused."""
        size = 0
        async for chunk in self._chunks():
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            yield chunk

    async def _chunks(self) -> AsyncIterator[bytes]:
        request = self._request
        if request.version >= aiohttp.HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
            if request.transport is None:
                raise BodyRefused(None)
            request.transport.write(_CONTINUE)
        content = request.content
        while True:
            try:
                async with asyncio.timeout(self._limits.body_read_seconds_max):
                    chunk = await content.readany()
            except TimeoutError:
                raise BodyRefused(Refused(code=Code.REQUEST_TIMEOUT)) from None
            except _BODY_FAILED:
                raise BodyRefused(None) from None
            if not chunk:
                return
            yield chunk

    # ---- the answer, where it is streamed

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Send the head; ClientGone."""
        response = web.StreamResponse(status=status, reason=reason or None, headers=headers)
        if length is not None:
            response.content_length = length
        self.response = response
        await self._written(response.prepare(self._request))

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body; ClientGone."""
        assert self.response is not None, "the head goes first"
        await self._written(self.response.write(chunk))

    async def finish(self) -> None:
        """The body is complete; ClientGone."""
        assert self.response is not None, "the head goes first"
        await self._written(self.response.write_eof())

    async def _written(self, writing: Any) -> None:
        try:
            await writing
        except (ConnectionError, aiohttp.ClientError):
            self.gone = True
            raise ClientGone from None

    def abort(self) -> None:
        """Cut the connection, so that an unfinished body does not look finished."""
        if self._request.transport is not None:
            self._request.transport.abort()

    # ---- the client leaves

    def drain_within(self, seconds: float) -> None:
        """How long the call may go on after its client left."""
        self._drain_seconds = seconds

    def lost(self) -> None:
        """The connection is gone. The call goes on for a while: what the upstream reports is still owed."""
        self.gone = True
        if not self._task.done():
            self._lost_timer = asyncio.get_running_loop().call_later(self._drain_seconds, self._task.cancel)

    def done(self) -> None:
        """The call is over."""
        if self._lost_timer is not None:
            self._lost_timer.cancel()


def _too_large(bytes_max: int) -> BodyRefused:
    return BodyRefused(Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(bytes_max)}))
