"""One call and where it stands, and the two sides that it has: the client's port and the answer.

Owns: the mutable state of a call (the only mutable record of the path), moved by the table in `core.exchange`.
Does not know: how bytes are read or written.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.admission import RateState
from gateway.core.audio.probe import Probe
from gateway.core.errors import Refused
from gateway.core.exchange import Move, State, after
from gateway.core.money import ZERO, Nanos
from gateway.core.parameters import without
from gateway.core.pricing import PriceTable
from gateway.core.record import record
from gateway.pipeline.content import Content
from gateway.ports import Identity, Resource, ResourceRef
from gateway.settings.plans import Tier
from gateway.settings.routes import Route
from gateway.sockets.ports import Relay, Watch, Watcher

_HOLDING: Final = frozenset({State.ADMITTED, State.FORWARDED, State.METERED, State.FAILED})


@record
class Answer:
    """A whole answer for the client: its body is in hand before its head goes."""

    status: int
    reason: str
    headers: CIMultiDict[str]
    body: bytes


class ClientGone(Exception):
    """The client has left; nothing more can be written to it."""


class BodyRefused(Exception):
    """The client's body cannot be taken: too large, too slow, or cut short. `refused` says which, None if cut short."""

    def __init__(self, refused: Refused | None) -> None:
        super().__init__(refused.code if refused else "the client left in the middle of its body")
        self.refused = refused


class Client(Protocol):
    """The customer's side of a call, as the edge offers it to the pipeline."""

    @property
    def method(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def raw_path(self) -> str:
        """Percent-encoded, without the query."""

    @property
    def query_string(self) -> str: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def address(self) -> str: ...
    @property
    def content_length(self) -> int | None: ...
    @property
    def has_body(self) -> bool: ...
    @property
    def gone(self) -> bool: ...

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; BodyRefused."""

    def stream(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes; BodyRefused."""

    async def start(self, status: int, reason: str, headers: CIMultiDict[str], length: int | None) -> None:
        """Send the head of an answer whose body follows; ClientGone."""

    def write(self, chunk: bytes) -> bool:
        """Send a piece of the body; whether the client is slow, so that who writes on waits. ClientGone."""

    async def drained(self) -> None:
        """Wait while the client is slow; ClientGone."""

    async def finish(self) -> None:
        """The body is complete; ClientGone."""

    def drain_within(self, seconds: float) -> None:
        """How long the call may go on after its client left, before it is cancelled."""

    def when_leaving(self, told: Callable[[], None]) -> None:
        """Tell when the client has left; at once if it has. What is told may still shorten `drain_within`."""

    def abort(self) -> None:
        """Cut the connection: the body that was started cannot be completed, and must not look complete."""

    @property
    def wants_socket(self) -> bool:
        """Whether this is the opening handshake of a WebSocket that we can take (RFC 6455 4.2.1)."""

    def accept_socket(self, watch: Watch, watcher: Watcher, headers: CIMultiDict[str], subprotocol: str) -> Relay:
        """Answer 101 with these headers, and take the connection over. Of what the client sends nothing is passed on
        before an upstream is joined. ClientGone."""


class Call:
    """Everything known of one call so far."""

    __slots__ = (
        "admit_seconds",
        "admitted_hold",
        "answered",
        "available",
        "body",
        "body_refused",
        "bounds",
        "callback",
        "charged",
        "client",
        "code",
        "content",
        "content_bytes",
        "covered_locally",
        "endpoint",
        "estimate",
        "estimated",
        "has_place",
        "hides_report",
        "id",
        "identity",
        "late",
        "made",
        "metered",
        "name",
        "outcome",
        "probe",
        "queued",
        "rates",
        "record",
        "repeated",
        "reply_bytes",
        "request_bytes",
        "resources",
        "route",
        "settle_seconds",
        "sources",
        "started",
        "state",
        "status",
        "table",
        "tier",
        "unfinished",
        "unseen_bytes",
        "upstream",
        "upstream_seconds",
        "upstream_status",
    )

    def __init__(self, call_id: str, client: Client, route: Route, params: Mapping[str, str], started: float) -> None:
        self.id = call_id
        self.client = client
        self.route = route
        self.upstream = route.product.upstream  # narrowed to where the call may go, once it is placed
        self.endpoint = ""  # which of its endpoints has answered
        self.bounds: Mapping[str, Collection[str]] = {}  # what it is bound to
        self.started = started
        self.state = State.RECEIVED
        #: What is known of the call: path and query at first, then the request, the job's record, the reply.
        self.sources: dict[str, Any] = {"path": params, "query": client.query, "request_header": client.headers}
        self.identity: Identity | None = None
        self.tier: Tier | None = None
        self.table: PriceTable | None = None
        self.rates: tuple[RateState, ...] = ()
        self.resources: tuple[ResourceRef, ...] = ()
        self.record: Resource | None = None
        self.made: tuple[Resource, ...] = ()  # what it is about, as its admission found it
        self.body: bytes | None = None
        self.name = ""  # the client's own for this call, as the ledger knows it
        self.content: Content | None = None  # listens to a body that passes, where its call has a name
        self.repeated: Answer | None = None  # this call is a repeat of one that had this answer
        self.callback: Mapping[str, str] | None = None  # ours was put in: what the client gave, if it gave any
        self.body_refused: BodyRefused | None = None
        self.probe: Probe | None = None  # listens to a body of audio as it passes
        self.admitted_hold: Nanos = ZERO
        self.estimate: Nanos = ZERO
        self.available: Nanos = ZERO  # what was left beside the hold
        #: The ledger operation under way. If the call is cut down, it is done again to its end: it has an operation id.
        self.unfinished: Callable[[], Awaitable[object]] | None = None
        self.covered_locally = False
        self.has_place = False  # among its account's calls, until it is over
        self.queued = False  # it may not go on: it waits in the queue of its class
        self.metered = False  # whether this call was admitted as one that costs
        self.hides_report = False  # we ask for a report of usage that the client did not ask for
        self.content_bytes = 0  # of the reply, as far as it was read
        self.answered = False  # all has been sent, or we cut it: a client that leaves now leaves nothing
        self.charged: Nanos | None = None
        self.late = False
        self.estimated = False
        self.outcome = "passed"
        self.code = ""
        self.status = 0
        self.upstream_status = 0
        self.request_bytes = 0
        self.unseen_bytes = 0  # of the request as the service reads it: what it unpacks, and what it puts in
        self.reply_bytes = 0
        self.admit_seconds = 0.0
        self.upstream_seconds = 0.0
        self.settle_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.route.name} {self.state} held={self.admitted_hold} charged={self.charged}>"

    def move(self, move: Move) -> None:
        """Change the state by the table; IllegalMove if the table has no such move."""
        self.state = after(self.state, move)

    def refuse(self, refused: Refused) -> None:
        """Note that the caller is refused, whatever had been done for it."""
        if self.state is State.RECEIVED:
            self.move(Move.REFUSE)
        self.code = str(refused.code)
        if self.outcome == "passed":
            self.outcome = "refused"

    @property
    def size(self) -> int:
        """How large the request is to the service, as estimates know it: where nobody says, the most that it may be."""
        if self.body is not None:
            return len(self.body) + self.unseen_bytes
        if not self.client.has_body:
            return 0
        length = self.client.content_length
        if length is None or self.client.headers.get("Content-Encoding", "identity") != "identity":
            return self.route.body_bytes_max
        return length

    @property
    def account(self) -> str:
        """The account that pays. Only known once the caller is identified."""
        assert self.identity is not None, "the caller is not identified yet"
        return self.identity.account

    @property
    def query(self) -> str:
        """The query as the service sees it: as it was sent, without what is ours."""
        query = self.client.query_string
        return without(query, self.route.product.dropped_query) if query else ""

    @property
    def holds(self) -> bool:
        """Whether a hold of this call is open in the ledger, for all that is known."""
        return self.metered and self.state in _HOLDING
