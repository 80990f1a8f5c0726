"""Deliveries by hand: the admin API and the command line list, show and replay them, and tell no secret of theirs."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from gateway.cli import main
from tests.harness import ADMIN_TOKEN, Running

PAYLOAD = {
    "kind": "test", "url": "https://hooks.example.com:8443/secret-path?secret=query", "secret": "whsec_secret",
    "headers": {"authorization": "secret"}, "status": 3, "body": "secret",
}  # fmt: skip


async def test_deliveries_are_listed_shown_and_replayed(gw: Running, tmp_path: Path) -> None:
    """Those that wait and dead letters; a channel that nobody serves stays; replayed, a dead letter waits again."""
    await gw.open_account("a", tier="free", credit="50")

    async def admin(method: str, path: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with gw.http.request(method, f"{gw.ops_url}/admin/accounts/a/{path}", headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def command(*words: str) -> tuple[int, str]:
        arguments = ["outbox", *words, "-c", str(tmp_path / "gateway.yaml")]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, catch_exceptions=False)
        return result.exit_code, result.stdout + result.stderr

    await gw.ledger.post(account="a", delivery_id="alert:low:1", channel="unserved", payload=PAYLOAD, seconds=60)
    status, page = await admin("GET", "deliveries")
    (waiting,) = page["items"]
    assert (status, waiting["id"], waiting["state"], waiting["died_at"]) == (200, "alert:low:1", "waiting", None)
    status, shown = await admin("GET", "deliveries/alert:low:1")
    assert shown["payload"] == {
        "kind": "test", "url": "https://hooks.example.com", "secret": "(hidden)", "headers": "(hidden)", "status": 3,
        "body": "(hidden)",
    }  # fmt: skip
    code, text = await command("show", "a", "alert:low:1")
    assert code == 0 and "hooks.example.com" in text and "secret-path" not in text and "whsec" not in text
    assert await admin("POST", "deliveries/alert:low:1/replay") == (
        200,
        {"account": "a", "id": "alert:low:1", "replayed": False},
    )

    await gw.ledger.bury(account="a", delivery_id="alert:low:1", why="answered 410")
    assert (await admin("GET", "deliveries"))[1]["items"] == []
    (dead,) = (await admin("GET", "dead-letters"))[1]["items"]
    assert (dead["state"], dead["why"], dead["attempts"], dead["due_at"]) == ("dead", "answered 410", 1, None)
    code, text = await command("dead", "a")
    assert code == 0 and "answered 410" in text
    assert await command("replay", "a", "alert:low:1") == (0, "alert:low:1 is delivered again\n")
    code, text = await command("replay", "a", "alert:low:1")
    assert code == 1 and "nothing to deliver" in text
    code, text = await command("dead", "a", "--json")
    assert orjson.loads(text)["items"] == []
    code, text = await command("list", "a")
    assert code == 0 and "alert:low:1" in text

    status, problem = await admin("GET", "deliveries/none")
    assert (status, problem["code"]) == (404, "unknown_delivery")
    code, text = await command("show", "a", "none")
    assert (code, text) == (1, "the account has no delivery 'none' that waits or was given up\n")
    async with gw.http.get(f"{gw.ops_url}/metrics") as response:
        assert "gateway_delivery_lag_seconds" in await response.text()


async def test_alerts_by_the_command_line(gw: Running, tmp_path: Path) -> None:
    """Set, listed, tested, dropped; what is wrong is told; a secret is shown once."""
    await gw.open_account("a", tier="free", credit="50")

    async def command(*words: str) -> tuple[int, str]:
        arguments = ["alerts", *words, "-c", str(tmp_path / "gateway.yaml")]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, catch_exceptions=False)
        return result.exit_code, result.stdout + result.stderr

    hook = "https://hooks.example.com/t0ken"
    low = ("set", "a", "low", "--kind", "balance_below", "--amount", "25", "--webhook", hook)
    code, text = await command(*low[:-2])
    assert code == 2 and "--webhook, --slack or --email" in text
    code, text = await command(*low)
    assert code == 0 and "whsec_" in text and "25.000000000 $" in text and "t0ken" not in text
    code, text = await command(*low)
    assert code == 0 and "whsec_" not in text
    code, text = await command("list", "a")
    assert code == 0 and "https://hooks.example.com/..." in text
    code, text = await command("test", "a", "low")
    assert code == 0 and text.startswith("posted as alert:low:test-")
    for wrong, said in (
        (("set", "a", "low", "--kind", "balance_below", "--days", "3", "--slack", hook), "needs amount"),
        (("set", "a", "low", "--kind", "key_budget", "--percent", "80", "--email", "a@b.example"), "no mails are sent"),
        (("set", "a", "Low", *low[3:]), "the id of an alert"),
        (("test", "a", "none"), "the account has no alert 'none'"),
    ):
        code, text = await command(*wrong)
        assert code == 1 and said in text, text
    assert await command("drop", "a", "low") == (0, "low is gone\n")
    assert await command("list", "a") == (0, "no alerts\n")
