"""Sockets in a product's file: sessions that are paid for while they are open, and the tokens that open them."""

from typing import Annotated, Any

from pydantic import AfterValidator

from gateway.settings.schema.base import Filled, Flag, Framed, Name, Seconds, Settings, Texts, Whole, key

SESSION_SECONDS_MAX = 86400
TOKEN_SECONDS_MAX = 86400
MESSAGE_BYTES_MAX = 64 * 1024**2
#: What a Close frame has room for, besides its code (RFC 6455 5.5).
CLOSE_REASON_BYTES_MAX = 123


def _close_code(code: int) -> int:
    if code not in (1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)):
        raise ValueError("an endpoint may close with 1000 to 1003, 1007 to 1014, or 3000 to 4999")
    return code


def _close_reason(text: str) -> str:
    if len(text.encode()) > CLOSE_REASON_BYTES_MAX:
        raise ValueError(f"a close reason has at most {CLOSE_REASON_BYTES_MAX} bytes")
    return text


CloseCode = Annotated[Whole, AfterValidator(_close_code)]
CloseReason = Annotated[Filled, AfterValidator(_close_reason)]


class FrameWordingSettings(Settings):
    """How one code is worded in band; what is left out is as for every code."""

    message: Filled | None = key(
        "Sentence for people; `{name}` is filled from the refusal's details", default=None, shown="the dialect's"
    )
    body: Any = key("Body in place of the session's", default=None, shown="the session's")
    close_code: CloseCode | None = key("Code of the Close frame", default=None, shown="the session's")
    close_reason: CloseReason | None = key("Reason of the Close frame", default=None, shown="the session's")


class FrameRefusalsSettings(Settings):
    """The dialect of refusals in band: the handshake is accepted, then a text frame says why, then it is closed."""

    body: Any = key(
        "JSON of the text frame; `{message}`, `{code}`, `{close_code}`, `{call_id}` and `{session_id}` are filled",
        default=None, shown="no frame: only a Close frame",
    )  # fmt: skip
    close_code: CloseCode = key("Code of the Close frame", default=1008)
    close_reason: CloseReason = key("Reason of the Close frame; `{code}` and `{message}` are filled", default="{code}")
    codes: dict[str, FrameWordingSettings] = key("Single codes that are worded differently", default=dict, shown="none")


class JudgedSettings(Settings):
    """A client's frame that names a resource: passed on only if the resource is the caller's."""

    type: Filled = key("Type of the frame")
    resource: Name = key("Kind of resource")
    id: Framed = key("Where the frame names it; where that is absent, the frame passes")
    refusal: FrameWordingSettings = key(
        "How it is worded that there is no such resource", default=FrameWordingSettings, shown="as `not_found`"
    )


class RefusingSettings(Settings):
    """A frame by which the upstream refuses the gateway itself: its credential, its credit, one session too many."""

    type: Filled = key("Type of the frame")
    field: Framed = key("Field that tells it from others of this type")
    equals: Any = key("What that field then says")


class FramesSettings(Settings):
    """The text frames that are looked at. Frames of other types, and binary ones, pass as they come."""

    type_field: Filled = key("Field that tells a frame's type", default="type")
    begins: Filled | None = key("Type of the upstream's frame that begins the session", default=None, shown="none")
    ends: Filled | None = key("Type of the upstream's frame that reports its end", default=None, shown="none")
    reports: Texts = key("Types of the upstream's other frames that report usage", default=list, shown="none")
    updates: Texts = key(
        "Types of the client's frames whose fields change what is charged from then on", default=list, shown="none"
    )
    judged: list[JudgedSettings] = key("The client's frames that name resources", default=list, shown="none")
    refuses_us: list[RefusingSettings] = key(
        "The upstream's frames by which it refuses the gateway and not its client", default=list, shown="none"
    )
    id: Framed | None = key("Where the frame that begins it names the session", default=None, shown="nowhere")
    expires: Filled | None = key(
        "Its field with the time at which the session ends at the latest, in seconds since 1970: shown as it is here, "
        "where a token or `seconds_max` allows less",
        default=None, shown="none",
    )  # fmt: skip
    terminate: Any = key(
        "JSON of the text frame that makes the upstream end the session", default=None, shown="none: it is closed"
    )
    warning: Any = key(
        "JSON of a text frame to a client whose credit runs low; `{seconds_left}` is filled",
        default=None, shown="none",
    )  # fmt: skip
    client_binary: Flag = key("Clients may send binary frames", default=True)


class SessionSettings(Settings):
    """A socket that is paid for while it is open, in slices."""

    slice_seconds: Seconds = key(
        "Credit is held for so long at a time", default=30.0, unit="seconds", ge=0.1, le=SESSION_SECONDS_MAX
    )
    renew_before_seconds: Seconds = key(
        "So long before a slice ends the next one is held", default=5.0, unit="seconds", ge=0.01, le=3600
    )
    warn_seconds: Seconds = key(
        "The client is warned when its credit covers less", default=60.0, unit="seconds", ge=0, le=SESSION_SECONDS_MAX
    )
    grace_seconds: Seconds = key(
        "How long the upstream's last frames are passed on after it was told to end", default=5.0, unit="seconds",
        ge=0, le=300,
    )  # fmt: skip
    redis_grace_seconds: Seconds = key(
        "How long it goes on, unsettled, while the ledger is away", default=30.0, unit="seconds", ge=0, le=3600
    )
    seconds_max: Seconds = key("Longest session", default=10800.0, unit="seconds", ge=1, le=SESSION_SECONDS_MAX)
    idle_seconds_max: Seconds = key(
        "Ended when no frame of data came for so long, from either side; 0: never", default=0.0, unit="seconds",
        ge=0, le=SESSION_SECONDS_MAX,
    )  # fmt: skip
    ping_seconds: Seconds = key(
        "How often a silent client is pinged, so that one that is lost is noticed; 0: never", default=30.0,
        unit="seconds", ge=0, le=3600,
    )  # fmt: skip
    message_bytes_max: Whole = key(
        "Size of one message, either way", default=1024**2, unit="bytes", ge=1024, le=MESSAGE_BYTES_MAX
    )
    buffer_bytes_max: Whole = key(
        "Bytes that wait for a slow side, after which the other side is not read", default=256 * 1024, unit="bytes",
        ge=1024, le=MESSAGE_BYTES_MAX,
    )  # fmt: skip
    stalled_seconds_max: Seconds = key(
        "A side that takes nothing for so long is cut", default=30.0, unit="seconds", ge=1, le=3600
    )
    resource: Name | None = key("Kind of resource that a session is to its account", default=None, shown="none")
    frames: FramesSettings = key("The text frames that are looked at", default=FramesSettings, shown="none")
    refusals: FrameRefusalsSettings | None = key(
        "Refusals in band, after the handshake; without, they are HTTP errors before it", default=None, shown="none"
    )
    dropped_parameters: list[Filled] = key(
        "Query parameters of the gateway's own, passed on at no product's routes; temporary tokens come as `token`",
        default=lambda: ["token"], shown="`[token]`",
    )  # fmt: skip


class MintSettings(Settings):
    """A route at which the gateway itself mints temporary tokens for sessions; nothing is forwarded."""

    product: Name | None = key("Product whose sessions they open", default=None, shown="this one")
    expires: Filled = key("Query parameter: for how long it opens sessions", default="expires_in_seconds")
    expires_seconds_min: Whole = key("Least that may be asked for", default=1, unit="seconds", ge=1)
    expires_seconds_max: Whole = key("Most that may be asked for", default=600, unit="seconds", le=TOKEN_SECONDS_MAX)
    expires_seconds_default: Whole | None = key(
        "Where none is asked for", default=None, unit="seconds", shown="none: the parameter is required"
    )
    session: Filled = key("Query parameter: longest session that it opens", default="max_session_duration_seconds")
    session_seconds_min: Whole = key("Least that may be asked for", default=60, unit="seconds", ge=1)
    session_seconds_max: Whole = key(
        "Most that may be asked for, and where none is", default=10800, unit="seconds", le=SESSION_SECONDS_MAX
    )
    once: Flag = key("It opens one session; else as many as it lives for", default=False)
    reply: Any = key("JSON body of the reply; `{token}` and `{expires_in_seconds}` are filled")
