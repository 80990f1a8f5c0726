"""The command line's reference says everything that the command line has, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMON = {"--config", "-c", "--data", "--json", "--help", "-h"}


def commands(group: click.Group = main, path: str = "gateway") -> Iterator[tuple[str, click.Command]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def sections() -> dict[str, str]:
    """The text under each heading of the page."""
    parts = re.split(r"^#{2,3} (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(command: click.Command) -> set[str]:
    """Every spelling of every option."""
    return {spelling for each in command.params if isinstance(each, click.Option) for spelling in each.opts}


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=[words for words, _ in commands()])
def test_every_command_and_option_is_documented(words: str, command: click.Command) -> None:
    """Each command has its section, with every option of its own, and no option that is not there."""
    text = sections()[f"`{words}`"]
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert written - COMMON == options(command) - COMMON
    for argument in command.params:
        if isinstance(argument, click.Argument):
            assert argument.make_metavar(click.Context(command)).strip("[].") in text


def test_no_section_documents_a_command_that_is_gone() -> None:
    """Every heading in code is a command."""
    written = {heading.strip("`") for heading in sections() if heading.startswith("`")}
    assert written == {words for words, _ in commands()}


def test_the_common_options_are_documented_once() -> None:
    """What every command has is in the first section, and every command has it."""
    text = sections()["Every command"]
    assert all(f"`{spelling}" in text for spelling in COMMON)
    for words, command in commands():
        expected = {"--json"} if words == "gateway sandbox" else COMMON - {"--help", "-h"}
        assert expected <= options(command), words


def test_every_command_says_what_it_does() -> None:
    """Each command, group, option has a help text."""
    for words, command in commands():
        assert command.help, words
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (words, parameter.name)


def test_exit_codes_are_documented() -> None:
    """The page has the codes that the commands end with."""
    assert set(re.findall(r"^\| (\d) \|", sections()["Every command"], re.MULTILINE)) == {"0", "1", "2"}
