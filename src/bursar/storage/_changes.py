"""What an action changed, told to everybody who caches it.

A transaction announces a kind and an id; after the commit the subscribers of this process hear it at once, and those of other
nodes (PostgreSQL) through `_follow.py`.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ASKED = "asked"
"""The change that asks every worker to note that it has heard whatever was committed before; its subject is that moment by the
database's time, in microseconds since 1970."""

_log = logging.getLogger("bursar.changes")


@dataclass(frozen=True)
class Change:
    """`kind` is a noun ("key", "membership", "user", "session"), `subject` its id."""

    kind: str
    subject: str


class Changes:
    """Subscribers by kind. Callbacks are quick and never fail; one that does is logged and the others still hear."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Callable[[Change], None]]] = defaultdict(list)

    def subscribe(self, kind: str, callback: Callable[[Change], None]) -> None:
        self._subscribers[kind].append(callback)

    def publish(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for callback in self._subscribers[change.kind]:
                try:
                    callback(change)
                except Exception:  # noqa: BLE001 - one deaf subscriber must not silence the others
                    _log.exception("a subscriber of %s failed", change.kind)
