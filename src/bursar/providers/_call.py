"""What one call to an upstream is, whatever its protocol."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bursar.providers._chunk import Chunk
from bursar.providers._deltas import Deltas

CONNECT_SECONDS = 10.0
FIRST_BYTE_SECONDS = 300.0
"""Until the headers of an answer: reasoning models think for minutes before they say a word."""
IDLE_SECONDS = 120.0
"""Between two reads of an answer that has begun."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect_seconds: float = CONNECT_SECONDS
    first_byte_seconds: float = FIRST_BYTE_SECONDS
    idle_seconds: float = IDLE_SECONDS


class Pump:
    """A short way for the plain deltas of one stream. Whoever relays it may `take` them at the moment they arrive, without being
    woken for each: it returns whether it dealt with them. Where it did not, or is None, they come out of the stream as ever.
    """

    __slots__ = ("take",)

    def __init__(self) -> None:
        self.take: Callable[[Deltas], bool] | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One chat completion, or one request for embeddings.

    `body` is in OpenAI's shape with OpenRouter's words for what a model does (`reasoning`, `reasoning_details`,
    `cache_control`); it is not changed.

    `model`, `stream` and `stream_options` are set by the upstream from `upstream_model` and the method called.
    """

    upstream_model: str
    body: Mapping[str, Any] = field(repr=False)
    base_url: str | None = None
    credential: str | None = field(default=None, repr=False)
    timeouts: Timeouts = Timeouts()
    pump: Pump = field(default_factory=Pump, repr=False)
    """Of a stream; an upstream need not use it."""


class Upstream(Protocol):
    """How to speak to one kind of provider. Every failure is an `UpstreamFailed`."""

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        """The whole answer: a `chat.completion` object with at least one choice. `usage` is there if the provider sent one."""
        ...

    def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk | Deltas], None]:
        """`chat.completion.chunk`s in order, as many at once as arrived together; each has a list `choices` (maybe empty), a
        last one carries `usage`. `Deltas` stand for several; they come only after the first output.

        Ends only when the answer is complete; a stream that breaks off raises. Nothing is sent before the first
        `anext`. Closing the generator (`aclose`) or cancelling the consumer closes the connection to the provider.
        """
        ...

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        """An OpenAI list of embeddings, one for each input in `data`: a list of numbers, or base64 of float32s, little-endian.

        Which of the two a provider sends whatever `encoding_format` asked for; `usage` is there if the provider sent one.
        """
        ...

    async def close(self) -> None: ...


def has_output(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk carries anything the model made: content, reasoning, a tool call, a refusal, sound, images."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role"):
            return True
    return False
