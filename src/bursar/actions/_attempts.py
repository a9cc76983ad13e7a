"""Trying a password or a code: counted before anything is compared, forgotten where it fits."""

from collections.abc import Mapping, Sequence

from bursar import identity
from bursar.identity import AttemptKind, Subject, User, client_subject
from bursar.kernel.ids import UserId
from bursar.storage import SYSTEM, Database


def sign_in_subjects(
    email: str, user: User | None, address: str | None, known: Mapping[str, str] | None = None
) -> Sequence[Subject]:
    """What a password tried with this address is counted by. `known`: for whom this browser is known, and under which name.

    Strangers who try an address from elsewhere make its owner wait in new browsers only, never in one where they signed in before.
    """
    browser = None if user is None or known is None else known.get(user.id)
    tried = (
        Subject(AttemptKind.SIGN_IN, identity.normalize_email(email))
        if browser is None or user is None
        else Subject(AttemptKind.KNOWN_BROWSER, f"{user.id} {browser}")
    )
    return (tried, *from_client(address))


def proof_subjects(user: UserId, address: str | None) -> Sequence[Subject]:
    """What somebody who is signed in, or half-way there, is counted by."""
    return (Subject(AttemptKind.PROOF, user), *from_client(address))


def from_client(address: str | None) -> Sequence[Subject]:
    return () if address is None else (client_subject(address),)


async def begin_attempt(database: Database, subjects: Sequence[Subject]) -> None:
    """Raises `TooMany`."""
    async with database.begin(SYSTEM) as tx:
        await identity.begin_attempt(tx, subjects)
