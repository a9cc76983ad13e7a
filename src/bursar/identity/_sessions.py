"""Sessions: a random cookie, hashed at rest, made anew at each sign-in and at each proof of who it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, or_, select, update

from bursar.identity import tables
from bursar.identity._users import User, get_user
from bursar.kernel.ids import SessionId, UserId, new_session_id
from bursar.kernel.secrets import hash_secret, mint_token
from bursar.storage import Snapshot, Tx

SESSION_LIFETIME = timedelta(days=14)
"""However much it is used."""
SESSION_IDLE_LIFETIME = timedelta(days=3)
"""Without being used: from Friday evening to Monday morning, and no longer."""
SESSIONS_MAX = 50
"""Of one person; one more ends the one that was not used for longest."""
SEEN_EVERY = timedelta(minutes=5)
"""How exactly it is known when a session was last used; each request would be a write otherwise."""
PROVED_FOR = timedelta(minutes=15)
"""How long a proof of who it is lets somebody do what is dangerous (step-up)."""

_sessions = tables.sessions


@dataclass(frozen=True)
class Session:
    """`id` may be shown, the token never; `proved_at`: when the person last showed who they are, by signing in or on being asked again."""

    id: SessionId
    user: User
    token_hash: str
    created_at: datetime
    expires_at: datetime
    seen_at: datetime
    proved_at: datetime
    address: str | None
    user_agent: str | None

    def is_proved(self, now: datetime) -> bool:
        """Whether a dangerous act needs no further proof."""
        return now - self.proved_at < PROVED_FOR

    def is_seen(self, now: datetime) -> bool:
        """Whether its last use is known exactly enough."""
        return now - self.seen_at < SEEN_EVERY


async def open_session(tx: Tx, user: UserId, *, address: str | None, user_agent: str | None) -> str:
    """The plain token for the cookie, never stored."""
    token = mint_token()
    await tx.execute(
        _sessions.insert().values(
            token_hash=hash_secret(token),
            id=new_session_id(tx.now),
            user_id=user,
            created_at=tx.now,
            expires_at=tx.now + SESSION_LIFETIME,
            seen_at=tx.now,
            proved_at=tx.now,
            address=address,
            user_agent=(user_agent or "")[:300] or None,
        )
    )
    newest = (
        select(_sessions.c.id)
        .where(_sessions.c.user_id == user)
        .order_by(_sessions.c.seen_at.desc(), _sessions.c.id.desc())
        .limit(SESSIONS_MAX)
    )
    await tx.execute(delete(_sessions).where(_sessions.c.user_id == user, _sessions.c.id.not_in(newest)))
    return token


async def find_session(snapshot: Snapshot, token: str) -> Session | None:
    row = await snapshot.first(
        select(_sessions).where(_sessions.c.token_hash == hash_secret(token), _alive(snapshot.now))
    )
    return None if row is None else _session(row, await get_user(snapshot, UserId(row.user_id)))


async def list_sessions(snapshot: Snapshot, user: User) -> Sequence[Session]:
    """Those in which the person is signed in, the last used first."""
    rows = await snapshot.all(
        select(_sessions)
        .where(_sessions.c.user_id == user.id, _alive(snapshot.now))
        .order_by(_sessions.c.seen_at.desc(), _sessions.c.id.desc())
    )
    return [_session(row, user) for row in rows]


async def note_seen(tx: Tx, session: SessionId) -> None:
    """It is used now; of many requests at once, one writes."""
    await tx.execute(
        update(_sessions)
        .where(_sessions.c.id == session, _sessions.c.seen_at <= tx.now - SEEN_EVERY)
        .values(seen_at=tx.now)
    )


async def prove_session(tx: Tx, session: SessionId) -> str | None:
    """The person showed who they are: the session goes on under a new token, which is returned; None where it ended meanwhile."""
    token = mint_token()
    changed = await tx.execute(
        update(_sessions)
        .where(_sessions.c.id == session, _alive(tx.now))
        .values(token_hash=hash_secret(token), proved_at=tx.now, seen_at=tx.now)
    )
    return token if changed == 1 else None


async def end_session(tx: Tx, token: str) -> None:
    await _end(tx, _sessions.c.token_hash == hash_secret(token))


async def end_session_of(tx: Tx, user: UserId, session: SessionId) -> Session | None:
    """The session that this ended; None where the person has none of this id."""
    rows = await _end(tx, and_(_sessions.c.id == session, _sessions.c.user_id == user))
    return _session(rows[0], await get_user(tx, user)) if rows else None


async def end_sessions_of(tx: Tx, user: UserId, *, keep: SessionId | None = None) -> int:
    """Every session of the person, but for `keep`; how many ended."""
    those = _sessions.c.user_id == user
    return len(await _end(tx, those if keep is None else and_(those, _sessions.c.id != keep)))


async def _end(tx: Tx, those: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """Told to every node: what somebody's chat is in the middle of ends as well."""
    ended = await tx.returning(delete(_sessions).where(those).returning(*_sessions.c))
    for row in ended:
        await tx.announce("session", row.id)
    return ended


async def forget_ended_sessions(tx: Tx) -> int:
    """Deletes those that ended by themselves."""
    return await tx.execute(
        delete(_sessions).where(
            or_(_sessions.c.expires_at <= tx.now, _sessions.c.seen_at <= tx.now - SESSION_IDLE_LIFETIME)
        )
    )


def _alive(now: datetime) -> ColumnElement[bool]:
    return and_(_sessions.c.expires_at > now, _sessions.c.seen_at > now - SESSION_IDLE_LIFETIME)


def _session(row: Any, user: User) -> Session:
    return Session(
        SessionId(row.id),
        user,
        row.token_hash,
        row.created_at,
        row.expires_at,
        row.seen_at,
        row.proved_at,
        row.address,
        row.user_agent,
    )


async def addresses_of(snapshot: Snapshot, user: UserId) -> set[str]:
    """From where the person's sessions, those that still stand, were opened."""
    rows = await snapshot.all(
        select(_sessions.c.address).where(_sessions.c.user_id == user, _sessions.c.address.is_not(None)).distinct()
    )
    return {row.address for row in rows}
