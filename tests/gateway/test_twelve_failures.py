"""The ways an upstream fails × before and after its first byte: the right fallback or error, one charge or none, one row."""

import json
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from bursar.activity import GenerationStatus
from bursar.providers import UpstreamFailed, UpstreamTimedOut
from bursar.providers._errors import failure_of, junk_answer
from tests.gateway.world import CREDIT, World, chunk, usage, whole

pytestmark = pytest.mark.anyio

UNREACHABLE = "The provider cannot be reached."


class Failure(Protocol):
    """Makes the failure, before any output or after some."""

    def __call__(self, *, early: bool) -> UpstreamFailed: ...


def unreachable(code: str) -> Failure:
    return lambda *, early: UpstreamFailed(UNREACHABLE, before_output=early, provider_code=code)


def answered(status: int, retry_after: int | None = None) -> Failure:
    return lambda *, early: failure_of(status, message="Its own words.", retry_after=retry_after, before_output=early)


def late(what: str) -> Failure:
    return lambda *, early: UpstreamTimedOut(f"The provider did not {what} in time.", before_output=early)


# How it fails, and what the client is told when nobody else is left.
FAILURES: dict[str, tuple[Failure, int]] = {
    "refused": (unreachable("ConnectionRefusedError"), 502),
    "reset": (unreachable("ConnectionResetError"), 502),
    "dns": (unreachable("gaierror"), 502),
    "tls": (unreachable("SSLCertVerificationError"), 502),
    "timeout before headers": (late("answer"), 504),
    "timeout after headers": (late("go on"), 504),
    "400": (answered(400), 400),
    "401": (answered(401), 404),
    "404": (answered(404), 404),
    "429": (answered(429, 12), 503),
    "500": (answered(500), 502),
    "503": (answered(503), 503),
    "junk": (lambda *, early: junk_answer(before_output=early), 502),
    "truncated": (lambda *, early: UpstreamFailed("It broke off.", before_output=early, provider_code="cut"), 502),
}
MOVES_ON = [how for how in FAILURES if how != "400"]
ROLE = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
GOOD = {
    False: [whole("fine", usage=usage(5, 2))],
    True: [chunk("fine"), chunk(finish="stop"), chunk(usage=usage(5, 2))],
}


def failing(how: str, *, stream: bool) -> list[Any]:
    """Before any output: a stream may have named its role by then."""
    return [*([ROLE] if stream else []), FAILURES[how][0](early=True)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", MOVES_ON)
async def test_before_the_first_output_the_next_endpoint_answers_and_is_the_only_one_charged(
    scripted: Callable[..., Any], how: str, stream: bool
):
    world: World = await scripted(failing(how, stream=stream), GOOD[stream])
    answer = await world.chat(model="acme/prime", stream=stream)
    assert answer.status == 200
    assert (answer.chunks[0] if stream else answer.json)["provider"] == "Beta"
    row = await world.only_generation()
    assert (row.status, row.provider, row.cost_nanos) == (GenerationStatus.OK, "beta", 5 * 70 + 2 * 130)
    attempts = json.loads(row.attempts)
    assert [attempt["status"] for attempt in attempts] == [FAILURES[how][1], 200]
    assert [attempt["provider_name"] for attempt in attempts] == ["Alpha", "Beta"]
    assert attempts[0]["error"]
    assert "error" not in attempts[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", FAILURES)
async def test_before_the_first_output_and_with_nobody_left_it_is_a_real_status_and_free(
    scripted: Callable[..., Any], how: str, stream: bool
):
    world: World = await scripted(failing(how, stream=stream), failing(how, stream=stream))
    answer = await world.chat(model="acme/prime", stream=stream)
    shown = FAILURES[how][1]
    tried = ["Alpha"] if how == "400" else ["Alpha", "Beta"]
    assert answer.status == shown
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (shown == 503)
    assert int(answer.headers.get("retry-after", 0)) <= 30
    metadata = answer.error["metadata"]
    assert metadata["provider_name"] == tried[-1]
    earlier = [(each["provider"], each["status"]) for each in metadata.get("previous_errors", [])]
    assert earlier == [(name, shown) for name in tried[:-1]]
    row = await world.only_generation()
    assert (row.status, row.cost_nanos, row.error_status) == (GenerationStatus.FAILED, 0, shown)
    assert [attempt["provider_name"] for attempt in json.loads(row.attempts)] == tried
    assert (await world.balance()).available == 10 * CREDIT


@pytest.mark.parametrize("how", FAILURES)
async def test_after_the_first_output_the_stream_ends_with_the_error_and_costs_what_arrived_once(
    scripted: Callable[..., Any], how: str
):
    world: World = await scripted([chunk("one "), chunk("two"), FAILURES[how][0](early=False)], GOOD[True])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.status == 200
    assert answer.text == "one two"
    *_, failed, last = answer.chunks
    assert failed["error"]["code"] == FAILURES[how][1]
    assert failed["choices"][0]["finish_reason"] == "error"
    assert [call.base_url for call in world.upstream.calls] == ["alpha"]
    row = await world.only_generation()
    assert (row.status, row.provider, row.error_status) == (GenerationStatus.FAILED, "alpha", FAILURES[how][1])
    assert row.cost_nanos > 0
    assert round(last["usage"]["cost"] * 1e9) == row.cost_nanos
    [attempt] = json.loads(row.attempts)
    assert (attempt["status"], bool(attempt["error"])) == (FAILURES[how][1], True)


@pytest.mark.parametrize("how", FAILURES)
async def test_what_is_the_providers_fault_is_remembered_and_what_is_not_is_not(scripted: Callable[..., Any], how: str):
    world: World = await scripted(failing(how, stream=False), failing(how, stream=False))
    for _ in range(3):
        await world.chat(model="acme/prime")
    assert world.health.look()("acme/prime@alpha/prime-1").has_outage is (how != "400")


async def test_after_an_output_that_reported_its_usage_the_reported_usage_is_charged(scripted: Callable[..., Any]):
    world: World = await scripted([chunk("one", usage=usage(5, 2)), FAILURES["reset"][0](early=False)])
    await world.chat(model="acme/prime", stream=True)
    assert (await world.only_generation()).cost_nanos == 5 * 7 + 2 * 13
