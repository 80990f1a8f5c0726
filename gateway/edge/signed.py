"""Texts that only we can have written: what a client keeps for us and shows again.

Owns: their form (payload and signature, URL-safe) and that one written for one purpose is nothing for another.
Does not know: what the payloads say. They are signed, not hidden: nothing belongs there that a holder must not read.
"""

import base64
import binascii
import hmac
from functools import lru_cache
from hashlib import blake2b
from typing import Final

_MAC_BYTES: Final = 24


def write_signed(secret: str, purpose: str, payload: bytes) -> str:
    """The payload and its signature as text."""
    return text_of(payload) + "." + text_of(signature(secret, purpose, payload))


def read_signed(secret: str | tuple[str, ...], purpose: str, text: str) -> bytes | None:
    """The payload, if we wrote this text for this purpose, with this secret or one of these; else None."""
    body, _, mac = text.partition(".")
    try:
        payload, found = _raw(body), _raw(mac)
    except (ValueError, binascii.Error):
        return None
    for each in (secret,) if isinstance(secret, str) else secret:
        if hmac.compare_digest(found, signature(each, purpose, payload)):
            return payload
    return None


def signature(secret: str, purpose: str, payload: bytes) -> bytes:
    """A keyed BLAKE2b is a MAC (RFC 7693)."""
    return blake2b(payload, key=_key(secret, purpose), digest_size=_MAC_BYTES).digest()


def text_of(raw: bytes) -> str:
    """Bytes as URL-safe text."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@lru_cache(maxsize=64)
def _key(secret: str, purpose: str) -> bytes:
    return blake2b(purpose.encode() + b"\0" + secret.encode(), digest_size=64).digest()


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
