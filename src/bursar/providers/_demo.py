"""The demo provider: offline and deterministic, so that a whole installation can be tried without a credential.

The same request gets the same words, token counts and id; `pace` scales the waiting (1: human, 0: none). Any
`upstream_model` is served; one whose name begins with `scholar` thinks first, which costs hidden reasoning tokens.

Tokens are counted by one rule: a run of letters, digits and underscores is one token, and so is every other character
that is not white space; an image is `IMAGE_TOKENS`; tools count as the JSON they are.

Embeddings are unit vectors of `EMBEDDING_DIMENSIONS` numbers (or as many as `dimensions` asks for): each word points in a
direction of its own and a text is their sum, so that texts with words in common are close.

Directives in the last user message (of embeddings: in the first text), for tests and for trying out how failures look:

| directive         | what happens                                                                                   |
|-------------------|------------------------------------------------------------------------------------------------|
| `[[fail:500]]`    | the provider answers with that status, 400 to 599, as a real one would (429: with Retry-After)  |
| `[[fail:refused]]`| nobody listens at the provider's address                                                       |
| `[[fail:timeout]]`| no answer in time (after 2 s at pace 1)                                                        |
| `[[fail:junk]]`   | the answer is not a chat completion                                                            |
| `[[fail:cut]]`    | a stream breaks off after half of its tokens; a whole answer never arrives                     |
| `[[usage:none]]`  | reports no usage                                                                               |
| `[[usage:zero]]`  | reports a usage of 0                                                                           |
| `[[slow]]`        | streams `DEMO_SLOW_TOKENS_PER_SECOND`                                                          |
| `[[tokens:500]]`  | the answer is exactly that many tokens long, up to `DEMO_TOKENS_MAX` (`max_tokens` still counts)|
"""

import asyncio
import hashlib
import itertools
import math
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bursar.kernel.clock import Clock
from bursar.providers._call import ChatCall
from bursar.providers._chunk import Chunk
from bursar.providers._deltas import Deltas
from bursar.providers._embeddings import to_base64
from bursar.providers._errors import (
    RETRY_AFTER_SECONDS_DEFAULT,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
    failure_of,
)

DEMO_TOKENS_PER_SECOND = 40
DEMO_SLOW_TOKENS_PER_SECOND = 4
DEMO_FIRST_TOKEN_SECONDS = 0.2
DEMO_WHOLE_ANSWER_SECONDS = 0.4
DEMO_TIMEOUT_SECONDS = 2.0
DEMO_TOKENS_MAX = 20_000
IMAGE_TOKENS = 85
EMBEDDING_DIMENSIONS = 256
EMBEDDING_DIMENSIONS_MAX = 1024
EMBEDDING_WORDS_MAX = 256
"""Of one text; the words after them count as tokens only. It runs in the server's own loop."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
_TOKEN_WITH_SPACE = re.compile(r"\s*(?:\w+|[^\w\s])")
_DIRECTIVE = re.compile(r"\[\[(fail|usage|tokens):(\w{1,16})\]\]|\[\[(slow)\]\]")

_COMMON_WORDS = (
    "a about an and are as at be by can could do does explain for from give hello help hey hi how i in into is it list me my of "
    "on or please say should tell that the their there this to us was we what when where which who why will with would write you your"
)
_SUBJECTS_IGNORED = frozenset(_COMMON_WORDS.split())

_OPENINGS = (
    "Here is a short answer about {subject}.",
    "{Subject} is a good thing to ask about.",
    "Let us look at {subject} together.",
    "In brief, {subject} comes down to a few plain ideas.",
    "There is more to {subject} than meets the eye.",
    "A fair question, and {subject} deserves a clear reply.",
)
_BODIES = (
    "Start with the part that changes least, and build outward from there.",
    "Most of the difficulty lies in the details, so take them one at a time.",
    "A small example usually says more than a long definition.",
    "It helps to write down what must always hold before anything moves.",
    "Measure first, then decide, then measure again.",
    "The simplest version that works is often the one worth keeping.",
    "Two people may describe {subject} differently and both be right.",
    "When in doubt, prefer the choice that is easy to undo.",
    "What looks like an exception is often a rule that nobody wrote down.",
    "Good names make {subject} easier to discuss and easier to change.",
    "Keep an eye on the costs, because they tend to arrive later than the benefits.",
    "If one step surprises you, go back and check the step before it.",
    "The numbers matter less than knowing where they came from.",
    "Ask who relies on {subject}, and what they would notice first if it stopped.",
    "With a little practice the pattern becomes familiar, then obvious.",
    "Leave some room for the case that you have not thought of yet.",
)
_CLOSINGS = (
    "That is the heart of it.",
    "From here, a first small step is better than a perfect plan.",
    "Ask again with more detail, and the answer can be more precise.",
    "This reply was made up by the demo provider, but its tokens were counted with care.",
    "None of this needed a network, which is rather the point of a demo.",
)


def count_tokens(text: str) -> int:
    """By the rule in this module's docstring: one per word, one per other visible character."""
    return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(frozen=True, slots=True)
class _Script:
    """Everything about one answer, decided before the first token."""

    id: str
    model: str
    pieces: tuple[str, ...]
    finish_reason: str
    usage: dict[str, Any] | None
    fail: str | None
    tokens_per_second: int


class DemoUpstream:
    def __init__(self, *, clock: Clock, pace: float = 1.0) -> None:
        self._pace = pace
        self._clock = clock

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        script = _script(call)
        await self._fail_early(script.fail)
        await self._wait(min(DEMO_WHOLE_ANSWER_SECONDS, len(script.pieces) / script.tokens_per_second))
        if script.fail == "cut":
            raise _cut(before_output=True)
        answer = self._envelope(script, "chat.completion")
        message = {"role": "assistant", "content": "".join(script.pieces), "refusal": None}
        answer["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": script.finish_reason}]
        if script.usage is not None:
            answer["usage"] = script.usage
        return answer

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk | Deltas], None]:
        script = _script(call)
        await self._fail_early(script.fail)
        await self._wait(DEMO_FIRST_TOKEN_SECONDS)
        stop_at = len(script.pieces) // 2 if script.fail == "cut" else None
        yield [self._chunk(script, {"role": "assistant", "content": ""})]
        for position, piece in enumerate(script.pieces):
            if position == stop_at:
                raise _cut(before_output=position == 0)
            if position:
                await self._wait(1 / script.tokens_per_second)
            yield [self._chunk(script, {"content": piece})]
        if script.fail == "cut":
            raise _cut(before_output=not script.pieces)
        yield [self._chunk(script, {}, script.finish_reason)]
        if script.usage is not None:
            usage = {**self._envelope(script, "chat.completion.chunk"), "choices": [], "usage": script.usage}
            yield [Chunk(value=usage)]

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        texts = _inputs(call.body)
        directives, _ = _directives(texts[0])
        await self._fail_early(directives.get("fail"))
        await self._wait(DEMO_FIRST_TOKEN_SECONDS)
        if directives.get("fail") == "cut":
            raise _cut(before_output=True)
        dimensions = call.body.get("dimensions") or EMBEDDING_DIMENSIONS
        if not isinstance(dimensions, int) or not 1 <= dimensions <= EMBEDDING_DIMENSIONS_MAX:
            sentence = f"dimensions must be a whole number from 1 to {EMBEDDING_DIMENSIONS_MAX}."
            raise UpstreamRefused(sentence, provider_code="400")
        vectors: list[Any] = [_vector(text, dimensions) for text in texts]
        if call.body.get("encoding_format") == "base64":
            vectors = [to_base64(vector) for vector in vectors]
        answer: dict[str, Any] = {
            "object": "list",
            "model": call.upstream_model,
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
        }
        prompt = 0 if directives.get("usage") == "zero" else sum(max(1, count_tokens(text)) for text in texts)
        if directives.get("usage") != "none":
            answer["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
        return answer

    async def close(self) -> None:
        """Holds nothing."""

    async def _wait(self, seconds: float) -> None:
        # Even without waiting, others get their turn: a real upstream never answers within one turn of the loop.
        await asyncio.sleep(seconds * self._pace)

    async def _fail_early(self, fail: str | None) -> None:
        if fail is None or fail == "cut":
            return
        if fail == "timeout":
            await self._wait(DEMO_TIMEOUT_SECONDS)
            raise UpstreamTimedOut("The provider did not answer in time.", provider_code="timeout")
        await self._wait(DEMO_FIRST_TOKEN_SECONDS / 2)
        if fail == "refused":
            raise UpstreamFailed("The provider cannot be reached.", provider_code="refused")
        if fail == "junk":
            raise UpstreamFailed("The provider's answer is not a chat completion.", provider_code="junk")
        raise failure_of(
            int(fail),
            message="The demo provider was asked to fail.",
            retry_after=RETRY_AFTER_SECONDS_DEFAULT,
        )

    def _envelope(self, script: _Script, kind: str) -> dict[str, Any]:
        return {
            "id": script.id,
            "object": kind,
            "created": int(self._clock.now().timestamp()),
            "model": script.model,
            "system_fingerprint": None,
        }

    def _chunk(self, script: _Script, delta: dict[str, Any], finish_reason: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return Chunk(value={**self._envelope(script, "chat.completion.chunk"), "choices": [choice]})


def _inputs(body: Mapping[str, Any]) -> list[str]:
    """The texts to embed; a list of tokens is a text of numbers."""
    given = body.get("input")
    tokens_of_one = isinstance(given, list) and all(isinstance(each, int) for each in given)
    inputs = given if isinstance(given, list) and not tokens_of_one else [given]
    texts = [" ".join(map(str, each)) if isinstance(each, list) else each for each in inputs]
    found = [text for text in texts if isinstance(text, str) and text]
    if not found or len(found) < len(texts):
        raise UpstreamRefused("input must be a text, or a list of texts or tokens.", provider_code="400")
    return found


def _vector(text: str, dimensions: int) -> list[float]:
    """A unit vector: the sum of a few axes for each word, drawn from the word's hash."""
    words = [match[0].lower() for match in itertools.islice(_TOKEN.finditer(text), EMBEDDING_WORDS_MAX)] or [text]
    total = [0.0] * dimensions
    for word in words:
        drawn = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        for at in range(0, len(drawn), 4):
            axis = int.from_bytes(drawn[at : at + 4], "big")
            total[(axis >> 1) % dimensions] += 1.0 if axis & 1 else -1.0
    if not any(total):  # words that cancel each other out
        total[0] = 1.0
    length = math.hypot(*total)
    return [each / length for each in total]


def _cut(*, before_output: bool) -> UpstreamFailed:
    return UpstreamFailed("The provider's answer broke off.", before_output=before_output, provider_code="cut")


def _script(call: ChatCall) -> _Script:
    messages = _messages(call.body)
    directives, question = _directives(_last_user_text(messages))
    seed = _seed(call.upstream_model, messages)
    pieces = _answer(seed, question, _number(directives.get("tokens")))
    reasoning = 24 + seed[31] % 48 if call.upstream_model.startswith("scholar") else 0
    most = _most(call.body)
    finish_reason = "stop"
    if most is not None and reasoning + len(pieces) > most:
        finish_reason = "length"
        reasoning = min(reasoning, most)
        pieces = pieces[: most - reasoning]
    return _Script(
        id=f"chatcmpl-demo-{seed.hex()[:24]}",
        model=call.upstream_model,
        pieces=tuple(pieces),
        finish_reason=finish_reason,
        usage=_usage(directives.get("usage"), _prompt_tokens(messages, call.body), len(pieces) + reasoning, reasoning),
        fail=directives.get("fail"),
        tokens_per_second=DEMO_SLOW_TOKENS_PER_SECOND if "slow" in directives else DEMO_TOKENS_PER_SECOND,
    )


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, Mapping) for message in messages):
        raise UpstreamRefused("messages must be a list of at least one message.", provider_code="400")
    return messages


def _most(body: Mapping[str, Any]) -> int | None:
    """The lower of `max_tokens` and `max_completion_tokens`; None where neither is set."""
    limits = []
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UpstreamRefused(f"{name} must be a whole number of at least 1.", provider_code="400")
        limits.append(value)
    return min(limits, default=None)


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _last_user_text(messages: list[Mapping[str, Any]]) -> str:
    return next((_text_of(message) for message in reversed(messages) if message.get("role") == "user"), "")


def _directives(text: str) -> tuple[dict[str, str], str]:
    """The directives that mean something, by name, and the text without them."""
    found = {}
    for match in _DIRECTIVE.finditer(text):
        name, value = match[1] or match[3], match[2] or ""
        if _is_directive(name, value):
            found[name] = value
    return found, _DIRECTIVE.sub(" ", text)


def _is_directive(name: str, value: str) -> bool:
    if name == "fail":
        return value in {"timeout", "junk", "cut", "refused"} or re.fullmatch("[45][0-9][0-9]", value) is not None
    if name == "usage":
        return value in {"none", "zero"}
    return name == "slow" or re.fullmatch("[0-9]{1,9}", value) is not None


def _number(text: str | None) -> int | None:
    return None if text is None else min(int(text), DEMO_TOKENS_MAX)


def _seed(model: str, messages: list[Mapping[str, Any]]) -> bytes:
    try:
        said = msgspec.json.encode(messages)
    except (TypeError, ValueError):
        raise UpstreamRefused("messages hold something that is not valid JSON text.", provider_code="400") from None
    return hashlib.sha256(model.encode() + b"\0" + said).digest()


def _answer(seed: bytes, question: str, length: int | None) -> list[str]:
    """The answer's tokens, each with the white space before it."""
    subject = _subject(question)
    order = sorted(range(len(_BODIES)), key=lambda index: hashlib.sha256(seed + bytes([index])).digest())
    sentences = [
        _OPENINGS[seed[0] % len(_OPENINGS)],
        *(_BODIES[index] for index in order[: 3 + seed[1] % 3]),
        _CLOSINGS[seed[2] % len(_CLOSINGS)],
    ]
    text = " ".join(
        sentence.replace("{subject}", subject).replace("{Subject}", subject[:1].upper() + subject[1:])
        for sentence in sentences
    )
    pieces = _TOKEN_WITH_SPACE.findall(text)
    if length is None:
        return pieces
    if not length:
        return []
    again = [f" {pieces[0]}", *pieces[1:]]
    while len(pieces) < length:
        pieces += again
    return pieces[:length]


def _subject(question: str) -> str:
    words = [word for word in re.findall(r"[^\W\d_]{3,24}", question) if word.lower() not in _SUBJECTS_IGNORED]
    return " ".join(words[-2:]).lower() or "your question"


def _prompt_tokens(messages: list[Mapping[str, Any]], body: Mapping[str, Any]) -> int:
    total = 0
    for message in messages:
        total += count_tokens(_text_of(message))
        parts = message.get("content")
        if isinstance(parts, list):
            total += IMAGE_TOKENS * sum(
                1 for part in parts if isinstance(part, Mapping) and part.get("type") == "image_url"
            )
        total += _json_tokens(message.get("tool_calls"))
    return max(1, total + _json_tokens(body.get("tools")))


def _json_tokens(value: Any) -> int:
    if not value:
        return 0
    try:
        return count_tokens(msgspec.json.encode(value).decode())
    except (TypeError, ValueError):
        raise UpstreamRefused("tools hold something that is not valid JSON text.", provider_code="400") from None


def _usage(directive: str | None, prompt: int, completion: int, reasoning: int) -> dict[str, Any] | None:
    if directive == "none":
        return None
    if directive == "zero":
        prompt = completion = reasoning = 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
