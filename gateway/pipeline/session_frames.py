"""What a session says in band, and what of its traffic is looked at.

Owns: the text frames that the gateway itself writes.
Does not know: sockets, money.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.core.errors import Refused
from gateway.pipeline.refusals import filled, sentence, worded
from gateway.settings.products import ErrorStyle
from gateway.settings.sessions import FrameWording, Session
from gateway.sockets.ports import Watch

#: Where a product has no words of its own for a refusal in band: policy violation (RFC 6455 7.4.1).
CLOSE_CODE_DEFAULT: Final = 1008
_REASON_BYTES_MAX: Final = 123
#: By so much later a service may say that a session ends without promising too much.
_ROUNDING_SECONDS: Final = 5.0


@lru_cache(maxsize=64)
def _shared(watch: Watch) -> Watch:
    """One record for all sessions that are looked at alike."""
    return watch


def watch_of(session: Session) -> Watch:
    """What the relay of such a session looks at."""
    client = {*session.updates, *(judged.type for judged in session.judged)}
    upstream = {session.begins, session.ends, *session.reports, *(refusing.type for refusing in session.refusing)}
    return _shared(
        Watch(
            type_field=session.type_field,
            from_client=frozenset(client),
            from_upstream=frozenset(upstream - {""}),
            client_binary=session.client_binary,
            message_bytes_max=session.message_bytes_max,
            buffer_bytes_max=session.buffer_bytes_max,
            stalled_seconds_max=session.stalled_seconds_max,
            ping_seconds=session.ping_seconds,
        )
    )


def refusal_frame(
    session: Session, style: ErrorStyle, refused: Refused, call_id: str, session_id: str
) -> tuple[bytes | None, int, bytes]:
    """How a refusal is told in band: the text frame (None: the dialect has none), the close code and its reason."""
    wording = session.refusals.get(refused.code, session.refusal)
    if wording is None:
        return None, CLOSE_CODE_DEFAULT, refused.code.encode()
    return _written(wording, worded(style, refused).message, refused, call_id, session_id)


def judged_frame(
    wording: FrameWording, refused: Refused, call_id: str, session_id: str
) -> tuple[bytes | None, int, bytes]:
    """The same, where a frame of the client's has a refusal of its own."""
    return _written(wording, "", refused, call_id, session_id)


def _written(
    wording: FrameWording, message: str, refused: Refused, call_id: str, session_id: str
) -> tuple[bytes | None, int, bytes]:
    if wording.message is not None:
        message = sentence(wording.message, refused)
    values = {
        "{message}": message,
        "{code}": str(refused.code),
        "{close_code}": wording.close_code,
        "{call_id}": call_id,
        "{session_id}": session_id or None,
    }
    reason = filled(wording.close_reason, values).encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    body = None if wording.body is None else orjson.dumps(filled(wording.body, values))
    return body, wording.close_code, reason


def beginning_frame(session: Session, message: Mapping[str, Any], ends_at: float) -> bytes | None:
    """The upstream's frame that begins it with the time by which it ends here, where it promises more; else None."""
    name = session.expires
    said = message.get(name) if name is not None else None
    if name is None or not isinstance(said, int | float) or said <= ends_at + _ROUNDING_SECONDS:
        return None
    return orjson.dumps({**message, name: int(ends_at)})


def warning_frame(session: Session, seconds_left: int) -> bytes | None:
    """The warning that credit runs low, where the dialect has room for one."""
    if session.warning is None:
        return None
    return orjson.dumps(filled(session.warning, {"{seconds_left}": seconds_left}))
