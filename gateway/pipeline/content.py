"""A body that passes, by its digest: whether a repeat of a named call sends what the first call did.

Owns: the digest. Does not know: names, where a body comes from or goes to. Nothing of the body is kept.
"""

from hashlib import blake2b


class Content:
    """Listens to a body. `expected` is the digest of the first call's, where this is a repeat."""

    __slots__ = ("_mac", "expected")

    def __init__(self, key: bytes) -> None:
        self._mac = blake2b(key=key, digest_size=16)
        self.expected = ""

    def feed(self, chunk: bytes) -> None:
        """The next of it."""
        self._mac.update(chunk)

    @property
    def digest(self) -> str:
        """Of what has passed."""
        return self._mac.hexdigest()
