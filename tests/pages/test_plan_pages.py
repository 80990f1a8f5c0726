"""The billing page of the plan: what the next one brings, and how one comes there, by a payment or by asking."""

from pathlib import Path
from typing import Any

from gateway.core.money import Nanos, parse_usd
from gateway.core.months import following, month_of
from gateway.edge.pages.wording import month as words
from gateway.edge.pages.wording import usd_exact
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pages.test_funds_pages import once_of
from tests.pages.visitor import Visitor
from tests.pipeline.helpers import CHAT, CHAT_PATH, chat


def on_request(data: dict[str, Any]) -> None:
    """Free accounts may have the paid plan for the asking, and those the next one."""
    data["payments"]["upgrade_on_request"] = {"free": "payg", "payg": "contracted"}


async def test_what_the_next_plan_brings_and_that_a_payment_leads_there_where_one_can_pay(gw: Running) -> None:
    """New products first, then what there is more of; nothing that is equal; what was agreed for the account alone is
    its plan's. A form is refused."""
    key = await gw.open_account("acme", tier="free")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        assert "Free · Upgrade" in await visitor.see()
        text = await visitor.see("/prices")
        assert "LLM Gateway new not included 30 requests a minute for each model" in text
        assert "Pre-recorded speech-to-text 5 at once, 1,000 waiting 200 at once, 10,000 waiting" in text
        assert "All requests together" not in text[text.index("Upgrade to") :]
        assert "To pay, ask your provider." in text and "Add funds to upgrade" not in text
        token = visitor.form_token
        text = await visitor.send("/prices/upgrade", to="payg", sure="yes", form_token=token)
        assert (visitor.status, "it begins with the next payment" in text) == (422, True)
        assert (await gw.ledger.account("acme")).plan.tier == "free"
        own = {"speech-to-text.concurrency": "7", "monthly_grant": "100000000000/month", "overdraft": "2000000000"}
        await gw.ledger.change_account(operation="own", account="acme", overrides=own)
        text = await visitor.see("/prices")
        assert "Pre-recorded speech-to-text 7 at once, 1,000 waiting" in text[: text.index("Upgrade to")]
        assert "Credit each month $100, good until the month is over May go below zero $2" in text
        await gw.ledger.change_account(operation="o", account="acme", tier="contracted")
        text = await visitor.see("/prices")
        assert "To change your plan, ask" in text and "Upgrade to" not in text


async def test_what_is_committed_to_is_shown_with_what_is_missing(gw: Running) -> None:
    """On the plan's page and in the operators' picture: this month, how far it is, and what comes later."""
    key = await gw.open_account("acme")
    now = month_of((await gw.ledger.account("acme")).created_ms)
    async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.ops_url + "/admin/ui") as operator:
        await visitor.sign_in(key)
        await operator.sign_in(ADMIN_TOKEN)
        assert "Commitment" not in await visitor.see("/prices")
        assert "Commits to" not in await operator.see("/accounts/acme")
        await gw.ledger.commit(operation="1", account="acme", month=now, amount=parse_usd("100"))
        await gw.ledger.commit(operation="2", account="acme", month=following(now), amount=parse_usd("250"))
        charged = (await chat(gw, key)).charge or Nanos(0)
        text = await visitor.see("/prices")
        assert f"you pay at least $100.00 . {usd_exact(charged)} of it was charged so far." in text
        assert f"{usd_exact(parse_usd('100') - charged)} by now, is charged then." in text
        later = f"From {words(following(now))} on: at least $250.00 a month."
        assert later in text
        assert f"Commits to $100.00 in {words(now)}" in await operator.see("/accounts/acme")
        await gw.ledger.commit(operation="3", account="acme", month=now, amount=Nanos(1))
        text = await visitor.see("/prices")
        assert "was charged: it is reached." in text and later not in text


async def test_an_upgrade_for_the_asking(tmp_path: Path, empty_redis: str) -> None:
    """Wants to be confirmed; is in force with the next call of the same key, once however often it is sent, and in the
    audit log; a page that is out of date leads to nothing else; a suspended account stays what it is."""
    async with (
        running(tmp_path, empty_redis, changes={"gateway.yaml": on_request}) as gw,
        Visitor(gw.url + "/billing") as visitor,
    ):
        key = await gw.open_account("acme", tier="free")
        await visitor.sign_in(key)
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 403
        assert "Upgrade to Pay as you go" in await visitor.see("/prices")
        form = {"form_token": visitor.form_token, "once": once_of(visitor), "to": "payg"}
        assert "Tick the box" in await visitor.send_fields("/prices/upgrade", form)
        for _ in range(2):
            assert "Your plan has changed" in await visitor.send_fields("/prices/upgrade", {**form, "sure": "yes"})
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200
        assert "Your plan: Pay as you go" in visitor.text
        assert "May go below zero no $500" in visitor.text
        await gw.ledger.change_account(operation="s", account="acme", status="suspended")
        late = {**form, "once": "", "to": "contracted", "sure": "yes"}
        assert "the account is suspended" in await visitor.send_fields("/prices/upgrade", late)
        for to in ("free", "gold", ""):
            text = await visitor.send_fields("/prices/upgrade", {**late, "to": to})
            assert (visitor.status, "this plan can become: contracted" in text) == (422, True)
        assert (await gw.ledger.account("acme")).plan.tier == "payg"
        lines = await gw.ledger.audited(account="acme")
        assert [(line.action, line.outcome, line.about) for line in lines] == [
            ("upgrade", outcome, {"tier": "payg"}) for outcome in ("done", "begun")
        ]
        assert lines[0].actor == "key:key-acme"
