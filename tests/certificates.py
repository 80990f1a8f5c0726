"""A certificate for `localhost` and 127.0.0.1, signed by an authority in between, and the root that clients trust."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.settings.tls import PemFile, Tls, server_context

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -x509"
_AUTHORITY = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
_CLIENT = "-addext extendedKeyUsage=clientAuth -addext basicConstraints=critical,CA:FALSE"
_SERVER = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"


@dataclass(frozen=True)
class Certificates:
    """`root` is for clients; `chain` and `key` are the server's."""

    root: Path
    chain: Path
    key: Path

    def config(self, data: dict[str, Any]) -> None:
        """A gateway's config with them: a change of `gateway.yaml`."""
        data["customers"]["tls"] = data["ops"]["tls"] = {"certificate": str(self.chain), "key": str(self.key)}

    def mutual(self, data: dict[str, Any]) -> None:
        """The same on both listeners, for clients of the root only."""
        tls = {"certificate": str(self.chain), "key": str(self.key), "client_ca": str(self.root)}
        data["customers"]["tls"] = data["ops"]["tls"] = tls

    @property
    def server(self) -> ssl.SSLContext:
        """What a server of ours is given."""
        return server_context(self.tls)

    @property
    def tls(self) -> Tls:
        """The same, as a config has it."""
        return Tls(certificate=PemFile.read(self.chain), private_key=PemFile.read(self.key))

    @property
    def client(self) -> ssl.SSLContext:
        """A client that trusts the root, and nobody else."""
        return ssl.create_default_context(cafile=str(self.root))

    def known_client(self, of: "Certificates | None" = None) -> ssl.SSLContext:
        """The same, with a certificate of its own: of the root, or of another one's."""
        context, directory = self.client, (of or self).root.parent
        context.load_cert_chain(_make(directory, "client", _CLIENT, "root"), directory / "client.key")
        return context


def made_in(directory: Path) -> Certificates:
    """New ones, in a directory of theirs."""
    directory.mkdir(parents=True, exist_ok=True)
    root = _make(directory, "root", _AUTHORITY)
    between = _make(directory, "between", _AUTHORITY, "root")
    server = _make(directory, "localhost", _SERVER, "between")
    chain = directory / "chain.pem"
    chain.write_text(server.read_text() + between.read_text())
    return Certificates(root, chain, directory / "localhost.key")


def _make(directory: Path, name: str, options: str, by: str = "") -> Path:
    signer = f" -CA {by}.pem -CAkey {by}.key" if by else ""
    command = f"openssl req {_KEY} -keyout {name}.key -out {name}.pem -subj /CN={name} {options}{signer}"
    subprocess.run(command.split(), check=True, capture_output=True, cwd=directory)
    return directory / f"{name}.pem"
