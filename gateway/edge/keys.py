"""Secrets of API keys: how they are made and how the ledger finds them.

Owns: the digest under which a key is stored, how it changes with the pepper, the form of a new secret.
Does not know: where a secret stands in a request (identify), or accounts.
"""

import asyncio
import base64
import binascii
import hmac
import secrets
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from gateway.core.errors import LedgerUnavailable
from gateway.ports import Identity, Ledger

#: Secrets with a checksum begin so. Older ones, `gw_` and 43 characters, have none, and go on working.
_PREFIX: Final = "gwk_"
_CHECK_LENGTH: Final = 6
_SECRET_BYTES: Final = 32  # 43 URL-safe characters
_TEXT_LENGTH: Final = 43


def key_digest(pepper: str, secret: str) -> str:
    """The name under which the ledger knows a key: hex BLAKE2b of the secret, keyed with the pepper's own digest.

    A keyed BLAKE2b is a MAC (RFC 7693) at a tenth of what HMAC costs on every call. A header's bytes that are no UTF-8
    reach us as surrogates; they are turned back, and match nothing.
    """
    return blake2b(secret.encode("utf-8", "surrogateescape"), key=_mac_key(pepper), digest_size=32).hexdigest()


def pepper_id(pepper: str) -> str:
    """What a pepper is called in the ledger, where nobody may learn it."""
    return blake2b(b"pepper", key=_mac_key(pepper), digest_size=6).hexdigest()


async def identified(ledger: Ledger, peppers: tuple[str, ...], secret: str) -> Identity | None:
    """Whose key this is, by any of these peppers; None if nobody's. Raises LedgerUnavailable.

    All are looked for at once. A key that is found by another one than the first goes over to that.
    """
    newest, *others = (key_digest(pepper, secret) for pepper in peppers)
    found, *by_others = await asyncio.gather(*(ledger.identify(digest) for digest in (newest, *others)))
    if found is not None:
        return found
    for digest, other in zip(others, by_others, strict=True):
        if other is not None:
            with suppress(LedgerUnavailable):  # it works as it is, and goes over with its next call
                await ledger.move_key(identity=other, old=digest, new=newest, pepper=pepper_id(peppers[0]))
                await ledger.identify(newest)  # and is remembered by it
            return other
    return None


@lru_cache(maxsize=16)
def _mac_key(pepper: str) -> bytes:
    return blake2b(pepper.encode(), digest_size=64).digest()


def new_secret() -> str:
    """A fresh random secret."""
    return _written(secrets.token_bytes(_SECRET_BYTES))


def repeatable_secret(pepper: str, account: str, operation: str) -> str:
    """The secret of a key made by a named operation: a replay of the operation makes the same one.

    So the reply to a lost request can be had again although no store keeps the secret. Whoever has not the pepper
    cannot compute it.
    """
    material = f"gateway key secret\0{account}\0{operation}"
    return _written(hmac.digest(pepper.encode(), material.encode(), "sha256"))


def _written(raw: bytes) -> str:
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return _PREFIX + text + _check(text)


def may_be_secret(text: str) -> bool:
    """Whether this may be a key's secret: False where one that was made here is misspelt, or made up by somebody.

    So a typo or a guess costs no look into the ledger. The checksum is no proof: whoever reads this can compute it.
    """
    if not text.startswith(_PREFIX):
        return True
    body = text[len(_PREFIX) :]
    return len(body) == _TEXT_LENGTH + _CHECK_LENGTH and _check(body[:_TEXT_LENGTH]) == body[_TEXT_LENGTH:]


def _check(text: str) -> str:
    """CRC-32 of a secret's text, in base64: it tells every single wrong character, and two that changed places."""
    checksum = binascii.crc32(text.encode("utf-8", "surrogateescape")).to_bytes(4, "big")
    return base64.urlsafe_b64encode(checksum).decode().rstrip("=")
