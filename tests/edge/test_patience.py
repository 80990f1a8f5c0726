"""One timer for many waits: which of them last too long, and what becomes of their task."""

import asyncio

import pytest

from gateway.edge.patience import Patience


async def test_each_wait_has_the_whole_time() -> None:
    """Waits that together last longer than one may are none too long."""
    patience = Patience(0.3)
    for _ in range(5):
        with patience:
            await asyncio.sleep(0.1)


async def test_a_wait_that_lasts_too_long_is_a_timeout_of_its_own() -> None:
    """The second wait is cut when its own time is over; the task goes on, and may wait again."""
    patience = Patience(0.1)
    with patience:
        await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError), patience:
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    with patience:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # the timer rings while nobody waits
    with pytest.raises(TimeoutError), patience:
        await asyncio.Event().wait()


async def test_who_is_cancelled_by_somebody_else_is_cancelled() -> None:
    """A wait that another task cancels does not look like one that lasted too long."""

    async def waiting() -> None:
        with Patience(30.0):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
