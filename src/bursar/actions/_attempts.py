"""Trying a password or a code: counted before anything is compared, forgotten where it fits."""

import ipaddress
from collections.abc import Mapping, Sequence

from bursar import identity
from bursar.identity import AttemptKind, Session, Subject, User, client_subject
from bursar.kernel.ids import UserId
from bursar.storage import SYSTEM, Database


def sign_in_subjects(
    email: str, user: User | None, address: str | None, known: Mapping[str, str] | None = None
) -> Sequence[Subject]:
    """What a password tried with this address is counted by. `known`: for whom this browser is known, and under which name.

    Strangers who try an address from elsewhere, or from the same office, make its owner wait in new browsers only, never in one where
    they signed in before.
    """
    browser = None if user is None or known is None else known.get(user.id)
    if browser is not None and user is not None:
        return (Subject(AttemptKind.KNOWN_BROWSER, f"{user.id} {browser}"),)
    return (Subject(AttemptKind.SIGN_IN, identity.normalize_email(email)), *from_client(address))


def code_subjects(user: UserId, address: str | None, known: Mapping[str, str]) -> Sequence[Subject]:
    """The same for the code of somebody whose password fitted: whoever stole that keeps its owner out of no browser they know."""
    browser = known.get(user)
    if browser is not None:
        return (Subject(AttemptKind.KNOWN_BROWSER, f"{user} {browser} code"),)
    return (Subject(AttemptKind.PROOF, user), *from_client(address))


def session_subjects(session: Session) -> Sequence[Subject]:
    """What somebody who is signed in is counted by: by themselves."""
    return (Subject(AttemptKind.PROOF, session.id),)


def from_client(address: str | None) -> Sequence[Subject]:
    """Nothing where everybody seems to be on this machine: that is a proxy in front whose word is not trusted yet, and one stranger would
    make all others wait."""
    if address is None or _is_this_machine(address):
        return ()
    return (client_subject(address),)


def _is_this_machine(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def begin_attempt(database: Database, subjects: Sequence[Subject]) -> None:
    """Raises `TooMany`."""
    async with database.begin(SYSTEM) as tx:
        await identity.begin_attempt(tx, subjects)
