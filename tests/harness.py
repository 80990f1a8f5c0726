"""A whole gateway for tests: a real Redis-compatible server, the sandbox as upstream, both listeners on free ports.

Owns: how a test makes its config (the project's own, with addresses changed) and starts the parts.
"""

import pickle
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.core.money import Nanos, parse_usd
from gateway.edge.app import Gateway
from gateway.edge.clock import SystemClock
from gateway.edge.keys import key_digest
from gateway.edge.ledger import open_ledger
from gateway.edge.ops import Operators
from gateway.ledger.redis import RedisLedger
from gateway.observe.metrics import Metrics
from gateway.ports import Key, Ledger, Plan
from gateway.sandbox import Sandbox, SandboxSettings, start
from gateway.settings.load import load
from gateway.settings.runtime import Runtime

ROOT = Path(__file__).parent.parent
ADMIN_TOKEN = "test-admin-token-0123456789"
Change = Callable[[dict[str, Any]], None]


def write_config(
    directory: Path, *, upstream_url: str, redis_url: str, changes: Mapping[str, Change] | None = None
) -> Path:
    """The project's own config in `directory`, with its addresses changed; `changes` edit single files by name."""
    changes = changes or {}
    shipped = _shipped()
    for name in shipped.keys() | changes.keys():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in {"gateway.yaml", *changes}:
            target.write_bytes(shipped[name])
            continue
        data = pickle.loads(_parsed(name)) if name in shipped else {}
        if name == "gateway.yaml":
            data["customers"] = {"host": "127.0.0.1", "port": 0}
            data["ops"] = {"host": "127.0.0.1", "port": 0}
            data["redis"] = {"url": redis_url}
            data["spool_directory"] = str(directory / "spool")
            data["admin_token"] = ADMIN_TOKEN
            data["key_pepper"] = "test-pepper"
            for upstream in data["upstreams"].values():
                upstream["base_url"] = upstream_url
                upstream["credential"] = "sandbox-service-key"
        if name in changes:
            changes[name](data)
        target.write_text(yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False))
    return directory / "gateway.yaml"


@cache
def _shipped() -> Mapping[str, bytes]:
    """The files of the project's own config, by their paths in it."""
    paths = [ROOT / "gateway.yaml", *(ROOT / "config").rglob("*.yaml")]
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}


@cache
def _parsed(name: str) -> bytes:
    """What one of them says, pickled: thousands of tests change it, each its own copy."""
    return pickle.dumps(yaml.load(_shipped()[name], yaml.CSafeLoader))


@dataclass
class Running:
    """A gateway that serves, its parts, and a client session for customers."""

    gateway: Gateway
    runtime: Runtime
    ledger: RedisLedger
    sandbox: Sandbox
    http: aiohttp.ClientSession
    operators: Operators | None = None

    @property
    def url(self) -> str:
        """Where customers call."""
        scheme = "http" if self.runtime.customers_tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.gateway.customers_port}"

    @property
    def ops_url(self) -> str:
        """Where ops call."""
        assert self.operators is not None, "this gateway has no operators"
        scheme = "http" if self.runtime.ops_tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.operators.port}"

    async def open_account(
        self, account: str, *, tier: str = "payg", credit: str = "100", rate_card: str = "", **key: Any
    ) -> str:
        """An account with so many dollars and one key; the key's secret."""
        return await open_account(
            self.ledger, self.runtime, account, tier=tier, credit=credit, rate_card=rate_card, **key
        )

    async def call(
        self, method: str, path: str, key: str | None, *, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> "Got":
        """One call, read to its end."""
        sent = {**({"Authorization": key} if key is not None else {}), **(headers or {})}
        async with self.http.request(
            method, self.url + path, headers=sent, allow_redirects=False, **kwargs
        ) as response:
            return Got(response.status, dict(response.headers), await response.read(), response)

    async def knobs(self, **knobs: Any) -> None:
        """Turn the sandbox's knobs for every call from now on."""
        async with self.http.put(f"{self.sandbox.url}/sandbox/knobs", json=knobs) as response:
            assert response.status == 200, await response.text()

    async def seen(self) -> list[dict[str, Any]]:
        """What the upstream was sent, oldest first."""
        async with self.http.get(f"{self.sandbox.url}/sandbox/requests", params={"limit": "1000"}) as response:
            data = await response.json()
        found: list[dict[str, Any]] = data["requests"]
        return found

    async def balance(self, account: str) -> Nanos:
        """The account's balance."""
        return (await self.ledger.account(account)).balance


@dataclass(frozen=True)
class Got:
    """An answer, as the customer got it."""

    status: int
    headers: dict[str, str]
    body: bytes
    response: aiohttp.ClientResponse

    @property
    def json(self) -> Any:
        """The body as JSON."""
        import orjson

        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The refusal's code, or nothing."""
        return self.headers.get("X-Gateway-Error", "")

    @property
    def charge(self) -> Nanos | None:
        """What the answer says was charged."""
        text = self.headers.get("X-Gateway-Charge")
        return None if text is None else parse_usd(text)


async def open_account(
    ledger: Any,
    runtime: Runtime,
    account: str,
    *,
    tier: str = "payg",
    credit: str = "100",
    rate_card: str = "",
    **key: Any,
) -> str:
    """An account with so many dollars and one key; the key's secret."""
    plan = Plan(tier=tier, rate_card=rate_card)
    await ledger.open_account(operation=f"open-{account}", account=account, plan=plan)
    if parse_usd(credit):
        await ledger.grant(operation=f"grant-{account}", account=account, kind="purchase", amount=parse_usd(credit))
    secret = f"secret-of-{account}"
    await ledger.put_key(
        operation=f"key-{account}",
        key=Key(id=f"key-{account}", account=account, **key),
        digest=key_digest(runtime.key_pepper, secret),
    )
    return secret


@asynccontextmanager
async def serving(runtime: Runtime, ledger: Ledger) -> AsyncIterator[tuple[Gateway, Operators]]:
    """A gateway in this process, with its operators' listener."""
    gateway = Gateway(runtime, ledger=ledger)

    async def measured() -> Metrics:
        return gateway.measured()

    def accepting() -> int:
        return int(gateway.accepting)

    operators = Operators(
        runtime,
        ledger=ledger,
        observer=gateway.observing.all,
        clock=SystemClock(),
        accepting=accepting,
        measured=measured,
    )
    async with operators, gateway:
        yield gateway, operators


@asynccontextmanager
async def running(
    directory: Path,
    redis_url: str,
    *,
    changes: Mapping[str, Change] | None = None,
    sandbox: SandboxSettings | None = None,
) -> AsyncIterator[Running]:
    """A gateway with everything around it, until the block ends."""
    async with AsyncExitStack() as stack:
        upstream = await start(sandbox or SandboxSettings(job_seconds=0.05))
        stack.push_async_callback(upstream.stop)
        path = write_config(directory, upstream_url=upstream.url, redis_url=redis_url, changes=changes)
        runtime = load(path, {})
        ledger = await stack.enter_async_context(open_ledger(runtime))
        gateway, operators = await stack.enter_async_context(serving(runtime, ledger))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False)
        )
        yield Running(gateway, runtime, ledger, upstream, http, operators)
