"""The layout of the ledger: which keys there are, and what is in them, as one number that stands in Redis.

Owns: the number of this version's, and what is said of another one.
Does not know: any key (keys), record (records; each has a version of its own) or server.

Versions of the gateway that know the same layout may serve side by side, and follow each other in either order.
"""

from typing import Final

#: What this version writes.
LAYOUT: Final = 1
#: What this version can serve with.
KNOWN: Final = frozenset({LAYOUT})


def key_of(prefix: str) -> str:
    """STRING: the number. A ledger without it is of the first layout."""
    return f"{prefix}:layout"


def judge(found: str | None) -> str | None:
    """Why a ledger of this layout must be left alone, or None."""
    if found is None or (found.isdecimal() and int(found) in KNOWN):
        return None
    known = ", ".join(map(str, sorted(KNOWN)))
    return f"its data has layout {found}, and this version knows {known}: run the version that wrote it, or a newer one"
