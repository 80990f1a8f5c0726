"""A certificate and its key in the config: read, held to each other, and every mistake at its place."""

import subprocess

import pytest

from tests.certificates import made_in
from tests.settings.project import Project

WHERE = "  port: 8080  "


def with_tls(project: Project, certificate: str, key: str) -> None:
    """The config with such paths."""
    project.edit("gateway.yaml", WHERE, f"  tls: {{certificate: {certificate}, key: {key}}}\n{WHERE}")


def test_a_pair_is_carried(project: Project) -> None:
    """As text, and shown by nobody; paths are relative to the file."""
    made_in(project.directory / "tls")
    with_tls(project, "tls/chain.pem", "tls/localhost.key")
    runtime = project.load()
    assert runtime.customers_tls is not None
    assert runtime.customers_tls.private_key.text == (project.directory / "tls/localhost.key").read_text().strip()
    assert "PRIVATE" not in repr(runtime) and "BEGIN" not in repr(runtime)


def test_without_a_pair_there_is_no_tls(project: Project) -> None:
    """The default."""
    assert project.load().customers_tls is None


@pytest.mark.parametrize(
    ("certificate", "key", "problem"),
    [
        ("no.pem", "localhost.key", "certificate: the file DIRECTORY/no.pem cannot be read: No such file or directory"),
        ("chain.pem", ".", "key: the file DIRECTORY cannot be read: Is a directory"),
        ("chain.pem", "empty", "key: the file DIRECTORY/empty is empty"),
        ("binary", "localhost.key", "certificate: the file DIRECTORY/binary is not UTF-8 text"),
        ("large", "localhost.key", "certificate: the file DIRECTORY/large is too large: at most 65536 bytes"),
        ("config/tiers.yaml", "localhost.key", "certificate: the file is not PEM: it has no line with BEGIN"),
        ("5", "localhost.key", "certificate: must be the path of a file"),
    ],
)
def test_a_file_that_is_none(project: Project, certificate: str, key: str, problem: str) -> None:
    """Told with its path, at its place."""
    made_in(project.directory)
    for name, content in (("empty", b""), ("binary", b"\xff\xfe"), ("large", b"x" * 65_537)):
        (project.directory / name).write_bytes(content)
    with_tls(project, certificate, key)
    there = {"certificate": certificate, "key": key}[problem.partition(":")[0]]
    assert project.problems() == [f"gateway.yaml «{there}»: customers.tls.{problem}"]


@pytest.mark.parametrize(
    ("certificate", "key", "problem"),
    [
        ("chain.pem", "root.key", "the key is not the certificate's"),
        ("chain.pem", "locked.key", "the key has a password: decrypt it"),
        ("chain.pem", "chain.pem", "must be a certificate and its key, each in PEM: "),
        ("localhost.key", "localhost.key", "must be a certificate and its key, each in PEM: "),
        ("cut.pem", "localhost.key", "must be a certificate and its key, each in PEM: "),
    ],
)
def test_a_pair_that_is_none(project: Project, certificate: str, key: str, problem: str) -> None:
    """Told of the two, and nothing of their content with it; no terminal is asked for a password."""
    made = made_in(project.directory)
    command = f"openssl ec -aes128 -passout pass:x -in {made.key} -out {project.directory / 'locked.key'}"
    subprocess.run(command.split(), check=True, capture_output=True)
    (project.directory / "cut.pem").write_text(made.chain.read_text()[:300])
    with_tls(project, certificate, key)
    (told,) = project.problems()
    assert told.startswith(f"gateway.yaml «{{certificate:»: customers.tls: {problem}")
    assert "-----" not in told.partition("tls: ")[2]


def test_a_key_is_missing(project: Project) -> None:
    """One without the other is told."""
    project.edit("gateway.yaml", WHERE, f"  tls: {{certificate: gateway.yaml}}\n{WHERE}")
    assert any("customers.tls" in problem and '"key" is missing' in problem for problem in project.problems())
