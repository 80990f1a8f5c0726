"""What is strange about a session that is over, so that whoever watches over its account is told.

Owns: what counts as strange. Pure. Does not know: sockets, money, who is told.
"""

from typing import Final

from gateway.core.errors import Code
from gateway.pipeline.session_watcher import Left, SessionWatcher
from gateway.settings.sessions import Session

#: Less than this is no audio: a handful of frames that set up and end a session.
_SILENT_BYTES_MAX: Final = 1024
#: The service's own limit is as long as ours, and began a moment before: such a share of it is all of it.
_WHOLE: Final = 0.99


def broken_off(told: SessionWatcher, spec: Session) -> str:
    """How the service ended it, if that was not in good order: by the lost connection, or without its report."""
    if told.refused is not None or told.client is not None or told.final_report:
        return ""
    match told.upstream:
        case Left(code=None):
            return "lost"
        case Left() if spec.ends:
            return "unreported"
    return ""


def anomaly_of(
    told: SessionWatcher, spec: Session, *, broken: str, estimated: bool, seconds: float, slices: int, client_bytes: int
) -> str:
    """The word for it, or "". `broken` is how the service ended it; `seconds`: how long it was open."""
    code = None if told.refused is None else told.refused.code
    if estimated:
        return "usage_unknown"
    if broken:
        return broken
    if seconds >= spec.seconds_max * _WHOLE:
        return "whole_length"
    if code is Code.SESSION_IDLE or (slices > 1 and client_bytes < _SILENT_BYTES_MAX):
        return "silent"
    return ""
