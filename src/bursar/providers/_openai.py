"""Any provider that speaks OpenAI's chat completions.

aiohttp is imported with the first call. One session serves all providers; it reads no proxy, no .netrc and no other setting
from the environment, keeps no cookies and follows no redirect, so that a credential goes to the catalogue's address only.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from bursar.kernel.clock import Clock
from bursar.providers._call import ChatCall, Timeouts, has_output
from bursar.providers._chunk import Chunk
from bursar.providers._errors import (
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
    failure_in,
    failure_of,
    retry_after_seconds,
)
from bursar.providers._sse import SseParser, SseTooLarge
from bursar.providers._usage import normalise_usage

if TYPE_CHECKING:
    import aiohttp

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a whole JSON answer."""
ERROR_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 2000
CONNECTIONS_PER_HOST_MAX = 1000
READ_BYTES = 64 * 1024

_DONE = "[DONE]"


class OpenAiUpstream:
    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        async with self._answer(call, streaming=False) as response:
            content = await _read(response, BODY_BYTES_MAX, call.timeouts)
        answer = _parse(content)
        if isinstance(answer, dict) and answer.get("error"):
            raise failure_in(answer["error"], credential=call.credential)
        if not _is_completion(answer):
            raise _junk(before_output=True)
        return normalise_usage(answer)

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk], None]:
        before_output = True
        finished = False
        try:
            async with (
                self._answer(call, streaming=True) as response,
                aclosing(_events(response, call.timeouts)) as events,
            ):
                async for data in events:
                    if data == _DONE:
                        finished = True
                        continue
                    chunk = _chunk(data, call, before_output=before_output)
                    before_output = before_output and not has_output(chunk)
                    finished = finished or _finishes(chunk)
                    yield [Chunk(value=chunk)]
        except UpstreamFailed as error:
            error.before_output = before_output
            raise
        if not finished:
            raise _cut(before_output=before_output)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _answer(self, call: ChatCall, *, streaming: bool) -> "AsyncIterator[aiohttp.ClientResponse]":
        """The response to a call, its status already judged. Leaving before its end closes the connection."""
        import aiohttp

        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._post(call, streaming=streaming)
            if response.status != 200:
                raise await self._failure(response, call)
            if streaming and response.content_type == "application/json":
                raise await self._not_a_stream(response, call)
            yield response
        except TimeoutError:
            raise UpstreamTimedOut("The provider did not answer in time.", provider_code="timeout") from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise _cut(before_output=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from None
        finally:
            if (
                response is not None and not response.content.is_eof()
            ):  # else the connection is already back in the pool
                response.close()

    async def _post(self, call: ChatCall, *, streaming: bool) -> "aiohttp.ClientResponse":
        import aiohttp

        if call.base_url is None:
            raise UpstreamFailed(
                "The provider has no address.", remedy="The operator has to set its base_url in the catalogue."
            )
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if streaming else "application/json",
        }
        if call.credential is not None:
            headers["Authorization"] = f"Bearer {_checked(call.credential)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=call.timeouts.connect_seconds)
        async with asyncio.timeout(call.timeouts.connect_seconds + call.timeouts.first_byte_seconds):
            return await self._opened().post(
                f"{call.base_url.rstrip('/')}/chat/completions",
                data=_body(call, streaming=streaming),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )

    def _opened(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_PER_HOST_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "bursar"},
            )
        return self._session

    async def _failure(self, response: "aiohttp.ClientResponse", call: ChatCall) -> UpstreamFailed:
        retry_after = retry_after_seconds(response.headers.get("Retry-After"), self._clock)
        try:
            content = _parse(await _read(response, ERROR_BYTES_MAX, call.timeouts))
        except UpstreamFailed:
            content = None
        if isinstance(content, list) and content:  # Google wraps its error in a list
            content = content[0]
        error = content.get("error", content) if isinstance(content, dict) else None
        if response.status < 400:
            return failure_of(response.status)
        said = failure_in(error, status=response.status, credential=call.credential, retry_after=retry_after)
        # The status line decides; a code inside the body only says more.
        return failure_of(
            response.status,
            code=said.provider_code,
            message=said.provider_message,
            retry_after=retry_after,
        )

    async def _not_a_stream(self, response: "aiohttp.ClientResponse", call: ChatCall) -> UpstreamFailed:
        content = _parse(await _read(response, ERROR_BYTES_MAX, call.timeouts))
        if isinstance(content, dict) and content.get("error"):
            return failure_in(content["error"], credential=call.credential)
        return _junk(before_output=True)


def _body(call: ChatCall, *, streaming: bool) -> bytes:
    body = {**call.body, "model": call.upstream_model}
    body.pop("stream", None)
    options = body.pop("stream_options", None)
    if streaming:
        body["stream"] = True
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError):  # such as half of a surrogate pair
        raise UpstreamRefused("The request holds something that is not valid JSON text.") from None


def _checked(credential: str) -> str:
    """A credential that cannot be a header would be named in the HTTP library's error."""
    if credential.isascii() and credential.isprintable() and credential == credential.strip():
        return credential
    remedy = "The operator has to check the provider's credential for line ends, spaces and other stray characters."
    raise UpstreamFailed("The provider's credential in this installation is malformed.", remedy=remedy)


async def _read(response: "aiohttp.ClientResponse", bytes_max: int, timeouts: Timeouts) -> bytes:
    content = bytearray()
    while True:
        async with asyncio.timeout(timeouts.idle_seconds):
            piece = await response.content.read(READ_BYTES)
        if not piece:
            return bytes(content)
        content += piece
        if len(content) > bytes_max:
            raise UpstreamFailed("The provider's answer is too large.", provider_code="too_large")


async def _events(response: "aiohttp.ClientResponse", timeouts: Timeouts) -> AsyncGenerator[str, None]:
    """The data of each event, up to and with `[DONE]`, which may be missing. An event cut short at the end is left out."""
    parser = SseParser()
    seconds = timeouts.first_byte_seconds
    try:
        while True:
            async with asyncio.timeout(seconds):
                piece = await response.content.readany()
            seconds = timeouts.idle_seconds
            for data in parser.feed(piece) if piece else _whole(parser.finish()):
                if data.strip() == _DONE:
                    await asyncio.sleep(
                        0
                    )  # the end of the chunked body is mostly here already: take it, keep the connection
                    yield _DONE
                    return
                if data:
                    yield data
            if not piece:
                return
    except SseTooLarge:
        raise UpstreamFailed("The provider's answer is too large.", provider_code="too_large") from None


def _whole(events: list[str]) -> list[str]:
    return [data for data in events if data.strip() == _DONE or _parse(data.encode()) is not None]


def _chunk(data: str, call: ChatCall, *, before_output: bool) -> dict[str, Any]:
    chunk = _parse(data.encode())
    if not isinstance(chunk, dict):
        raise _junk(before_output=before_output)
    if chunk.get("error"):
        raise failure_in(chunk["error"], credential=call.credential, before_output=before_output)
    choices = chunk.setdefault("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise _junk(before_output=before_output)
    return normalise_usage(chunk)


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


def _finishes(chunk: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in chunk["choices"])


def _junk(*, before_output: bool) -> UpstreamFailed:
    sentence = "The provider's answer is not a chat completion."
    return UpstreamFailed(sentence, before_output=before_output, provider_code="junk")


def _cut(*, before_output: bool) -> UpstreamFailed:
    return UpstreamFailed("The provider's answer broke off.", before_output=before_output, provider_code="cut")


def _unreachable(error: Exception) -> UpstreamFailed:
    # The library's own text is left out: it names addresses, and headers in places.
    return UpstreamFailed("The provider cannot be reached.", provider_code=type(error).__name__)
