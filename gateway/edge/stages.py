"""The trace of the call under way, and its stages.

Owns: which trace that is: a variable of its task's context; when a stage begins, ends and fails; the headers' names.
Does not know: which operations are stages (traced_parts), which calls are recorded (tracer).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

from gateway.observe.spans import Stage, Trace
from gateway.ports import Clock

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
RESPONSE: Final = "traceresponse"
_NO_STAGE: Final[AbstractContextManager[None]] = nullcontext()
under_way: ContextVar[Trace | None] = ContextVar("trace of the call under way", default=None)


class Stages:
    """The stages of whichever call is under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def stage(self, name: str, *, calls_out: bool = False) -> AbstractContextManager[Stage | None]:
        """A stage of the call under way; None where that is not recorded."""
        trace = under_way.get()
        stage = None if trace is None else trace.begin(name, self._clock.now(), calls_out=calls_out)
        return _NO_STAGE if stage is None else self._timed(stage)

    @contextmanager
    def _timed(self, stage: Stage) -> Iterator[Stage]:
        try:
            yield stage
        except BaseException as error:
            stage.error = type(error).__name__
            raise
        finally:
            stage.ended = self._clock.now()

    def note(self, name: str, **of: int | str) -> None:
        """Something happened in the call under way."""
        if (trace := under_way.get()) is not None:
            trace.note(name, self._clock.now(), {f"gateway.{key}": value for key, value in of.items()})
