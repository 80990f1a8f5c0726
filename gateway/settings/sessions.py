"""Sessions over open sockets, compiled: their slices and limits, their frames, and the tokens that open them.

Owns: the shape of it. Does not know: YAML, sockets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import Code
from gateway.core.extract import Field
from gateway.settings.resources import Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWording:
    """A text frame of ours, and how the socket is closed after it.

    `body`: JSON data in which "{message}", "{code}", "{close_code}", "{call_id}" and "{session_id}" are filled; None:
    no frame. A string that is exactly one of them becomes its value (a number, or null where there is no session yet).
    In `close_reason` "{code}" and "{message}" are filled. `message` None: as the product's dialect words the code.
    """

    body: Any
    close_code: int
    close_reason: str
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFrame:
    """A client's text frame of this type that names a resource: passed on only if the resource is the caller's.

    The requirement reads the frame as source `frame`. `refusal` words that there is no such resource; None: as
    NOT_FOUND of the session.
    """

    type: str
    requirement: Requirement
    refusal: FrameWording | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusingFrame:
    """The upstream's text frame of this type, with this value, refuses us: our credential, our account there."""

    type: str
    field: Field
    equals: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A socket that is paid for while it is open, in slices. Seconds, bytes and counts as named.

    Text frames are told apart by the JSON field `type_field`. Of the upstream's, those of type `begins` name the
    session (`id`), those of `ends` and of `reports` carry usage; the fields of all of them, laid over one another, are
    the source `frame`. Of the client's, those of `updates` change what is charged from then on (their fields, laid over
    one another, are the source `request`; `Route.known_fields` knows them), and `judged` ones must name the caller's
    own resources. `refusing` ones of the upstream's are for us alone: the client's key is good. Frames of other types
    are never parsed, binary ones never looked at.
    `terminate` is the text frame that makes the upstream end the session; empty: it has none, and is closed.
    `refusals` words refusals in band by code, `refusal` the others; where `refusal` is None, refusals before the
    upgrade are HTTP errors. `kind`: the kind of resource that the session is to its account; "" is none.
    """

    slice_seconds: float
    renew_before_seconds: float
    warn_seconds: float
    grace_seconds: float
    redis_grace_seconds: float
    seconds_max: float
    idle_seconds_max: float  # 0: no limit
    ping_seconds: float  # 0: never
    message_bytes_max: int
    buffer_bytes_max: int
    stalled_seconds_max: float
    kind: str
    id: Field | None
    expires: str | None  # field of the frame that begins it with the time of its end, in seconds since 1970
    type_field: str
    begins: str
    ends: str
    reports: frozenset[str]
    updates: frozenset[str]
    judged: tuple[JudgedFrame, ...]
    refusing: tuple[RefusingFrame, ...]
    client_binary: bool  # whether clients may send binary frames
    terminate: str
    refusal: FrameWording | None
    refusals: Mapping[Code, FrameWording]
    #: JSON body of a text frame in which "{seconds_left}" is filled; None: the dialect has no room for one.
    warning: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMint:
    """A route at which the gateway itself mints a temporary token for its caller's sessions of `product`.

    Query parameters name the seconds for which it may be used, and the longest session that it opens.
    `once`: it opens one session; else as many as it lives for. `reply` is the JSON body, in which "{token}" and
    "{expires_in_seconds}" are filled.
    """

    product: str
    expires_parameter: str
    expires_seconds_min: int
    expires_seconds_max: int
    expires_seconds_default: int | None  # None: the parameter is required
    session_parameter: str
    session_seconds_min: int
    session_seconds_max: int
    once: bool
    reply: Any
