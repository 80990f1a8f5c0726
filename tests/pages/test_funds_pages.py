"""The billing pages on which something is done: adding funds, autopay, alerts."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from tests.fakes.stripe import AUTHENTICATED
from tests.harness import Running, running
from tests.pages.visitor import Visitor
from tests.payments.shop import customer_of, shop, until


def once_of(visitor: Visitor) -> str:
    """The name of the operations of the page that was shown last."""
    found = re.search(r'name="once" value="([^"]+)"', visitor.html)
    assert found is not None
    return found[1]


async def test_funds_are_added_on_the_providers_page(tmp_path: Path, empty_redis: str) -> None:
    """The form leads to a page to pay at, one however often it is sent; paid, credit and the new plan are there."""
    async with shop(tmp_path, empty_redis) as (gw, stripe), Visitor(gw.url + "/billing") as visitor:
        key = await gw.open_account("acme", tier="free", credit="1")
        await visitor.sign_in(key)
        assert "Add funds to upgrade" in await visitor.see("/prices")
        assert "Your first payment changes your plan from Free to Pay as you go" in await visitor.see("/funds")
        form = {"form_token": visitor.form_token, "once": once_of(visitor), "amount": "25.00"}
        for _ in range(2):
            text = await visitor.send_fields("/funds", form)
            assert "You pay $25.00 on a page of the payment service" in text
            assert "form-action 'self';" in visitor.headers["Content-Security-Policy"]
        (session,) = stripe.sessions.values()
        (there,) = set(re.findall(r'href="(http[^"]+)" rel="noreferrer"', visitor.html))
        assert html.unescape(there) == session["url"]
        await stripe.pay_checkout(session["url"])
        await stripe.told()
        text = await visitor.see("/funds")
        assert "You have $26.00 available" in text
        assert "Your plan is Pay as you go" in text
        for amount in ("", "1.00", "25.001", "10000.01", "-5", "x"):
            text = await visitor.send_fields("/funds", {**form, "once": "", "amount": amount})
            assert visitor.status == 422, amount
            assert "That could not be done" in text
            assert re.search(f'value="{re.escape(amount)}" aria-invalid="true"', visitor.html)  # nobody types it again
        await visitor.send_fields("/funds", {**form, "once": "", "amount": '"><i>x'})
        assert visitor.status == 422 and "<i>" not in visitor.html
        assert len(stripe.sessions) == 1


async def test_whoever_goes_back_and_asks_for_something_else_gets_that(tmp_path: Path, empty_redis: str) -> None:
    """The form of one page with other content is another deed: a page to pay another amount at, another alert; by the
    API another amount under the same name is a conflict, and no fault of the payment service."""
    async with shop(tmp_path, empty_redis) as (gw, stripe), Visitor(gw.url + "/billing") as visitor:
        key = await gw.open_account("acme", credit="21")
        await visitor.sign_in(key)
        await visitor.see("/funds")
        form = {"form_token": visitor.form_token, "once": once_of(visitor)}
        for amount in ("25.00", "30.00", "25.00"):
            assert f"You pay ${amount} on" in await visitor.send_fields("/funds", {**form, "amount": amount})
        assert [session["amount_total"] for session in stripe.sessions.values()] == [2500, 3000]
        for target in ("50.00", "60.00"):
            await visitor.send_fields(
                "/funds/autopay", {**form, "threshold": "20", "target": target, "monthly_cap": ""}
            )
            assert (await gw.ledger.autopay("acme")).target == parse_usd(target)
        alert = {**form, "kind": "balance_below", "how": "webhook", "where": "https://example.com/x"}
        for figure in ("1", "2", "2"):
            assert "The alert is set" in await visitor.send_fields("/alerts", {**alert, "figure": figure})
        assert sorted(watch.amount for watch in await gw.ledger.watches("acme")) == [parse_usd("1"), parse_usd("2")]
        named = {"Authorization": key, "Idempotency-Key": "one"}
        for amount, status, code in (("25.00", 201, ""), ("25.00", 201, ""), ("30.00", 409, "operation_conflict")):
            url = f"{gw.url}/billing/v1/funds"
            async with gw.http.post(url, json={"amount": amount}, headers=named) as reply:
                assert (reply.status, reply.headers.get("X-Gateway-Error", "")) == (status, code)


async def test_autopay_is_set_on_the_page(tmp_path: Path, empty_redis: str) -> None:
    """Without a card it is refused in words; with one it is on, charges at once, and shows what was charged."""
    async with shop(tmp_path, empty_redis) as (gw, stripe), Visitor(gw.url + "/billing") as visitor:
        key = await gw.open_account("acme", credit="21")
        await visitor.sign_in(key)
        text = await visitor.see("/funds")
        assert "There is no card to charge yet" in text
        settings = {"threshold": "25.00", "target": "50.00", "monthly_cap": "", "enabled": "yes"}
        assert "there is no card to charge: add one first" in await visitor.send(
            "/funds/autopay", once=once_of(visitor), **settings
        )
        await visitor.send("/funds", once=once_of(visitor), what="card")
        (session,) = stripe.sessions.values()
        assert session["mode"] == "setup"
        await stripe.pay_checkout(session["url"])
        await stripe.told()
        assert "There is a card to charge" in await visitor.see("/funds")
        assert "Autopay is set" in await visitor.send("/funds/autopay", once=once_of(visitor), **settings)

        async def charged() -> bool:
            return stripe.paid == [2900] and await gw.balance("acme") == parse_usd("50")

        await until(charged)
        assert "$29.00 were charged by autopay this month" in await visitor.see("/funds")
        text = await visitor.send("/funds/autopay", once=once_of(visitor), **settings | {"target": "20.00"})
        assert visitor.status == 422
        assert "Target: it must be above the threshold" in text
        assert re.search('name="target"[^>]* value="20.00" aria-invalid="true"', visitor.html)
        assert re.search('name="threshold"[^>]* value="25.00">', visitor.html)


async def test_a_bank_that_asks_is_explained(tmp_path: Path, empty_redis: str) -> None:
    """A card whose bank wants its owner's agreement: the page says so, what helps, and when it is tried again."""
    async with shop(tmp_path, empty_redis) as (gw, stripe), Visitor(gw.url + "/billing") as visitor:
        key = await gw.open_account("acme", credit="21")
        card = {"customer": customer_of(stripe), "method": AUTHENTICATED, "provider": "stripe"}
        await gw.ledger.set_autopay(operation="card", account="acme", changes=card)
        await visitor.sign_in(key)
        await visitor.see("/funds")
        settings = {"threshold": "25.00", "target": "50.00", "monthly_cap": "", "enabled": "yes"}
        await visitor.send("/funds/autopay", once=once_of(visitor), **settings)

        async def failed() -> bool:
            return "The last attempt failed: authentication required." in await visitor.see("/funds")

        await until(failed)
        assert re.search(r"The next one is on \d+ \w+ \d+, \d\d:\d\d UTC", visitor.text)
        assert "Your bank wants you to agree to the payment yourself" in visitor.text


async def test_where_nobody_charges_cards_one_is_told_whom_to_ask(gw: Running) -> None:
    """Without a provider there is no form, and one that is sent all the same is refused in words."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        text = await visitor.see("/funds")
        assert "Ask your provider" in text
        assert 'name="amount"' not in visitor.html
        token = visitor.form_token
        text = await visitor.send("/funds", amount="25.00", form_token=token)
        assert "nobody charges payers here" in text
        assert visitor.status == 422


@pytest.mark.parametrize("how", ["webhook", "slack"])
async def test_alerts_are_set_tested_and_removed(tmp_path: Path, empty_redis: str, how: str) -> None:
    """An alert is shown in words with its host alone; a webhook's secret is shown once; a test is posted."""

    def allowed(data: dict[str, Any]) -> None:
        data["outward"] = {"allow": ["hooks.internal"]}

    async with (
        running(tmp_path, empty_redis, changes={"gateway.yaml": allowed}) as gw,
        Visitor(gw.url + "/billing") as visitor,
    ):
        key = await gw.open_account("acme")
        await visitor.sign_in(key)
        assert "None yet" in await visitor.see("/alerts")
        new = {"kind": "balance_below", "figure": "10", "how": how, "where": "https://hooks.internal/s3cret/path"}
        text = await visitor.send("/alerts", once=once_of(visitor), **new)
        assert "The alert is set" in text
        assert ("whsec_" in text) == (how == "webhook")
        assert "When the balance falls below $10.00" in text
        text = await visitor.see("/alerts")
        assert "whsec_" not in text
        assert "s3cret" not in visitor.html
        assert "to https://hooks.internal/..." in text
        found = re.search(r'name="alert" value="([^"]+)"', visitor.html)
        assert found is not None
        assert "A test is on its way" in await visitor.send("/alerts/test", alert=found[1])
        assert [each.channel for each in await gw.ledger.deliveries("acme")] == ["alert"]
        assert "The alert is gone" in await visitor.send("/alerts/drop", alert=found[1])
        assert "That could not be done" in await visitor.send("/alerts/test", alert=found[1])
        for wrong in (
            {"where": "https://127.0.0.1/"},
            {"where": "nonsense"},
            {"figure": ""},
            {"figure": "-1"},
            {"kind": "key_budget", "figure": "101"},
            {"kind": "key_budget", "figure": "ten"},
            {"kind": "no_such_kind"},
            {"how": "email", "where": "somebody@example.com"},
            {"how": "pigeon"},
        ):
            text = await visitor.send("/alerts", **new | wrong)
            assert visitor.status == 422, wrong
            assert "Input should" not in text or {"no_such_kind", "pigeon"} & {*wrong.values()}
            for name, value in (new | wrong).items():  # what was typed and chosen is still there
                kept = f'name="{name}"[^>]* value="{re.escape(value)}"|<option value="{value}" selected>'
                assert value in ("email", "pigeon", "no_such_kind") or re.search(kept, visitor.html), (name, value)
        assert await gw.ledger.watches("acme") == []
