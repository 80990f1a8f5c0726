"""What is said of mistakes: `mistakes.yaml` has one each, `broken/` has whole files with many."""

import os
import shutil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settings.problems import Problem, SettingsError, nearest
from tests.settings.project import Project

HERE = Path(__file__).parent
MISTAKES: list[dict[str, Any]] = yaml.safe_load((HERE / "mistakes.yaml").read_text())
BROKEN = sorted(path.name for path in (HERE / "broken").iterdir())


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{each['file']}-{each['new'].strip()[:40]}" for each in MISTAKES])
def test_a_mistake_is_told(project: Project, mistake: dict[str, Any]) -> None:
    """Each mistake is told at its place, with what to do, and nothing else is."""
    project.edit(mistake["file"], mistake["old"], mistake["new"])
    assert project.problems() == mistake["problems"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_config_is_rendered(project: Project, name: str) -> None:
    """Every problem of every file at once: place, path, sentence, source line, caret."""
    shutil.copytree(HERE / "broken" / name, project.directory, dirs_exist_ok=True)
    expected = project.directory / "expected.txt"
    assert project.rendered() + "\n" == expected.read_text()


def test_secrets_are_never_shown(project: Project) -> None:
    """Neither the source line nor the message of a problem with a secret shows it."""
    project.edit("gateway.yaml", "key_pepper: ${GATEWAY_KEY_PEPPER:-demo-key-pepper}", "key_pepper: [hunter2]")
    project.edit("gateway.yaml", "  # url: ${REDIS_URL} ", "  url: foo://user:hunter2@host ")
    text = project.rendered()
    assert "key_pepper: must be text" in text and "redis.url: must be a Redis URL" in text
    project.edit(
        "gateway.yaml",
        "base_url: http://127.0.0.1:8082      # in production https://streaming",
        "base_url: http://a:hunter2@b #",
    )
    text = project.rendered()
    assert "streaming.base_url: must be only scheme" in text and "hunter2" not in text


def test_the_error_is_the_rendering() -> None:
    """A SettingsError that nobody catches still says everything."""
    problem = Problem("f.yaml", 2, 3, "a.b", "is wrong", "  b: 1")
    assert str(SettingsError([problem])) == "f.yaml:2:3: a.b: is wrong\n      b: 1\n      ^\n1 problem in the config"


def test_tabs_keep_the_caret_in_place() -> None:
    """The caret's line repeats the tabs of the source line."""
    assert Problem("f", 1, 3, "", "m", "\ta b").render().endswith("    \ta b\n    \t ^")


def test_a_long_line_is_shown_around_the_place() -> None:
    """A line that does not fit into a terminal is cut, and the caret stays below what is meant."""
    source = "x" * 5000 + "HERE" + "x" * 5000
    _, shown, caret = Problem("f", 1, 5001, "", "m", source).render().split("\n")
    assert len(shown) < 300 and shown[caret.index("^")] == "H"


def test_nearest() -> None:
    """A near name is offered; else what there is; else that there is nothing."""
    assert nearest("timout", ["timeout", "host"]) == '; did you mean "timeout"?'
    assert nearest("zzz", ["b", "a"]) == "; there are: a, b"
    assert nearest("zzz", []) == "; there are none"


def test_the_main_file_is_missing(tmp_path: Path, project: Project) -> None:
    """A file that cannot be read is a problem like others."""
    (tmp_path / "gateway.yaml").unlink()
    assert (
        project.rendered()
        == "gateway.yaml: the file cannot be read: No such file or directory\n1 problem in the config"
    )


def test_a_product_in_no_tier(project: Project) -> None:
    """Routes that nobody may use are told; public ones do not count."""
    for quota in ("30", "300"):
        line = f"      llm-gateway: {{requests: {{quota: {quota}, window_seconds: 60, per_model: true}}}}\n"
        project.edit("config/tiers.yaml", line, "")
    (problem,) = project.problems()
    assert problem == (
        "config/products/llm-gateway.yaml «llm-gateway»: product: "
        "no tier includes this product, so nobody can reach chat.completions: add it to a tier"
    )


def test_discounts_of_two_products_for_one_sku(project: Project) -> None:
    """Where two products charge a SKU and a card discounts them differently, it must say which."""
    project.edit(
        "speech-to-text",
        "when: [reply.entity_detection, job.entity_detection], part_of: speech-understanding",
        "when: [reply.entity_detection, job.entity_detection]",
    )
    sku = "understanding.translation"
    project.edit("speech-understanding", f"sku: {sku}", "sku: understanding.entity_detection")
    project.edit("config/prices.yaml", 'speech-to-text: "50"', 'speech-to-text: "50", speech-understanding: "40"')
    assert any("whose discounts differ: give it one of its own" in problem for problem in project.problems())


def test_a_product_by_the_name_of_another_limit(project: Project) -> None:
    """Its requests would be counted as those of each key, or of the account."""
    project.edit("guardrails", "product: guardrails", "product: key")
    tiers = project.path("config/tiers.yaml").read_text()
    limited = "key: {requests: {quota: 1, window_seconds: 1}}"
    project.write("config/tiers.yaml", tiers.replace("guardrails: {}", limited))
    assert sum("has the name of another limit" in problem for problem in project.problems()) == 3


def test_a_file_of_each_kind_once(project: Project) -> None:
    """A second tiers or prices file is a problem; a file that is included twice is read once."""
    shutil.copy(project.path("config/tiers.yaml"), project.directory / "config" / "tiers2.yaml")
    project.edit("gateway.yaml", "  - config/tiers.yaml", "  - config/tiers.yaml\n  - config/*.yaml\n  - gateway.yaml")
    assert project.problems() == [
        "config/tiers2.yaml «default_tier:»: : there is another file with tiers: DIRECTORY/config/tiers.yaml"
    ]


def test_what_is_no_file_that_can_be_read(project: Project) -> None:
    """A link to nowhere, a directory and a pipe in place of a product's file are told, and nothing waits for them."""
    products = project.directory / "config" / "products"
    for name in ("guardrails", "voice-agent", "streaming"):
        (products / f"{name}.yaml").unlink()
    (products / "guardrails.yaml").symlink_to("gone.yaml")
    (products / "voice-agent.yaml").mkdir()
    os.mkfifo(products / "streaming.yaml")
    assert {problem for problem in project.problems() if "cannot be read" in problem} == {
        "config/products/guardrails.yaml «»: : the file cannot be read: No such file or directory",
        "config/products/voice-agent.yaml «»: : the file cannot be read: Is a directory",
        "config/products/streaming.yaml «»: : the file cannot be read: it is no file",
    }


def test_what_editors_hide_beside_a_file(project: Project) -> None:
    """A pattern is read as a shell reads it: a lock or a copy whose name begins with a dot is no file of the config."""
    products = project.directory / "config" / "products"
    shutil.copy(products / "guardrails.yaml", products / "._guardrails.yaml")
    (products / ".#guardrails.yaml").symlink_to("somebody@a-host.1234")
    assert "guardrails" in project.load().products


def test_a_link_to_itself_and_a_name_that_no_file_has(project: Project) -> None:
    """They are told like any other file that cannot be read, or is not there."""
    products = project.directory / "config" / "products"
    (products / "guardrails.yaml").unlink()
    (products / "guardrails.yaml").symlink_to("guardrails.yaml")
    text = project.path("gateway.yaml").read_text()
    project.write("gateway.yaml", text.replace("include:\n", 'include:\n  - "a\\0b/*.yaml"\n'))
    told = "\n".join(project.problems())
    assert "guardrails.yaml «»: : the file cannot be read: Too many levels of symbolic links" in told
    assert "no file matches" in told


def test_a_main_file_without_a_list_of_files(project: Project) -> None:
    """What is wrong with it is told, and no file is missed that it could not name."""
    text = project.path("gateway.yaml").read_text()
    project.write("gateway.yaml", text[: text.index("include:")] + "include: config/*.yaml\n")
    assert project.problems() == ["gateway.yaml «config/*.yaml»: include: must be a list"]
    project.write("gateway.yaml", "- include: x\n")
    assert project.problems() == ["gateway.yaml «-»: : the file must be a mapping of keys to values"]


def test_a_job_kind_twice(project: Project) -> None:
    """Jobs are kinds of resources, known by one name over all products."""
    text = project.path("speech-to-text").read_text()
    project.write("config/products/twin.yaml", text.replace("product: speech-to-text", "product: twin"))
    problems = project.problems()
    assert any('jobs.transcript: there is another job "transcript" at' in problem for problem in problems)
    assert any('there is another route "transcript.get" at' in problem for problem in problems)


WORDS = [
    "null",
    "[]",
    "{}",
    "1",
    "-1",
    "1.5",
    "true",
    "x",
    "''",
    "[x]",
    "{x: y}",
    "reply.x",
    "'{'",
    "${X",
    "job.a",
    "'*'",
]


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_damage_is_told(random: Random) -> None:
    """Lines lost, repeated or overwritten, in any file: a runtime or problems in plain words, never another fault."""
    with TemporaryDirectory() as directory:
        project = Project(Path(directory))
        files = [project.path("gateway.yaml"), *sorted((project.directory / "config").rglob("*.yaml"))]
        for _ in range(random.randint(1, 3)):
            file = random.choice(files)
            lines = file.read_text().split("\n")
            index = random.randrange(len(lines))
            name, colon, _ = lines[index].partition(":")
            lines[index : index + 1] = random.choice(
                [[], [lines[index]] * 2, [f"{name}{colon} {random.choice(WORDS)}"]]
            )
            file.write_text("\n".join(lines))
        try:
            project.load()
        except SettingsError as error:
            assert error.problems
            assert "Input should" not in error.render()
