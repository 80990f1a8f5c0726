"""From a request to whose key it is.

Owns: the forms in which clients send a key, or a temporary token of it, and which keys are looked for.
Does not know: what a key may do.
"""

from typing import Final

from multidict import CIMultiDictProxy

from gateway.core.errors import Code, Refused
from gateway.edge.attempts import asked_by, guesses
from gateway.edge.keys import identified, key_digest, may_be_secret
from gateway.edge.tokens import read_token, write_token
from gateway.pipeline.call import Client
from gateway.ports import Clock, Identity, Ledger, TemporaryToken
from gateway.settings.routes import Route
from gateway.upstream.headers import KEY_HEADERS

_SECRET_MAX: Final = 512
_TOKEN_MAX: Final = 2048
_TOKEN_PARAMETER: Final = "token"  # noqa: S105 - its name
#: `Token` is how Deepgram's clients say it.
_KEY_SCHEMES: Final = frozenset({"bearer", "token"})
_NOBODY: Final = Refused(code=Code.UNAUTHORIZED)
_NO_KEY: Final = Refused(code=Code.UNAUTHORIZED, details={"problem": "Missing Authorization header"})


def credential_of(headers: CIMultiDictProxy[str], longest: int = _SECRET_MAX) -> str | None:
    """The key as it was sent: in `Authorization`, raw or after `Bearer` or `Token`; else in a header that some
    service's clients send theirs in. None where there is none that could be a key.
    """
    value = headers.get("Authorization")
    if value is None:
        value = next((headers[name] for name in KEY_HEADERS if name in headers), "")
    value = value.strip()
    scheme, _, rest = value.partition(" ")
    if rest:
        value = rest.strip() if scheme.lower() in _KEY_SCHEMES else ""
    return value if 0 < len(value) <= longest else None


class Identifier:
    """Looks keys up by their digest. The key itself is never kept.

    A known key costs nothing more than its look-up. One that is not known here is looked for in the ledger: an address
    may have only so many of them looked for in vain, and none twice within a moment.
    """

    def __init__(
        self,
        ledger: Ledger,
        peppers: tuple[str, ...],
        clock: Clock,
        *,
        unknown_per_minute_max: int,
        trust_forwarded_for: bool,
    ) -> None:
        self._ledger = ledger
        self._peppers = peppers
        self._clock = clock
        self._trust = trust_forwarded_for
        self._unknown = Unknown(clock)
        self._attempts = guesses(clock, unknown_per_minute_max)

    async def __call__(self, client: Client, route: Route) -> Identity | Refused:
        """Whose key or token came with a request; else why that is not told. Raises LedgerUnavailable.

        A token opens sessions of the product that it was made for, and nothing else.
        """
        if route.session is not None:
            named = client.query.get(_TOKEN_PARAMETER)  # an empty one is none
            text = named or credential_of(client.headers, _TOKEN_MAX) or ""
            token = read_token(self._peppers, text, self._clock.now()) if len(text) <= _TOKEN_MAX else None
            if token is not None and token.product == route.product.name:
                return Identity(account=token.account, key_id=token.key_id, plan=token.plan, token=token)
            if token is not None or named:
                return _NOBODY
        return await self.of_key(client.headers, client.address)

    async def of_key(self, headers: CIMultiDictProxy[str], peer: str) -> Identity | Refused:
        """Whose key these headers, sent by this peer, carry. Raises LedgerUnavailable."""
        secret = credential_of(headers)
        if secret is None:
            return _NOBODY if headers.get("Authorization", "").strip() else _NO_KEY
        digest = key_digest(self._peppers[0], secret)
        known = self._ledger.known(digest)
        if known is not None or not may_be_secret(secret):
            return known or _NOBODY
        return await self._looked_for(digest, secret, headers, peer)

    async def _looked_for(
        self, digest: str, secret: str, headers: CIMultiDictProxy[str], peer: str
    ) -> Identity | Refused:
        if digest in self._unknown:
            return _NOBODY
        address = asked_by(headers, peer, trust=self._trust)
        if wait := self._attempts.wait(address):
            return Refused(code=Code.TOO_MANY_UNKNOWN_KEYS, retry_after_seconds=wait)
        found = await identified(self._ledger, self._peppers, secret)
        if found is None:  # only now does it count: keys that are good may be many, and new to this worker all at once
            self._unknown.add(digest)
            self._attempts.begin(address)
            return _NOBODY
        return found

    def guessed(self, headers: CIMultiDictProxy[str], peer: str, token: str) -> int:
        """Count a token of another kind that nobody has with the keys. 0; or another one may be shown in so many
        seconds. The same one again within a moment is no other guess.
        """
        digest = key_digest(self._peppers[0], token)
        if digest in self._unknown:
            return 0
        self._unknown.add(digest)
        return self._attempts.begin(asked_by(headers, peer, trust=self._trust))

    def write(self, token: TemporaryToken) -> str:
        """A token's text."""
        return write_token(self._peppers[0], token)


class Unknown:
    """Digests of keys that nobody had a moment ago. A key that is made is found after a second at most."""

    SECONDS_MAX: Final = 1.0
    DIGESTS_MAX: Final = 20_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._turns_at = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def __contains__(self, digest: str) -> bool:
        self._turn()
        return digest in self._new or digest in self._old

    def add(self, digest: str) -> None:
        """Nobody has it just now."""
        self._turn()
        if len(self._new) < self.DIGESTS_MAX // 2:
            self._new.add(digest)

    def _turn(self) -> None:
        """Forget the older half when its time is over: no digest is kept for longer than `SECONDS_MAX`."""
        now = self._clock.monotonic()
        if now >= self._turns_at:
            kept = self._new if now < self._turns_at + self.SECONDS_MAX / 2 else set()
            self._old, self._new = kept, set()
            self._turns_at = now + self.SECONDS_MAX / 2
