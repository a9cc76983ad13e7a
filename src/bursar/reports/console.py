"""What the operator's console shows of the whole installation. All of it in system scope."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, func, or_, select

from bursar import identity, ledger, payments
from bursar.identity import User
from bursar.identity import tables as identity_tables
from bursar.kernel.ids import OrganizationId, OwnerId, UserId
from bursar.kernel.paging import PAGE_ITEMS_DEFAULT, Cursor, Page, page_of
from bursar.ledger import Balance
from bursar.ledger import tables as ledger_tables
from bursar.organizations import tables as organization_tables
from bursar.payments import CreditMove
from bursar.storage import Snapshot

_users = identity_tables.users
_sessions = identity_tables.sessions
_organizations = organization_tables.organizations
_memberships = organization_tables.memberships
_invitations = organization_tables.invitations

_current = _memberships.c.ended_at.is_(None)


@dataclass(frozen=True)
class Installation:
    """How many there are, and how many requests to move credits wait for the operator."""

    organizations: int
    users: int
    open_moves: int


@dataclass(frozen=True)
class OrganizationRow:
    """`deleted_at` only where credits are left that nobody can spend."""

    id: OrganizationId
    slug: str
    name: str
    created_at: datetime
    deleted_at: datetime | None
    members: int
    invited: int
    seats_max: int
    balance: Balance


@dataclass(frozen=True)
class UserRow:
    """`seen_at`: the last use of a session that goes on; None where the person is signed in nowhere."""

    user: User
    organizations: int
    balance: Balance
    seen_at: datetime | None


@dataclass(frozen=True)
class MoveRow:
    """A request to move credits, with whose it is and what they have. `organization` None: it was deleted."""

    move: CreditMove
    person: User | None
    organization_name: str
    organization_slug: str | None
    balance: Balance
    closed_by: User | None


async def installation(snapshot: Snapshot) -> Installation:
    return Installation(
        organizations=await _count(
            snapshot, select(func.count()).select_from(_organizations).where(_organizations.c.deleted_at.is_(None))
        ),
        users=await _count(snapshot, select(func.count()).select_from(_users).where(_users.c.deleted_at.is_(None))),
        open_moves=await payments.count_open_moves(snapshot),
    )


async def page_organizations(
    snapshot: Snapshot, search: str, cursor: Cursor | None, size: int = PAGE_ITEMS_DEFAULT
) -> Page[OrganizationRow]:
    """Newest first; `search` in names and slugs."""
    query = select(_organizations).where(_organizations.c.deleted_at.is_(None))
    if search:
        query = query.where(_found(search, _organizations.c.name, _organizations.c.slug))
    rows = await snapshot.all(_paged(query, _organizations.c.id, cursor, size))
    return page_of(await _organization_rows(snapshot, rows), size, cursor, lambda row: row.id)


async def deleted_with_credits(snapshot: Snapshot, limit: int = 50) -> Sequence[OrganizationRow]:
    """Organizations that a payment reached after they were deleted: the operator settles them."""
    accounts = ledger_tables.accounts
    rows = await snapshot.all(
        select(_organizations)
        .where(
            _organizations.c.deleted_at.is_not(None),
            _organizations.c.id.in_(
                select(accounts.c.owner_id).where(
                    accounts.c.account.in_(("credits", "leased", "held")), accounts.c.balance_nanos > 0
                )
            ),
        )
        .order_by(_organizations.c.id.desc())
        .limit(limit)
    )
    return await _organization_rows(snapshot, rows)


async def page_users(
    snapshot: Snapshot, search: str, cursor: Cursor | None, size: int = PAGE_ITEMS_DEFAULT
) -> Page[UserRow]:
    """Newest first; `search` in names and addresses."""
    query = select(_users).where(_users.c.deleted_at.is_(None))
    if search:
        query = query.where(_found(search, _users.c.name, _users.c.email))
    rows = await snapshot.all(_paged(query, _users.c.id, cursor, size))
    ids = [UserId(row.id) for row in rows]
    users = await identity.users_by_id(snapshot, ids)
    balances = await ledger.balances(snapshot, [OwnerId(user) for user in ids])
    joined = await _counts(
        snapshot,
        select(_memberships.c.user_id.label("id"), func.count().label("number"))
        .where(_memberships.c.user_id.in_(ids), _current)
        .group_by(_memberships.c.user_id),
    )
    seen = await snapshot.all(
        select(_sessions.c.user_id, func.max(_sessions.c.seen_at, type_=_sessions.c.seen_at.type).label("seen_at"))
        .where(_sessions.c.user_id.in_(ids), _sessions.c.expires_at > snapshot.now)
        .group_by(_sessions.c.user_id)
    )
    seen_at = {row.user_id: row.seen_at for row in seen}
    made = [UserRow(users[user], joined.get(user, 0), balances[OwnerId(user)], seen_at.get(user)) for user in ids]
    return page_of(made, size, cursor, lambda row: row.user.id)


async def moves_to_answer(snapshot: Snapshot, *, is_open: bool, limit: int = 100) -> Sequence[MoveRow]:
    """Requests to move credits: those that wait, the longest waiting first, or those that were answered, newest first."""
    return await move_rows(snapshot, await payments.list_all_moves(snapshot, is_open=is_open, limit=limit))


async def move_rows(snapshot: Snapshot, moves: Sequence[CreditMove]) -> Sequence[MoveRow]:
    people = {UserId(move.owner) for move in moves} | {move.closed_by for move in moves if move.closed_by is not None}
    users = await identity.users_by_id(snapshot, people)
    rows = await snapshot.all(
        select(_organizations).where(_organizations.c.id.in_({move.organization for move in moves}))
    )
    targets = {row.id: row for row in rows}
    balances = await ledger.balances(snapshot, {move.owner for move in moves})
    return [
        MoveRow(
            move,
            users.get(UserId(move.owner)),
            targets[move.organization].name,
            None if targets[move.organization].deleted_at is not None else targets[move.organization].slug,
            balances[move.owner],
            None if move.closed_by is None else users.get(move.closed_by),
        )
        for move in moves
    ]


async def _organization_rows(snapshot: Snapshot, rows: Sequence[Any]) -> list[OrganizationRow]:
    ids = [row.id for row in rows]
    balances = await ledger.balances(snapshot, [OwnerId(id_) for id_ in ids])
    members = await _counts(
        snapshot,
        select(_memberships.c.organization_id.label("id"), func.count().label("number"))
        .where(_memberships.c.organization_id.in_(ids), _current)
        .group_by(_memberships.c.organization_id),
    )
    invited = await _counts(
        snapshot,
        select(_invitations.c.organization_id.label("id"), func.count().label("number"))
        .where(
            _invitations.c.organization_id.in_(ids),
            _invitations.c.state == "pending",
            _invitations.c.expires_at > snapshot.now,
        )
        .group_by(_invitations.c.organization_id),
    )
    return [
        OrganizationRow(
            id=OrganizationId(row.id),
            slug=row.slug,
            name=row.name,
            created_at=row.created_at,
            deleted_at=row.deleted_at,
            members=members.get(row.id, 0),
            invited=invited.get(row.id, 0),
            seats_max=row.seats_max,
            balance=balances[OwnerId(row.id)],
        )
        for row in rows
    ]


def _found(search: str, *columns: Column[str]) -> Any:
    """Anywhere in one of them, whatever the case; `%` and `_` are themselves."""
    return or_(*(func.lower(column).contains(search.lower(), autoescape=True) for column in columns))


def _paged(query: Select[Any], id_: Column[str], cursor: Cursor | None, size: int) -> Select[Any]:
    if cursor is not None and cursor.direction == "newer":
        query = query.where(id_ > cursor.id).order_by(id_)
    else:
        if cursor is not None:
            query = query.where(id_ < cursor.id)
        query = query.order_by(id_.desc())
    return query.limit(size + 1)


async def _count(snapshot: Snapshot, query: Select[Any]) -> int:
    return int(await snapshot.scalar(query))


async def _counts(snapshot: Snapshot, query: Select[Any]) -> Mapping[str, int]:
    """`query` gives an id, and a number called `number`."""
    return {row.id: int(row.number) for row in await snapshot.all(query)}
