"""The billing pages over a whole gateway: who may see them, and what they say."""

import io
import re
import time
from pathlib import Path
from typing import Any

from gateway.core.errors import NO_CREDIT, REFUSALS, Code
from gateway.core.money import parse_usd
from gateway.edge.attempts import OF_ADDRESS_MAX
from gateway.edge.keys import key_digest
from gateway.edge.pages.wording import usd_signed
from gateway.ports import Key
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pages.visitor import Visitor
from tests.pipeline.helpers import CHAT, CHAT_PATH

PAGES = ("", "/live", "/lately", "/charges", "/keys", "/prices", "/funds")


async def test_a_key_opens_its_accounts_pages_and_stays_nowhere(gw: Running) -> None:
    """Signed in, every page shows the account; the key is in no page, address or cookie; all carry the headers."""
    key = await gw.open_account("acme", credit="12.50", name="Production")
    await gw.open_account("rival", credit="77", name="Rival key")
    async with Visitor(gw.url + "/billing") as visitor:
        for path in PAGES:
            await visitor.see(path)
            assert visitor.address == "/billing/sign-in", path
        text = await visitor.sign_in(key)
        assert (visitor.status, visitor.address) == (200, "/billing")
        assert "$12.50" in text
        assert "acme" in text
        assert any("HttpOnly" in each and "SameSite=Lax" in each and "Secure" not in each for each in visitor.cookies)
        for path in PAGES:
            text = await visitor.see(path)
            assert (visitor.status, visitor.address) == (200, f"/billing{path}")
            assert key not in visitor.html
            assert "rival" not in visitor.html.lower()
            assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=", visitor.html)
            policy = visitor.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert visitor.headers["Cache-Control"] == "no-store"
            assert visitor.headers["X-Content-Type-Options"] == "nosniff"
        assert key not in visitor.cookie
        for part in ("/live", "/lately"):  # asked for by the page of another account, from before this one signed in
            assert await visitor.see() and f'data-fresh="/billing{part}?of=acme"' in visitor.html
            assert await visitor.see(f"{part}?of=acme") and visitor.address == f"/billing{part}?of=acme"
            assert await visitor.see(f"{part}?of=rival") and visitor.address == "/billing"
    assert await gw.seen() == []


async def test_who_has_no_key_that_works_sees_nothing(gw: Running) -> None:
    """An unknown key, none, one far too long, a disabled and an expired one are refused, in words."""
    await gw.open_account("acme")
    disabled = await gw.open_account("shut", disabled=True)
    expired = await gw.open_account("late")
    over = {"expires_ms": int(time.time() * 1000) - 1}
    await gw.ledger.change_key(operation="over", account="late", key_id="key-late", changes=over)
    told = REFUSALS[Code.KEY_DISABLED].message
    async with Visitor(gw.url + "/billing") as visitor:
        for key, words in ((disabled, told), (expired, told), ("no such key", "No account has this key"), ("", "key"),
                           ("x" * 10_000, "No account has this key")):  # fmt: skip
            text = await visitor.sign_in(key)
            assert visitor.status == 403
            assert words in text
            assert (await visitor.see() and visitor.address) == "/billing/sign-in"


async def test_a_key_may_be_kept_from_the_pages(gw: Running) -> None:
    """One that may read sees everything and is told that its forms do nothing, from the next request on; one that may
    nothing opens no page, and ends its visits."""
    key = await gw.open_account("acme", credit="10")
    change = gw.ledger.change_key
    async with Visitor(gw.url + "/billing") as visitor:
        assert "change nothing" not in await visitor.sign_in(key)
        assert await visitor.see("/alerts") and "inert" not in visitor.html
        await change(operation="1", account="acme", key_id="key-acme", changes={"billing": "read"})
        assert "change nothing" in await visitor.see("/alerts")
        assert visitor.html.count('class="stack"') == visitor.html.count(" inert>") == 1
        text = await visitor.send("/alerts", kind="balance_below", figure="5", once="0" * 24)
        assert (visitor.status, "Not with this key" in text) == (403, True)
        assert await gw.ledger.watches("acme") == []
        await change(operation="2", account="acme", key_id="key-acme", changes={"billing": "none"})
        assert (await visitor.see() and visitor.address) == "/billing/sign-in"
        assert "not for billing" in await visitor.sign_in(key)
        assert visitor.status == 403


async def test_a_key_that_is_disabled_ends_its_visits(gw: Running) -> None:
    """The next request after the change is nobody's; another key of the account still opens the pages."""
    key = await gw.open_account("acme")
    second = Key(id="second", account="acme", name="Second")
    await gw.ledger.put_key(operation="k2", key=second, digest=key_digest(gw.runtime.key_pepper, "another-secret"))
    async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.url + "/billing") as other:
        await visitor.sign_in(key)
        await other.sign_in("another-secret")
        await gw.ledger.change_key(operation="off", account="acme", key_id="key-acme", changes={"disabled": True})
        assert (await visitor.see("/keys") and visitor.address) == "/billing/sign-in"
        assert (await other.see("/keys") and other.address) == "/billing/keys"
        assert "disabled" in other.text


async def test_signing_out_ends_the_visit_wherever_its_cookie_is(gw: Running) -> None:
    """A copy of the cookie is worth nothing afterwards; another visit of the same key goes on."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.url + "/billing") as other:
        await visitor.sign_in(key)
        await other.sign_in(key)
        copy = {"Cookie": f"gateway_billing={visitor.cookie}"}
        async with gw.http.get(gw.url + "/billing", headers=copy, allow_redirects=False) as reply:
            assert reply.status == 200
        await visitor.send("/sign-out")
        assert visitor.address == "/billing/sign-in"
        async with gw.http.get(gw.url + "/billing", headers=copy, allow_redirects=False) as reply:
            assert reply.status == 303
        assert (await other.see() and other.address) == "/billing"


async def test_only_a_page_of_the_visit_can_send_a_form(gw: Running) -> None:
    """No token, another visit's, or another site's page: 403, and nobody is signed in or out."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.url + "/billing") as other:
        await other.see("/sign-in")
        await visitor.see("/sign-in")
        token = visitor.form_token
        sent: list[tuple[str, dict[str, str]]] = [
            ("", {}),
            (other.form_token, {}),
            (token, {"Origin": "https://evil.example"}),
            (token, {"Origin": "null"}),
            (token, {"Sec-Fetch-Site": "cross-site"}),
        ]
        for form_token, headers in sent:
            text = await visitor.send_fields("/sign-in", {"secret": key, "form_token": form_token}, headers=headers)
            assert (visitor.status, "out of date" in text) == (403, True)
        await visitor.send_fields("/sign-in", {"secret": key, "form_token": token}, headers={"Origin": gw.url})
        assert visitor.address == "/billing"
        for headers in ({}, {"Origin": "https://evil.example"}):  # the token is that of the visit before signing in
            text = await visitor.send_fields("/sign-out", {"form_token": token}, headers=headers)
            assert (visitor.status, "This form is out of date" in text) == (403, True)
            assert bool(visitor.cookies) == (not headers)  # who comes from elsewhere begins no new visit
        assert (await visitor.see() and visitor.address) == "/billing"


async def test_a_page_that_was_open_for_too_long_says_so(gw: Running) -> None:
    """Who signed out elsewhere is told so by a form; an entrance whose visit is over takes the key the second time."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.see("/sign-in")
        visitor.http.cookie_jar.clear()
        assert "This page was out of date. Send it once more." in await visitor.send("/sign-in", secret=key)
        assert visitor.status == 403
        await visitor.send("/sign-in", secret=key)
        assert visitor.address == "/billing"
        await visitor.see("/funds")
        token = visitor.form_token
        await visitor.send("/sign-out")
        assert "You are signed out Nothing was done" in await visitor.send("/funds", form_token=token, amount="25")
        assert visitor.status == 403


async def test_what_there_is_much_of_is_shown_in_part(gw: Running) -> None:
    """Grants, keys and holds without end leave the pages short, which say how many more there are."""
    key = await gw.open_account("acme")
    for number in range(101):
        made = Key(id=f"k{number}", account="acme")
        await gw.ledger.put_key(operation=f"k{number}", key=made, digest=f"{number:064}")
        await gw.ledger.grant(operation=f"g{number}", account="acme", kind="goodwill", amount=parse_usd("1"))
    async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.ops_url + "/admin/ui") as operator:
        assert "and 82 more" in await visitor.sign_in(key)
        assert "and 2 more: the API lists them all" in await visitor.see("/keys")
        await operator.sign_in(ADMIN_TOKEN)
        assert (await operator.see("/accounts/acme")).count("and 2 more: the command line lists them all") == 2


async def test_what_is_no_form_is_refused(gw: Running) -> None:
    """JSON, multipart, a form without end, bytes, other methods and unknown pages are told as pages."""
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.see("/sign-in")
        url, cookie = gw.url + "/billing/sign-in", {"Cookie": f"gateway_billing={visitor.cookie}"}
        form = {**cookie, "Content-Type": "application/x-www-form-urlencoded"}
        sent: list[tuple[int, dict[str, Any]]] = [
            (415, {"json": {"key": "x"}, "headers": cookie}),
            (413, {"data": b"secret=" + b"x" * 20_000, "headers": form}),
            (413, {"data": io.BytesIO(b"x" * 2_000_000), "headers": form}),
            (400, {"data": b"\xff\xfe", "headers": form}),
            (400, {"data": b"a=1&" * 60, "headers": form}),
        ]
        for status, request in sent:
            async with gw.http.post(url, **request) as reply:
                assert (reply.status, reply.content_type) == (status, "text/html")
        for method, path, status in (("PUT", "/sign-in", 405), ("GET", "/nothing", 404), ("GET", "/assets/x.css", 404)):
            async with gw.http.request(method, gw.url + "/billing" + path) as reply:
                assert (reply.status, reply.content_type) == (status, "text/html")


async def test_addresses_and_methods_are_taken_as_people_send_them(gw: Running) -> None:
    """A slash too many leads to the page, also at the operators'; other methods are told which ones there are; whoever
    may read the API may ask for its head."""
    key = await gw.open_account("acme")

    async def ask(method: str, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        async with gw.http.request(method, url, headers=headers, allow_redirects=False) as reply:
            return reply.status, dict(reply.headers), await reply.read()

    for url, there in (
        (f"{gw.url}/billing/", "/billing"),
        (f"{gw.url}/billing/charges/", "/billing/charges"),
        (f"{gw.url}/billing//evil.example//", "/billing//evil.example"),
        (f"{gw.ops_url}/admin/", "/admin/ui"),
        (f"{gw.ops_url}/admin/ui/", "/admin/ui"),
    ):
        status, headers, _ = await ask("GET", url)
        assert (status, headers["Location"]) == (303, there)
    status, headers, _ = await ask("POST", f"{gw.url}/billing/charges")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, headers, _ = await ask("GET", f"{gw.url}/billing/sign-out")
    assert (status, headers["Allow"]) == (405, "POST")
    token = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    for url, sent in (
        (f"{gw.url}/billing/v1/balance", {"Authorization": key}),
        (f"{gw.ops_url}/admin/v1/accounts", token),
        (f"{gw.ops_url}/admin/accounts/acme", token),
    ):
        whole, head = await ask("GET", url, **sent), await ask("HEAD", url, **sent)
        assert (head[0], head[2]) == (200, b"")
        assert head[1]["Content-Length"] == whole[1]["Content-Length"] == str(len(whole[2]))


async def test_guesses_are_slowed_down(gw: Running) -> None:
    """After ten wrong keys within a minute even the right one waits, and is told how long."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.see("/sign-in")
        for number in range(2 * OF_ADDRESS_MAX):  # a minute may begin meanwhile
            await visitor.send("/sign-in", secret=f"guess-{number}")
            if visitor.status == 429:
                break
        await visitor.send("/sign-in", secret=key)
        assert visitor.status == 429
        assert 1 <= int(visitor.headers["Retry-After"]) <= 60


async def test_a_visit_cannot_ask_without_end(tmp_path: Path, empty_redis: str) -> None:
    """After so many requests in a minute a key's visits wait, for pages and forms alike; another key's do not."""

    def five(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["billing_requests_per_minute_max"] = 5

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": five}) as gw:
        key, other = await gw.open_account("acme"), await gw.open_account("other")
        async with Visitor(gw.url + "/billing") as visitor, Visitor(gw.url + "/billing") as neighbour:
            await visitor.sign_in(key)
            await visitor.see("/funds")
            token = visitor.form_token
            statuses = []
            for _ in range(12):
                await visitor.send("/funds/autopay", threshold="20", target="40", monthly_cap="", form_token=token)
                statuses.append(visitor.status)
            assert statuses.count(429) >= 4  # a minute may end meanwhile
            assert "Not so fast" in visitor.text or visitor.status != 429
            await neighbour.sign_in(other)
            assert neighbour.status == 200


async def test_a_spent_account_reads_the_very_words_of_the_refusal(gw: Running) -> None:
    """With no credit the page says what the API says, on every page, and stops when there is credit again."""
    key = await gw.open_account("acme", credit="0")
    refused = await gw.call("POST", CHAT_PATH, key, json=CHAT)
    assert (refused.status, refused.code) == (400, "insufficient_credit")
    async with Visitor(gw.url + "/billing") as visitor:
        text = await visitor.sign_in(key)
        assert NO_CREDIT in text
        assert "400 insufficient_credit" in text
        assert NO_CREDIT in await visitor.see("/keys")
        await gw.ledger.grant(operation="g", account="acme", kind="purchase", amount=parse_usd("5"))
        assert NO_CREDIT not in await visitor.see()
        await gw.ledger.change_account(operation="s", account="acme", status="suspended")
        assert REFUSALS[Code.ACCOUNT_SUSPENDED].message in await visitor.see()


async def test_what_is_in_use_is_shown_apart(gw: Running) -> None:
    """A job's hold is in use and not spent; credit that is all in use says so."""
    key = await gw.open_account("acme", credit="0.001", name="Production")
    await gw.knobs(job_seconds=60)
    made = await gw.call("POST", "/v2/transcript", key, json={"audio_url": "https://example.com/a.wav"})
    assert made.status == 200
    async with Visitor(gw.url + "/billing") as visitor:
        text = await visitor.sign_in(key)
        assert "All of your credit is in use" in text
        assert "In use $0.001 " in text
        assert "Balance $0.001 " in text
        assert "Pre-recorded speech-to-text Production" in text


async def test_keys_show_their_budgets_and_markup_in_names_is_text(gw: Running) -> None:
    """Spent, budget and state of each key; a name with tags in it is shown, not run."""
    key = await gw.open_account("acme", name="<script>alert(1)</script>", monthly_budget=parse_usd("2"))
    await gw.call("POST", CHAT_PATH, key, json=CHAT)
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        text = await visitor.see("/keys")
        assert "<script>alert(1)</script>" in text
        assert "<script>alert(1)" not in visitor.html
        assert "Monthly budget $2.00" in text
        assert "% of the budget is used" in text


async def test_charges_explain_themselves_and_are_paged(gw: Running) -> None:
    """Newest first, each with its line items, call and key; older ones on the next page, none twice."""
    key = await gw.open_account("acme", name="Production")
    calls = [await gw.call("POST", CHAT_PATH, key, json=CHAT) for _ in range(30)]
    ids = [call.headers["X-Gateway-Call-Id"] for call in calls]
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        text = await visitor.see("/charges")
        assert [each for each in reversed(ids) if each in text] == list(reversed(ids))[:25]
        assert "LLM Gateway Production" in text
        assert "llm.gpt-5.2.input" in text
        assert usd_signed(-(calls[-1].charge or 0)) in text
        older = re.search(r'rel="next" href="/billing([^"]+)"', visitor.html)
        assert older is not None
        text = await visitor.see(older[1])
        assert [each for each in ids if each in text] == ids[:5]
        assert re.search(r"Purchase .* \+\$100\.00", text)
        assert 'rel="next"' not in visitor.html
        given = await gw.ledger.grant(operation="g", account="acme", kind="goodwill", amount=parse_usd("7"))
        await gw.ledger.end_grant(operation="e", account="acme", grant_id=given.id, data={"reason": "mistyped"})
        assert re.search(r"Credit taken off mistyped .* −\$7\.00", await visitor.see("/charges"))
        await visitor.see("/charges?before=nonsense")
        assert visitor.status == 404


async def test_prices_are_those_of_the_accounts_own_rate_card(gw: Running) -> None:
    """The plan, the products that it has first, and the prices as the config lists them."""
    key = await gw.open_account("acme", tier="free")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        text = await visitor.see("/prices")
        assert "Your plan: Free" in text
        assert "stt.universal-3-pro $0.21 per hour" in text
        assert text.index("Guardrails") < text.rindex("LLM Gateway")
        assert "not in your plan" in text


async def test_a_cards_discounts_and_steps_are_on_the_page(tmp_path: Path, empty_redis: str) -> None:
    """What an account's own card takes off, and from which volume of a month on."""

    def cheaper(data: dict[str, Any]) -> None:
        step = {"above": "1000 hours", "percent": "10"}
        data["rate_cards"]["friends"] = {"discounts": {"guardrails": "20"}, "steps": {"stt.universal-3-pro": [step]}}

    async with running(tmp_path, empty_redis, changes={"config/prices.yaml": cheaper}) as gw:
        key = await gw.open_account("acme", rate_card="friends")
        async with Visitor(gw.url + "/billing") as visitor:
            await visitor.sign_in(key)
            text = await visitor.see("/prices")
            assert "Your rate card is Friends ." in text
            assert "guardrails.profanity $0.01 per hour, less 20%" in text
            assert "$0.21 per hour $0.21 per hour, less 10% above 1000 hours in a month" in text


async def test_assets_may_be_kept_for_good(gw: Running) -> None:
    """What a page names is there, with its type, and cacheable, for its name has its digest."""
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.see("/sign-in")
        names = re.findall(r'(?:href|src)="/billing(/assets/[^"]+)"', visitor.html)
        assert len(names) == 3
        for name in names:
            await visitor.see(name)
            assert visitor.status == 200
            assert "immutable" in visitor.headers["Cache-Control"]
            kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
            assert visitor.headers["Content-Type"].startswith(kind)


async def test_behind_a_balancer_cookies_are_secure_and_addresses_the_clients(tmp_path: Path, empty_redis: str) -> None:
    """With `pages.secure_cookies` and `trust_forwarded_for`: guesses from one address do not slow another down."""

    def behind(data: dict[str, Any]) -> None:
        data["pages"] = {"title": "Acme AI", "contact": "billing@acme.example", "secure_cookies": True}
        data["trust_forwarded_for"] = True

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": behind}) as gw:
        key = await gw.open_account("acme")
        async with Visitor(gw.url + "/billing") as visitor:
            assert "Acme AI" in await visitor.see("/sign-in")
            assert all("Secure" in each for each in visitor.cookies)
            cookie = re.split("[=;]", visitor.cookies[0])[1]

            async def guess(address: str, secret: str) -> int:
                headers = {"X-Forwarded-For": f"10.9.9.9, {address}", "Cookie": f"gateway_billing={cookie}"}
                fields = {"secret": secret, "form_token": visitor.form_token}
                url = gw.url + "/billing/sign-in"
                async with gw.http.post(url, data=fields, headers=headers, allow_redirects=False) as reply:
                    return reply.status

            statuses = [await guess("192.0.2.1", "wrong") for _ in range(2 * OF_ADDRESS_MAX)]
            assert set(statuses) == {403, 429}
            assert await guess("192.0.2.2", key) == 303


async def test_books_that_cannot_be_read_are_told(gw: Running) -> None:
    """While the ledger is away a page says so, with 503, and asks for patience."""
    key = await gw.open_account("acme")
    async with Visitor(gw.url + "/billing") as visitor:
        await visitor.sign_in(key)
        await gw.ledger._link.close()
        text = await visitor.see()
        assert visitor.status == 503
        assert "cannot be read right now" in text
        assert visitor.headers["Retry-After"] == "2"
