"""Autopay, funds and payments by the admin API: what is answered, what is refused, what follows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.ports import Plan, Watch
from tests.fakes.stripe import GOOD, FakeStripe
from tests.harness import ADMIN_TOKEN, Running
from tests.ledger.ledgers import bill
from tests.payments.shop import customer_of, shop, until, usd

UNSET = {
    "account": "acme", "enabled": False, "threshold": "25.000000000", "target": "50.000000000", "monthly_cap": None,
    "paid_this_month": "0.000000000", "currency": "USD", "provider": "stripe", "card": False, "state": "idle",
    "attempt": None, "charging": None, "failures": 0, "why": None, "retry_at": None,
}  # fmt: skip


class Desk:
    """The admin API of a gateway."""

    def __init__(self, gateway: Running, stripe: FakeStripe) -> None:
        self.gateway, self.stripe, self.ledger = gateway, stripe, gateway.ledger

    async def __call__(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", **({"Idempotency-Key": key} if key else {})}
        url = f"{self.gateway.ops_url}/admin/accounts/acme/{path}"
        async with self.gateway.http.request(method, url, json=body, headers=headers) as reply:
            return reply.status, await reply.json()


@pytest.fixture
async def desk(tmp_path: Path, empty_redis: str) -> AsyncIterator[Desk]:
    """A gateway with an account of 21 dollars."""
    async with shop(tmp_path, empty_redis) as (gateway, stripe):
        await gateway.open_account("acme", credit="21")
        yield Desk(gateway, stripe)


async def test_from_a_card_to_a_payment(desk: Desk) -> None:
    """Shown as it would be; refused without a card; with one, turned on, it pays at once and again at each crossing."""
    assert await desk("GET", "autopay") == (200, UNSET)
    status, problem = await desk("PATCH", "autopay", {"enabled": True})
    assert (status, problem["code"]) == (422, "payment_refused")
    status, page = await desk("POST", "funds", {}, "o-1")
    assert status == 201
    assert await desk("POST", "funds", {}, "o-1") == (201, page)
    assert list(desk.stripe.customers) == [(await desk.ledger.autopay("acme")).customer]
    await desk.stripe.pay_checkout(page["url"])
    await desk.stripe.told()
    status, found = await desk("PATCH", "autopay", {"enabled": True, "monthly_cap": "90.00"}, "o-2")
    assert (status, found) == (200, UNSET | {"enabled": True, "card": True, "monthly_cap": "90.000000000"})
    assert await desk("PATCH", "autopay", {"enabled": True, "monthly_cap": "90.00"}, "o-2") == (200, found)
    await until(lambda: paid(desk, 2900))
    for spent in (1, 30):
        await desk.ledger.correct(operation=f"{spent}", account="acme", key_id="", amount=usd(-spent), data={})
    await until(lambda: paid(desk, 2900, 3100))
    await desk.stripe.told()
    _, found = await desk("GET", "autopay")
    assert (found["state"], found["paid_this_month"]) == ("idle", "60.000000000")
    assert (await desk("PATCH", "autopay", {"enabled": False}))[1]["enabled"] is False
    await desk.ledger.correct(operation="more", account="acme", key_id="", amount=usd(-40), data={})
    status, found = await desk("PATCH", "autopay", {"threshold": "10"})
    assert (found["threshold"], found["target"]) == ("10.000000000", "50.000000000")
    assert await paid(desk, 2900, 3100)
    assert await desk.ledger.watches("acme") == []


async def paid(desk: Desk, *cents: int) -> bool:
    """Whether this was charged, and credited."""
    state = (await desk.ledger.autopay("acme")).state
    return desk.stripe.paid == [*cents] and state == "idle"


async def test_what_cannot_be_is_refused(desk: Desk) -> None:
    """Amounts that no provider takes, thresholds that make no sense, providers that are not there."""
    wrong: list[tuple[str, str, Any, str]] = [
        ("PATCH", "autopay", {"threshold": "0"}, "/threshold"),
        ("PATCH", "autopay", {"threshold": "25.005"}, "/threshold"),
        ("PATCH", "autopay", {"threshold": "46"}, "/target"),
        ("PATCH", "autopay", {"target": "20000"}, "/target"),
        ("PATCH", "autopay", {"provider": "webhook"}, "/provider"),
        ("PATCH", "autopay", {"provider": "paypal"}, "/provider"),
        ("PATCH", "autopay", {"method": "pm_1"}, "/method"),
        ("PATCH", "autopay", {}, ""),
        ("POST", "funds", {"amount": "4.99"}, "/amount"),
        ("POST", "funds", {"amount": "10000.01"}, "/amount"),
        ("POST", "funds", {"amount": 20}, "/amount"),
        ("POST", "payments", {"amount": "5"}, "/payment"),
        ("POST", "payments", {"payment": "a b", "amount": "5"}, "/payment"),
        ("POST", "payments", {"payment": "inv-1", "amount": "0"}, "/amount"),
        ("POST", "payments/take-back", {"payment": "inv-1", "amount": "5"}, "/source"),
        ("POST", "payments/take-back", {"payment": "inv-1", "source": "re-1", "amount": "0.001"}, "/amount"),
        ("POST", "payments/take-back", {"payment": "p", "source": "r", "amount": "5", "kind": "theft"}, "/kind"),
    ]
    for method, path, body, pointer in wrong:
        status, problem = await desk(method, path, body)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), body
    assert await desk("GET", "autopay") == (200, UNSET)
    assert desk.stripe.requests == []


async def test_what_is_refused_leaves_the_watch_as_it_was(desk: Desk) -> None:
    """A name that was used for another change is a conflict; autopay still pays where it was set to."""
    its = {"provider": "stripe", "customer": customer_of(desk.stripe), "method": GOOD}
    await desk.ledger.set_autopay(operation="card", account="acme", changes=its)
    await desk.ledger.grant(operation="more", account="acme", kind="goodwill", amount=usd(60))
    assert (await desk("PATCH", "autopay", {"enabled": True, "threshold": "25"}, "k"))[0] == 200
    status, problem = await desk("PATCH", "autopay", {"threshold": "90", "target": "150"}, "k")
    assert (status, problem["code"]) == (409, "operation_conflict")

    async def looked() -> bool:
        return not await desk.ledger.deliveries("acme")

    await until(looked)
    await desk.ledger.correct(operation="spent", account="acme", key_id="", amount=usd(-60), data={})
    await until(lambda: paid(desk, 2900))


async def test_autopay_that_cannot_be_watched_is_not_on(desk: Desk) -> None:
    """An account that watches as much as it may is refused; an alert of any name is no hindrance, and stays."""
    await desk.ledger.set_autopay(operation="card", account="acme", changes={"provider": "stripe", "method": "pm_good"})
    for name in ("autopay", *(f"w{number}" for number in range(19))):
        watch = Watch(id=name, kind="balance_below", amount=usd(1), channel="alert")
        await desk.ledger.put_watch(account="acme", watch=watch)
    status, problem = await desk("PATCH", "autopay", {"enabled": True})
    assert (status, problem["code"]) == (422, "ledger_refused")
    assert (await desk("GET", "autopay"))[1]["enabled"] is False
    await desk.ledger.drop_watch(account="acme", watch_id="w0")
    assert (await desk("PATCH", "autopay", {"enabled": True, "threshold": "20"}))[0] == 200
    watches = {watch.id: watch for watch in await desk.ledger.watches("acme")}
    assert (watches["autopay"].amount, watches["autopay.balance"].amount) == (usd(1), usd(20))


async def test_a_payment_told_by_ops_is_credited_once(desk: Desk) -> None:
    """By its own id, whatever the request's name; another amount is a conflict; a free account is upgraded."""
    await desk.ledger.change_account(operation="down", account="acme", plan=Plan(tier="free"))
    body = {"payment": f"inv/17:{'x' * 240}", "amount": "29.00", "attempt": "whatever we call it"}
    status, first = await desk("POST", "payments", body)
    assert (status, first["kind"], first["amount"]) == (201, "purchase", "29.000000000")
    assert await desk("POST", "payments", body, "other") == (201, first)
    status, problem = await desk("POST", "payments", body | {"amount": "30.00"})
    assert (status, problem["code"]) == (409, "operation_conflict")
    account = await desk.ledger.account("acme")
    assert (account.balance, account.plan.tier) == (usd(50), "payg")


async def test_a_payment_that_is_refunded_elsewhere_is_taken_back(desk: Desk) -> None:
    """By the refund's own id, once; a second one adds up; one that failed comes back; what was spent becomes debt."""
    await desk("POST", "payments", {"payment": "inv-17", "amount": "29.00"})
    body = {"payment": "inv-17", "source": "cn-1", "amount": "9.00"}
    told = {"account": "acme", "provider": "webhook", "payment": "inv-17", "currency": "USD"}
    for _ in range(2):
        assert await desk("POST", "payments/take-back", body) == (
            201,
            told | {"taken": "9.000000000", "balance": "41.000000000"},
        )
    await desk.ledger.settle(bill(amount=usd(40)))
    _, found = await desk("POST", "payments/take-back", body | {"source": "cn-2", "amount": "100", "kind": "dispute"})
    assert (found["taken"], found["balance"]) == ("29.000000000", "-19.000000000")
    _, found = await desk("POST", "payments/take-back", body | {"source": "cn-2", "amount": "0", "final": True})
    assert (found["taken"], found["balance"]) == ("9.000000000", "1.000000000")
    assert await desk.ledger.verify("acme") == []


async def test_an_attempt_is_given_up_by_ops(desk: Desk) -> None:
    """One that hangs at its provider: it counts as declined; another attempt's name changes nothing."""
    desk.stripe.customers["cus_1"] = {"id": "cus_1", "object": "customer", "metadata": {}}
    its = {"enabled": True, "threshold": usd(25), "target": usd(50), "provider": "stripe", "customer": "cus_1"}
    await desk.ledger.set_autopay(operation="set", account="acme", changes=its | {"method": "pm_slow"})
    await desk.gateway.gateway.paying.cashier.look("acme", "test")
    await until(lambda: charging(desk))
    _, found = await desk("GET", "autopay")
    assert found["charging"] == "29.000000000"
    body = {"attempt": "other", "reason": "bank closed"}
    assert (await desk("POST", "autopay/fail", body))[1]["state"] == "charging"
    status, found = await desk("POST", "autopay/fail", body | {"attempt": found["attempt"]})
    assert (status, found["state"], found["why"], found["failures"]) == (200, "failed", "bank closed", 1)
    await desk.stripe.settle_slow()
    await until(lambda: paid(desk, 2900))
    assert (await desk.ledger.account("acme")).balance == usd(50)


async def charging(desk: Desk) -> bool:
    """Whether an attempt is under way."""
    return (await desk.ledger.autopay("acme")).state == "charging" and bool(desk.stripe.intents)


async def test_a_stripe_that_is_away_is_told(desk: Desk) -> None:
    """503, with the wish to be asked again; nothing was charged."""
    desk.stripe.fail_requests = 2
    status, problem = await desk("POST", "funds", {"amount": "20"})
    assert (status, problem["code"]) == (503, "provider_unavailable")
