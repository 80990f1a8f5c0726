"""Jobs by hand: the admin API and the command line list, show, settle and release them, by the scripts of traffic."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.money import parse_usd
from tests.harness import ADMIN_TOKEN, Running
from tests.pipeline.helpers import charges, finished, in_order, submitted, until

HOUR = parse_usd("0.21")


class Admin:
    """The admin API of a gateway, about the account `a`."""

    def __init__(self, gw: Running) -> None:
        self._gw = gw

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and data."""
        url = f"{self._gw.ops_url}/admin/accounts/a/jobs{path}"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self._gw.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)


async def command(directory: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of `gateway jobs ...` beside the running gateway."""
    arguments = ["jobs", *words, "-c", str(directory / "gateway.yaml")]
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout + result.stderr


def named(path: str) -> str:
    """A job's id, of its path."""
    return path.rpartition("/")[2]


async def test_what_is_open_is_listed_and_shown(gw: Running, tmp_path: Path) -> None:
    """Each open job with its hold and its next look; over, it is shown with its usage and not listed."""
    admin, key = Admin(gw), await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, 60, knobs={"job_seconds": 0.3})
    status, page = await admin("GET", "")
    (job,) = page["items"]
    assert (status, page["next"]) == (200, None)
    assert (job["kind"], job["id"], job["state"], job["product"]) == (
        "transcript",
        named(path),
        "open",
        "speech-to-text",
    )
    assert (job["held"], job["key"], job["gone_since"], job["usage"]) == ("0.210000000", "key-a", None, None)
    assert job["created_at"] < job["next_look_at"] < job["deadline_at"]
    code, text = await command(tmp_path, "list", "a")
    assert code == 0 and named(path) in text and "0.210000000" in text

    await finished(gw, key, path)
    assert (await admin("GET", ""))[1]["items"] == []
    assert await command(tmp_path, "list", "a") == (0, "no open jobs\n")
    status, job = await admin("GET", f"/transcript/{named(path)}")
    assert (status, job["state"], job["usage"]["audio_seconds"]) == (200, "settled", 60)
    code, text = await command(tmp_path, "show", "a", "transcript", named(path), "--json")
    assert (code, orjson.loads(text)) == (0, job)

    for wrong in ("/transcript/none", f"/upload/{named(path)}"):
        status, problem = await admin("GET", wrong)
        assert (status, problem["code"]) == (404, "unknown_job")
    code, text = await command(tmp_path, "show", "a", "transcript", "none")
    assert (code, text) == (1, "the account has no transcript none\n")


async def test_a_job_is_settled_by_hand(gw: Running, tmp_path: Path) -> None:
    """By what the service says now: running changes nothing, over is charged, once, by both ways of asking."""
    admin, key = Admin(gw), await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, knobs={"job_seconds": 3.0})
    status, done = await admin("POST", f"/transcript/{named(path)}/settle", {})
    assert (status, done["found"], done["charged"], done["job"]["state"]) == (200, "running", None, "open")
    assert await command(tmp_path, "settle", "a", "transcript", named(path)) == (0, "running: nothing charged\n")
    await gw.knobs(body="no_reply")
    assert (await admin("POST", f"/transcript/{named(path)}/settle", {}))[1]["found"] == "unreachable"
    await gw.knobs(body=None)

    async def is_over() -> bool:
        nonlocal status, done
        status, done = await admin("POST", f"/transcript/{named(path)}/settle", {})
        return bool(done["found"] != "running")

    assert await until(is_over)
    assert (status, done["found"], done["charged"], done["job"]["state"]) == (200, "settled", "0.210000000", "settled")
    status, done = await admin("POST", f"/transcript/{named(path)}/settle", {"charge_hold": True})
    assert (done["found"], done["charged"]) == ("settled", None)
    other = await submitted(gw, key)
    await asyncio.sleep(0.1)
    told = await command(tmp_path, "settle", "a", "transcript", named(other))
    assert told == (0, "settled: charged 0.210000000 USD\n")
    assert len(await charges(gw, "a")) == 2
    await in_order(gw, "a", balance=parse_usd("49.58"))


async def test_a_job_can_be_made_to_cost_its_hold(gw: Running, tmp_path: Path) -> None:
    """One that does not end: what was held, marked as estimated; its result is free then."""
    admin, key = Admin(gw), await gw.open_account("a", tier="free", credit="50")
    path = await submitted(gw, key, 60, knobs={"job_seconds": 3.0})
    status, done = await admin("POST", f"/transcript/{named(path)}/settle", {"charge_hold": True})
    assert (status, done["found"], done["charged"]) == (200, "settled", "0.210000000")
    (charge,) = await charges(gw, "a")
    assert charge["basis"] == "estimated"
    assert (await finished(gw, key, path)).charge is None
    code, text = await command(tmp_path, "settle", "a", "transcript", named(await submitted(gw, key)), "--charge-hold")
    assert code == 0 and text.startswith("settled: charged")
    assert (await admin("POST", f"/transcript/{named(path)}/settle", {"hold": 1}))[0] == 422


async def test_a_job_is_released_by_hand(gw: Running, tmp_path: Path) -> None:
    """Its credit is back at once and for good: nobody follows it, its result is free, a second time changes nothing."""
    admin, key = Admin(gw), await gw.open_account("a", tier="free", credit="50")
    paths = [await submitted(gw, key, knobs={"job_seconds": 0.5}) for _ in range(2)]
    status, done = await admin("POST", f"/transcript/{named(paths[0])}/release")
    assert (status, done["released"], done["job"]["state"]) == (200, True, "released")
    assert (await admin("POST", f"/transcript/{named(paths[0])}/release"))[1]["released"] is False
    assert await command(tmp_path, "release", "a", "transcript", named(paths[1])) == (
        0,
        f"released {named(paths[1])}\n",
    )
    again = await command(tmp_path, "release", "a", "transcript", named(paths[1]))
    assert again == (0, f"{named(paths[1])} is released: it ended before\n")
    assert (await finished(gw, key, paths[0])).charge is None
    assert not await charges(gw, "a") and not await gw.ledger.jobs("a")
    await in_order(gw, "a", balance=parse_usd("50"))
    assert (await admin("POST", f"/transcript/{named(paths[0])}/settle", {}))[1]["found"] == "released"


async def test_jobs_are_nobody_elses(gw: Running) -> None:
    """An account is asked for its own jobs only; one that is not there is unknown."""
    admin, key = Admin(gw), await gw.open_account("b", tier="free", credit="50")
    path = await submitted(gw, key)
    assert (await admin("GET", ""))[1]["code"] == "unknown_account"
    assert (await admin("POST", f"/transcript/{named(path)}/release"))[1]["code"] == "unknown_account"
    await gw.open_account("a")
    assert (await admin("POST", f"/transcript/{named(path)}/release"))[1]["code"] == "unknown_job"
