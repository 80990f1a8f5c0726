"""Jobs that are not over, on both pages and by both APIs: those that run, and those that wait with their place."""

from pathlib import Path
from typing import Any

from tests.harness import ADMIN_TOKEN, Running, running
from tests.pages.test_funds_pages import once_of
from tests.pages.visitor import Visitor
from tests.pipeline.helpers import submitted, without_rates


def one_place(data: dict[str, Any]) -> None:
    """One job at a time; two wait."""
    without_rates(data)
    data["tiers"]["payg"]["products"]["speech-to-text"] = {"concurrency": 1, "queued_max": 2}


async def shown(gw: Running, url: str, token: str) -> list[tuple[str, int | None]]:
    """Each job's state and place, by an API."""
    async with gw.http.get(url, headers={"Authorization": f"Bearer {token}"}) as reply:
        assert reply.status == 200
        return [(job["state"], job["place"]) for job in (await reply.json())["items"]]


async def test_who_waits_sees_its_place_and_ops_take_it_out(tmp_path: Path, empty_redis: str) -> None:
    """The first job runs, two wait; both sides see the same; one taken out of the queue moves the other up."""
    changes = {"config/tiers.yaml": one_place}
    async with (
        running(tmp_path, empty_redis, changes=changes) as gw,
        Visitor(gw.url + "/billing") as owner,
        Visitor(gw.ops_url + "/admin/ui") as operator,
    ):
        key = await gw.open_account("acme", name="Production")
        await owner.sign_in(key)
        assert "Jobs that are not over" not in await owner.see()
        for _ in range(3):
            await submitted(gw, key, knobs={"job_seconds": 60.0})
        waiting = [("open", None), ("queued", 1), ("queued", 2)]
        assert await shown(gw, f"{gw.url}/billing/v1/jobs", key) == waiting
        assert await shown(gw, f"{gw.ops_url}/admin/v1/accounts/acme/jobs", ADMIN_TOKEN) == waiting
        for path in ("", "/lately"):
            text = await owner.see(path)
            assert text.count("speech-to-text, Production") == 3
            assert text.index(" runs ") < text.index("waits, place 1") < text.index("waits, place 2")
        await operator.sign_in(ADMIN_TOKEN)
        text = await operator.see("/accounts/acme")
        assert "waits, place 2" in text and "Take it out of the queue" in text
        first = (await gw.ledger.queued("acme"))[0]
        job = {"once": once_of(operator), "kind": first.kind, "job": first.id, "how": "release", "sure": "yes"}
        assert "given back" in await operator.send("/accounts/acme/jobs", **job)
        assert "waits, place 1" in operator.text and "waits, place 2" not in operator.text
        assert await shown(gw, f"{gw.url}/billing/v1/jobs", key) == waiting[:2]
        other = await gw.open_account("other")
        assert await shown(gw, f"{gw.url}/billing/v1/jobs", other) == []
        foreign = await gw.call("GET", f"/billing/v1/jobs/{first.kind}/{first.id}", other)
        assert (foreign.status, foreign.code) == (404, "unknown_job")
