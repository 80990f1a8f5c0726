"""`gateway check --diff` and `gateway reload` as whoever operates a gateway calls them, beside one that runs."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink
from tests.harness import ROOT
from tests.system.processes import World
from tests.system.test_workers import CHANGES, TOKENS, counted, events

pytestmark = pytest.mark.system
DAY_MS = 86_400_000
MODEL = {"model": "gpt-5.1"}  # no sample has it
OLD, NEW = 'llm.gpt-5.1.output: {per_1m_tokens: "10"}', 'llm.gpt-5.1.output: {per_1m_tokens: "20"}'
#: A hundred tokens of output, ten dollars a million more.
CHARGE, MORE = parse_usd("0.00225"), parse_usd("0.001")


async def command(config: Path, *words: str) -> Result:
    """A command, in a process that is at hand."""
    return await asyncio.to_thread(CliRunner().invoke, main, [*words, "-c", str(config)], catch_exceptions=False)


async def moved_to_yesterday(redis_url: str, account: str) -> None:
    """Everything that the account's ledger has happened a day earlier."""
    link, name = SingleLink(LinkSettings(url=redis_url)), f"gw:{{{account}}}:ledger"
    await link.open()
    entries: Any = await link.call("XRANGE", name, "-", "+")
    await link.call("DEL", name)
    for entry_id, fields in entries:
        at = fields.index(b"at") + 1
        fields[at] = str(int(fields[at]) - DAY_MS)
        await link.call("XADD", name, entry_id, *fields)
    await link.close()


def edited(config: Path, old: str, new: str) -> None:
    """Another price file."""
    path = config.parent / "config/prices.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def test_a_price_is_tried_refused_and_taken_up(tmp_path: Path, empty_redis: str) -> None:
    """What a price would change is told in money, on yesterday's calls, and changes nothing; a file that is broken
    keeps the old one in force on every worker, and the command fails and says where; one that is good is served.
    """
    async with World(tmp_path, empty_redis, CHANGES).opened() as world:
        key = await world.open_account("a", credit="10")
        served = await world.serve("one", workers=2)
        config = served.directory / "gateway.yaml"
        for _ in range(3):
            assert await world.chat(served, key, MODEL, **TOKENS) == 200
        await world.charged_as_often("a", 3)
        await moved_to_yesterday(empty_redis, "a")
        workers, digest = served.workers, await served.config()

        edited(config, OLD, NEW)
        diff = await command(config, "check", "--diff")
        assert diff.exit_code == 0, diff.output
        assert "llm.gpt-5.1.output.per_1m_tokens: 10 -> 20" in diff.output
        was, more = Nanos(CHARGE * 3), Nanos(MORE * 3)
        assert f"3 charges: {format_usd(was)} USD" in diff.output
        assert f" {format_usd(Nanos(was + more))}: {format_usd(more)}" in diff.output
        assert (await served.config(), served.workers) == (digest, workers)

        edited(config, NEW, NEW.replace("20", "fourteen"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "reload", "-c", str(config), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert (process.returncode, out) == (1, b"")
        assert b"config/prices.yaml:" in err and b'"fourteen"' in err and b"Traceback" not in err
        (told,) = events(served, "reload_failed")
        assert "fourteen" in told["reason"]
        await counted(served, "gateway_config_last_reload_successful", 0)
        assert (await served.config(), served.workers) == (digest, workers)
        for _ in range(4):
            assert await world.chat(served, key, MODEL, **TOKENS) == 200

        edited(config, NEW.replace("20", "fourteen"), NEW)
        done = await command(config, "reload")
        assert (done.exit_code, f"was {digest}" in done.output) == (0, True), done.output
        assert "llm.gpt-5.1.output.per_1m_tokens: 10 -> 20" in done.output
        await counted(served, "gateway_config_last_reload_successful", 1)
        async with aiohttp.ClientSession() as fresh:  # an older connection may have its last call where it was made
            assert await world.chat(served, key, MODEL, http=fresh, **TOKENS) == 200
        await world.charged_as_often("a", 8)
        assert await world.charged("a") == [CHARGE] * 7 + [CHARGE + MORE]
        assert await served.end() == 0
        nobody = await command(config, "reload")
        assert (nobody.exit_code, "runs on this machine" in nobody.output) == (1, True)
