"""Forward-auth, on a whole gateway: what a proxy of somebody else's is told of the calls that it asks about."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from gateway.core.errors import NO_CREDIT
from gateway.core.money import parse_usd
from tests.edge.plugged import READER, TOKEN, Service, plugged
from tests.harness import Got, Running, running


async def ask(
    gw: Running, key: str | None, target: str = "/v1/renderings", method: str = "POST", *, query: str = "",
    token: str = TOKEN, **headers: str,
) -> Got:  # fmt: skip
    """What a proxy asks, as Caddy and Traefik do; without its headers where the target is empty."""
    said = {"X-Forwarded-Method": method, "X-Forwarded-Uri": target} if target else {}
    if token:
        said["X-Gateway-Token"] = token
    return await gw.call("GET", f"/authz{query}", key, headers={**said, **headers})


async def end(gw: Running, hold: str, how: str, body: dict[str, Any]) -> Any:
    """What whoever served the call tells."""
    got = await gw.call("POST", f"/authz/{hold}/{how}", None, json=body, headers={"X-Gateway-Token": TOKEN})
    return got.json


async def test_a_call_passes_with_a_hold_that_is_settled(
    tmp_path: Path, empty_redis: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A call that costs is held by its original path, method and key; one that is free is let pass; each is judged."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("acme", credit="10")
        passed = await ask(gw, key)
        assert (passed.status, passed.body, passed.headers["X-Gateway-Account"]) == (200, b"", "acme")
        (hold,) = await gw.ledger.holds("acme")
        assert (hold.id, hold.amount) == (passed.headers["X-Gateway-Call-Id"], parse_usd("0.8"))
        settled = await end(gw, passed.headers["X-Gateway-Hold"], "settle", {"usage": {"megapixels": 2}})
        assert (settled["charged"], settled["hold"]) == ("0.200000000", hold.id)
        again = await end(gw, passed.headers["X-Gateway-Hold"], "settle", {"usage": {"megapixels": 2}})
        assert again == settled
        left = await ask(gw, f"Bearer {key}")
        assert (await end(gw, left.headers["X-Gateway-Hold"], "renew", {"seconds": 100}))["seconds"] == 100
        assert (await end(gw, left.headers["X-Gateway-Hold"], "release", {}))["released"] is True
        assert await gw.ledger.holds("acme") == []

        free = await ask(gw, key, method="GET", target="/v1/renderings?page=2")
        assert (free.status, "X-Gateway-Hold" in free.headers) == (200, False)
        # The service learns who asks, and is not to hear the rest of the client.
        assert (free.headers["X-Gateway-Account"], free.headers["X-Gateway-Key"]) == ("acme", "key-acme")
        assert free.headers["X-Envoy-Auth-Headers-To-Remove"] == "X-Gateway-Hold, X-Gateway-Hold-Seconds"
        public = await ask(gw, None, method="GET", target="/v1/models")
        assert (public.status, "X-Gateway-Account" in public.headers) == (200, False)
        assert "X-Gateway-Account, X-Gateway-Key" in public.headers["X-Envoy-Auth-Headers-To-Remove"]
        assert "X-Envoy-Auth-Headers-To-Remove" not in passed.headers
        # Proxied products as well, sockets not; an estimate is read of a body where the proxy sends one.
        chat = await ask(gw, key, "/v1/chat/completions")
        assert (chat.status, chat.headers["X-Gateway-Account"]) == (200, "acme")
        assert (await ask(gw, key, "/v3/ws", "GET")).code == "unsupported"
        with_body = await gw.call(
            "POST", "/authz/path/v1/renderings", key, json={"rush": True}, headers={"X-Gateway-Token": TOKEN}
        )
        assert with_body.status == 200
        settled = await end(gw, with_body.headers["X-Gateway-Hold"], "settle", {"usage": {"megapixels": 1}})
        assert settled["charged"] == "0.130000000"
        gold = await gw.call(
            "POST", "/authz/path/v1/renderings", key, json={"gold": 1}, headers={"X-Gateway-Token": TOKEN}
        )
        assert (gold.status, gold.code) == (400, "unpriced_field")
        assert await gw.ledger.verify("acme") == []
    told = [line for line in "".join(capfd.readouterr()).splitlines() if '"rendering.list"' in line]
    assert told and all('"method":"GET"' in line for line in told)  # the call's own method, not the question's


async def test_what_a_refused_call_is_told(tmp_path: Path, empty_redis: str) -> None:
    """Each refusal has the product's status and words; where a proxy passes on 401 and 403 alone, beside them."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        empty = await gw.open_account("empty", credit="0")
        free = await gw.open_account("free", tier="free")
        refused = await ask(gw, empty)
        assert (refused.status, refused.code, refused.json) == (400, "insufficient_credit", {"error": NO_CREDIT})
        refused = await ask(gw, empty, query="?for=auth_request")
        assert (refused.status, refused.code) == (403, "insufficient_credit")
        assert (await ask(gw, empty, query="/?for=auth_request")).status == 403
        assert (refused.headers["X-Gateway-Status"], refused.headers["X-Gateway-Body"]) == (
            "400", f'{{"error": "{NO_CREDIT}"}}',
        )  # fmt: skip
        refused = await ask(gw, free, query="?for=auth_request")
        assert (refused.status, refused.code, refused.headers["X-Gateway-Status"]) == (403, "not_entitled", "403")
        assert (await ask(gw, None, query="?for=auth_request")).status == 401
        assert [(await ask(gw, key)).code for key in (None, "nobody's", free)] == [
            "unauthorized", "unauthorized", "not_entitled",
        ]  # fmt: skip
        # A path that a service might read in another way than we do matches nothing.
        for target in (
            "/v1/nothing",
            "/v1//renderings",
            "/v1/x/../renderings",
            "/v1/%72enderings",
            "//v1/renderings",
            "/v1/renderings;x",
            "/V1/renderings",
        ):
            assert (await ask(gw, empty, target)).code == "route_not_found", target
            below = URL(f"{gw.url}/authz/path{target}", encoded=True)
            async with gw.http.post(below, headers={"Authorization": empty, "X-Gateway-Token": TOKEN}) as got:
                assert got.headers["X-Gateway-Error"] == "route_not_found", target
        assert (await ask(gw, empty, method="DELETE")).code == "method_not_allowed"
        assert (await ask(gw, empty, "renderings")).code == "invalid_request"
        assert (await ask(gw, empty, "")).code == "invalid_request"
        # With credit for two and a half, thirty calls at once hold no more than that, and no call is served twice.
        key = await gw.open_account("racer", credit="2")
        answers = await asyncio.gather(*(ask(gw, key) for _ in range(30)))
        holds = await gw.ledger.holds("racer")
        assert sum(hold.amount for hold in holds) == parse_usd("2")
        assert {hold.id for hold in holds} == {got.headers["X-Gateway-Call-Id"] for got in answers if got.status == 200}


async def test_only_proxies_of_ours_are_answered(tmp_path: Path, empty_redis: str) -> None:
    """Without a token of the scope, or a trusted address, nobody learns or ends anything."""
    async with running(tmp_path / "one", empty_redis, changes=plugged()) as gw:
        key = await gw.open_account("acme", credit="10")
        hold = (await Service(gw).hold(account="acme", product="rendering"))["id"]
        for token in ("", "nothing", READER):
            assert (await ask(gw, key, token=token)).code == "insufficient_scope"
            got = await gw.call(
                "POST", f"/authz/{hold}/release", key, json={},
                headers={"X-Gateway-Token": token, "X-Forwarded-For": "127.0.0.1"},
            )  # fmt: skip
            assert got.code == "insufficient_scope"
        assert len(await gw.ledger.holds("acme")) == 1
    trusting = plugged(trusted=["10.0.0.0/8", "127.0.0.1"], credit_api=False)
    async with running(tmp_path / "two", empty_redis, changes=trusting) as gw:
        assert (await ask(gw, key, token="")).status == 200
        assert (await ask(gw, key, token="nothing")).code == "insufficient_scope"
        assert (await Service(gw).ask("/holds", {}))[0] == 404
