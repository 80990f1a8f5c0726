"""The pages in a real headless Chromium: what a customer does, seen and photographed (`build/pages`)."""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from gateway.core.errors import NO_CREDIT
from gateway.core.money import Nanos
from gateway.demo import PAID, seed
from gateway.demo_month import Past
from gateway.edge.pages.wording import usd, usd_exact
from tests.fakes.stripe import FakeStripe
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pages.looking import CHROMIUM, DESKTOP, PHONE, Looking, faults, photograph, sign_in
from tests.pages.test_plan_pages import on_request
from tests.payments.shop import payments
from tests.pipeline.helpers import CHAT, CHAT_PATH, until
from tests.ports import free_ports

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists() and "CI" not in os.environ, reason="there is no Chromium here"),
]


async def test_a_customer_runs_out_of_credit_and_comes_back(tmp_path: Path, empty_redis: str, looking: Looking) -> None:
    """Sign in, read the balance, spend it all by a call, see the refusal in the API's words, pay, call again."""
    (port,) = free_ports(1)

    async with FakeStripe() as stripe:

        def sold(data: dict[str, Any]) -> None:
            data["customers"]["port"] = port
            payments(stripe)(data)
            data["payments"]["return_url"] = f"http://127.0.0.1:{port}/billing"

        async with running(tmp_path, empty_redis, changes={"gateway.yaml": sold}) as gw, looking.page() as page:
            stripe.webhook_url = f"{gw.url}/billing/webhooks/stripe"
            looking.elsewhere = stripe.url
            await _story(gw, page)
            assert stripe.paid == [2500]


async def _story(gw: Running, page: Page) -> None:
    key = await gw.open_account("acme", credit="0.0001", name="Production")
    await sign_in(page, gw, key)
    shown = page.locator(".amount data")
    assert await shown.get_attribute("value") == "$0.0001"
    await photograph(page, "1-balance")

    assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200
    refused = await gw.call("POST", CHAT_PATH, key, json=CHAT)
    assert (refused.status, refused.code) == (400, "insufficient_credit")
    await page.get_by_text(NO_CREDIT).wait_for()  # without a reload
    await photograph(page, "2-refused")
    owed = usd_exact((await gw.ledger.account("acme")).debt)
    assert await page.get_by_text(f"what you owe, {owed}, is paid first").count() == 1

    await page.get_by_role("link", name="Add funds").first.click()
    await page.get_by_label("Dollars", exact=True).fill("25.00")
    await photograph(page, "3-funds")
    assert await faults(page) == []  # with the refusal above the page's heading
    await page.get_by_role("button", name="Continue to payment").click()
    await page.get_by_role("button", name="Pay $25.00").click()  # on the provider's page
    await page.get_by_role("heading", name="Available credit").wait_for()

    async def credited() -> bool:
        return await gw.balance("acme") > 0

    assert await until(credited)
    assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200
    await page.get_by_text(NO_CREDIT).wait_for(state="detached")
    assert await shown.inner_text() == usd(await gw.balance("acme"))
    await photograph(page, "4-served-again")

    await page.get_by_role("link", name="Charges").click()
    await page.locator("summary").first.click()
    await page.get_by_text("llm.gpt-5.2.input").first.wait_for()
    await photograph(page, "5-charges")


async def test_every_page_fits_and_reads_in_both_schemes(gw: Running, looking: Looking) -> None:
    """On a phone and a desktop, in light and dark, nothing is wider than the screen, and all text has contrast."""
    await seed(gw.ledger, gw.runtime, PAID, Past(gw.ledger, gw.runtime.redis.prefix))
    await gw.knobs(job_seconds=60)
    await gw.call("POST", "/v2/transcript", PAID.secret, json={"audio_url": "https://example.com/a.wav"})
    menu = ("Overview", "Charges", "Keys", "Prices", "Funds", "Alerts")
    for size, of_what, scheme, names in (
        (DESKTOP, "desktop", "light", menu),
        (DESKTOP, "desktop", "dark", menu[:1]),
        (PHONE, "phone", "light", menu[:1]),
        (PHONE, "phone", "dark", menu),
    ):
        async with looking.page(size, scheme=scheme) as page:
            await page.goto(f"{gw.url}/billing")
            await photograph(page, f"{of_what}-{scheme}-sign-in")
            await sign_in(page, gw, PAID.secret)
            for name in names:
                await page.get_by_role("link", name=name, exact=True).click()
                await page.locator(f'a[aria-current="page"]:text-is("{name}")').wait_for()
                await photograph(page, f"{of_what}-{scheme}-{name.lower()}")
                assert await faults(page) == [], (name, of_what, scheme)


async def test_the_pages_are_used_with_the_keyboard_alone(gw: Running, looking: Looking) -> None:
    """Sign in, skip to the content, open a charge and sign out without a pointer; what has the focus is seen."""
    key = await gw.open_account("acme")
    await gw.call("POST", CHAT_PATH, key, json=CHAT)
    async with looking.page() as page:
        await page.goto(f"{gw.url}/billing")
        await page.keyboard.type(key)  # the field has the focus
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Available credit").wait_for()

        async def focused() -> str:
            found: str = await page.evaluate("document.activeElement.innerText.trim()")
            return found

        await page.keyboard.press("Tab")
        assert await focused() == "Skip to content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("location.hash") == "#content"
        await page.goto(f"{gw.url}/billing/charges")
        await page.locator("summary").first.focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Shift+Tab")
        style = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"
        await page.keyboard.press("Enter")
        await page.get_by_text("llm.gpt-5.2.input").wait_for()
        for _ in range(20):
            if await focused() == "Sign out":
                break
            await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await page.get_by_label("API key").wait_for()


async def test_the_pages_say_the_same_without_javascript(gw: Running, looking: Looking) -> None:
    """Everything is there and works: the balance, the chart with its table, charges that open, signing out."""
    await seed(gw.ledger, gw.runtime, PAID, Past(gw.ledger, gw.runtime.redis.prefix))
    async with looking.page(javascript=False) as page:
        await sign_in(page, gw, PAID.secret)
        assert await page.locator(".amount").inner_text() == usd(await gw.balance(PAID.id))
        assert await page.locator("figure.chart svg.large-screen g.day").count() == 30
        await page.get_by_text("Day by day, as a table").click()
        assert await page.get_by_role("table", name="Spend by product and day").get_by_role("row").count() == 31
        await page.get_by_role("link", name="Charges").click()
        await page.locator("summary").first.click()
        assert await page.get_by_role("table", name="Line items").first.is_visible()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").wait_for()


async def test_a_plan_is_upgraded_without_javascript(tmp_path: Path, empty_redis: str, looking: Looking) -> None:
    """What the next plan brings is read, on a phone in the dark too; the tick is asked for; the next call is served."""
    async with running(tmp_path, empty_redis, changes={"gateway.yaml": on_request}) as gw:
        key = await gw.open_account("acme", tier="free")
        async with looking.page(PHONE, scheme="dark", javascript=False) as page:
            await sign_in(page, gw, key)
            await page.get_by_role("link", name="Upgrade", exact=True).click()
            await page.get_by_role("row", name="LLM Gateway new").wait_for()
            await photograph(page, "phone-dark-upgrade")
            assert await faults(page) == []
        async with looking.page(javascript=False) as page:
            await sign_in(page, gw, key)
            await page.get_by_role("link", name="Upgrade", exact=True).click()
            await photograph(page, "upgrade")
            assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).code == "not_entitled"
            await page.get_by_role("button", name="Upgrade").click()  # the browser asks for the tick first
            await page.get_by_role("checkbox", name="Change the plan to Pay as you go now").check()
            await page.get_by_role("button", name="Upgrade").click()
            await page.get_by_text("Your plan has changed.").wait_for()
            assert (await gw.call("POST", CHAT_PATH, key, json=CHAT)).status == 200


async def test_names_that_would_break_a_page_are_text(gw: Running, looking: Looking) -> None:
    """Markup and names without end, on the narrowest screen, everything opened: shown, run by nobody, and whole."""
    account, markup = "e" * 63, '<script>alert(1)</script><img src=x onerror=alert(1)> "&'
    names = {"name": markup + "x" * 140, "project": markup[:30] + "y" * 70}
    key = await gw.open_account(account, credit="8999999.123456789", **names)
    await gw.call("POST", CHAT_PATH, key, json=CHAT)
    await gw.knobs(job_seconds=60)
    await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
    data = {"call_id": "c", "reason": markup + "n" * 300, "actor": "a"}
    await gw.ledger.correct(operation="c", account=account, key_id=key, amount=Nanos(1), data=data)
    async with looking.page((320, 640)) as page:

        async def is_whole(address: str) -> None:
            await page.goto(address)
            await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
            assert await faults(page) == [], address

        await sign_in(page, gw, key)
        for path in ("", "/charges", "/keys", "/prices", "/funds", "/alerts"):
            await is_whole(f"{gw.url}/billing{path}")
        await page.goto(f"{gw.ops_url}/admin/")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("searchbox").wait_for()
        for path in ("", f"/accounts/{account}", "/audit", "/config/"):
            await is_whole(f"{gw.ops_url}/admin/ui{path}")


async def test_a_key_that_is_disabled_while_one_looks(gw: Running, looking: Looking) -> None:
    """The page asks for a key by itself, within seconds; until then the chart tells the pointer its figures."""
    await seed(gw.ledger, gw.runtime, PAID, Past(gw.ledger, gw.runtime.redis.prefix))
    async with looking.page() as page:
        await sign_in(page, gw, PAID.secret)
        for selects, used in (
            ("selectAllChildren(document.querySelector('.facts'))", True),
            ("removeAllRanges()", False),
        ):
            await page.evaluate(f"getSelection().{selects}")
            assert await page.evaluate("isUsed(document.querySelector('[data-fresh]'))") is used
        await page.locator("svg.large-screen g.day").nth(20).hover()
        tip = page.locator(".tip")
        await tip.wait_for(state="visible")
        assert "$" in await tip.inner_text()
        (key,) = [key for key in await gw.ledger.keys(PAID.id) if key.name == "demo key"]
        await gw.ledger.change_key(operation="off", account=PAID.id, key_id=key.id, changes={"disabled": True})
        await page.get_by_label("API key").wait_for()


async def test_an_operator_finds_an_account_and_gives_a_hold_back(gw: Running, looking: Looking) -> None:
    """Search, look at the whole picture, release a hold (which wants to be confirmed), see refusals come in."""
    await seed(gw.ledger, gw.runtime, PAID, Past(gw.ledger, gw.runtime.redis.prefix))
    broke = await gw.open_account("acme", credit="0")
    await gw.knobs(job_seconds=60)
    await gw.call("POST", "/v2/transcript", PAID.secret, json={"audio_url": "https://example.com/a.wav"})
    async with looking.page() as page:
        await page.goto(f"{gw.ops_url}/admin")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("searchbox").fill("demo")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name=PAID.id).click()
        await photograph(page, "ops-account")
        holds = page.get_by_role("region", name="Holds", exact=True)
        await holds.get_by_text("Release it").click()
        await holds.get_by_role("button", name="Release").click()  # the browser asks for the tick first
        assert len(await gw.ledger.holds(PAID.id)) == 1
        await holds.get_by_role("checkbox").check()
        await holds.get_by_role("button", name="Release").click()
        await page.get_by_text("The credit that was set aside was given back.").wait_for()
        assert await gw.ledger.holds(PAID.id) == []

        await page.get_by_role("link", name="Refusals").click()
        await page.get_by_text("Nothing was refused").wait_for()
        await gw.call("POST", CHAT_PATH, broke, json=CHAT)
        await page.get_by_text("insufficient_credit").wait_for()  # without a reload
        await photograph(page, "ops-refusals")
    async with looking.page(PHONE, scheme="dark") as page:
        await page.goto(f"{gw.ops_url}/admin")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.keyboard.press("Enter")
        for name in ("Accounts", "Refusals", "Audit", "Config"):
            await page.get_by_role("link", name=name, exact=True).click()
            await page.locator(f'a[aria-current="page"]:text-is("{name}")').wait_for()
            await photograph(page, f"ops-phone-dark-{name.lower()}")
            assert await faults(page) == [], name
