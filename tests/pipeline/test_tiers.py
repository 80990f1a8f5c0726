"""Tiers, entitlements and keys: who may call what, how often, at which price, and how soon a change is in force."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import parse_usd
from gateway.edge.keys import key_digest
from gateway.ports import Key, Plan
from tests.harness import Running, open_account, running
from tests.pipeline.helpers import (
    CHAT,
    CHAT_PATH,
    NO_CREDIT,
    beside,
    charges,
    chat,
    finished,
    holding,
    in_order,
    submit,
    submitted,
    without_rates,
)
from tests.pipeline.sockets import PRO, connected, to_the_end


@pytest.fixture
async def pair(tmp_path: Path, empty_redis: str) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one ledger and one upstream, without limits of requests."""
    changes = {"config/tiers.yaml": without_rates}
    async with (
        running(tmp_path / "one", empty_redis, changes=changes) as one,
        beside(one, tmp_path / "two", empty_redis, changes) as two,
    ):
        yield one, two


async def test_a_new_account_has_its_tiers_signup_grant(gw: Running) -> None:
    """The free tier opens with fifty dollars and may use all but the LLM."""
    account = await gw.ledger.open_account(
        operation="o", account="a", plan=Plan(tier="free"), signup=gw.runtime.tiers["free"].signup_grant
    )
    assert account.balance == parse_usd("50")
    await gw.ledger.put_key(
        operation="k", key=Key(id="k", account="a"), digest=key_digest(gw.runtime.key_pepper, "secret")
    )
    assert (await submit(gw, "secret")).status == 200
    got = await chat(gw, "secret")
    assert (got.status, got.code) == (403, "not_entitled")
    assert "Pay as you go" in got.json["error"]["message"]


async def test_an_upgrade_is_in_force_at_once_on_every_gateway(pair: tuple[Running, Running]) -> None:
    """While calls run: the next call of either gateway is admitted, and what is left of the grant is kept."""
    one, two = pair
    key = await one.open_account("a", tier="free", credit="50")
    for gw in pair:
        assert (await chat(gw, key)).code == "not_entitled"
    path = await submitted(one, key, knobs={"job_seconds": 0.3})
    await one.ledger.change_account(operation="up", account="a", plan=Plan(tier="payg"))
    for gw in (two, one):
        assert (await chat(gw, key, usage="zero")).status == 200
    assert (await finished(two, key, path)).charge == parse_usd("0.21")
    await in_order(one, "a", balance=parse_usd("49.79"))


async def test_a_downgrade_is_in_force_at_once_on_every_gateway(pair: tuple[Running, Running]) -> None:
    """What runs is finished and charged; the next call is refused."""
    one, two = pair
    key = await one.open_account("a", tier="payg", credit="10")
    for gw in pair:
        assert (await chat(gw, key, usage="zero")).status == 200
    call = asyncio.create_task(chat(two, key, input_tokens=1000, output_tokens=100, latency_seconds=0.5))
    await holding(one, "a")
    await one.ledger.change_account(operation="down", account="a", plan=Plan(tier="free"))
    for gw in (two, one):
        assert (await chat(gw, key)).code == "not_entitled"
    assert (await call).charge == parse_usd("0.00315")
    await in_order(one, "a", balance=parse_usd("9.99685"))


async def test_what_an_account_has_in_place_of_its_plans_is_in_force_at_once(pair: tuple[Running, Running]) -> None:
    """A product that its plan lacks, an overdraft, places and requests of its own: the next call of either gateway."""
    one, two = pair
    key = await one.open_account("a", tier="free", credit="0")
    numbers = iter(range(100))

    async def override(**overrides: str | None) -> None:
        named = {name.replace("__", ".").replace("_1", "-"): value for name, value in overrides.items()}
        await one.ledger.change_account(operation=f"o{next(numbers)}", account="a", overrides=named)

    for gw in pair:
        assert (await chat(gw, key)).code == "not_entitled"
    await override(llm_1gateway__included="yes")
    for gw in pair:
        assert (await chat(gw, key)).code == "insufficient_credit"
    await override(overdraft=str(parse_usd("1")))
    for gw in pair:
        assert (await chat(gw, key, input_tokens=1000, output_tokens=100)).charge == parse_usd("0.00315")
    await override(llm_1gateway__concurrency="1")
    call = asyncio.create_task(chat(two, key, usage="zero", latency_seconds=1.0))
    await holding(one, "a")
    assert (await chat(one, key)).code == "too_many_concurrent"
    assert (await call).status == 200
    await override(llm_1gateway__requests="1/60", llm_1gateway__concurrency=None)
    assert [(await chat(gw, key, usage="zero")).code for gw in (two, one)] == ["", "rate_limited"]
    await override(llm_1gateway__included="no")
    for gw in pair:
        assert (await chat(gw, key)).code == "not_entitled"
    await override(llm_1gateway__included=None, llm_1gateway__requests=None, overdraft=None)
    assert (await submit(two, key)).code == "insufficient_credit"


async def test_a_suspended_account_is_refused_everywhere_until_it_is_active(pair: tuple[Running, Running]) -> None:
    """403 for paid and for free routes, before credit is looked at."""
    one, two = pair
    key = await one.open_account("a", credit="10")
    path = await submitted(two, key)
    await one.ledger.change_account(operation="off", account="a", status="suspended")
    for gw in pair:
        for method, where, body in (("POST", CHAT_PATH, CHAT), ("GET", path, None), ("GET", "/v2/transcript", None)):
            got = await gw.call(method, where, key, json=body)
            assert (got.status, got.code) == (403, "account_suspended")
    await one.ledger.change_account(operation="on", account="a", status="active")
    assert (await finished(two, key, path)).charge == parse_usd("0.21")


async def test_a_top_up_is_in_force_at_once_on_every_gateway(pair: tuple[Running, Running]) -> None:
    """Spent, refused with the vendor's sentence; topped up, served by the next call of either gateway."""
    one, two = pair
    key = await one.open_account("a", credit="0")
    for number in range(3):
        for gw in pair:
            got = await chat(gw, key)
            assert (got.status, got.code, got.json["error"]["message"]) == (400, "insufficient_credit", NO_CREDIT)
        await one.ledger.grant(operation=f"g{number}", account="a", kind="purchase", amount=parse_usd("0.001"))
        assert (await chat(two, key, input_tokens=1000, output_tokens=100)).status == 200
        await one.ledger.grant(operation=f"h{number}", account="a", kind="goodwill", amount=parse_usd("0.00215"))
        await in_order(one, "a", balance=parse_usd("0"))


async def test_a_key_that_is_disabled_or_expired_is_refused(pair: tuple[Running, Running]) -> None:
    """Also in the gateway that knew it well; other keys of the account go on."""
    one, two = pair
    key = await one.open_account("a", credit="10")
    await one.ledger.put_key(
        operation="second", key=Key(id="second", account="a"), digest=key_digest(one.runtime.key_pepper, "second")
    )
    for gw in pair:
        assert (await chat(gw, key)).status == 200
    soon = int(time.time() * 1000) + 1000
    for name, change, back in (
        ("disabled", {"disabled": True}, {"disabled": False}),
        ("expired", {"expires_ms": soon}, {"expires_ms": None}),
    ):
        await one.ledger.change_key(operation=name, account="a", key_id="key-a", changes=change)
        if name == "expired":
            assert (await chat(two, key)).status == 200
            await asyncio.sleep(max(0.0, soon / 1000 - time.time()) + 0.05)
        for gw in pair:
            got = await chat(gw, key)
            assert (got.status, got.code) == (403, "key_disabled")
            assert (await chat(gw, "second")).status == 200
        await one.ledger.change_key(operation=f"{name}-back", account="a", key_id="key-a", changes=back)
        assert (await chat(two, key)).status == 200


async def test_a_key_may_be_for_some_products_only(gw: Running) -> None:
    """What is not on its list is refused, the rest is served; the account's other keys are not bound by it."""
    key = await gw.open_account("a", credit="10", products=("speech-to-text",))
    path = await submitted(gw, key, 1)
    await finished(gw, key, path)
    got = await chat(gw, key)
    assert (got.status, got.code) == (403, "not_entitled")
    told = "This API key does not include LLM Gateway. Use another key, or have it added to the products of this one."
    assert got.json["error"]["message"] == told, "it is not the plan that lacks it"
    assert (await gw.call("GET", f"{path}/redacted-audio", key)).code == "not_entitled"


async def test_a_keys_monthly_budget_is_a_limit_of_its_own(gw: Running) -> None:
    """Held and spent count, and a hold is never more than what is left of the budget."""
    key = await gw.open_account("a", credit="10", monthly_budget=parse_usd("0.005"))
    call = asyncio.create_task(chat(gw, key, input_tokens=1000, output_tokens=100, latency_seconds=1.0))
    await holding(gw, "a")
    assert (await gw.ledger.account("a")).held == parse_usd("0.005")
    second = await chat(gw, key)
    assert (second.status, second.code) == (403, "key_budget_exceeded")
    assert (await call).charge == parse_usd("0.00315")
    assert (await chat(gw, key, input_tokens=1000, output_tokens=100)).status == 200
    assert (await chat(gw, key)).code == "key_budget_exceeded"
    await gw.ledger.change_key(
        operation="more", account="a", key_id="key-a", changes={"monthly_budget": parse_usd("1")}
    )
    assert (await chat(gw, key)).status == 200
    assert (await gw.call("GET", "/v2/transcript", key)).status == 200


async def test_a_negotiated_price_and_a_discount(gw: Running) -> None:
    """An account's own rate card comes before its tier's: overrides as they are, discounts by the most specific."""
    acme = await gw.open_account("acme", credit="10", rate_card="acme")
    charity = await gw.open_account("charity", credit="10", rate_card="nonprofit")
    startup = await gw.open_account("startup", credit="10", rate_card="startup")
    for key, charge in ((acme, "0.14"), (charity, "0.136"), (startup, "0.085")):
        path = await submitted(gw, key, speech_models=["universal-2"], speaker_labels=True)
        assert (await finished(gw, key, path)).charge == parse_usd(charge)
    got = await chat(gw, startup, input_tokens=1000, output_tokens=100)
    assert got.charge == parse_usd("0.002835")
    assert (await charges(gw, "startup"))[-1]["rate_card"] == "startup"
    await gw.ledger.change_account(operation="card", account="acme", plan=Plan(tier="payg", rate_card=""))
    path = await submitted(gw, acme, speech_models=["universal-2"])
    assert (await finished(gw, acme, path)).charge == parse_usd("0.15")


async def test_a_tier_may_have_some_models_only(tmp_path: Path, empty_redis: str) -> None:
    """A model that the tier lacks is refused, asked for directly or as a fallback; one that nobody has is unknown."""

    def fewer(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["products"]["llm-gateway"]["models"] = ["gpt-5.2", "qwen3-32b"]

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": fewer}) as gw:
        key = await gw.open_account("a", credit="10")
        assert (await chat(gw, key)).status == 200
        for body in ({"model": "claude-opus-4-6"}, {"fallbacks": [{"model": "claude-opus-4-6"}]}):
            got = await chat(gw, key, body)
            assert (got.status, got.code) == (403, "not_entitled")
            assert got.json["error"]["message"] == (
                "Your plan (Pay as you go) does not include LLM Gateway with claude-opus-4-6. "
                "It is included in: Contracted."
            )
        for body in ({"model": "no-such"}, {"model": "GPT-5.2"}, {"fallbacks": [{"model": "no-such"}]}):
            got = await chat(gw, key, body)
            assert (got.status, got.code) == (400, "unknown_model"), "no plan has it, so none is praised for it"


async def test_a_tier_without_the_add_ons_product_does_not_get_it_by_the_back_door(
    tmp_path: Path, empty_redis: str
) -> None:
    """An add-on belongs to a product of its own: a tier without that one is refused the flag, not the job."""

    def fewer(data: dict[str, Any]) -> None:
        del data["tiers"]["free"]["products"]["guardrails"]

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": fewer}) as gw:
        key = await gw.open_account("a", tier="free", credit="10")
        refused = await submit(gw, key, redact_pii=True)
        assert (refused.status, refused.code) == (403, "not_entitled")
        title = "Your plan (Free) does not include Guardrails. It is included in: Pay as you go, Contracted."
        assert refused.json == {"error": title}, "the product that is missing is named, and who has it"
        assert (await submit(gw, key, redact_pii=False)).status == 200


async def test_a_key_without_the_add_ons_product_does_not_get_it_by_the_back_door(gw: Running) -> None:
    """A key's list of products holds for add-ons as the tier's does."""
    key = await gw.open_account("a", credit="10", products=("speech-to-text",))
    refused = await submit(gw, key, redact_pii=True)
    assert (refused.status, refused.code) == (403, "not_entitled")
    assert "This API key does not include all of Pre-recorded speech-to-text, Guardrails." in refused.json["error"]
    assert (await submit(gw, key, redact_pii=False)).status == 200
    both = await gw.open_account("b", credit="10", products=("speech-to-text", "guardrails"))
    assert (await submit(gw, both, redact_pii=True)).status == 200


async def test_each_model_has_its_own_limit_of_requests(gw: Running) -> None:
    """Thirty a minute of one model; another model of the same account is not touched by it."""
    key = await gw.open_account("a", credit="100")
    first = await chat(gw, key)
    assert '"llm-gateway-gpt-5.2";q=30;w=60' in first.headers["RateLimit-Policy"].replace("requests-", "") or (
        "gpt-5.2" in first.headers["RateLimit-Policy"] and "q=30;w=60" in first.headers["RateLimit-Policy"]
    )
    assert "r=29" in first.headers["RateLimit"]
    answers = await asyncio.gather(*(chat(gw, key) for _ in range(35)))
    assert sorted(got.status for got in answers) == [200] * 29 + [429] * 6
    refused = next(got for got in answers if got.status == 429)
    assert refused.code == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"llm-gateway-gpt-5.2";r=0;t=')
    assert refused.headers["RateLimit-Policy"] == first.headers["RateLimit-Policy"], "what was reached is among them"
    assert (await chat(gw, key, {"model": "gpt-5.1"})).status == 200
    assert (await gw.call("GET", "/v2/transcript", key)).status == 200


async def test_a_window_opens_again(tmp_path: Path, empty_redis: str) -> None:
    """After Retry-After there is room; refusals do not extend the window, and other accounts never notice."""

    def short(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["requests"] = {"quota": 5, "window_seconds": 1}

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": short}) as gw:
        key = await gw.open_account("a", credit="10")
        other = await gw.open_account("b", credit="10")
        await gw.call("GET", "/v2/transcript", key)
        began = time.monotonic()
        for _ in range(4):
            assert (await gw.call("GET", "/v2/transcript", key)).status == 200
        refused = 0
        while (await gw.call("GET", "/v2/transcript", key)).code == "rate_limited":
            refused += 1
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < 3
        assert refused > 3
        assert time.monotonic() - began > 0.8
        assert (await gw.call("GET", "/v2/transcript", other)).status == 200


async def test_a_limit_of_requests_holds_over_all_gateways(pair: tuple[Running, Running], tmp_path: Path) -> None:
    """Two processes share one window."""
    one, _ = pair

    def short(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["requests"] = {"quota": 10, "window_seconds": 60}

    changes = {"config/tiers.yaml": short}
    url = one.runtime.redis.url
    async with beside(one, tmp_path / "a", url, changes) as first, beside(one, tmp_path / "b", url, changes) as second:
        key = await open_account(one.ledger, first.runtime, "limited", credit="10")
        answers = await asyncio.gather(
            *(gw.call("GET", "/v2/transcript", key) for gw in (first, second) for _ in range(20))
        )
        assert sorted(got.status for got in answers) == [200] * 10 + [429] * 30


async def test_a_key_that_runs_wild_leaves_the_others_of_its_account(tmp_path: Path, empty_redis: str) -> None:
    """A limit of requests for each key, of the plan or the account's own; tokens of a key count as the key."""

    def each(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["requests_per_key"] = {"quota": 2, "window_seconds": 60}

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": each}) as gw:
        wild = await gw.open_account("a", credit="10")
        await gw.ledger.put_key(
            operation="k", key=Key(id="calm", account="a"), digest=key_digest(gw.runtime.key_pepper, "calm-key")
        )
        token = (await gw.call("GET", "/v3/token?expires_in_seconds=60", wild)).json["token"]
        first = await gw.call("GET", "/v2/transcript", wild)
        assert (first.status, first.headers["RateLimit"].rpartition(", ")[2]) == (200, '"key";r=0;t=60')
        assert '"key";q=2;w=60' in first.headers["RateLimit-Policy"]
        refused = await gw.call("GET", "/v2/transcript", wild)
        assert (refused.status, refused.code) == (429, "rate_limited")
        assert refused.headers["RateLimit"].startswith('"key";r=0;t=') and 0 < int(refused.headers["Retry-After"]) <= 60
        async with connected(gw, None, f"{PRO}&token={token}") as socket:
            await to_the_end(socket)
            assert socket.close_code == 1008
        assert (await gw.call("GET", "/v2/transcript", "calm-key")).status == 200
        await gw.ledger.change_account(operation="own", account="a", overrides={"requests_per_key": "3/60"})
        assert (await gw.call("GET", "/v2/transcript", wild)).status == 200
        assert (await gw.call("GET", "/v2/transcript", wild)).code == "rate_limited"


async def test_refusals_come_in_the_order_of_the_guards(tmp_path: Path, empty_redis: str) -> None:
    """Each guard hides those behind it: nobody learns of a balance with a bad key, or of a limit without credit."""

    def tight(data: dict[str, Any]) -> None:
        data["tiers"]["free"]["requests"] = {"quota": 1, "window_seconds": 60}

    async with running(tmp_path, empty_redis, changes={"config/tiers.yaml": tight}) as gw:
        key = await gw.open_account("a", tier="free", credit="1", monthly_budget=parse_usd("0.1"))
        ledger = gw.ledger
        got: list[str] = []

        async def ask() -> None:
            got.append((await submit(gw, key, knobs={"job_seconds": 30})).code)

        got.append((await submit(gw, "nobody")).code)
        await ledger.change_key(operation="1", account="a", key_id="key-a", changes={"disabled": True})
        await ledger.change_account(operation="2", account="a", status="suspended")
        await ask()
        await ledger.change_key(operation="3", account="a", key_id="key-a", changes={"disabled": False})
        await ask()
        await ledger.change_account(operation="4", account="a", status="active")
        got.append((await chat(gw, key)).code)
        await ask()  # served: holds the key's whole budget, and the only request of the window
        await ask()
        await ledger.change_key(operation="5", account="a", key_id="key-a", changes={"monthly_budget": None})
        await ask()
        assert got == [
            "unauthorized", "key_disabled", "account_suspended", "not_entitled", "", "key_budget_exceeded",
            "rate_limited",
        ]  # fmt: skip


async def test_a_contracted_account_may_go_below_zero(gw: Running) -> None:
    """Its overdraft is part of what is available."""
    key = await gw.open_account("a", tier="contracted", credit="0")
    assert (await chat(gw, key, input_tokens=1_000_000, output_tokens=0)).charge == parse_usd("1.75")
    await in_order(gw, "a", balance=parse_usd("-1.75"))
    assert (await chat(gw, key)).status == 200


async def test_an_unknown_key_is_refused_in_each_dialect(gw: Running) -> None:
    """401 with the vendor's words; none, empty, and malformed credentials alike."""
    await gw.open_account("a", credit="10")
    for header in (None, "", "nobody", "Bearer", "Bearer nobody", "Basic abc", "x" * 5000):
        sent = {} if header is None else {"Authorization": header}
        got = await gw.call("GET", "/v2/transcript", None, headers=sent)
        assert (got.status, got.code) == (401, "unauthorized")
        assert got.json == {"error": "Authentication error, API token missing/invalid"}
        got = await gw.call("POST", CHAT_PATH, None, json=CHAT, headers=sent)
        assert (got.status, got.json["error"]["code"]) == (401, "unauthorized")
    assert not await gw.seen()


async def test_products_word_who_lacks_a_product_themselves(tmp_path: Path, empty_redis: str) -> None:
    """A sentence of the config's own may name the plan, and those that have it."""

    def worded(data: dict[str, Any]) -> None:
        data["errors"].setdefault("codes", {})["not_entitled"] = {"message": "{tier} lacks {product}: {entitled_tiers}"}

    async with running(tmp_path, empty_redis, changes={"config/products/llm-gateway.yaml": worded}) as gw:
        free = await gw.open_account("a", tier="free", credit="10")
        having = (await chat(gw, free)).json["error"]["message"]
        assert having == "Free lacks LLM Gateway: Pay as you go, Contracted"
        bound = await gw.open_account("b", credit="10", products=("guardrails",))
        assert (await chat(gw, bound)).json["error"]["message"] == "Pay as you go lacks LLM Gateway: Pay as you go"
