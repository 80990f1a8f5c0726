"""What administrators did is in the audit log, by whatever way; and usage, on a real gateway."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.errors import LedgerUnavailable
from gateway.edge.api.admin_routes import ROUTES, AdminDesk
from gateway.edge.api.endpoints import Endpoint
from gateway.ledger.memory import MemoryLedger
from tests.cli.runtimes import make_runtime
from tests.edge.test_admin import Api, api, filled, serving, token
from tests.harness import ADMIN_TOKEN, Running
from tests.pipeline.helpers import chat

__all__ = ["api"]


async def test_every_route_that_changes_something_has_two_lines(api: Api) -> None:
    """Each deed is begun and ended in the log, with its actor, account, operation and outcome; readings are not."""
    await api.ok("POST", "/accounts", {"id": "acme"})
    before = len((await api.ok("GET", "/audit?limit=1000"))["items"])
    for route in ROUTES:
        headers = {"once": _name_for(route)} if route.changes else {}
        await api(route.method, filled(route.path), None if route.body is None else {"id": "x"}, **headers)
    lines = (await api.ok("GET", "/audit?limit=1000"))["items"]
    begun = {line["deed"]: line for line in lines if line["outcome"] == "begun"}
    ended = {line["deed"]: line for line in lines if line["outcome"] != "begun"}
    assert begun.keys() == ended.keys()
    assert len(lines) > before
    for line in lines:
        assert line["actor"] == "admin"
        assert line["action"] in {f"{route.method} {route.path}" for route in ROUTES if route.changes}
    released = next(line for line in ended.values() if "holds" in line["action"])
    assert (released["account"], released["about"], released["outcome"]) == ("acme", {"hold": "h"}, "done")
    assert released["operation"] == "admin:POST:/accounts/-account-/holds/-hold-/release"
    assert any(line["outcome"] == "unknown_job" for line in ended.values())


def _name_for(route: Endpoint[AdminDesk]) -> str:
    return f"{route.method}:{route.path}".replace("{", "-").replace("}", "-")


async def test_the_log_names_the_token_and_shows_no_secret() -> None:
    """The actor is the token's name; no body, secret or token is in any line."""
    tokens = (token("ci", {"admin"}, "ci-token"),)
    async with serving(MemoryLedger(lambda: 1), make_runtime(admin_tokens=tokens)) as api:
        bearer = {"Authorization": "Bearer ci-token"}
        await api.ok("POST", "/accounts", {"id": "acme"}, **bearer)
        key = await api.ok("POST", "/accounts/acme/keys", {"id": "k", "name": "private words"}, **bearer)
        text = str(await api.ok("GET", "/audit", **bearer))
        assert "'ci'" in text
        assert not any(secret in text for secret in ("ci-token", key["secret"], "private words"))
        page = await api.ok("GET", "/audit?account=acme&limit=1", **bearer)
        assert [line["action"] for line in page["items"]] == ["POST /accounts/{account}/keys"]
        assert page["next"] == page["items"][0]["id"]


class Unwritable(MemoryLedger):
    """A ledger whose log cannot be written."""

    async def audit(self, line: Any) -> None:
        raise LedgerUnavailable("the log")


async def test_what_cannot_be_noted_is_not_done() -> None:
    """Where the log does not answer, the deed is refused and nothing is changed."""
    ledger = Unwritable(lambda: 1)
    async with serving(ledger, make_runtime()) as api:
        assert await api.problem("POST", "/accounts", {"id": "acme"}) == (503, "ledger_unavailable")
        assert [account async for account in ledger.accounts()] == []


async def test_usage_is_told_by_day_product_key_and_project(gw: Running, tmp_path: Path) -> None:
    """What a call cost is in its row, by the API, as CSV and by the command line; the sum is what the account spent."""
    key = await gw.open_account("acme", tier="payg", credit="10")
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    base = f"{gw.ops_url}/admin/v1/accounts/acme"

    async def ask(method: str, path: str, body: Any = None) -> Any:
        async with gw.http.request(method, base + path, json=body, headers=headers) as reply:
            data = await reply.read()
            return data.decode() if reply.content_type == "text/csv" else orjson.loads(data)

    await ask("PATCH", "/keys/key-acme", {"project": "=sum"})
    for _ in range(2):
        assert (await chat(gw, key)).status == 200
    shown = await ask("GET", "/usage")
    (row,) = shown["items"]
    assert (row["key"], row["project"], row["calls"]) == ("key-acme", "=sum", 2)
    spent = (await ask("GET", "/credits"))["spent_this_month"]
    assert shown["total"] == {"calls": 2, "charged": spent}
    head, line = (await ask("GET", "/usage?format=csv")).splitlines()
    assert head == "day,product,key,project,calls,charged,currency"
    assert line.split(",")[3:] == ["'=sum", "2", spent, "USD"]
    for wrong in ("?since=x", "?since=2026-01-02&until=2026-01-01", "?since=2020-01-01", "?format=xml"):
        assert (await ask("GET", f"/usage{wrong}"))["status"] == 422, wrong
    newest = await ask("GET", "/entries?order=newest&limit=1")
    assert newest["items"][0]["kind"] == "charge"
    older = await ask("GET", f"/entries?order=newest&limit=10&after={newest['next']}")
    assert [one["kind"] for one in older["items"]] == ["charge", "grant"]

    def command(*words: str) -> str:
        arguments = [*words, "-c", str(tmp_path / "gateway.yaml")]
        return CliRunner().invoke(main, arguments, catch_exceptions=False).stdout

    assert f"2 calls, {spent} USD" in await asyncio.to_thread(command, "usage", "show", "acme")
    assert "'=sum,2," in await asyncio.to_thread(command, "usage", "show", "acme", "--csv")
    await asyncio.to_thread(command, "credits", "grant", "acme", "1", "--kind", "goodwill")
    listed = await asyncio.to_thread(command, "audit", "list", "--account", "acme", "--json")
    done, begun = orjson.loads(listed)["items"][:2]
    assert (done["outcome"], begun["outcome"], done["deed"]) == ("done", "begun", begun["deed"])
    assert done["actor"].startswith("cli:")
    assert done["action"].endswith("credits grant")
    assert (await gw.ledger.verify("acme")) == []
