"""Every refusal has a name, its ids, one sentence and an HTTP status.

    BursarError
    ├── InvalidInput 400            InvalidRequest, InvalidField, WeakPassword, LinkExpired, UnknownModel
    ├── NotAuthenticated 401        MissingCredentials, InvalidApiKey, InvalidSignIn, SessionEnded
    ├── PaymentRequired 402         InsufficientCredits
    ├── Forbidden 403               PermissionDenied, EmailNotVerified, WrongKindOfKey, SignUpClosed, PurchasesOff,
    │                               LimitExceeded
    ├── NotFound 404                NoSuchThing, NoEndpoints
    ├── Conflict 409                AlreadyTaken, OrganizationFull, LastAdminStays, Changed
    ├── TooLarge 413
    ├── TooMany 429
    ├── Broken 500                  (a fault of ours: the text never says more than that)
    ├── UpstreamFailed 502/503/504  what a provider answered, masked; 400 and 404 where waiting does not help
    └── Unavailable 503             EndpointsResting; passes by itself: always with seconds to wait

A room derives its own from these; the doors translate by `status` and never by name. `remedy` says what a person can do.
"""

from typing import ClassVar


class BursarError(Exception):
    """The root. `error_type` is the stable typed code of the wire (`metadata.error_type`)."""

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server"

    def __init__(self, sentence: str, *, remedy: str | None = None, **ids: str | int | None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.ids = {name: value for name, value in ids.items() if value is not None}

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def in_full(self) -> str:
        """The sentence, and what a person can do."""
        return f"{self.sentence} {self.remedy}" if self.remedy else self.sentence


class InvalidInput(BursarError):
    status = 400
    error_type = "invalid_request"


class InvalidField(InvalidInput):
    """One field of a form or body is wrong; `field` names it, so that a page can show the sentence beside it."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence, field=field)
        self.field = field


class LinkExpired(InvalidInput):
    """A one-time link that was used, replaced or is too old."""


class NotAuthenticated(BursarError):
    status = 401
    error_type = "authentication"


class PaymentRequired(BursarError):
    status = 402
    error_type = "payment_required"


class Forbidden(BursarError):
    status = 403
    error_type = "permission_denied"


class NotFound(BursarError):
    status = 404
    error_type = "not_found"


class Conflict(BursarError):
    status = 409
    error_type = "invalid_request"


class TooLarge(BursarError):
    status = 413
    error_type = "payload_too_large"


class TooMany(BursarError):
    status = 429
    error_type = "rate_limit_exceeded"

    def __init__(self, sentence: str, *, retry_after_seconds: int, remedy: str | None = None) -> None:
        super().__init__(sentence, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(BursarError):
    """Only for what passes by itself; clients retry it."""

    status = 503
    error_type = "provider_unavailable"

    def __init__(self, sentence: str, *, retry_after_seconds: int = 5, remedy: str | None = None) -> None:
        super().__init__(sentence, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class SettingsError(BursarError):
    """The installation is half-configured: the sentence names the setting and what to write there."""

    error_type = "unmapped"
