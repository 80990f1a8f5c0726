"""A mail server that keeps what it gets, and refuses what it is told to."""

import asyncio
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class MailServer:
    """`async with MailServer()`: mails by their recipient. `answers` are what an address is answered, in turn."""

    def __init__(self, *, username: str = "", password: str = "", tls: Any = None) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.answers: dict[str, list[str]] = {}
        self._login = (username.encode(), password.encode())
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"enable_SMTPUTF8": False, "loop": loop}
        if self._tls is not None:
            options |= {"tls_context": self._tls, "require_starttls": True}
        if self._login[0]:
            options |= {"authenticator": self._authenticate, "auth_required": True}
        self._server = await loop.create_server(lambda: SMTP(self, **options), "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None, "it was not started"
        self._server.close()

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        given = (data.login, data.password) if isinstance(data, LoginPassword) else None
        return AuthResult(success=given == self._login, handled=False)

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or answer what it is told to."""
        if self.answers.get(address):
            return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail."""
        assert isinstance(envelope.content, bytes)
        mail = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(mail, EmailMessage)
        self.mails += [(recipient, mail) for recipient in envelope.rcpt_tos]
        return "250 OK"
