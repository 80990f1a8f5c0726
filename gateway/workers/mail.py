"""Alerts by mail.

Owns: the message, how a mail server is spoken to, what its answers mean.
Does not know: who is written to (the watch), what is said (core.alerts).
"""

import hashlib
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from gateway.core.alerts import Notice
from gateway.ports import Dead, Delivered, Delivery, Retry
from gateway.settings.runtime import Smtp
from gateway.workers.alerts import Target

#: For each step of the conversation; the attempt as a whole has its own limit.
SECONDS_MAX: Final = 10.0


class MailCarrier:
    """Sends mails through the server of the config."""

    def __init__(self, smtp: Smtp, *, tls: ssl.SSLContext | None = None) -> None:
        self._smtp = smtp
        self._tls = tls

    async def __call__(self, delivery: Delivery, target: Target, notice: Notice) -> Delivered | Retry | Dead:
        """Refused for good by its server: dead. Anything else may be put right: again."""
        smtp = self._smtp
        try:
            await aiosmtplib.send(
                write_mail(smtp, delivery, target["address"], notice),
                hostname=smtp.host,
                port=smtp.port,
                username=smtp.username or None,
                password=smtp.password or None,
                use_tls=smtp.security == "tls",
                start_tls=smtp.security == "starttls",
                tls_context=self._tls,
                timeout=SECONDS_MAX,
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            codes = [error.code for error in refused.recipients]
            why = f"the mail server answered {codes[0]} to the address"
            return Dead(why=why) if codes[0] >= 500 else Retry(why=why)
        except aiosmtplib.SMTPResponseException as refused:
            return Retry(why=f"the mail server answered {refused.code}")
        except (aiosmtplib.SMTPException, OSError) as error:
            return Retry(why=f"the mail server: {type(error).__name__}")
        return Delivered()


def write_mail(smtp: Smtp, delivery: Delivery, address: str, notice: Notice) -> EmailMessage:
    """The mail. The policy refuses what would break out of a header; a repeat has the same Message-ID."""
    name, _, domain = smtp.sender.rpartition("@")
    message = EmailMessage(policy=SMTP)
    message["Subject"] = notice.title
    message["From"] = Address(display_name=smtp.sender_name, username=name, domain=domain)
    message["To"] = Address(addr_spec=address)
    message["Date"] = format_datetime(datetime.fromtimestamp(delivery.created_ms / 1000, UTC))
    digest = hashlib.sha256(f"{delivery.account}\0{delivery.id}".encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"{notice.text}\n\nAlert {notice.data['alert']}, {notice.at}\n")
    return message
