"""Events that are like one that was looked into: they need no more than a search.

Owns: what makes two events alike. Does not know: what an event means (`events`), where the bytes come from.

The events of a stream begin alike, up to what is new in them:

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-5.2","choices":[{"delta":{"content":" word"
          |<------- all fields that are read, as they were ------->|<------- none of them, whatever it is

JSON is read from left to right, so what comes after such a beginning cannot change what the beginning said.
"""

from typing import Any, Final

from gateway.core.sse import Event
from gateway.pipeline.meter import parsed
from gateway.settings.metering import Stream

#: So often in vain is a beginning looked for in a row.
_TRIES_MAX: Final = 8
_BEGINNING_BYTES_MAX: Final = 4096
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Alike:
    """Knows how the event began that was looked into last. Empty `begins`: nothing is like it."""

    __slots__ = ("_known", "_stream", "_tells", "_tries", "begins")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._tells = stream.tells
        self._tries = _TRIES_MAX
        self._known = 0  # bytes of data in the beginning
        self.begins = b""

    def __repr__(self) -> str:
        return f"<Alike begins={len(self.begins)} tries={self._tries}>"

    def size_of(self, chunk: bytes) -> int:
        """The bytes of data in a chunk of whole events that are all alike; -1 for any other."""
        begins, tells = self.begins, self._tells
        at, size, length = 0, 0, len(chunk)
        if not begins or tells is None or length > self._stream.event_bytes_max:
            return -1
        while chunk.startswith(begins, at):
            at += len(begins)
            end = chunk.find(b"\n\n", at)
            if end < 0 or tells.search(chunk, at, end) is not None:
                return -1
            size += self._known + end - at
            at = end + 2
            if at == length:
                self._tries = _TRIES_MAX
                return size
        return -1

    def learn(self, event: Event, value: dict[str, Any]) -> None:
        """An event, with its data, that passed and is no error: has it a beginning with all that is told of it?"""
        self.begins = b""
        raw, data, stream, tells = event.raw, event.data or b"", self._stream, self._tells
        if tells is None or not self._tries or not stream.told_nothing(value):
            return
        self._tries -= 1
        cut = _after_known(data, value, stream.told)
        head = len(raw) - len(data) - 2
        if not 0 < cut <= _BEGINNING_BYTES_MAX or raw[head:] != data + b"\n\n" or tells.search(data, cut) is not None:
            return
        known = data[:cut]
        if not _is_line_of_data(raw[:head]) or (stream.end is not None and stream.end.startswith(known)):
            return
        if type(parsed(known + b'"":0}')) is dict:  # it is the beginning of an object, up to the name of a field
            self.begins, self._known = raw[:head] + known, cut


def _after_known(data: bytes, value: dict[str, Any], told: frozenset[str]) -> int:
    """Where the field begins that comes after the last that is told; 0 where there is none."""
    names = list(value)
    last = max((at for at, name in enumerate(names) if name in told and value[name] is not None), default=-1)
    if last < 0:
        return data.find(b"{") + 1
    if last + 1 == len(names):
        return 0
    return max(0, data.find(b'"' + names[last + 1].encode() + b'":'))


def _is_line_of_data(head: bytes) -> bool:
    """Whether what comes after these bytes of an event is the value of its field `data`."""
    return head.rpartition(b"\n")[2] in (b"data: ", b"data:") and not head.startswith(_BYTE_ORDER_MARK)
