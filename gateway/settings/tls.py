"""TLS of our listeners: a certificate and its key, and whose clients are let in, from text to what a server is given.

Owns: versions and protocols that are offered, what is wrong with a pair, the reading of a renewed one.
Does not know: the config, sockets.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gateway.settings.origins import read_text


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file in PEM and what it held. ValueError for one that is not PEM."""

    path: Path
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if "-----BEGIN " not in self.text:
            raise ValueError("the file is not PEM: it has no line with BEGIN")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file as it is now. ValueError says what is wrong with it."""
        return cls(path, read_text(path, "the file"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A certificate with those that vouch for it, and its private key, both as PEM.

    With `client_ca`, the certificates of authorities, only clients that one of them vouches for are let in.

    They are carried as text: a process that takes the place of another serves what that one served, whatever is done to
    the files meanwhile.
    """

    certificate: PemFile
    private_key: PemFile
    client_ca: PemFile | None = None

    @property
    def files(self) -> tuple[PemFile, ...]:
        """All of them."""
        return (self.certificate, self.private_key, *([self.client_ca] if self.client_ca is not None else []))

    def reread(self) -> Self:
        """The same as its files are now. ValueError says in words what is wrong with them."""
        found = type(self)(
            certificate=PemFile.read(self.certificate.path),
            private_key=PemFile.read(self.private_key.path),
            client_ca=None if self.client_ca is None else PemFile.read(self.client_ca.path),
        )
        server_context(found)
        return found


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and above, HTTP/1.1. ValueError says in words what is wrong with the pair."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could have us do the costly half again and again
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _as_file(f"{tls.certificate.text}\n{tls.private_key.text}\n") as path:
            context.load_cert_chain(path, password=_no_password)
    except ssl.SSLError as error:
        locked = "ENCRYPTED" in tls.private_key.text
        raise ValueError("the key has a password: decrypt it" if locked else _meaning(error)) from None
    if tls.client_ca is not None:
        _ask_clients(context, tls.client_ca.text)
    return context


def _ask_clients(context: ssl.SSLContext, authorities: str) -> None:
    """Have every client show a certificate that one of these authorities, and nobody else, vouches for."""
    try:
        context.load_verify_locations(cadata=authorities)
    except ssl.SSLError:
        raise ValueError("client_ca must be the certificates of authorities, in PEM") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _no_password() -> str:
    """Without this, OpenSSL would ask the terminal."""
    return ""


def _meaning(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    said = (error.reason or "they cannot be read").replace("_", " ").lower()
    return f"must be a certificate and its key, each in PEM: {said}"


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path where OpenSSL, which reads nothing else, finds the text: in memory where the system has that."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            yield file.name
        return
    with os.fdopen(os.memfd_create("tls"), "wb") as file:
        file.write(text.encode())
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
