"""What is strange about a session that is over, so that whoever watches over its account is told.

Owns: what counts as strange. Pure. Does not know: sockets, money, who is told.
"""

from typing import Final

from gateway.core.errors import Code
from gateway.pipeline.session_watcher import Left, SessionWatcher
from gateway.settings.runtime import Session

#: Less than this is no audio: a handful of frames that set up and end a session.
_SILENT_BYTES_MAX: Final = 1024


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
    told: SessionWatcher, *, broken: str, estimated: bool, whole_length: bool, slices: int, client_bytes: int
) -> str:
    """The word for it, or "". `broken` is how the service ended it; `whole_length`: it ran as long as any may."""
    code = None if told.refused is None else told.refused.code
    if estimated:
        return "usage_unknown"
    if broken:
        return broken
    if code is Code.SESSION_EXPIRED and whole_length:
        return "whole_length"
    if code is Code.SESSION_IDLE or (slices > 1 and client_bytes < _SILENT_BYTES_MAX):
        return "silent"
    return ""
