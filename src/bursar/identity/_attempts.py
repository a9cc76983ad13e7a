"""Back-off without lock-out: who fails waits, each time twice as long up to a bound, and whoever waited is let try again.

1. What is tried is a *subject*: an address that was tried to sign in with, a client's address, a person's codes. It is kept as a hash:
   what was tried need not be somebody's.
2. `begin_attempt` counts before anything is compared, so that a hundred guesses at once are a hundred guesses; the one that fits is
   taken back by `clear_attempts`.
3. The first few cost nothing. Then the wait after the last one doubles with each, up to the kind's bound. Old failures are forgotten
   one by one.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import delete, update

from bursar.identity import tables
from bursar.kernel.errors import TooMany
from bursar.kernel.secrets import hash_secret
from bursar.storage import Tx

FORGOTTEN_AFTER = timedelta(days=1)
"""Rows not touched for so long say nothing any more."""
IPV6_NETWORK_BITS = 64
"""Whoever has one address of IPv6 has a network of them."""

_attempts = tables.attempts
_DOUBLINGS_MAX = 30


@dataclass(frozen=True)
class Rule:
    """By its `name`: `free` attempts cost nothing; then the wait is 1, 2, 4 … seconds, at most `wait_max`; one is forgotten each `forget_each`."""

    name: str
    free: int
    wait_max: timedelta
    forget_each: timedelta


class AttemptKind(Enum):
    SIGN_IN = Rule("sign_in", 5, timedelta(minutes=5), timedelta(minutes=10))
    """Passwords tried with one e-mail address from browsers in which nobody signed in with it before."""
    KNOWN_BROWSER = Rule("known_browser", 10, timedelta(minutes=5), timedelta(minutes=10))
    """Passwords tried with one address from one browser in which that person signed in before: strangers elsewhere never make it wait."""
    CLIENT = Rule("client", 50, timedelta(minutes=15), timedelta(minutes=1))
    """Whatever is tried from one client's address. Offices share one: generous, and right passwords take nothing away."""
    PROOF = Rule("proof", 5, timedelta(minutes=5), timedelta(minutes=10))
    """Passwords and codes tried by somebody who is signed in, or is half-way there."""
    MAIL = Rule("mail", 5, timedelta(0), timedelta(minutes=12))
    """Messages that anybody can have sent to one address: five at once, then five an hour."""


@dataclass(frozen=True)
class Subject:
    kind: AttemptKind
    what: str

    @property
    def hash(self) -> str:
        return hash_secret(f"{self.kind.value.name}\0{self.what}")


def client_subject(address: str) -> Subject:
    """Of one client; of IPv6, the network that it has."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Subject(AttemptKind.CLIENT, address)
    if ip.version == 6 and ip.ipv4_mapped is None:
        return Subject(AttemptKind.CLIENT, str(ipaddress.ip_network((ip, IPV6_NETWORK_BITS), strict=False)))
    return Subject(AttemptKind.CLIENT, str(ip))


async def begin_attempt(tx: Tx, subjects: Iterable[Subject]) -> None:
    """Counts one attempt at each of them, or raises `TooMany` and counts none."""
    rows = [(subject, await _locked(tx, subject)) for subject in sorted(subjects, key=lambda each: each.hash)]
    wait = max(
        (wait_left(subject.kind.value, row.failures, row.last_at, tx.now) for subject, row in rows), default=_NONE
    )
    if wait > _NONE:
        seconds = -(-wait // timedelta(seconds=1))
        raise TooMany(
            "There were too many attempts that failed.",
            retry_after_seconds=seconds,
            remedy=f"Wait {_in_words(seconds)}, then try again.",
        )
    for subject, row in rows:
        failures = left(subject.kind.value, row.failures, row.last_at, tx.now) + 1
        await _put(tx, subject, failures)


async def clear_attempts(tx: Tx, subjects: Iterable[Subject]) -> None:
    """What began fitted: forgets what failed before. Of a client, whom others may share, only this one is taken back."""
    for subject in sorted(subjects, key=lambda each: each.hash):
        if subject.kind is AttemptKind.CLIENT:
            row = await _locked(tx, subject)
            await _put(tx, subject, max(0, row.failures - 1), row.last_at)
        else:
            await tx.execute(delete(_attempts).where(_attempts.c.subject_hash == subject.hash))


async def take_mail(tx: Tx, address: str) -> bool:
    """Whether one more message may be sent to this (normalized) address now that somebody asked for it; counts it."""
    subject = Subject(AttemptKind.MAIL, address)
    row, rule = await _locked(tx, subject), subject.kind.value
    sent = left(rule, row.failures, row.last_at, tx.now)
    if sent >= rule.free:
        return False
    await _put(tx, subject, sent + 1)
    return True


async def forget_old_attempts(tx: Tx) -> int:
    return await tx.execute(delete(_attempts).where(_attempts.c.last_at <= tx.now - FORGOTTEN_AFTER))


def left(rule: Rule, failures: int, last_at: datetime, now: datetime) -> int:
    """Those that are not forgotten yet."""
    return max(0, failures - max(_NONE, now - last_at) // rule.forget_each)


def wait_left(rule: Rule, failures: int, last_at: datetime, now: datetime) -> timedelta:
    """How long until the next attempt is taken; nothing or less: at once."""
    over = left(rule, failures, last_at, now) - rule.free
    if over < 0:
        return _NONE
    return last_at + min(timedelta(seconds=2 ** min(over, _DOUBLINGS_MAX)), rule.wait_max) - now


_NONE = timedelta(0)


async def _locked(tx: Tx, subject: Subject) -> Any:
    """The subject's row, made where there is none; others who want it wait until this transaction ends.

    One statement: between two, somebody whose attempt fitted may take the row away.
    """
    begun = tx.insert(_attempts).values(subject_hash=subject.hash, failures=0, last_at=tx.now)
    kept = begun.on_conflict_do_update(index_elements=["subject_hash"], set_={"failures": _attempts.c.failures})
    (row,) = await tx.returning(kept.returning(_attempts))
    return row


async def _put(tx: Tx, subject: Subject, failures: int, at: datetime | None = None) -> None:
    await tx.execute(
        update(_attempts)
        .where(_attempts.c.subject_hash == subject.hash)
        .values(failures=failures, last_at=at or tx.now)
    )


def _in_words(seconds: int) -> str:
    if seconds < 60:
        return "a second" if seconds == 1 else f"{seconds} seconds"
    minutes = -(-seconds // 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"
