"""Which of a cluster's hash slots a key, and so a command, belongs to.

Owns: CRC16 and hash tags; where a command has its first key. Does not know: who owns a slot.
"""

import binascii
from typing import Final

from gateway.ledger.connection import Part

SLOTS: Final = 16_384

_KEYLESS: Final = frozenset(
    {
        *("ACL", "AUTH", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "FLUSHALL", "FLUSHDB", "INFO"),
        *("KEYS", "LASTSAVE", "LATENCY", "PING", "PUBLISH", "RANDOMKEY", "SCAN", "SCRIPT", "SLOWLOG", "TIME", "WAIT"),
        *("WAITAOF",),
    }
)
# Where the first key stands when it is not the first word after the command.
_KEY_INDEX: Final = {
    "EVAL": 3,
    "EVALSHA": 3,
    "EVAL_RO": 3,
    "EVALSHA_RO": 3,
    "MEMORY": 2,
    "OBJECT": 2,
    "XGROUP": 2,
    "XINFO": 2,
}


def hash_slot(key: str | bytes) -> int:
    """The slot of a key, 0 to 16383: CRC16 of what its first `{...}` holds, of the whole key when there is none."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return binascii.crc_hqx(raw, 0) % SLOTS


def never_of(key: str) -> str:
    """A key in the slot of another one, and beginning as that does, that never exists."""
    start = key.find("{")
    tagged = start >= 0 and key.find("}", start + 1) > start + 1
    return f"{key}:never" if tagged else f"{{{key}}}:never"


def command_slot(parts: tuple[Part, ...]) -> int | None:
    """The slot of a command's first key; None for a command without one, which any server may answer."""
    word = parts[0].decode() if isinstance(parts[0], bytes) else str(parts[0])
    name = word.upper()
    index = _KEY_INDEX.get(name, 1)
    if name in _KEYLESS or len(parts) <= index or (index == 3 and str(parts[2]) == "0"):
        return None
    key = parts[index]
    return hash_slot(str(key) if isinstance(key, int) else key)
