"""Audit events as sentences. One line for each action: a new one without a line fails its test.

A line goes on after the actor's name: "Ana Ruiz" + "changed the limit of {subject} from $5.00 to $10.00". In it `{subject}` is the name of
what the event is about, and other words in braces are the event's details as they are afterwards.
"""

from collections.abc import Mapping
from datetime import timedelta

from bursar.audit import AuditEvent, Change, Detail
from bursar.kernel.ids import is_id, is_personal
from bursar.kernel.money import format_trimmed

SENTENCES: Mapping[str, str] = {
    "correction.confirmed": "confirmed the correction of {amount} of the transfer {corrects}",
    "correction.proposed": "proposed to correct {amount} of the transfer {corrects}: {reason}",
    "correction.withdrawn": "withdrew the correction of the transfer {corrects}",
    "credits.given_up": "gave up {amount} of credits with the account",
    "credits.granted": "granted {amount} of credits: {reason}",
    "credits.move_refused": "refused to move {amount}: {answer}",
    "credits.move_requested": "asked to move {amount} to {organization}",
    "credits.move_withdrawn": "withdrew the request to move {amount}",
    "credits.moved": "carried out a move of {amount}; the other side is {other}",
    "credits.received": "moved {amount} here from {source}: {reason}",
    "credits.settled": "settled the {amount} that were left, {target}: {reason}",
    "invitation.accepted": "accepted the invitation and joined {organization} as {role}",
    "invitation.created": "invited {email} as {role}",
    "invitation.declined": "declined the invitation of {email}",
    "invitation.resent": "sent the invitation of {email} again",
    "invitation.revoked": "revoked the invitation of {email}",
    "key.changed": "changed {subject}{changes}",
    "key.created": "created the {key_kind} {name}",
    "key.deleted": "deleted {subject}",
    "key.disabled": "disabled {subject}",
    "key.enabled": "enabled {subject}",
    "key.grace_ended": "ended the old secret of {subject}",
    "key.handed_over": "handed {subject} over to {creator}",
    "key.rotated": "gave {subject} a new secret; the old one works for {grace} longer",
    "limit.removed": "removed the limit of {subject}{changes}",
    "limit.set": "{did} the limit of {subject}{changes}",
    "member.added": "added {subject} as {role}",
    "member.left": "left {organization}; keys disabled: {keys_disabled}",
    "member.removed": "removed {subject} from {organization}; keys disabled: {keys_disabled}, handed over: {keys_handed_over}",
    "member.role_changed": "changed the role of {subject}{from_to}",
    "node.forgotten": "gave back what the node {subject} had reserved",
    "operator.made": "became an operator of this installation",
    "organization.changed": "changed {subject}{changes}",
    "organization.created": "created the organization {name}",
    "organization.deleted": "deleted the organization {name}",
    "organization.seats_changed": "changed the seats of {subject}{from_to}",
    "purchase.paid": "added {amount} of credits, which were bought",
    "purchase.started": "began to buy {amount} of credits",
    "session.all_ended": "signed {subject} out everywhere",
    "session.ended": "ended a session",
    "session.others_ended": "ended all other sessions",
    "user.added": "added {subject} ({email})",
    "user.deleted": "deleted the account",
    "user.email_change_asked": "asked to change the e-mail address to {email}",
    "user.email_change_undone": "took back a change of the e-mail address{from_to}",
    "user.email_changed": "changed the e-mail address{from_to}",
    "user.password_changed": "changed the password",
    "user.password_set": "set a password",
    "user.proved": "confirmed by {proof} that it is them",
    "user.recovery_codes_renewed": "made new recovery codes",
    "user.renamed": "changed their name{from_to}",
    "user.reset": "made a link for {subject} to choose a new password",
    "user.reset_asked": "asked for a link to choose a new password",
    "user.second_factor_off": "turned off the second factor",
    "user.second_factor_on": "turned on a second factor",
    "user.second_factor_reset": "turned off the second factor of {subject}",
    "user.sign_in_link_made": "made a link that signs in to {subject} once",
    "user.signed_in": "signed in by {proof}",
    "user.signed_up": "signed up",
    "user.verified": "verified the e-mail address",
}
FIELDS: Mapping[str, str] = {
    "amount_nanos": "amount",
    "billing_email": "billing contact",
    "email": "e-mail address",
    "grace_seconds": "grace period",
    "held_nanos": "held",
    "include_byok_in_limit": "counting of one's own credentials",
    "is_catalog_filtered": "listing of only the models that a key may use",
    "leased_nanos": "leased",
}
"""Details whose name says little to people."""

_PERIODS = {"daily": "daily", "weekly": "weekly", "monthly": "monthly", "total": "in all"}
_LIMITS = ("limit.set", "limit.removed")


def sentence_of(event: AuditEvent, names: Mapping[str, str]) -> str:
    """What was done, without who did it. `names`: of people, keys and organizations, by id. An action without a line of its own is told
    by its words."""
    line = SENTENCES.get(event.action)
    if line is None:
        noun, _, verb = event.action.partition(".")
        line = f"{verb.replace('_', ' ')} {noun.replace('_', ' ')} {{subject}}{{changes}}"
    details = event.details
    words = {name: text_of(name, _after(value), names) for name, value in details.items()}
    words["subject"] = subject_name(event, names)
    words["changes"] = _limit_changes(event) if event.action in _LIMITS else _changes(event, names)
    words["from_to"] = "".join(f" from {was} to {now}" for _, was, now in _changed(event, names))
    words["amount"] = words.get("amount_nanos", "–")
    words["grace"] = words.get("grace_seconds", "–")
    words["did"] = "set" if _before(details.get("amount_nanos")) is None else "changed"
    words["key_kind"] = "management key" if details.get("kind") == "management" else "API key"
    if "target" in details:
        words["target"] = "written off" if details["target"] is None else f"moved to {words['target']}"
    return line.format_map(_Known(words))


def subject_name(event: AuditEvent, names: Mapping[str, str]) -> str:
    """In words: what it was called then, else what it is called now, else its id."""
    subject = event.subject
    if subject == event.owner and is_personal(event.owner):
        return f"the account of {names[subject]}" if subject in names else "the account"
    if subject == event.owner:
        return f"the organization {names.get(subject, '')}".strip()
    known = _before(event.details.get("name")) or names.get(subject)
    if is_id(subject, "key"):
        return f"key {known or subject}"
    return str(known or subject)


def text_of(name: str, value: Detail, names: Mapping[str, str]) -> str:
    """One detail as people read it: amounts in dollars, spans in words, ids by their names."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_nanos"):
        return format_trimmed(value)
    if isinstance(value, int) and name.endswith("_seconds"):
        return _span(value)
    return names.get(str(value), str(value))


def field_name(name: str) -> str:
    return FIELDS.get(name, name.replace("_", " "))


def _changes(event: AuditEvent, names: Mapping[str, str]) -> str:
    told = [f"the {field_name(name)} from {was} to {now}" for name, was, now in _changed(event, names)]
    return ": " + " and ".join(told) if told else ""


def _changed(event: AuditEvent, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, before and after of whatever is different."""
    return [
        (name, text_of(name, value.before, names), text_of(name, value.after, names))
        for name, value in event.details.items()
        if isinstance(value, Change) and value.is_one
    ]


def _limit_changes(event: AuditEvent) -> str:
    """As in "the limit of key app from $5.00 to $10.00 daily"."""
    amount, period = event.details.get("amount_nanos"), event.details.get("period")
    if not isinstance(amount, Change) or not isinstance(period, Change):
        return ""
    ends = [
        None if nanos is None else f"{format_trimmed(int(nanos))} {_PERIODS.get(str(name), str(name))}"
        for nanos, name in ((amount.before, period.before), (amount.after, period.after))
    ]
    before, after = ends
    if before is not None and after is not None and not period.is_one:
        before = format_trimmed(int(amount.before or 0))
    if after is None:
        return f", which was {before}"
    return f" to {after}" if before is None else f" from {before} to {after}"


def _span(seconds: int) -> str:
    span = timedelta(seconds=seconds)
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds and seconds % size == 0:
            count = span // timedelta(seconds=size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


def _after(value: Detail | Change) -> Detail:
    return value.after if isinstance(value, Change) else value


def _before(value: Detail | Change | None) -> Detail:
    return value.before if isinstance(value, Change) else value


class _Known(dict[str, str]):
    """A word that an event of long ago does not have is left out."""

    def __missing__(self, _word: str) -> str:
        return "–"
