"""Trying a password or a code: counted before anything is compared, forgotten where it fits."""

from collections.abc import Sequence

from bursar import identity
from bursar.identity import AttemptKind, Subject, client_subject
from bursar.kernel.ids import UserId
from bursar.storage import SYSTEM, Database


def proof_subjects(user: UserId, address: str | None) -> Sequence[Subject]:
    """What somebody who is signed in, or half-way there, is counted by."""
    return (Subject(AttemptKind.PROOF, user), *from_client(address))


def from_client(address: str | None) -> Sequence[Subject]:
    return () if address is None else (client_subject(address),)


async def begin_attempt(database: Database, subjects: Sequence[Subject]) -> None:
    """Raises `TooMany`."""
    async with database.begin(SYSTEM) as tx:
        await identity.begin_attempt(tx, subjects)
