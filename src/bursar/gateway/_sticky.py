"""Which endpoint served a session last: its prompt cache is warm there. In memory, bounded, forgotten after a while."""

from collections import OrderedDict

from bursar.kernel.clock import Clock

SESSIONS_MAX = 10_000
SESSION_SECONDS = 600
"""Since the session was served last; providers keep an unused prompt cache for 5 to 10 minutes."""


class StickySessions:
    """By session and model. A session's name must contain its owner: two owners may call theirs the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._served: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._served)

    def find(self, session: str, model_id: str) -> str | None:
        """The endpoint's id."""
        endpoint_id, at = self._served.get((session, model_id), (None, 0.0))
        return endpoint_id if self._clock.monotonic() - at <= SESSION_SECONDS else None

    def served(self, session: str, model_id: str, endpoint_id: str) -> None:
        self._served[session, model_id] = (endpoint_id, self._clock.monotonic())
        self._served.move_to_end((session, model_id))
        if len(self._served) > SESSIONS_MAX:
            self._served.popitem(last=False)
