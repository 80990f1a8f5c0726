"""Jobs that are no transcripts: a batch of LLM calls and a long-running understanding task, by YAML alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.harness import Running, running
from tests.pipeline.helpers import charges, until

PRODUCT = """
product: batches
title: Batches
upstream: batches
errors:
  body: {error: {message: "{message}", type: "{code}", param: null, code: "{code}"}}
models:
  asked: [request.model]
  ran: [reply.model, job.model]
  default: gpt-5.2
  unknown: gpt-5.2
  known: {gpt-5.2: gpt-5.2}
jobs:
  batch:
    id: reply.id
    status: reply.status
    completed: [completed, expired, cancelled]   # those that were answered by then are owed
    failed: [failed]
    look: /v1/batches/{id}
    look_first_seconds: 0.2
    look_seconds_max: 1
    unknown_usage: charge_nothing
    usage:
      input_tokens: {from: reply.usage.input_tokens, estimate: {default: 1000000}}
      output_tokens: {from: reply.usage.output_tokens, estimate: {default: 1000000}}
    charges:
      - {sku: "batch.{model}.input", quantity: input_tokens}
      - {sku: "batch.{model}.output", quantity: output_tokens}
  digest:
    id: reply.task.id
    status: reply.task.state
    completed: [done]
    failed: [failed]
    content: [reply.task.result.text, "reply.task.result.parts.*.text"]
    look: /v1/digests/{id}
    look_first_seconds: 0.2
    look_seconds_max: 1
    usage:
      audio_seconds: {from: reply.task.result.audio_seconds, estimate: {default: 3600}}
    charges:
      - {sku: understanding.summarization, quantity: audio_seconds}
routes:
  - name: batch.create
    match: POST /v1/batches
    meter: job
    job: batch
    free_fields: [input_file_id, endpoint, completion_window, model]
    sample:
      request: {model: gpt-5.2}
      reply: {id: b, status: completed, model: gpt-5.2, usage: {input_tokens: 1000000, output_tokens: 2000000}}
      charge: "14.875000000"
  - name: batch.get
    match: GET /v1/batches/{batch}
    requires: [{resource: batch, id: path.batch}]
    reports: batch
  - name: batch.cancel
    match: POST /v1/batches/{batch}/cancel
    requires: [{resource: batch, id: path.batch}]
  - name: batch.output
    match: GET /v1/batches/{batch}/output
    requires: [{resource: batch, id: path.batch}]
  - name: digest.create
    match: POST /v1/digests
    meter: job
    job: digest
    free_fields: [audio_url]
  - name: digest.get
    match: GET /v1/digests/{digest}
    requires: [{resource: digest, id: path.digest}]
    reports: digest
"""
USAGE = {"input_tokens": 1_000_000, "output_tokens": 2_000_000}


class Service:
    """Runs batches and digests. Each goes on until the test gives it another state."""

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.digests: dict[str, dict[str, Any]] = {}

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_post("/v1/batches", self.create_batch)
        app.router.add_get("/v1/batches/{id}", self.show_batch)
        app.router.add_post("/v1/batches/{id}/cancel", self.cancel_batch)
        app.router.add_get("/v1/batches/{id}/output", self.show_output)
        app.router.add_post("/v1/digests", self.create_digest)
        app.router.add_get("/v1/digests/{id}", self.show_digest)
        return app

    async def create_batch(self, request: web.Request) -> web.Response:
        """A batch, validating."""
        batch = {"id": f"batch_{len(self.batches)}", "status": "validating", "model": (await request.json())["model"]}
        self.batches[str(batch["id"])] = batch
        return web.json_response(batch)

    async def show_batch(self, request: web.Request) -> web.Response:
        """How it stands."""
        return web.json_response(self.batches[request.match_info["id"]])

    async def cancel_batch(self, request: web.Request) -> web.Response:
        """Cancelled at once; what was done by then is reported."""
        batch = self.batches[request.match_info["id"]]
        batch |= {"status": "cancelled", "usage": {"input_tokens": 10, "output_tokens": 20}}
        return web.json_response(batch)

    async def show_output(self, request: web.Request) -> web.Response:
        """Its results."""
        return web.Response(text='{"custom_id": "1"}\n', content_type="application/jsonl")

    async def create_digest(self, _request: web.Request) -> web.Response:
        """A digest, running."""
        digest = {"task": {"id": f"d{len(self.digests)}", "state": "running"}}
        self.digests[digest["task"]["id"]] = digest
        return web.json_response(digest, status=202)

    async def show_digest(self, request: web.Request) -> web.Response:
        """How it stands."""
        return web.json_response(self.digests[request.match_info["id"]])


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, str]]:
    """The service, and its address."""
    service = Service()
    runner = web.AppRunner(service.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield service, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def gateway(tmp_path: Path, empty_redis: str, service: tuple[Service, str]) -> AsyncIterator[Running]:
    """A gateway that sells both."""

    def upstreams(data: dict[str, Any]) -> None:
        data["upstreams"]["batches"] = {"base_url": service[1], "credential": "sandbox-service-key"}

    def prices(data: dict[str, Any]) -> None:
        data["price_lists"][0]["prices"] |= {
            "batch.gpt-5.2.input": {"per_1m_tokens": "0.875"},
            "batch.gpt-5.2.output": {"per_1m_tokens": "7"},
        }

    def tiers(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["products"]["batches"] = {"concurrency": 20}

    changes = {
        "gateway.yaml": upstreams,
        "config/products/batches.yaml": lambda data: data.update(yaml.safe_load(PRODUCT)),
        "config/prices.yaml": prices,
        "config/tiers.yaml": tiers,
    }
    async with running(tmp_path, empty_redis, changes=changes) as found:
        yield found


async def held(gw: Running) -> int:
    """What the account has in use."""
    return (await gw.ledger.account("a")).held


async def test_a_batch_that_nobody_polls_is_charged_when_it_ends(
    gateway: Running, service: tuple[Service, str]
) -> None:
    """Held from its creation on, charged once for its tokens by the gateway's own look; a poll charges nothing more."""
    key = await gateway.open_account("a", credit="100")
    made = await gateway.call("POST", "/v1/batches", key, json={"model": "gpt-5.2", "input_file_id": "f"})
    assert made.status == 200
    assert await held(gateway) == 7_875_000_000
    service[0].batches["batch_0"] |= {"status": "completed", "usage": USAGE}

    async def charged() -> bool:
        return await charges(gateway, "a") != []

    assert await until(charged)
    polled = await gateway.call("GET", "/v1/batches/batch_0", key)
    assert polled.json["status"] == "completed"
    assert [charge["amount"] for charge in await charges(gateway, "a")] == [14_875_000_000]
    assert await held(gateway) == 0


async def test_results_wait_for_the_end_and_a_cancelled_batch_costs_what_it_did(
    gateway: Running, service: tuple[Service, str]
) -> None:
    """Output is refused while the batch runs; after a cancel it is given, and charged before it leaves."""
    key = await gateway.open_account("a", credit="100")
    await gateway.call("POST", "/v1/batches", key, json={"model": "gpt-5.2", "input_file_id": "f"})
    early = await gateway.call("GET", "/v1/batches/batch_0/output", key)
    assert (early.status >= 400, early.code) == (True, "job_not_finished")
    await gateway.call("POST", "/v1/batches/batch_0/cancel", key)
    output = await gateway.call("GET", "/v1/batches/batch_0/output", key)
    assert output.status == 200
    # 10 x 0.875 / 1M + 20 x 7 / 1M dollars
    assert [charge["amount"] for charge in await charges(gateway, "a")] == [148_750]


async def test_a_failed_batch_and_a_foreign_one_cost_nothing(gateway: Running, service: tuple[Service, str]) -> None:
    """A failed batch gives its hold back, and another account cannot see it."""
    key = await gateway.open_account("a", credit="100")
    other = await gateway.open_account("b", credit="100")
    await gateway.call("POST", "/v1/batches", key, json={"model": "gpt-5.2", "input_file_id": "f"})
    assert (await gateway.call("GET", "/v1/batches/batch_0", other)).code == "not_found"
    service[0].batches["batch_0"]["status"] = "failed"
    assert (await gateway.call("GET", "/v1/batches/batch_0", key)).json["status"] == "failed"
    assert await charges(gateway, "a") == []
    assert await held(gateway) == 0


async def test_a_long_running_understanding_task_is_a_job(gateway: Running, service: tuple[Service, str]) -> None:
    """Its id, state and usage are nested, and its creation is a 202: charged once, polled from many places at once."""
    key = await gateway.open_account("a", credit="100")
    made = await gateway.call("POST", "/v1/digests", key, json={"audio_url": "https://example.com/a.wav"})
    assert made.status == 202
    assert await held(gateway) == 30_000_000
    service[0].digests["d0"] = {"task": {"id": "d0", "state": "done", "result": {"audio_seconds": 1800}}}
    polls = await asyncio.gather(*(gateway.call("GET", "/v1/digests/d0", key) for _ in range(10)))
    assert {poll.status for poll in polls} == {200}
    assert [charge["amount"] for charge in await charges(gateway, "a")] == [15_000_000]
    assert await gateway.ledger.verify("a") == []


async def test_a_result_under_a_status_that_is_new_is_paid(gateway: Running, service: tuple[Service, str]) -> None:
    """Whatever the service calls the end of a job: who gets the result has paid for it, once; a failure stays free."""
    result = {"audio_seconds": 1800, "text": "all of it"}
    endings = {
        "polled": ("finished", result),
        "looked": ("finished", result),
        "running": ("running", result),
        "parts": ("finished", {"audio_seconds": 1800, "parts": [{"text": ""}, {"text": "a part"}]}),
        "unreported": ("finished", {"text": "all of it"}),
        "failed": ("failed", result),
        "empty": ("finished", {"audio_seconds": 1800, "text": "", "parts": []}),
    }
    keys = {name: await gateway.open_account(name, credit="1") for name in endings}
    for name, key in keys.items():
        await gateway.call("POST", "/v1/digests", key, json={"audio_url": f"https://example.com/{name}.wav"})
    for number, (state, said) in enumerate(endings.values()):
        service[0].digests[f"d{number}"] = {"task": {"id": f"d{number}", "state": state, "result": said}}

    async def spent(name: str) -> list[int]:
        return [charge["amount"] for charge in await charges(gateway, name)]

    for number, name in enumerate(keys):
        if name != "looked":
            polled = await gateway.call("GET", f"/v1/digests/d{number}", keys[name])
            assert polled.json["task"]["state"] == endings[name][0]
    expected = {"polled": [15_000_000], "running": [15_000_000], "parts": [15_000_000], "unreported": [30_000_000]}
    expected |= {"failed": [], "empty": []}
    assert {name: await spent(name) for name in expected} == expected

    async def looked() -> bool:
        return await spent("looked") == [15_000_000]

    assert await until(looked), "the gateway's own look is paid alike"
    assert (await gateway.ledger.account("empty")).held == 30_000_000, "nothing was delivered, and nothing is over"
    assert [await gateway.ledger.verify(name) for name in keys] == [[]] * len(keys)
