"""How an upstream fails, and what the one who asked may read of it.

    UpstreamFailed 502          bad, unreachable, junk, cut off
    ├── UpstreamNeedsOperator 404  it refuses this installation's credential, wants to be paid, does not know the model
    ├── UpstreamOverloaded 503  too many requests (429), overloaded; always with seconds to wait
    ├── UpstreamTimedOut 504    no connection, no first byte or no next byte in time
    └── UpstreamRefused 400     the request itself is at fault (400, 413, 422 there): carries the provider's own sentence
        └── UpstreamUnable      this provider's protocol has no way to say it, another endpoint may

No text here ever holds the credential: sentences are ours, and what a provider says passes `sanitise` first.
"""

import email.utils
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError

RETRY_AFTER_SECONDS_DEFAULT = 5
RETRY_AFTER_SECONDS_MAX = 3600
SENTENCE_CHARACTERS_MAX = 500

_SECRETS = re.compile(r"(?i)\b(bearer\s+\S+|(sk|pk|rk|gsk|xai|csk|fw|tgp|key|aiza)[-_]?[a-z0-9*_-]{12,})")
_CREDENTIAL_TROUBLE = re.compile(
    r"(?i)(invalid|incorrect|missing|not valid|expired).{0,40}api[ _-]?key|api[ _-]?key.{0,40}(invalid|incorrect|not valid|expired)"
)


_STATUS_OF_CODES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "overloaded_error": 529,
    "overloaded": 529,
    "invalid_request_error": 400,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "billing_error": 402,
    "timeout": 504,
    "timeout_error": 504,
}
"""Words that providers put in `error.code` or `error.type` where no HTTP status tells."""


class UpstreamFailed(BursarError):
    """A provider did not answer as asked. Free for the customer unless output arrived before.

    `before_output`: no chunk with content, reasoning or a tool call had been handed on. `retryable`: another endpoint may
    do better. `provider_code`: the provider's own code or HTTP status. `provider_message`: its sentence, sanitised, for the
    operator's log.
    """

    status: ClassVar[int] = 502
    error_type: ClassVar[str] = "provider_unavailable"
    retryable: ClassVar[bool] = True
    provider_name: str | None = None
    """Whose failure it is; whoever chose the endpoint knows."""
    previous_errors: Sequence[Mapping[str, Any]] = ()
    """How others failed before: provider, code, status."""

    def __init__(
        self,
        sentence: str,
        *,
        before_output: bool = True,
        provider_code: str | None = None,
        provider_message: str | None = None,
        retry_after_seconds: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(sentence, remedy=remedy, provider_code=provider_code)
        self.before_output = before_output
        self.provider_code = provider_code
        self.provider_message = provider_message
        self.retry_after_seconds = retry_after_seconds


class UpstreamNeedsOperator(UpstreamFailed):
    """This installation's set-up at the provider is at fault: waiting does not help, so clients must not be told to retry (5xx)."""

    status = 404
    error_type = "not_found"


class UpstreamOverloaded(UpstreamFailed):
    status = 503
    error_type = "provider_overloaded"


class UpstreamTimedOut(UpstreamFailed):
    status = 504
    error_type = "timeout"


class UpstreamRefused(UpstreamFailed):
    status = 400
    error_type = "invalid_request"
    retryable = False


class UpstreamUnable(UpstreamRefused):
    """Known before anything is sent; says nothing of the provider's health."""

    retryable = True


def failure_of(
    status: int,
    *,
    code: str | None = None,
    message: str | None = None,
    retry_after: int | None = None,
    before_output: bool = True,
) -> UpstreamFailed:
    """An HTTP status (or the code inside an error object) → what we raise. `message` must be sanitised already."""
    code = code or str(status)
    if status in {401, 403} or (status == 400 and message is not None and _CREDENTIAL_TROUBLE.search(message)):
        return UpstreamNeedsOperator(
            "The provider refused this installation's credential.",
            before_output=before_output,
            provider_code=code,
            provider_message=message,
            remedy="The operator has to check the provider's credential in this installation's settings.",
        )
    if status in {400, 413, 422}:
        sentence = message or f"The provider refused the request with status {status}."
        return UpstreamRefused(sentence, before_output=before_output, provider_code=code, provider_message=message)
    if status in {429, 503, 529}:
        what = "is limiting this installation's requests" if status == 429 else "is overloaded"
        return UpstreamOverloaded(
            f"The provider {what}.",
            before_output=before_output,
            provider_code=code,
            provider_message=message,
            retry_after_seconds=RETRY_AFTER_SECONDS_DEFAULT if retry_after is None else retry_after,
        )
    if status in {408, 504, 524}:
        return UpstreamTimedOut(
            "The provider did not answer in time.",
            before_output=before_output,
            provider_code=code,
            provider_message=message,
        )
    sentence, remedy = _other(status)
    failed = UpstreamFailed if remedy is None else UpstreamNeedsOperator
    return failed(sentence, before_output=before_output, provider_code=code, provider_message=message, remedy=remedy)


def _other(status: int) -> tuple[str, str | None]:
    if status == 402:
        return (
            "The provider wants to be paid first.",
            "The operator has to top up this installation's balance at the provider.",
        )
    if status == 404:
        remedy = "The operator has to check the endpoint's upstream_model and the provider's base_url in the catalogue."
        return "The provider does not know this model.", remedy
    if 300 <= status < 400:
        return "The provider sent us elsewhere.", "The operator has to check the provider's base_url in the catalogue."
    if status >= 500:
        return "The provider returned an error.", None
    return f"The provider answered with status {status}.", None


def failure_in(
    error: Any, *, status: int = 502, credential: str | None, retry_after: int | None = None, before_output: bool = True
) -> UpstreamFailed:
    """An `error` object as providers write it (a mapping, a text, anything) → what we raise.

    A whole-number code that is an HTTP status counts as the status; else `status`.
    """
    code, message = _code_and_message(error)
    if code is not None and code.isascii() and code.isdigit() and 400 <= int(code) < 600:
        status = int(code)
    elif code is not None:
        status = _STATUS_OF_CODES.get(code.lower(), status)
    return failure_of(
        status,
        code=None if code is None else sanitise(code, credential)[:80],
        message=sanitise(message, credential) if message else None,
        retry_after=retry_after,
        before_output=before_output,
    )


def failure_of_answer(
    status: int, content: bytes | None, *, retry_after: str | None, credential: str | None, clock: Clock
) -> UpstreamFailed:
    """An answer whose status is not 200 → what we raise. `content`: its body, None where that could not be read."""
    try:
        decoded = None if content is None else msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        decoded = None
    if isinstance(decoded, list) and decoded:  # Google wraps its error in a list
        decoded = decoded[0]
    if status < 400:
        return failure_of(status)
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else None
    seconds = retry_after_seconds(retry_after, clock)
    said = failure_in(error, status=status, credential=credential, retry_after=seconds)
    # The status line decides; a code inside the body only says more.
    return failure_of(status, code=said.provider_code, message=said.provider_message, retry_after=seconds)


def junk_answer(*, before_output: bool = True) -> UpstreamFailed:
    """The provider answered with something else than what was asked for."""
    sentence = "The provider's answer is not a chat completion."
    return UpstreamFailed(sentence, before_output=before_output, provider_code="junk")


def cut_answer(*, before_output: bool = True) -> UpstreamFailed:
    return UpstreamFailed("The provider's answer broke off.", before_output=before_output, provider_code="cut")


def checked_credential(credential: str) -> str:
    """Raises where it cannot be a header: sent all the same, it would be named in an HTTP library's error."""
    if credential.isascii() and credential.isprintable() and credential == credential.strip():
        return credential
    remedy = "The operator has to check the provider's credential for line ends, spaces and other stray characters."
    raise UpstreamNeedsOperator("The provider's credential in this installation is malformed.", remedy=remedy)


def _code_and_message(error: Any) -> tuple[str | None, str | None]:
    if isinstance(error, str):
        return None, error
    if not isinstance(error, Mapping):
        return None, None
    code = next((error[name] for name in ("code", "type", "status") if isinstance(error.get(name), str | int)), None)
    message = next((error[name] for name in ("message", "detail") if isinstance(error.get(name), str)), None)
    return None if code is None else str(code), message


def sanitise(text: str, credential: str | None) -> str:
    """One printable line of bounded length, without the credential and without anything that looks like one."""
    if credential:
        text = text.replace(credential, "[redacted]")
    text = _SECRETS.sub("[redacted]", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= SENTENCE_CHARACTERS_MAX else text[: SENTENCE_CHARACTERS_MAX - 1] + "…"


def retry_after_seconds(header: str | None, clock: Clock) -> int | None:
    """`Retry-After` as whole seconds from now, within bounds; None where there is none or it makes no sense."""
    if header is None:
        return None
    header = header.strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header):
        seconds = math.ceil(float(header))
    else:
        try:
            at = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        if at.tzinfo is None:
            return None
        seconds = math.ceil((at - clock.now()).total_seconds())
    return max(0, min(seconds, RETRY_AFTER_SECONDS_MAX))
