"""Messages and how they leave: the console, or SMTP. Never sees storage; `jobs` empties the outbox through it."""

from bursar.mail._mailers import ConsoleMailer, Mailer, MailNotSent, SmtpMailer
from bursar.mail._messages import Message, books_differ, confirm_identity, set_password, verify_email

__all__ = [
    "ConsoleMailer",
    "MailNotSent",
    "Mailer",
    "Message",
    "SmtpMailer",
    "books_differ",
    "confirm_identity",
    "set_password",
    "verify_email",
]
