"""What is said of the export on the command line."""

import shutil
from pathlib import Path

import orjson
from click.testing import CliRunner

from gateway.cli import main
from tests.cli.conftest import ROOT, Shell


def test_what_a_sink_lacks_that_is_new_is_said(shell: Shell, tmp_path: Path) -> None:
    """Nothing waits for it before all accounts were walked, though it lacks everything; then it has everything."""
    for account in ("one", "two"):
        shell.ok("accounts", "open", account)
    config = tmp_path / "config" / "gateway.yaml"
    shutil.copytree(ROOT / "config", config.parent / "config")
    shipped = (ROOT / "gateway.yaml").read_text()
    assert "\nexport:\n" in shipped
    config.write_text(shipped.replace("\nexport:\n", f"\nexport:\n  jsonl: {{directory: {tmp_path / 'lines'}}}\n"))

    def told(*words: str) -> str:
        found = CliRunner().invoke(main, [*words, "-c", str(config), "--data", str(shell.data)], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout

    assert orjson.loads(told("export", "status", "--json"))["sinks"] == [
        {"sink": "jsonl", "accounts": 0, "seconds": 0, "lacking": 2}
    ]
    assert "jsonl: 2 accounts not walked yet: `gateway export run --until-done`" in told("export", "status")
    told("export", "run", "--until-done")
    assert orjson.loads(told("export", "status", "--json"))["sinks"][0]["lacking"] == 0
    assert "walked" not in told("export", "status")
