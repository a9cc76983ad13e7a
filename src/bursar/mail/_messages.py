"""What Bursar writes to people."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """`link` is the secret part, if any, and stands in `text` already. `button` is what its HTML part writes on an address that stands
    alone (`_html.py`)."""

    to: str
    subject: str
    text: str
    link: str | None = None
    button: str = "Open Bursar"


def verify_email(to: str, name: str, link: str) -> Message:
    return Message(
        to,
        "Verify your e-mail address for Bursar",
        f"Hello {name},\n\nOpen this link to verify your e-mail address. It works once, for two days:\n\n{link}\n\n"
        "If you did not sign up, ignore this message.\n",
        link,
        button="Verify my address",
    )


def set_password(to: str, name: str, link: str) -> Message:
    return Message(
        to,
        "Choose your password for Bursar",
        f"Hello {name},\n\nOpen this link to choose your password. It works once, for two days:\n\n{link}\n\n"
        "If you did not expect this message, ignore it: nothing changes until the link is used.\n",
        link,
        button="Choose my password",
    )


def already_there(to: str, name: str, sign_in_url: str) -> Message:
    """Instead of a link, where somebody signs up with an address that has a user."""
    return Message(
        to,
        "You already have a Bursar account",
        f"Hello {name},\n\nSomebody, perhaps you, tried to sign up with this address, which has an account already.\n\n"
        f"Sign in here: {sign_in_url}\n\nIf it was not you, nothing needs to be done.\n",
    )


def confirm_identity(to: str, name: str, link: str) -> Message:
    return Message(
        to,
        "Confirm that it is you",
        f"Hello {name},\n\nOpen this link, in the browser in which you asked for it, to confirm that it is you. It works once, for half "
        f"an hour:\n\n{link}\n\nIf you did not ask for it, somebody else is signed in as you: sign in, and end the other sessions under "
        "Preferences.\n",
        link,
        button="It is me",
    )


def security_changed(to: str, name: str, what: str) -> Message:
    """`what`: one sentence that says what was changed, as it is now."""
    return Message(
        to,
        "Your sign-in to Bursar was changed",
        f"Hello {name},\n\n{what}\n\nIf it was not you, choose a new password with “Forgot your password?” on the sign-in page, look at "
        "where you are signed in under Preferences, and tell the operator.\n",
    )


def change_email(to: str, name: str, old: str, link: str) -> Message:
    return Message(
        to,
        "Confirm your new e-mail address for Bursar",
        f"Hello {name},\n\nOpen this link to use {to} for Bursar from now on, instead of {old}. It works once, for a day:\n\n{link}\n\n"
        "If you did not ask for it, ignore this message: nothing changes until the link is used.\n",
        link,
        button="Use this address",
    )


def email_changed(to: str, name: str, new: str, link: str) -> Message:
    """To the old address."""
    return Message(
        to,
        "Your e-mail address for Bursar was changed",
        f"Hello {name},\n\nYour account now has the address {new}. Nothing more is sent to {to}.\n\nIf it was not you, open this link "
        f"within 7 days: you get this address back, everybody is signed out, and you choose a new password:\n\n{link}\n",
        link,
        button="Take my address back",
    )


def account_deleted(to: str, name: str) -> Message:
    return Message(
        to,
        "Your Bursar account is deleted",
        f"Hello {name},\n\nYour account is deleted: you are signed out everywhere, your API keys stopped working, and you left your "
        "organizations. What you used stays in their activity, without your name and address.\n\nIf it was not you, tell the operator.\n",
    )


def books_differ(to: str, name: str, drift: str, lines: Sequence[str]) -> Message:
    """To each operator, once for each time that it begins."""
    found = "\n".join(f"- {line}" for line in lines)
    return Message(
        to,
        "The books of Bursar do not add up",
        f"Hello {name},\n\nThe check that runs every minute found differences in the books, {drift} in all:\n\n{found}\n\n"
        "`bursar ledger verify` looks again, now. Nothing was changed or stopped. You get no further message until the books are "
        "right again.\n",
    )
