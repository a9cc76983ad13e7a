"""What Bursar writes about credits that go between owners, and about the end of an organization."""

from bursar.mail._messages import Message


def organization_deleted(to: str, name: str, organization: str, by: str) -> Message:
    return Message(
        to,
        f"{organization} was deleted",
        f"Hello {name},\n\n{by} deleted the organization {organization}. Its members have no access any more, its API keys stopped "
        "working, and its invitations are void. Its ledger and activity stay with the operator, for the books.\n\n"
        "Your personal account is untouched.\n",
    )


def credits_settled(to: str, name: str, organization: str, amount: str, where: str, reason: str) -> Message:
    return Message(
        to,
        f"The credits of {organization} were settled",
        f"Hello {name},\n\nThe operator settled what {organization} had left: {amount} was {where}.\n\nThe reason: {reason}\n",
    )


def move_asked(
    to: str, name: str, person: str, email: str, organization: str, amount: str, note: str | None, url: str
) -> Message:
    """To support, or to each operator."""
    said = f"They say: {note}\n\n" if note else ""
    return Message(
        to,
        f"{person} asks to move {amount} to {organization}",
        f"{f'Hello {name},' if name else 'Hello,'}\n\n{person} ({email}) asks to move {amount} from their personal account to "
        f"{organization}. Nothing was moved. {said}Carry it out or refuse it here:\n\n{url}\n",
        button="Answer the request",
    )


def move_carried_out(to: str, name: str, amount: str, person: str, organization: str, note: str | None) -> Message:
    said = f"The operator says: {note}\n\n" if note else ""
    return Message(
        to,
        f"{amount} moved to {organization}",
        f"Hello {name},\n\nThe operator moved {amount} from the personal account of {person} to {organization}, as {person} had "
        f"asked.\n\n{said}Both statements show it.\n",
    )


def move_refused(to: str, name: str, amount: str, organization: str, answer: str) -> Message:
    return Message(
        to,
        f"{amount} was not moved to {organization}",
        f"Hello {name},\n\nThe {amount} that you asked to move to {organization} stays in your personal account.\n\n"
        f"The reason: {answer}\n",
    )


def paid_after_deletion(to: str, name: str, amount: str, organization: str, id_: str) -> Message:
    """To each operator."""
    return Message(
        to,
        f"A payment arrived for {organization}, which was deleted",
        f"Hello {name},\n\n{amount} was paid for the organization {organization} after it was deleted. The credits are in its "
        f"account, where nobody can spend them. Settle them with\n\n    bursar organizations settle {id_} --to … --reason …\n",
    )
