"""The outbox: hands what is to be told to somebody outside to the courier of its channel, until it has arrived.

Owns: how many deliveries are under way at once, of all and of one account; when one is tried again, or given up. What
is due stands in the ledger, claimed with a lease: any number of workers on any number of machines share the work, and
what a killed one had claimed is another's after the lease. A delivery is made at least once: one that arrived while the
ledger was away, or whose worker was killed before it could say so, is made again.
Does not know: what is carried, or how (couriers).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.ports import Clock, Courier, Dead, Delivered, Delivery, DeliveryTried, Ledger, Observer, Retry

TOGETHER_MAX: Final = 64
#: So many of one account in a claim, and none while as many are under way: one whose target is slow does not take every
#: place.
ACCOUNT_MAX: Final = 8
#: When a delivery comes back for which there was no courier.
_LEFT_SECONDS: Final = 300.0
#: Claims of one round, and the wait for an attempt to end between two of them, in seconds.
_CLAIMS_MAX: Final = 10
_WAIT_SECONDS_MAX: Final = 0.1
_JITTER: Final = 0.2


def decide(outcome: Delivered | Retry | Dead, attempts: int, pauses: Sequence[float]) -> Delivered | Retry | Dead:
    """What becomes of a delivery after this outcome of an attempt, when so many had failed before it."""
    if not isinstance(outcome, Retry):
        return outcome
    if attempts >= len(pauses):
        return Dead(why=outcome.why)
    return Retry(why=outcome.why, seconds=pauses[attempts] if outcome.seconds is None else outcome.seconds)


class Outbox:
    """Delivers, a few each round."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        couriers: Mapping[str, Courier],
        observer: Observer,
        clock: Clock,
        lease_seconds: float = 60.0,
    ) -> None:
        self._ledger = ledger
        self._lease_seconds = lease_seconds
        self._couriers = couriers
        self._observer = observer
        self._clock = clock
        self._attempts: set[asyncio.Task[None]] = set()
        self._of_account: Counter[str] = Counter()  # under way
        self.lag_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Outbox attempts={len(self._attempts)} lag_seconds={self.lag_seconds:.1f} {sorted(self._couriers)}>"

    def __len__(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

    async def round(self) -> None:
        """Claim what is due, as much as may be tried now, and begin; again while there is more of it."""
        self.lag_seconds = 0.0
        for _ in range(_CLAIMS_MAX):
            limit = TOGETHER_MAX - len(self._attempts)
            if limit <= 0 or not await self._begin(limit):
                return
            if self._attempts:  # a place may be free soon
                await asyncio.wait(self._attempts, timeout=_WAIT_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)

    async def _begin(self, limit: int) -> int:
        claimed = await self._ledger.claim_deliveries(
            limit=limit,
            lease_seconds=self._lease_seconds,
            account_max=ACCOUNT_MAX,
            busy=[account for account, under_way in self._of_account.items() if under_way >= ACCOUNT_MAX],
        )
        for delivery in claimed:
            self.lag_seconds = max(self.lag_seconds, (delivery.now_ms - delivery.due_ms) / 1000)
            courier = self._couriers.get(delivery.channel)
            if courier is None:
                self._tell(delivery, "left", "no courier", 0.0)
                await self._ledger.put_off(
                    account=delivery.account, delivery_id=delivery.id, seconds=_LEFT_SECONDS, attempted=False
                )
            else:
                self._of_account[delivery.account] += 1
                task = asyncio.create_task(self._attempt(delivery, courier))
                self._attempts.add(task)
                task.add_done_callback(self._attempts.discard)
        return len(claimed)

    async def _attempt(self, delivery: Delivery, courier: Courier) -> None:
        begun = self._clock.monotonic()
        attempt_seconds_max = self._lease_seconds / 2  # one that has no outcome by then has failed
        try:
            try:
                async with asyncio.timeout(attempt_seconds_max):
                    outcome = await courier.deliver(delivery)
            except TimeoutError:
                outcome = Retry(why=f"nothing within {attempt_seconds_max:g} s")
            except Exception as error:  # noqa: BLE001 - one courier's fault must not end the others' deliveries
                self._observer.event("courier_failed", channel=delivery.channel, error=type(error).__name__)
                outcome = Retry(why=type(error).__name__)
            outcome = decide(outcome, delivery.attempts, courier.pauses)
            word = type(outcome).__name__.lower()
            self._tell(delivery, word, getattr(outcome, "why", ""), self._clock.monotonic() - begun)
            await self._write(delivery, outcome)
        except LedgerUnavailable:
            self._observer.event("delivery_unwritten", channel=delivery.channel)  # made again after the lease
        finally:
            self._of_account[delivery.account] -= 1
            if not self._of_account[delivery.account]:
                del self._of_account[delivery.account]

    async def _write(self, delivery: Delivery, outcome: Delivered | Retry | Dead) -> None:
        ledger, account, delivery_id = self._ledger, delivery.account, delivery.id
        match outcome:
            case Delivered():
                await ledger.delivered(account=account, delivery_id=delivery_id)
            case Dead(why=why):
                await ledger.bury(account=account, delivery_id=delivery_id, why=why)
            case Retry(why=why, seconds=seconds):
                assert seconds is not None, "it was decided"
                seconds *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
                await ledger.put_off(account=account, delivery_id=delivery_id, seconds=seconds, why=why)

    def _tell(self, delivery: Delivery, outcome: str, why: str, seconds: float) -> None:
        self._observer.delivery_tried(
            DeliveryTried(
                account=delivery.account,
                delivery_id=delivery.id,
                channel=delivery.channel,
                outcome=outcome,
                why=why,
                attempts=delivery.attempts,
                seconds=seconds,
            )
        )

    async def close(self) -> None:
        """End the attempts under way. They are made again after the lease."""
        for task in self._attempts:
            task.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
