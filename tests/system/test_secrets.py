"""A run of everything that there is, by real processes, with secrets that can be recognised; then a search for each.

Logs, metrics, health, refusals, what the APIs, pages and commands answer, what Redis keeps, what is on disk, what is
exported, how a process was started: none has one, but where SECURITY.md says so.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.edge.api.admin_routes import ROUTES as ADMIN_ROUTES
from gateway.edge.api.admin_tokens import token_digest
from gateway.edge.api.billing_routes import ROUTES as BILLING_ROUTES
from gateway.edge.app import Gateway
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.fakes.collector import Collector
from tests.fakes.events import EventService
from tests.fakes.stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.fakes.upstream import RawClient, chunk, message
from tests.harness import ADMIN_TOKEN, Change, Got, Running
from tests.pages.visitor import Visitor
from tests.payments.shop import payments
from tests.pipeline.helpers import CHAT, CHAT_PATH, finished, sandbox, served_without_ledger, submitted, until
from tests.pipeline.hooks import Hooks, called_back
from tests.pipeline.sockets import AGENT, PRO, begun, connected, to_the_end
from tests.system.processes import Served, World
from tests.upstream.proxying import chat_bytes, get_bytes

pytestmark = pytest.mark.system
READER, SERVICE = "marker-of-a-readers-token", "marker-of-a-services-token"
WORDS = "marker-of-a-prompt"
#: name -> the secret. Those that are made during the run are added to it.
SECRETS = {
    "admin token": ADMIN_TOKEN,
    "reader's token": READER,
    "service's token": SERVICE,
    "next admin token": "marker-of-the-next-admin-token",
    "pepper": "test-pepper",
    "service credential": "sandbox-service-key",
    "Stripe's key": SECRET_KEY,
    "Stripe's webhook secret": WEBHOOK_SECRET,
    "forged signature": "marker-of-a-signature",
    "token of the events' service": "marker-of-an-events-token",
    "collector's key": "marker-of-a-collectors-key",
    "mail password": "marker-of-a-mail-password",
    "guessed key": "marker-of-a-guessed-key",
    "guessed admin token": "marker-of-a-guessed-token",
    "prompt": WORDS,
    "query": "marker-of-a-query",
    "path": "marker-of-a-path",
    "header": "marker-of-a-header",
    "cookie": "marker-of-a-cookie",
    "audio's URL": "marker-of-an-audio",
    "upload": "marker-of-an-upload",
    "frame": "marker-of-a-frame",
    "name of a call": "marker-of-an-idempotency-key",
    "webhook": "marker-of-a-webhook",
    "webhook's header": "marker-of-a-hook-header",
    "alert's hook": "marker-of-an-alert-hook",
    "broken bytes": "marker-of-broken-bytes",
}
#: What SECURITY.md says is kept in Redis: a webhook until its job is gone, whom an alert is told to.
OF_JOBS, OF_ALERTS = {"webhook", "webhook's header"}, {"alert's hook"}


class Told:
    """What was told, by where."""

    def __init__(self) -> None:
        self.said: dict[str, list[bytes]] = {}

    def note(self, where: str, *texts: bytes | str) -> None:
        """Somebody could read this there."""
        self.said.setdefault(where, []).extend(each.encode() if isinstance(each, str) else each for each in texts)

    def found(self, secrets: dict[str, str]) -> set[tuple[str, str]]:
        """Which secrets are where."""
        return {
            (where, name)
            for where, texts in self.said.items()
            for name, secret in secrets.items()
            if any(secret.encode() in text for text in texts)
        }


@dataclass
class Apart(Running):
    """A gateway of processes of their own, for the helpers of tests that have theirs at hand."""

    served: Served | None = None

    @property
    def url(self) -> str:
        assert self.served is not None, "it is served"
        return self.served.url

    @property
    def ops_url(self) -> str:
        assert self.served is not None, "it is served"
        return self.served.ops_url

    async def raw(self, data: bytes) -> bytes:
        """What is answered to these bytes, within a moment."""
        assert self.served is not None, "it is served"
        async with await RawClient.open(self.served.customers_port) as client:
            with suppress(TimeoutError, ConnectionError):
                await client.send(data)
                async with asyncio.timeout(0.5):
                    return await client.reader.read(-1)
        return b""


async def everything_in(redis_url: str) -> list[bytes]:
    """Every name and value of a Redis."""
    link = SingleLink(LinkSettings(url=redis_url, connect_seconds_max=10.0, command_seconds_max=10.0))
    await link.open()
    reads: dict[bytes, tuple[str, ...]] = {
        b"string": ("GET",), b"hash": ("HGETALL",), b"zset": ("ZRANGE", "0", "-1"), b"set": ("SMEMBERS",),
        b"list": ("LRANGE", "0", "-1"), b"stream": ("XRANGE", "-", "+"),
    }  # fmt: skip
    found: list[bytes] = []
    names: Any = await link.call("KEYS", "*")
    for name in names:
        kind: Any = await link.call("TYPE", name)
        if kind != b"none":  # its time was over meanwhile
            verb, *rest = reads[kind]
            found += [name, repr(await link.call(verb, name, *rest)).encode()]
    await link.close()
    return found


async def http_calls(gw: Apart, key: str, told: Told) -> None:
    """Calls that go well, and calls that are refused for every kind of reason."""
    chat = {**CHAT, "messages": [{"role": "user", "content": WORDS}]}
    fields = {"X-Some": SECRETS["header"], "Cookie": f"a={SECRETS['cookie']}", "User-Agent": SECRETS["header"]}
    query, named = f"?token={SECRETS['query']}", {"Idempotency-Key": SECRETS["name of a call"]}
    well = [
        await gw.call("POST", CHAT_PATH, key, json=chat, headers=fields),
        await gw.call("POST", CHAT_PATH, None, json=chat, headers={"x-api-key": key}),
        await gw.call("POST", CHAT_PATH, f"Token {key}", json=chat, headers={"traceparent": SECRETS["header"]}),
        await gw.call("POST", CHAT_PATH, f"Bearer {key}", json=chat, headers=named),
        await gw.call("POST", CHAT_PATH, f"Bearer {key}", json=chat, headers=named),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "stream": True}),
        await gw.call("GET", f"/v1/models{query}", None),
        await gw.call("POST", "/v2/upload", key, data=SECRETS["upload"].encode()),
        await gw.call("POST", "/v1/agents", key, json={"name": WORDS, "system_prompt": WORDS}),
    ]
    assert {each.status for each in well} <= {200, 201}, [each.body for each in well]
    guess = SECRETS["guessed key"]
    refused = [
        await gw.call("POST", CHAT_PATH, guess, json=chat),
        await gw.call("POST", CHAT_PATH, f"Basic {guess}", json=chat),
        await gw.call("POST", CHAT_PATH, f"Basic {key}", json=chat),
        await gw.call("POST", CHAT_PATH, f"Bearer {key} {guess}", json=chat),
        await gw.call("POST", f"{CHAT_PATH}?api_key={key}", None, json=chat, headers={"Cookie": f"key={key}"}),
        await gw.call("POST", CHAT_PATH, None, json=chat, headers={"X-Forwarded-For": key, "Referer": key}),
        await gw.call("GET", f"/v1/models/{key}", None, headers={"X-Auth-Token": key}),
        await gw.call("GET", f"/billing/v1/{key}?key={key}", None),
        await gw.call("GET", f"/billing/{key}", None),
        await gw.call("POST", CHAT_PATH, key, data=WORDS),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "model": {"a": WORDS}}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "max_tokens": WORDS}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "messages": [WORDS] * 9}, headers={
            **named, "Content-Encoding": "br"}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "user": "another"}, headers=named),
        await gw.call("POST", CHAT_PATH, key, json=chat, headers={"Idempotency-Key": f"{key} " * 40}),
        await gw.call("GET", f"/v2/transcript/{SECRETS['path']}{query}", key),
        await gw.call("DELETE", f"/v2/transcript/{SECRETS['path']}", key),
        await gw.call("GET", f"/{SECRETS['path']}{query}", key),
        await gw.call("PUT", f"/v1/models{query}", key),
        await gw.call("GET", f"/v3/ws{query}", key),
        await gw.call("POST", f"/callbacks/{SECRETS['path']}", None, data=WORDS),
        await gw.call("POST", "/billing/webhooks/stripe", None, data=WORDS, headers={
            "Stripe-Signature": f"t=1,v1={SECRETS['forged signature']}"}),
    ]  # fmt: skip
    await gw.knobs(fail_rate=1.0)
    refused.append(await gw.call("POST", CHAT_PATH, key, json=chat))
    await gw.knobs(fail_rate=0.0)
    assert sum(each.status >= 400 for each in refused) >= len(refused) - 2
    told.note("refusals", *(each.body + repr(each.headers).encode() for each in refused))


async def broken_calls(gw: Apart, key: str, told: Told) -> None:
    """What is no request, with keys and other words where none should be."""
    broken = SECRETS["broken bytes"]
    for data in (
        chat_bytes(key, f"X\x00: {broken}"),
        get_bytes(f"/v1/models?{broken}#{broken}"),
        get_bytes("/v1/models", f"X: {broken}\x01"),
        get_bytes("/v1/models", method=broken.upper() + key),
        get_bytes("/v1/models", version=f"1.1 {key}"),
        message("GET /v1/models HTTP/1.1", f"Host: {key}/{broken}", length=False),
        message(f"GET http://{key}@{broken}/v1/models HTTP/1.1", "Host: h", length=False),
        chat_bytes(key, "Transfer-Encoding: chunked", f"Transfer-Encoding: {broken}"),
        broken.encode() + key.encode() + b"\r\n\r\n",
        message("POST /v2/upload HTTP/1.1", "Host: h", f"Authorization: {key}", "Transfer-Encoding: chunked",
                length=False) + chunk(b"x") + broken.encode() + b"\r\n",
    ):  # fmt: skip
        told.note("refusals", await gw.raw(data))


async def jobs(gw: Apart, key: str, hooks: Hooks) -> str:
    """A job with a webhook that does not answer, whose result is asked for in every way. Its path."""
    hooks.answers["/" + SECRETS["webhook"]] = [500] * 50
    path = await submitted(
        gw, key, audio_url="https://example.com/" + SECRETS["audio's URL"] + ".wav?duration=60",
        webhook_url=hooks.url("/" + SECRETS["webhook"]), webhook_auth_header_name="X-Hook",
        webhook_auth_header_value=SECRETS["webhook's header"], redact_pii=True, redact_pii_audio=True,
    )  # fmt: skip
    await finished(gw, key, path)
    await hooks.hears("/" + SECRETS["webhook"], 2)  # the job, and its audio
    for below in ("", "/sentences", "/srt", f"/word-search?words={SECRETS['query']}", "/redacted-audio"):
        assert (await gw.call("GET", path + below, key)).status == 200, below
    task = {"translation": {"target_languages": ["de"]}}
    request = {"transcript_id": path.rpartition("/")[2], "speech_understanding": {"request": task}}
    assert (await gw.call("POST", "/v1/understanding", key, json=request)).status == 200
    return path


async def sessions(gw: Apart, key: str, told: Told) -> str:
    """A session by key, one by token, and ones that are refused. The token."""
    socket = await begun(gw, key, f"{PRO}&agent_context={SECRETS['query']}")
    await socket.send_json({"type": "UpdateConfiguration", "agent_context": SECRETS["frame"]})
    await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)
    token = str((await gw.call("GET", "/v3/token?expires_in_seconds=60", key)).json["token"])
    async with connected(gw, None, f"{PRO}&token={token}") as again:
        await again.send_json({"type": "Terminate"})
        await to_the_end(again)
    for path, guess, protocols in (
        (f"{PRO}&token={token}x", None, ()),
        (f"{PRO}&api_key={key}", None, (SECRETS["header"],)),
        (PRO, SECRETS["guessed key"], ()),
        (AGENT, SECRETS["guessed key"], ()),
    ):
        async with connected(gw, guess, path, protocols=protocols) as refused:
            said, _ = await to_the_end(refused)
            told.note("refusals", orjson.dumps(said), str(refused.close_code))
    async with connected(gw, key, AGENT) as agent:
        await agent.send_str(f'{{"type": "{SECRETS["frame"]}')
        await agent.close()
    return token


async def credit_calls(gw: Apart, key: str, told: Told) -> None:
    """Credit held and refused for a service that serves calls itself, and for a proxy that asks, by customers' keys."""

    async def ask(path: str, body: Any, token: str = SERVICE, **headers: str) -> int:
        sent = {"Authorization": f"Bearer {token}", **headers}
        async with gw.http.post(f"{gw.url}/credit/v1{path}", json=body, headers=sent) as reply:
            told.note("credit", await reply.read(), repr(dict(reply.headers)))
            return reply.status

    asked = {"api_key": key, "route": "chat.completions", "request": {**CHAT, "user": WORDS}}
    named = {"Idempotency-Key": SECRETS["name of a call"]}
    assert [await ask("/holds", asked, **named), await ask("/holds", asked, **named)] == [201, 201]
    refused = [
        await ask("/holds", {**asked, "api_key": SECRETS["guessed key"]}),
        await ask("/holds", {**asked, "api_key": {"a": key}, "amount": "x"}),
        await ask("/holds", [key, WORDS]),
        await ask(f"/holds/{key}/settle", {"usage": {"x": WORDS}}),
        await ask("/holds", asked, token=SECRETS["guessed admin token"]),
        await ask(f"/holds?token={SERVICE}", asked, token=key),
        await ask("/holds", asked, token=READER),
    ]
    assert min(refused) >= 400
    for target, sent in (
        (f"/v1/models?token={SECRETS['query']}", key),
        (f"/{SECRETS['path']}?key={key}", SECRETS["guessed key"]),
        (CHAT_PATH, SECRETS["guessed key"]),
        (f"{SECRETS['path']}{key}", f"Basic {key}"),
    ):
        original = {"X-Forwarded-Uri": target, "X-Forwarded-Method": "POST", "Authorization": sent}
        for token in (SERVICE, READER, SECRETS["guessed admin token"]):
            async with gw.http.get(f"{gw.url}/authz", headers={**original, "X-Gateway-Token": token}) as reply:
                told.note("credit", await reply.read(), repr(dict(reply.headers)))


class Operator:
    """Who asks the admin API."""

    def __init__(self, gw: Apart) -> None:
        self._gw = gw

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = ADMIN_TOKEN, **headers: str
    ) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        sent = {"Authorization": f"Bearer {token}", **headers}
        async with self._gw.http.request(method, self._gw.ops_url + path, headers=sent, json=body) as reply:
            return reply.status, await reply.read() + repr(dict(reply.headers)).encode()

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer that is none but good."""
        url, headers = self._gw.ops_url + path, {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self._gw.http.request(method, url, headers=headers, json=body) as reply:
            assert reply.status < 300, await reply.text()
            return await reply.json()


async def money(operator: Operator, stripe: FakeStripe, hooks: Hooks, told: Told) -> None:
    """Credit by hand, by a payment's page and by autopay's terms; an alert whose hook is told."""
    account = "/admin/v1/accounts/holder"
    await operator.ok("POST", f"{account}/grants", {"kind": "goodwill", "amount": "1", "note": "sorry"})
    entries = await operator.ok("GET", f"{account}/entries")
    call = next(entry["data"]["call_id"] for entry in entries["items"] if entry["kind"] == "charge")
    correction = {"amount": "-0.5", "reason": "a test", "call_id": call, "actor": "us"}
    await operator.ok("POST", f"{account}/corrections", correction)
    to = [{"type": "slack", "url": hooks.url("/" + SECRETS["alert's hook"])}]
    alert = await operator.ok("PUT", f"{account}/alerts/low", {"kind": "balance_below", "amount": "1000", "to": to})
    told.note("admin", orjson.dumps(alert))
    await hooks.hears("/" + SECRETS["alert's hook"])
    page = await operator.ok("POST", f"{account}/funds", {"amount": "41"})
    await stripe.pay_checkout(page["url"])
    await stripe.told()
    await operator.ok("PATCH", f"{account}/autopay", {"enabled": True, "threshold": "1", "target": "20"})


async def admin_calls(gw: Apart, told: Told, job: str) -> str:
    """Everything that the admin API shows, and what it refuses. A key that it made, told once."""
    operator, parts = Operator(gw), {"account": "holder", "key": "key-holder", "kind": "transcript", "job": job}
    made = await operator.ok("POST", "/admin/v1/accounts/holder/keys", {"id": "second"})
    asked = {path: [await operator.ask("GET", path)] for path in ("/metrics", "/healthz", "/readyz")}
    open_metrics = await operator.ask("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    told.note("metrics", open_metrics[1], *(body for ((_, body),) in asked.values()))
    shown = 0
    for route in ADMIN_ROUTES:
        path = "/admin/v1" + route.path.format_map(
            {**parts, "hold": "h", "delivery": "d", "alert": "low", "grant": "g"}
        )
        if route.method == "GET":
            status, body = await operator.ask("GET", path)
            told.note("admin", body)
            shown += status == 200
        odd = {"nonsense": SECRETS["guessed key"], "amount": SECRETS["guessed key"], "note": SECRETS["header"]}
        for refusal in (
            await operator.ask(route.method, path, None, token=SECRETS["guessed admin token"]),
            await operator.ask("PUT", path + SECRETS["path"], odd, token=READER),
            await operator.ask(
                route.method, f"{path}?token={SECRETS['query']}&limit={SECRETS['query']}", odd, token=READER
            ),
        ):
            told.note("admin's refusals", *([refusal[1]] if refusal[0] >= 400 else []))
    assert shown >= 15
    for refusal in (
        await operator.ask("POST", "/admin/v1/accounts/holder/keys", {"nonsense": SECRETS["guessed key"]}),
        await operator.ask("POST", "/admin/v1/accounts", {"id": "x", "key": SECRETS["guessed key"]}),
        await operator.ask("GET", f"/admin/v1/accounts?token={ADMIN_TOKEN}", token=""),
        await operator.ask("GET", f"/{ADMIN_TOKEN}", token=""),
    ):
        assert refusal[0] >= 400
        told.note("admin's refusals", refusal[1])
    return str(made["secret"])


async def pages(gw: Apart, key: str, told: Told) -> dict[str, str]:
    """Every page of both sites, signed in to with what is good and what is not. The visits' cookies."""
    visits = {}
    sites = {
        "billing": (gw.url + "/billing", key, ("", "/live", "/charges", "/keys", "/prices", "/funds")),
        "ops": (gw.ops_url + "/admin/ui", ADMIN_TOKEN,
                ("", "/refusals", "/audit", "/config", "/accounts/holder", f"/accounts/{SECRETS['path']}")),
    }  # fmt: skip
    for site, (url, secret, below) in sites.items():
        async with Visitor(url) as visitor:
            for tried in (SECRETS["guessed key"], secret):
                await visitor.sign_in(tried)
                visitor.headers.pop("Set-Cookie", None)  # its own browser is given it
                told.note("pages", visitor.html, repr(visitor.headers))
            visits[f"{site} visit"] = visitor.cookie
            for page in below:
                await visitor.see(page)
                assert visitor.status == 200 or SECRETS["path"] in page, page
                told.note("pages", visitor.html)
    for route in BILLING_ROUTES:
        if route.method == "GET":
            got = await gw.call("GET", f"/billing/v1{route.path}", key)
            told.note("pages", got.body)
    return visits


async def without_ledger(gw: Apart, key: str, redis_url: str, spool: Path, told: Told) -> None:
    """Calls while Redis says nothing: what waits on disk meanwhile."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    await link.call("CLIENT", "PAUSE", "1500", "ALL")
    chat = {**CHAT, "messages": [{"role": "user", "content": WORDS}]}
    got: list[Got] = await asyncio.gather(*(gw.call("POST", CHAT_PATH, key, json=chat) for _ in range(3)))
    assert [each.status for each in got] == [200] * 3
    told.note("spool", *(path.read_bytes() for path in spool.rglob("*") if path.is_file()))
    await link.close()


async def commands(world: World, served: Served, told: Told) -> None:
    """What the command line prints, also of a config with other secrets that is taken up."""
    config = str(served.directory / "gateway.yaml")

    async def run(*words: str) -> None:
        result = await asyncio.to_thread(CliRunner().invoke, main, [*words, "-c", config], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told.note("commands", result.output, result.stderr)

    for words in (
        "accounts show holder",
        "keys list holder",
        "credits show holder",
        "ledger verify",
        "check",
        "audit list",
    ):
        await run(*words.split())

    def changed(data: dict[str, Any]) -> None:
        data["admin_token"] = SECRETS["next admin token"]
        data["admin_tokens"] = []

    world.change(served, changed)
    await run("check", "--diff")
    await run("reload", "--json")


def config_of(stripe: FakeStripe, events: EventService, spans: Collector, files: Path) -> Mapping[str, Change]:
    """Everything switched on that can be without a server of its own."""
    of_calls = called_back()

    def change(data: dict[str, Any]) -> None:
        of_calls["gateway.yaml"](data)
        payments(stripe)(data)
        data["log"] = {"level": "debug"}
        data["redis"] |= {"command_seconds_max": 0.4}
        data["admin_tokens"] = [
            {"name": "reader", "scopes": ["read"], "sha256": token_digest(READER)},
            {"name": "service", "scopes": ["credit"], "sha256": token_digest(SERVICE)},
        ]
        data["plug_in"] = {"credit_api": True, "forward_auth": True}
        data["alerts"] = {"smtp": {"host": "127.0.0.1", "port": 9, "security": "tls", "sender": "a@gw.example",
                                   "username": "us", "password": SECRETS["mail password"]}}  # fmt: skip
        otlp = {"url": spans.url, "headers": {"X-Collector-Key": SECRETS["collector's key"]}}
        data["tracing"] = {"otlp": otlp, "sample": 1}
        data["export"] = {
            "jsonl": {"directory": str(files)},
            "cloudevents": {"url": events.url, "bearer_token": SECRETS["token of the events' service"]},
        }

    return {**of_calls, "gateway.yaml": change, "config/products/llm-gateway.yaml": served_without_ledger("5")}


async def everything(world: World, told: Told, secrets: dict[str, str], stripe: FakeStripe, hooks: Hooks) -> Served:
    """The whole round; the gateway that it was made with."""
    served = await world.serve("one")
    gateway = cast("Gateway", None)
    gw = Apart(gateway, world.runtime, world.ledger, world.sandbox, world.http, served=served)
    stripe.webhook_url = f"{served.url}/billing/webhooks/stripe"
    secrets["key"] = key = await world.open_account("holder", tier="payg", credit="50")
    await http_calls(gw, key, told)
    await broken_calls(gw, key, told)
    secrets["token"] = await sessions(gw, key, told)
    path = await jobs(gw, key, hooks)
    await credit_calls(gw, key, told)
    await money(Operator(gw), stripe, hooks, told)
    secrets |= await pages(gw, key, told)
    secrets["new key"] = await admin_calls(gw, told, path.rpartition("/")[2])
    await without_ledger(gw, key, world.redis_url, served.directory / "spool", told)
    told.note("Redis", *await everything_in(world.redis_url))
    assert told.found({name: secrets[name] for name in OF_JOBS}) == {("Redis", name) for name in OF_JOBS}
    assert (await gw.call("DELETE", path, key, headers=sandbox())).status == 200
    await commands(world, served, told)
    return served


async def test_no_secret_is_told(tmp_path: Path, empty_redis: str) -> None:
    """Calls, streams, sessions, jobs, money, pages, administration, a ledger that is away, refusals of all: nothing is
    where it should not be, and what is kept is what is said to be kept.
    """
    told, secrets, files = Told(), dict(SECRETS), tmp_path / "exported"
    async with FakeStripe() as stripe, Hooks() as hooks, EventService() as events, Collector() as spans:
        async with World(tmp_path / "world", empty_redis, config_of(stripe, events, spans, files)).opened() as world:
            served = await everything(world, told, secrets, stripe, hooks)
            for pid in (served.process.pid, *served.workers):
                told.note("processes", Path(f"/proc/{pid}/cmdline").read_bytes())
            assert await until(partial(_exported, events, files), 20)
            assert await served.end() == 0
            told.note("Redis", *await everything_in(empty_redis))
        told.note("spans", *spans.bodies)
        told.note("exported", orjson.dumps(events.events), *(path.read_bytes() for path in files.iterdir()))
    told.note("logs", (served.directory / "stdout").read_bytes(), served.errors)
    for path in (served.directory / "spool").rglob("*"):
        told.note("disk", str(path), *([path.read_bytes()] if path.is_file() else []))
    logged = told.said["logs"][0]
    assert logged.count(b'"event":"call"') > 30 and b'"event":"session"' in logged and b'"event":"reloaded"' in logged
    assert b'"event":"spooled"' in logged and any(b"holder" in text for text in told.said["spool"])
    places = {"logs", "metrics", "refusals", "admin", "admin's refusals", "pages", "Redis", "exported", "commands"}
    places |= {"credit", "spool", "spans", "processes"}
    assert {place for place, texts in told.said.items() if any(texts)} >= places
    assert told.found(secrets) == {("Redis", name) for name in OF_JOBS | OF_ALERTS}


async def _exported(events: EventService, files: Path) -> bool:
    return len(events.events) > 10 and any(path.stat().st_size for path in files.iterdir())
