"""`gateway serve`, `sandbox` and `check`, and what every command does about config and ledger."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.shared import Invocation, common, default_config
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.epoch import Memory
from gateway.settings.load import SettingsError
from tests.cli.conftest import CONFIG, ROOT, Shell


def run(*words: str) -> Any:
    return CliRunner().invoke(main, list(words), catch_exceptions=False, prog_name="gateway")


def config(directory: Path, **changes: Any) -> Path:
    """The repository's config with changes, in another directory, on ports that nobody has."""
    settings = yaml.safe_load(CONFIG.read_text()) | {"customers": {"port": 0}, "ops": {"port": 0}} | changes
    settings["include"] = [str(ROOT / pattern) for pattern in settings["include"]]
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_check_prints_prices_and_routes() -> None:
    """A good config: its prices and how many routes each product has, for people and as JSON."""
    text = run("check", "-c", str(CONFIG)).stdout
    assert "stt.universal-2" in text
    assert "speech-to-text" in text
    data = orjson.loads(run("check", "-c", str(CONFIG), "--json").stdout)
    assert data["ok"] is True
    assert data["routes"]["speech-to-text"] > 5
    assert data["callbacks"] == {"public_url": None, "jobs": ["transcript"]}
    assert "without customers.public_url" in text
    assert {"free", "payg", "contracted"} <= set(data["tiers"])
    prices = {(price["sku"], price["version"]): price["unit_price"] for price in data["prices"]}
    assert ("stt.universal-2", data["price_version"]) in prices
    assert text.count("stt.universal-2 ") == 1  # older price lists are not for people


def test_check_prints_the_prices_of_a_rate_card() -> None:
    """Discounts are shown as the card has them; a card that is not there is refused with those that are."""
    assert " -50%" in run("check", "-c", str(CONFIG), "--rate-card", "startup").stdout
    result = run("check", "-c", str(CONFIG), "--rate-card", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "standard" in result.stderr


def test_check_prints_every_error_with_its_place(tmp_path: Path) -> None:
    """A bad config: all errors, each with file, line, column and a caret; exit code 1."""
    path = config(tmp_path)
    path.write_text(path.read_text() + "colour: red\nlimitz: {}\n")
    result = run("check", "-c", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(re.findall(r"gateway\.yaml:\d+:\d+: ", result.stderr)) == 2
    assert "limits" in result.stderr
    assert "^" in result.stderr
    problems = orjson.loads(run("check", "-c", str(path), "--json").stderr)["problems"]
    assert [(found["path"], found["line"] > 0) for found in problems] == [("colour", True), ("limitz", True)]


def test_a_config_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Every command that reads a config says which file it did not find."""
    for command in (["check"], ["serve"], ["demo"], ["accounts", "list"], ["health"], ["reload"]):
        result = run(*command, "-c", str(tmp_path / "none.yaml"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "none.yaml" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a device that is full")
def test_an_answer_that_cannot_be_written_is_told() -> None:
    """A disk that is full beneath the output: one line, exit code 1, no traceback."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "gateway", "check", "-c", str(CONFIG)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (result.returncode, result.stderr.decode()) == (1, "The output: No space left on device\n")


def test_where_the_config_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here first, else the one of the package or the checkout; GATEWAY_CONFIG before both."""
    monkeypatch.chdir(tmp_path)
    assert default_config().resolve() == CONFIG
    path = config(tmp_path)
    assert default_config().resolve() == path
    monkeypatch.setenv("GATEWAY_CONFIG", str(tmp_path / "other.yaml"))
    assert "other.yaml" in run("check").stderr


def test_a_config_that_goes_is_not_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found is what is read again: a reload whose file is gone must not take up the one of the package."""
    path = config(tmp_path)
    monkeypatch.chdir(tmp_path)

    @click.command()
    @common
    def command(invocation: Invocation) -> None:
        invocation.reread()
        path.unlink()
        with pytest.raises(SettingsError, match="No such file"):
            invocation.reread()

    command.main([], standalone_mode=False)


def test_a_ledger_that_cannot_be_reached_is_exit_code_2(tmp_path: Path) -> None:
    """No server at redis.url, or none that can start: one line, exit code 2, no password, no traceback."""
    path = config(tmp_path, redis={"url": "redis://user:hidden-word@127.0.0.1:1/0"})
    for command in (
        ["accounts", "list"],
        ["credits", "show", "demo-free"],
        ["ledger", "verify"],
        ["demo", "--no-sandbox"],
    ):
        result = run(*command, "-c", str(path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot be reached" in result.stderr
        assert "hidden-word" not in result.stderr
    (tmp_path / "file").write_text("")
    result = run("accounts", "list", "-c", str(CONFIG), "--data", str(tmp_path / "file" / "below"))
    assert result.exit_code == 2


def test_a_ledger_that_this_machine_does_not_know_is_left_alone(shell: Shell) -> None:
    """No command reads or writes in a Redis that lost the ledger's data, until ops accept it."""
    Memory(shell.data / "spool", EmbeddedRedis(shell.data / "redis").url, "gw").write("another")
    for words in (("accounts", "open", "a"), ("accounts", "list"), ("ledger", "verify")):
        assert "has lost the ledger's data" in shell.refused(*words, code=2)
    assert "fault: it has lost the ledger's data" in shell.call("ledger", "condition").output
    shell.ok("ledger", "accept")
    assert shell.ok("accounts", "list") == "no accounts\n"


def test_a_place_without_a_ledger_is_told(offline: Shell) -> None:
    """Who looks for accounts in the wrong directory is not told that there are none, and begins no ledger there."""
    told = offline.refused("accounts", "list", code=2)
    assert str(offline.data / "redis") in told and str(CONFIG) in told
    assert not (offline.data / "redis").exists()


def test_why_it_does_not_start_names_the_place(tmp_path: Path) -> None:
    """A port in use, a host that nobody knows, a spool that is no directory: the place is named; exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        away = {"url": "redis://127.0.0.1:1/0", "connect_seconds_max": 0.1}
        spool = str(tmp_path / "spool")
        (tmp_path / "file").write_text("")
        for changes, told in (
            ({"customers": {"port": port}}, f"The gateway cannot listen on 127.0.0.1:{port}: Address already in use"),
            ({"ops": {"port": port}}, f"The gateway cannot listen on 127.0.0.1:{port}: Address already in use"),
            ({"customers": {"host": "nowhere.invalid"}}, "The gateway cannot listen on nowhere.invalid:8080: "),
            ({"spool_directory": str(tmp_path / "file")}, f"The spool cannot be used: {tmp_path / 'file'}"),
        ):
            path = config(tmp_path, **{"redis": away, "spool_directory": spool} | changes)
            result = run("serve", "--workers", "1", "-c", str(path))
            assert (result.exit_code, result.stdout) == (1, "")
            assert told in result.stderr


def test_every_command_has_help(shell: Shell) -> None:
    """--help works everywhere, without config and ledger."""
    groups = ["accounts", "keys", "credits", "ledger"]
    for words in (["serve"], ["demo"], ["sandbox"], ["check"], *([group] for group in groups)):
        assert "--help" in shell.ok(*words, "--help")


def test_knobs_are_listed_and_checked() -> None:
    """The sandbox lists its knobs, takes them by name, and refuses what they cannot be."""
    listed = orjson.loads(run("sandbox", "--list-knobs", "--json", "--job-seconds", "7", "--knob", "usage=zero").stdout)
    assert listed["job_seconds"]["value"] == 7
    assert listed["usage"]["value"] == "zero"
    assert "job_seconds" in run("sandbox", "--list-knobs").stdout
    for wrong in (["--knob", "nothing=1"], ["--knob", "usage"], ["--fail-rate", "2"]):
        assert run("sandbox", "--list-knobs", *wrong).exit_code == 2


@pytest.mark.system
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_runs_until_it_is_told_to_stop(end: signal.Signals) -> None:
    """It says where it is, answers there, and ends with 0."""
    command = [sys.executable, "-m", "gateway", "sandbox", "--port", "0", "--json", "--latency-seconds", "0.01"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = orjson.loads(process.stdout.readline())["sandbox"]
        with urllib.request.urlopen(f"{url}/sandbox/knobs", timeout=10) as reply:
            assert b"0.01" in reply.read()
        process.send_signal(end)
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


@pytest.mark.system
def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """It says where it listens once it does, is ready there, and ends with 0 on SIGTERM."""
    path = config(tmp_path, customers={"port": 0}, ops={"port": 0})
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(path), "--data", str(tmp_path), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while orjson.loads(process.stdout.readline())["event"] != "ready":
            pass
        process.terminate()
        process.stdout.read()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
