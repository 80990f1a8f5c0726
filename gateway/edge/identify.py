"""From an `Authorization` header to whose key it is.

Owns: the forms in which clients send a key. Does not know: what the key may do.
"""

from typing import Final

from multidict import CIMultiDictProxy

from gateway.edge.keys import key_digest
from gateway.ports import Identity, Ledger

_SECRET_MAX: Final = 512


def credential_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The key as it was sent: raw, or after `Bearer`. None where there is none that could be a key."""
    value = headers.get("Authorization", "").strip()
    scheme, _, rest = value.partition(" ")
    if rest:
        value = rest.strip() if scheme.lower() == "bearer" else ""
    return value if 0 < len(value) <= _SECRET_MAX else None


class Identifier:
    """Looks keys up by their digest. The key itself is never kept."""

    def __init__(self, ledger: Ledger, pepper: str) -> None:
        self._ledger = ledger
        self._pepper = pepper

    async def __call__(self, headers: CIMultiDictProxy[str]) -> Identity | None:
        """Whose key came with these headers; None if nobody's. Raises LedgerUnavailable."""
        secret = credential_of(headers)
        return None if secret is None else await self._ledger.identify(key_digest(self._pepper, secret))
