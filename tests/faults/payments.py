"""Cards that are charged by autopay, while whoever charges them is killed again and again.

Owns: the accounts and their debits, a Stripe that loses answers, and what must hold for each account.
Does not know: sessions (crowd), jobs.
"""

import asyncio
from collections import Counter
from typing import Any, Final

from gateway.core.autopay import AutopayState
from gateway.core.errors import LedgerUnavailable
from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.ports import Watch
from tests.fakes.stripe import GOOD, FakeStripe
from tests.faults.figures import Figures, all_entries
from tests.faults.jobs import killed
from tests.faults.stage import Stage
from tests.ledger.ledgers import bill
from tests.payments.shop import payments
from tests.pipeline.helpers import until
from tests.system.processes import World

_DOLLAR: Final = NANOS_PER_USD
_THRESHOLD, _TARGET = Nanos(25 * _DOLLAR), Nanos(50 * _DOLLAR)
_DEBITS: Final = 24
_DEBIT: Final = 5 * _DOLLAR
_PAUSE_SECONDS: Final = 0.5
_CENT: Final = _DOLLAR // 100


async def payments_made(stage: Stage) -> list[Figures]:
    """An account for each session spends a hundred and twenty dollars, five at a time; every seventh answer of Stripe's
    is lost, its messages come twice and in any order; a worker is killed every two seconds, and Redis in the middle:
    what the cards were charged is what was credited, payment by payment, and no account has more than its target.
    """
    async with stage.redis() as redis, FakeStripe() as stripe:
        stripe.copies, stripe.shuffled, stripe.lose_every, stripe.charge_seconds = 2, True, 7, 0.2
        async with World(stage.directory, redis.url, {"gateway.yaml": payments(stripe)}).opened() as world:
            served = await world.serve("one", workers=2)
            stripe.webhook_url = f"{served.url}/billing/webhooks/stripe"
            accounts = [f"payer-{number}" for number in range(stage.sessions)]
            for account in accounts:
                await _open(world, stripe, account)
            await asyncio.gather(killed(served, redis), *(_spend(world, account) for account in accounts))

            async def all_over() -> bool:
                return not any([await _waits(world, account) for account in accounts])

            assert await until(all_over, 120), "some payments are still under way"
            await stripe.told()
            return [await _figures(world, stripe, accounts)]


async def _open(world: World, stripe: FakeStripe, account: str) -> None:
    """An account with its target as balance, a card, and autopay."""
    await world.open_account(account, credit="50")
    customer = f"cus_{account}"
    stripe.customers[customer] = {"id": customer, "object": "customer", "metadata": {}}
    settings: dict[str, Any] = {
        "enabled": True, "threshold": _THRESHOLD, "target": _TARGET, "provider": "stripe", "customer": customer,
        "method": GOOD,
    }  # fmt: skip
    await world.ledger.set_autopay(operation="set", account=account, changes=settings)
    watch = Watch(id="autopay", kind="balance_below", amount=_THRESHOLD, channel="autopay")
    await world.ledger.put_watch(account=account, watch=watch)


async def _spend(world: World, account: str) -> None:
    """One debit after the other; one that the ledger does not answer is made again."""
    for number in range(_DEBITS):
        await asyncio.sleep(_PAUSE_SECONDS)
        while True:
            try:
                await world.ledger.settle(bill(f"debit-{number}", _DEBIT, account=account))
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.1)


async def _waits(world: World, account: str) -> bool:
    """Whether something of the account's is still to be done."""
    autopay, standing = await world.ledger.autopay(account), await world.ledger.account(account)
    deliveries = await world.ledger.deliveries(account)
    return bool(deliveries) or autopay.state is not AutopayState.IDLE or standing.balance < _THRESHOLD


async def _figures(world: World, stripe: FakeStripe, accounts: list[str]) -> Figures:
    """What was credited to whom, beside what Stripe charged."""
    charged: Counter[tuple[str, str]] = Counter()
    for intent in stripe.intents.values():
        assert intent["status"] == "succeeded", intent
        charged[intent["metadata"]["gateway_account"], intent["id"]] += intent["amount_received"] * _CENT
    credited: Counter[tuple[str, str]] = Counter()
    drift = 0
    for account in accounts:
        for entry in await all_entries(world.ledger, account):
            if entry.kind == "grant" and "payment" in entry.data:
                credited[account, entry.data["payment"]] += entry.amount
        balance = (await world.ledger.account(account)).balance
        assert _THRESHOLD <= balance <= _TARGET, (account, balance)
        drift += len(await world.ledger.verify(account))
    assert credited == charged, "every payment once, and no other"
    row = Figures(
        fault="kill -9 of workers and Redis",
        what="payments, answers lost",
        opened=len(accounts),
        cut=stripe.lost,
        unit="dollars",
        used=charged.total() / _DOLLAR,
        charged=credited.total() / _DOLLAR,
        lost=0,
        lost_most=0,
        holds=0,
        late=0,
        drift=drift,
    )
    assert row.exact
    return row
