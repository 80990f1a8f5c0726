"""`customers`, `ops`: where the gateway listens, and what it shows there."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from gateway.settings.schema.base import Name, Pem, Settings, Whole, Word, base_url, key
from gateway.settings.tls import Tls, server_context


def _public_url(text: str) -> str:
    return base_url(text) if text else text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}", text):
        raise ValueError("must be a host, without scheme and port")
    return text.lower()


class ListenerSettings(Settings):
    """Where the gateway listens."""

    host: Word = key("Address to listen on; 0.0.0.0 is every one", default="127.0.0.1")
    port: Whole = key("Port to listen on; 0 takes a free one", default=8080, ge=0, le=65535)


class TlsSettings(Settings):
    """HTTPS and secure WebSockets. Without it, a balancer in front of the gateway has to speak them."""

    certificate: Pem = key("File with the certificate, and then those that vouch for it, in PEM; relative to this file")
    private_key: Pem = key("File with its private key, in PEM, without a password; relative to this file", alias="key")
    client_ca: Pem | None = key(
        "File with the authorities of clients, in PEM; who has no certificate of one of them is not let in",
        default=None,
        shown="everybody is let in",
    )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        server_context(self.compiled())
        return self

    def compiled(self) -> Tls:
        """As listeners take it."""
        return Tls(certificate=self.certificate, private_key=self.private_key, client_ca=self.client_ca)


class CustomersListenerSettings(ListenerSettings):
    """Where customers are listened to."""

    tls: TlsSettings | None = key("Speak TLS", default=None, shown="off")
    public_url: Annotated[Word, AfterValidator(_public_url)] = key(
        "URL at which the services behind the gateway reach this listener; empty: they call clients back themselves",
        default="",
        shown="none",
    )
    regions: dict[Annotated[Word, AfterValidator(_host)], Name] = key(
        "Hosts that clients call, each with the region that it stands for", default=dict, shown="none"
    )


class OpsListenerSettings(ListenerSettings):
    """Where operators are listened to."""

    port: Whole = key("Port to listen on; 0 takes a free one", default=8081, ge=0, le=65535)
    tls: TlsSettings | None = key("Speak TLS", default=None, shown="off")
