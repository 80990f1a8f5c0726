"""Every command that a page names is one: its words and options are the command line's, its targets make's."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from docs.site.hooks import BESIDE, ROOT
from gateway.cli import main

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = {"sh", "console", "bash", ""}
_PROGRAM = re.compile(r"^(?:\S*/bin/|exec )?gateway (?=[a-z-])")


def pages() -> Iterator[tuple[str, str]]:
    """Every page, but the records and what has changed: those tell of what was."""
    here = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / name for name in BESIDE)]
    for path in sorted(here):
        name = str(path.relative_to(ROOT))
        if not name.startswith(("docs/adr/", "CHANGELOG")):
            yield name, path.read_text()


def in_blocks(text: str) -> Iterator[list[str]]:
    """The words after `gateway` of each line of a shell's, without what the shell does with it."""
    for kind, block in _BLOCK.findall(text):
        block = re.sub(r'"\$\(.*\)"', "TOLD", block.replace("\\\n", " "))  # what another command says
        for line in block.splitlines() if kind in _SHELL else []:
            for part in re.split(r"[|;&]+(?=(?:[^'\"]*['\"][^'\"]*['\"])*[^'\"]*$)", line):
                if found := _PROGRAM.search(part.strip()):
                    yield shlex.split(re.split(r"\s[<>]", part.strip()[found.end() :])[0])


def in_words(text: str) -> Iterator[list[str]]:
    """The same of each `gateway ...` within a sentence."""
    for span in re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text)):
        if (found := _PROGRAM.match(span)) and "|" not in span:
            yield span[found.end() :].split()


def wrong(words: list[str]) -> str | None:
    """What is wrong with a whole command; it is read, and not run."""
    context, command, rest = click.Context(main, info_name="gateway"), main, words
    try:
        while isinstance(command, click.Group):
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None
            context = click.Context(found, parent=context, info_name=name)
            command = found  # type: ignore[assignment]
        command.parse_args(context, list(rest))
    except click.exceptions.Exit:
        return None  # --help
    except click.ClickException as error:
        return error.format_message()
    finally:
        context.close()  # with the files that it named
    return None


def missing(words: list[str]) -> list[str]:
    """Which of the words of a command that a sentence names, perhaps in part, it has not."""
    command: click.Command = main
    while words and isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        if words[0] not in command.commands:
            return words[:1]
        command, words = command.commands[words[0]], words[1:]
    known = {spelling for each in command.params for spelling in each.opts} | {"--help", "--version"}
    return [word for word in words if word.startswith("--") and word not in known]


def test_commands_in_blocks_are_whole() -> None:
    """Each can be read by the command line as it stands."""
    found = [(name, words) for name, text in pages() for words in in_blocks(text)]
    assert len(found) > 25
    assert [(name, words, why) for name, words in found if (why := wrong(words))] == []


def test_commands_in_sentences_exist() -> None:
    """The words and options that a sentence names."""
    found = [(name, words) for name, text in pages() for words in in_words(text)]
    assert len(found) > 60
    assert [(name, words, what) for name, words in found if (what := missing(list(words)))] == []


def test_what_is_not_a_command_is_noticed() -> None:
    """A command that is gone, an option that it has not, an argument too few."""
    assert wrong(["ledgers", "verify"]) and wrong(["ledger", "verify", "--no"]) and wrong(["credits", "show"])
    assert not wrong(["credits", "show", "acme"])
    assert missing(["ledger", "prove"]) == ["prove"]
    assert missing(["ledger", "verify", "--no", "x"]) == ["--no"]


def test_targets_of_make_exist() -> None:
    """Each `make ...` of a page is in the Makefile, with its line of help."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", Path(ROOT, "Makefile").read_text(), re.MULTILINE))
    named = {
        (name, target)
        for name, text in pages()
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
        if f"`make {target}" in text or re.search(rf"^make {target}\b", text, re.MULTILINE)
    }
    assert {target for _, target in named} - targets == set()
    assert len(named) > 15
