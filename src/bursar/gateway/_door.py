"""Stop 1: bytes → request. Parsed once, bounded, with errors that name the field and what to write there."""

from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any

import msgspec

from bursar.catalog import TEXT, ChargeClass, Classes
from bursar.gateway._preferences import Preferences, read_preferences
from bursar.kernel.errors import InvalidInput, TooLarge

BODY_BYTES_MAX = 20 * 1024 * 1024
JSON_DEPTH_MAX = 128
"""Objects and lists within each other. Tools with deep schemas stay far below it."""
MODELS_MAX = 8
CHOICES_MAX = 16
MAX_TOKENS_MAX = 10_000_000
TEXT_CHARACTERS_MAX = 256
MODEL_CHARACTERS_MAX = 120

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_OURS = frozenset(
    [
        "model",
        "models",
        "provider",
        "stream",
        "stream_options",
        "preset",
        "plugins",
        "transforms",
        "route",
        "usage",
        "session_id",
        "trace",
        "metadata",
        "debug",
        "stop_server_tools_when",
        "deferred_tools",
    ]
)
"""Fields that are read here and nowhere else; the rest goes to the provider's protocol, which knows `reasoning` and the like."""

_METADATA = b"x-openrouter-metadata"
_METADATA_LEGACY = b"x-openrouter-experimental-metadata"

_decoder = msgspec.json.Decoder()


class InvalidRequest(InvalidInput):
    """The body is not a request of this kind."""


class BodyTooLarge(TooLarge):
    """The body is larger than `BODY_BYTES_MAX`."""


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class Headers(msgspec.Struct, frozen=True):
    """What the pipeline reads of the request's headers, cut to what the activity keeps."""

    authorization: str | None
    http_referer: str | None
    app_title: str | None
    user_agent: str | None
    session_id: str | None
    wants_metadata: bool = False
    """Whether the answer says how it was routed."""


class ChatRequest(msgspec.Struct, frozen=True):
    """`body` is what goes upstream, in OpenAI's shape; `text_bytes` bounds the prompt's tokens."""

    models: tuple[str, ...]
    stream: bool
    max_tokens: int | None
    choices: int
    preferences: Preferences
    body: dict[str, Any]
    external_user: str | None
    session_id: str | None
    prompt_tokens_bound: int
    images: int
    sounds: int = 0
    extras: Classes = TEXT
    """The classes beside text that it can use, so far as it says so."""
    prompt_tokens_least: int = 0
    """A lower bound, for leaving out endpoints whose context is too short in any case."""
    reasoning_tokens: int = 0
    """How many tokens of thinking it asks for on top of an answer; only where it sets no `max_tokens`, which covers both."""
    echo: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """What the skin wants to see again when it writes the answer."""


def read_headers(scope: Scope) -> Headers:
    found: dict[bytes, bytes] = dict(scope["headers"])

    def text(name: bytes, most: int = 300) -> str | None:
        value = found.get(name)
        return None if value is None else value.decode("latin-1")[:most] or None

    authorization = text(b"authorization", 10_000)
    if authorization is None and (api_key := text(b"x-api-key", 10_000)) is not None:
        authorization = f"Bearer {api_key}"  # how Anthropic's clients send a key
    return Headers(
        authorization=authorization,
        http_referer=text(b"http-referer") or text(b"referer"),
        app_title=text(b"x-openrouter-title", 120) or text(b"x-title", 120),
        user_agent=text(b"user-agent"),
        session_id=text(b"x-session-id", TEXT_CHARACTERS_MAX),
        wants_metadata=b"enabled" in (found.get(_METADATA), found.get(_METADATA_LEGACY)),
    )


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Raises `BodyTooLarge` as soon as it is known, `ClientGone`."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    _require_size(int(declared) if declared.isdigit() else 0)
    parts: list[bytes] = []
    seen = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        seen += len(parts[-1])
        _require_size(seen)
        more = message.get("more_body", False)
    return b"".join(parts)


def _require_size(size: int) -> None:
    if size > BODY_BYTES_MAX:
        raise BodyTooLarge(
            f"The body is larger than {BODY_BYTES_MAX // 1024 // 1024} MiB.",
            remedy="Send images and files by URL, or split the request.",
        )


def parse_chat(body: bytes, headers: Headers) -> ChatRequest:
    """Raises `InvalidRequest`, naming the field."""
    return chat_request(parse_object(body), headers)


def chat_request(fields: dict[str, Any], headers: Headers) -> ChatRequest:
    """From the fields of a chat completion, as a client sent them or as another protocol's skin wrote them.

    Raises `InvalidRequest`, naming the field.
    """
    older = _integer(fields, "max_tokens", 1, MAX_TOKENS_MAX)
    max_tokens = _integer(fields, "max_completion_tokens", 1, MAX_TOKENS_MAX) or older
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: a list with at least one message is required.", field="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"messages[{number}]: an object with a role is required.", field="messages")
        if not isinstance(message.get("content"), str | list | None):
            raise InvalidRequest(
                f"messages[{number}].content: a string or a list of parts is required.", field="messages"
            )
    prompt = _Prompt(messages, fields)
    return ChatRequest(
        models=_models(fields),
        stream=_boolean(fields, "stream"),
        max_tokens=max_tokens,
        choices=_integer(fields, "n", 1, CHOICES_MAX) or 1,
        preferences=read_preferences(fields.get("provider")),
        body=_for_providers(fields),
        external_user=_text(fields, "user"),
        session_id=_text(fields, "session_id") or headers.session_id,
        prompt_tokens_bound=prompt.bound,
        images=prompt.images,
        sounds=prompt.sounds,
        extras=_made(fields) | prompt.extras,
        prompt_tokens_least=prompt.text_bytes // TOKEN_BYTES_MAX,
        reasoning_tokens=_reasoning_tokens(fields),
    )


def _reasoning_tokens(fields: Mapping[str, Any]) -> int:
    reasoning = fields.get("reasoning")
    if reasoning is None:
        return 0
    if not isinstance(reasoning, dict):
        raise InvalidRequest('reasoning: an object like {"effort": "low"} is required.', field="reasoning")
    budget = reasoning.get("max_tokens")
    if budget is None:
        return 0
    if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= MAX_TOKENS_MAX:
        wanted = f"a whole number from 1 to {MAX_TOKENS_MAX} is required."
        raise InvalidRequest(f"reasoning.max_tokens: {wanted}", field="reasoning")
    return budget


def _for_providers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What goes upstream. Nothing that changes the price without being in the price: such fields are dropped or refused."""
    for name in _NOT_PRICED:
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name} is not supported yet.", field=name)
    body = {name: value for name, value in fields.items() if name not in _OURS and value is not None}
    if body.get("service_tier") not in (None, "auto", "default"):
        del body["service_tier"]
    if "max_tokens" in body and "max_completion_tokens" in body:
        del body["max_tokens"]  # two limits in one request: the hold covers the one that is sent
    return body


_NOT_PRICED = ("web_search_options", "best_of")
_MADE: Mapping[str, ChargeClass | None] = {"text": None, "audio": "audio_output", "image": "image_output"}


def _made(fields: Mapping[str, Any]) -> Classes:
    """What the answer may be made of beside text: `modalities`. A voice without a sound would be nobody's wish."""
    wanted = fields.get("modalities")
    if wanted is None:
        wanted = ["text"]
    elif (
        not isinstance(wanted, list)
        or not wanted
        or not all(isinstance(each, str) and each in _MADE for each in wanted)
    ):
        raise InvalidRequest(f"modalities: a list of {', '.join(_MADE)} is required.", field="modalities")
    if fields.get("audio") is not None:
        if not isinstance(fields["audio"], dict):
            raise InvalidRequest(
                'audio: an object like {"voice": "alloy", "format": "wav"} is required.', field="audio"
            )
        if "audio" not in wanted:
            remedy = 'Send modalities ["text", "audio"] with it.'
            raise InvalidRequest("audio: no sound is wanted.", remedy=remedy, field="audio")
    return TEXT if wanted == ["text"] else frozenset(kind for each in wanted if (kind := _MADE[each]) is not None)


PART_TOKENS_MAX = 16_384
"""The bound of one image in a message: none of the providers' tables charges more tokens for one."""
MESSAGE_TOKENS = 16
"""Template overhead of one message."""
TOKEN_BYTES_MAX = 8
"""A token of text is on average not longer than this, in any language and tokenizer in use (about 4 in English)."""
TEMPLATE_TOKENS = 64
"""Template overhead of a request."""


SOUND_TOKEN_CHARACTERS_MIN = 16
"""A token of sound is at least so many characters of base64: 32 tokens a second, of speech squeezed as far as codecs go."""
_FOR_AN_HOUR = b'"ttl":"1h"'


class _Prompt:
    """At most `bound` prompt tokens: a token is at least one byte of text. `text_bytes` of it are plain text."""

    __slots__ = ("_extras", "bound", "images", "sounds", "text_bytes")

    def __init__(self, messages: list[Any], fields: Mapping[str, Any]) -> None:
        self.bound, self.images, self.sounds, self.text_bytes = TEMPLATE_TOKENS, 0, 0, 0
        self._extras: set[ChargeClass] = set()
        for message in messages:
            self.bound += MESSAGE_TOKENS
            content = message.get("content")
            rest = {name: value for name, value in message.items() if name != "content"}
            self.bound += self._size(rest)
            if message.get("audio") is not None:  # what was said before, by its id: how long it was is not told
                self._take_unknown(message["audio"])
            if isinstance(content, str):
                self.text_bytes += len(content.encode("utf-8", "surrogatepass"))
            elif isinstance(content, list):
                for part in content:
                    self._take(part)
        for name in ("tools", "functions", "response_format"):
            if fields.get(name) is not None:
                self.bound += self._size(fields[name]) + MESSAGE_TOKENS
        self._look_for_hour(fields.get("cache_control"))
        self.bound += self.text_bytes

    @property
    def extras(self) -> Classes:
        return frozenset(self._extras) if self._extras else TEXT

    def _take(self, part: Any) -> None:
        if isinstance(part, str):
            self.text_bytes += len(part.encode("utf-8", "surrogatepass"))
            return
        if not isinstance(part, dict):
            if part is not None:
                self._take_unknown(part)
            return
        kind = part.get("type")
        if kind == "text" and isinstance(part.get("text"), str):
            self.text_bytes += len(part["text"].encode("utf-8", "surrogatepass"))
        elif kind == "image_url":
            self.bound += PART_TOKENS_MAX
            self.images += 1
            self._extras.add("image_token")
        elif kind == "input_audio":
            self.bound += max(MESSAGE_TOKENS, self._size(part) // SOUND_TOKEN_CHARACTERS_MIN)
            self.sounds += 1
            self._extras.add("audio")
        else:
            self._take_unknown(part)
        self._look_for_hour(part.get("cache_control"))

    def _take_unknown(self, part: Any) -> None:
        """A file, a film, something new: its own bytes, never less than an image, and whatever can be seen or heard in it."""
        self.bound += max(PART_TOKENS_MAX, len(msgspec.json.encode(part)))
        self._extras |= {"image_token", "audio"}

    def _size(self, value: Any) -> int:
        """In bytes of JSON."""
        written = msgspec.json.encode(value)
        if _FOR_AN_HOUR in written:  # quotes inside a text are escaped, so that nobody's words are taken for it
            self._extras.add("input_cache_write_1h")
        return len(written)

    def _look_for_hour(self, mark: Any) -> None:
        if isinstance(mark, dict) and mark.get("ttl") == "1h":
            self._extras.add("input_cache_write_1h")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises `InvalidRequest`."""
    try:
        fields = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The body is not valid JSON: {error}.", remedy="Send a JSON object with Content-Type: application/json."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", remedy='Send {"model": …, "messages": […]}.')
    if body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX:  # most bodies have not even so many
        _require_depth(fields)
    return fields


def _require_depth(fields: dict[str, Any]) -> None:
    """Level by level, so that whatever handles the body later may do so recursively."""
    level: list[Any] = [fields]
    for _ in range(JSON_DEPTH_MAX):
        values = chain.from_iterable(each.values() if type(each) is dict else each for each in level)
        level = [value for value in values if type(value) in (dict, list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested more than {JSON_DEPTH_MAX} levels deep.", remedy="Send flatter JSON.")


def _models(fields: Mapping[str, Any]) -> tuple[str, ...]:
    first, others = fields.get("model"), fields.get("models")
    if first is not None and not isinstance(first, str):
        raise InvalidRequest("model: a string like demo/echo-1 is required.", field="model")
    if others is not None and not (isinstance(others, list) and all(isinstance(model, str) for model in others)):
        raise InvalidRequest("models: a list of model ids is required.", field="models")
    if others is not None and len(others) > MODELS_MAX:
        raise InvalidRequest(f"models: at most {MODELS_MAX}.", field="models")
    found = tuple(dict.fromkeys(model for model in [first, *(others or [])] if model))
    for model in found:
        if len(model) > MODEL_CHARACTERS_MAX or not model.isprintable():
            raise InvalidRequest(
                f"model: an id has at most {MODEL_CHARACTERS_MAX} printable characters.",
                remedy="GET /api/v1/models lists the models there are.",
                field="model",
            )
    if not found:
        raise InvalidRequest("model: name the model to call; GET /api/v1/models lists them.", field="model")
    return found


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name}: true or false is required.", field=name)
    return bool(value)


def _integer(fields: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequest(f"{name}: a whole number from {least} to {most} is required.", field=name)
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX or "\0" in value:
        raise InvalidRequest(
            f"{name}: a string of at most {TEXT_CHARACTERS_MAX} characters, none of them NUL, is required.", field=name
        )
    return value
