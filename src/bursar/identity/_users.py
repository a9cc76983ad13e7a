from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from bursar.identity import tables
from bursar.identity._links import is_kept
from bursar.identity._rules import normalize_email, require_email, require_name
from bursar.kernel.errors import Conflict, NotFound
from bursar.kernel.ids import UserId, new_user_id
from bursar.storage import Snapshot, Tx

DELETED_NAME = "Deleted user"

_users = tables.users


@dataclass(frozen=True)
class User:
    id: UserId
    email: str
    name: str
    email_verified_at: datetime | None
    is_operator: bool
    created_at: datetime

    @property
    def is_verified(self) -> bool:
        return self.email_verified_at is not None


class EmailTaken(Conflict):
    """Another user has this address."""


class NoSuchUser(NotFound):
    """No user has this id or address."""


async def add_user(
    tx: Tx, *, email: str, name: str, password_hash: str | None, verified: bool = False, is_operator: bool = False
) -> User:
    """Raises `InvalidField` for a bad address or name, `EmailTaken` when the address is somebody's already."""
    user = User(
        id=new_user_id(tx.now),
        email=require_email(email),
        name=require_name(name),
        email_verified_at=tx.now if verified else None,
        is_operator=is_operator,
        created_at=tx.now,
    )
    if await is_kept(tx, normalize_email(user.email)):
        raise _taken(user.email)
    added = await tx.execute(
        tx.insert(_users)
        .values(
            id=user.id,
            email=user.email,
            email_normalized=normalize_email(user.email),
            name=user.name,
            password_hash=password_hash,
            email_verified_at=user.email_verified_at,
            is_operator=is_operator,
            created_at=user.created_at,
        )
        .on_conflict_do_nothing(index_elements=["email_normalized"])
    )
    if added != 1:
        raise _taken(user.email)
    return user


def _taken(email: str) -> EmailTaken:
    return EmailTaken(f"{email} already has an account here.", remedy="Sign in instead.")


async def find_user(snapshot: Snapshot, user: UserId) -> User | None:
    row = await snapshot.first(select(_users).where(_users.c.id == user))
    return None if row is None else _user(row)


async def get_user(snapshot: Snapshot, user: UserId) -> User:
    """Raises `NoSuchUser`."""
    found = await find_user(snapshot, user)
    if found is None:
        raise NoSuchUser("There is no such user.", user=user)
    return found


async def find_by_email(snapshot: Snapshot, email: str) -> User | None:
    normalized = normalize_email(email)
    if not normalized.isprintable():  # nobody's, and PostgreSQL takes no null bytes
        return None
    row = await snapshot.first(select(_users).where(_users.c.email_normalized == normalized))
    return None if row is None else _user(row)


async def get_by_email(snapshot: Snapshot, email: str) -> User:
    """Raises `NoSuchUser`."""
    found = await find_by_email(snapshot, email)
    if found is None:
        raise NoSuchUser(f"No user has the address {email[:254]}.", remedy="`bursar users list` shows who there is.")
    return found


async def users_by_id(snapshot: Snapshot, users: Iterable[UserId]) -> dict[UserId, User]:
    rows = await snapshot.all(select(_users).where(_users.c.id.in_(list(users))))
    return {UserId(row.id): _user(row) for row in rows}


async def find_password_hash(snapshot: Snapshot, user: UserId) -> str | None:
    """The hash, or None where the user has no password yet."""
    found = await snapshot.scalar(select(_users.c.password_hash).where(_users.c.id == user))
    return None if found is None else str(found)


async def list_users(snapshot: Snapshot) -> Sequence[User]:
    """Everybody who is still here, longest here first."""
    rows = await snapshot.all(select(_users).where(_users.c.deleted_at.is_(None)).order_by(_users.c.id))
    return [_user(row) for row in rows]


async def list_operators(snapshot: Snapshot) -> Sequence[User]:
    """Oldest first."""
    rows = await snapshot.all(select(_users).where(_users.c.is_operator).order_by(_users.c.id))
    return [_user(row) for row in rows]


async def has_operator(snapshot: Snapshot) -> bool:
    return bool(await snapshot.scalar(select(func.count()).select_from(_users).where(_users.c.is_operator)))


async def mark_verified(tx: Tx, user: UserId) -> bool:
    """Whether this call verified the address (False: it was already)."""
    changed = await tx.execute(
        update(_users).where(_users.c.id == user, _users.c.email_verified_at.is_(None)).values(email_verified_at=tx.now)
    )
    return changed == 1


async def set_password(tx: Tx, user: UserId, password_hash: str) -> None:
    await tx.execute(update(_users).where(_users.c.id == user).values(password_hash=password_hash))


async def change_email(tx: Tx, user: UserId, email: str) -> None:
    """The address counts as verified: its mail was read. Raises `InvalidField`, `EmailTaken`."""
    email = require_email(email)
    normalized = normalize_email(email)
    other = await find_by_email(tx, email)
    if (other is not None and other.id != user) or await is_kept(tx, normalized, besides=user):
        raise _taken(email)
    try:
        await tx.execute(
            update(_users)
            .where(_users.c.id == user)
            .values(email=email, email_normalized=normalized, email_verified_at=tx.now)
        )
    except IntegrityError:  # somebody else signed up with it in this moment
        raise _taken(email) from None


async def delete_user(tx: Tx, user: UserId) -> None:
    """The row stays, so that activity and audit still have somebody; name, address and password go, and the address is free again."""
    nobody = f"{user}@deleted.invalid"
    await tx.execute(
        update(_users)
        .where(_users.c.id == user)
        .values(
            email=nobody,
            email_normalized=nobody,
            name=DELETED_NAME,
            password_hash=None,
            email_verified_at=None,
            is_operator=False,
            deleted_at=tx.now,
        )
    )


async def rename(tx: Tx, user: UserId, name: str) -> None:
    """Raises `InvalidField`."""
    await tx.execute(update(_users).where(_users.c.id == user).values(name=require_name(name)))


def _user(row: Any) -> User:
    return User(UserId(row.id), row.email, row.name, row.email_verified_at, row.is_operator, row.created_at)
