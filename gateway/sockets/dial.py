"""Sockets to upstreams: the client's side of the opening handshake, over TCP or TLS.

Owns: connections from the first packet until a relay takes them over, their time, the mapping of foreign errors.
Does not know: frames, customers, money.
"""

import asyncio
import socket
import ssl
from secrets import token_bytes
from typing import Final, cast

from multidict import CIMultiDict

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.frames import CLOSE, TEXT, close_payload, encoded
from gateway.core.upstreams import Upstream
from gateway.sockets import handshake
from gateway.sockets.ports import UpstreamSocket, Watch
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.fleet import Fleet, Tries

_HEAD_BYTES_MAX: Final = 32 * 1024
#: How long an upstream that is dismissed has for its part.
_CLOSE_SECONDS: Final = 2.0
_GOING_AWAY: Final = 1001
_FAULTS: Final = (OSError, ssl.SSLError)  # TimeoutError is an OSError


class BadAnswer(Exception):
    """What came is no answer to our handshake; says why. `status`: it is HTTP, and refuses."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class DialedSocket(asyncio.Protocol):
    """See `ports.UpstreamSocket`. Until the answer's head has come it reads; then its frames wait where they are."""

    __slots__ = (
        "_dismissed", "_early", "_key", "_offered", "_sockets", "_transport", "answer", "endpoint", "subprotocol",
    )  # fmt: skip

    def __init__(self, sockets: "set[DialedSocket]", key: str, offered: list[str], endpoint: str) -> None:
        self._sockets = sockets
        self._key = key
        self._offered = offered
        self._early = b""
        self._dismissed = False
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.subprotocol = ""
        self.endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, by TCP and TLS."""
        self._transport = cast("asyncio.Transport", transport)
        self._sockets.add(self)
        tcp = transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer, and perhaps of the first frames."""
        if self._dismissed:
            return
        self._early += data
        head, end, rest = self._early.partition(b"\r\n\r\n")
        whole = bool(end) or len(head) > _HEAD_BYTES_MAX
        if self.answer.done() or not whole:
            return
        cast("asyncio.Transport", self._transport).pause_reading()
        self._early = rest
        try:
            if len(head) > _HEAD_BYTES_MAX:
                raise BadAnswer("a head that is too long")
            self.subprotocol = _judged(head, self._key, self._offered)
        except BadAnswer as error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lost before a relay took it over."""
        self._sockets.discard(self)
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    def handed_over(self) -> tuple[asyncio.Transport, bytes]:
        """The connection, and what came behind the answer. From now on it is the relay's."""
        self._sockets.discard(self)
        assert self._transport is not None, "it was connected"
        return self._transport, self._early

    def abort(self) -> None:
        """See `ports.UpstreamSocket`."""
        self.answer.cancel()  # nobody waits for it any more
        if self._transport is not None:
            self._transport.abort()

    def dismiss(self, text: bytes) -> None:
        """See `ports.UpstreamSocket`."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._dismissed = True
        said = [encoded(TEXT, text, token_bytes(4))] if text else []
        transport.write(b"".join((*said, encoded(CLOSE, close_payload(_GOING_AWAY, b""), token_bytes(4)))))
        transport.resume_reading()  # what is not read when it is closed would take our last words away
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, transport.abort)


def _judged(head: bytes, key: str, offered: list[str]) -> str:
    """The chosen subprotocol, if this is the answer that we want. BadAnswer."""
    line, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = line.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise BadAnswer("no HTTP/1.1")
    fields: CIMultiDict[str] = CIMultiDict()
    for text in lines:
        name, colon, value = text.partition(":")
        if not colon or not name or name != name.strip():
            raise BadAnswer("a field that cannot be read")
        fields.add(name, value.strip())
    code = int(status[:3])
    wrong = handshake.objection(code, fields, key, offered)
    if wrong:
        raise BadAnswer(wrong, code if code != 101 else 0)
    return fields.get("Sec-WebSocket-Protocol", "")


def _mapped(error: BaseException) -> UpstreamTimeout | UpstreamUnreachable | None:
    """A foreign error as ours; None: it is none of a handshake."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("the handshake took too long")
    if isinstance(error, BadAnswer):
        refused = UpstreamUnreachable(str(error))
        refused.status = error.status
        return refused
    return UpstreamUnreachable(type(error).__name__) if isinstance(error, _FAULTS) else None


class SocketDialer:
    """See `ports.Dialer`."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        self._fleet = fleet or Fleet()
        self._endpoints: dict[str, Endpoint] = {}
        self._sockets: set[DialedSocket] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._endpoints.values())} waiting={len(self._sockets)}>"

    async def dial(
        self, upstream: Upstream, path_and_query: str, headers: CIMultiDict[str], watch: Watch
    ) -> UpstreamSocket:
        """See `ports.Dialer`."""
        if not upstream.endpoints:
            return await self._dial(upstream, path_and_query, headers, watch)
        tries = Tries(self._fleet, upstream, safe=False)
        while True:
            one = tries.next()
            headers[one.credential_header] = one.credential
            try:
                dialed = await self._dial(one, path_and_query, headers, watch)
            except (UpstreamUnreachable, UpstreamTimeout) as fault:
                goes_on = (
                    tries.passes_over(one, fault.status, whole=True)
                    if isinstance(fault, UpstreamUnreachable) and fault.status
                    else tries.goes_on(one, fault)
                )
                if not goes_on:
                    raise
            else:
                self._fleet.answered(one, 101)
                return dialed

    async def _dial(
        self, upstream: Upstream, path_and_query: str, headers: CIMultiDict[str], watch: Watch
    ) -> UpstreamSocket:
        """The same of one place."""
        endpoint = self._endpoints.get(upstream.name)
        if endpoint is None:
            endpoint = Endpoint(upstream.base_url, verify_tls=upstream.verify_tls)
            self._endpoints[upstream.name] = endpoint
        key = handshake.new_key()
        fields = [*handshake.opening(key).items(), *handshake.without_own(headers)]
        head = endpoint.head("GET", path_and_query, fields)
        dialed = DialedSocket(self._sockets, key, handshake.subprotocols(headers), upstream.endpoint)
        unsent = True
        try:
            async with asyncio.timeout(upstream.connect_seconds_max):
                transport, _ = await endpoint.connect(lambda: dialed)
                transport.set_write_buffer_limits(high=watch.buffer_bytes_max)
                unsent = False
                transport.write(head)
                await dialed.answer
        except BaseException as error:
            dialed.abort()
            fault = _mapped(error)
            if fault is None:
                raise
            fault.unsent = unsent
            raise fault from error
        return dialed

    async def close(self) -> None:
        """See `ports.Dialer`."""
        for dialed in list(self._sockets):
            dialed.abort()
