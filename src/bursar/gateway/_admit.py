"""Stop 2: key → caller, from memory. A made-up key fails its checksum and never reaches the database."""

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from bursar import keys, organizations
from bursar.access import Role
from bursar.kernel.clock import Clock
from bursar.kernel.errors import Forbidden, NotAuthenticated, Unavailable
from bursar.kernel.ids import KeyId, OrganizationId, OwnerId, SessionId, UserId, is_personal
from bursar.kernel.secrets import hash_secret
from bursar.keys import Key, KeyChecker, KeyKind
from bursar.ledger import BLIND_SECONDS
from bursar.storage import SYSTEM, Change, Database

KEYS_CACHED_MAX = 100_000
CHANGED_MAX = 10_000
KEY_FRESH_SECONDS = BLIND_SECONDS
"""A cached key is read again after this, should a change ever be missed."""


class MissingCredentials(NotAuthenticated):
    """No key was sent."""


class InvalidApiKey(NotAuthenticated):
    """The key is not one of this installation's, or it was disabled, deleted or rotated, or it has expired."""


class WrongKindOfKey(Forbidden):
    """A management key was used to call a model, or an API key to manage."""


class NotAnAdminsKey(Forbidden):
    """A management key does what its creator may do now, not what they might do when they made it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and whom it is billed to. `key` is None for a person who is signed in, in `session`, and calls from a page."""

    owner: OwnerId
    user: UserId
    key: KeyId | None = None
    session: SessionId | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class KeyCaller(Caller):
    """Whoever holds a key; `user` is who created it. `key_hash`: of the secret they sent, which may be the one before the present.
    `ends`: when that secret ends by itself, in monotonic seconds."""

    key: KeyId
    key_hash: str
    kind: KeyKind
    ends: float = math.inf  # seconds, not money


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database said of a key's hash, and when (monotonic seconds). `caller`: where the key may be used."""

    key: Key | None
    caller: KeyCaller | None
    at: float


class Admission:
    """The key cache of one process; hears changes of keys and drops what changed."""

    def __init__(self, database: Database, checker: KeyChecker, clock: Clock) -> None:
        self._database = database
        self._checker = checker
        self._clock = clock
        self._cached: OrderedDict[str, _Found] = OrderedDict()
        self._changes_heard = 0
        self._changed: OrderedDict[str, int] = OrderedDict()
        """By hash, which of the changes was the last; the latest of them are enough for look-ups that are under way."""
        self.lookups = 0
        """How often the database was asked; made-up keys never add to it."""
        database.changes.subscribe("key", self._forget)

    async def admit_inference(self, authorization: str | None) -> KeyCaller:
        """Raises `MissingCredentials`, `InvalidApiKey`, `WrongKindOfKey`."""
        caller = await self.admit(authorization)
        if caller.kind is not KeyKind.INFERENCE:
            raise WrongKindOfKey(
                "Management keys cannot call models.", remedy="Create an API key and use that for requests to models."
            )
        return caller

    async def admit_management(self, authorization: str | None) -> KeyCaller:
        """Raises `MissingCredentials`, `InvalidApiKey`, `WrongKindOfKey`, and `NotAnAdminsKey` when who made it is no admin (any more)."""
        caller = await self.admit(authorization)
        if caller.kind is not KeyKind.MANAGEMENT:
            raise WrongKindOfKey(
                "Only management keys can perform this operation.", remedy="An admin can create a management key."
            )
        await self._require_admin(caller)
        return caller

    async def _require_admin(self, caller: KeyCaller) -> None:
        """Asked of the database each time: managing is rare, and a right that was taken away is gone at once."""
        if is_personal(caller.owner):
            return
        async with self._database.snapshot(SYSTEM) as snapshot:
            role = await organizations.find_role(snapshot, OrganizationId(caller.owner), caller.user)
        if role is not Role.ADMIN:
            raise NotAnAdminsKey(
                "Whoever made this management key is not an admin of the organization any more.",
                remedy="An admin can create a new management key.",
            )

    async def admit(self, authorization: str | None) -> KeyCaller:
        """Any usable key. `authorization` is the header's value. Raises `MissingCredentials`, `InvalidApiKey`."""
        if authorization is None or not authorization.strip():
            raise MissingCredentials(
                "Missing Authentication header.", remedy="Send your API key as: Authorization: Bearer sk-bursar-v1-…"
            )
        scheme, _, secret = authorization.strip().partition(" ")
        secret = secret.strip() if scheme.lower() == "bearer" else ""
        key_hash = hash_secret(secret)
        found, now = self._cached.get(key_hash), self._clock.monotonic()
        if found is not None and now - found.at < KEY_FRESH_SECONDS:
            self._cached.move_to_end(key_hash)
        else:
            # Only keys that passed this are ever in the cache.
            if not self._checker.is_ours(secret):
                raise InvalidApiKey(
                    "No valid API key was sent: it is not a key of this installation.",
                    remedy="Check that the whole key was copied, and that it was made on this installation.",
                )
            found = await self._look_up_unless_blind(key_hash, found)
        return _require(found, key_hash, now)

    async def admit_again(self, key_hash: str) -> KeyCaller:
        """For what runs on a key that was good when it began. Raises `InvalidApiKey`; `Unavailable` when that cannot be known."""
        found, now = self._cached.get(key_hash), self._clock.monotonic()
        if found is None or now - found.at >= KEY_FRESH_SECONDS:
            found = await self._look_up(key_hash)
        return _require(found, key_hash, now)

    async def _look_up_unless_blind(self, key_hash: str, known: "_Found | None") -> "_Found":
        """While the database is away, what was known of a key is believed as long as nothing else can have been heard."""
        try:
            return await self._look_up(key_hash)
        except Unavailable:
            if known is not None and self._clock.monotonic() - self._database.heard_at < BLIND_SECONDS:
                return known
            raise

    async def _look_up(self, key_hash: str) -> "_Found":
        while True:
            heard = self._changes_heard
            found = await self._read(key_hash)
            if self._changed.get(key_hash, 0) <= heard:
                break
            # The answer may be older than a change that was announced meanwhile.
        self._cached[key_hash] = found
        if len(self._cached) > KEYS_CACHED_MAX:
            self._cached.popitem(last=False)
        return found

    async def _read(self, key_hash: str) -> "_Found":
        self.lookups += 1
        async with self._database.snapshot(SYSTEM) as snapshot:
            key = await keys.find_by_hash(snapshot, key_hash)
            ends_at = None if key is None else key.ends_at(key_hash)
            # By the database's time, which all nodes share, and counted from now on by a clock that nobody sets.
            left = math.inf if ends_at is None else (ends_at - await snapshot.database_time()).total_seconds()
            now = self._clock.monotonic()
        if key is None or key.deleted_at is not None or key.disabled_at is not None:
            return _Found(key, None, now)
        return _Found(key, KeyCaller(key.owner, key.creator, key.id, key_hash, key.kind, now + left), now)

    def _forget(self, change: Change) -> None:
        self._changes_heard += 1
        self._changed[change.subject] = self._changes_heard
        if len(self._changed) > CHANGED_MAX:
            self._changed.popitem(last=False)
        self._cached.pop(change.subject, None)


def _require(found: _Found, key_hash: str, now: float) -> KeyCaller:
    if found.caller is not None and now < found.caller.ends:
        return found.caller
    raise _refusal(found.key, key_hash)


def _refusal(key: Key | None, key_hash: str) -> InvalidApiKey:
    """Of a key that does not work, or not any more."""
    if key is None or key.deleted_at is not None:
        return InvalidApiKey("This API key does not exist any more.", remedy="Create a new key.")
    if key.disabled_at is not None:
        return InvalidApiKey("This API key is disabled.", remedy="Enable it under API keys, or use another.")
    if key.ends_at(key_hash) == key.expires_at:
        return InvalidApiKey(
            f"This API key expired at {_told(key.expires_at)}.",
            remedy="Create a new key: when one expires cannot be changed.",
        )
    return InvalidApiKey(
        f"This API key was rotated, and its old secret ended at {_told(key.previous_until)}.",
        remedy="Use the secret that was shown when it was rotated, or rotate it again.",
    )


def _told(moment: datetime | None) -> str:
    assert moment is not None, "a secret that ended has an end"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
