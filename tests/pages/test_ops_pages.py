"""The operators' pages over a whole gateway: who may see them, what they show, what their forms do."""

import re
from pathlib import Path
from typing import Any

from gateway.core.alerts import ALERT
from gateway.core.money import parse_usd
from gateway.edge.api.admin_tokens import token_digest
from gateway.ports import Watch
from tests.fakes.stripe import DECLINED
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pages.visitor import Visitor
from tests.payments.shop import customer_of, shop, until, usd
from tests.pipeline.helpers import CHAT, CHAT_PATH

PAGES = ("", "/refusals", "/refusals/live", "/audit", "/config", "/accounts/acme")


async def test_the_admin_token_opens_the_pages_and_stays_nowhere(gw: Running) -> None:
    """Without it every page asks for it; with it each is shown, and no secret of the config is on any."""
    await gw.open_account("acme")
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        async with visitor.http.get(gw.ops_url + "/admin") as reply:
            assert reply.url.path == "/admin/ui/sign-in"
        for path in PAGES:
            await visitor.see(path)
            assert visitor.address == "/admin/ui/sign-in", path
        assert "no admin token of this gateway" in await visitor.sign_in("wrong")
        assert visitor.status == 403
        await visitor.sign_in(ADMIN_TOKEN)
        assert visitor.address == "/admin/ui"
        for path in PAGES:
            await visitor.see(path)
            assert (visitor.status, visitor.address) == (200, f"/admin/ui{path}")
            for secret in (ADMIN_TOKEN, gw.runtime.key_pepper, "sandbox-service-key", "secret-of-acme"):
                assert secret not in visitor.html
            assert "default-src 'none'" in visitor.headers["Content-Security-Policy"]
        assert ADMIN_TOKEN not in visitor.cookie
        copy = {"Cookie": f"gateway_ops={visitor.cookie}"}
        await visitor.send("/sign-out")
        async with gw.http.get(gw.ops_url + "/admin/ui", headers=copy, allow_redirects=False) as reply:
            assert reply.status == 303


async def test_the_cookie_is_not_good_for_the_api_nor_for_billing(gw: Running) -> None:
    """The admin API wants its token, whatever cookie comes; the two sites have cookies of their own."""
    key = await gw.open_account("acme")
    async with Visitor(gw.ops_url + "/admin/ui") as ops, Visitor(gw.url + "/billing") as billing:
        await ops.sign_in(ADMIN_TOKEN)
        await billing.sign_in(key)
        cookies = {"Cookie": f"gateway_ops={ops.cookie}"}
        async with gw.http.get(gw.ops_url + "/admin/accounts", headers=cookies) as reply:
            assert reply.status == 401
        for url, cookie in (
            (gw.ops_url + "/admin/ui", f"gateway_ops={billing.cookie}"),
            (gw.url + "/billing", f"gateway_billing={ops.cookie}"),
        ):
            async with gw.http.get(url, headers={"Cookie": cookie}, allow_redirects=False) as reply:
                assert reply.status == 303


async def test_what_an_account_has_in_place_of_its_plans_is_shown(gw: Running) -> None:
    """Each override by its name, and the account's own overdraft."""
    await gw.open_account("acme")
    overrides = {"overdraft": str(parse_usd("12.5")), "speech-to-text.concurrency": "777"}
    await gw.ledger.change_account(operation="o", account="acme", overrides=overrides)
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        await visitor.sign_in(ADMIN_TOKEN)
        text = await visitor.see("/accounts/acme")
        assert "speech-to-text.concurrency" in text and "777" in text and "$12.50" in text


async def test_accounts_are_found_by_a_part_of_their_id(gw: Running) -> None:
    """A part lists those that have it, a whole id leads to the account, and long lists have pages."""
    for number in range(60):
        await gw.open_account(f"customer-{number:02d}", credit="0" if number else "5")
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        await visitor.sign_in(ADMIN_TOKEN)
        text = await visitor.see()
        assert "customer-49" in text
        assert "customer-50" not in text
        following = re.search(r'rel="next" href="/admin/ui([^"]+)"', visitor.html)
        assert following is not None
        text = await visitor.see(following[1].replace("&amp;", "&"))
        assert "customer-59" in text
        text = await visitor.see("?q=customer-0")
        assert "customer-09" in text
        assert "customer-10" not in text
        assert "customer-00 Pay as you go $5.00 $0.00 served" in text
        assert "$0.00 $0.00 refused" in text
        await visitor.see("?q=Customer-07")
        assert visitor.address == "/admin/ui/accounts/customer-07"
        await visitor.see("/accounts/nobody")
        assert visitor.status == 404
        await visitor.see("/accounts/NO%20ID")
        assert visitor.status == 404


async def test_forms_do_what_they_say_once(gw: Running) -> None:
    """Credit is given once however often the form is sent; suspending, keys, holds and jobs change as asked."""
    key = await gw.open_account("acme", credit="10")
    await gw.knobs(job_seconds=60)
    for _ in range(2):
        made = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
        assert made.status == 200
    at = "/accounts/acme"
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        await visitor.sign_in(ADMIN_TOKEN)
        text = await visitor.see(at)
        assert "Available" in text
        page = {"form_token": visitor.form_token, "once": once_of(visitor), "sure": "yes"}

        async def send(path: str, **fields: str) -> str:
            return await visitor.send_fields(at + path, {**page, **fields})

        before = await gw.balance("acme")
        for _ in range(2):
            text = await send("/grant", amount="2.50", kind="goodwill", note="sorry")
            assert "The credit was given" in text
        assert await gw.balance("acme") == before + parse_usd("2.5")
        await send("/grant", amount="9", kind="goodwill", sure="")
        assert visitor.status == 422
        text = await send("/grant", amount=" 0 ", kind="goodwill")
        assert "Nothing was done Amount: the amount must be above zero." in text
        assert (visitor.status, f'href="/admin/ui{at}"' in visitor.html) == (422, True)
        await send("/grant", amount="3", kind="goodwill", note="the same form with other content")
        assert visitor.status == 422

        first, second = await gw.ledger.holds("acme")
        assert "given back" in await send("/holds", hold=first.id)
        assert "had ended before" in await send("/holds", hold=first.id)
        assert second.resource is not None
        job = {"kind": second.resource.kind, "job": second.resource.id}
        assert "the service is still at it" in await send("/jobs", how="settle", **job)
        await send("/jobs", how="anyhow", **job)
        assert visitor.status == 422
        assert "given back" in await send("/jobs", how="release", **job)
        assert await gw.ledger.holds("acme") == []

        assert "The key is disabled" in await send("/keys", key="key-acme", disabled="yes")
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).code == "key_disabled"
        await visitor.see(at)
        page |= {"once": once_of(visitor)}
        assert "The key works again" in await send("/keys", key="key-acme", disabled="no")
        await send("/keys", key="no-such-key", disabled="yes")
        assert visitor.status == 422
        assert "The account is suspended" in await send("/status", status="suspended")
        assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).code == "account_suspended"


def once_of(visitor: Visitor) -> str:
    """The name of the operations of the page that was shown last."""
    found = re.search(r'name="once" value="([^"]+)"', visitor.html)
    assert found is not None
    return found[1]


async def test_what_an_account_pays_and_is_told_is_in_its_picture(tmp_path: Path, empty_redis: str) -> None:
    """Autopay as it stands, with why it failed; the alerts with whom they tell, but no address whole."""
    async with shop(tmp_path, empty_redis) as (gw, stripe), Visitor(gw.ops_url + "/admin/ui") as visitor:
        await gw.open_account("acme", credit="21")
        await visitor.sign_in(ADMIN_TOKEN)
        text = await visitor.see("/accounts/acme")
        assert "Autopay" not in text and "Alerts" not in text
        changes = {
            "provider": "stripe", "customer": customer_of(stripe), "method": DECLINED, "threshold": usd(25),
            "target": usd(50), "monthly_cap": usd(80), "enabled": True,
        }  # fmt: skip
        await gw.ledger.set_autopay(operation="on", account="acme", changes=changes)
        to = [{"id": "x", "type": "slack", "url": "https://hooks.example.com/T000/s3cret"}]
        watch = Watch(id="low", kind="balance_below", amount=usd(10), channel=ALERT, data={"to": to})
        await gw.ledger.put_watch(account="acme", watch=watch)
        assert "Autopay on Below $25.00 Up to $50.00 At most a month $80.00" in await visitor.see("/accounts/acme")
        assert "When the balance falls below $10.00 low · slack to https://hooks.example.com/..." in visitor.text
        assert "s3cret" not in visitor.html
        await gw.ledger.post(account="acme", delivery_id="look", channel="autopay", payload={})

        async def declined() -> bool:
            return (await gw.ledger.autopay("acme")).failures == 1

        await until(declined)
        text = await visitor.see("/accounts/acme")
        assert "Autopay failed" in text and "Failed in a row 1, at last:" in text


async def test_dead_letters_are_shown_and_delivered_again(gw: Running) -> None:
    """A delivery that was given up stands on its account's page, says why, and waits again after the form."""
    await gw.open_account("acme")
    await gw.ledger.post(
        account="acme", delivery_id="d-1", channel="nowhere", payload={"url": "https://x.example/s3cret"}
    )
    await gw.ledger.bury(account="acme", delivery_id="d-1", why="nobody answers")
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        await visitor.sign_in(ADMIN_TOKEN)
        text = await visitor.see("/accounts/acme")
        assert "d-1 given up" in text
        assert "nobody answers" in text
        assert "s3cret" not in visitor.html
        assert "It is delivered again" in await visitor.send("/accounts/acme/deliveries", delivery="d-1", sure="yes")
        assert await gw.ledger.deliveries("acme", dead=True) == []


async def test_refusals_are_counted_by_code(gw: Running) -> None:
    """What was refused, and to which product, as it stands now."""
    key = await gw.open_account("acme", credit="0")
    for _ in range(3):
        await gw.call("POST", CHAT_PATH, key, json=CHAT)
    async with Visitor(gw.ops_url + "/admin/ui") as visitor:
        await visitor.sign_in(ADMIN_TOKEN)
        assert "insufficient_credit llm-gateway 3 3" in await visitor.see("/refusals")
        assert "Ledger up 1" in visitor.text
        assert re.search(r"Resident [1-9]\d*\.\d MiB", visitor.text) and not re.search(r"\de[+-]\d", visitor.text)
        assert gw.runtime.digest in await visitor.see("/config")


async def test_a_token_does_what_its_scopes_say(tmp_path: Path, empty_redis: str) -> None:
    """Who may only read sees everything and no form, and a form that is sent all the same is refused; the pages name
    the token that was shown, not another."""
    reading, billing = "gwa_reading-token", "gwa_billing-token"

    def tokens(data: dict[str, Any]) -> None:
        data["admin_tokens"] = [
            {"name": "reader", "scopes": ["read"], "sha256": token_digest(reading)},
            {"name": "clerk", "scopes": ["read", "billing"], "sha256": token_digest(billing)},
        ]

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": tokens}) as gw:
        await gw.open_account("acme", credit="1")
        grant = {"once": "o", "sure": "yes", "amount": "5", "kind": "goodwill", "note": ""}
        async with Visitor(gw.ops_url + "/admin/ui") as visitor:
            assert "reader" in await visitor.sign_in(reading)
            await visitor.see("/accounts/acme")
            assert 'name="once"' not in visitor.html
            await visitor.send("/accounts/acme/grant", **grant)
            assert visitor.status == 403
        async with Visitor(gw.ops_url + "/admin/ui") as visitor:
            assert "clerk" in await visitor.sign_in(billing)
            text = await visitor.see("/accounts/acme")
            assert "Give credit" in text
            assert "Disable this key" not in text
            await visitor.send("/accounts/acme/keys", once="o", sure="yes", key="key-acme", disabled="yes")
            assert visitor.status == 403
            await visitor.see("/accounts/acme")
            assert "The credit was given" in await visitor.send("/accounts/acme/grant", **grant)
            assert re.search(r"/grant .* acme clerk done .* acme clerk begun", await visitor.see("/audit"))
            await visitor.see("/audit?before=nonsense")
            assert visitor.status == 404
        assert await gw.balance("acme") == parse_usd("6")
        assert not (await gw.ledger.keys("acme"))[0].disabled


async def test_without_an_admin_token_nothing_opens(tmp_path: Path, empty_redis: str) -> None:
    """An empty token in the config is no token: not even an empty one opens the pages."""

    def tokenless(data: dict[str, Any]) -> None:
        data["admin_token"] = ""

    async with (
        running(tmp_path, empty_redis, changes={"gateway.yaml": tokenless}) as gw,
        Visitor(gw.ops_url + "/admin/ui") as visitor,
    ):
        assert "no admin token in the config" in await visitor.sign_in("")
        await visitor.see()
        assert visitor.address == "/admin/ui/sign-in"
