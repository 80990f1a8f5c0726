"""Money that comes, on whole gateways: at once on every worker, debt first; one payment however many debits cross."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.autopay import AutopayState
from gateway.core.money import Nanos, parse_usd
from gateway.ports import Plan
from tests.fakes.stripe import FakeStripe
from tests.harness import ADMIN_TOKEN, ROOT
from tests.ledger.ledgers import bill
from tests.payments.shop import payments, usd
from tests.payments.shop import until as until_within
from tests.pipeline.hooks import Hooks
from tests.system.processes import Served, World

DEBITS = 10_000
#: At once: with the next call of each, however busy the machine is.
ACCESS_SECONDS_MAX = 10.0
_operations = count()


class Till:
    """Two gateways on one ledger, a Stripe, and an account called acme."""

    def __init__(self, world: World, gateways: list[Served], stripe: FakeStripe, key: str) -> None:
        self.world, self.gateways, self.stripe, self.key = world, gateways, stripe, key
        self.ledger = world.ledger

    async def call_everywhere(self) -> set[int]:
        """The statuses of a call at every gateway."""
        return set(await asyncio.gather(*(self.world.chat(each, self.key) for each in self.gateways)))

    async def spend(self, leave: float = -1.0) -> None:
        """Let the balance be so much, by a debit."""
        left = (await self.ledger.account("acme")).balance
        operation = f"spend-{next(_operations)}"
        await self.ledger.settle(bill(operation, left - usd(leave), account="acme"))

    async def admin(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of the admin API of the second gateway."""
        url = f"{self.gateways[1].ops_url}/admin/accounts/acme/{path}"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self.world.http.request(method, url, json=body, headers=headers) as reply:
            found: dict[str, Any] = await reply.json()
            assert reply.status < 300, found
            return found

    async def command(self, *words: str) -> None:
        """A command line, beside the gateways."""
        config = str(self.gateways[0].directory / "gateway.yaml")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *words, "-c", config, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0

    async def is_let_in_by(self, top_up: Callable[[], Awaitable[Any]], balance: str) -> None:
        """Spent and refused everywhere; topped up, and at once let in everywhere, with debt paid first."""
        await self.spend()
        assert await self.call_everywhere() == {400}
        await top_up()
        before = time.monotonic()

        async def credited() -> bool:
            return (await self.ledger.account("acme")).debt == 0

        await until_within(credited)
        credited_after = time.monotonic() - before
        assert await self.call_everywhere() == {200}
        assert time.monotonic() - before - credited_after < ACCESS_SECONDS_MAX
        account = await self.ledger.account("acme")
        assert parse_usd(balance) - usd(0.1) < account.balance < parse_usd(balance)


@pytest.mark.system
async def test_money_is_there_at_once_and_ten_thousand_debits_are_one_payment(tmp_path: Path, empty_redis: str) -> None:
    """By the admin API, the command line, the company's billing, Stripe's page and autopay: the next call of every
    gateway is served, and debt was paid first. Then ten thousand debits at once cross autopay's threshold: the card is
    charged once, and an alert is told once.
    """
    async with FakeStripe() as stripe, Hooks() as hooks:

        def sold(data: dict[str, Any]) -> None:
            payments(stripe)(data)
            data["outward"] = {"allow": ["127.0.0.1"]}

        world = World(tmp_path, empty_redis, {"gateway.yaml": sold})
        async with world.opened():
            gateways = [await world.serve("one"), await world.serve("two", workers=2)]
            stripe.webhook_url = f"{gateways[0].url}/billing/webhooks/stripe"
            stripe.copies, stripe.shuffled = 2, True
            key = await world.open_account("acme", tier="payg", credit="1")
            till = Till(world, gateways, stripe, key)
            grant = {"kind": "purchase", "amount": "21"}
            await till.is_let_in_by(lambda: till.admin("POST", "grants", grant), "20")
            words = ["credits", "grant", "acme", "11", "--kind", "purchase", "--idempotency-key", "inv-1"]
            await till.is_let_in_by(lambda: till.command(*words), "10")
            told = {"payment": "inv-2", "amount": "31"}
            await till.is_let_in_by(lambda: till.admin("POST", "payments", told), "30")
            await till.admin("POST", "payments", told)

            async def pay_on_the_page() -> None:
                page = await till.admin("POST", "funds", {"amount": "41"})
                await stripe.pay_checkout(page["url"])

            await till.is_let_in_by(pay_on_the_page, "40")
            await stripe.told()
            await till.spend(30.0)
            await till.admin("PATCH", "autopay", {"enabled": True})
            to = [{"type": "slack", "url": hooks.url("/low")}]
            await till.admin("PUT", "alerts/low", {"kind": "balance_below", "amount": "28", "to": to})
            await ten_thousand_debits(till, hooks)
            await till.is_let_in_by(lambda: asyncio.sleep(0), "50")
            assert stripe.paid == [4100, stripe.paid[1], 5100]
            assert await world.ledger.verify("acme") == []
            assert {await served.end() for served in gateways} == {0}
            assert "".join(served.errors for served in gateways) == ""


async def ten_thousand_debits(till: Till, hooks: Hooks) -> None:
    """A tenth of a cent each, ten dollars from thirty on: one payment, of what was missing at its moment, and one alert
    of the threshold above autopay's, told by whichever worker has it.
    """
    assert (await till.ledger.autopay("acme")).state is AutopayState.IDLE
    debits = [bill(f"debit-{number}", parse_usd("0.001"), account="acme") for number in range(DEBITS)]
    await asyncio.gather(*(till.ledger.settle(debit) for debit in debits))

    async def paid() -> bool:
        return len(till.stripe.paid) >= 2

    await until_within(paid)
    await till.stripe.told()
    await asyncio.sleep(1.0)
    (told,) = await hooks.hears("/low")
    assert "below $28.00" in orjson.loads(told.body)["text"]
    (_, cents) = till.stripe.paid
    assert 2500 <= cents <= 3000
    assert len(till.stripe.intents) == 2
    account = await till.ledger.account("acme")
    assert account.balance == parse_usd("20") + cents * 10_000_000
    assert account.plan == Plan(tier="payg")
    assert account.balance > Nanos(0)
