"""deploy/compose.yaml: everything on one machine, with nothing open that need not be."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.shipped import ASKED, DEPLOY, NEEDED, SETTLING_SECONDS, last, read, runtime

SERVICES: dict[str, Any] = read("compose.yaml")["services"]


def test_the_gateway_is_told_what_it_asks_for() -> None:
    """Each variable that it needs has a value, none is there that it does not know, and no secret has a default."""
    told = SERVICES["gateway"]["environment"]
    assert set(NEEDED) <= set(told) <= ASKED
    for name in ("GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_PEPPER"):
        assert told[name].startswith(f"${{{name}:?")
    assert ":?" in told["DATABASE_URL"]
    sandbox = SERVICES["sandbox"]["environment"]["SANDBOX_CREDENTIAL"]
    assert sandbox == told["UPSTREAM_CREDENTIAL"]


def test_urls_that_are_set_to_nothing_are_the_services_own(tmp_path: Path) -> None:
    """Not set, they are the sandbox's; set and empty, the gateway's config names the real ones."""
    told = SERVICES["gateway"]["environment"]
    urls = {name: value for name, value in told.items() if name.endswith("_URL") and name not in NEEDED}
    assert len(urls) == 4
    for name, value in urls.items():
        assert value == f"${{{name}-http://sandbox:8082}}"
    found = {
        each.upstream.name: each.upstream for each in runtime(tmp_path, **dict.fromkeys(urls, "")).products.values()
    }
    assert "api.assemblyai.com" in repr(found["speech-to-text"]) and "sandbox" not in repr(found)


def test_only_customers_come_from_elsewhere() -> None:
    """Every other port that is published is this machine's alone, and stores publish none."""
    published = {(name, port) for name, each in SERVICES.items() for port in each.get("ports", [])}
    assert {(name, port) for name, port in published if not port.startswith("127.0.0.1:")} == {("gateway", "8080:8080")}
    assert not {"redis", "postgres"} & {name for name, _ in published}


def test_whoever_stops_it_waits_long_enough() -> None:
    """Longer than calls and sessions may take, and then what they used is settled."""
    grace = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > read("gateway.yaml")["limits"]["shutdown_seconds_max"] + SETTLING_SECONDS


def test_the_ledger_forgets_nothing() -> None:
    """Redis writes every change to its disk, evicts nothing, and its disk is a volume, as those of the others are."""
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes --appendfsync always --maxmemory-policy noeviction --dir /data" in command
    kept = {volume.partition(":")[0] for each in SERVICES.values() for volume in each.get("volumes", [])}
    assert set(read("compose.yaml")["volumes"]) == {name for name in kept if not name.startswith(".")}
    assert f"spool:{last('VOLUME').rest}" in SERVICES["gateway"]["volumes"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_have_no_more_rights_than_they_need(name: str) -> None:
    """None can gain any; all but PostgreSQL, which sets its directory up as root, have none, and read their root."""
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    if name != "postgres":
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    if service["image"] != "credit-gateway":
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", service["image"]), "an image of a version"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_is_there_and_cannot_be_written(name: str) -> None:
    """Each file or directory of ours, read-only."""
    for volume in SERVICES[name].get("volumes", []):
        source, _, options = volume.partition(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert options.endswith(":ro")
