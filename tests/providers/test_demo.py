"""The demo provider is deterministic, counts by its rule, and fails when asked to."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.clock import FixedClock
from bursar.providers import (
    DEMO_TOKENS_PER_SECOND,
    ChatCall,
    DemoUpstream,
    Providers,
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimedOut,
    count_tokens,
    has_output,
)

pytestmark = pytest.mark.anyio

CLOCK = FixedClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
upstream = DemoUpstream(clock=CLOCK, pace=0)


def call(text: str = "What is a ledger?", model: str = "echo-1", **body) -> ChatCall:
    return ChatCall(upstream_model=model, body={"messages": [{"role": "user", "content": text}], **body})


async def streamed(of: ChatCall) -> list[dict]:
    return [chunk.value async for batch in upstream.stream(of) for chunk in batch]


def text_of(chunks: list[dict]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def test_the_same_request_gets_the_same_answer_whole_or_streamed() -> None:
    one, other = await upstream.complete(call()), await upstream.complete(call())
    assert one == other
    chunks = await streamed(call())
    assert text_of(chunks) == one["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == one["usage"]
    assert {chunk["id"] for chunk in chunks} == {one["id"]}
    different = await upstream.complete(call("What is a hold?"))
    assert different["id"] != one["id"]


@pytest.mark.parametrize("text", ["Hello", "Explain double entry bookkeeping to me, please.", "🦉", "a" * 5000])
async def test_an_answer_is_readable_and_of_plausible_length(text: str) -> None:
    answer = await upstream.complete(call(text))
    content = answer["choices"][0]["message"]["content"]
    assert 40 <= answer["usage"]["completion_tokens"] <= 120
    assert content[0].isupper() or not content[0].isalpha()
    assert content.endswith(".")
    assert "{" not in content


async def test_an_answer_takes_up_the_subject() -> None:
    answer = await upstream.complete(call("Could you tell me about double entry?"))
    assert "double entry" in answer["choices"][0]["message"]["content"].lower()


async def test_a_stream_begins_with_the_role_and_ends_with_finish_reason_and_usage() -> None:
    chunks = await streamed(call())
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert not has_output(chunks[0])
    assert has_output(chunks[1])
    assert all("finish_reason" in choice for chunk in chunks for choice in chunk["choices"])
    assert [choice["finish_reason"] for choice in chunks[-2]["choices"]] == ["stop"]
    assert chunks[-1]["choices"] == []


async def test_usage_counts_the_tokens_of_the_text() -> None:
    answer = await upstream.complete(call("One two, three!"))
    assert answer["usage"]["prompt_tokens"] == 5
    assert answer["usage"]["completion_tokens"] == count_tokens(answer["choices"][0]["message"]["content"])
    assert answer["usage"]["total_tokens"] == 5 + answer["usage"]["completion_tokens"]
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_the_scholar_thinks_before_it_answers_and_reports_it() -> None:
    usage = (await upstream.complete(call(model="scholar-1")))["usage"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
    assert (await upstream.complete(call()))["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("model", ["echo-1", "scholar-1"])
@pytest.mark.parametrize("most", [1, 7, 30, 100_000])
async def test_the_most_tokens_are_honoured_with_reasoning_included(name: str, model: str, most: int) -> None:
    chunks = await streamed(call(model=model, **{name: most}))
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] <= most
    reason = chunks[-2]["choices"][0]["finish_reason"]
    assert reason == ("stop" if most == 100_000 else "length")
    assert (
        count_tokens(text_of(chunks))
        == usage["completion_tokens"] - usage["completion_tokens_details"]["reasoning_tokens"]
    )


@pytest.mark.parametrize("most", [0, -1, "5", 1.5, True])
async def test_a_limit_that_is_no_number_is_refused(most: object) -> None:
    with pytest.raises(UpstreamRefused, match="max_tokens"):
        await upstream.complete(call(max_tokens=most))


FAILURES = [
    ("[[fail:500]]", UpstreamFailed, 502, "500"),
    ("[[fail:429]]", UpstreamOverloaded, 503, "429"),
    ("[[fail:503]]", UpstreamOverloaded, 503, "503"),
    ("[[fail:401]]", UpstreamNeedsOperator, 404, "401"),
    ("[[fail:400]]", UpstreamRefused, 400, "400"),
    ("[[fail:timeout]]", UpstreamTimedOut, 504, "timeout"),
    ("[[fail:junk]]", UpstreamFailed, 502, "junk"),
    ("[[fail:refused]]", UpstreamFailed, 502, "refused"),
    ("[[fail:cut]]", UpstreamFailed, 502, "cut"),
]


@pytest.mark.parametrize(("directive", "kind", "status", "code"), FAILURES)
async def test_it_fails_when_asked_to(directive: str, kind: type[UpstreamFailed], status: int, code: str) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await upstream.complete(call(f"Hello {directive} there"))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.provider_code, caught.value.before_output) == (status, code, True)
    assert (caught.value.retry_after_seconds is not None) == (status == 503)
    assert caught.value.retryable == (status != 400)
    with pytest.raises(kind) as caught:
        await streamed(call(f"Hello {directive} there"))
    assert caught.value.before_output == (directive != "[[fail:cut]]")


async def test_a_cut_stream_breaks_off_in_the_middle() -> None:
    chunks = []

    async def read() -> None:
        async for batch in upstream.stream(call("[[fail:cut]][[tokens:100]]")):
            chunks.extend(chunk.value for chunk in batch)

    with pytest.raises(UpstreamFailed):
        await read()
    assert count_tokens(text_of(chunks)) == 50
    assert not any("usage" in chunk for chunk in chunks)


async def test_usage_can_be_withheld_or_zero() -> None:
    assert "usage" not in await upstream.complete(call("[[usage:none]]"))
    assert not any("usage" in chunk for chunk in await streamed(call("[[usage:none]]")))
    usage = (await upstream.complete(call("[[usage:zero]]", model="scholar-1")))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 0, 0)


@pytest.mark.parametrize("length", [0, 1, 500, 5000])
async def test_an_answer_can_be_asked_for_at_an_exact_length(length: int) -> None:
    answer = await upstream.complete(call(f"[[tokens:{length}]]"))
    assert answer["usage"]["completion_tokens"] == count_tokens(answer["choices"][0]["message"]["content"]) == length


async def test_a_directive_counts_in_the_last_user_message_only_and_an_unknown_one_is_text() -> None:
    messages = [
        {"role": "user", "content": "[[fail:500]]"},
        {"role": "assistant", "content": "[[fail:500]]"},
        {"role": "user", "content": "hi [[fail:me]]"},
    ]
    assert await upstream.complete(ChatCall("echo-1", {"messages": messages}))


async def test_parts_of_text_and_images_are_counted() -> None:
    parts = [{"type": "text", "text": "What is this"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    answer = await upstream.complete(ChatCall("echo-1", {"messages": [{"role": "user", "content": parts}]}))
    assert answer["usage"]["prompt_tokens"] == 3 + 85


@pytest.mark.parametrize("messages", [None, [], "hello", [1]])
async def test_messages_of_another_shape_are_refused(messages: object) -> None:
    with pytest.raises(UpstreamRefused):
        await upstream.complete(ChatCall("echo-1", {"messages": messages}))


async def test_at_its_own_pace_it_streams_like_a_person_reads() -> None:
    start = time.monotonic()
    async for _ in DemoUpstream(clock=CLOCK, pace=0.5).stream(call("[[tokens:20]]")):
        pass
    took = time.monotonic() - start
    assert took >= 0.5 * (0.2 + 19 / DEMO_TOKENS_PER_SECOND) * 0.9
    assert took < 2


async def test_an_abandoned_stream_can_be_closed() -> None:
    chunks = upstream.stream(call())
    await anext(chunks)
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_the_registry_knows_what_is_built() -> None:
    registry = Providers(clock=CLOCK, pace=0)
    assert await registry.upstream_for("demo").complete(call())
    with pytest.raises(ValueError, match="not built; known: anthropic, demo, openai"):
        registry.upstream_for("grpc")
    await registry.close()


@given(st.text(max_size=200))
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    assert count_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))
