"""Any provider that speaks Anthropic's Messages: one POST to `{base_url}/v1/messages`, whole or as server-sent events.

The translation both ways is `_anthropic_form`'s; here are the wire, the limits and the failures.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from bursar.kernel.clock import Clock
from bursar.providers._anthropic_form import MessagesRequest, MessageStream, completion, messages_request
from bursar.providers._call import ChatCall, has_output
from bursar.providers._chunk import Chunk
from bursar.providers._deltas import Deltas
from bursar.providers._errors import (
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamRefused,
    UpstreamUnable,
    checked_credential,
    cut_answer,
    failure_in,
    junk_answer,
)
from bursar.providers._http import (
    ERROR_BYTES_MAX,
    HttpClient,
    HttpError,
    HttpResponse,
    TooLarge,
    failure_of_response,
    upstream_failure,
)
from bursar.providers._sse import SseParser, SseTooLarge

API_VERSION = b"2023-06-01"
BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a whole JSON answer."""


class AnthropicUpstream:
    def __init__(self, *, clock: Clock, http: HttpClient | None = None) -> None:
        self._clock = clock
        self._http = http or HttpClient()

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        request = messages_request(call.body, call.upstream_model)
        async with self._answer(call, request, streaming=False) as response:
            content = await response.read(BODY_BYTES_MAX)
        hides = request.hides_reasoning
        return completion(_decoded(content), created=self._now(), hides_reasoning=hides, credential=call.credential)

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk | Deltas], None]:
        request = messages_request(call.body, call.upstream_model)
        stream = MessageStream(created=self._now(), hides_reasoning=request.hides_reasoning, credential=call.credential)
        before_output = True
        try:
            async with (
                self._answer(call, request, streaming=True) as response,
                aclosing(_batches(response, stream)) as batches,
            ):
                async for batch in batches:
                    if not batch:
                        continue
                    before_output = before_output and not any(has_output(chunk) for chunk in batch)
                    yield [Chunk(value=chunk) for chunk in batch]
        except UpstreamFailed as error:
            error.before_output = before_output
            raise

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        """Messages has no embeddings."""
        raise UpstreamUnable(f"The provider makes no embeddings, with {call.upstream_model[:120]} or otherwise.")

    async def close(self) -> None:
        await self._http.close()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())

    @asynccontextmanager
    async def _answer(
        self, call: ChatCall, request: MessagesRequest, *, streaming: bool
    ) -> AsyncIterator[HttpResponse]:
        """The response to a call, its status already judged. Leaving before its end closes the connection."""
        if call.base_url is None:
            raise UpstreamNeedsOperator(
                "The provider has no address.", remedy="The operator has to set its base_url in the catalogue."
            )
        url = f"{call.base_url.rstrip('/').removesuffix('/v1')}/v1/messages"
        response: HttpResponse | None = None
        try:
            headers = _headers(call, request, streaming=streaming)
            response = await self._http.post(url, headers, _body(request, streaming=streaming), call.timeouts)
            await self._require_answer(response, call, streaming=streaming)
            yield response
            response.leave()
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, HttpError):
                raise upstream_failure(error) from None
            raise

    async def _require_answer(self, response: HttpResponse, call: ChatCall, *, streaming: bool) -> None:
        if response.status != 200:
            raise await failure_of_response(response, credential=call.credential, clock=self._clock)
        if streaming and response.headers.get("content-type", "").startswith("application/json"):
            answer = _decoded(await response.read(ERROR_BYTES_MAX))
            error = answer.get("error") if isinstance(answer, dict) else None
            raise failure_in(error, credential=call.credential) if error else junk_answer()


async def _batches(response: HttpResponse, stream: MessageStream) -> AsyncGenerator[list[dict[str, Any]], None]:
    """The chunks of what arrived together, maybe none. Ends with the answer; raises where it fails or breaks off."""
    parser = SseParser()
    try:
        async for piece in response.pieces():
            chunks, failure = _taken(parser.feed(piece), stream)
            yield chunks
            if failure is not None:
                raise failure
            if stream.is_complete:
                return
        # An event that the end cut short is left out.
        chunks, failure = _taken([data for data in parser.finish() if _decoded(data) is not None], stream)
    except SseTooLarge:
        raise upstream_failure(TooLarge("event")) from None
    yield chunks
    if failure is not None:
        raise failure
    if not stream.is_complete:
        raise cut_answer()


def _taken(events: list[bytes], stream: MessageStream) -> tuple[list[dict[str, Any]], UpstreamFailed | None]:
    """The chunks of these events up to the end of the answer, and what broke it: what came before is still handed on."""
    chunks: list[dict[str, Any]] = []
    try:
        for data in events:
            if stream.is_complete:
                break
            if data.strip():
                chunks += stream.take(_decoded(data))
    except UpstreamFailed as error:
        return chunks, error
    return chunks, None


def _body(request: MessagesRequest, *, streaming: bool) -> bytes:
    try:
        return msgspec.json.encode({**request.body, "stream": True} if streaming else request.body)
    except (TypeError, ValueError, OverflowError, RecursionError):  # such as half of a surrogate pair
        raise UpstreamRefused("The request holds something that is not valid JSON text.") from None


def _headers(call: ChatCall, request: MessagesRequest, *, streaming: bool) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if streaming else b"application/json"),
        (b"anthropic-version", API_VERSION),
    ]
    if call.credential is not None:
        headers.append((b"x-api-key", checked_credential(call.credential).encode()))
    if request.betas:
        headers.append((b"anthropic-beta", ",".join(request.betas).encode()))
    return headers


def _decoded(content: bytes) -> Any:
    """None for what is not JSON."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
