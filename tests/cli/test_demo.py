"""`gateway demo`, as a newcomer runs it: a process of its own, its printed lines, its end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.core.errors import NO_CREDIT
from gateway.core.money import parse_usd
from tests.cli.warm import commands
from tests.docs.walk import PAGES, shell, walked
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Place:
    """A directory with the repository's config on other ports."""

    directory: Path
    customers: int
    ops: int

    def gateway(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "gateway", *words]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in the directory, to its end."""
        return subprocess.run(
            self.gateway(*words),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def credits(self, account: str) -> dict[str, Any]:
        """What `gateway credits show` says, while the demo runs or not."""
        shown = self.run("credits", "show", account, "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = orjson.loads(shown.stdout)
        return found

    def paste(self, line: str) -> tuple[int, dict[str, str], Any]:
        """Paste a printed line into a shell: the last answer's status, headers and body."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        head, _, body = done.stdout.partition("\n\n")
        first, *rest = head.splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return int(first.split()[1]), headers, orjson.loads(body)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where a demo may run."""
    return made_in(tmp_path)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, dict[str, Any]]]:
    """A demo that runs for all who ask, and what it printed."""
    place = made_in(tmp_path_factory.mktemp("demo"))
    with demo(place, "-c", str(place.directory / "gateway.yaml")) as ready:
        yield place, ready


def made_in(tmp_path: Path) -> Place:
    """The repository's config in a directory, on ports of its own."""
    customers, ops, upstream = free_ports(3)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    settings = yaml.safe_load((ROOT / "gateway.yaml").read_text())
    settings["customers"] = {"port": customers}
    settings["ops"] = {"port": ops}
    for each in settings["upstreams"].values():
        each["base_url"] = re.sub(r":\d+", f":{upstream}", "http://127.0.0.1:8082")
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(settings))
    return Place(tmp_path, customers, ops)


@contextmanager
def demo(place: Place, *options: str, end: signal.Signals = signal.SIGINT) -> Iterator[dict[str, Any]]:
    """The demo while it runs, and what it printed. At its end it must have stopped cleanly."""
    with (place.directory / "log").open("w+") as log:
        process = subprocess.Popen(
            place.gateway("demo", "--json", *options),
            cwd=place.directory,
            env=place.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 120
            ready: dict[str, Any] | None = None
            while ready is None:
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                lines = [line for line in Path(log.name).read_text().splitlines() if '"event":"ready"' in line]
                ready = orjson.loads(lines[0]) if lines else None
                time.sleep(0.02)
            yield ready
            os.killpg(process.pid, end)  # as a terminal does: to the whole group
            assert process.wait(120) == 0, Path(log.name).read_text()
            assert "Traceback" not in Path(log.name).read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def nanos(text: str) -> int:
    return int(parse_usd(text))


def test_the_printed_lines_do_what_they_say(up: tuple[Place, dict[str, Any]]) -> None:
    """Pasted one after the other: a charge, a job's charge, a refusal with its exact body, a plan's refusal, credit."""
    place, ready = up
    assert ready["admin_token"] == "demo-admin-token"
    balances = {one["account"]: one["balance"] for one in ready["accounts"]}
    assert {one["account"]: (one["tier"], one["key"]) for one in ready["accounts"]} == {
        "demo-free": ("free", "demo-free-key"),
        "demo-paid": ("payg", "demo-paid-key"),
        "demo-empty": ("free", "demo-empty-key"),
    }
    assert balances == {
        "demo-free": "50.000000000",
        "demo-paid": "100.000000000",
        "demo-empty": "0.000000000",
    }
    assert ready["up"]["billing"] == f"http://127.0.0.1:{place.customers}/billing"
    charged, job, empty, not_entitled, credits_, admin = (one["run"] for one in ready["try"])

    status, headers, body = place.paste(charged)
    assert status == 200
    assert body["choices"]
    cost = nanos(headers["x-gateway-charge"].split()[0])
    assert cost > 0
    assert nanos(place.credits("demo-paid")["balance"]) == nanos(balances["demo-paid"]) - cost

    status, headers, body = place.paste(job)
    assert (status, body["status"]) == (200, "completed")
    cost = nanos(headers["x-gateway-charge"].split()[0])
    assert cost > 0
    shown = place.credits("demo-free")
    assert nanos(shown["balance"]) == nanos("50") - cost
    assert shown["held"] == "0.000000000"

    status, headers, body = place.paste(empty)
    assert (status, body, headers["x-gateway-error"]) == (400, {"error": NO_CREDIT}, "insufficient_credit")

    status, headers, _ = place.paste(not_entitled)
    assert (status, headers["x-gateway-error"]) == (403, "not_entitled")

    assert credits_.endswith(f" --config {place.directory / 'gateway.yaml'}"), "the ledger of the same config"
    human = subprocess.run(
        ["bash", "-c", credits_],
        cwd=place.directory,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown["balance"] in human.stdout

    found = subprocess.run(["bash", "-c", admin], capture_output=True, text=True, check=True)
    assert orjson.loads(found.stdout) == shown


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_walked_through(page: str, up: tuple[Place, dict[str, Any]]) -> None:
    """Each command of a page does what the page says, on a demo that runs already; `make walks` starts it too."""
    place, _ = up

    def altered(lines: str) -> str:
        return lines.replace(":8080", f":{place.customers}").replace(":8081", f":{place.ops}")

    directory = place.directory / Path(page).stem
    directory.mkdir()
    environment = place.environment | {"GATEWAY_CONFIG": str(place.directory / "gateway.yaml")}
    environment["GATEWAY_DATA"] = str(place.directory / "data")
    with commands(environment) as path, shell(directory, environment | {"PATH": path}) as at:
        done = walked(page, at, altered=altered, left_out=("pip install", "gateway demo", "kill %1"))
    assert done >= 3


def test_balances_are_kept_and_books_agree(place: Place) -> None:
    """After Ctrl-C and another run the balances are as they were; offline, every account verifies."""
    with demo(place) as ready:
        place.paste(ready["try"][0]["run"])
        before = {name: place.credits(name) for name in ("demo-free", "demo-paid", "demo-empty")}
    assert {name: place.credits(name) for name in before} == before
    assert place.run("ledger", "verify").returncode == 0
    with demo(place, end=signal.SIGTERM) as ready:
        assert {one["account"]: one["balance"] for one in ready["accounts"]} == {
            name: found["balance"] for name, found in before.items()
        }
        assert place.paste(ready["try"][0]["run"])[0] == 200


def test_the_spent_account_explains_where_its_credit_went(place: Place) -> None:
    """demo-empty got its signup grant, and one charge of all of it that says what it was."""
    with demo(place):
        pass
    listed = place.run("ledger", "entries", "demo-empty", "--json")
    grant, charge = orjson.loads(listed.stdout)["items"]
    assert (grant["kind"], grant["amount"], grant["data"]["kind"]) == ("grant", "50.000000000", "signup")
    assert (charge["kind"], charge["amount"], charge["balance"]) == ("charge", "-50.000000000", "0.000000000")
    (item,) = charge["data"]["items"]
    assert (item["sku"], item["amount"]) == ("demo.signup_grant_spent", "50.000000000")
    assert "late" not in charge["data"]


@pytest.mark.parametrize("which", ["customers", "ops"])
def test_a_port_in_use_is_told(place: Place, which: str) -> None:
    """Another program on a port: one clear line, exit code 1, and nothing is left running."""
    port = getattr(place, which)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = place.run("demo")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.directory / "data").exists()


def test_upstreams_elsewhere_need_no_sandbox(place: Place) -> None:
    """Upstreams that are not here cannot be simulated; --no-sandbox leaves them as they are."""
    settings = yaml.safe_load((place.directory / "gateway.yaml").read_text())
    for each in settings["upstreams"].values():
        each["base_url"] = "https://api.example.com"
    (place.directory / "gateway.yaml").write_text(yaml.safe_dump(settings))
    done = place.run("demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert "https://api.example.com" in done.stderr
    assert "--no-sandbox" in done.stderr
