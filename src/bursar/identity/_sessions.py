"""Sessions: a random cookie, hashed at rest, made anew at each sign-in."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from bursar.identity import tables
from bursar.identity._users import User, get_user
from bursar.kernel.ids import UserId
from bursar.kernel.secrets import hash_secret, mint_token
from bursar.storage import Snapshot, Tx

SESSION_LIFETIME = timedelta(days=14)

_sessions = tables.sessions


@dataclass(frozen=True)
class Session:
    user: User
    token_hash: str
    expires_at: datetime


async def open_session(tx: Tx, user: UserId, *, address: str | None, user_agent: str | None) -> str:
    """The plain token for the cookie, never stored."""
    token = mint_token()
    await tx.execute(
        _sessions.insert().values(
            token_hash=hash_secret(token),
            user_id=user,
            created_at=tx.now,
            expires_at=tx.now + SESSION_LIFETIME,
            address=address,
            user_agent=(user_agent or "")[:300] or None,
        )
    )
    return token


async def find_session(snapshot: Snapshot, token: str) -> Session | None:
    row = await snapshot.first(
        select(_sessions).where(_sessions.c.token_hash == hash_secret(token), _sessions.c.expires_at > snapshot.now)
    )
    if row is None:
        return None
    return Session(await get_user(snapshot, UserId(row.user_id)), row.token_hash, row.expires_at)


async def end_session(tx: Tx, token: str) -> None:
    await tx.execute(delete(_sessions).where(_sessions.c.token_hash == hash_secret(token)))


async def end_sessions_of(tx: Tx, user: UserId) -> None:
    await tx.execute(delete(_sessions).where(_sessions.c.user_id == user))
