"""From a request to whose key it is.

Owns: the forms in which clients send a key, or a temporary token of it. Does not know: what the key may do.
"""

from typing import Final

from multidict import CIMultiDictProxy

from gateway.edge.keys import key_digest
from gateway.edge.tokens import read_token, write_token
from gateway.pipeline.call import Client
from gateway.ports import Clock, Identity, Ledger, TemporaryToken
from gateway.settings.runtime import Route

_SECRET_MAX: Final = 512
_TOKEN_MAX: Final = 2048
_TOKEN_PARAMETER: Final = "token"  # noqa: S105 - its name


def credential_of(headers: CIMultiDictProxy[str], longest: int = _SECRET_MAX) -> str | None:
    """The key as it was sent: raw, or after `Bearer`. None where there is none that could be a key."""
    value = headers.get("Authorization", "").strip()
    scheme, _, rest = value.partition(" ")
    if rest:
        value = rest.strip() if scheme.lower() == "bearer" else ""
    return value if 0 < len(value) <= longest else None


class Identifier:
    """Looks keys up by their digest. The key itself is never kept."""

    def __init__(self, ledger: Ledger, pepper: str, clock: Clock) -> None:
        self._ledger = ledger
        self._pepper = pepper
        self._clock = clock

    async def __call__(self, client: Client, route: Route) -> Identity | None:
        """Whose key or token came with a request; None if nobody's. Raises LedgerUnavailable.

        A token opens sessions of the product that it was made for, and nothing else.
        """
        if route.session is not None:
            text = client.query.get(_TOKEN_PARAMETER) or credential_of(client.headers, _TOKEN_MAX) or ""
            token = read_token(self._pepper, text, self._clock.now()) if len(text) <= _TOKEN_MAX else None
            if token is not None and token.product == route.product.name:
                return Identity(account=token.account, key_id=token.key_id, plan=token.plan, token=token)
            if token is not None or _TOKEN_PARAMETER in client.query:
                return None
        secret = credential_of(client.headers)
        return None if secret is None else await self._ledger.identify(key_digest(self._pepper, secret))

    def write(self, token: TemporaryToken) -> str:
        """A token's text."""
        return write_token(self._pepper, token)
