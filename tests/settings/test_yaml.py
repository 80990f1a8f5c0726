"""YAML with positions: what is accepted, what a scalar means, `${ENV}`, and every place."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.problems import Position
from gateway.settings.yaml import DEPTH_MAX, DOCUMENT_BYTES_MAX, NODES_MAX, FromEnvironment, parse_scalar, read_yaml


def data_of(text: str, **environ: str) -> Any:
    """The data of a text without problems."""
    document, problems = read_yaml("f.yaml", text.encode(), environ)
    assert document is not None and not problems, problems
    return document.data


def problems_of(text: str | bytes, **environ: str) -> list[str]:
    """Each problem of a text as `line:column: path: message`."""
    _, problems = read_yaml("f.yaml", text if isinstance(text, bytes) else text.encode(), environ)
    return [f"{found.line}:{found.column}: {found.path}: {found.message}" for found in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("NO", "NO"), ("y", "y"), ("n", "n"),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("tRue", "tRue"),
        ("null", None), ("~", None), ("Null", None), ("nil", "nil"),
        ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("0123", "0123"), ("-0123", "-0123"), ("00", "00"),
        ("0", 0), ("-7", -7), ("+7", 7), ("1_000", "1_000"), ("0x1F", "0x1F"), ("0b1", "0b1"), ("0o17", "0o17"),
        ("1.5", 1.5), ("-.5", -0.5), ("1.", 1.0), ("1e3", 1000.0), ("01.5", "01.5"), ("1.2.3", "1.2.3"), (".", "."),
        ("e3", "e3"), ("2026-04-07", "2026-04-07"), ("2026-04-07T00:00:00Z", "2026-04-07T00:00:00Z"), ("=", "="),
        (".inf", ".inf"), (".nan", ".nan"), ("9" * 40, "9" * 40),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    """Only null, true, false and plain decimal numbers are anything but text."""
    found = data_of(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ['"on"', "'1'", "|\n  1", ">\n  null"])
def test_quoted_is_text(text: str) -> None:
    """What is quoted, or a block, is always text."""
    assert isinstance(data_of(f"a: {text}")["a"], str)


def test_keys_are_text() -> None:
    """A key is the text that is written."""
    assert data_of("on: 1\n1: 2\nnull: 3\n0123: 4\n'x': 5") == {"on": 1, "1": 2, "null": 3, "0123": 4, "x": 5}


def test_every_key_and_value_has_its_place() -> None:
    """Lines and columns count from 1, for keys and for values, in block and flow style."""
    document, _ = read_yaml("f.yaml", b"a:\n  b: [1, {c: x}]\n", {})
    assert document is not None
    assert document.keys == {("a",): (1, 1), ("a", "b"): (2, 3), ("a", "b", 1, "c"): (2, 11)}
    assert document.values[("a", "b", 0)] == Position(2, 7)
    assert document.values[("a", "b", 1, "c")] == Position(2, 14)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: a: repeated key: it is already in line 1"),
        ("x:\n  - {k: 1, k: 2}", "2:12: x[0].k: repeated key: it is already in line 2"),
        ("a: !!str 1", "1:4: : tags are not supported: remove it, and quote a value that is text"),
        ("a: !custom {b: 1}", "1:4: : tags are not supported: remove it, and quote a value that is text"),
        ("a: !!python/name:os", "1:4: : tags are not supported: remove it, and quote a value that is text"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "3:3: c.<<: merge keys are not supported: write the keys out"),
        ("a: 1\n---\nb: 2", "2:1: : only one document is read from a file: remove the ---"),
        ("? [a, b]\n: 1", "1:3: : a key is a plain text"),
        ("a: &x [*x]", "1:8: : the alias *x contains itself"),
        ("a: *x", "1:4: : there is no anchor &x above this alias"),
        ("a:\n\t- b", "2:1: : this is not YAML: found character that cannot start any token"),
        (
            "a: {b: ${C:-d}}",
            "1:9: : this is not YAML: did not find expected ',' or '}': where braces are, a ${NAME} is put in quotes",
        ),
        ("a: 'x", "1:6: : this is not YAML: found unexpected end of stream"),
        ("", "0:0: : the file is empty"),
        ("# nothing\n", "0:0: : the file is empty"),
        ("a: \x07", "0:0: : this is not YAML: unacceptable character #x0007: control characters are not allowed"),
        ("[" * (DEPTH_MAX + 1), f"1:{DEPTH_MAX + 1}: : nested too deep: at most {DEPTH_MAX} levels"),
        ("[" * 100_000, f"1:{DEPTH_MAX + 1}: : nested too deep: at most {DEPTH_MAX} levels"),
        ("a: " + "x" * DOCUMENT_BYTES_MAX, f"0:0: : the file is too large: at most {DOCUMENT_BYTES_MAX} bytes"),
    ],
)  # fmt: skip
def test_traps(text: str, problem: str) -> None:
    """What YAML would take quietly, or could be used against us, is a problem at its place."""
    assert problem in problems_of(text)


def test_not_utf_8() -> None:
    """The line of the first byte that is no text is named."""
    assert problems_of(b"a: 1\nb: \xff") == ["2:1: : the file is not UTF-8 text"]


def test_all_repeated_keys_at_once() -> None:
    """One problem does not hide the next."""
    assert len(problems_of("a: 1\na: 2\nb: 1\nb: 2\nc: ${NONE}")) == 3


def test_aliases_work() -> None:
    """An alias is the value of its anchor, with the anchor's place."""
    assert data_of("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_alias_bombs_are_bounded() -> None:
    """Nine lines cannot become a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (problem,) = problems_of("\n".join(lines))
    assert f"too much data: at most {NODES_MAX} values" in problem


def test_environment() -> None:
    """`${NAME}`, `${NAME:-default}` and `$${`, in plain and quoted text, within and as whole values."""
    text = """
    a: ${A}
    b: "x-${A}-${B:-b}"
    c: '$${A}'
    d: ${EMPTY:-used}
    e: ${A:-x:-y}
    f: $A
    g: ${B:-}
    """
    assert data_of(text, A="1", EMPTY="") == {
        "a": "1", "b": "x-1-b", "c": "${A}", "d": "used", "e": "1", "f": "$A", "g": "",
    }  # fmt: skip


def test_environment_is_never_yaml() -> None:
    """A variable's value is text, whatever is in it."""
    assert data_of("a: ${A}", A="x\nb: {c: [") == {"a": "x\nb: {c: ["}
    assert data_of("a: ${A}", A="${B}") == {"a": "${B}"}


def test_only_a_whole_variable_may_become_a_number() -> None:
    """A value that is one variable is marked, so that a number can be read where one is wanted."""
    found = data_of("a: ${A}\nb: x${A}\nc: $${A}", A="7")
    assert [type(found[key]) for key in "abc"] == [FromEnvironment, str, str]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "x:\n  a: ${NONE}",
            "2:6: x.a: the environment variable NONE is not set: set it, or write ${NONE:-default}",
        ),
        ("a: ${not a name}", "1:4: a: write a variable as ${NAME} or ${NAME:-default}, and a plain ${ as $${"),
        ("a: ${", "1:4: a: write a variable as ${NAME} or ${NAME:-default}, and a plain ${ as $${"),
        ("a: ${X:default}", "1:4: a: write a variable as ${NAME} or ${NAME:-default}, and a plain ${ as $${"),
    ],
)
def test_environment_problems(text: str, problem: str) -> None:
    """A missing variable, and what is none, is a problem where it stands."""
    assert problems_of(text) == [problem]


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans(), lambda below: st.lists(below) | st.dictionaries(st.text(), below)
    )
)
def test_json_is_read_as_json(value: object) -> None:
    """JSON is YAML: any data, written as JSON, comes back (but for what is longer than a number may be)."""
    import json

    written = json.dumps({"v": value}).replace("${", "$${").replace("<<", "<")
    document, problems = read_yaml("f.yaml", written.encode(), {})
    if not problems:
        assert document is not None
        assert document.data == json.loads(written.replace("$${", "${")) or "e" in written or len(written) > 40


@given(st.text(max_size=40))
def test_parse_scalar_never_raises(text: str) -> None:
    """Any text is a scalar."""
    assert isinstance(parse_scalar(text), str | int | float | bool | None)


@given(st.text(alphabet=" -:{}[]&*!|>'\"#\n\tab1,?%@`$\\~", max_size=60))
def test_any_text_is_data_or_problems(text: str) -> None:
    """Reading never raises, and what has no problem has data."""
    document, problems = read_yaml("f.yaml", text.encode(), {})
    assert document is not None or problems
    assert all(problem.message for problem in problems)
