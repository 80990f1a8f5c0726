"""The unit of systemd: systemd itself finds nothing wrong with it, and it stops a gateway as a gateway wants to be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.shipped import DEPLOY, SETTLING_SECONDS, read, runtime

UNIT = DEPLOY / "systemd/gateway.service"
#: Of 100; a service without any hardening has 96.
EXPOSURE_MAX = 15


def said(key: str) -> str:
    """What the unit says of it, once."""
    (found,) = re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert isinstance(found, str)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """It verifies, with a program in place of ours, and is exposed as little as it is meant to be."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/gateway/bin/gateway", sys.executable))
    for how in (["verify"], ["security", "--offline=true", f"--threshold={EXPOSURE_MAX}"]):
        done = subprocess.run(["systemd-analyze", *how, str(unit)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_it_stops_and_reloads_a_gateway() -> None:
    """The supervisor alone is told, and has the time that its calls have; a reload that failed is a failure."""
    limits = read("gateway.yaml")["limits"]
    assert int(said("TimeoutStopSec")) > limits["shutdown_seconds_max"] + SETTLING_SECONDS
    assert said("KillMode") == "mixed"
    assert said("ExecReload") == "/opt/gateway/bin/gateway reload"
    assert said("ExecStart") == "/opt/gateway/bin/gateway serve"


def test_it_writes_in_its_spool_alone() -> None:
    """The directory that systemd makes for it is the config's."""
    assert read("gateway.yaml")["spool_directory"].startswith(f"/var/lib/{said('StateDirectory')}/")
    assert said("ProtectSystem") == "strict"


def test_operators_are_on_this_machine_alone(tmp_path: Path) -> None:
    """A host has no network policy: the unit's environment keeps the operators' listener off the network."""
    told = dict(word.split("=", 1) for word in said("Environment").split())
    assert runtime(tmp_path, **told).ops.host == "127.0.0.1"
