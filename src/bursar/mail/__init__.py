"""Messages and how they leave: the console, or SMTP. Never sees storage; `jobs` empties the outbox through it."""

from bursar.mail._credits import (
    credits_settled,
    move_asked,
    move_carried_out,
    move_refused,
    organization_deleted,
    paid_after_deletion,
)
from bursar.mail._mailers import ConsoleMailer, Mailer, MailNotSent, SmtpMailer
from bursar.mail._messages import (
    Message,
    account_deleted,
    already_there,
    books_differ,
    change_email,
    confirm_identity,
    email_changed,
    security_changed,
    set_password,
    verify_email,
)
from bursar.mail._organizations import KeyNote, invitation, member_gone, role_changed, you_were_removed

__all__ = [
    "ConsoleMailer",
    "KeyNote",
    "MailNotSent",
    "Mailer",
    "Message",
    "SmtpMailer",
    "account_deleted",
    "already_there",
    "books_differ",
    "change_email",
    "confirm_identity",
    "credits_settled",
    "email_changed",
    "invitation",
    "member_gone",
    "move_asked",
    "move_carried_out",
    "move_refused",
    "organization_deleted",
    "paid_after_deletion",
    "role_changed",
    "security_changed",
    "set_password",
    "verify_email",
    "you_were_removed",
]
