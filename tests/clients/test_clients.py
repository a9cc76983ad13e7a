"""The official clients, unmodified but for the base URL, each in its own environment against one running server."""

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import ClientName, run_client
from tests.support.server import RunningServer, clean_environment

pytestmark = pytest.mark.clients

DEMO_MODELS = ["demo/echo-1", "demo/flat-1", "demo/free-1", "demo/scholar-1"]


def bursar(server: RunningServer, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bursar", *arguments, "--data-dir", server.data_dir, "--json"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0"]) as running:
        yield running


@pytest.fixture(scope="module")
def found(server: RunningServer) -> dict[ClientName, Any]:
    """What each client saw; a person without credits owns the key that is answered 402."""
    bursar(server, "users", "add", "--email", "broke@example.com", "--name", "Bo Broke", "--verified")
    broke = bursar(server, "keys", "add", "--email", "broke@example.com", "--name", "broke")
    env = {
        "API_BASE": server.api_base,
        "API_KEY": server.api_key,
        "MANAGEMENT_KEY": server.management_key,
        "BROKE_KEY": broke["key"],
    }
    names: tuple[ClientName, ...] = ("openai", "openrouter")
    return {name: run_client(name, f"{name}_conformance.py", env) for name in names}


def test_both_clients_complete_a_chat(found: dict[ClientName, Any]):
    for seen in found.values():
        chat = seen["chat"]
        assert chat["id"].startswith("gen-")
        assert (chat["object"], chat["model"], chat["finish_reason"]) == ("chat.completion", "demo/echo-1", "stop")
        assert len(chat["text"]) > 20
        assert chat["total_tokens"] > 10
        assert 0 < chat["cost"] < 0.001
    assert found["openai"]["generation_header"] is True
    assert found["openai"]["cut"] == "length"
    details = found["openrouter"]["chat"]["cost_details"]
    assert {"upstream_inference_prompt_cost", "upstream_inference_completions_cost"} <= details.keys()


def test_both_clients_complete_a_stream_with_the_usage_in_its_last_chunk(found: dict[ClientName, Any]):
    for seen in found.values():
        stream = seen["stream"]
        assert stream["text"] == seen["chat"]["text"]
        assert stream["finish_reasons"] == ["stop"]
        assert stream["usage_at"] == [-1]
        assert (stream["total_tokens"], stream["cost"]) == (seen["chat"]["total_tokens"], seen["chat"]["cost"])
    assert found["openai"]["helper_text"] == found["openai"]["chat"]["text"]
    assert len(found["openai"]["stream"]["ids"]) == 1


def test_both_clients_complete_a_response_whole_and_streamed(found: dict[ClientName, Any]):
    for seen in found.values():
        response, stream = seen["response"], seen["response_stream"]
        assert response["id"].startswith("gen-")
        assert (response["object"], response["status"], response["kinds"]) == ("response", "completed", ["message"])
        assert len(response["text"]) > 20
        assert (response["metadata"], response["cached_tokens"]) == ({"a": "b"}, 0)
        assert 0 < response["cost"] < 0.001
        assert stream["text"] == stream["output_text"] == response["text"]
        assert (stream["last"], stream["numbered"], stream["cost"]) == ("response.completed", True, response["cost"])
        assert len(stream["classes"]) == 9, "every kind of event has its own class"
        assert not [name for name in stream["classes"] if name.startswith("Unknown")]
    assert found["openai"]["response_helper_text"] == found["openai"]["response"]["text"]
    assert found["openai"]["response_cut"] == "max_output_tokens"
    assert found["openrouter"]["response"]["cost_details"]["upstream_inference_input_cost"] == 0
    assert found["openrouter"]["response_tools"] == [["OpenResponsesResultToolFunction"], "weather"]


def test_both_clients_get_embeddings_as_numbers_and_as_base64(found: dict[ClientName, Any]):
    for seen in found.values():
        embeddings = seen["embeddings"]
        assert (embeddings["object"], embeddings["model"]) == ("list", "demo/embed-1")
        assert embeddings["sizes"] == [8, 8]
        assert embeddings["prompt_tokens"] == 3
        assert embeddings["cost"] == 3 * 20 / 10**9
    numbers = found["openrouter"]["embeddings"]["first"]
    packed = struct.unpack("<8f", base64.b64decode(found["openrouter"]["embeddings"]["packed"]))
    assert packed == pytest.approx(numbers, rel=1e-6)
    assert found["openai"]["embeddings"]["same"] is True
    for name in ("first", "as_floats"):  # the openai client asks for base64 unless told otherwise
        assert found["openai"]["embeddings"][name] == pytest.approx(numbers, rel=1e-6)


def test_both_clients_list_the_models(found: dict[ClientName, Any]):
    assert found["openai"]["models"] == DEMO_MODELS
    assert found["openrouter"]["models"]["all"] == DEMO_MODELS
    pages = found["openrouter"]["models"]["pages"]
    assert [model for page in pages for model in page] == DEMO_MODELS
    assert [len(page) for page in pages][:2] == [3, 1]


def test_both_clients_read_their_key(found: dict[ClientName, Any], server: RunningServer):
    label = f"{server.api_key[:16]}...{server.api_key[-4:]}"
    for key in (found["openai"]["key"]["data"], found["openrouter"]["key"]):
        assert key["label"] == label
        assert key["usage"] > 0
        assert key["is_management_key"] is False
    assert found["openrouter"]["management_key"]["is_management_key"] is True


def test_both_clients_read_the_generation_and_it_cost_what_the_answer_said(found: dict[ClientName, Any]):
    for generation, chat in (
        (found["openai"]["generation"]["data"], found["openai"]["chat"]),
        (found["openrouter"]["generation"], found["openrouter"]["chat"]),
    ):
        assert generation["id"] == chat["id"]
        assert generation["total_cost"] == chat["cost"]
        assert generation["model"] == "demo/echo-1"
        assert generation["streamed"] is False


def test_both_clients_read_the_credits_with_the_management_key(found: dict[ClientName, Any]):
    for credits_ in (found["openai"]["credits"]["data"], found["openrouter"]["credits"]):
        assert credits_["total_credits"] == 10
        assert 0 < credits_["total_usage"] < 1


OPENAI_ERRORS = {
    "400": ("BadRequestError", 400),
    "400 type": ("BadRequestError", 400),
    "400 response": ("BadRequestError", 400),
    "400 response tool": ("BadRequestError", 400),
    "400 embeddings": ("BadRequestError", 400),
    "401": ("AuthenticationError", 401),
    "402": ("APIStatusError", 402),
    "403": ("PermissionDeniedError", 403),
    "404": ("NotFoundError", 404),
    "404 generation": ("NotFoundError", 404),
    "502": ("InternalServerError", 502),
    "stream 402": ("APIStatusError", 402),
}
OPENROUTER_ERRORS = {
    "400": ("BadRequestResponseError", 400),
    "400 response": ("BadRequestResponseError", 400),
    "402 response": ("PaymentRequiredResponseError", 402),
    "400 embeddings": ("BadRequestResponseError", 400),
    "401": ("UnauthorizedResponseError", 401),
    "401 key": ("UnauthorizedResponseError", 401),
    "402": ("PaymentRequiredResponseError", 402),
    "403": ("ForbiddenResponseError", 403),
    "403 credits": ("ForbiddenResponseError", 403),
    "404": ("NotFoundResponseError", 404),
    "404 generation": ("NotFoundResponseError", 404),
    "502": ("BadGatewayResponseError", 502),
    "503": ("ServiceUnavailableResponseError", 503),
    "stream 402": ("PaymentRequiredResponseError", 402),
}


@pytest.mark.parametrize(
    ("client", "name", "kind", "status"),
    [("openai", name, *wanted) for name, wanted in OPENAI_ERRORS.items()]
    + [("openrouter", name, *wanted) for name, wanted in OPENROUTER_ERRORS.items()],
)
def test_an_error_is_a_typed_exception_with_a_whole_number_as_its_code(
    found: dict[ClientName, Any], client: ClientName, name: str, kind: str, status: int
):
    seen = found[client]["errors"][name]
    assert (seen["type"], seen["status"]) == (kind, status)
    assert int(seen["code"]) == status
    assert seen["message"]


def test_an_error_inside_a_stream_reaches_the_client_as_an_error(found: dict[ClientName, Any]):
    assert found["openai"]["errors"]["in stream"]["message"]
    for told in found.values():
        error, last, message = told["errors"]["in response"]
        assert (error, last) == ("error", "response.failed")
        assert message
    [seen] = found["openrouter"]["errors"]["in stream"]
    assert seen["code"] == 502
    assert seen["message"]
