"""How long something is waited for, again and again.

Owns: one timer for many waits: each may last so long, and a timer for each would cost more than most of them.
Does not know: what is waited for.
"""

import asyncio
from types import TracebackType
from typing import Final

_NOT_WAITING: Final = float("inf")


class Patience:
    """A context for each wait, one after the other, of one task at a time. One that lasts too long is TimeoutError.

    The timer is set for the end of the first wait, and when it rings it is set anew for the end of the one at hand.
    """

    __slots__ = ("_cancelling", "_handle", "_over", "_seconds", "_task", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = _NOT_WAITING
        self._over = False
        self._cancelling = 0
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task()
        assert task is not None, "only a task can wait"
        self._cancelling = task.cancelling()
        self._until = until = loop.time() + self._seconds
        if self._handle is None:
            self._handle = loop.call_at(until, self._ring)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task, self._until = self._task, None, _NOT_WAITING
        if not self._over:
            return
        self._over = False
        assert task is not None, "it was waiting"
        if (
            task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        ):  # else somebody else means it as well
            raise TimeoutError from error

    def close(self) -> None:
        """Nobody waits any more: no timer is left."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        if self._task is None:
            return  # nobody waits: whoever does next sets the timer again
        loop = asyncio.get_running_loop()
        if loop.time() < self._until:
            self._handle = loop.call_at(self._until, self._ring)
        else:
            self._over = True
            self._task.cancel()
