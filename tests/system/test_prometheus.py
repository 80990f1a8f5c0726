"""A real Prometheus scrapes a real gateway under load: every query of the dashboard and of the alerts has an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.panels import asked, draw, panels
from tests.docs.queries import RULES, alerts, queries, samples
from tests.pipeline.helpers import until, without_rates
from tests.system.processes import Served, World
from tests.system.prometheus import PROGRAM, Prometheus

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed (Debian: prometheus)"),
]
Asking = Callable[[str], Awaitable[list[Any]]]
TOKENS: Final[dict[str, Any]] = {"input_tokens": 1000, "output_tokens": 100}
#: Panels of what this load does not make.
QUIET: Final = {
    *("Do deliveries arrive?", "What becomes of payments?", "How long do jobs wait for their place?"),
    *("Which endpoints of a service take calls?", "What do the endpoints answer?"),
}
#: Alerts of counters of which there is none before the first.
SILENT: Final = {"PaymentsToLookAt", "DeliveriesDead", "QueueSlow", "EndpointAway"}


async def load(world: World, served: Served, keys: dict[str, str]) -> None:
    """Calls that are charged, estimated, refused, broken and unknown; a job with its polls; a session."""
    chats = [world.chat(served, keys["a"], **TOKENS) for _ in range(20)]
    chats += [world.chat(served, keys["poor"], **TOKENS), world.chat(served, "no-key-at-all", **TOKENS)]
    chats += [world.chat(served, keys["a"], usage="missing"), world.chat(served, keys["a"], status=500)]
    assert sorted(set(await asyncio.gather(*chats))) == [200, 400, 401, 500]
    headers = {"Authorization": keys["a"]}
    for path in ("/evil-path", "/v1/evil-path"):
        async with world.http.get(served.url + path, headers=headers) as response:
            assert response.status == 404
    body = {"audio_url": "https://example.com/a.wav?duration=60"}
    async with world.http.post(f"{served.url}/v2/transcript", json=body, headers=headers) as response:
        assert response.status == 200
    async with world.http.ws_connect(f"{served.url}/v3/ws?sample_rate=16000", headers=headers) as socket:
        await socket.receive()
        await socket.send_json({"type": "Terminate"})
        while not (await socket.receive()).type.name.startswith("CLOS"):
            pass


async def test_every_query_has_an_answer(tmp_path: Path, empty_redis: str) -> None:
    """The rules are well and wake nobody for refusals; panels show the load, by labels of the config and of ours alone,
    with ids of calls as exemplars; and they can be drawn."""
    async with World(tmp_path, empty_redis, {"config/tiers.yaml": without_rates}).opened() as world:
        served = await world.serve("one", workers=1)
        async with Prometheus(tmp_path / "prometheus", served, [RULES]) as prometheus:
            value, url = prometheus.value, prometheus.url
            keys = {name: await world.open_account(name, credit=usd) for name, usd in (("a", "10"), ("poor", "0"))}
            begun = await _until_scraped(value, 0)
            for _ in range(2):
                await load(world, served, keys)
                await _until_scraped(value, 20)
            looked = 'sum(gateway_job_looks_total{outcome="settled"})'
            assert await until(lambda: _at_least(value, looked, 1), 20)
            empty: set[str] = set()

            async def only_quiet_panels_are_empty() -> bool:  # a rate needs two scrapes
                answers = {whose: await value(query) for whose, query in queries().items()}
                titles = {panel.title for panel in panels()}
                empty.clear()
                empty.update(
                    title for title in titles if not all(v for whose, v in answers.items() if whose.startswith(title))
                )
                return empty == QUIET

            assert await until(only_quiet_panels_are_empty, 20), empty
            for name in sorted(alerts().keys() - SILENT):
                watched = alerts()[name]["expr"].split(">")[0].split("<")[0].split("==")[0].split(" unless")[0]
                assert await value(watched.partition(" and ")[0].rstrip()), name

            rules = (await asyncio.to_thread(partial(asked, url, "rules")))["groups"]
            assert [rule["name"] for group in rules for rule in group["rules"] if rule["health"] != "ok"] == []
            assert await prometheus.firing() <= {"ChargesEstimated"}

            told = await value('{job="gateway", __name__=~"gateway_.*"}')
            assert {each["metric"]["__name__"] for each in told} <= samples().keys()
            words = {word for each in told for word in each["metric"].values()}
            assert not {word for word in words if "evil" in word or word in keys.values() or word in keys}
            assert len(told) < 3000

            exemplars = await asyncio.to_thread(
                partial(
                    asked, url, "query_exemplars", query="gateway_call_seconds_bucket", start=begun, end=begun + 600
                )
            )
            assert all(len(each["labels"]["call_id"]) == 24 for one in exemplars for each in one["exemplars"])
            assert exemplars
            drawn = await asyncio.to_thread(partial(draw, url, start=begun, end=begun + 30, rate_seconds=10))
            assert drawn.count('class="t"') == len(panels())
            assert drawn.count("nothing happened") <= len(QUIET)


async def _until_scraped(value: Asking, calls: int) -> float:
    """Wait until so many calls more were scraped; the time of the scrape."""
    counted = "sum(gateway_calls_total) or vector(0)"
    before = 0.0 if not calls else float((await value(counted))[0]["value"][1])
    query = "up == 1" if not calls else f"({counted}) >= {before + 1}"
    found: list[Any] = []

    async def done() -> bool:
        found[:] = await value(query)
        return bool(found)

    assert await until(done)
    return float(found[0]["value"][0])


async def _at_least(value: Asking, query: str, least: float) -> bool:
    return bool(await value(f"{query} >= {least}"))
