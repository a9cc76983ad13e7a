import sys
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

from bursar.kernel.errors import BursarError
from bursar.mail._html import html_of
from bursar.mail._messages import Message

SMTP_SECONDS_MAX = 30


class MailNotSent(BursarError):
    """The mail server refused or could not be reached; the text never contains the message."""


class Mailer(Protocol):
    delivers: bool
    """Whether a message reaches its reader by itself. Where not, the operator can open it on a page."""

    async def send(self, message: Message) -> None:
        """Raises `MailNotSent`."""
        ...


class ConsoleMailer:
    """Prints messages to standard error: the default, for a machine without a mail server."""

    delivers = False

    async def send(self, message: Message) -> None:
        print(f"\n--- mail to {message.to}: {message.subject}\n{message.text}---\n", file=sys.stderr, flush=True)  # noqa: T201


class SmtpMailer:
    delivers = True

    def __init__(
        self, *, host: str, port: int, sender: str, username: str | None, password: str | None, security: str
    ) -> None:
        """`security`: "starttls" (default elsewhere), "tls" or "none"."""
        self._host, self._port, self._sender = host, port, sender
        self._username, self._password, self._security = username, password, security

    async def send(self, message: Message) -> None:
        # Imported here: most starts send no mail.
        import aiosmtplib

        try:
            await aiosmtplib.send(
                self._composed(message),
                hostname=self._host,
                port=self._port,
                username=self._username,
                password=self._password,
                use_tls=self._security == "tls",
                start_tls=self._security == "starttls",
                timeout=SMTP_SECONDS_MAX,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailNotSent(
                f"The mail server {self._host} did not take the message: {type(error).__name__}."
            ) from None

    def _composed(self, message: Message) -> EmailMessage:
        """Raises `ValueError` for what cannot stand in a message, such as a line break in a header."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, message.to, message.subject
        mail["Date"], mail["Message-ID"] = formatdate(usegmt=True), make_msgid(domain="bursar.invalid")
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(html_of(message), subtype="html")
        return mail
