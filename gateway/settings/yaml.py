"""YAML with positions, and without its surprises.

Owns: which YAML is accepted, what a scalar means, `${ENV}` in text, where every key and value stands.
Does not know: what the keys mean.

Accepted is one document of mappings, lists and scalars. Plain scalars are those of YAML 1.2's core schema, so `on`,
`no`, `1:30` and `0123` are text. Keys are always text. A repeated key, a tag and a merge key are problems. Aliases
work, but what they expand to is bounded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from gateway.settings.problems import Document, Path, Position, Problem, dotted, shown_line

DOCUMENT_BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 40
NODES_MAX: Final = 50_000

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FLOAT: Final = re.compile(r"[-+]?(?=[.0-9])(0|[1-9][0-9]{0,30})?(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?")
_VARIABLE: Final = re.compile(r"\$(?P<escaped>\$)?\{(?P<body>[^{}]*)\}|\$\{")
_NAME: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)


class FromEnvironment(str):
    """Text that is a whole `${VARIABLE}`: where a number or a boolean is wanted, it is read as one."""

    __slots__ = ()


@dataclass(slots=True)
class _Node:
    """A scalar's meaning, a list's nodes, or a mapping's (key, key's position, node) in `value`."""

    position: Position
    value: Any = None
    kind: str = "scalar"
    open: bool = True
    text: bool = False  # a scalar that is text


@dataclass(slots=True)
class _Reading:
    file: str
    environ: Mapping[str, str]
    secrets: frozenset[str]
    lines: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    nodes: int = 0

    def problem(self, path: Path, position: Position, message: str) -> None:
        source = shown_line(self.lines, position.line, self.secrets)
        self.problems.append(Problem(self.file, position.line, position.column, dotted(path), message, source))


class _Bounded(Exception):
    """The document is larger than it may be; the problem is noted."""


def parse_scalar(text: str) -> Any:
    """What a plain scalar means in YAML 1.2's core schema; text where it is nothing else."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and any(character.isdigit() for character in text):
        return float(text)
    return text


def read_yaml(
    file: str, content: bytes, environ: Mapping[str, str], secrets: frozenset[str] = frozenset()
) -> tuple[Document | None, tuple[Problem, ...]]:
    """A file's content as data with positions, or its problems. Lines with keys of `secrets` are not shown."""
    reading = _Reading(file, environ, secrets)
    if len(content) > DOCUMENT_BYTES_MAX:
        return None, (Problem(file, 0, 0, "", f"the file is too large: at most {DOCUMENT_BYTES_MAX} bytes"),)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return None, (Problem(file, line, 1, "", "the file is not UTF-8 text"),)
    reading.lines = tuple(re.split(r"\r\n|\r|\n", text))
    try:
        root = _parse(reading, text)
        if root is None:
            return None, (*reading.problems, Problem(file, 0, 0, "", "the file is empty"))
        data = _build(reading, root, ())
    except _Bounded:
        return None, tuple(reading.problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _position(mark) if mark else Position(1, 1)
        bare = "${" in shown_line(reading.lines, position.line, ())  # its brace opens a mapping, among others
        hint = ": where braces are, a ${NAME} is put in quotes" if bare else ""
        reading.problem((), position, f"this is not YAML: {error.problem or error.context}{hint}")
        return None, tuple(reading.problems)
    except yaml.YAMLError as error:
        return None, (Problem(file, 0, 0, "", f"this is not YAML: {str(error).splitlines()[0]}"),)
    document = Document(
        file=file, lines=reading.lines, data=data, keys=reading.keys, values=reading.values, secrets=secrets
    )
    return document, tuple(reading.problems)


# ---- from events to nodes


def _parse(reading: _Reading, text: str) -> _Node | None:
    """The tree of nodes; an alias is the very node of its anchor."""
    tree = _Tree()
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        position = _position(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            if tree.root is not None:
                reading.problem((), position, "only one document is read from a file: remove the ---")
                raise _Bounded
        elif isinstance(event, yaml.CollectionEndEvent):
            tree.close()
        elif isinstance(event, yaml.NodeEvent):
            node = _node(reading, event, position, tree.anchors)
            key = tree.wants_key()
            tree.add(node, _key_text(reading, event, node) if key else "", position)
            if isinstance(event, yaml.CollectionStartEvent):
                tree.open(node)
                if len(tree.stack) > DEPTH_MAX:
                    reading.problem((), position, f"nested too deep: at most {DEPTH_MAX} levels")
                    raise _Bounded
    return tree.root


@dataclass(slots=True)
class _Tree:
    """The nodes so far. `keys`: for each open collection, the key that waits for its value."""

    root: _Node | None = None
    anchors: dict[str, _Node] = field(default_factory=dict)
    stack: list[_Node] = field(default_factory=list)
    keys: list[tuple[str, Position] | None] = field(default_factory=list)

    def wants_key(self) -> bool:
        """Whether the next node is a key."""
        return bool(self.stack) and self.stack[-1].kind == "mapping" and self.keys[-1] is None

    def add(self, node: _Node, key: str, position: Position) -> None:
        if not self.stack:
            self.root = node
        elif self.stack[-1].kind == "list":
            self.stack[-1].value.append(node)
        elif (waiting := self.keys[-1]) is None:
            self.keys[-1] = (key, position)
        else:
            self.stack[-1].value.append((*waiting, node))
            self.keys[-1] = None

    def open(self, node: _Node) -> None:
        self.stack.append(node)
        self.keys.append(None)

    def close(self) -> None:
        self.stack.pop().open = False
        self.keys.pop()


def _position(mark: Any) -> Position:
    """libyaml counts from 0."""
    return Position(mark.line + 1, mark.column + 1)


def _node(reading: _Reading, event: yaml.NodeEvent, position: Position, anchors: dict[str, _Node]) -> _Node:
    if isinstance(event, yaml.AliasEvent):
        node = anchors.get(event.anchor or "")
        if node is None:
            reading.problem((), position, f"there is no anchor &{event.anchor} above this alias")
            return _Node(position)
        if node.kind != "scalar" and node.open:
            reading.problem((), position, f"the alias *{event.anchor} contains itself")
            raise _Bounded
        return node
    node = _Node(position)
    if getattr(event, "tag", None) is not None:
        reading.problem((), position, "tags are not supported: remove it, and quote a value that is text")
    if isinstance(event, yaml.ScalarEvent):
        node.value = parse_scalar(event.value) if not event.style and not event.tag else event.value
        node.text = type(node.value) is str
    else:
        node.kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
        node.value = []
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _key_text(reading: _Reading, event: yaml.NodeEvent, node: _Node) -> str:
    """A key is the text that is written, whatever it would mean as a value."""
    if isinstance(event, yaml.ScalarEvent):
        return str(event.value)
    if node.text:  # an alias of text
        return str(node.value)
    reading.problem((), node.position, "a key is a plain text")
    raise _Bounded


# ---- from nodes to data


def _build(reading: _Reading, node: _Node, path: Path) -> Any:
    reading.nodes += 1
    if reading.nodes > NODES_MAX or len(path) > DEPTH_MAX:
        reading.problem(path, node.position, f"too much data: at most {NODES_MAX} values, aliases expanded")
        raise _Bounded
    reading.values[path] = node.position
    if node.kind == "list":
        return [_build(reading, child, (*path, index)) for index, child in enumerate(node.value)]
    if node.kind == "mapping":
        mapping: dict[str, Any] = {}
        for key, position, child in node.value:
            below = (*path, key)
            if key == "<<":
                reading.problem(below, position, "merge keys are not supported: write the keys out")
            elif key in mapping:
                first = reading.keys[below].line
                reading.problem(below, position, f"repeated key: it is already in line {first}")
            else:
                reading.keys[below] = position
                mapping[key] = _build(reading, child, below)
        return mapping
    return _expand(reading, node.value, path, node.position) if node.text else node.value


def _expand(reading: _Reading, text: str, path: Path, position: Position) -> str:
    """`${NAME}` and `${NAME:-default}` from the environment; `$${` is a plain `${`."""
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        body = match["body"]
        if match["escaped"] is not None:
            return f"${{{body}}}"
        named = _NAME.fullmatch(body) if body is not None else None
        if named is None:
            message = "write a variable as ${NAME} or ${NAME:-default}, and a plain ${ as $${"
            reading.problem(path, position, message)
            return ""
        default = named["default"]
        found = reading.environ.get(named["name"])
        if default is not None:
            return found or default[2:]
        if found is None:
            name = named["name"]
            message = f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}"
            reading.problem(path, position, message)
            return ""
        return found

    expanded = _VARIABLE.sub(value, text)
    whole = _VARIABLE.fullmatch(text)
    return FromEnvironment(expanded) if whole is not None and whole["escaped"] is None else expanded
