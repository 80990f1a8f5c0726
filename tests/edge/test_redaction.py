"""A run of everything that there is, with secrets that can be recognised, and then a search for each of them.

Logs, metrics, health, refusals, the admin API's answers, what Redis keeps and what is on disk: none has one, but where
SECURITY.md says so.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.ledger.link import LinkSettings, SingleLink
from tests.fakes.upstream import chunk, message
from tests.harness import ADMIN_TOKEN, Got, Running, running
from tests.pages.visitor import Visitor
from tests.pipeline.helpers import CHAT, CHAT_PATH, finished, submitted
from tests.pipeline.hooks import Hooks, called_back
from tests.pipeline.sockets import AGENT, PRO, begun, connected, to_the_end
from tests.upstream.proxying import chat_bytes, get_bytes, opened

WORDS = "marker-of-a-prompt"
#: name -> the secret. Those that are made during the run are added to it.
SECRETS = {
    "admin token": ADMIN_TOKEN,
    "pepper": "test-pepper",
    "service credential": "sandbox-service-key",
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
    "broken bytes": "marker-of-broken-bytes",
}
#: What SECURITY.md says is kept in Redis: a webhook until its job is gone.
KEPT = {"webhook", "webhook's header"}


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


async def everything_in(redis_url: str) -> list[bytes]:
    """Every name and value of a Redis."""
    link = SingleLink(LinkSettings(url=redis_url))
    await link.open()
    reads: dict[bytes, tuple[str, ...]] = {
        b"string": ("GET",), b"hash": ("HGETALL",), b"zset": ("ZRANGE", "0", "-1"), b"set": ("SMEMBERS",),
        b"list": ("LRANGE", "0", "-1"), b"stream": ("XRANGE", "-", "+"),
    }  # fmt: skip
    found: list[bytes] = []
    names: Any = await link.call("KEYS", "*")
    for name in names:
        kind: Any = await link.call("TYPE", name)
        verb, *rest = reads[kind]
        found += [name, repr(await link.call(verb, name, *rest)).encode()]
    await link.close()
    return found


async def http_calls(gw: Running, key: str, told: Told) -> list[Got]:
    """Calls that go well, and calls that are refused for every kind of reason."""
    chat = {**CHAT, "messages": [{"role": "user", "content": WORDS}]}
    fields = {"X-Some": SECRETS["header"], "Cookie": f"a={SECRETS['cookie']}"}
    query, named = f"?token={SECRETS['query']}", {"Idempotency-Key": SECRETS["name of a call"]}
    well = [
        await gw.call("POST", CHAT_PATH, key, json=chat, headers=fields),
        await gw.call("POST", CHAT_PATH, f"Bearer {key}", json=chat, headers=named),
        await gw.call("POST", CHAT_PATH, f"Bearer {key}", json=chat, headers=named),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "stream": True}),
        await gw.call("GET", f"/v1/models{query}", None),
        await gw.call("POST", "/v2/upload", key, data=SECRETS["upload"].encode()),
    ]
    assert [each.status for each in well] == [200] * 6
    guess = SECRETS["guessed key"]
    refused = [
        await gw.call("POST", CHAT_PATH, guess, json=chat),
        await gw.call("POST", CHAT_PATH, f"Basic {guess}", json=chat),
        await gw.call("POST", CHAT_PATH, key, data=WORDS),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "model": {"a": WORDS}}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "max_tokens": WORDS}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "messages": [WORDS] * 9}, headers={
            **named, "Content-Encoding": "br"}),
        await gw.call("POST", CHAT_PATH, key, json={**chat, "user": "another"}, headers=named),
        await gw.call("GET", f"/v2/transcript/{SECRETS['path']}{query}", key),
        await gw.call("DELETE", f"/v2/transcript/{SECRETS['path']}", key),
        await gw.call("GET", f"/{SECRETS['path']}{query}", key),
        await gw.call("PUT", f"/v1/models{query}", key),
        await gw.call("GET", f"/v3/ws{query}", key),
        await gw.call("POST", f"/callbacks/{SECRETS['path']}", None, data=WORDS),
    ]  # fmt: skip
    await gw.knobs(fail_rate=1.0)
    refused.append(await gw.call("POST", CHAT_PATH, key, json=chat))
    await gw.knobs(fail_rate=0.0)
    told.note("refusals", *(each.body + repr(each.headers).encode() for each in refused if each.status >= 400))
    broken = SECRETS["broken bytes"]
    for data in (
        chat_bytes(key, f"X\x00: {broken}"),
        get_bytes(f"/v1/models?{broken}#{broken}"),
        get_bytes("/v1/models", f"X: {broken}\x01"),
        broken.encode() + b"\r\n\r\n",
        message("POST /v2/upload HTTP/1.1", "Host: h", f"Authorization: {key}", "Transfer-Encoding: chunked",
                length=False) + chunk(b"x") + broken.encode() + b"\r\n",
    ):  # fmt: skip
        async with await opened(gw) as client:
            await client.send(data)
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(1):
                    told.note("refusals", await client.reader.read(-1))
    return well


async def sessions(gw: Running, key: str, told: Told) -> str:
    """A session by key, one by token, and ones that are refused. The token."""
    socket = await begun(gw, key, f"{PRO}&agent_context={SECRETS['query']}")
    await socket.send_json({"type": "UpdateConfiguration", "agent_context": SECRETS["frame"]})
    await socket.send_json({"type": "Terminate"})
    await to_the_end(socket)
    token = str((await gw.call("GET", "/v3/token?expires_in_seconds=60", key)).json["token"])
    async with connected(gw, None, f"{PRO}&token={token}") as again:
        await again.send_json({"type": "Terminate"})
        await to_the_end(again)
    for path, guess in (
        (f"{PRO}&token={token}x", None),
        (PRO, SECRETS["guessed key"]),
        (AGENT, SECRETS["guessed key"]),
    ):
        async with connected(gw, guess, path) as refused:
            said, _ = await to_the_end(refused)
            told.note("refusals", orjson.dumps(said), str(refused.close_code))
    return token


async def admin_calls(gw: Running, told: Told, job: str) -> str:
    """Everything that the admin API shows, and what it refuses. A key that it made, told once."""

    async def ask(method: str, path: str, token: str = ADMIN_TOKEN, body: Any = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"}
        async with gw.http.request(method, gw.ops_url + path, headers=headers, json=body) as reply:
            return reply.status, await reply.read()

    status, made = await ask("POST", "/admin/accounts/a/keys", body={"id": "second"})
    assert status == 201
    shown = [
        "/admin/accounts", "/admin/accounts/a", "/admin/accounts/a/keys", "/admin/accounts/a/grants",
        "/admin/accounts/a/credits", "/admin/accounts/a/autopay", "/admin/accounts/a/holds", "/admin/accounts/a/jobs",
        f"/admin/accounts/a/jobs/transcript/{job}", "/admin/accounts/a/deliveries", "/admin/accounts/a/dead-letters",
        "/admin/accounts/a/entries",
    ]  # fmt: skip
    for path in shown:
        status, body = await ask("GET", path)
        assert status == 200, path
        told.note("admin", body)
    for method, path, token, sent in (
        ("GET", "/admin/accounts", SECRETS["guessed admin token"], None),
        ("GET", f"/admin/accounts/nobody?{SECRETS['query']}", ADMIN_TOKEN, None),
        ("POST", "/admin/accounts/a/grants", ADMIN_TOKEN, {"amount": "1", "key": SECRETS["guessed key"]}),
        ("POST", "/admin/accounts/a/keys", ADMIN_TOKEN, {"nonsense": SECRETS["guessed key"]}),
        ("POST", f"/admin/{SECRETS['path']}?{SECRETS['query']}", ADMIN_TOKEN, None),
    ):
        status, body = await ask(method, path, token, sent)
        assert status >= 400
        told.note("admin's refusals", body)
    for path in ("/metrics", "/healthz", "/readyz"):
        told.note("metrics", (await ask("GET", path))[1])
    return str(orjson.loads(made)["secret"])


async def test_no_secret_is_told(
    tmp_path: Path, empty_redis: str, capfdbinary: pytest.CaptureFixture[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Calls, streams, sessions, jobs with webhooks, pages, administration, refusals of all: nothing is where it should
    not be, and what is kept is what is said to be kept, for as long as it is said.
    """
    caplog.set_level(logging.DEBUG)
    told, secrets = Told(), dict(SECRETS)
    async with running(tmp_path, empty_redis, changes=called_back()) as gw, Hooks() as hooks:
        secrets["key"] = key = await gw.open_account("a")
        await http_calls(gw, key, told)
        secrets["token"] = await sessions(gw, key, told)
        hooks.answers["/" + SECRETS["webhook"]] = [500] * 50
        path = await submitted(
            gw, key, audio_url="https://example.com/" + SECRETS["audio's URL"] + ".wav?duration=60",
            webhook_url=hooks.url("/" + SECRETS["webhook"]), webhook_auth_header_name="X-Hook",
            webhook_auth_header_value=SECRETS["webhook's header"],
        )  # fmt: skip
        await finished(gw, key, path)
        await hooks.hears("/" + SECRETS["webhook"])
        job = path.rpartition("/")[2]
        async with Visitor(gw.url + "/billing") as visitor:
            for tried in (secrets["guessed key"], key):
                await visitor.sign_in(tried)
                told.note("pages", visitor.html, repr(visitor.headers), *visitor.cookies)
            secrets["visit"] = next(each.split("=", 1)[1].split(";")[0] for each in visitor.cookies if "=" in each)
            for page in ("", "/live", "/charges", "/keys", "/prices", "/funds"):
                await visitor.see(page)
                assert visitor.status == 200
                told.note("pages", visitor.html)
        secrets["new key"] = await admin_calls(gw, told, job)
        told.note("Redis", *await everything_in(empty_redis))
        assert told.found({name: secrets[name] for name in KEPT}) == {("Redis", name) for name in KEPT}
        assert (await gw.call("DELETE", path, key)).status == 200
        await asyncio.sleep(0.4)  # the logs' own pace
    for file in tmp_path.rglob("spool/*"):
        told.note("disk", file.read_bytes())
    out, err = capfdbinary.readouterr()
    assert out.count(b'"event":"call"') > 20 and b'"event":"session"' in out
    told.note("logs", out, err, caplog.text)
    said = {where: sum(map(len, texts)) for where, texts in told.said.items()}
    assert set(said) >= {"logs", "metrics", "refusals", "admin", "admin's refusals", "pages", "Redis"}
    cookie = {("pages", "visit")}  # its own browser is given it
    assert told.found(secrets) - cookie == {("Redis", name) for name in KEPT}
