"""A provider that costs almost nothing: answers every POST with a fixed completion, or streams a fixed number of events.

Raw asyncio protocol on httptools, so that what is measured is the gateway. `stream: true` in the body asks for a stream of
`max_tokens` events; `"user":"gap-5"` says that they are 5 ms apart, else all come at once.
"""

import asyncio
import re
import sys

import httptools
import uvloop

_EVENTS = re.compile(rb'"max_tokens": ?(\d+)')
_GAP = re.compile(rb'"gap-([\d.]+)"')

_BODY = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"prime-1","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"All good things take a while, and then some. " * 8 + b'"},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":88,"total_tokens":112},'
    b'"system_fingerprint":"fp_bench"}'
)
_WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(_BODY)).encode()
    + b"\r\n\r\n"
    + _BODY
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_PREFIX = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"prime-1","system_fingerprint":"fp_bench",'


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_FIRST = _chunked(
    b"data: "
    + _PREFIX
    + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
)
_EVENT = _chunked(
    b"data: "
    + _PREFIX
    + b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)


def _last(events: int) -> bytes:
    usage = b'"choices":[],"usage":{"prompt_tokens":24,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    return (
        _chunked(
            b"data: " + _PREFIX + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        )
        + _chunked(b"data: " + _PREFIX + usage % (events, events + 24))
        + _chunked(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )


class Upstream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self.transport.write(_WHOLE)
            return
        found, gap = _EVENTS.search(body), _GAP.search(body)
        events = int(found[1]) if found else 100
        gap_seconds = float(gap[1]) / 1000 if gap else 0.0
        if gap_seconds:
            self.transport.write(_HEAD + _FIRST)
            self._next(events, events, gap_seconds)
        else:
            self.transport.write(_HEAD + _FIRST + _EVENT * events + _last(events))

    def _next(self, left: int, events: int, gap_seconds: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(_EVENT if left else _last(events))
        if left:
            asyncio.get_running_loop().call_later(gap_seconds, self._next, left - 1, events, gap_seconds)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
