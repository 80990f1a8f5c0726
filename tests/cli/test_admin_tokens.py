"""`gateway admin-tokens create`: a token that the config it prints makes known."""

from pathlib import Path

import orjson
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.edge.api.admin_tokens import AdminTokens
from gateway.settings.load import load
from tests.harness import write_config


def test_the_line_that_is_printed_makes_the_token_known(tmp_path: Path) -> None:
    """The token works with its scopes once its line is in the config, not before; its name cannot be taken twice."""
    path = write_config(tmp_path, upstream_url="http://127.0.0.1:1", redis_url="redis://127.0.0.1:1")
    words = ["admin-tokens", "create", "ci", "--scope", "billing", "--scope", "read", "-c", str(path), "--json"]
    made = orjson.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    assert AdminTokens(load(path, {})).actor(made["token"]) is None
    data = yaml.safe_load(path.read_text())
    data["admin_tokens"] = [made["config"]]
    path.write_text(yaml.safe_dump(data))
    actor = AdminTokens(load(path, {})).actor(made["token"])
    assert actor is not None
    assert (actor.name, sorted(actor.scopes)) == ("ci", ["billing", "read"])
    assert made["token"] not in path.read_text()
    for name in ("ci", "admin", "A b"):
        assert CliRunner().invoke(main, [*words[:2], name, *words[3:]]).exit_code == 1


def test_people_are_shown_the_line_as_yaml(tmp_path: Path) -> None:
    """What is printed for people can be pasted below `admin_tokens:`."""
    path = write_config(tmp_path, upstream_url="http://127.0.0.1:1", redis_url="redis://127.0.0.1:1")
    shown = CliRunner().invoke(main, ["admin-tokens", "create", "ci", "--scope", "read", "-c", str(path)]).stdout
    (line,) = yaml.safe_load(shown.rpartition("\n\n")[2])
    assert (line["name"], line["scopes"], len(line["sha256"])) == ("ci", ["read"], 64)
