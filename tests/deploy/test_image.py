"""The image: what it is made of, whom it runs as, what it runs; and the config in it."""

import re
from pathlib import Path

import click
import pytest

from gateway.cli import main
from gateway.settings.load import SettingsError, load
from tests.deploy.shipped import ASKED, CONFIG, NEEDED, ROOT, dockerfile, laid_out, last, read, runtime


def test_it_is_made_of_what_is_there_and_of_nothing_else() -> None:
    """Each file that is copied exists, and .dockerignore lets in just those: no data, no key that lies about."""
    copied = {
        source
        for stage in dockerfile()
        for each in stage
        if each.word == "COPY" and not each.rest.startswith("--from")
        for source in each.words[:-1]
    }
    assert [source for source in copied if not (ROOT / source).exists()] == []
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert len(dockerfile()) == 2 and "gcc" not in dockerfile()[-1][0].rest


def test_it_runs_as_nobody_and_knows_its_config() -> None:
    """USER is a number, as Kubernetes wants to see it; commands in the container need no option."""
    user, group = map(int, last("USER").rest.split(":"))
    (made,) = (each.rest for each in dockerfile()[-1] if each.word == "RUN")
    assert user == group >= 10_000
    assert f"--uid {user} " in made and f"--gid {group} " in made
    environment = dict(each.split("=", 1) for each in last("ENV").words)
    assert f"COPY deploy/gateway.yaml {environment['GATEWAY_CONFIG']}" in (ROOT / "Dockerfile").read_text()
    assert f"COPY config {Path(environment['GATEWAY_CONFIG']).parent}/config" in (ROOT / "Dockerfile").read_text()
    assert last("WORKDIR").rest == last("VOLUME").rest == "/var/lib/gateway"
    assert f"--mode 0700 {last('VOLUME').rest}" in made


def test_what_it_runs_are_commands_of_ours() -> None:
    """The default command, and the one by which an engine sees whether it lives."""
    assert last("ENTRYPOINT").words == ["gateway"]
    (serve,) = last("CMD").words
    health = last("HEALTHCHECK").rest.partition(" CMD ")[2]
    assert health == '["gateway", "health"]'
    for name in (serve, "health"):
        assert isinstance(main.get_command(click.Context(main), name), click.Command)


def test_the_config_in_it_asks_for_what_it_needs_all_at_once(tmp_path: Path) -> None:
    """Without an environment every variable that is missing is named; with it, everything is in order."""
    with pytest.raises(SettingsError) as refused:
        load(laid_out(tmp_path), {})
    assert all(f"{name} is not set" in refused.value.render() for name in NEEDED)
    made = load(tmp_path / "gateway.yaml", NEEDED)
    assert set(NEEDED) < ASKED
    assert made.spool_directory.is_relative_to(last("VOLUME").rest)
    assert {str(made.customers.port), str(made.ops.port)} == set(last("EXPOSE").words)
    assert made.exports.postgres is not None
    shown = read("gateway.yaml")
    assert shown["limits"]["shutdown_seconds_max"] >= shown["limits"]["drain_seconds"]


def test_the_config_may_name_files_of_secrets(tmp_path: Path) -> None:
    """A variable that says `file:` and a path: the secret is in the file."""
    for name in NEEDED:
        (tmp_path / name).write_text(NEEDED[name] + "\n")
    made = runtime(tmp_path, **{name: f"file:{tmp_path / name}" for name in NEEDED}, GATEWAY_WORKERS="2")
    assert (made.redis.url, made.admin_token) == (NEEDED["REDIS_URL"], NEEDED["GATEWAY_ADMIN_TOKEN"])
    assert (made.workers, made.trust_forwarded_for) == (2, False)


def test_what_the_config_asks_for_is_documented() -> None:
    """Each variable, on the page about deploying, and which of them are needed."""
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (.*) \|$", (ROOT / "docs/operating/deploy.md").read_text(), re.MULTILINE)
    told = {name: what for names, what in rows for name in re.findall(r"`([A-Z_]+)`", names)}
    assert set(told) == ASKED
    assert {name for name, what in told.items() if "**needed**" in what} == set(NEEDED)


def test_the_config_has_nothing_that_the_projects_own_has_not() -> None:
    """Products and upstreams are the same ones, so that a file of config/ fits both."""
    ours, shipped = (set(load_upstreams(path)) for path in (ROOT / "gateway.yaml", CONFIG))
    assert ours == shipped


def load_upstreams(path: Path) -> list[str]:
    """The names of the services in a config."""
    return list(read(str(path))["upstreams"])
