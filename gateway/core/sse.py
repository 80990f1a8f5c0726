"""Server-sent events from the bytes of a stream, however they are cut.

Owns: where an event ends and what its data is (WHATWG HTML 9.2.6), and that nothing of the stream is lost or changed:
the `raw` of all events, with the `rest`, are the bytes that were fed.
Does not know: what an event means.
"""

import re
from typing import Final, NamedTuple

_LINE_END: Final = rb"(?>\r\n|\r|\n)"
#: A line's end with an empty line after it. Atomic, so that no CRLF is taken for two ends.
_EVENT_END: Final = re.compile(_LINE_END + _LINE_END)
#: So much of an event's end may have come before the rest of it: CR LF CR.
_OVERLAP: Final = 3
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """Bytes up to and with the empty line that ends an event.

    `data` is None where nothing is dispatched: comments, empty lines, an event that is `too_large` (which comes in
    pieces), and the LF of a CRLF whose CR ended the event before (`belated`).
    """

    raw: bytes
    data: bytes | None = None
    type: bytes = b""
    too_large: bool = False
    belated: bool = False


_BELATED: Final = Event(b"\n", belated=True)


class EventParser:
    """Feed it bytes, get events. An event of more than `event_bytes_max` passes unread; no more than that is kept."""

    __slots__ = ("_after_cr", "_bytes_max", "_first", "_rest", "_too_large")

    def __init__(self, event_bytes_max: int) -> None:
        self._bytes_max = event_bytes_max
        self._rest = bytearray()  # of an event that has not ended
        self._after_cr = False  # the last event ended with a CR: an LF may still belong to it
        self._too_large = False  # the event at hand is: pieces of it have been given
        self._first = True

    def __repr__(self) -> str:
        return f"<EventParser rest={len(self._rest)} too_large={self._too_large}>"

    @property
    def rest(self) -> bytes:
        """The bytes of an event that has not ended yet."""
        return bytes(self._rest)

    @property
    def between(self) -> bool:
        """Whether all that came were whole events, so that what comes next begins one."""
        return not self._rest and not self._after_cr and not self._too_large

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in these bytes, and pieces of one that is too large."""
        events: list[Event] = []
        start = 0
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                events.append(_BELATED)
                start = 1
        if self._rest:
            kept = len(self._rest)
            self._rest += chunk[start:]
            end = _EVENT_END.search(self._rest, max(0, kept - _OVERLAP))
            if end is None:
                return self._waiting(events)
            events.append(self._event(bytes(self._rest[: end.end()])))
            start += end.end() - kept
            self._rest.clear()
        while (after := _end_of_event(chunk, start)) > 0:
            events.append(self._event(chunk[start:after]))
            start = after
        if start < len(chunk):
            self._after_cr = False
            self._rest += chunk[start:]
            return self._waiting(events)
        return events

    def finish(self) -> Event | None:
        """The stream is over: what was not ended, read as if it were. Clients read it as well, though they need not."""
        if not self._rest:
            return None
        event = self._event(bytes(self._rest))
        self._rest.clear()
        return event

    def _waiting(self, events: list[Event]) -> list[Event]:
        """An event has not ended. Of one that is too large only what may be its end is kept."""
        if self._too_large or len(self._rest) > self._bytes_max:
            self._too_large, self._first = True, False
            if piece := bytes(self._rest.rstrip(b"\r\n")):
                events.append(Event(piece, too_large=True))
                del self._rest[: len(piece)]
        return events

    def _event(self, raw: bytes) -> Event:
        first, self._first = self._first, False
        self._after_cr = raw.endswith(b"\r")
        # The LF of a last CRLF does not count: it may come later.
        if self._too_large or len(raw) - raw.endswith(b"\r\n") > self._bytes_max:
            self._too_large = False
            return Event(raw, too_large=True)
        text = raw.removeprefix(_BYTE_ORDER_MARK) if first else raw
        line = text.rstrip(b"\r\n")
        if line.startswith(b"data:") and b"\n" not in line and b"\r" not in line:  # the rule
            return Event(raw, line[6:] if line.startswith(b"data: ") else line[5:])
        return _read(raw, text)


def _end_of_event(chunk: bytes, start: int) -> int:
    """Where the first event from there on ends; 0 if none does. Most services write LF alone, and a find is quicker."""
    if b"\r" not in chunk:
        at = chunk.find(b"\n\n", start)
        return at + 2 if at >= 0 else 0
    end = _EVENT_END.search(chunk, start)
    return end.end() if end is not None else 0


def _read(raw: bytes, text: bytes) -> Event:
    """An event of any lines. `id` and `retry` are for whoever reconnects."""
    data: list[bytes] = []
    kind = b""
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return Event(raw, b"\n".join(data) if data else None, kind)
