"""Two providers on loopback that answer as OpenAI's and Anthropic's do: tools, structured output, thinking, images, logprobs.

What they say follows from what they were asked, so that a client can tell from its answer that the request arrived:

| asked                      | said                                                                                        |
|----------------------------|---------------------------------------------------------------------------------------------|
| tools                      | "One moment." and a call of the first tool for each place named (Rome, Oslo)                  |
| a tool's result            | "The tool says: …", all results in their order                                              |
| a JSON schema              | `FORECAST`                                                                                  |
| images                     | the type and size of each, or its address                                                    |
| anything else              | `SENTENCE`                                                                                  |
| a system prompt "LOUD"     | the same in capitals                                                                        |
| reasoning                  | thinks `THOUGHT` first                                                                      |

Every answer reports the same tokens, of every class its protocol knows. `CATALOG` prices each class differently.
"""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.providers.anthropic_wire import events_of, wire

SENTENCE = "Holds keep the books honest."
THOUGHT = "Let me think about it."
FORECAST = {"place": "Rome", "celsius": 21}

OPENAI_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 50,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
"""700 at 1, 300 at 0.1, 150 at 2 and 50 at 3 millionths of a dollar: 0.00118."""
ANTHROPIC_USAGE = {
    "input_tokens": 600,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 300,
    "output_tokens": 200,
    "output_tokens_details": {"thinking_tokens": 50},
    "service_tier": "standard",
}
"""600 at 1, 100 at 1.25, 300 at 0.1, 150 at 2 and 50 at 3 millionths of a dollar: 0.001205."""

CATALOG = """
[[provider]]
slug = "acme"
name = "Acme"
protocol = "openai"
base_url = "{url}/openai"
training = false
retention_days = 0

[[provider]]
slug = "claudius"
name = "Claudius"
protocol = "anthropic"
base_url = "{url}/anthropic"
training = false

[[provider]]
slug = "busy"
name = "Busy"
protocol = "openai"
base_url = "{url}/busy"

[[provider]]
slug = "endless"
name = "Endless"
protocol = "openai"
base_url = "{url}/endless"
"""
MODEL = """
[[model]]
id = "acme/{name}"
name = "Acme {title}"
context_length = 32768
max_completion_tokens = 4096
input_modalities = ["text", "image"]
supported_parameters = ["max_tokens", "tools", "tool_choice", "response_format", "reasoning", "logprobs", "top_logprobs"]

[[endpoint]]
model = "acme/{name}"
provider = "{provider}"
upstream_model = "{name}-1"
prompt = "0.000001"
completion = "0.000002"
input_cache_read = "0.0000001"
input_cache_write = "0.00000125"
internal_reasoning = "0.000003"
"""

Json = dict[str, Any]


class ModelServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.over = threading.Event()

    def catalog(self) -> str:
        """TOML: `acme/prime` is spoken to as OpenAI, `acme/sonnet` as Anthropic; `acme/busy` always answers 429,
        and a stream of `acme/endless` begins and does not end."""
        models = [("prime", "acme"), ("sonnet", "claudius"), ("busy", "busy"), ("endless", "endless")]
        offers = [MODEL.format(name=name, title=name.title(), provider=provider) for name, provider in models]
        return CATALOG.format(url=f"http://127.0.0.1:{self.server_port}") + "".join(offers)


@contextlib.contextmanager
def model_server() -> Iterator[ModelServer]:
    """Serves until the block ends."""
    with ModelServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/busy/chat/completions":
            limited = {"message": "Slow down.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
            self._send(429, "application/json", json.dumps({"error": limited}).encode(), retry_after="7")
        elif self.path == "/endless/chat/completions":
            self._begin(_openai_events(_completion(asked)).partition(b"\n\n")[0] + b"\n\n")
        elif self.path == "/openai/chat/completions":
            answer = _completion(asked)
            if asked.get("stream"):
                self._send(200, "text/event-stream", _openai_events(answer))
            else:
                self._send(200, "application/json", json.dumps(answer).encode())
        elif self.path == "/anthropic/v1/messages":
            message = _message(asked)
            if asked.get("stream"):
                self._send(200, "text/event-stream", wire(events_of(message)))
            else:
                self._send(200, "application/json", json.dumps(message).encode())
        else:
            self._send(404, "application/json", b'{"error": {"message": "Unknown path.", "type": "not_found_error"}}')

    def _send(self, status: int, kind: str, body: bytes, retry_after: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if retry_after is not None:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def _begin(self, event: bytes) -> None:
        """One event, and then nothing but signs of life."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(event)
            while not self.server.over.wait(1):
                self.wfile.write(b": wait\n\n")

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


def _spoken(*, results: list[str], images: list[str], schema: bool, loud: bool) -> str:
    if results:
        said = f"The tool says: {', '.join(results)}"
    elif schema:
        said = json.dumps(FORECAST)
    elif images:
        said = f"I see {' and '.join(images)}."
    else:
        said = SENTENCE
    return said.upper() if loud else said


def _places(text: str) -> list[str]:
    return re.findall("Rome|Oslo", text) or ["Rome"]


# As OpenAI: https://platform.openai.com/docs/api-reference/chat/object; the thinking as DeepSeek and vLLM put it beside that.


def _completion(asked: Json) -> Json:
    choices = [{"index": index, **_choice(asked)} for index in range(asked.get("n") or 1)]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "prime-1-2026-08-06",
        "choices": choices,
        "usage": OPENAI_USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def _choice(asked: Json) -> Json:
    messages = asked["messages"]
    texts = [part for message in messages for part in _parts(message) if message["role"] == "user"]
    text = " ".join(part["text"] for part in texts if part["type"] == "text")
    loud = any(
        "LOUD" in json.dumps(message.get("content"))
        for message in messages
        if message["role"] in ("system", "developer")
    )
    results = [message["content"] for message in messages if message["role"] == "tool"]
    images = [_seen(part["image_url"]["url"]) for part in texts if part["type"] == "image_url"]
    schema = (asked.get("response_format") or {}).get("type") == "json_schema"
    said: Json = {"role": "assistant", "content": _spoken(results=results, images=images, schema=schema, loud=loud)}
    finish = "stop"
    if asked.get("tools") and not results and asked.get("tool_choice") != "none":
        name = asked["tools"][0]["function"]["name"]
        calls = [
            {
                "id": f"call_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps({"place": place})},
            }
            for at, place in enumerate(_places(text), 1)
        ]
        said |= {"content": "One moment.", "tool_calls": calls}
        finish = "tool_calls"
    if asked.get("reasoning_effort"):
        said["reasoning_content"] = THOUGHT
    said |= {"refusal": None, "annotations": []}
    logprobs = _logprobs(said["content"], asked.get("top_logprobs") or 0) if asked.get("logprobs") else None
    return {"message": said, "logprobs": logprobs, "finish_reason": finish}


def _parts(message: Json) -> list[Json]:
    content = message.get("content")
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _seen(url: str) -> str:
    head, _, data = url.partition(",")
    if not head.startswith("data:"):
        return url
    kind = head.removeprefix("data:").partition(";")[0]
    return f"{kind} of {len(base64.b64decode(data))} bytes"


def _logprobs(text: str, most: int) -> Json:
    def one(token: str, chance: float) -> Json:
        return {"token": token, "logprob": chance, "bytes": list(token.encode())}

    return {
        "content": [
            {**one(token, -0.5), "top_logprobs": [one(token, -0.5), one("?", -2.5)][:most]} for token in _tokens(text)
        ],
        "refusal": None,
    }


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _openai_events(answer: Json) -> bytes:
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    chunks = []
    for choice in answer["choices"]:
        for delta, logprobs in _deltas(choice):
            told = {"index": choice["index"], "delta": delta, "logprobs": logprobs, "finish_reason": None}
            chunks.append({**head, "choices": [told], "usage": None, "obfuscation": "x7Y"})
        last = {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
        chunks.append({**head, "choices": [last], "usage": None, "obfuscation": "Qz"})
    chunks.append({**head, "choices": [], "usage": answer["usage"], "obfuscation": ""})
    lines = [b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n" for chunk in chunks]
    return b"".join([*lines, b"data: [DONE]\n\n"])


def _deltas(choice: Json) -> Iterator[tuple[Json, Json | None]]:
    """As OpenAI sends them: the role first, a call's name before its arguments, each token with its own logprobs."""
    said, logprobs = choice["message"], choice["logprobs"]
    yield {"role": "assistant", "content": "", "refusal": None}, None
    for piece in _tokens(said.get("reasoning_content", "")):
        yield {"reasoning_content": piece}, None
    for at, piece in enumerate(_tokens(said["content"])):
        yield {"content": piece}, None if logprobs is None else {"content": [logprobs["content"][at]], "refusal": None}
    for at, call in enumerate(said.get("tool_calls", [])):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        yield {"tool_calls": [{**call, "index": at, "function": {**call["function"], "arguments": ""}}]}, None
        for piece in (arguments[:half], arguments[half:]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}, None


# As Anthropic: https://platform.claude.com/docs/en/api/messages.


def _message(asked: Json) -> Json:
    blocks = [block for message in asked["messages"] if message["role"] == "user" for block in _blocks(message)]
    text = " ".join(block["text"] for block in blocks if block["type"] == "text")
    results = [_result(block) for block in blocks if block["type"] == "tool_result"]
    images = [_source(block["source"]) for block in blocks if block["type"] == "image"]
    schema = "format" in (asked.get("output_config") or {})
    loud = "LOUD" in json.dumps(asked.get("system"))
    content: list[Json] = []
    if (asked.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        content.append({"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"})
    content.append(
        {"type": "text", "text": _spoken(results=results, images=images, schema=schema, loud=loud), "citations": None}
    )
    stop = "end_turn"
    if asked.get("tools") and not results and (asked.get("tool_choice") or {}).get("type") != "none":
        content[-1]["text"] = "One moment."
        name = asked["tools"][0]["name"]
        content += [
            {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": {"place": place}}
            for at, place in enumerate(_places(text), 1)
        ]
        stop = "tool_use"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "sonnet-1",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def _blocks(message: Json) -> list[Json]:
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _result(block: Json) -> str:
    content = block["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _source(source: Mapping[str, str]) -> str:
    if source["type"] == "url":
        return source["url"]
    return f"{source['media_type']} of {len(base64.b64decode(source['data']))} bytes"
