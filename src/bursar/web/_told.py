"""What a page says after something was taken away: also whether every server knows it."""

from bursar import actions
from bursar.actions import Acknowledged
from bursar.web._context import Visit


async def ask_servers(visit: Visit) -> tuple[str, bool]:
    """A sentence, empty where there is one server, and whether all have confirmed."""
    heard = await actions.ask_who_heard(visit.site.parts.database)
    return acknowledged(heard), heard.everywhere


def acknowledged(heard: Acknowledged) -> str:
    """A sentence for the end of a message.

    >>> acknowledged(Acknowledged(2, 2)), acknowledged(Acknowledged(1, 1))
    ('All 2 servers have confirmed it.', '')
    """
    if heard.of is None:
        return "Whether every server knows it could not be asked: look again in a minute."
    if not heard.everywhere:
        return (
            f"{heard.by} of {heard.of} servers have confirmed it. The others follow, or serve nothing once they have been cut off "
            "for 30 seconds."
        )
    return f"All {heard.of} servers have confirmed it." if heard.of > 1 else ""
