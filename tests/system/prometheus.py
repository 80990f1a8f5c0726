"""A real Prometheus on loopback.

Owns: its process and its config. Does not know: metrics, dashboards.
"""

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.error import URLError

import yaml

from benchmarks.panels import asked
from tests.ports import free_ports
from tests.system.processes import Served

PROGRAM: Final = shutil.which("prometheus")
_START_SECONDS_MAX: Final = 30


class Prometheus:
    """`async with Prometheus(...)`: it scrapes the gateway every second, and judges these rules as often."""

    def __init__(self, directory: Path, served: Served, rules: Sequence[Path]) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self._directory = directory
        self._config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {"job_name": "gateway", "static_configs": [{"targets": [served.ops_url.removeprefix("http://")]}]}
            ],
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        assert PROGRAM is not None, "prometheus is not installed (Debian: prometheus)"
        self._directory.mkdir(parents=True, exist_ok=True)
        config, log = self._directory / "prometheus.yaml", self._directory / "log"
        config.write_text(yaml.safe_dump(self._config))
        with log.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM, f"--config.file={config}", f"--storage.tsdb.path={self._directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}", "--enable-feature=exemplar-storage", "--log.level=warn",
                stdout=said, stderr=said,
            )  # fmt: skip
        async with asyncio.timeout(_START_SECONDS_MAX):
            while not await self.value("1"):
                assert self._process.returncode is None, log.read_text()
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def value(self, query: str) -> list[Any]:
        """What a query has now; nothing while there is nobody to ask."""
        try:
            data = await asyncio.to_thread(partial(asked, self.url, "query", query=query))
        except URLError:
            return []
        found: list[Any] = data["result"]
        return found

    async def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {each["metric"]["alertname"] for each in await self.value('ALERTS{alertstate="firing"}')}
