"""Something that happens, and one who waits for it: a tenth of the memory of asyncio's event, which has room for many.

Owns: whether it has happened, and the waiting. Does not know: what it is. A session has four for as long as it is open.
"""

import asyncio


class Signal:
    """As `asyncio.Event`, for one who waits."""

    __slots__ = ("_happened", "_waiting")

    def __init__(self) -> None:
        self._happened = False
        self._waiting: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} happened={self._happened} awaited={self._waiting is not None}>"

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened

    def set(self) -> None:
        """It happens."""
        self._happened = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def clear(self) -> None:
        """It is to happen once more."""
        self._happened = False

    async def wait(self) -> None:
        """Until it has happened."""
        if self._happened:
            return
        assert self._waiting is None, "one waits, no more"
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
