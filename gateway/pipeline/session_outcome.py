"""What became of a session that is over: for observers, and for whoever watches over its account.

Owns: the words for how it ended, and what of it counts as strange. Pure. Does not know: sockets, money, who is told.
"""

from typing import Final

from gateway.core.errors import Code
from gateway.pipeline.session_meter import SessionMeter
from gateway.pipeline.session_watcher import Left, SessionWatcher
from gateway.ports import SessionFinished
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


def how_it_ended(told: SessionWatcher, *, broken: str) -> str:
    """By whom, as `SessionFinished` names it. `broken` is how the service ended it."""
    if told.refused is not None:
        return str(told.refused.code)
    if told.client is not None and not broken:  # it has only answered
        return "client" if told.client.code is not None else "client_lost"
    return "upstream" if told.upstream is not None and told.upstream.code is not None else "upstream_lost"


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


def finished(
    meter: SessionMeter, *, product: str, ended: str, now: float, slices: int, warned: bool
) -> SessionFinished:
    """The session as observers are told of it."""
    seconds, reported = meter.seconds(now), meter.reported()
    return SessionFinished(
        product=product,
        ended=ended,
        begun=meter.begun,
        reported=reported,
        seconds=float(seconds),
        difference_seconds=float(abs(meter.reported_seconds() - seconds)) if reported else 0.0,
        slices=slices,
        warned=warned,
    )
