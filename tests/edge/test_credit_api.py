"""The credit API, on a whole gateway: what a service may hold, charge and give back for calls that it serves itself."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import NO_CREDIT, LedgerUnavailable
from gateway.core.money import format_usd, parse_usd
from gateway.edge.api.credit_routes import ROUTES
from gateway.edge.api.forward_auth import TOKEN_HEADER
from gateway.ports import Key
from tests.edge.documented import try_every_route
from tests.edge.plugged import READER, TOKEN, Service, plugged
from tests.fakes.link import CuttingRelay
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pipeline.helpers import beside, until


async def test_a_call_that_is_served_elsewhere(tmp_path: Path, empty_redis: str) -> None:
    """It is held by its estimate and charged by what it came to, once, at the prices of its product."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("acme", credit="10")
        service = Service(gw)
        hold = await service.hold(api_key=key, route="rendering.create", estimate={"megapixels": 20})
        assert (hold["estimate"], hold["held"], hold["available"]) == ("2.000000000", "2.000000000", "8.000000000")
        assert (hold["account"], hold["key"], hold["seconds"]) == ("acme", "key-acme", 60)
        (open_hold,) = await gw.ledger.holds("acme")
        assert (open_hold.id, open_hold.amount, open_hold.product) == (hold["hold"], parse_usd("2"), "rendering")

        settle = f"/holds/{hold['id']}/settle"
        status, told = await service.ask(settle, {"usage": {"pixels": 4}})
        assert (status, told["code"], told["errors"][0]["pointer"]) == (422, "invalid_request", "/usage/pixels")
        status, told = await service.ask(settle, {"usage": {"layers": 4}})
        assert (status, told["errors"][0]["detail"]) == (422, "not reported: megapixels")
        status, charged = await service.ask(settle, {"usage": {"megapixels": "12.5", "layers": 2}})
        assert (status, charged["settled"], charged["charged"], charged["late"]) == (200, True, "1.290000000", False)
        assert [item["amount"] for item in charged["items"]] == ["1.250000000", "0.040000000"]
        assert await service.ask(settle, {"usage": {"megapixels": "12.5", "layers": 2}}) == (200, charged)  # once
        status, told = await service.ask(settle, {"usage": {"megapixels": 1}})
        assert (status, told["code"]) == (409, "operation_conflict")
        assert await service.ask(f"/holds/{hold['id']}/release", {}) == (
            200,
            {"id": hold["id"], "hold": hold["hold"], "released": False},
        )
        entry = (await gw.ledger.entries("acme", newest_first=True))[0]
        assert (entry.id, entry.data["call_id"], entry.data["route"]) == (
            charged["entry"], hold["hold"], "rendering.create",
        )  # fmt: skip
        assert await gw.balance("acme") == parse_usd("8.71") == parse_usd(charged["balance"])

        # What the request switches on is charged, whoever settles; nothing that has no price slips through.
        rushed = await service.hold(account="acme", product="rendering", request={"rush": True, "size": "A4"})
        assert rushed["held"] == "0.830000000"  # eight megapixels, where nothing is told
        _, charged = await service.ask(f"/holds/{rushed['id']}/settle", {"usage": {"megapixels": 1}})
        assert charged["charged"] == "0.130000000"
        body = {"account": "acme", "product": "rendering", "request": {"gold": True}}
        status, told = await service.ask("/holds", body)
        assert (status, told["code"], told["type"]) == (400, "unpriced_field", "urn:gateway:refusal:unpriced_field")

        # Any process ends what another one held: all that it needs is what the service shows.
        held = await service.hold(account="acme", product="rendering", request={"rush": True})
        async with beside(gw, tmp_path / "beside", empty_redis, plugged()) as other:
            _, charged = await Service(other).ask(f"/holds/{held['id']}/settle", {"usage": {"megapixels": 0}})
        assert charged["charged"] == "0.030000000"

        # An amount, where the service knows the price itself.
        priced = await service.hold(account="acme", route="rendering.create", amount="1.5")
        assert priced["held"] == "1.500000000"
        _, charged = await service.ask(f"/holds/{priced['id']}/settle", {"amount": "0.000000001"})
        assert charged["charged"] == "0.000000001"
        assert await gw.ledger.verify("acme") == [] == await gw.ledger.holds("acme")
        counted = gw.gateway.measured().figures()["counts"]
        assert [count for labels, count in counted["gateway_calls"] if labels[2] == "settled"] == [3], (
            "told twice, counted once"
        )
        assert sum(count for _, count in counted["gateway_charges_nanos"]) == 1_420_000_001


async def test_a_product_that_is_proxied_may_be_booked_as_well(tmp_path: Path, empty_redis: str) -> None:
    """The same tariffs: by what the reply says, and by the quantities of its measures, to the nano-dollar alike."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        await gw.open_account("acme", credit="10")
        service = Service(gw)
        reply = {"model": "gpt-5.2", "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}}
        request = {"model": "gpt-5.2", "max_tokens": 500, "messages": [{"role": "user", "content": "x" * 5000}]}
        hold = await service.hold(account="acme", route="chat.completions", request=request)
        assert parse_usd(hold["held"]) > 0
        _, by_reply = await service.ask(f"/holds/{hold['id']}/settle", {"reply": reply})
        found = next(route for route in gw.runtime.routes if route.name == "chat.completions")
        assert found.metering is not None
        names = {measure.name for measure in found.metering.measures}
        tokens = dict.fromkeys(names, 0) | {"input_tokens": 1000, "output_tokens": 200}
        hold = await service.hold(
            account="acme", route="chat.completions", request={"model": "gpt-5.2"}, estimate=tokens
        )
        _, by_usage = await service.ask(f"/holds/{hold['id']}/settle", {"usage": tokens})
        assert hold["held"] == by_usage["charged"] == by_reply["charged"] != "0.000000000"
        assert by_usage["items"] == by_reply["items"]

        # A job, by its add-ons; the free plan has no LLM gateway, and says so in the product's words.
        hold = await service.hold(
            account="acme", route="transcript.create", request={"audio_url": "x", "speaker_labels": True},
            estimate={"audio_seconds": 3600},
        )  # fmt: skip
        _, charged = await service.ask(f"/holds/{hold['id']}/settle", {"usage": {"audio_seconds": 3600}})
        assert hold["held"] == charged["charged"]
        assert len(charged["items"]) == 2
        await gw.open_account("small", tier="free")
        status, told = await service.ask("/holds", {"account": "small", "route": "chat.completions"})
        assert (status, told["code"]) == (403, "not_entitled")
        assert told["detail"].startswith("Your plan (Free) does not include")


async def test_guesses_of_tokens_are_slowed_down(tmp_path: Path, empty_redis: str) -> None:
    """An address that has shown too many tokens that nobody has is told to wait, at the credit API, forward-auth and
    calls together; a token that is good is heard all the same."""
    changes = plugged()

    def five(data: dict[str, Any]) -> None:
        changes["gateway.yaml"](data)
        data.setdefault("limits", {})["unknown_keys_per_minute_max"] = 5

    async with running(tmp_path, empty_redis, changes={**changes, "gateway.yaml": five}) as gw:
        stubborn = Service(gw, "gwa_that-was-taken-away")
        told = {(await stubborn.ask("/holds", {}))[1]["code"] for _ in range(20)}
        assert told == {"unauthorized"}, "the same token again is no other guess"
        minute = int(time.time()) // 60
        codes = [(await Service(gw, f"gwa_guess-{n}").ask("/holds", {}))[1]["code"] for n in range(20)]
        assert set(codes) == {"unauthorized", "too_many_unknown_keys"}
        assert codes.count("unauthorized") <= 10  # a minute may begin in between
        async with gw.http.get(f"{gw.url}/authz", headers={TOKEN_HEADER: "gwa_guess"}) as got:
            assert (got.status, got.headers["X-Gateway-Error"]) == (429, "too_many_unknown_keys") or (
                int(time.time()) // 60 > minute
            )
        assert (await Service(gw).ask("/holds", {}))[1]["code"] == "invalid_request"


async def test_who_is_refused_and_how(tmp_path: Path, empty_redis: str) -> None:
    """Credit that is gone, places that are taken and wrong tokens have the same codes and words as anywhere."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("empty", credit="0")
        service = Service(gw)
        status, told = await service.ask("/holds", {"api_key": key, "product": "rendering"})
        assert (status, told["code"], told["detail"]) == (400, "insufficient_credit", NO_CREDIT)
        assert (await service.ask("/holds", {"api_key": "nobody's", "product": "rendering"}))[1][
            "code"
        ] == "unauthorized"

        # 30 at once on a balance for two and a half: no more is held than there is, whatever the order.
        await gw.open_account("racer", credit="2.5")
        answers = await asyncio.gather(
            *(
                service.ask("/holds", {"account": "racer", "route": "rendering.create", "amount": "1"})
                for _ in range(30)
            )
        )
        held = [parse_usd(data["held"]) for status, data in answers if status == 201]
        assert (len(held), sum(held)) == (3, parse_usd("2.5"))
        assert {data["code"] for status, data in answers if status != 201} <= {
            "insufficient_credit",
            "too_many_concurrent",
        }

        assert (await Service(gw, READER).ask("/holds", {}))[1]["code"] == "insufficient_scope"
        assert (await Service(gw, ADMIN_TOKEN).ask("/holds", {}))[1]["code"] == "unauthorized"
        assert (await Service(gw, "nothing").ask("/nowhere", {}))[0] == 401
        assert (await service.ask("/holds/gwh_x.y/settle", {"amount": "1"}))[1]["code"] == "unknown_hold"
        key = await gw.open_account("rich")
        hold = await service.hold(api_key=key, route="rendering.create", amount="0")
        forged = hold["id"][:-2] + ("AA" if not hold["id"].endswith("AA") else "BB")
        assert (await service.ask(f"/holds/{forged}/release", {}))[1]["code"] == "unknown_hold"
        status, told = await service.ask("/holds", {"account": "nobody", "route": "nothing", "seconds": 0})
        assert (status, told["code"]) == (422, "invalid_request")
        await gw.ledger.put_key(operation="second", key=Key(id="second", account="racer"), digest="d" * 64)
        status, told = await service.ask("/holds", {"account": "racer", "route": "rendering.create"})
        assert told["errors"] == [{"pointer": "/key", "detail": "the account has several keys: name the one that pays"}]
        # What is told of a request is bounded: all of it, and what its hold has to keep of it.
        big: dict[str, Any] = {"account": "rich", "product": "rendering", "request": {"size": "x" * 70_000}}
        assert (await service.ask("/holds", big))[1]["code"] == "body_too_large"
        big["request"] = {"rush": [["x" * 60] * 8] * 8}
        status, told = await service.ask("/holds", big)
        assert (status, told["type"]) == (400, "urn:gateway:refusal:invalid_request")
        assert [each.id for each in await gw.ledger.holds("rich")] == [hold["hold"]]
        most = await service.hold(account="rich", product="rendering", estimate={"megapixels": 10**15})
        assert (most["held"], most["available"]) == ("100.000000000", "0.000000000")
        # What is sold without an upstream is not proxied.
        assert (await gw.call("POST", "/v1/renderings", "secret-of-racer")).code == "route_not_found"


async def test_what_goes_on_is_charged_slice_by_slice(tmp_path: Path, empty_redis: str) -> None:
    """A renewal that says what was used charges it and holds the next slice in one step, once for all its repeats; when
    credit is used up it is refused as a call is, and what was used is charged all the same."""
    async with running(tmp_path, empty_redis, changes=plugged(on_unsettled="charge_hold")) as gw:
        await gw.open_account("acme", credit="10")
        service = Service(gw)
        first = await service.hold(account="acme", product="rendering", request={"rush": True}, amount="4")
        body = {"used": {"usage": {"megapixels": 30}}, "next": {"estimate": {"megapixels": 60}}, "seconds": 90}
        second, again = [await service.ask(f"/holds/{first['id']}/renew", body) for _ in range(2)]
        assert second == again
        status, renewed = second
        assert (status, renewed["held"], renewed["seconds"]) == (200, "6.030000000", 90)
        assert (renewed["charge"]["charged"], renewed["available"]) == ("3.030000000", "0.940000000")
        other = {**body, "used": {"usage": {"megapixels": 31}}}
        assert (await service.ask(f"/holds/{first['id']}/renew", other))[1]["code"] == "operation_conflict"
        (held,) = await gw.ledger.holds("acme")
        assert (held.id, held.amount) == (renewed["hold"], parse_usd("6.03"))
        assert held.expires_ms - held.created_ms > 80_000

        # As much again where nothing is said, or what there is; notes follow the hold that is open.
        status, third = await service.ask(f"/holds/{renewed['id']}/renew", {"used": {"amount": "1"}})
        assert (status, third["held"], third["charge"]["balance"]) == (200, "5.970000000", "5.970000000")
        waiting = [each.id for each in await gw.ledger.deliveries("acme")]
        assert waiting == [f"unsettled:{third['hold']}"]
        status, told = await service.ask(f"/holds/{third['id']}/renew", {"used": {"amount": "7"}})
        assert (status, told["code"], told["detail"]) == (400, "insufficient_credit", NO_CREDIT)
        assert await gw.balance("acme") == parse_usd("-1.03")
        assert await gw.ledger.holds("acme") == [] == await gw.ledger.deliveries("acme")
        entries = [each for each in await gw.ledger.entries("acme") if each.kind == "charge"]
        assert [str(-each.amount) for each in entries] == ["3030000000", "1000000000", "7000000000"]
        assert {each.data["call_id"] for each in entries} == {first["hold"]}
        assert await gw.ledger.verify("acme") == []
        events = dict(
            map(
                tuple, ((tuple(labels), n) for labels, n in gw.gateway.measured().figures()["counts"]["gateway_events"])
            )
        )
        assert events["hold_renewed", "rendering"] == 3
        counted = gw.gateway.measured().figures()["counts"]["gateway_charges_nanos"]
        charged = [nanos for labels, nanos in counted if "rendering" in labels and nanos]
        assert charged == [11_030_000_000]  # the repeat is none

        # What was used has to be known, and released is not used.
        await gw.open_account("other", credit="10")
        hold = await service.hold(account="other", product="rendering", amount="1")
        for wrong, pointer in (
            ({"next": {"amount": "1"}}, ""),
            ({"used": {"usage": {"pixels": 1}}}, "/used/usage/pixels"),
            ({"used": {"amount": "1"}, "next": {"estimate": {"pixels": 1}}}, "/next/estimate/pixels"),
            ({"used": {"usage": {"layers": 1}}}, "/used"),
        ):
            status, told = await service.ask(f"/holds/{hold['id']}/renew", wrong)
            assert (status, told["errors"][0]["pointer"]) == (422, pointer)
        await service.ask(f"/holds/{hold['id']}/release", {})
        status, told = await service.ask(f"/holds/{hold['id']}/renew", {"used": {"amount": "1"}})
        assert (status, told["code"]) == (409, "operation_conflict")
        assert await gw.balance("other") == parse_usd("10")


async def test_holds_have_names_and_live_as_long_as_they_are_renewed(tmp_path: Path, empty_redis: str) -> None:
    """A repeat gets the same hold; one that nobody renews ends by itself, and is still charged, late."""
    async with running(tmp_path, empty_redis, changes=plugged(hold_seconds=3, hold_seconds_max=100)) as gw:
        await gw.open_account("acme", credit="10")
        service = Service(gw)
        body = {"account": "acme", "route": "rendering.create"}
        first, again = [await service.hold(name="order-7", **body) for _ in range(2)]
        assert first == again
        assert len(await gw.ledger.holds("acme")) == 1
        for other in ({"amount": "1"}, {"request": {"rush": True}}, {"request": {"size": "A4"}}):
            status, told = await service.ask("/holds", {**body, **other}, name="order-7")
            assert (status, told["code"]) == (409, "operation_conflict")
        assert len(await gw.ledger.holds("acme")) == 1
        long = await service.hold(seconds=90, **body)
        status, told = await service.ask("/holds", {**body, "seconds": 101})
        assert told["errors"][0]["pointer"] == "/seconds"
        kept = await service.hold(**body)
        _, renewed = await service.ask(f"/holds/{kept['id']}/renew", {"seconds": 50})
        assert (renewed["id"], renewed["hold"], renewed["seconds"]) == (kept["id"], kept["hold"], 50)
        assert (renewed["held"], renewed["charge"]) == (kept["held"], None)
        assert await until(lambda: _left(gw, {long["hold"], kept["hold"]}))  # the first one's time was over
        status, told = await service.ask(f"/holds/{first['id']}/renew", {})
        assert (status, told["code"]) == (409, "hold_ended")
        _, charged = await service.ask(f"/holds/{first['id']}/settle", {"usage": {"megapixels": 1}})
        assert (charged["late"], charged["charged"]) == (True, "0.100000000")
        assert (await service.ask(f"/holds/{long['id']}/release", {}))[1]["released"] is True
        assert (await service.ask(f"/holds/{long['id']}/settle", {"amount": "1"}))[1]["code"] == "operation_conflict"
        status, told = await service.ask("/holds", body, name="order-7")
        assert (status, told["code"]) == (409, "operation_conflict")  # that hold has ended
        assert await gw.balance("acme") == parse_usd("9.9")
        assert format_usd((await gw.ledger.account("acme")).held) == kept["held"]


async def _left(gw: Running, holds: set[str]) -> bool:
    """Whether these are the holds that are open."""
    await gw.ledger.sweep("acme")
    return {hold.id for hold in await gw.ledger.holds("acme")} == holds


# schemathesis draws numbers of its own inside a strategy
@pytest.mark.filterwarnings("default::hypothesis.errors.HypothesisDeprecationWarning")
async def test_the_api_is_what_its_document_says(tmp_path: Path, empty_redis: str) -> None:
    """No generated request gets a 5xx, a status, a type or a body that the document has not; bad ones are refused."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("acme", credit="1000")
        service = Service(gw)
        holds = [(await service.hold(api_key=key, product="rendering", amount="0"))["id"] for _ in range(2)]

        def steer(case: Any, number: int) -> None:
            if "hold" in case.path_parameters and number % 2:
                case.path_parameters["hold"] = holds[number % len(holds)]

        headers = {"Authorization": f"Bearer {service.token}"}
        tried = await asyncio.to_thread(try_every_route, f"{gw.url}/credit/v1", headers, steer)
        assert tried == len(ROUTES) - 1
        _, document = await service.ask("/openapi.json", method="GET")
        for route in ROUTES:
            described = document["paths"][route.path][route.method.lower()]
            content = described["responses"][str(route.status)]["content"]["application/json"]["schema"]
            schema = document["components"]["schemas"][content["$ref"].rpartition("/")[2]]
            assert route.answer == "Document" or schema["additionalProperties"] is False
        assert json.dumps(document).count("insufficient_credit") == 3  # as a problem's code, and of two routes
        assert await gw.ledger.verify("acme") == []


async def test_it_is_off_unless_the_config_says_so(gw: Running) -> None:
    """Without `plug_in` the paths are none of ours, whatever the token."""
    assert (await Service(gw).ask("/holds", {}))[0] == 404


async def test_what_nobody_settles_is_charged_where_the_product_says_so(tmp_path: Path, empty_redis: str) -> None:
    """With `on_unsettled: charge_hold` an abandoned hold costs what was held, once; one that was ended does not."""
    changes = plugged(on_unsettled="charge_hold", hold_seconds=3)
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        await gw.open_account("acme", credit="10")
        service = Service(gw)
        body = {"account": "acme", "route": "rendering.create"}
        left = await service.hold(estimate={"megapixels": 5}, **body)
        settled, released, renewed = [await service.hold(amount="1", **body) for _ in range(2)] + [{}]
        await service.ask(f"/holds/{settled['id']}/settle", {"amount": "0.25"})
        await service.ask(f"/holds/{released['id']}/release", {})
        renewed = await service.hold(amount="1", **body)
        await service.ask(f"/holds/{renewed['id']}/renew", {"seconds": 60})
        assert [delivery.id for delivery in await gw.ledger.deliveries("acme")] == [
            f"unsettled:{each['hold']}" for each in (left, renewed)
        ]
        late = await service.hold(amount="2", **body)
        await asyncio.sleep(4)
        _, told = await service.ask(f"/holds/{late['id']}/release", {})
        assert told["released"] is False  # its time was over, and nothing was delivered: it is not charged
        assert await until(lambda: _has(gw, "9.25"), seconds=20)
        waiting = [delivery.id for delivery in await gw.ledger.deliveries("acme")]
        assert waiting == [f"unsettled:{renewed['hold']}"]
        (entry, *_) = await gw.ledger.entries("acme", newest_first=True)
        assert (entry.data["call_id"], entry.data["basis"], entry.data["late"]) == (left["hold"], "estimated", True)
        status, told = await service.ask(f"/holds/{left['id']}/settle", {"usage": {"megapixels": 1}})
        assert (status, told["code"]) == (409, "operation_conflict")
        assert {hold.id for hold in await gw.ledger.holds("acme")} == {renewed["hold"]}
        assert await gw.ledger.verify("acme") == []


async def test_while_the_ledger_is_away(tmp_path: Path, empty_redis: str) -> None:
    """Nothing is held, in either mode; what was held is settled from disk when the ledger is back, once."""
    changes = dict(plugged())

    def impatient(data: dict[str, Any]) -> None:
        plugged()["gateway.yaml"](data)
        data["redis"].update(command_seconds_max=0.3, connect_seconds_max=0.2)

    changes["gateway.yaml"] = impatient
    async with CuttingRelay(empty_redis) as relay, running(tmp_path, relay.url, changes=changes) as gw:
        key = await gw.open_account("acme", credit="10")
        service = Service(gw)
        hold = await service.hold(account="acme", product="rendering")
        await relay.stop()
        settle, used = f"/holds/{hold['id']}/settle", {"usage": {"megapixels": 3}}
        status, told = await service.ask(settle, used)
        assert (status, told["settled"], told["charged"], told["balance"]) == (200, False, "0.300000000", None)
        status, told = await service.ask("/holds", {"api_key": key, "product": "rendering"})
        assert (status, told["code"]) == (503, "ledger_unavailable")
        asked = {"X-Gateway-Token": TOKEN, "X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/v1/renderings"}
        away = await gw.call("GET", "/authz", key, headers=asked)
        assert (away.status, away.code, away.headers["Retry-After"]) == (503, "ledger_unavailable", "1")
        away = await gw.call("GET", "/authz?for=auth_request", key, headers=asked)
        assert (away.status, away.headers["X-Gateway-Status"]) == (403, "503")
        await relay.start()
        assert await until(lambda: _has(gw, "9.7"))
        status, told = await service.ask(settle, used)
        assert (status, told["settled"], told["charged"]) == (200, True, "0.300000000")
        assert await gw.balance("acme") == parse_usd("9.7")
        assert await gw.ledger.verify("acme") == []


async def _has(gw: Running, usd: str) -> bool:
    try:
        return await gw.balance("acme") == parse_usd(usd)
    except LedgerUnavailable:
        return False
