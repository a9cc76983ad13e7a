"""The official `anthropic` client, unmodified but for the base URL, against a running server.

The demo provider calls no tools, so a small OpenAI-speaking server of this test stands behind the model `acme/prime`.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_clients import bursar
from tests.support.clients import run_client
from tests.support.server import RunningServer

pytestmark = pytest.mark.clients

CATALOG = """
[[provider]]
slug = "acme"
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"

[[model]]
id = "acme/prime"
context_length = 32768
max_completion_tokens = 4096

[[endpoint]]
model = "acme/prime"
provider = "acme"
upstream_model = "prime-1"
prompt = "0.000001"
completion = "0.000002"
"""
THOUGHT = {
    "type": "reasoning.text",
    "text": "I must look.",
    "format": "anthropic-claude-v1",
    "index": 0,
    "signature": "c2ln",
}
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"place": "Rome"}'},
}
USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}


class ToolUpstream(ThreadingHTTPServer):
    """Thinks and calls the weather tool; once it has the tool's result it says it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ToolUpstream

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(asked)
        last = asked["messages"][-1]
        if last["role"] == "tool":
            said: dict[str, Any] = {"content": f"The tool says: {last['content']}"}
        else:
            said = {"content": "One moment.", "reasoning_details": [THOUGHT], "tool_calls": [CALL]}
        finish = "tool_calls" if "tool_calls" in said else "stop"
        head = {"id": "up-1", "created": 0, "model": "prime-1"}
        if asked.get("stream"):
            pieces = [{name: value} for name, value in sorted(said.items(), reverse=True)]
            pieces.sort(key=lambda piece: ["reasoning_details", "content", "tool_calls"].index(next(iter(piece))))
            choices = [{"index": 0, "delta": piece, "finish_reason": None} for piece in pieces]
            choices.append({"index": 0, "delta": {}, "finish_reason": finish})
            chunks = [{**head, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
            chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
            self._answer("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))
        else:
            message = {"role": "assistant", **said}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self._answer("application/json", json.dumps({**head, "choices": [choice], "usage": USAGE}))

    def _answer(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ToolUpstream]:
    with ToolUpstream() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def found(upstream: ToolUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the client saw; a person without credits owns the key that is answered 402."""
    catalog: Path = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    catalog.write_text(CATALOG.format(port=upstream.server_port))
    with RunningServer(args=["--pace", "0"], env={"BURSAR_CATALOG": str(catalog)}) as server:
        bursar(server, "users", "add", "--email", "broke@example.com", "--name", "Bo Broke", "--verified")
        broke = bursar(server, "keys", "add", "--email", "broke@example.com", "--name", "broke")
        env = {
            "ANTHROPIC_BASE": f"{server.base_url}/api",
            "API_KEY": server.api_key,
            "MANAGEMENT_KEY": server.management_key,
            "BROKE_KEY": broke["key"],
        }
        yield run_client("anthropic", "anthropic_conformance.py", env)


def test_it_gets_a_message(found: dict[str, Any]):
    message = found["message"]
    assert message["id"].startswith("gen-")
    assert (message["type"], message["block"]) == ("Message", "TextBlock")
    assert (message["role"], message["model"], message["stop_reason"]) == ("assistant", "demo/echo-1", "end_turn")
    assert len(message["content"][0]["text"]) > 20
    assert all(count > 0 for count in message["usage"])
    assert 0 < message["cost"] < 0.001
    assert found["generation_header"] is True
    assert found["cut"] == found["stream cut"] == "max_tokens"
    assert found["with system and blocks"] == "message"


def test_its_streaming_helper_puts_the_same_message_together(found: dict[str, Any]):
    stream, message = found["stream"], found["message"]
    assert stream["text"] == message["content"][0]["text"]
    assert {name: stream[name] for name in ("content", "stop_reason", "usage")} == {
        name: message[name] for name in ("content", "stop_reason", "usage")
    }
    kinds = found["events"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert found["stream cost"] == message["cost"]


@pytest.mark.parametrize("how", ["tools", "tools streamed"])
def test_a_tool_is_called_and_its_result_answered_with_the_thinking_kept(
    found: dict[str, Any], upstream: ToolUpstream, how: str
):
    first, last = found[how]
    assert [block["type"] for block in first["content"]] == ["thinking", "text", "tool_use"]
    assert first["content"][0] == {"type": "thinking", "thinking": "I must look.", "signature": "c2ln"}
    assert first["content"][2]["input"] == {"place": "Rome"}
    assert first["stop_reason"] == "tool_use"
    assert last["content"] == [{"type": "text", "text": "The tool says: Sunny"}]
    assert (last["stop_reason"], last["usage"]) == ("end_turn", [20, 8])
    answered = [asked for asked in upstream.seen if asked["messages"][-1]["role"] == "tool"]
    asked = next(asked for asked in answered if bool(asked.get("stream")) is (how == "tools streamed"))
    assert asked["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}
    [call] = asked["messages"][-2]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "Rome"}
    assert asked["tools"][0]["function"]["parameters"]["required"] == ["place"]


def test_the_key_goes_as_bearer_or_as_x_api_key(found: dict[str, Any]):
    assert (found["api_key"], found["x-api-key"]) == ("message", "message")


ERRORS = {
    "400": ("BadRequestError", 400, "invalid_request_error"),
    "400 block": ("BadRequestError", 400, "invalid_request_error"),
    "400 tool": ("BadRequestError", 400, "invalid_request_error"),
    "401": ("AuthenticationError", 401, "authentication_error"),
    "402": ("PaymentRequiredError", 402, "billing_error"),
    "403": ("PermissionDeniedError", 403, "permission_error"),
    "404": ("NotFoundError", 404, "not_found_error"),
    "503": ("ServiceUnavailableError", 503, "overloaded_error"),
    "504": ("GatewayTimeoutError", 504, "timeout_error"),
    "stream 402": ("PaymentRequiredError", 402, "billing_error"),
    "count_tokens": ("NotFoundError", 404, "not_found_error"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_typed_exception_in_anthropics_words(found: dict[str, Any], name: str):
    seen = found["errors"][name]
    assert (seen["type"], seen["status"], seen["kind"]) == ERRORS[name]
    assert seen["message"]
    assert seen["generation"].startswith("gen-")


def test_counting_tokens_is_refused_clearly(found: dict[str, Any]):
    assert found["errors"]["count_tokens"]["message"].startswith("Counting tokens is not offered here.")


def test_an_error_inside_a_stream_reaches_the_client_as_an_exception(found: dict[str, Any]):
    seen = found["errors"]["in stream"]
    assert seen["kind"] == "api_error"
    assert seen["message"] == "The provider's answer broke off."
