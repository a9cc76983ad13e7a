"""Stop 6: a tap on the answer. Puts our ids, provider and cost in, keeps count of what arrived."""

import logging
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import msgspec

from bursar.activity import UsageSource
from bursar.catalog import ChargeClass, Usage
from bursar.gateway._wire import encode
from bursar.gateway.plan import Attempt, Plan
from bursar.providers import Chunk, Deltas, Frame, count_tokens, decode_chunk

_log = logging.getLogger("bursar.meter")

IMAGES_MADE_MAX = 100
"""No answer has more."""
TOKENS_REPORTED_MAX = 100_000_000
"""A provider that reports more than this is not believed; what arrived is counted instead."""

_FINISH = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "error": "error",
}


IMAGE_TOKENS_GUESSED = 1_290
"""Of an image that a provider made and did not count: Google's table for 1024 × 1024."""
SOUND_TOKEN_CHARACTERS = 3_200
"""A token of sound that was not counted is so many characters of base64: OpenAI's 20 tokens a second, streamed as 16 bits at 24 kHz."""

_WORDS = b"\\u0000 what is said here \\u0000"
_NOISE = b"\\u0000 what says nothing \\u0000"
"""They stand for what a model says, and for what hides how long that is; no model says so."""
_UNFINISHED = b'"finish_reason":null'
_HEAD_FIELDS = frozenset(["id", "object", "created", "model"])


class Spliced:
    """Events for the client, made of `deltas` without writing them anew."""

    __slots__ = ("data", "deltas", "text_bytes")

    def __init__(self, data: bytes, deltas: Deltas) -> None:
        self.data = data
        self.deltas = deltas
        texts = deltas.texts
        self.text_bytes = len((texts[0] if len(texts) == 1 else "".join(texts)).encode("utf-8", "surrogatepass"))


class Meter:
    """One answer from one endpoint, whole or in chunks."""

    def __init__(self, plan: Plan, attempt: Attempt, *, generation: str, created: int) -> None:
        self._plan = plan
        self._attempt = attempt
        self._head = {"id": generation, "provider": attempt.endpoint.provider.name, "model": attempt.endpoint.model.id}
        self._created = created
        self._reported: Usage | None = None
        self._reported_until: int | None = None
        """How many pieces the latest report covers; None: all so far. The chunk that brings a report is covered by it."""
        self._pieces: list[str] = []
        self.pieces_bytes = 0
        """UTF-8 bytes of text so far: an upper bound of its visible tokens."""
        self.images_made = 0
        self._sound_characters = 0
        self._media_tokens = 0
        self._speaking: set[int] = set()
        """The choices that made sound."""
        self.finish_reason: str | None = None
        self.native_finish_reason: str | None = None
        self.upstream_id: str | None = None
        self._choices_open: set[int] = set()
        self._embedded = False
        self._their_head: bytes | None = None
        self._our_head: bytes | None = None
        self._their_frame: Frame | None = None
        self._our_frame: tuple[bytes, bytes, bytes] | None = None

    def take(self, chunk: Chunk) -> Chunk | None:
        """The chunk as our client gets it, or None for one that only carried usage, which is kept for the end."""
        upstream = chunk.value
        self._look(upstream)
        choices = upstream.get("choices") or []
        if not choices:
            return None
        made = [self._choice(choice, "delta") for choice in choices]
        return Chunk(value={**self._chunk_head(upstream.get("system_fingerprint")), "choices": made})

    def splice(self, deltas: Deltas) -> "Spliced | None":
        """The same events with our head in them, not counted yet; None where they have to be taken one by one."""
        if deltas.frame is None:
            data = self._with_our_head(deltas)
            return None if data is None else Spliced(data, deltas)
        if deltas.frame is not self._their_frame:
            self._their_frame, self._our_frame = deltas.frame, self._frame_for(deltas.frame)
        if self._our_frame is None:
            return None
        before, after, end = self._our_frame
        words, noise = deltas.words
        return Spliced(b"".join((before, words, after, noise, end)), deltas)

    def _frame_for(self, frame: Frame) -> tuple[bytes, bytes, bytes] | None:
        """Ours in place of an upstream's; None where its events have to be taken one by one."""
        data = self._with_our_head(frame.around(_WORDS, _NOISE)) or b""
        if data.count(_WORDS) != 1 or data.count(_NOISE) != bool(frame.end):
            return None
        before, _, rest = data.partition(_WORDS)
        after, _, end = rest.partition(_NOISE)
        return before, after, end

    def _with_our_head(self, deltas: Deltas) -> bytes | None:
        head, data, count = deltas.head, deltas.data, deltas.count
        if head is None:
            return None
        if head != self._their_head:
            self._their_head, self._our_head = head, self._head_for(head)
        if self._our_head is None:
            return None
        if b'"usage"' in data:
            data = data.replace(b',"usage":null', b"")
        if data.count(b"]}\n\n") != count and data.count(b'],"obfuscation":"') != count:
            return None  # something stands behind the choices, which is not ours to hand on
        if b'"native_finish_reason"' not in data:
            if data.count(_UNFINISHED) != count:
                return None
            data = data.replace(_UNFINISHED, _UNFINISHED + b',"native_finish_reason":null')
        return data.replace(head, self._our_head)

    def took(self, spliced: "Spliced") -> None:
        """Counts what `splice` made, as `take` does."""
        if self._reported_until is None:
            self._reported_until = len(self._pieces)
        self._pieces += spliced.deltas.texts
        self.pieces_bytes += spliced.text_bytes
        self._choices_open |= spliced.deltas.choices

    def _head_for(self, head: bytes) -> bytes | None:
        """Ours in place of an upstream's; None for one that lacks a field which might come later, then."""
        theirs = decode_chunk(head.removeprefix(b"data: ") + b'"choices":[]}')
        if theirs is None or not theirs.keys() >= _HEAD_FIELDS:
            return None
        self._look(theirs)
        ours = self._chunk_head(theirs.get("system_fingerprint"))
        return b"data: " + encode(ours)[:-1] + b","

    def _chunk_head(self, fingerprint: Any) -> dict[str, Any]:
        head = {**self._head, "object": "chat.completion.chunk", "created": self._created}
        # In a whole answer it may be null, in a chunk OpenRouter's TypeScript client takes a string or nothing.
        return {**head, "system_fingerprint": fingerprint} if isinstance(fingerprint, str) else head

    def cut(self) -> Chunk:
        """The clean end of a stream that the credits cover no further."""
        choice = {"index": 0, "delta": {}, "finish_reason": "length"}
        ours = self.take(Chunk(value={"choices": [choice]}))
        assert ours is not None
        return ours

    def whole(self, upstream: dict[str, Any]) -> dict[str, Any]:
        """The whole answer as our client gets it, without its usage."""
        self._look(upstream)
        return {
            **self._head,
            "object": "chat.completion",
            "created": self._created,
            "choices": [self._choice(choice, "message") for choice in upstream.get("choices") or []],
            "system_fingerprint": upstream.get("system_fingerprint"),
        }

    def embeddings(self, upstream: dict[str, Any]) -> dict[str, Any]:
        """The whole list of embeddings as our client gets it, without its usage."""
        self._embedded = True
        usage = upstream.get("usage")
        self._look({**upstream, "usage": {**usage, "completion_tokens": 0}} if isinstance(usage, dict) else upstream)
        return {**self._head, "object": "list", "data": upstream["data"]}

    def closing(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The last chunk of a stream: the usage."""
        return {**self._chunk_head(None), "choices": [], "usage": usage}

    @property
    def is_finished(self) -> bool:
        """Whether every choice seen so far said why it ended."""
        return self.finish_reason is not None and not self._choices_open

    def usage(self) -> tuple[Usage, UsageSource]:
        """What the provider reported, hidden reasoning included, as far as it can be true; where it reported nothing, or more
        arrived after its report than that counts, what arrived."""
        reported = None if self._reported is None else self._believed(self._reported)
        is_last_word = self._reported_until is None or self._reported_until == len(self._pieces)
        if reported is not None and is_last_word:
            return reported, UsageSource.REPORTED
        if not self.has_output:
            return Usage(requests=0), UsageSource.NONE
        written = count_tokens("".join(self._pieces)) + self._media_tokens
        is_counted = not self._media_tokens and not self._embedded
        if reported is not None and reported.completion_tokens >= written:
            return reported, UsageSource.REPORTED
        if reported is not None:  # of the prompt a report knows more than its length: what came from a cache
            counted = msgspec.structs.replace(reported, completion_tokens=written)
        else:
            counted = self._guessed(written)
        return self._believed(counted), UsageSource.COUNTED if is_counted else UsageSource.ESTIMATED

    def rough_usage(self) -> Usage:
        """What arrived until now, by its length alone: text takes about four bytes a token."""
        written = min(-(-self.pieces_bytes // 4) + self._media_tokens, self._attempt.most_tokens)
        return msgspec.structs.replace(self._guessed(written), images=self._plan.images)

    @property
    def tokens_most(self) -> int:
        """More tokens than the output so far has hardly any tokenizer makes of it."""
        return self.pieces_bytes + self._media_tokens

    @property
    def media_made(self) -> int:
        """Images, and choices that speak."""
        return self.images_made + len(self._speaking)

    @property
    def _sound_tokens(self) -> int:
        return -(-self._sound_characters // SOUND_TOKEN_CHARACTERS)

    def _guessed(self, completion_tokens: int) -> Usage:
        """A quarter of the bytes is what text takes on average; the bound of the plan is the most it can take."""
        return Usage(
            prompt_tokens=-(-self._plan.prompt_tokens // 4),
            completion_tokens=completion_tokens,
            audio_output_tokens=self._sound_tokens,
            image_output_tokens=self.images_made * IMAGE_TOKENS_GUESSED,
        )

    def _believed(self, usage: Usage) -> Usage:
        """No prompt is longer than the context (or, where each input has one to itself, than the bound of all of them), no answer
        than what the endpoint can write or the client allowed, and what was neither sent nor asked for is text."""
        endpoint, extras = self._attempt.endpoint, self._attempt.extras
        if any(_extras_of(usage)) and any(
            getattr(usage, field) and kind not in extras for field, kind in _EXTRA_FIELDS
        ):
            usage = msgspec.structs.replace(usage, **{field: 0 for field, kind in _EXTRA_FIELDS if kind not in extras})
        prompt = min(usage.prompt_tokens, max(endpoint.context_length, self._plan.prompt_tokens))
        completion = min(usage.completion_tokens, self._attempt.most_tokens)
        if (
            prompt == usage.prompt_tokens
            and completion == usage.completion_tokens
            and usage.images == self._plan.images
        ):
            return usage
        if prompt < usage.prompt_tokens or completion < usage.completion_tokens:
            _log.warning("%s reported more tokens than there can be: %s", endpoint.id, usage)
        return msgspec.structs.replace(
            usage, prompt_tokens=prompt, completion_tokens=completion, images=self._plan.images
        )

    def _take_media(self, content: dict[str, Any], index: int) -> None:
        sound, images = content.get("audio"), content.get("images")
        if isinstance(sound, dict) and isinstance(sound.get("data"), str) and sound["data"]:
            self._sound_characters += len(sound["data"])
            self._speaking.add(index)
        if isinstance(images, list):
            self.images_made += min(len(images), IMAGES_MADE_MAX - self.images_made)
        self._media_tokens = self._sound_tokens + self.images_made * IMAGE_TOKENS_GUESSED
        self._pieces.append("")  # nothing to read, and output all the same

    @property
    def has_output(self) -> bool:
        return bool(self._pieces) or self._embedded

    def _look(self, upstream: dict[str, Any]) -> None:
        identity = upstream.get("id")
        if self.upstream_id is None and isinstance(identity, str):
            self.upstream_id = _storable(identity, 200)
        usage = upstream.get("usage")
        reported = _read_usage(usage) if isinstance(usage, dict) else None
        if reported is not None:
            self._reported, self._reported_until = reported, None
        elif self._reported_until is None:
            self._reported_until = len(self._pieces)

    def _choice(self, choice: Any, part: str) -> dict[str, Any]:
        choice = choice if isinstance(choice, dict) else {}
        index = choice["index"] if isinstance(choice.get("index"), int) else 0
        content = choice.get(part)
        content = dict(content) if isinstance(content, dict) else {}
        if part == "message":
            content.setdefault("role", "assistant")
        if content.get("audio") or content.get("images"):
            self._take_media(content, index)
        for piece in _texts(content):
            self._pieces.append(piece)
            self.pieces_bytes += len(piece.encode("utf-8", "surrogatepass"))
        native = choice.get("finish_reason") or None
        if native is None:
            self._choices_open.add(index)
        else:
            self._choices_open.discard(index)
            self.native_finish_reason = _storable(str(native), 64)
            self.finish_reason = _FINISH.get(self.native_finish_reason.lower(), "stop")
        done = {"index": index, part: content, "finish_reason": None if native is None else self.finish_reason}
        done["native_finish_reason"] = native
        done["logprobs"] = choice.get("logprobs")
        stopped_at = choice.get("stop_sequence", choice.get("stop_reason"))  # Anthropic's word, and vLLM's
        if isinstance(stopped_at, str):
            done["stop_sequence"] = stopped_at
        return done


_EXTRA_FIELDS: tuple[tuple[str, ChargeClass], ...] = (
    ("cache_write_1h_tokens", "input_cache_write_1h"),
    ("audio_tokens", "audio"),
    ("image_tokens", "image_token"),
    ("audio_output_tokens", "audio_output"),
    ("image_output_tokens", "image_output"),
)
_extras_of = attrgetter(*(field for field, _ in _EXTRA_FIELDS))


def _storable(text: str, most: int) -> str:
    """What a provider wrote, as a database takes it: PostgreSQL refuses NUL, and a settlement must not fail on an id."""
    text = text[:most]
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _texts(content: dict[str, Any]) -> Iterable[str]:
    """Every text that a message or a delta carries: content, reasoning, refusal, what is said, tool calls."""
    thought = "reasoning" if content.get("reasoning") else "reasoning_content"  # the same text under two names
    for name in ("content", thought, "refusal"):
        if isinstance(content.get(name), str) and content[name]:
            yield content[name]
    sound = content.get("audio")
    if isinstance(sound, dict) and isinstance(sound.get("transcript"), str) and sound["transcript"]:
        yield sound["transcript"]
    calls = content.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        for name in ("name", "arguments"):
            if isinstance(function, dict) and isinstance(function.get(name), str) and function[name]:
                yield function[name]


def _read_usage(usage: dict[str, Any]) -> Usage | None:
    """None for counts that make no sense: negative, absurd, missing."""

    def count(of: Any, name: str) -> int | None:
        value = of.get(name) if isinstance(of, dict) else None
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_REPORTED_MAX
        return value if good else None

    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    if prompt is None or completion is None:
        return None
    inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if not inputs and not outputs:
        return Usage(prompt_tokens=prompt, completion_tokens=completion)
    written = min(count(inputs, "cache_write_tokens") or 0, prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(count(inputs, "cached_tokens") or 0, prompt),
        cache_write_tokens=written,
        cache_write_1h_tokens=min(count(inputs, "cache_write_1h_tokens") or 0, written),
        audio_tokens=min(count(inputs, "audio_tokens") or 0, prompt),
        image_tokens=min(count(inputs, "image_tokens") or 0, prompt),
        reasoning_tokens=min(count(outputs, "reasoning_tokens") or 0, completion),
        audio_output_tokens=min(count(outputs, "audio_tokens") or 0, completion),
        image_output_tokens=min(count(outputs, "image_tokens") or 0, completion),
    )
