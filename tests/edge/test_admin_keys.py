"""Keys by the admin API, on a real gateway: secrets with a checksum, rotation with an overlap, disabled at once."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.edge.keys import may_be_secret, new_secret, repeatable_secret
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.harness import ADMIN_TOKEN, Running
from tests.pipeline.helpers import chat
from tests.pipeline.sockets import begun, to_the_end


async def admin(gw: Running, method: str, path: str, body: Any, once: str = "") -> tuple[int, Any]:
    """Status and answer of the admin API."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", **({"Idempotency-Key": once} if once else {})}
    url = f"{gw.ops_url}/admin/v1/accounts/acme{path}"
    async with gw.http.request(method, url, json=body, headers=headers) as reply:
        return reply.status, await reply.json(content_type=None)


def test_a_secret_tells_a_misspelt_one() -> None:
    """Every single wrong, missing or swapped character is told; what was not made here may always be a secret."""
    for secret in (new_secret(), repeatable_secret("pepper", "acme", "op")):
        assert may_be_secret(secret)
        assert len(secret) == 53
        for place in range(4, len(secret)):
            other = "A" if secret[place] != "A" else "B"
            assert not may_be_secret(secret[:place] + other + secret[place + 1 :]), place
            assert not may_be_secret(secret[:place])
            swapped = secret[:place] + secret[place + 1 : place + 2] + secret[place] + secret[place + 2 :]
            assert swapped == secret or not may_be_secret(swapped)
        assert not may_be_secret(secret + "A")
    for text in ("gw_" + "x" * 43, "demo-paid-key", "", "gwk", "\udcff"):
        assert may_be_secret(text)
    assert not may_be_secret("gwk_\udcff")
    assert len({new_secret() for _ in range(100)}) == 100


async def test_a_misspelt_key_costs_no_look_into_the_ledger(gw: Running, empty_redis: str) -> None:
    """It is refused without a command; a key that was made before there were checksums is served."""
    old = await gw.open_account("acme", credit="1")
    _, made = await admin(gw, "POST", "/keys", {})
    assert [(await chat(gw, key)).status for key in (old, made["secret"])] == [200, 200]
    link = SingleLink(LinkSettings(url=empty_redis))
    await link.open()

    async def reads() -> int:
        stats = await link.call("INFO", "commandstats")
        assert isinstance(stats, bytes)
        (line,) = [line for line in stats.decode().splitlines() if line.startswith("cmdstat_get:")]
        return int(line.partition("calls=")[2].partition(",")[0])

    try:
        before = await reads()
        for number in range(10):
            wrong = made["secret"][:-1] + "-_0123456789"[number]
            if wrong != made["secret"]:
                assert (await chat(gw, wrong)).code == "unauthorized"
        assert await reads() == before
        assert (await chat(gw, "gw_" + "x" * 43)).code == "unauthorized"
        assert await reads() > before
    finally:
        await link.close()


async def test_a_key_is_rotated_with_an_overlap(gw: Running) -> None:
    """Both keys work until the old one's time; the new one may what the old one may; a repeat has the same secret.

    What names a time that is over, and is no repeat, is refused, and changes no key and makes none.
    """
    await gw.open_account("acme", credit="1")
    _, old = await admin(gw, "POST", "/keys", {"id": "k", "name": "app", "project": "p", "monthly_budget": "5"})
    until = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    status, new = await admin(gw, "POST", "/keys/k/rotate", {"old_until": until}, once="r1")
    assert (status, new["replaces"]) == (201, "k")
    assert [new[name] for name in ("name", "project", "monthly_budget")] == ["app", "p", "5.000000000"]
    assert (await admin(gw, "POST", "/keys/k/rotate", {"old_until": until}, once="r1"))[1] == new
    assert [(await chat(gw, key["secret"])).status for key in (old, new)] == [200, 200]
    await asyncio.sleep((datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds() + 0.1)
    assert (await chat(gw, old["secret"])).code == "key_disabled"
    assert (await chat(gw, new["secret"])).status == 200
    assert (await admin(gw, "POST", "/keys/k/rotate", {"old_until": until}, once="r1"))[1] == new  # whenever it comes
    keys = await gw.ledger.keys("acme")
    for method, path, wrong in (
        ("POST", "/keys", {"expires_at": until}),
        ("PATCH", f"/keys/{new['id']}", {"expires_at": until}),
        ("POST", f"/keys/{new['id']}/rotate", {"expires_at": until}),
        ("POST", f"/keys/{new['id']}/rotate", {"old_until": until}),
        ("POST", f"/keys/{new['id']}/rotate", {"old_until": "9999-01-01T00:00:00Z"}),  # none that is kept
    ):
        assert (await admin(gw, method, path, wrong, once="late"))[0] == 422
        assert (await admin(gw, method, path, wrong))[0] == 422
    assert await gw.ledger.keys("acme") == keys
    assert (await chat(gw, new["secret"])).status == 200
    status, last = await admin(gw, "POST", f"/keys/{new['id']}/rotate", {})
    assert (status, last["old_until"]) == (201, None)
    assert (await chat(gw, new["secret"])).code == "key_disabled"
    assert (await chat(gw, last["secret"])).status == 200
    assert (await admin(gw, "POST", "/keys/none/rotate", {}))[0] == 404
    assert (await admin(gw, "POST", "/keys", {"secret": "gwk_" + "x" * 49}))[0] == 422


async def test_a_key_that_is_disabled_ends_calls_and_sockets_at_once(gw: Running) -> None:
    """By the API: the next call is refused, and an open session is closed within two seconds."""
    key = await gw.open_account("acme", credit="1")
    socket = await begun(gw, key)
    assert (await admin(gw, "PATCH", "/keys/key-acme", {"disabled": True}))[0] == 200
    assert (await chat(gw, key)).code == "key_disabled"
    changed = time.monotonic()
    said, code = await to_the_end(socket)
    assert (code, time.monotonic() - changed < 2.0) == (1008, True)
    assert "disabled" in said[-1]["error"]


async def test_a_charge_is_given_back_by_its_entry(gw: Running) -> None:
    """All of it, once; the entry says why and which token; credit is there for the next call."""
    key = await gw.open_account("acme", credit="1")
    charge = (await chat(gw, key)).charge
    assert charge is not None and charge > 0
    entry = (await gw.ledger.entries("acme"))[-1]
    status, back = await admin(gw, "POST", "/refunds", {"entry": entry.id, "reason": "sorry"}, once="b")
    assert (status, back["refunds"], back["balance"]) == (201, entry.id, "1.000000000")
    assert (await admin(gw, "POST", "/refunds", {"entry": entry.id, "reason": "sorry"}, once="b"))[1] == back
    assert (await admin(gw, "POST", "/refunds", {"entry": entry.id, "reason": "sorry"}))[0] == 422
    said = (await gw.ledger.entries("acme"))[-1].data
    assert (said["reason"], said["actor"], said["refunds"]) == ("sorry", "admin", entry.id)
    assert await gw.ledger.verify("acme") == []
