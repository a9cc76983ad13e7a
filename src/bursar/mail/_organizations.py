"""What Bursar writes about organizations: invitations, roles, who is gone and what became of their keys."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bursar.access import Role
from bursar.mail._messages import Message


@dataclass(frozen=True)
class KeyNote:
    """One key in a mail. `label` is its masked form, `use` and `clients` what used it lately, `link` the page to rotate it on."""

    name: str
    label: str
    creator: str
    last_used: str | None
    use: str
    clients: Sequence[str] = ()
    link: str | None = None


def invitation(to: str, *, organization: str, inviter: str | None, role: Role, link: str, days: int) -> Message:
    """`inviter` None: the operator."""
    who = inviter or "The operator of this installation"
    allowed = (
        "An admin manages everything in it: members, keys and credits."
        if role is Role.ADMIN
        else "A member creates API keys and sees the activity."
    )
    return Message(
        to,
        f"{_subject(organization)} invites you to Bursar",
        f"Hello,\n\n{who} invites you to join {organization} on Bursar as {role.with_article}. {allowed}\n\n"
        f"Open this link to accept or decline. It works once, for {days} days, and is for {to} only:\n\n{link}\n\n"
        "If you did not expect this message, ignore it: nothing happens until the link is used.\n",
        link,
        button="Answer the invitation",
    )


def role_changed(
    to: str, name: str, organization: str, role: Role, by: str | None, keys_page: str, disabled: Sequence[KeyNote]
) -> Message:
    """`disabled`: management keys that a former admin made, which stopped with the role."""
    who = by or "the operator"
    lines = [f"Hello {name},", f"{who} made you {role.with_article} of {organization}."]
    if disabled:
        lines += ["Only admins have management keys, so these stopped working:", *map(_key, disabled), keys_page]
    return Message(
        to, f"You are now {role.with_article} of {_subject(organization)}", _text(lines), button="Look at the keys"
    )


def you_were_removed(to: str, name: str, organization: str, by: str) -> Message:
    return Message(
        to,
        f"You were removed from {_subject(organization)}",
        _text(
            [
                f"Hello {name},",
                (
                    f"{by} removed you from {organization}. You no longer see its pages, and the keys you created there are no "
                    "longer yours."
                ),
                "Your personal account, its credits and its keys are as they were.",
            ]
        ),
    )


def member_gone(
    to: str,
    name: str,
    *,
    organization: str,
    who: str,
    removed_by: str | None,
    disabled: Sequence[KeyNote],
    handed_over: Sequence[KeyNote],
    suspects: Sequence[KeyNote],
    keys_page: str,
) -> Message:
    """To each admin. `removed_by` None: they left."""
    happened = f"left {organization}" if removed_by is None else f"was removed from {organization} by {removed_by}"
    lines = [f"Hello {name},", f"{who} {happened}."]
    if disabled:
        lines += [
            "These keys were theirs and stopped working. Whatever used them needs another key, or one of you enables them again:",
            *map(_key, disabled),
            keys_page,
        ]
    if handed_over:
        lines += [
            (
                f"These keys were theirs and go on working; {removed_by} answers for them now. The person knows the secrets, so rotate "
                "each:"
            ),
            *map(_key, handed_over),
        ]
    if not disabled and not handed_over:
        lines.append("They had no keys here that worked.")
    if suspects:
        lines += [
            (
                "A hint: these keys of others were last used from an address where the person worked too. It may only be the same "
                "office. Where they could know the secret, rotate it:"
            ),
            *map(_key, suspects),
        ]
    verb = "left" if removed_by is None else "was removed from"
    subject = f"{who.partition(' (')[0]} {verb} {_subject(organization)}"
    return Message(to, subject, _text(lines), button="Look at the keys")


def _text(lines: Sequence[str]) -> str:
    return "\n\n".join(lines) + "\n"


def _key(note: KeyNote) -> str:
    return "\n  ".join(_about(note))


def _about(note: KeyNote) -> Iterator[str]:
    yield f"- {note.name} ({note.label}), created by {note.creator}"
    yield f"last used {note.last_used}; {note.use}" if note.last_used else "never used"
    if note.clients:
        yield f"by {', '.join(note.clients)}"
    if note.link:
        yield f"Rotate it: {note.link}"


def _subject(name: str) -> str:
    """As it stands in a header: names have no line breaks, and this keeps it short."""
    return name if len(name) <= 60 else f"{name[:59]}…"
