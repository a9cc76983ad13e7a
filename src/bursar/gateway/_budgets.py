"""What a limit says to those whom it stops, and how much there is to spend: the least of the credits and all limits that bind."""

from dataclasses import dataclass

from bursar.kernel import money
from bursar.kernel.errors import Forbidden, PaymentRequired
from bursar.kernel.money import Nanos
from bursar.ledger import Limit, LimitUse


class InsufficientCredits(PaymentRequired):
    """What is available does not cover what the request could cost. `available` is in nanos; `use` is the limit that says so, None
    for the credits themselves."""

    def __init__(
        self, sentence: str, *, available: Nanos, remedy: str | None = None, use: LimitUse | None = None
    ) -> None:
        super().__init__(sentence, remedy=remedy)
        self.available = available
        self.use = use


class LimitExceeded(Forbidden):
    """Of a limit nothing is left in this window."""

    def __init__(self, use: LimitUse) -> None:
        limit = use.limit
        if scope_of(limit) == "key":
            sentence = f"Key limit exceeded ({limit.period} limit)."
        else:
            sentence = f"{name_of(limit).capitalize()} of {money.format_credits(limit.amount)} exceeded."
        super().__init__(sentence, remedy=remedy_of(use))
        self.use = use


@dataclass(frozen=True, slots=True)
class Available:
    """What may be spent beside what running requests hold, as this worker last saw it. `bound_by`: what says so, "credits" or the scope
    of a limit."""

    amount: int
    bound_by: str


def scope_of(limit: Limit | None) -> str:
    """Whose limit it is, in one word: key, member, organization; "credits" for None."""
    if limit is None:
        return "credits"
    if limit.subject.startswith("key_"):
        return "key"
    return "organization" if limit.subject == limit.owner else "member"


def name_of(limit: Limit) -> str:
    """As in "the daily limit of the key": "key daily limit", "member monthly budget"."""
    scope = scope_of(limit)
    return f"{scope} {limit.period} {'limit' if scope == 'key' else 'budget'}"


def remedy_of(use: LimitUse) -> str:
    """Who may raise it, and when it begins anew."""
    who = "Manage it under API keys" if scope_of(use.limit) == "key" else "An admin of the organization can raise it"
    return who + (f"; it resets at {use.resets_at:%Y-%m-%d %H:%M} UTC." if use.resets_at is not None else ".")


def refused_by(use: LimitUse, available: Nanos, *, is_in_use: bool) -> InsufficientCredits | LimitExceeded:
    """`is_in_use`: whether running requests hold what is not used yet, so that some of it may come back."""
    if available <= 0 and not is_in_use:
        return LimitExceeded(use)
    return InsufficientCredits("A limit does not cover the request.", available=available, use=use)
