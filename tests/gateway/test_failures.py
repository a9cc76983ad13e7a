"""Failure is free, and every request that was dispatched leaves exactly one row and no open hold."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar.activity import GenerationStatus, UsageSource
from bursar.kernel.errors import Unavailable
from bursar.providers import UpstreamFailed
from tests.gateway.world import CREDIT, World, chunk, usage, whole

pytestmark = pytest.mark.anyio

BEFORE_OUTPUT = {
    "500": 502,
    "502": 502,
    "503": 503,
    "529": 503,
    "429": 503,
    "504": 504,
    "408": 504,
    "400": 400,
    "413": 400,
    "422": 400,
    "401": 404,
    "403": 404,
    "404": 404,
    "402": 404,
    "refused": 502,
    "timeout": 504,
    "junk": 502,
}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_fails_before_any_output_costs_nothing(world: World, stream: bool):
    for how, status in BEFORE_OUTPUT.items():
        world.health._records.clear()  # each failure is its own day: so many in a row would let the endpoint rest
        answer = await world.chat(f"[[fail:{how}]]", stream=stream)
        assert answer.status == status, how
        assert answer.headers["content-type"] == "application/json", "an error before output is no stream"
        error = answer.error
        assert error["metadata"]["provider_code"]
        assert ("retry-after" in answer.headers) == (status == 503), how
        row = await world.generation(answer.headers["x-generation-id"])
        assert row.status is GenerationStatus.FAILED
        assert (row.cost_nanos, row.error_status, row.finish_reason) == (0, status, "error")
        assert (row.prompt_tokens, row.completion_tokens, row.usage_source) == (0, 0, UsageSource.NONE)
        [attempt] = json.loads(row.attempts)
        assert attempt["status"] == status
    assert await world.books_are_right() == 0
    assert len(await world.generations()) == len(BEFORE_OUTPUT)
    assert await world.hold_states() == {"void"}, "nothing came of it, so nothing was settled"
    assert (await world.balance()).available == 10 * CREDIT


async def test_a_whole_answer_that_breaks_off_costs_nothing(world: World):
    answer = await world.chat("[[fail:cut]]")
    assert answer.status == 502
    row = await world.only_generation()
    assert (row.status, row.cost_nanos) == (GenerationStatus.FAILED, 0)


async def test_a_stream_that_breaks_off_says_so_as_a_chunk_and_costs_what_arrived(world: World):
    answer = await world.chat("[[fail:cut]] tell me", stream=True)
    assert answer.status == 200
    *_, failed, last = answer.chunks
    assert failed["error"]["code"] == 502
    assert failed["error"]["message"]
    [choice] = failed["choices"]
    assert (choice["index"], choice["delta"], choice["finish_reason"]) == (0, {"content": ""}, "error")
    row = await world.only_generation()
    assert row.status is GenerationStatus.FAILED
    assert row.usage_source is UsageSource.COUNTED
    assert row.cost_nanos > 0
    assert row.completion_tokens > 5
    assert round(last["usage"]["cost"] * 1e9) == row.cost_nanos
    full = (await world.chat("[[usage:none]] tell me", stream=True)).chunks[-1]["usage"]
    assert row.completion_tokens < full["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_reports_no_usage_is_charged_for_what_arrived(world: World, stream: bool):
    answer = await world.chat("[[usage:none]] tell me about holds", stream=stream)
    told = await world.chat("[[usage:zero]] tell me about holds", stream=stream)
    first, second = await world.generations()
    assert first.usage_source is UsageSource.COUNTED
    assert first.completion_tokens > 10
    assert first.cost_nanos > 0
    assert answer.status == told.status == 200
    await world.books_are_right()
    # A reported usage of 0 is 0, not a guess.
    assert (second.usage_source, second.cost_nanos, second.completion_tokens) == (UsageSource.REPORTED, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endpoint_that_fails_without_output_is_followed_by_the_next_and_only_that_one_is_charged(
    scripted: Callable[..., Any], stream: bool
):
    good = (
        [chunk("fine"), chunk(finish="stop"), chunk(usage=usage(5, 2))]
        if stream
        else [whole("fine", usage=usage(5, 2))]
    )
    role = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
    bad = [role, UpstreamFailed("It broke.")] if stream else [UpstreamFailed("It broke.")]
    world = await scripted(bad, good)
    answer = await world.chat(model="acme/prime", stream=stream)
    assert answer.status == 200
    assert (answer.chunks[0] if stream else answer.json)["provider"] == "Beta"
    row = await world.only_generation()
    assert (row.provider, row.endpoint_id) == ("beta", "acme/prime@beta/prime-1")
    assert row.cost_nanos == 5 * 70 + 2 * 130
    assert [attempt["status"] for attempt in json.loads(row.attempts)] == [502, 200]
    assert [call.base_url for call in world.upstream.calls] == ["alpha", "beta"]
    if stream:
        assert world.upstream.closed == ["alpha", "beta"]


async def test_once_there_is_output_no_other_endpoint_is_tried(scripted: Callable[..., Any]):
    world = await scripted([chunk("one "), chunk("two"), UpstreamFailed("It broke.")], [chunk("never")])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.text == "one two"
    assert answer.chunks[-2]["error"]["code"] == 502
    assert [call.base_url for call in world.upstream.calls] == ["alpha"]
    row = await world.only_generation()
    assert (row.status, row.provider) == (GenerationStatus.FAILED, "alpha")
    assert row.cost_nanos > 0


async def test_a_usage_reported_without_any_output_before_a_failure_costs_nothing(scripted: Callable[..., Any]):
    role = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
    world = await scripted([*[role] * 64, chunk(usage=usage(500, 200)), UpstreamFailed("It broke.")])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.chunks[-2]["error"]["code"] == 502
    row = await world.only_generation()
    assert (row.status, row.cost_nanos, row.completion_tokens) == (GenerationStatus.FAILED, 0, 0)
    assert await world.hold_states() == {"void"}


@pytest.mark.parametrize("stream", [False, True])
async def test_when_all_endpoints_fail_the_last_failure_is_told_and_nothing_is_charged(
    scripted: Callable[..., Any], stream: bool
):
    from bursar.providers import UpstreamOverloaded

    world = await scripted([UpstreamFailed("A.")], [UpstreamOverloaded("B.", retry_after_seconds=7)])
    answer = await world.chat(model="acme/prime", stream=stream)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.error["metadata"]["error_type"] == "provider_overloaded"
    row = await world.only_generation()
    assert row.cost_nanos == 0
    assert [attempt["status"] for attempt in json.loads(row.attempts)] == [502, 503]


async def test_a_request_that_is_at_fault_itself_is_not_tried_elsewhere(scripted: Callable[..., Any]):
    from bursar.providers import UpstreamRefused

    world = await scripted([UpstreamRefused("temperature is too high")], [whole("never")])
    answer = await world.chat(model="acme/prime")
    assert answer.status == 400
    assert "temperature is too high" in answer.error["message"]
    assert [call.base_url for call in world.upstream.calls] == ["alpha"]
    await world.only_generation()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_a_500_that_says_nothing_and_charges_nothing(
    scripted: Callable[..., Any], stream: bool, caplog: pytest.LogCaptureFixture
):
    world = await scripted([RuntimeError("secret detail /etc/passwd")])
    answer = await world.chat(model="acme/prime", stream=stream)
    assert answer.status == 500
    assert answer.error["message"] == "Internal Server Error"
    assert "secret detail" in caplog.text
    row = await world.only_generation()
    assert (row.status, row.cost_nanos) == (GenerationStatus.FAILED, 0)


async def test_a_fault_of_ours_in_mid_stream_charges_what_arrived_and_ends_the_connection(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    world = await scripted([chunk("one two three"), RuntimeError("oh")])
    await world.chat(model="acme/prime", stream=True)
    assert "oh" in caplog.text
    row = await world.only_generation()
    assert row.status is GenerationStatus.FAILED
    assert row.cost_nanos > 0


@pytest.mark.parametrize("nasty", ["a\0b", "x" * 5000, "\U0001f600" * 300])
@pytest.mark.parametrize("stream", [False, True])
async def test_whatever_a_provider_writes_into_its_ids_is_settled(
    scripted: Callable[..., Any], nasty: str, stream: bool
):
    answer = whole("Hi", usage=usage(5, 2)) | {"id": nasty, "system_fingerprint": nasty}
    answer["choices"][0]["finish_reason"] = nasty
    last = chunk(finish=nasty, usage=usage(5, 2)) | {"id": nasty}
    world = await scripted([chunk("Hi") | {"id": nasty}, last] if stream else [answer])
    assert (await world.chat(model="acme/prime", stream=stream)).status == 200
    assert (await world.only_generation()).cost_nanos == 5 * 7 + 2 * 13


@pytest.mark.parametrize(
    "junk",
    [
        {"choices": [{"index": "first", "delta": "text", "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": 7}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": {"a": 1}}, "finish_reason": {"a": 1}}]},
        {"choices": [{"index": 0, "delta": {"content": [1, 2]}, "finish_reason": 5}]},
        {"choices": [{}]},
        {"choices": []},
        {"choices": [], "usage": {"prompt_tokens": [], "completion_tokens": {}}},
    ],
)
async def test_a_chunk_of_nonsense_does_not_break_the_books(scripted: Callable[..., Any], junk: Any):
    world = await scripted([chunk("Hi"), junk, chunk(finish="stop"), chunk(usage=usage(5, 2))])
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.status == 200
    row = await world.only_generation()
    assert row.cost_nanos == 5 * 7 + 2 * 13


async def test_a_settlement_waits_for_a_database_that_is_away_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bursar.gateway._funds.SETTLE_RETRY_SECONDS_FIRST", 0.01)
    from bursar.gateway import _funds

    real, tried = _funds.apply_settlement, []

    async def away(tx: Any, generation: Any) -> Any:
        tried.append(generation.id)
        if len(tried) < 3:
            raise Unavailable("The database does not answer.")
        return await real(tx, generation)

    monkeypatch.setattr(_funds, "apply_settlement", away)
    answer = await world.chat()
    assert answer.status == 200
    assert len(tried) == 3
    assert (await world.only_generation()).cost_nanos > 0


async def test_a_database_that_is_away_before_dispatch_is_503_with_seconds_to_wait(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    world = await scripted([whole("never")])
    await world.admission.admit(f"Bearer {world.key}")

    def away(_scope: Any) -> Any:
        raise Unavailable("The database does not answer.", retry_after_seconds=5)

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "begin", away)
        answer = await world.chat(model="acme/prime")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "5"
    assert world.upstream.calls == []
    assert await world.books_are_right() == 0
