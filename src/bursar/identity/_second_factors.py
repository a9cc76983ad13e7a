"""The second factor: codes of an authenticator app (TOTP, RFC 6238: SHA-1, six digits, 30 seconds), and recovery codes for when it is lost.

The secret is sealed at rest, recovery codes are hashed; every code of either kind works once.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from bursar.identity import tables
from bursar.kernel.errors import Conflict
from bursar.kernel.ids import UserId
from bursar.kernel.secrets import hash_secret, same
from bursar.storage import Snapshot, Tx

SECRET_BYTES = 20
STEP_SECONDS = 30
STEPS_OFF_MAX = 1
"""How many time steps a device's clock may be off, either way."""
RECOVERY_CODES = 10
RECOVERY_BYTES = 15
"""120 random bits: enough for a fast hash at rest."""
RECOVERY_GROUP = 6
PREPARED_FOR = timedelta(minutes=15)
"""A secret that was shown and never confirmed is replaced by another after this."""

_factors = tables.second_factors
_codes = tables.recovery_codes


@dataclass(frozen=True)
class SecondFactor:
    """One that is in force. `recovery_left`: recovery codes not used yet."""

    since: datetime
    recovery_left: int


class SecondFactorOn(Conflict):
    """There is one in force already."""


async def find_second_factor(snapshot: Snapshot, user: UserId) -> SecondFactor | None:
    row = await _row(snapshot, user)
    if row is None or row.confirmed_at is None:
        return None
    left = select(func.count()).select_from(_codes).where(_codes.c.user_id == user, _codes.c.spent_at.is_(None))
    return SecondFactor(row.confirmed_at, int(await snapshot.scalar(left)))


async def prepare_second_factor(tx: Tx, user: UserId) -> str:
    """The secret (base 32) that the app is to be given; the same one until it is confirmed or `PREPARED_FOR` is over.

    Raises `SecondFactorOn`.
    """
    row = await _row(tx, user)
    if row is not None and row.confirmed_at is not None:
        raise SecondFactorOn("You have a second factor already.", remedy="Turn it off first.")
    if row is not None and tx.now - row.created_at < PREPARED_FOR:
        return _secret(tx, row)
    secret = base64.b32encode(os.urandom(SECRET_BYTES)).decode()
    values = {"secret_sealed": tx.seal(user, secret.encode()), "created_at": tx.now, "last_step": 0}
    await tx.execute(
        tx.insert(_factors)
        .values(user_id=user, confirmed_at=None, **values)
        .on_conflict_do_update(index_elements=["user_id"], set_=values, where=_factors.c.confirmed_at.is_(None))
    )
    return secret


async def confirm_second_factor(tx: Tx, user: UserId, code: str) -> Sequence[str] | None:
    """It is in force from now on: its recovery codes, to be shown once. None when the code does not fit what was prepared."""
    row = await _row(tx, user)
    if row is None or row.confirmed_at is not None or not await _take_app_code(tx, row, code):
        return None
    await tx.execute(update(_factors).where(_factors.c.user_id == user).values(confirmed_at=tx.now))
    return await renew_recovery_codes(tx, user)


async def renew_recovery_codes(tx: Tx, user: UserId) -> Sequence[str]:
    """Ten new ones, to be shown once; the earlier ones stop working."""
    await tx.execute(delete(_codes).where(_codes.c.user_id == user))
    made = [base64.b32encode(os.urandom(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    rows = [{"user_id": user, "code_hash": _hash(user, code), "created_at": tx.now, "spent_at": None} for code in made]
    await tx.execute_each(_codes.insert(), rows)
    return ["-".join(code[at : at + RECOVERY_GROUP] for at in range(0, len(code), RECOVERY_GROUP)) for code in made]


async def take_code(tx: Tx, user: UserId, code: str) -> str | None:
    """Spends a code: "app" or "recovery", whichever it was; None when it does not fit, or was used before."""
    plain = "".join(character for character in code.casefold() if character.isalnum())
    row = await _row(tx, user)
    if row is None or row.confirmed_at is None:
        return None
    if await _take_app_code(tx, row, plain):
        return "app"
    spent = await tx.execute(
        update(_codes)
        .where(_codes.c.user_id == user, _codes.c.code_hash == _hash(user, plain), _codes.c.spent_at.is_(None))
        .values(spent_at=tx.now)
    )
    return "recovery" if spent == 1 else None


async def remove_second_factor(tx: Tx, user: UserId) -> bool:
    """Whether there was one in force."""
    await tx.execute(delete(_codes).where(_codes.c.user_id == user))
    gone = await tx.returning(delete(_factors).where(_factors.c.user_id == user).returning(_factors.c.confirmed_at))
    return any(row.confirmed_at is not None for row in gone)


async def _take_app_code(tx: Tx, row: Any, code: str) -> bool:
    # Imported here: most starts see no code.
    import pyotp

    codes = pyotp.HOTP(_secret(tx, row))
    present = int(tx.now.timestamp()) // STEP_SECONDS
    steps = range(present - STEPS_OFF_MAX, present + STEPS_OFF_MAX + 1)
    fitting = [step for step in steps if same(codes.at(step), code.strip())]
    if not fitting:
        return False
    # The row says which step was used last: of two who send the same code at once, one is let in.
    taken = await tx.execute(
        update(_factors)
        .where(_factors.c.user_id == row.user_id, _factors.c.last_step < fitting[0])
        .values(last_step=fitting[0])
    )
    return taken == 1


async def _row(snapshot: Snapshot, user: UserId) -> Any:
    return await snapshot.first(select(_factors).where(_factors.c.user_id == user))


def _secret(snapshot: Snapshot, row: Any) -> str:
    return snapshot.unseal(row.user_id, row.secret_sealed).decode()


def _hash(user: UserId, code: str) -> str:
    return hash_secret(f"{user}\0{code}")
