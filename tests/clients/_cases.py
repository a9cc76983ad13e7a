"""What the scripts of the Python clients share. It runs in a client's environment: the standard library only.

A case is a function under the name of an operation of the matrix (`matrix.py`); it raises where the client does not get what it
should. A case with `differs` passes as well, and proves what its sentence says.
"""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

MODEL = "demo/echo-1"
EMBEDDER = "demo/embed-1"
PRIME = "acme/prime"
"""Behind it is a provider that speaks OpenAI's protocol, see `tests/support/model_server.py`."""
SONNET = "acme/sonnet"
"""Behind it is one that speaks Anthropic's."""
BUSY = "acme/busy"
"""Its provider answers 429."""
BUSY_SENTENCE = "Answered 503 with `Retry-After`, as the client's key is within its limits."
TEXT_MODELS = [
    "acme/busy",
    "acme/endless",
    "acme/prime",
    "acme/sonnet",
    "demo/echo-1",
    "demo/flat-1",
    "demo/free-1",
    "demo/scholar-1",
]

SENTENCE = "Holds keep the books honest."
THOUGHT = "Let me think about it."
FORECAST = {"place": "Rome", "celsius": 21}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "celsius": {"type": "integer"}},
    "required": ["place", "celsius"],
    "additionalProperties": False,
}
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}

QUESTION = [{"role": "user", "content": "Tell me about holds"}]
ASKED = [{"role": "user", "content": "What is the weather in Rome and Oslo?"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": PLACE}}
RESPONSE_TOOL = {"type": "function", "name": "weather", "parameters": PLACE, "strict": True}
FORMAT = {"type": "json_schema", "json_schema": {"name": "forecast", "strict": True, "schema": SCHEMA}}
"""In OpenAI's words, which OpenRouter's client speaks too."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
SEEN = "I see image/png of 68 bytes."

PRIME_COST = 0.00118
SONNET_COST = 0.001205
"""What the tokens of all classes cost together at the prices of `tests/support/model_server.py`."""

API_BASE = os.environ["API_BASE"]
API_KEY = os.environ["API_KEY"]
MANAGEMENT_KEY = os.environ["MANAGEMENT_KEY"]
PERSONAL_MANAGEMENT_KEY = os.environ["PERSONAL_MANAGEMENT_KEY"]
BROKE_KEY = os.environ["BROKE_KEY"]
CROWDED_KEY = os.environ["CROWDED_KEY"]
"""Has as many requests running as it may."""
MADE_UP_KEY = "sk-bursar-v1-made-up"

TOO_LARGE = "x" * (20 * 1024 * 1024 + 1)

_cases: dict[str, tuple[Callable[[], None], str | None]] = {}


def case(operation: str, *, differs: str | None = None) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Puts a function on the list. `differs` is the sentence of the matrix where it is not simply ✓."""

    def put(work: Callable[[], None]) -> Callable[[], None]:
        assert operation not in _cases, operation
        _cases[operation] = work, differs
        return work

    return put


def same(seen: Any, wanted: Any) -> None:
    assert seen == wanted, f"{seen!r}, wanted {wanted!r}"


def near(seen: float, wanted: float) -> None:
    assert abs(seen - wanted) < 1e-12, f"{seen!r}, wanted {wanted!r}"


def thrown(work: Callable[[], Any], kind: type[Exception]) -> Any:
    """The exception of that kind that it ends with."""
    try:
        work()
    except kind as error:
        return error
    raise AssertionError("it was not refused")


def run(version: str) -> None:
    """Runs every case and prints `{"version", "cases": {operation: {"differs", "failed"}}}`."""
    found = {}
    for operation, (work, differs) in _cases.items():
        failed = None
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever a client raises fails its case, and no other
            failed = traceback.format_exc(limit=-3)
        found[operation] = {"differs": differs, "failed": failed}
    print(json.dumps({"version": version, "cases": found}))
