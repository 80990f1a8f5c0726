"""The loop that runs beside the calls: do, wait, again, until cancelled.

Owns: the rhythm, and that a fault in one round does not end the loop (it is told, and the next round comes).
Does not know: what is done.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from gateway.ports import Observer


async def forever(name: str, seconds: float, work: Callable[[], Awaitable[object]], observer: Observer) -> None:
    """Call `work` every `seconds`, with a tenth of jitter so that many processes do not march in step."""
    while True:
        await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - not a secret
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - a loop that ends in silence would renew, replay and sweep no more
            observer.event("loop_failed", loop=name, error=type(error).__name__)
