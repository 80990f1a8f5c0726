"""A call that is served elsewhere, as it is told to us: a `Client` of whom nothing comes and to whom nothing goes.

Owns: what stands for a request where there is none. Does not know: who tells, or whether they may.
"""

# ruff: noqa: ARG002 - nothing goes to such a client
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import Code, Refused
from gateway.pipeline.call import BodyRefused
from gateway.ports import Identity
from gateway.sockets.ports import Relay, Watch, Watcher

_NO_HEADERS: CIMultiDict[str] = CIMultiDict()


class ToldClient:
    """A `pipeline.call.Client`. `identity`: whose call it is, where that was told; else its headers carry the key.

    `told` is what was told of its body.
    """

    gone = False
    wants_socket = False
    scheme = "https"

    def __init__(
        self,
        *,
        method: str = "POST",
        raw_path: str = "",
        query_string: str = "",
        host: str = "",
        headers: Mapping[str, str] | None = None,
        address: str = "",
        body: bytes = b"",
        identity: Identity | None = None,
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.query_string = query_string
        self.host = host
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(_NO_HEADERS if headers is None else CIMultiDict(headers))
        self.address = address
        self.identity = identity
        self.told = body

    def __repr__(self) -> str:
        return f"<ToldClient {self.method} body={len(self.told)}>"

    @property
    def query(self) -> Mapping[str, str]:
        """The query's fields, the last one of a name."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True)) if self.query_string else {}

    @property
    def content_length(self) -> int | None:
        """Of what was told."""
        return len(self.told)

    @property
    def has_body(self) -> bool:
        """Whether something was told of it."""
        return bool(self.told)

    async def read(self, bytes_max: int) -> bytes:
        """What was told of the body; one without is empty JSON."""
        if len(self.told) > bytes_max:
            raise BodyRefused(Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(bytes_max)}))
        return self.told or b"{}"

    def stream(self, bytes_max: int) -> AsyncIterator[bytes]:
        """See `Client`."""
        raise _nothing_goes()

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """See `Client`."""
        raise _nothing_goes()

    def write(self, chunk: bytes) -> bool:
        """See `Client`."""
        raise _nothing_goes()

    async def drained(self) -> None:
        """See `Client`."""
        raise _nothing_goes()

    async def finish(self) -> None:
        """See `Client`."""
        raise _nothing_goes()

    def drain_within(self, seconds: float) -> None:
        """See `Client`."""
        raise _nothing_goes()

    def when_leaving(self, told: Callable[[], None]) -> None:
        """See `Client`."""
        raise _nothing_goes()

    def abort(self) -> None:
        """See `Client`."""
        raise _nothing_goes()

    def accept_socket(self, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str) -> Relay:
        """See `Client`."""
        raise _nothing_goes()


def _nothing_goes() -> AssertionError:
    return AssertionError("a call that is served elsewhere is admitted here, and nothing else")
