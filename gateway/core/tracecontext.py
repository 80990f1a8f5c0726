"""The trace that a call belongs to, as W3C Trace Context writes it in `traceparent` and `traceresponse`.

Owns: reading and writing the field. Does not know: headers, spans, whether a call is recorded.
"""

import re
from typing import Final

from gateway.core.record import record

SAMPLED: Final = 0x01
#: Level 2: the trace's id was drawn at random.
RANDOM: Final = 0x02
#: The fact of a job's record that says which span made it.
FACT: Final = "trace"
_FIELD: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@record
class TraceContext:
    """A span of a trace, and the flags that go with it. Ids are lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether whoever wrote it may have recorded it."""
        return bool(self.flags & SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def read_traceparent(text: str) -> TraceContext | None:
    """What a field says; None where it cannot be read, and the trace has to begin anew.

    Versions to come begin with the same four parts, and only these are read; `ff` is none.
    """
    found = _FIELD.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id=trace_id, span_id=span_id, flags=int(flags, 16) & (SAMPLED | RANDOM))
