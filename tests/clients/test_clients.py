"""The official clients, unmodified but for the base URL, each in its own environment against one running server."""

import json
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
    [seen] = found["openrouter"]["errors"]["in stream"]
    assert seen["code"] == 502
    assert seen["message"]
