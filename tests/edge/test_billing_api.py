"""The billing API, on a whole gateway: what a key of an account sees and may change, and what nobody else does."""

import asyncio
import csv
import io
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.edge.api.billing_routes import ROUTES
from tests.edge.documented import try_every_route
from tests.harness import Got, Running, running
from tests.pipeline.helpers import chat, submitted


async def ask(gw: Running, key: str | None, path: str, method: str = "GET", **kwargs: Any) -> Got:
    """One request to the billing API."""
    return await gw.call(method, f"/billing/v1{path}", key, **kwargs)


async def get(gw: Running, key: str, path: str) -> Any:
    """What one reading answers."""
    got = await ask(gw, key, path)
    assert got.status == 200, got.body
    return got.json


async def test_what_was_spent_is_told_in_every_way_alike(gw: Running) -> None:
    """Balance, usage, charges and keys agree to the nano-dollar after calls and while a job is open; CSV too."""
    key = await gw.open_account("acme", credit="100", project="=cmd()", name="first")
    spent = sum([(await chat(gw, key)).charge or 0 for _ in range(3)])
    assert spent > 0
    await submitted(gw, key, knobs={"job_seconds": 60.0})
    balance = await get(gw, key, "/balance")
    assert balance["balance"] == format_usd(Nanos(parse_usd("100") - spent))
    assert balance["spent_this_month"] == format_usd(Nanos(spent))
    assert [hold["amount"] for hold in balance["holds"]] == [balance["held"]]
    assert parse_usd(balance["available"]) == parse_usd(balance["balance"]) - parse_usd(balance["held"])
    assert [(grant["kind"], grant["expires_at"]) for grant in balance["grants"]] == [("purchase", None)]
    usage = await get(gw, key, "/usage")
    assert usage["total"] == {"calls": 3, "charged": format_usd(Nanos(spent))}
    for by in ("day", "product", "key", "project"):
        (line,) = (await get(gw, key, f"/usage?by={by}"))["items"]
        assert (line["calls"], line["charged"]) == (3, format_usd(Nanos(spent)))
    first = await get(gw, key, "/charges?limit=2")
    rest = await get(gw, key, f"/charges?after={first['next']}&limit=2")
    charges = first["items"] + rest["items"]
    assert sum(parse_usd(charge["charged"]) for charge in charges) == spent
    assert [charge["at"] for charge in charges] == sorted((charge["at"] for charge in charges), reverse=True)
    for charge in charges:
        assert sum(parse_usd(item["amount"]) for item in charge["items"]) == parse_usd(charge["charged"])
        assert charge["key"] == "key-acme"
    (shown,) = (await get(gw, key, "/keys"))["items"]
    assert (shown["name"], shown["spent"]) == ("first", format_usd(Nanos(spent)))
    for got in (
        await ask(gw, key, "/usage", headers={"Accept": "text/csv"}),
        await ask(gw, key, "/usage?by=project&format=csv"),
    ):
        assert got.headers["Content-Type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(got.body.decode()))
        assert (row["project"], row["charged"]) == ("'=cmd()", format_usd(Nanos(spent)))


async def test_a_rate_card_is_the_accounts_own(gw: Running) -> None:
    """Prices are those of the account's card, its discounts beside them; what the plan has not is told."""
    cards = sorted({card for _, card in gw.runtime.prices.tables})
    for card in cards:
        key = await gw.open_account(f"of-{card}", tier="free", rate_card=card)
        shown = await get(gw, key, "/rate-card")
        table = gw.runtime.prices.tables[shown["price_version"], card]
        assert shown["rate_card"] == card
        for item in shown["items"]:
            less = f" -{item['discount_percent']}%" if item["discount_percent"] else ""
            assert table.prices[item["sku"]].listed == f"{item['price']} per_{item['per']}{less}"
        assert any(item["included"] for item in shown["items"])


async def test_no_credit_is_no_reason_not_to_answer(gw: Running) -> None:
    """An account that is refused calls still sees why; a correction does not tell who made it."""
    key = await gw.open_account("poor", credit="0")
    assert (await chat(gw, key)).code == "insufficient_credit"
    await gw.ledger.correct(
        operation="c", account="poor", key_id="key-poor", amount=parse_usd("-1"), data={"reason": "why", "actor": "Eve"}
    )
    assert (await get(gw, key, "/balance"))["debt"] == "1.000000000"
    got = await ask(gw, key, "/charges")
    assert [(each["kind"], each["charged"], each["reason"]) for each in got.json["items"]] == [
        ("correction", "1.000000000", "why")
    ]
    assert b"Eve" not in got.body


async def test_only_a_key_that_works_opens_its_own_account(gw: Running) -> None:
    """No key, an unknown and a disabled one are refused; one account sees nothing of another."""
    key, other = await gw.open_account("acme"), await gw.open_account("other")
    for wrong in (None, "nobody-has-this", "Basic abc"):
        got = await ask(gw, wrong, "/balance")
        assert (got.status, got.code) == (401, "unauthorized")
        assert got.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await ask(gw, key, "/nothing")).code == "unknown_route"
    alert = {"kind": "balance_below", "amount": "5", "to": [{"type": "webhook", "url": "https://example.com/hook"}]}
    made = await ask(gw, key, "/alerts/low", "PUT", json=alert)
    assert made.json["to"][0]["secret"].startswith("whsec_")
    assert (await ask(gw, other, "/alerts/low", "DELETE")).code == "unknown_alert"
    assert (await get(gw, other, "/alerts"))["items"] == []
    assert "secret" not in str((await get(gw, key, "/alerts"))["items"])
    await gw.ledger.change_key(operation="off", account="acme", key_id="key-acme", changes={"disabled": True})
    got = await ask(gw, key, "/balance")
    assert (got.status, got.code) == (403, "key_disabled")


async def test_a_key_may_be_kept_from_billing(gw: Running) -> None:
    """One that may read changes nothing, one that may nothing reads nothing, and both still pay for calls."""
    key = await gw.open_account("acme", credit="10")
    for may, read, written in (("read", 200, 403), ("none", 403, 403), ("manage", 200, 200)):
        await gw.ledger.change_key(operation=may, account="acme", key_id="key-acme", changes={"billing": may})
        got = await ask(gw, key, "/autopay")
        assert (got.status, got.status == 200 or got.code == "not_with_this_key") == (read, True)
        got = await ask(gw, key, "/autopay", "PATCH", json={"threshold": "10", "target": "40"})
        assert (got.status, got.status == 200 or got.code == "not_with_this_key") == (written, True)
        assert (await chat(gw, key)).status == 200
    assert (await get(gw, key, "/keys"))["items"][0]["billing"] == "manage"


async def test_guesses_are_counted_with_those_at_calls(tmp_path: Path, empty_redis: str) -> None:
    """An address that has shown too many unknown keys is told to wait, here as there; a known key is not."""

    def five(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["unknown_keys_per_minute_max"] = 5

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": five}) as gw:
        key = await gw.open_account("acme")
        await get(gw, key, "/balance")
        minute = int(time.time()) // 60
        codes = [(await ask(gw, f"guess-of-somebody-{n}", "/balance")).code for n in range(20)]
        assert set(codes) == {"unauthorized", "too_many_unknown_keys"}
        assert codes.count("unauthorized") <= 10  # a minute may begin in between
        at_a_call = (await chat(gw, "guess-of-somebody-last")).code
        assert at_a_call == "too_many_unknown_keys" or int(time.time()) // 60 > minute
        await get(gw, key, "/balance")


async def test_a_customers_name_for_a_change_is_not_an_administrators(gw: Running) -> None:
    """A customer that uses an Idempotency-Key first takes it from nobody."""
    key = await gw.open_account("acme")
    named = {"Idempotency-Key": "one"}
    got = await ask(gw, key, "/autopay", "PATCH", json={"threshold": "10", "target": "40"}, headers=named)
    assert (got.status, got.json["target"]) == (200, "40.000000000")
    again = await ask(gw, key, "/autopay", "PATCH", json={"threshold": "10", "target": "60"}, headers=named)
    assert again.code == "operation_conflict"
    stored = await gw.ledger.set_autopay(operation="admin:one", account="acme", changes={"target": parse_usd("70")})
    assert stored.target == parse_usd("70")


async def test_one_key_cannot_ask_without_end(tmp_path: Path, empty_redis: str) -> None:
    """After so many requests in a minute a key is told to wait; another key of the same account is not."""

    def three(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["billing_requests_per_minute_max"] = 3

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": three}) as gw:
        key, other = await gw.open_account("acme"), await gw.open_account("other")
        codes = [(await ask(gw, key, "/balance")).code for _ in range(8)]
        assert codes.count("rate_limited") in (2, 5)  # 2 where a minute ended meanwhile
        assert (await ask(gw, other, "/balance")).status == 200


# schemathesis draws numbers of its own inside a strategy
@pytest.mark.filterwarnings("default::hypothesis.errors.HypothesisDeprecationWarning")
async def test_the_api_is_what_its_document_says(tmp_path: Path, empty_redis: str) -> None:
    """No generated request gets a 5xx, a status, a type or a body that the document has not; bad ones are refused."""

    def unlimited(data: dict[str, Any]) -> None:
        data.setdefault("limits", {})["billing_requests_per_minute_max"] = 0

    async with running(tmp_path, empty_redis, changes={"gateway.yaml": unlimited}) as gw:
        key = await gw.open_account("acme", credit="50")
        assert (await chat(gw, key)).status == 200
        await submitted(gw, key, knobs={"job_seconds": 60.0})
        alert = {"kind": "spent_day", "amount": "5", "to": [{"type": "slack", "url": "https://example.com/hook"}]}
        assert (await ask(gw, key, "/alerts/a", "PUT", json=alert)).status == 200

        def steer(case: Any, number: int) -> None:
            if "alert" in case.path_parameters and number % 2:
                case.path_parameters["alert"] = "a"

        headers = {"Authorization": key}
        tried = await asyncio.to_thread(try_every_route, f"{gw.url}/billing/v1", headers, steer)
        assert tried == len(ROUTES) - 1
        assert await gw.ledger.verify("acme") == []
