"""Pure rules of limits: what a limit is, and which window a moment belongs to. Windows are UTC; weeks begin on Monday."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bursar.kernel.ids import KeyId, OwnerId, UserId
from bursar.kernel.money import NANOS_MAX, Nanos

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class Period(StrEnum):
    """How often what a limit allows begins anew."""

    TOTAL = "total"
    """Never."""
    DAILY = "daily"
    WEEKLY = "weekly"
    """On Mondays."""
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` nanos in each window of `period`, by one subject of an owner: a key (what it is used for), a user (their keys
    and their chat) or the owner as a whole. 0 allows nothing that costs something."""

    owner: OwnerId
    subject: str
    amount: Nanos
    period: Period

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= NANOS_MAX:
            raise ValueError(f"a limit is a 64-bit amount, not {self.amount}")

    def allowance_at(self, moment: datetime) -> "Allowance":
        return Allowance(self.owner, self.subject, self.period, window_start(self.period, moment))


@dataclass(frozen=True, slots=True, order=True)
class Allowance:
    """What a subject may spend in the window that began at `since`."""

    owner: OwnerId
    subject: str
    period: Period
    since: datetime


def subjects_of(owner: OwnerId, key: KeyId | None, user: UserId) -> tuple[str, ...]:
    """Who may have a limit that a request counts for; in a personal context the user is the owner."""
    return (user, owner) if key is None else (key, user, owner)


def window_start(period: Period, moment: datetime) -> datetime:
    """Where the window that `moment` is in began; for `TOTAL` the epoch."""
    if period is Period.TOTAL:
        return _EPOCH
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.WEEKLY:
        return day - day.weekday() * _DAY
    return day.replace(day=1) if period is Period.MONTHLY else day


def window_end(period: Period, moment: datetime) -> datetime | None:
    """Where the next window begins; None for `TOTAL`."""
    start = window_start(period, moment)
    if period is Period.TOTAL:
        return None
    if period is Period.MONTHLY:
        return (start + 31 * _DAY).replace(day=1)
    return start + (7 * _DAY if period is Period.WEEKLY else _DAY)
