"""What alerts are sent with.

Owns: the keys of the mail server. Does not know: which alerts there are (each account's own).
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from gateway.core.alerts import is_mail_address
from gateway.settings.schema.base import Filled, Secret, Settings, Whole, Word, key, plain_text


def _mail_address(text: str) -> str:
    if not is_mail_address(text):
        raise ValueError("must be an address, like alerts@example.com")
    return text


class SmtpSettings(Settings):
    """The server that mails are sent through."""

    host: Filled = key("Its name or address")
    port: Whole = key("Its port", default=587, ge=1, le=65535)
    security: Annotated[Literal["starttls", "tls", "none"], BeforeValidator(plain_text)] = key(
        "How TLS begins: `starttls`, `tls` from the first byte (port 465), or `none` at all", default="starttls"
    )
    username: Word = key("Whom we sign in as", default="", shown="nobody")
    password: Secret = key("The password. May be `file:/path`", default="", shown="none")
    sender: Annotated[Filled, AfterValidator(_mail_address)] = key("The address that mails are from")
    sender_name: Word = key("The name beside it", default="Gateway")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.username and not self.password:
            raise ValueError("a username needs its password")
        if self.username and self.security == "none":
            raise ValueError("a password is not sent without TLS: security must be starttls or tls")
        return self


class AlertsSettings(Settings):
    """How alerts are sent."""

    smtp: SmtpSettings | None = key("The server that mails are sent through", default=None, shown="no mails")
