"""The Lua scripts, loaded from `scripts/`: one file for each verb, behind the preludes that it uses.

Owns: which prelude goes before which verb. Does not know: what they do.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from gateway.ledger.link import Script

#: With this line a script on a cluster may not touch another slot, and one that writes is refused whole, not half
#: way, when memory is out.
_SHEBANG: Final = "#!lua\n"
_READS_ONLY: Final = "#!lua flags=no-writes\n"
HOT: Final = ("admit", "settle", "accept", "release", "renew", "sweep")
ADMIN: Final = (
    "open_account", "change_account", "grant", "put_key", "change_key", "account", "keys", "holds",
)  # fmt: skip
ALONE: Final = ("state",)


def read(name: str) -> str:
    """The text of one file."""
    return (files("gateway.ledger") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script(verb: str) -> Script:
    """The whole script of a verb."""
    if verb in ALONE:
        return Script(verb, _READS_ONLY + read(verb))
    preludes = ("lib",) if verb in HOT else ("lib", "admin")
    return Script(verb, _SHEBANG + "".join(read(name) for name in (*preludes, verb)))
