"""Real gateway processes: `python -m gateway serve` on free ports, with everything that they say kept in files."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.edge.ledger import open_ledger
from gateway.ledger.redis import RedisLedger
from gateway.sandbox import Sandbox, SandboxSettings, start
from gateway.settings.load import load
from gateway.settings.runtime import Runtime
from tests.harness import ROOT, Change, open_account, write_config
from tests.pipeline.helpers import CHAT, CHAT_PATH, sandbox, until
from tests.ports import free_ports

START_SECONDS_MAX = 60


@dataclass
class Served:
    """One gateway process."""

    directory: Path
    customers_port: int
    ops_port: int
    process: asyncio.subprocess.Process
    ops_scheme: str = "http"

    @property
    def url(self) -> str:
        """Where customers call."""
        return f"http://127.0.0.1:{self.customers_port}"

    @property
    def ops_url(self) -> str:
        """Where ops call."""
        return f"{self.ops_scheme}://127.0.0.1:{self.ops_port}"

    @property
    def errors(self) -> str:
        """What it said on standard error: nothing, if all is well."""
        return (self.directory / "stderr").read_text()

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers, those that end too."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()] if task.exists() else []

    @property
    def spooled(self) -> int:
        """How many bytes wait in its spools. A file that is adopted in this moment is another one's."""
        found = 0
        for path in (self.directory / "spool").glob("*.spool"):
            with suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the exit code. SIGKILL also kills the workers, which would end by themselves."""
        if self.process.returncode is None:
            workers = self.workers
            self.process.send_signal(how)
            for pid in workers if how == signal.SIGKILL else []:
                os.kill(pid, how)
        async with asyncio.timeout(40):
            return await self.process.wait()

    async def config(self) -> str:
        """The digest of the config that operators are served by."""
        async with aiohttp.request("GET", self.ops_url + "/readyz") as response:
            found: str = (await response.json())["config"]
            return found

    async def metrics(self) -> dict[str, float]:
        """All metrics, by name and labels as they are written."""
        async with aiohttp.request("GET", self.ops_url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return {name: float(value) for name, _, value in (each.rpartition(" ") for each in lines) if name[0] != "#"}


class World:
    """A sandbox, a ledger, and as many gateway processes as a test starts; each in its `turn` if worlds share one."""

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        changes: Mapping[str, Change],
        *,
        turn: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        self._turn = turn or nullcontext()
        self.directory = directory
        self.redis_url = redis_url
        self.changes = changes
        self.runtime: Runtime
        self.ledger: RedisLedger
        self.sandbox: Sandbox
        self.http: aiohttp.ClientSession
        self._served: list[Served] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["World"]:
        """Until the block ends; then no process of ours is left."""
        async with AsyncExitStack() as stack:
            self.sandbox = await start(SandboxSettings(job_seconds=0.05))
            stack.push_async_callback(self.sandbox.stop)
            self.runtime = load(self._config("books", self.redis_url, {}), {})
            self.ledger = await stack.enter_async_context(open_ledger(_patient(self.runtime)))
            connector = aiohttp.TCPConnector(limit=0, ssl=False)  # whoever is shown what is for other tests
            self.http = await stack.enter_async_context(
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
            )
            stack.push_async_callback(self._end)
            yield self

    def change(self, served: Served, change: Change) -> None:
        """Edit the config that a gateway was started with."""
        path = served.directory / "gateway.yaml"
        data = yaml.safe_load(path.read_text())
        change(data)
        path.write_text(yaml.safe_dump(data, sort_keys=False))

    async def serve(self, name: str, *, redis_url: str = "", workers: int = 1, program: Path = ROOT) -> Served:
        """Start a gateway with a directory of its own (the same name: the same spool), and wait for it.

        `program` has the package to run.
        """
        customers, ops = free_ports(2)

        def ports(data: dict[str, Any]) -> None:
            data["customers"]["port"], data["ops"]["port"] = customers, ops
            if "public_url" in data["customers"]:
                data["customers"]["public_url"] = f"http://127.0.0.1:{customers}"

        path = self._config(name, redis_url or self.redis_url, {"gateway.yaml": ports})
        command = [sys.executable, "-P", "-m", "gateway", "serve", "-c", str(path), "--workers", str(workers), "--json"]
        environment = os.environ | {"PYTHONPATH": str(program), "PYTHONWARNINGS": "error"}
        scheme = "https" if yaml.safe_load(path.read_text())["ops"].get("tls") else "http"
        async with self._turn:
            with (path.parent / "stdout").open("ab") as stdout, (path.parent / "stderr").open("ab") as stderr:
                process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=stdout, stderr=stderr)
            served = Served(path.parent, customers, ops, process, scheme)
            self._served.append(served)

            async def up() -> bool:
                assert process.returncode is None, served.errors
                return await self._ready(served)

            assert await until(up, START_SECONDS_MAX), "the gateway does not come up"
        return served

    async def open_account(self, account: str, **facts: Any) -> str:
        """An account with a key; the key's secret."""
        return await open_account(self.ledger, self.runtime, account, **facts)

    async def chat(
        self,
        at: Served,
        key: str,
        request: Mapping[str, Any] | None = None,
        *,
        http: aiohttp.ClientSession | None = None,
        idempotency_key: str | None = None,
        **knobs: Any,
    ) -> int:
        """A chat completion's status, once all of its body has come."""
        headers = {"Authorization": key, **sandbox(**knobs)}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        async with (http or self.http).post(
            at.url + CHAT_PATH, json={**CHAT, **(request or {})}, headers=headers
        ) as response:
            await response.read()
            return response.status

    async def charged(self, account: str) -> list[int]:
        """The amounts that the account was charged, oldest first."""
        entries = await self.ledger.entries(account, limit=1000)
        return [-entry.amount for entry in entries if entry.kind == "charge"]

    async def charged_as_often(self, account: str, count: int) -> None:
        """Wait a while until the account was charged so many times."""

        async def done() -> bool:
            return len(await self.charged(account)) >= count

        await until(done)

    async def holding(self, account: str, count: int) -> None:
        """Wait until the account has so many open holds."""

        async def done() -> bool:
            return (await self.ledger.account(account)).open_holds >= count

        assert await until(done)

    async def _ready(self, served: Served) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=10)
            async with self.http.get(served.ops_url + "/readyz", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _config(self, name: str, redis_url: str, more: Mapping[str, Change]) -> Path:
        def both(data: dict[str, Any]) -> None:
            for changes in (self.changes, more):
                changes.get("gateway.yaml", _nothing)(data)

        changes = {**self.changes, "gateway.yaml": both}
        return write_config(self.directory / name, upstream_url=self.sandbox.url, redis_url=redis_url, changes=changes)

    async def _end(self) -> None:
        for served in self._served:
            await served.end(signal.SIGKILL)


def _patient(runtime: Runtime) -> Runtime:
    """Whoever looks into the books has time, however little a test gives its gateways."""
    return replace(runtime, redis=replace(runtime.redis, connect_seconds_max=10.0, command_seconds_max=10.0))


def _nothing(_data: dict[str, Any]) -> None:
    """No change."""
