"""The admin API over the ledger in memory, and once over a real server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.core.errors import LedgerUnavailable
from gateway.core.money import BALANCE_MAX, Nanos, format_usd
from gateway.core.pricing import Charge, LineItem
from gateway.edge.api.admin import add_admin_routes
from gateway.edge.api.admin_problems import PROBLEMS
from gateway.edge.api.admin_routes import ROUTES
from gateway.edge.api.admin_tokens import token_digest
from gateway.edge.keys import key_digest
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observers
from gateway.edge.operations.jobs import JobOperations
from gateway.edge.paying import make_paying
from gateway.ledger.memory import MemoryLedger
from gateway.ports import (
    Account,
    AdmissionRequest,
    AdmissionTerms,
    Admitted,
    Key,
    Ledger,
    Plan,
    Resource,
    ResourceRef,
    Settlement,
)
from gateway.settings.runtime import AdminToken, Limits, RedisSettings, Runtime
from gateway.upstream.client import PooledUpstreamClient
from tests.cli.runtimes import PEPPER, TOKEN, make_runtime, usd

NOW = 1_800_000_000.0
Answer = tuple[int, Any]


CORRECTION = {"call_id": "c", "amount": "0.0005", "reason": "2 s were reported", "actor": "ops"}


@dataclass
class FixedClock:
    """A clock that a test moves."""

    seconds: float = NOW

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


class Api:
    """A client that has the token, and remembers what it was last answered."""

    def __init__(self, client: TestClient[web.Request, web.Application], ledger: Ledger, clock: FixedClock) -> None:
        self.client = client
        self.clock = clock
        self.ledger = ledger
        self.headers: dict[str, str] = {}
        self.base = "/admin/v1"

    async def __call__(
        self, method: str, path: str, body: Any = None, *, once: str | None = None, **headers: str
    ) -> Answer:
        sent = {"Authorization": f"Bearer {TOKEN}", **headers}
        if once is not None:
            sent["Idempotency-Key"] = once
        data = {"data": body} if isinstance(body, str | bytes) else {"json": body} if body is not None else {}
        async with self.client.request(method, f"{self.base}{path}", headers=sent, **data) as reply:
            self.headers = dict(reply.headers)
            expected = "application/json" if reply.status < 400 else "application/problem+json"
            assert reply.content_type == expected
            found = await reply.json(content_type=None)
            if reply.status >= 400:
                assert found["status"] == reply.status
                assert found["type"] == f"urn:gateway:problem:{found['code']}"
                assert {"title", "detail"} <= found.keys()
                assert found["code"] in PROBLEMS
            return reply.status, found

    async def ok(self, method: str, path: str, body: Any = None, **more: str) -> Any:
        """What a request that succeeds answers."""
        status, found = await self(method, path, body, **more)
        assert status < 400, found
        return found

    async def problem(self, method: str, path: str, body: Any = None, **more: str) -> tuple[int, str]:
        """Status and code of a request that does not."""
        status, found = await self(method, path, body, **more)
        return status, found["code"]


@asynccontextmanager
async def serving(ledger: Ledger, runtime: Runtime) -> AsyncIterator[Api]:
    app = web.Application()
    clock = FixedClock()
    paying = make_paying(runtime, ledger=ledger, observer=Observers(), clock=clock)
    jobs = JobOperations(ledger=ledger, runtime=runtime, upstreams=PooledUpstreamClient(), clock=clock)
    add_admin_routes(app, ledger=ledger, runtime=runtime, jobs=jobs, paying=paying, clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield Api(client, ledger, clock)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving(MemoryLedger(lambda: int(NOW * 1000)), make_runtime()) as found:
        yield found


def token(name: str, scopes: set[Any], text: str) -> AdminToken:
    return AdminToken(name=name, scopes=frozenset(scopes), sha256=token_digest(text))


def filled(path: str) -> str:
    return path.format(account="acme", key="k", hold="h", kind="k", job="j", delivery="d", alert="a", grant="g")


async def hold(ledger: Ledger, key_id: str, hold_id: str, dollars: int, *, plan: str = "free") -> None:
    admitted = await ledger.admit(
        AdmissionRequest(
            account="acme",
            key_id=key_id,
            terms=AdmissionTerms(
                plan=Plan(tier=plan), product="speech", entitled=True, metered=True, overdraft=Nanos(0)
            ),
            hold_id=hold_id,
            estimate=usd(dollars),
        )
    )
    assert isinstance(admitted, Admitted)


async def settle(ledger: Ledger, key_id: str, hold_id: str, nanos: int) -> None:
    amount = Nanos(nanos)
    item = LineItem(sku="stt.x", quantity="3", unit="second", unit_price="1 per_hour", amount=amount)
    charge = Charge(amount=amount, items=(item,), price_version="v1", rate_card="standard")
    await ledger.settle(
        Settlement(
            account="acme", hold_id=hold_id, key_id=key_id, product="speech", route="r", call_id="c", charge=charge
        )
    )


# ---- who may


async def test_only_the_token_opens_the_api(api: Api) -> None:
    """No token, another token and another scheme are all answered 401 with a challenge, and no reason why."""
    for value in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \udcff"):
        status, found = await api("GET", "/accounts", Authorization=value)
        assert (status, found["code"]) == (401, "unauthorized")
        assert api.headers["WWW-Authenticate"].startswith("Bearer")
        assert TOKEN not in str(found)
    assert (await api("GET", "/accounts", Authorization=f"bearer {TOKEN}"))[0] == 200


async def test_guesses_are_slowed_down() -> None:
    """An address that has shown too many tokens that nobody has is told to wait; a good one is heard all the same."""
    async with serving(MemoryLedger(lambda: 0), make_runtime(limits=Limits(unknown_keys_per_minute_max=5))) as api:
        codes = [(await api("GET", "/accounts", Authorization=f"Bearer guess-{n}"))[1]["code"] for n in range(20)]
        assert set(codes) == {"unauthorized", "too_many_unknown_keys"}
        assert codes.count("unauthorized") <= 10  # a minute may begin in between
        assert (await api("GET", "/accounts"))[0] == 200


async def test_routes_are_hidden_from_who_has_no_token(api: Api) -> None:
    """Without the token an unknown route answers as a known one."""
    assert await api.problem("GET", "/nothing", Authorization="Bearer no") == (401, "unauthorized")
    assert await api.problem("GET", "/nothing") == (404, "unknown_route")
    assert await api.problem("DELETE", "/accounts") == (405, "method_not_allowed")
    assert api.headers["Allow"] == "GET, HEAD, POST"


async def test_no_configured_token_turns_the_api_off() -> None:
    """An empty token in the config disables the API; an empty bearer does not open it."""
    async with serving(MemoryLedger(lambda: 0), make_runtime(admin_token="")) as api:
        for value in ("", "Bearer ", "Bearer x"):
            status, found = await api("GET", "/accounts", Authorization=value)
            assert (status, found["code"]) == (403, "admin_disabled")
            assert "admin_token" in found["detail"]


# ---- accounts


async def test_opening_an_account_gives_the_signup_grant_of_its_tier(api: Api) -> None:
    """A new account has the default tier and its $50, and is answered with every amount as text."""
    status, account = await api("POST", "/accounts", {"id": "acme"})
    assert status == 201
    assert account == {
        "id": "acme",
        "tier": "free",
        "rate_card": None,
        "overrides": {},
        "status": "active",
        "balance": "50.000000000",
        "held": "0.000000000",
        "overdraft": "0.000000000",
        "available": "50.000000000",
        "debt": "0.000000000",
        "currency": "USD",
        "open_holds": 0,
        "created_at": "2027-01-15T08:00:00.000Z",
    }
    assert api.headers["Cache-Control"] == "no-store"
    assert await api.ok("GET", "/accounts/acme") == account
    grants = await api.ok("GET", "/accounts/acme/grants")
    assert [(g["kind"], g["remaining"], g["currency"]) for g in grants["items"]] == [("signup", "50.000000000", "USD")]


async def test_available_includes_the_overdraft_of_the_tier(api: Api) -> None:
    """A tier's overdraft is part of what is available, and shown apart."""
    account = await api.ok("POST", "/accounts", {"id": "acme", "tier": "payg", "rate_card": "charity"})
    assert (account["balance"], account["overdraft"], account["available"]) == (
        "0.000000000",
        "5.000000000",
        "5.000000000",
    )
    assert account["rate_card"] == "charity"


async def test_unknown_names_are_refused_with_the_valid_ones(api: Api) -> None:
    """An unknown tier, rate card, status and field are all told at once, with what there is."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    body = {"tier": "gold", "rate_card": "vip", "status": "gone", "color": 1}
    status, found = await api("PATCH", "/accounts/acme", body)
    assert status == 422
    told = {error["pointer"]: error["detail"] for error in found["errors"]}
    assert told.keys() == {"/tier", "/rate_card", "/status", "/color"}
    assert "free, payg" in told["/tier"]
    assert "charity, standard" in told["/rate_card"]
    assert "'active' or 'suspended'" in told["/status"]
    assert (await api.ok("GET", "/accounts/acme"))["tier"] == "free"


async def test_a_change_touches_only_what_it_names(api: Api) -> None:
    """Tier, rate card and status change one by one; null gives the rate card of the tier back."""
    await api.ok("POST", "/accounts", {"id": "acme", "rate_card": "charity"})
    changed = await api.ok("PATCH", "/accounts/acme", {"tier": "payg"})
    assert (changed["tier"], changed["rate_card"], changed["status"]) == ("payg", "charity", "active")
    assert changed["balance"] == "50.000000000"
    changed = await api.ok("PATCH", "/accounts/acme", {"status": "suspended"})
    assert (changed["tier"], changed["rate_card"], changed["status"]) == ("payg", "charity", "suspended")
    changed = await api.ok("PATCH", "/accounts/acme", {"rate_card": None, "status": "active"})
    assert (changed["tier"], changed["rate_card"], changed["status"]) == ("payg", None, "active")


async def test_what_an_account_has_in_place_of_its_tiers(api: Api) -> None:
    """Overrides are set by name, shown, and taken away by null; what is available counts its own overdraft."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    body = {"overrides": {"overdraft": "12.5", "speech.concurrency": 400, "speech.included": True}}
    changed = await api.ok("PATCH", "/accounts/acme", body)
    assert changed["overrides"] == body["overrides"] | {"overdraft": "12.500000000"}
    assert (changed["overdraft"], changed["available"]) == ("12.500000000", "62.500000000")
    await api.ok("PATCH", "/accounts/acme", {"overrides": {"overdraft": None}})
    shown = await api.ok("GET", "/accounts/acme")
    assert (shown["overdraft"], len(shown["overrides"])) == ("0.000000000", 2)


async def test_an_override_that_cannot_be_is_told_with_those_that_can(api: Api) -> None:
    """Unknown names, unknown products, negatives and what a product does not have: each with what there is."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    for name, value, told in [
        ("overdrafts", "1", "requests_per_key, region, and of each product"),
        ("region", "eu", "there is no region"),
        ("voice.concurrency", 1, "there is no such override"),
        ("speech.places", 1, "included, models, concurrency, queued_max, when_negative, requests"),
        ("speech.concurrency", -1, "a whole number from 1"),
        ("overdraft", "-1", "between 0 and"),
        ("speech.queued_max", 5, "has no jobs with a queue"),
        ("speech.models", ["x"], "has no models"),
    ]:
        status, found = await api("PATCH", "/accounts/acme", {"overrides": {name: value}})
        (error,) = found["errors"]
        assert (status, error["pointer"]) == (422, "/overrides")
        assert f"{name}: " in error["detail"] and told in error["detail"]
    assert (await api.ok("GET", "/accounts/acme"))["overrides"] == {}


async def test_what_an_account_commits_to(api: Api) -> None:
    """From this month on, or a later one; told with how far the month is; months that are over cannot be changed."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    shown = await api.ok("GET", "/accounts/acme/commitment")
    assert (shown["committed"], shown["schedule"], shown["closing"]) == ("0.000000000", [], None)
    await api.ok("PUT", "/accounts/acme/commitment", {"amount": "500"})
    shown = await api.ok("PUT", "/accounts/acme/commitment", {"amount": "800", "month": "2027-03"})
    assert shown == {
        "account": "acme",
        "month": "2027-01",
        "committed": "500.000000000",
        "charged": "0.000000000",
        "missing": "500.000000000",
        "currency": "USD",
        "schedule": [{"from": "2027-01", "amount": "500.000000000"}, {"from": "2027-03", "amount": "800.000000000"}],
        "closing": "2027-01",
    }
    assert (await api("PUT", "/accounts/acme/commitment", {"amount": "1", "month": "2026-12"}))[1][
        "code"
    ] == "ledger_refused"
    for body in ({"amount": "-1"}, {"amount": "1", "month": "soon"}, {"month": "2027-03"}):
        assert (await api("PUT", "/accounts/acme/commitment", body))[0] == 422


async def test_accounts_are_listed_page_by_page(api: Api) -> None:
    """Pages go on after the last id, in order, and `next` is null on the last."""
    for name in ("d", "a", "c", "e", "b"):
        await api.ok("POST", "/accounts", {"id": name})
    seen: list[str] = []
    following: str | None = ""
    sizes = []
    while following is not None:
        page = await api.ok("GET", f"/accounts?limit=2&after={following}")
        seen += [account["id"] for account in page["items"]]
        sizes.append(len(page["items"]))
        following = page["next"]
    assert (seen, sizes) == (["a", "b", "c", "d", "e"], [2, 2, 1])


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1e2", "", "99999"])
async def test_pages_are_bounded(api: Api, limit: str) -> None:
    """A page has 1 to 1000 items; anything else is refused, not guessed."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    for path in ("/accounts", "/accounts/acme/entries"):
        assert await api.problem("GET", f"{path}?limit={limit}") == (422, "invalid_request")


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a.b", "a" * 64, "ä", "a/b"])
async def test_ids_are_plain(api: Api, name: str) -> None:
    """Ids that could be mistaken for something else are refused."""
    assert await api.problem("POST", "/accounts", {"id": name}) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"tier": "payg"}),
        ("GET", "/keys", None),
        ("POST", "/keys", {}),
        ("PATCH", "/keys/k", {"name": "x"}),
        ("GET", "/grants", None),
        ("POST", "/grants", {"kind": "purchase", "amount": "1"}),
        ("POST", "/corrections", CORRECTION),
        ("GET", "/credits", None),
        ("GET", "/holds", None),
        ("POST", "/holds/h/release", None),
        ("GET", "/entries", None),
        ("POST", "/verify", None),
    ],
)
async def test_an_unknown_account_is_a_404_everywhere(api: Api, method: str, path: str, body: Any) -> None:
    """Every route of an account that is not there answers 404, also for an id that none can have."""
    assert await api.problem(method, f"/accounts/nobody{path}", body) == (404, "unknown_account")
    assert await api.problem(method, f"/accounts/No%20Body{path}", body) == (404, "unknown_account")


# ---- operations


async def test_a_replay_gets_the_first_answer(api: Api) -> None:
    """The same Idempotency-Key with the same content does nothing the second time."""
    first = await api.ok("POST", "/accounts", {"id": "acme"}, once="open-1")
    assert await api.ok("POST", "/accounts", {"id": "acme"}, once='"open-1"') == first
    body = {"kind": "purchase", "amount": "10.5"}
    grant = await api.ok("POST", "/accounts/acme/grants", body, once="pay-1")
    assert await api.ok("POST", "/accounts/acme/grants", body, once="pay-1") == grant
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "60.500000000"


async def test_the_same_key_for_something_else_is_a_conflict(api: Api) -> None:
    """The same Idempotency-Key with other content is a 409 and changes nothing."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/grants", {"kind": "purchase", "amount": "10"}, once="pay-1")
    again = {"kind": "purchase", "amount": "11"}
    assert await api.problem("POST", "/accounts/acme/grants", again, once="pay-1") == (409, "operation_conflict")
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "60.000000000"


async def test_a_request_that_was_refused_took_no_key(api: Api) -> None:
    """A better one under the same name is judged anew, and has it then; a repeat of what was done frees nothing."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    payments, much = "/accounts/acme/payments", {"payment": "inv-1", "amount": "9000000"}
    for _ in range(2):
        assert (await api.problem("POST", payments, much, once="n"))[1] == "ledger_refused"
    assert (await api.problem("POST", "/accounts/acme/alerts/nope/test", None, once="n"))[1] == "unknown_alert"
    await api.ok("POST", payments, much | {"amount": "30"}, once="n")
    assert await api.problem("POST", payments, much, once="n") == (409, "operation_conflict")
    grant = {"kind": "purchase", "amount": "9000000"}
    assert (await api.problem("POST", "/accounts/acme/grants", grant, once="g"))[1] == "ledger_refused"
    await api.ok("POST", "/accounts/acme/grants", grant | {"amount": "1"}, once="g")
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "81.000000000"


async def test_a_key_is_for_one_request_whatever_it_changes(api: Api) -> None:
    """What has an id of its own is kept to one request by an Idempotency-Key too: a payment, a hold, a test."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    hook = {"kind": "balance_below", "amount": "1", "to": [{"type": "webhook", "url": "https://example.com/a"}]}
    for alert in ("low", "lower"):
        await api.ok("PUT", f"/accounts/acme/alerts/{alert}", hook)
    for name in ("h1", "h2"):
        await hold(api.ledger, "k", name, 1)
    asked = [
        ("payments", {"payment": "inv-1", "amount": "30"}, "payments", {"payment": "inv-2", "amount": "30"}),
        ("payments", {"payment": "inv-1", "amount": "30"}, "holds/h1/release", None),
        ("holds/h1/release", None, "holds/h2/release", None),
        ("alerts/low/test", None, "alerts/lower/test", None),
    ]
    for number, (path, body, other, another) in enumerate(asked):
        await api.ok("POST", f"/accounts/acme/{path}", body, once=f"n{number}")
        await api.ok("POST", f"/accounts/acme/{path}", body, once=f"n{number}")
        found = await api.problem("POST", f"/accounts/acme/{other}", another, once=f"n{number}")
        assert found == (409, "operation_conflict")
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "80.000000000"
    assert [found["id"] for found in (await api.ok("GET", "/accounts/acme/holds"))["items"]] == ["h2"]
    assert len((await api.ok("GET", "/accounts/acme/deliveries"))["items"]) == 1


async def test_a_repeat_of_an_alert_tells_its_secrets_again(api: Api) -> None:
    """Whose answer was lost asks again by the same Idempotency-Key; every webhook has a secret of its own."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    to = [{"type": "webhook", "url": f"https://example.com/{name}"} for name in "ab"]
    asked = ("PUT", "/accounts/acme/alerts/low", {"kind": "balance_below", "amount": "1", "to": to})
    first = await api.ok(*asked, once="a1")
    assert len({target["secret"] for target in first["to"]}) == 2
    assert await api.ok(*asked, once="a1") == first
    assert all("secret" not in target for target in (await api.ok(*asked))["to"])
    assert all("secret" not in target for target in (await api.ok(*asked, once="a2"))["to"])


async def test_a_grant_is_answered_again_after_it_is_over() -> None:
    """Its expiry has passed since: a repeat gets the first answer, and nobody gets a grant that is over."""
    now = NOW
    async with serving(MemoryLedger(lambda: int(now * 1000)), make_runtime()) as api:
        await api.ok("POST", "/accounts", {"id": "acme"})
        moment = datetime.fromtimestamp(NOW + 1, UTC).isoformat()
        body = {"kind": "promotion", "amount": "3", "expires_at": moment}
        first = await api.ok("POST", "/accounts/acme/grants", body, once="g1")
        api.clock.seconds = now = NOW + 2
        assert await api.ok("POST", "/accounts/acme/grants", body, once="g1") == first
        assert await api.problem("POST", "/accounts/acme/grants", body, once="g2") == (422, "ledger_refused")
        assert await api.problem("POST", "/accounts/acme/grants", body) == (422, "invalid_request")


class BrokenOff(MemoryLedger):
    """A ledger that goes away, if so told, before a key is changed."""

    broken = False

    async def change_key(self, **asked: Any) -> Key:
        if self.broken:
            raise LedgerUnavailable("gone")
        return await super().change_key(**asked)


async def test_what_was_asked_of_keys_in_time_is_done_whenever_it_is_repeated() -> None:
    """A change is answered again; a rotation that was broken off after the new key was made ends the old one."""
    now = NOW
    ledger = BrokenOff(lambda: int(now * 1000))
    async with serving(ledger, make_runtime()) as api:
        await api.ok("POST", "/accounts", {"id": "acme"})
        keys = "/accounts/acme/keys"
        for key in ("one", "two"):
            await api.ok("POST", keys, {"id": key})
        moment = datetime.fromtimestamp(NOW + 1, UTC).isoformat()
        changed = await api.ok("PATCH", f"{keys}/one", {"expires_at": moment}, once="c")
        ledger.broken = True
        assert (await api("POST", f"{keys}/two/rotate", {"old_until": moment}, once="r"))[0] == 503
        ledger.broken = False
        api.clock.seconds = now = NOW + 2
        assert await api.ok("PATCH", f"{keys}/one", {"expires_at": moment}, once="c") == changed
        made = await api.ok("POST", f"{keys}/two/rotate", {"old_until": moment}, once="r")
        found = {key.id: key.expires_ms for key in await ledger.keys("acme")}
        assert found == {"one": (NOW + 1) * 1000, "two": (NOW + 1) * 1000, made["id"]: None}


async def test_a_body_that_has_to_say_nothing_may_be_left_out(api: Api) -> None:
    """Keys are made and rotated without one; what has to be told something says which."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    key = await api.ok("POST", "/accounts/acme/keys")
    assert (await api.ok("POST", f"/accounts/acme/keys/{key['id']}/rotate"))["replaces"] == key["id"]
    for method, path in (("POST", "grants"), ("PATCH", f"keys/{key['id']}")):
        assert await api.problem(method, f"/accounts/acme/{path}") == (400, "invalid_json")


async def test_the_last_page_says_so(api: Api) -> None:
    """A page that ends with the last item has no next, whichever list it is of."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/grants", {"kind": "goodwill", "amount": "1"})
    for path in ("/accounts/acme/entries", "/accounts/acme/entries?order=newest", "/audit"):
        every = (await api.ok("GET", path))["items"]
        bound = f"{path}{'&' if '?' in path else '?'}limit="
        assert await api.ok("GET", f"{bound}{len(every)}") == {"items": every, "next": None}
        assert (await api.ok("GET", f"{bound}{len(every) - 1}"))["next"] == every[-2]["id"]


async def test_without_a_key_every_request_counts(api: Api) -> None:
    """Without an Idempotency-Key the same request is done twice, and an account cannot be opened twice."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    assert await api.problem("POST", "/accounts", {"id": "acme"}) == (422, "ledger_refused")
    for _ in range(2):
        await api.ok("POST", "/accounts/acme/grants", {"kind": "goodwill", "amount": "1"})
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "52.000000000"


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ä", "{a}"])
async def test_strange_idempotency_keys_are_refused(api: Api, key: str) -> None:
    """An Idempotency-Key is short and plain."""
    found = await api.problem("POST", "/accounts", {"id": "acme"}, once=key)
    assert found == (400, "invalid_idempotency_key")


# ---- keys


async def test_a_new_key_opens_the_account_and_its_secret_is_shown_once(api: Api) -> None:
    """The secret in the answer is the one that the ledger finds the account by, and no list has it."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    body = {
        "name": "laptop",
        "products": ["speech"],
        "monthly_budget": "12.5",
        "expires_at": "2030-01-01T01:00:00+01:00",
    }
    status, key = await api("POST", "/accounts/acme/keys", body)
    assert status == 201
    secret = key.pop("secret")
    assert len(secret) == 53
    assert secret.startswith("gwk_")
    identity = await api.ledger.identify(key_digest(PEPPER, secret))
    assert identity is not None
    assert (identity.account, identity.key_id) == ("acme", key["id"])
    assert key["expires_at"] == "2030-01-01T00:00:00.000Z"
    assert key["monthly_budget"] == "12.500000000"
    listed = await api.ok("GET", "/accounts/acme/keys")
    assert listed == {"items": [key], "next": None}


async def test_a_replayed_key_has_the_same_secret(api: Api) -> None:
    """A lost reply is had again under the same Idempotency-Key; another account or key gets another secret."""
    for account in ("acme", "other"):
        await api.ok("POST", "/accounts", {"id": account})
    first = await api.ok("POST", "/accounts/acme/keys", {}, once="k1")
    assert await api.ok("POST", "/accounts/acme/keys", {}, once="k1") == first
    more = [
        await api.ok("POST", "/accounts/other/keys", {}, once="k1"),
        await api.ok("POST", "/accounts/acme/keys", {}, once="k2"),
        await api.ok("POST", "/accounts/acme/keys", {}),
        await api.ok("POST", "/accounts/acme/keys", {}),
    ]
    assert len({first["secret"], *(key["secret"] for key in more)}) == 5


async def test_a_caller_may_bring_its_own_secret(api: Api) -> None:
    """A given secret of 16 characters is taken; a short one is refused without being repeated."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    key = await api.ok("POST", "/accounts/acme/keys", {"id": "old", "secret": "0123456789abcdef"})
    assert (key["id"], key["secret"]) == ("old", "0123456789abcdef")
    for secret in ("too-short-secre", "with space in the middle", "x" * 201):
        status, found = await api("POST", "/accounts/acme/keys", {"secret": secret})
        assert status == 422
        assert secret not in str(found)
    assert await api.problem("POST", "/accounts/acme/keys", {"secret": "0123456789abcdef"}) == (422, "ledger_refused")


async def test_keys_change_one_fact_at_a_time(api: Api) -> None:
    """Name, switch, expiry, products and budget change alone; null takes the limits away."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    key = await api.ok("POST", "/accounts/acme/keys", {"id": "k", "name": "a", "products": ["chat"]})
    key.pop("secret")
    for change in (
        {"name": "b"},
        {"disabled": True},
        {"expires_at": "2030-01-01T00:00:00.000Z"},
        {"products": ["chat", "speech"]},
        {"monthly_budget": "3.000000000"},
        {"expires_at": None, "products": None, "monthly_budget": None, "disabled": False},
    ):
        key |= change
        assert await api.ok("PATCH", "/accounts/acme/keys/k", change) == key


async def test_key_changes_are_checked(api: Api) -> None:
    """Unknown products, past times, bad amounts, empty changes and nulls in the wrong place are told by field."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    body = {
        "name": None,
        "disabled": "yes",
        "expires_at": "2020-01-01T00:00:00Z",
        "products": ["chat", "tea"],
        "monthly_budget": 5,
    }
    _, found = await api("PATCH", "/accounts/acme/keys/k", body)
    told = {error["pointer"]: error["detail"] for error in found["errors"]}
    assert told.keys() == {"/name", "/disabled", "/expires_at", "/products/1", "/monthly_budget"}
    assert "chat, speech" in told["/products/1"]
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"products": []},
        {"expires_at": "2030-01-01"},
        {"expires_at": 5},
        {"monthly_budget": "-1"},
    )
    for change in wrong:
        assert await api.problem("PATCH", "/accounts/acme/keys/k", change) == (422, "invalid_request")
    assert await api.problem("PATCH", "/accounts/acme/keys/other", {"name": "x"}) == (404, "unknown_key")
    assert await api.problem("PATCH", "/accounts/acme/keys/No%20Key", {"name": "x"}) == (404, "unknown_key")


# ---- credit


async def test_a_correction_moves_credit_and_says_why(api: Api) -> None:
    """Up or down, with its key's month; the same one is made once, by its name or by its words."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    await hold(api.ledger, "k", "h1", 2)
    await settle(api.ledger, "k", "h1", 875_000)
    status, back = await api("POST", "/accounts/acme/corrections", CORRECTION | {"key": "k"})
    assert (status, back["amount"], back["balance"]) == (201, "0.000500000", "49.999625000")
    assert await api.ok("POST", "/accounts/acme/corrections", CORRECTION | {"key": "k"}) == back
    more = await api.ok("POST", "/accounts/acme/corrections", CORRECTION | {"amount": "-0.25"}, once="fix")
    assert await api.ok("POST", "/accounts/acme/corrections", CORRECTION | {"amount": "-0.25"}, once="fix") == more
    assert await api.problem("POST", "/accounts/acme/corrections", CORRECTION, once="fix") == (
        409, "operation_conflict",
    )  # fmt: skip
    _, _, first, second = (await api.ok("GET", "/accounts/acme/entries"))["items"]
    assert (first["id"], first["kind"], first["amount"]) == (back["entry"], "correction", "0.000500000")
    said = {name: first["data"][name] for name in ("call_id", "reason", "actor", "key_id")}
    assert said == {"call_id": "c", "reason": "2 s were reported", "actor": "ops", "key_id": "k"}
    assert (second["amount"], second["balance"]) == ("-0.250000000", "49.749625000")
    assert (await api.ok("GET", "/accounts/acme/credits"))["spent_this_month"] == "0.000375000"
    assert (await api.ok("POST", "/accounts/acme/verify"))["ok"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"amount": amount} for amount in ("0", "-0", "1e3", 5, None, "-9000000.1", "0.0000000001", "--1")),
        *({name: value} for name in ("call_id", "reason", "actor") for value in ("", "a\nb", None, "x" * 501)),
        {"note": "x"},
    ],
)
async def test_a_correction_that_cannot_be_read_is_refused(api: Api, wrong: dict[str, Any]) -> None:
    """What is no amount, names no call, or says not why or by whom; and a key that is not there."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    answer = await api.problem("POST", "/accounts/acme/corrections", CORRECTION | wrong)
    assert answer == (422, "invalid_request")
    unknown = await api.problem("POST", "/accounts/acme/corrections", CORRECTION | {"key": "k"})
    assert unknown == (404, "unknown_key")
    assert (await api.ok("GET", "/accounts/acme"))["balance"] == "50.000000000"


async def test_grants_are_exact_and_bounded(api: Api) -> None:
    """Nano-dollars arrive as they were sent; what is no amount, or passes what an account may hold, is refused."""
    await api.ok("POST", "/accounts", {"id": "acme", "tier": "payg"})
    given = await api.ok("POST", "/accounts/acme/grants", {"kind": "promotion", "amount": "0.000000001", "note": "hi"})
    assert given["amount"] == "0.000000001"
    correction = {"kind": "correction", "amount": "1"}
    assert await api.problem("POST", "/accounts/acme/grants", correction) == (422, "invalid_request")
    for amount in ("0", "-1", "1e3", "1.0000000001", "٣", 5, 5.0, None, "9000000.000000001", "9" * 50):
        answer = await api.problem("POST", "/accounts/acme/grants", {"kind": "purchase", "amount": amount})
        assert answer == (422, "invalid_request")
    most = {"kind": "purchase", "amount": format_usd(BALANCE_MAX)}
    assert await api.problem("POST", "/accounts/acme/grants", most) == (422, "ledger_refused")


async def test_credits_show_use_and_spending_apart(api: Api) -> None:
    """A hold is in use, not spent; a charge is spent; grants stand in burn order; all to the nano."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    await api.ok("POST", "/accounts/acme/grants", {"kind": "promotion", "amount": "7", "priority": 10})
    await hold(api.ledger, "k", "h1", 2)
    await hold(api.ledger, "k", "h2", 3)
    await settle(api.ledger, "k", "h1", 1_250_001)
    credits_ = await api.ok("GET", "/accounts/acme/credits")
    assert credits_["balance"] == "56.998749999"
    assert credits_["held"] == "3.000000000"
    assert credits_["available"] == "53.998749999"
    assert credits_["spent_this_month"] == "0.001250001"
    assert credits_["debt"] == "0.000000000"
    assert credits_["open_holds"] == 1
    assert [(g["kind"], g["remaining"]) for g in credits_["grants"]] == [
        ("promotion", "6.998749999"),
        ("signup", "50.000000000"),
    ]


async def test_ops_can_release_a_hold(api: Api) -> None:
    """A released hold's credit is available again; a second release, or of a hold that never was, says false."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    await hold(api.ledger, "k", "h1", 2)
    ref = ResourceRef(kind="job", id="j")
    resource = Resource(ref=ref, state="open", product="speech", hold="h1")
    await api.ledger.accept(account="acme", resource=resource, deadline_seconds=60, keep_seconds=60)
    listed = (await api.ok("GET", "/accounts/acme/holds"))["items"]
    assert [(one["id"], one["amount"], one["product"], one["key"], one["resource"]) for one in listed] == [
        ("h1", "2.000000000", "speech", "k", {"kind": "job", "id": "j"})
    ]
    assert (await api.ok("POST", "/accounts/acme/holds/h1/release"))["released"] is True
    assert (await api.ok("POST", "/accounts/acme/holds/h1/release"))["released"] is False
    assert (await api.ok("POST", "/accounts/acme/holds/never/release"))["released"] is False
    assert (await api.ok("GET", "/accounts/acme/credits"))["held"] == "0.000000000"
    job = await api.ledger.resource(account="acme", ref=ref)
    assert job is not None
    assert job.state == "released"


async def test_entries_explain_themselves(api: Api) -> None:
    """Entries come in order, page by page, with their items as decimals; their sum is the balance."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    await api.ok("POST", "/accounts/acme/keys", {"id": "k"})
    await hold(api.ledger, "k", "h1", 2)
    await settle(api.ledger, "k", "h1", 875_000)
    first = await api.ok("GET", "/accounts/acme/entries?limit=1")
    second = await api.ok("GET", f"/accounts/acme/entries?limit=100&after={first['next']}")
    assert second["next"] is None
    (grant,), (charge,) = first["items"], second["items"]
    assert (grant["kind"], grant["amount"], grant["data"]["kind"]) == ("grant", "50.000000000", "signup")
    assert (charge["kind"], charge["amount"], charge["balance"]) == ("charge", "-0.000875000", "49.999125000")
    assert charge["data"]["items"] == [
        {"sku": "stt.x", "quantity": "3", "unit": "second", "unit_price": "1 per_hour", "amount": "0.000875000"}
    ]
    assert charge["data"]["key_id"] == "k"
    assert list(charge["data"]["grants"].values()) == ["0.000875000"]


async def test_verify_says_whether_the_books_agree(api: Api) -> None:
    """A sound account verifies, with nothing to tell."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    assert await api.ok("POST", "/accounts/acme/verify") == {"account": "acme", "ok": True, "drift": []}


# ---- what can go wrong


@pytest.mark.parametrize("body", ["", "{", "[1", b"\xff", '{"id": "acme"} x'])
async def test_what_is_not_json_is_a_400(api: Api, body: str | bytes) -> None:
    """Text that is no JSON is told apart from JSON with wrong fields."""
    assert await api.problem("POST", "/accounts", body) == (400, "invalid_json")


@pytest.mark.parametrize("body", ["[]", "null", '"acme"', "{}", '{"id": null}', '{"id": ["acme"]}'])
async def test_json_of_another_shape_is_a_422(api: Api, body: str) -> None:
    """JSON that is no object, or has no id, is refused with the place of the problem."""
    assert await api.problem("POST", "/accounts", body) == (422, "invalid_request")


async def test_bodies_are_bounded(api: Api) -> None:
    """A body above 64 KiB is refused, with its length or without."""
    assert await api.problem("POST", "/accounts", b"x" * 65_537) == (413, "body_too_large")


class Away:
    """A ledger that is not there, or broken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Callable[..., Awaitable[Account]]:
        async def fail(*_arguments: object, **_named: object) -> Account:
            raise self._error

        return fail


async def test_a_ledger_that_is_away_is_a_503_with_retry_after() -> None:
    """LedgerUnavailable says when to come back and how to repeat safely, and nothing of the inside."""
    away: Any = Away(LedgerUnavailable("redis://user:password@host"))
    async with serving(away, make_runtime()) as api:
        status, found = await api("GET", "/accounts/acme")
        assert (status, found["code"]) == (503, "ledger_unavailable")
        assert api.headers["Retry-After"] == "1"
        assert "password" not in str(found)


async def test_a_defect_is_a_500_without_its_insides(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is told in the same form, and logged."""
    broken: Any = Away(RuntimeError("the inside"))
    async with serving(broken, make_runtime()) as api:
        status, found = await api("GET", "/accounts/acme")
        assert (status, found["code"]) == (500, "internal")
        assert "inside" not in str(found)
        assert "the inside" in caplog.text


async def test_the_api_works_on_a_real_server(tmp_path: Path) -> None:
    """Every route answers on a real Redis as it does in memory."""

    runtime = make_runtime(RedisSettings(directory=tmp_path))
    async with open_ledger(runtime) as ledger, serving(ledger, runtime) as api:
        await api.ok("POST", "/accounts", {"id": "acme"}, once="a")
        first = await api.ok("POST", "/accounts/acme/keys", {"id": "k", "products": ["chat"]}, once="b")
        assert await api.ok("POST", "/accounts/acme/keys", {"id": "k", "products": ["chat"]}, once="b") == first
        await api.ok("PATCH", "/accounts/acme/keys/k", {"products": None, "monthly_budget": "20"})
        await api.ok("POST", "/accounts/acme/grants", {"kind": "purchase", "amount": "1.5"})
        await api.ok("PATCH", "/accounts/acme", {"tier": "payg"})
        await hold(ledger, "k", "h1", 2, plan="payg")
        await hold(ledger, "k", "h2", 2, plan="payg")
        await settle(ledger, "k", "h1", 1)
        assert (await api.ok("POST", "/accounts/acme/holds/h2/release"))["released"] is True
        credits_ = await api.ok("GET", "/accounts/acme/credits")
        assert (credits_["balance"], credits_["available"]) == ("51.499999999", "56.499999999")
        assert credits_["spent_this_month"] == "0.000000001"
        assert len((await api.ok("GET", "/accounts/acme/entries"))["items"]) == 3
        assert (await api.ok("GET", "/accounts/acme/keys"))["items"][0]["monthly_budget"] == "20.000000000"
        assert len((await api.ok("GET", "/accounts/acme/grants"))["items"]) == 2
        assert (await api.ok("GET", "/accounts/acme/holds"))["items"] == []
        assert (await api.ok("POST", "/accounts/acme/verify"))["ok"] is True
        assert [one["id"] for one in (await api.ok("GET", "/accounts"))["items"]] == ["acme"]


async def test_every_route_is_served(api: Api) -> None:
    """The table of routes is what the application has: each answers its method."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    for base in ("/admin/v1", "/admin"):
        api.base = base
        for route in ROUTES:
            status, found = await api(route.method, filled(route.path), {} if route.body is not None else None)
            assert status not in (404, 405) or found["code"] in (
                "unknown_key",
                "unknown_job",
                "unknown_delivery",
                "unknown_alert",
            )


async def test_a_token_opens_the_routes_of_its_scopes_alone() -> None:
    """For each route, a token with its scope is not refused for it, and one with all the others is, and told which."""
    every = {"read", "billing", "admin"}
    tokens = [token(f"{scope}-only", {scope}, f"t-{scope}") for scope in every]
    tokens += [token(f"not-{scope}", every - {scope}, f"n-{scope}") for scope in every]
    async with serving(MemoryLedger(lambda: int(NOW * 1000)), make_runtime(admin_tokens=tuple(tokens))) as api:
        await api.ok("POST", "/accounts", {"id": "acme"})
        for route in ROUTES:
            path, body = filled(route.path), dict[str, Any]() if route.body is not None else None
            refused = await api.problem(route.method, path, body, Authorization=f"Bearer n-{route.scope}")
            assert refused == (403, "insufficient_scope")
            assert f'scope="{route.scope}"' in api.headers["WWW-Authenticate"]
            _, found = await api(route.method, path, body, Authorization=f"Bearer t-{route.scope}")
            assert found.get("code") != "insufficient_scope"
        assert await api.problem("GET", "/accounts", Authorization="Bearer t-other") == (401, "unauthorized")


async def test_tokens_work_without_the_first_one() -> None:
    """A config with admin_tokens alone has an API, and its empty admin_token opens nothing."""
    tokens = (token("ci", {"read"}, "ci-token"),)
    async with serving(MemoryLedger(lambda: 0), make_runtime(admin_token="", admin_tokens=tokens)) as api:
        assert (await api("GET", "/accounts", Authorization="Bearer ci-token"))[0] == 200
        assert await api.problem("GET", "/accounts", Authorization="Bearer ") == (401, "unauthorized")
