"""The opening handshake of a WebSocket (RFC 6455 4): what each side sends, and what the other must have sent.

Owns: the rules. No extension is offered or accepted: a compressed frame could not pass as it is.
Does not know: connections.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha1
from secrets import token_bytes
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

VERSION: Final = "13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16

Fields = CIMultiDict[str] | CIMultiDictProxy[str]


def accept_value(key: str) -> str:
    """The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def new_key() -> str:
    """A `Sec-WebSocket-Key`."""
    return b64encode(token_bytes(_KEY_BYTES)).decode()


def asks_for_socket(method: str, fields: Fields) -> bool:
    """Whether this HTTP/1.1 request is an opening handshake that may be answered with 101."""
    return (
        method == "GET"
        and "websocket" in tokens(fields, "Upgrade")
        and "upgrade" in tokens(fields, "Connection")
        and fields.getall("Sec-WebSocket-Version", []) == [VERSION]
        and _is_key(fields.getall("Sec-WebSocket-Key", []))
    )


def _is_key(values: list[str]) -> bool:
    if len(values) != 1:
        return False
    try:
        return len(b64decode(values[0], validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def tokens(fields: Fields, name: str) -> list[str]:
    """The items of a list field, in lower case."""
    return [item.strip().lower() for value in fields.getall(name, []) for item in value.split(",") if item.strip()]


def opening(key: str) -> dict[str, str]:
    """The fields of the request that are the handshake's own."""
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": VERSION,
    }


_OWN: Final = frozenset(name.lower() for name in (*opening(""), "Sec-WebSocket-Extensions", "Sec-WebSocket-Accept"))


def without_own(fields: Fields) -> Iterator[tuple[str, str]]:
    """The fields that are not the handshake's own: those that a client sent to us were for us."""
    return ((name, value) for name, value in fields.items() if name.lower() not in _OWN)


def accepting(key: str, subprotocol: str) -> dict[str, str]:
    """The fields of the 101 that are the handshake's own."""
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_value(key)}
    return fields | {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else fields


def subprotocols(fields: Fields) -> list[str]:
    """The offered ones, as written: they are compared with case."""
    offered = fields.getall("Sec-WebSocket-Protocol", [])
    return [item.strip() for value in offered for item in value.split(",") if item.strip()]


def objection(status: int, answer: Fields, key: str, offered: list[str]) -> str:
    """What is wrong with the answer to an opening handshake; empty is nothing."""
    if status != 101:
        return f"HTTP {status}"
    if "websocket" not in tokens(answer, "Upgrade") or "upgrade" not in tokens(answer, "Connection"):
        return "a 101 that upgrades to something else"
    if answer.getall("Sec-WebSocket-Accept", []) != [accept_value(key)]:
        return "a 101 that is no answer to our key"
    if tokens(answer, "Sec-WebSocket-Extensions"):
        return "a 101 with an extension that nobody asked for"
    chosen = answer.getall("Sec-WebSocket-Protocol", [])
    if len(chosen) > 1 or any(subprotocol not in offered for subprotocol in chosen):
        return "a 101 with a subprotocol that nobody asked for"
    return ""
