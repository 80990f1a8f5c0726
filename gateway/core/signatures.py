"""Signatures of what we tell others, as Standard Webhooks has them.

Owns: the scheme. Does not know: who is told what.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

_PREFIX: Final = "whsec_"


def read_secret(text: str) -> bytes:
    """The key in a secret as it is handed out: `whsec_` and base64. ValueError says what is wrong."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"a secret is {_PREFIX} and 24 to 64 random bytes in base64")
    return key


def signed_headers(keys: Sequence[bytes], message: str, at_seconds: int, body: bytes) -> Mapping[str, str]:
    """The three headers of a message of this id, at this time. Whoever has one of the keys can check it."""
    signed = f"{message}.{at_seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    told = " ".join(f"v1,{signature}" for signature in signatures)
    return {"webhook-id": message, "webhook-timestamp": str(at_seconds), "webhook-signature": told}
