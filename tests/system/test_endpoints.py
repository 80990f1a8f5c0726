"""An endpoint is drained by a reload, beside real processes."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from orjson import loads

from tests.pipeline.helpers import CHAT_PATH
from tests.pipeline.places import places
from tests.system.processes import World
from tests.system.test_config_commands import command

pytestmark = pytest.mark.system
TRANSCRIPTS = "/v2/transcript"
CHAT_AT = f"POST {CHAT_PATH}"


async def test_an_endpoint_drains_by_a_reload_and_operators_see_it(tmp_path: Path, empty_redis: str) -> None:
    """Its jobs are asked for there by the workers of the new config, nothing new is; `gateway upstreams` says so."""
    async with places(tmp_path / "places", empty_redis, "us-1", "us-2") as two:

        def both(data: dict[str, Any]) -> None:
            for upstream in data["upstreams"].values():
                del upstream["base_url"], upstream["credential"]
                upstream["endpoints"] = two.endpoints()

        async with World(tmp_path, empty_redis, {"gateway.yaml": both}).opened() as world:
            key = await world.open_account("a", credit="10")
            served = await world.serve("one")
            made: list[str] = []
            while len(two.asked(f"POST {TRANSCRIPTS}")) < 2:
                assert len(made) < 50, "of two with the same weight one gets nothing"
                body = {"audio_url": f"https://example.com/{len(made)}.wav?duration=60"}
                async with world.http.post(served.url + TRANSCRIPTS, json=body, headers={"Authorization": key}) as got:
                    assert got.status == 200
                    made.append((await got.json())["id"])

            def drain(data: dict[str, Any]) -> None:
                for upstream in data["upstreams"].values():
                    upstream["endpoints"]["us-1"]["drain"] = True

            world.change(served, drain)
            done = await command(served.directory / "gateway.yaml", "reload")
            assert (done.exit_code, "us-1.drain" in done.output) == (0, True), done.output
            before = two.asked(CHAT_AT)
            async with aiohttp.ClientSession() as fresh:
                for _ in range(8):
                    assert await world.chat(served, key, http=fresh) == 200
                for job in made:
                    async with fresh.get(f"{served.url}{TRANSCRIPTS}/{job}", headers={"Authorization": key}) as got:
                        assert (await got.json())["status"] == "completed"
            assert two.asked(CHAT_AT) == {**before, "us-2": 8}
            await world.charged_as_often("a", 8 + len(made))

            shown = await command(served.directory / "gateway.yaml", "upstreams", "--json")
            (gateway,) = loads(shown.output)["gateways"]
            rows = {(row["upstream"], row["endpoint"]): row for row in gateway["endpoints"]}
            assert len(rows) == 8 and gateway["workers"] == 1
            assert (rows["llm-gateway", "us-1"]["drain"], rows["llm-gateway", "us-1"]["workers_up"]) == (True, 0)
            assert (rows["llm-gateway", "us-2"]["region"], rows["llm-gateway", "us-2"]["workers_up"]) == ("us", 1)
            assert rows["llm-gateway", "us-2"]["asked"] == {"2xx": 8}
            told = await command(served.directory / "gateway.yaml", "upstreams")
            assert "drains" in told.output and "1 of 1 workers" in told.output and "credential" not in told.output
            metrics = await served.metrics()
            assert metrics['gateway_upstream_up{endpoint="us-1",upstream="llm-gateway"}'] == 0
            assert metrics['gateway_upstream_requests_total{endpoint="us-2",outcome="2xx",upstream="llm-gateway"}'] == 8
        two.check_credentials()
