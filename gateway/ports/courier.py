"""The port of deliveries: who carries what waits in the outbox to somebody outside, and what may become of it.

Owns: the outcomes of one attempt, and the pauses between attempts that serve for most. Does not know: what is carried,
or how.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from gateway.core.record import record
from gateway.ports.outbox import Delivery

#: Ten attempts in about a day.
PAUSES_SECONDS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 28_800.0)


@record
class Delivered:
    """It has arrived."""


@record
class Retry:
    """It has not arrived, and may yet: after so many seconds (None: the courier's pause). `why` holds no secret."""

    why: str
    seconds: float | None = None


@record
class Dead:
    """It will never arrive as it is: a dead letter, for ops to look at. `why` holds no secret."""

    why: str


class Courier(Protocol):
    """Carries the deliveries of one channel."""

    @property
    def pauses(self) -> Sequence[float]:
        """Seconds to wait after the first, the second, ... attempt that failed; one more that fails is the last."""

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """Make one attempt. The same delivery may come again although it arrived: it is made at least once.

        An exception is an attempt that failed; of it only the name of its class is kept.
        """
