"""Any provider that speaks OpenAI's chat completions.

What a stream brings after its first output is handed on as the bytes it came in. Only what has to be judged here is decoded:
everything up to the first output, and whatever may hold usage or an error (`_must_be_read`).
"""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import msgspec

from bursar.kernel.clock import Clock
from bursar.providers._call import ChatCall, Pump, has_output
from bursar.providers._chunk import Chunk, decode_chunk
from bursar.providers._deltas import Deltas, Frame, leading_deltas
from bursar.providers._embeddings import count_inputs, read_embeddings
from bursar.providers._errors import (
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamRefused,
    checked_credential,
    cut_answer,
    failure_in,
    junk_answer,
)
from bursar.providers._http import (
    ERROR_BYTES_MAX,
    Header,
    HttpClient,
    HttpError,
    HttpResponse,
    TooLarge,
    failure_of_response,
    upstream_failure,
)
from bursar.providers._openai_form import (
    hides_reasoning,
    openai_body,
    openrouter_body,
    takes_our_form,
    with_reasoning,
    without_thoughts,
)
from bursar.providers._sse import SseParser, SseTooLarge
from bursar.providers._usage import normalise_usage

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a whole JSON answer."""
ADDRESSES_CACHED_MAX = 1024
EVENTS_BEFORE_DELTAS_MAX = 8
"""Of what arrives together, so many events are read one by one in search of the first output."""
FRAMES_LEARNT_MAX = 4
"""Of one stream: whose events differ around their words each time is not looked at again and again."""
CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"

_DONE = b"[DONE]"
_NULL = (b":null", b": null")
_TEXT = (b':"', b': "')


class OpenAiUpstream:
    def __init__(self, *, clock: Clock, http: HttpClient | None = None) -> None:
        self._clock = clock
        self._http = http or HttpClient()
        self._addresses: dict[tuple[str, str | None, str, bool], tuple[str, tuple[Header, ...]]] = {}

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        answer = await self._whole(call, CHAT)
        if not _is_completion(answer):
            raise junk_answer()
        said = without_thoughts if hides_reasoning(call.body) else with_reasoning
        return normalise_usage(said(answer, "message"))

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        return read_embeddings(await self._whole(call, EMBEDDINGS), count_inputs(call.body))

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk | Deltas], None]:
        reader = _Reader(call.credential, hides_reasoning=hides_reasoning(call.body))
        response: HttpResponse | None = None
        try:
            response = await self._opened(call, CHAT, streaming=True)
            response.on_piece = partial(reader.pumped, call.pump)
            async for piece in response.pieces():
                if chunks := reader.take(piece):
                    yield chunks
                if reader.failure is not None:
                    raise reader.failure
                if reader.done:
                    response.leave()
                    return
            if chunks := reader.finish():
                yield chunks
            if reader.failure is not None:
                raise reader.failure
        except HttpError as error:
            raise upstream_failure(error, before_output=reader.before_output) from None
        except UpstreamFailed as error:
            error.before_output = reader.before_output
            raise
        finally:
            if response is not None:
                response.close()

    async def close(self) -> None:
        await self._http.close()

    async def _whole(self, call: ChatCall, path: str) -> Any:
        """The decoded answer; None for what is not JSON."""
        try:
            response = await self._opened(call, path, streaming=False)
            answer = _parse(await response.read(BODY_BYTES_MAX))
        except HttpError as error:
            raise upstream_failure(error) from None
        if isinstance(answer, dict) and answer.get("error"):
            raise failure_in(answer["error"], credential=call.credential)
        return answer

    async def _opened(self, call: ChatCall, path: str, *, streaming: bool) -> HttpResponse:
        """The response to a call, its status already judged: it has to be read or closed. Raises `HttpError`, too."""
        url, headers = self._address(call, path, streaming=streaming)
        response = await self._http.post(url, headers, _body(call, streaming=streaming), call.timeouts)
        if response.status != 200:
            raise await failure_of_response(response, credential=call.credential, clock=self._clock)
        if streaming and response.headers.get("content-type", "").startswith("application/json"):
            raise await _not_a_stream(response, call)
        return response

    def _address(self, call: ChatCall, path: str, *, streaming: bool) -> tuple[str, tuple[Header, ...]]:
        """Where to and under which headers, made once per provider and credential."""
        if call.base_url is None:
            raise UpstreamNeedsOperator(
                "The provider has no address.", remedy="The operator has to set its base_url in the catalogue."
            )
        key = (call.base_url, call.credential, path, streaming)
        found = self._addresses.get(key)
        if found is None:
            headers = [
                (b"Content-Type", b"application/json"),
                (b"Accept", b"text/event-stream" if streaming else b"application/json"),
            ]
            if call.credential is not None:
                headers.append((b"Authorization", b"Bearer " + checked_credential(call.credential).encode()))
            if len(self._addresses) >= ADDRESSES_CACHED_MAX:
                self._addresses.clear()
            found = self._addresses[key] = call.base_url.rstrip("/") + path, tuple(headers)
        return found


class _Reader:
    """The events of one stream → chunks. What fails is kept in `failure`: the chunks before it are handed on first."""

    def __init__(self, credential: str | None, *, hides_reasoning: bool = False) -> None:
        self._parser = SseParser()
        self._hides_reasoning = hides_reasoning
        self._credential = credential
        self.before_output = True
        self.finished = False
        """A choice said why it ended, or `[DONE]` came: an end after that is no break."""
        self.done = False
        self.failure: UpstreamFailed | None = None
        self._found: list[Chunk | Deltas] = []
        """What was read when it arrived and is still to be handed on."""
        self._frame: Frame | None = None
        self._frames_left = FRAMES_LEARNT_MAX

    def pumped(self, pump: Pump, piece: bytes) -> bool:
        """Reads a piece at the moment it arrives; whether nothing is left to do about it. What is left comes with the next `take`."""
        frame = self._frame
        if frame is not None and pump.take is not None and not self._found and self._parser.between_events:
            deltas = None if self._is_over else frame.read(piece)
            if deltas is not None:
                if pump.take(deltas):
                    return True
                self._found = [deltas]
                return False
        found = self.take(piece)
        for number, chunk in enumerate(found):
            if pump.take is None or not isinstance(chunk, Deltas) or not pump.take(chunk):
                self._found = found[number:]
                return False
        return not self._is_over

    def take(self, piece: bytes) -> list[Chunk | Deltas]:
        found, self._found = self._found, []
        try:
            for _ in range(EVENTS_BEFORE_DELTAS_MAX):
                end = piece.find(b"\n\n") + 2
                if end < 2 or not self.before_output or self._is_over:
                    break
                found += self._chunks(self._parser.feed(piece[:end]))
                piece = piece[end:]
            if not self.before_output and not self._hides_reasoning:
                piece = self._take_deltas(piece, found)
            if piece and not self._is_over:
                found += self._chunks(self._parser.feed(piece))
        except SseTooLarge:
            self.failure = upstream_failure(TooLarge("event"))
        return found

    @property
    def _is_over(self) -> bool:
        return self.done or self.failure is not None

    def _take_deltas(self, piece: bytes, found: list[Chunk | Deltas]) -> bytes:
        """Adds the plain deltas that can be taken together; returns what is left of the piece."""
        if not self._parser.between_events:
            end = piece.find(b"\n\n") + 2
            if end < 2:
                return piece
            found += self._chunks(self._parser.feed(piece[:end]))
            piece = piece[end:]
        if self._parser.between_events and not self._is_over:
            deltas, piece = leading_deltas(piece)
            if deltas is not None:
                found.append(deltas)
                if deltas.count == 1 and self._frames_left:
                    self._frames_left -= 1
                    self._frame = Frame.of(deltas)
        return piece

    def finish(self) -> list[Chunk | Deltas]:
        """What the end of the stream completes. An event that it cut short is left out; an end too early is a failure."""
        try:
            events = self._parser.finish()
        except SseTooLarge:
            self.failure = upstream_failure(TooLarge("event"))
            return []
        chunks = self._chunks([data for data in events if data.strip() == _DONE or _parse(data) is not None])
        if self.failure is None and not self.finished:
            self.failure = cut_answer()
        return chunks

    def _chunks(self, events: list[bytes]) -> list[Chunk | Deltas]:
        chunks: list[Chunk | Deltas] = []
        for data in events:
            if self.before_output or self._hides_reasoning or _must_be_read(data):
                if data.strip() == _DONE:
                    self.done = self.finished = True
                    break
                if not data:
                    continue
                chunk = self._read(data)
                if chunk is None:
                    break
                chunks.append(chunk)
            else:
                chunks.append(Chunk(data))
                self.finished = self.finished or _finishes(data)
        return chunks

    def _read(self, data: bytes) -> Chunk | None:
        value = decode_chunk(data)
        if value is None:
            self.failure = junk_answer()
            return None
        if value.get("error"):
            self.failure = failure_in(value["error"], credential=self._credential)
            return None
        (without_thoughts if self._hides_reasoning else with_reasoning)(value, "delta")
        self.before_output = self.before_output and not has_output(value)
        self.finished = self.finished or any(choice.get("finish_reason") for choice in value["choices"])
        # Not with its bytes: usage may be put right, and bytes that were several lines must not get into another stream.
        return Chunk(value=normalise_usage(value))


def _must_be_read(data: bytes) -> bool:
    """Whether an event may be more than a delta: an error, usage, `[DONE]`, junk, several lines; or has to be written anew.

    Quotes inside a JSON text are escaped, so that what the model writes is not taken for a name.
    """
    if b'"error"' in data or b"\n" in data or not (data.startswith(b'{"') and data.endswith(b"}")):
        return True
    return _is_set(data, b'"usage"') or _is_set(data, b'"reasoning_content"')


def _is_set(data: bytes, name: bytes) -> bool:
    at = data.find(name)
    while at >= 0:
        if not data.startswith(_NULL, at + len(name)):
            return True
        at = data.find(name, at + len(name))
    return False


def _finishes(data: bytes) -> bool:
    at = data.find(b'"finish_reason"')
    while at >= 0:
        if data.startswith(_TEXT, at + 15):
            return True
        at = data.find(b'"finish_reason"', at + 15)
    return False


def _body(call: ChatCall, *, streaming: bool) -> bytes:
    said = openrouter_body(call.body) if takes_our_form(call.base_url or "") else openai_body(call.body)
    body = {**said, "model": call.upstream_model}
    if streaming:
        options = call.body.get("stream_options")
        body["stream"] = True
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError):  # such as half of a surrogate pair
        raise UpstreamRefused("The request holds something that is not valid JSON text.") from None


async def _not_a_stream(response: HttpResponse, call: ChatCall) -> UpstreamFailed:
    content = _parse(await response.read(ERROR_BYTES_MAX))
    if isinstance(content, dict) and content.get("error"):
        return failure_in(content["error"], credential=call.credential)
    return junk_answer()


def _parse(content: bytes) -> Any:
    """None for what is not JSON."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_completion(answer: Any) -> bool:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )
