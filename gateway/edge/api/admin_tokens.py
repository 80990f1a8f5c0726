"""Who may use the admin API: bearer tokens, their names and scopes.

Owns: the form of a token, which of them the config knows, and by which digest.
Does not know: routes, HTTP.

The config holds a token's SHA-256 alone: a token is 256 random bits, so nothing can be learnt from its digest. A token
is revoked by taking its line away: the next reload of the config (SIGHUP) ends it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from gateway.settings.runtime import AdminScope, Runtime

SCOPES: Final[tuple[AdminScope, ...]] = ("read", "billing", "admin", "credit")
#: What is served to other services of ours, and not to people: the token of ops is none for it.
FOR_SERVICES: Final[frozenset[AdminScope]] = frozenset({"credit"})
#: The name of whoever has the config's `admin_token`.
ROOT_NAME: Final = "admin"
_PREFIX: Final = "gwa_"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the name of a token, and what it is good for."""

    name: str
    scopes: frozenset[AdminScope]


class AdminTokens:
    """The tokens of a config."""

    def __init__(self, runtime: Runtime) -> None:
        known = [(token.sha256, Actor(token.name, token.scopes)) for token in runtime.admin_tokens]
        if runtime.admin_token:
            known.append((token_digest(runtime.admin_token), Actor(ROOT_NAME, frozenset(SCOPES) - FOR_SERVICES)))
        self._known = tuple(known)

    @property
    def any(self) -> bool:
        """Whether there is a token at all: without one the API is off."""
        return bool(self._known)

    @property
    def known(self) -> tuple[tuple[str, Actor], ...]:
        """Every token's digest, and whose it is."""
        return self._known

    def actor(self, token: str) -> Actor | None:
        """Whose token this is; None if nobody's."""
        digest, found = token_digest(token), None
        for known, actor in self._known:
            if hmac.compare_digest(digest, known):  # of one length: the time says nothing of the token's
                found = actor
        return found


def token_digest(token: str) -> str:
    """What the config has of a token: hex SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_admin_token() -> str:
    """A fresh random token."""
    return _PREFIX + secrets.token_urlsafe(32)
