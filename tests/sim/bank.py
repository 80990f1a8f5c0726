"""The bank: where payers pay, which charges cards for autopay, and tells of it all, late, twice and in any order.

Owns: what becomes of each attempt of autopay, what it has to tell, how often it tells it.
Does not know: the ledger.
"""

from functools import partial
from typing import Literal

from gateway.core.money import Nanos
from gateway.ports import (
    Checkout,
    CheckoutPage,
    Payment,
    PaymentEvent,
    PaymentFailed,
    PaymentPaid,
    PaymentRequest,
    PaymentReversed,
    PaymentUnknown,
)
from tests.sim.processes import Process, some, tried

BANK = "bank"


class Bank:
    """The bank as one gateway reaches it (`ports.PaymentProvider`)."""

    name = BANK

    def __init__(self, process: Process) -> None:
        self._process = process

    async def create_payment(self, request: PaymentRequest) -> Payment:
        """Charge a card. An answer may be lost, of a payment that was made all the same."""
        world, outside = self._process.world, self._process.outside
        await world.sleep(0.5)
        if world.dice.random() < 0.1:
            raise PaymentUnknown("no answer")
        status = outside.attempts.setdefault(
            request.attempt, world.dice.choice(("paid", "paid", "paid", "pending", "declined"))
        )
        its = Payment(id=f"pay-{request.attempt}", status="pending", amount=request.amount)
        if status == "pending" and world.dice.random() < 0.3:
            status = outside.attempts[request.attempt] = world.dice.choice(("paid", "declined"))
        if status == "paid":
            if its.id not in outside.paid:
                outside.paid.add(its.id)
                outside.untold.append(
                    PaymentPaid(account=request.account, payment=its.id, amount=its.amount, attempt=request.attempt)
                )
            its = Payment(id=its.id, status="paid", amount=its.amount)
        elif status == "declined":
            outside.untold.append(PaymentFailed(account=request.account, attempt=request.attempt, why="card_declined"))
            its = Payment(id=its.id, status="declined", amount=its.amount, why="card_declined")
        if world.dice.random() < 0.1:
            raise PaymentUnknown("the answer was lost")
        return its

    async def checkout(self, checkout: Checkout) -> CheckoutPage:
        """Not here."""
        raise NotImplementedError

    async def read_webhook(self, headers: object, body: bytes) -> list[PaymentEvent]:
        """Not here."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to do."""


async def pay(process: Process, account: str, name: str) -> None:
    """Somebody pays at the bank; of some payments a part, or all, goes back, by one or two ways."""
    dice = process.world.dice
    amount = some(process, account)
    payment = f"pay-{name}"
    told: list[PaymentEvent] = [PaymentPaid(account=account, payment=payment, amount=amount)]
    sources: tuple[Literal["refund", "dispute"], ...] = ("refund", "dispute")
    for source in sources:
        for final in (False, True):
            if dice.random() < 0.15:
                back = Nanos(dice.choice((0, amount // 3, amount)))
                its = partial(PaymentReversed, account=account, payment=payment, source=source, final=final)
                told.append(its(amount=back, why=source))
    process.outside.untold += told


async def hear(process: Process) -> None:
    """The bank tells a gateway what nobody has taken; some of it again, although it was."""
    dice, untold = process.world.dice, process.outside.untold
    for event in dice.sample(untold, min(len(untold), 4)):
        taken = await tried(_take(process, event))
        if taken and event in untold and dice.random() < 0.8:
            untold.remove(event)


async def _take(process: Process, event: PaymentEvent) -> bool:
    await process.cashier.take(BANK, event)
    if isinstance(event, PaymentPaid):
        process.auditor.acknowledged[f"payment:{BANK}:{event.payment}"] = event.account
    return True
