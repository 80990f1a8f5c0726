"""Changes of the config under a gateway that runs: what is taken up, when, and what is told of it."""

import asyncio
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.edge.observing import Observing
from gateway.edge.process.control import Control, ask
from gateway.edge.process.reloading import CannotReload, Reloading
from gateway.observe.logs import Logs
from gateway.settings.runtime import Runtime
from tests.certificates import Certificates, made_in
from tests.settings.project import Project

LISTENER = "  port: 8080  "
PRICE = 'llm.gpt-5.1.output: {per_1m_tokens: "10"}'


class Serving:
    """Those who serve: they take up what they are given, and remember how."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.did: list[str] = []
        self.refuses = ""

    def check(self, _runtime: Runtime) -> None:
        if self.refuses:
            raise CannotReload(self.refuses)

    async def take_up(self, runtime: Runtime) -> None:
        self.check(runtime)
        self.did.append("take_up")
        self.runtime = runtime

    async def show(self, runtime: Runtime) -> None:
        self.did.append("show")
        self.runtime = runtime


class Watched:
    """A config on disk, and who watches it."""

    def __init__(self, project: Project, certificates: Certificates) -> None:
        self.project = project
        self.tls = project.directory / "tls"
        shutil.copytree(certificates.root.parent, self.tls)
        pair = "{certificate: tls/chain.pem, key: tls/localhost.key}"
        project.edit("gateway.yaml", LISTENER, f"  tls: {pair}\n{LISTENER}")
        self.serving = Serving(project.load())
        self.lines = io.BytesIO()
        self.observing = Observing(self.serving.runtime)
        logs = Logs(stream=self.lines)
        self.observing.logs = logs
        self.observing.all._observers = (self.observing.metrics, logs)
        self.reloading = Reloading(self.serving, project.load, self.observing)

    async def look(self, times: int = 3) -> list[str]:
        """Look so often; what was done for it."""
        self.serving.did = []
        for _ in range(times):
            await self.reloading.look()
        return self.serving.did

    def told(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of this event."""
        self.observing.logs.flush()
        return [line for line in map(orjson.loads, self.lines.getvalue().splitlines()) if line["event"] == event]

    @property
    def gauge(self) -> float:
        """Whether the last change was taken up, as metrics have it."""
        return self.observing.metrics.gauges["gateway_config_last_reload_successful"]

    def watch(self, what: str) -> None:
        """Take up such changes by itself."""
        self.project.edit("gateway.yaml", "reload_on_change: certificates", f"reload_on_change: {what}")
        self.serving.runtime = self.project.load()
        self.reloading = Reloading(self.serving, self.project.load, self.observing)


@pytest.fixture
def watched(tmp_path: Path, certificates: Certificates) -> Watched:
    """The shipped config, with a certificate."""
    (tmp_path / "project").mkdir()
    return Watched(Project(tmp_path / "project"), certificates)


async def test_a_renewed_certificate_is_taken_up_by_itself(watched: Watched, tmp_path: Path) -> None:
    """When both halves have come, and not what else stands in the files meanwhile; the first half changes nothing."""
    second = made_in(tmp_path / "second")
    assert await watched.look() == []
    watched.project.edit("config/prices.yaml", PRICE, PRICE.replace("10", "15"))
    shutil.copy(second.chain, watched.tls / "chain.pem")
    assert await watched.look() == []
    assert "the key is not the certificate's" in watched.told("reload_failed")[0]["reason"]
    assert len(watched.told("reload_failed")) == 1  # once, however often it is looked at
    assert watched.gauge == 0
    shutil.copy(second.key, watched.tls / "localhost.key")
    assert await watched.look(1) == []  # it may still be written
    assert await watched.look() == ["show"]
    tls = watched.serving.runtime.customers_tls
    assert tls is not None and tls.certificate.text == second.chain.read_text().strip()
    (line,) = watched.told("reloaded")
    assert line["changes"] == [f"{watched.tls}/{name}: is another" for name in ("chain.pem", "localhost.key")]
    assert line["config"] == line["was"] == watched.serving.runtime.digest
    assert watched.gauge == 1
    assert await watched.look() == []
    outcome = await watched.reloading.reload()  # now the price, and the certificate is no news
    assert outcome.ok and len(outcome.changes) == 2
    assert outcome.changes[0].endswith("llm.gpt-5.1.output.per_1m_tokens: 10 -> 15")
    assert ": 2026-04-07, 2026-10-07. Jobs and holds" in outcome.changes[1]  # the later list has it from the earlier


async def test_a_new_price_list_is_no_other_one(watched: Watched) -> None:
    """What was admitted keeps its prices where they are changed by a list of its own, and not where one is taken away:
    only then a note says so.
    """
    october = '  - version: "2026-10-07"\n    effective_from: "2026-10-07T00:00:00Z"\n'
    november = october.replace("2026-10-07", "2026-11-07") + f"    prices: {{{PRICE.strip()}}}\n".replace("10", "15")
    watched.project.edit("config/prices.yaml", october, october + november)
    outcome = await watched.reloading.reload()
    assert outcome.ok and not any("note:" in change for change in outcome.changes)
    more = november.replace("2026-11-07", "2099-01-01")  # nothing was admitted by it yet: it may still change
    for text in (
        november + more,
        november + more.replace("15", "16"),
        november + more.replace("prices: {", 'prices: {llm.gpt-9.input: {per_1m_tokens: "1"}, '),
    ):
        watched.project.edit("config/prices.yaml", november, text)
        outcome = await watched.reloading.reload()
        assert outcome.ok and not any("note:" in change for change in outcome.changes), outcome
        watched.project.edit("config/prices.yaml", text, november)
    watched.project.edit("config/prices.yaml", october, "")
    outcome = await watched.reloading.reload()
    assert outcome.ok and ": 2026-10-07. Jobs and holds" in outcome.changes[-1]


async def test_everything_or_nothing(watched: Watched) -> None:
    """What a change of files takes up is what the config says; a new file of a pattern is a change."""
    watched.watch("everything")
    assert await watched.look() == []
    product = watched.project.directory / "config/products/guardrails.yaml"
    product.rename(product.with_name("renamed.yaml"))
    assert await watched.look() == ["take_up"]
    assert await watched.look() == []
    watched.project.edit("config/prices.yaml", PRICE, PRICE.replace("10", "fourteen"))
    assert await watched.look() == []
    assert "fourteen" in watched.told("reload_failed")[0]["reason"]
    watched.project.edit("config/prices.yaml", "fourteen", "13")
    assert await watched.look() == ["take_up"]
    watched.project.edit("gateway.yaml", "reload_on_change: everything", "reload_on_change: nothing")
    assert await watched.look() == ["take_up"]
    watched.project.edit("config/prices.yaml", '"13"', '"12"')
    (watched.tls / "chain.pem").touch()
    assert await watched.look() == []


async def test_asked_for_when_only_certificates_changed(watched: Watched, certificates: Certificates) -> None:
    """Nobody who serves is replaced for them; without any change everybody is, as ever."""
    shutil.copy(certificates.chain, watched.tls / "chain.pem")
    assert (await watched.reloading.reload()).ok
    assert (await watched.reloading.reload()).ok
    assert watched.serving.did == ["show", "take_up"]


async def test_the_command_line_asks(watched: Watched, tmp_path: Path) -> None:
    """Over a socket below a directory with a long name: what would change, what changed, and why nothing did."""
    directory = tmp_path / ("long" * 40) / "spool"
    answers = {"reload": watched.reloading.reload, "preview": watched.reloading.preview}

    async def asked(word: str) -> Mapping[str, Any]:
        (found,) = await asyncio.to_thread(ask, directory, word)
        return found

    assert ask(directory, "reload") == []
    was = watched.serving.runtime.digest
    async with Control(directory, answers, watched.observing):
        (path,) = directory.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        watched.project.edit("gateway.yaml", "${GATEWAY_ADMIN_TOKEN:-demo-admin-token}", "hunter2-new")
        preview = await asked("preview")
        assert preview["changes"] == [f"{watched.project.directory}/gateway.yaml: admin_token: is another"]
        assert (preview["was"], watched.serving.did) == (was, [])
        watched.serving.refuses = "only a restart changes it"
        assert (await asked("reload"))["reason"] == "only a restart changes it"
        watched.serving.refuses = ""
        done = await asked("reload")
        assert done == {**preview, "config": watched.serving.runtime.digest}
        assert done["config"] != was and watched.serving.did == ["take_up"]
        with pytest.raises(ValueError, match="zero-length"):
            await asked("x" * 1000)
    assert list(directory.iterdir()) == []
    assert "hunter2" not in watched.lines.getvalue().decode()


async def test_a_gateway_that_was_killed_is_not_asked(tmp_path: Path, watched: Watched) -> None:
    """Its socket is still there, and nobody behind it; where there can be none, nobody can ask, and the log says so."""
    control = Control(tmp_path, {}, watched.observing)
    control._bound().close()
    assert len(list(tmp_path.iterdir())) >= 1
    assert ask(tmp_path, "reload") == []
    (tmp_path / "file").touch()
    async with Control(tmp_path / "file", {}, watched.observing):
        assert watched.told("control_unavailable")[0]["reason"] == "File exists"
