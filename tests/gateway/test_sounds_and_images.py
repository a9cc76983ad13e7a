"""Sounds, images and caches that last an hour: counted, held and charged as classes of their own, and never twice."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bursar import catalog, reports
from bursar.activity import Generation, UsageSource
from bursar.catalog import Pricing
from bursar.gateway._admit import Caller
from bursar.gateway._door import Headers, parse_chat
from bursar.gateway._meter import IMAGE_TOKENS_GUESSED, SOUND_TOKEN_CHARACTERS
from bursar.gateway._pipeline import _demand
from bursar.gateway.plan import make_plan
from bursar.kernel.ids import OwnerId, UserId
from bursar.kernel.money import Attos
from bursar.providers import count_tokens
from bursar.storage import SYSTEM, Scope
from tests.gateway import wires
from tests.gateway.test_token_classes import THERE, Behind, Json, behind, message, message_events
from tests.gateway.wires import sse
from tests.gateway.world import NANO, Answer, World

__all__ = ["behind"]
pytestmark = pytest.mark.anyio

NANOS = {
    "prompt": 7, "completion": 13, "internal_reasoning": 17, "input_cache_read": 2, "input_cache_write": 9,
    "input_cache_write_1h": 19, "audio": 101, "image_token": 23, "audio_output": 211, "image_output": 307, "image": 1_009,
}  # fmt: skip
"""Each class another, so that none can be taken for another."""
PRICES = Pricing(**{name: Attos(price * NANO) for name, price in NANOS.items()})
SPEAKS = {"output_modalities": ("text", "audio", "image")}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==" * 8, "format": "wav"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
ASK: Json = {
    "model": "acme/prime",
    "modalities": ["text", "audio", "image"],
    "audio": {"voice": "alloy", "format": "pcm16"},
}
MIXED = [{"type": "text", "text": "Hear, see"}, SOUND, IMAGE]

# Of 1,000 prompt tokens 500 are sound, 200 of an image and 100 came from a cache; of 90 others 10 are thinking, 40 sound, 30 an image.
USAGE = {
    "prompt_tokens": 1_000, "completion_tokens": 90, "total_tokens": 1_090,
    "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 500, "image_tokens": 200},
    "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 40, "image_tokens": 30},
}  # fmt: skip
COST = 100 * 2 + 500 * 101 + 200 * 23 + 200 * 7 + 10 * 17 + 40 * 211 + 30 * 307 + 10 * 13 + 1_009
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SAID = {"id": "audio_1", "data": "AAAA" * 2_000, "transcript": "Hello there"}


def completion(usage: Json | None = USAGE) -> Json:
    said = {"role": "assistant", "content": "Hello", "audio": SAID, "images": [PICTURE]}
    choices = [{"index": 0, "message": said, "finish_reason": "stop"}]
    return {"id": "up-1", "choices": choices, **({"usage": usage} if usage else {})}


def completion_events(usage: Json | None = USAGE) -> bytes:
    deltas: list[Json] = [{"content": "Hello"}, {"audio": {"id": "audio_1", "transcript": "Hello there"}}]
    deltas += [{"audio": {"data": SAID["data"][start : start + 2_000]}} for start in range(0, 8_000, 2_000)]
    deltas += [{"images": [PICTURE]}, {}]
    chunks = [
        {"id": "up-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]
    return sse(*chunks, *([{"id": "up-1", "choices": [], "usage": usage}] if usage else []), "[DONE]")


ANSWERS: list[Callable[..., Json]] = [
    lambda usage=USAGE: {"whole": completion(usage)},
    lambda usage=USAGE: {"stream": completion_events(usage)},
]
in_both_ways = pytest.mark.parametrize("answers", ANSWERS, ids=["whole", "streamed"])


async def lines_of(world: World, row: Generation) -> dict[str, int]:
    """What the receipt says, by class, once the prices are stored as a server does at its start."""
    async with world.database.begin(SYSTEM) as tx:
        await catalog.store_prices(tx, [PRICES])
    async with world.database.snapshot(Scope(row.owner_id)) as snapshot:
        receipt = await reports.receipt(snapshot, row.owner_id, row.id)
    assert receipt is not None
    assert receipt.lines is not None
    assert receipt.subtotal_attos == row.cost_nanos * NANO
    return {line.kind: line.count for line in receipt.lines}


def usage_of(answer: Answer, *, streamed: bool) -> Json:
    usage: Json = (answer.chunks[-1] if streamed else answer.json)["usage"]
    return usage


@in_both_ways
async def test_sounds_and_images_are_charged_each_at_its_price(
    behind: Callable[..., Any], answers: Callable[..., Json]
):
    there: Behind = await behind("openai", **answers(), pricing=PRICES, **SPEAKS)
    streamed = "stream" in answers()
    answer = await there.world.chat(MIXED, **ASK, stream=streamed)
    row = await there.world.only_generation()
    assert row.cost_nanos == COST
    assert (row.audio_tokens, row.image_tokens, row.audio_output_tokens, row.image_output_tokens) == (500, 200, 40, 30)
    assert (row.images, row.sounds, row.media_made) == (1, 1, 2)
    usage = usage_of(answer, streamed=streamed)
    assert {name: usage["prompt_tokens_details"][name] for name in ("audio_tokens", "image_tokens")} == {
        "audio_tokens": 500,
        "image_tokens": 200,
    }
    assert usage["completion_tokens_details"] == USAGE["completion_tokens_details"]
    assert await lines_of(there.world, row) == {
        "prompt": 200, "input_cache_read": 100, "audio": 500, "image_token": 200,
        "completion": 10, "internal_reasoning": 10, "audio_output": 40, "image_output": 30, "image": 1,
    }  # fmt: skip
    assert there.asked["modalities"] == ASK["modalities"]
    assert there.asked["audio"] == ASK["audio"]


@in_both_ways
async def test_what_the_model_said_and_drew_reaches_the_client_as_it_came(
    behind: Callable[..., Any], answers: Callable[..., Json]
):
    streamed = "stream" in answers()
    there: Behind = await behind("openai", **answers(), pricing=PRICES, **SPEAKS)
    answer = await there.world.chat(MIXED, **ASK, stream=streamed)
    if not streamed:
        said = answer.json["choices"][0]["message"]
        assert (said["audio"], said["images"]) == (SAID, [PICTURE])
        return
    deltas = [choice["delta"] for chunk in answer.chunks for choice in chunk["choices"]]
    assert "".join(delta.get("audio", {}).get("data", "") for delta in deltas) == SAID["data"]
    assert [image for delta in deltas for image in delta.get("images", [])] == [PICTURE]


@in_both_ways
async def test_sounds_and_images_that_nobody_counted_are_estimated_and_charged_as_what_they_are(
    behind: Callable[..., Any], answers: Callable[..., Json]
):
    there: Behind = await behind("openai", **answers(None), pricing=PRICES, **SPEAKS)
    await there.world.chat(MIXED, **ASK, stream="stream" in answers())
    row = await there.world.only_generation()
    sound = -(-8_000 // SOUND_TOKEN_CHARACTERS)
    assert row.usage_source is UsageSource.ESTIMATED
    assert (row.audio_output_tokens, row.image_output_tokens) == (sound, IMAGE_TOKENS_GUESSED)
    assert row.completion_tokens == sound + IMAGE_TOKENS_GUESSED + count_tokens("Hello" + SAID["transcript"])
    assert row.cost_nanos == (row.prompt_tokens * 7 + sound * 211 + IMAGE_TOKENS_GUESSED * 307 + 2 * 13 + 1_009), (
        "what the prompt is made of was not counted"
    )


async def test_what_was_neither_sent_nor_asked_for_is_charged_as_text(behind: Callable[..., Any]):
    there: Behind = await behind("openai", whole=completion(), pricing=PRICES)
    await there.world.chat("only words", model="acme/prime")
    row = await there.world.only_generation()
    assert (row.audio_tokens, row.image_tokens, row.audio_output_tokens, row.image_output_tokens) == (0, 0, 0, 0)
    assert row.cost_nanos == 900 * 7 + 100 * 2 + 80 * 13 + 10 * 17


def ceiling(content: Any, made: tuple[str, ...] = ("text",), **more: Any) -> tuple[int, int]:
    """What is held for such a request, and for how many tokens of the prompt."""
    body = {"model": "acme/prime", "messages": [{"role": "user", "content": content}], "max_tokens": 1_000, **more}
    request = parse_chat(json.dumps(body).encode(), Headers(None, None, None, None, None))
    demand = _demand(request, "chat", Caller(OwnerId("user_1"), UserId("user_1")))
    plan = make_plan(demand, wires.catalog("openai", "http://a", pricing=PRICES, output_modalities=made))
    return plan.ceiling, plan.prompt_tokens


def test_the_hold_is_at_the_dearest_price_among_the_classes_that_the_request_can_use():
    hour, five = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    marked: Json = {"type": "text", "text": "Hi"}
    held, tokens = ceiling("Hi")
    assert held == tokens * 9 + 1_000 * 17, "text may be written to a cache, and what is written may be thinking"
    held, tokens = ceiling([{**marked, "cache_control": five}])
    assert held == tokens * 9 + 1_000 * 17
    for content, more in (
        ([{**marked, "cache_control": hour}], {}),
        ("Hi", {"cache_control": hour}),
        ("Hi", {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": hour}]}),
    ):
        held, tokens = ceiling(content, **more)
        assert held == tokens * 19 + 1_000 * 17
    held, tokens = ceiling([{"type": "text", "text": 'they write "ttl":"1h"'}])
    assert held == tokens * 9 + 1_000 * 17, "words are no marks"
    held, tokens = ceiling([SOUND])
    assert held == tokens * 101 + 1_000 * 17
    held, tokens = ceiling([IMAGE])
    assert held == tokens * 23 + 1_000 * 17 + 1_009
    held, tokens = ceiling([{"type": "input_video", "video_url": {"url": "https://example.com/a.mp4"}}])
    assert held == tokens * 101 + 1_000 * 17, "a film can be heard"
    held, tokens = ceiling("Hi", ("text", "audio", "image"), modalities=["text", "audio"])
    assert held == tokens * 9 + 1_000 * 307, "some draw without being asked to"
    held, tokens = ceiling("Hi", ("text", "audio"), modalities=["text", "audio"])
    assert held == tokens * 9 + 1_000 * 211


def test_a_sound_is_held_for_by_its_length_and_one_said_before_by_a_bound():
    long = {"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "wav"}}
    _, shorter = ceiling([SOUND])
    _, longer = ceiling([long])
    assert 9_900 < longer - shorter < 10_000
    earlier = [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "And then?"}]
    held, tokens = ceiling("", messages=earlier)
    assert tokens > 16_384
    assert held == tokens * 101 + 1_000 * 17


def test_the_length_of_what_is_said_or_drawn_is_covered_from_the_start_of_a_stream():
    held, tokens = ceiling("Hi", ("text", "audio"), max_tokens=None, stream=True)
    assert held == tokens * 9 + 4_096 * 211
    held, tokens = ceiling("Hi", max_tokens=None, stream=True)
    assert held == tokens * 9 + 1_024 * 17


@pytest.mark.parametrize(
    ("ask", "status", "said"),
    [
        ({"modalities": ["text", "image"]}, 404, "does not make image with this model"),
        ({"modalities": ["audio"]}, 404, "does not make audio"),
        ({"modalities": []}, 400, "modalities"),
        ({"modalities": "audio"}, 400, "modalities"),
        ({"modalities": ["text", "smell"]}, 400, "modalities"),
        ({"modalities": [["text"]]}, 400, "modalities"),
        ({"audio": {"voice": "alloy"}}, 400, "audio"),
        ({"audio": "alloy", "modalities": ["text", "audio"]}, 400, "audio"),
    ],
)
async def test_what_a_model_cannot_make_is_refused_with_the_reason(
    behind: Callable[..., Any], ask: Json, status: int, said: str
):
    there: Behind = await behind("openai", whole=completion(), pricing=PRICES)
    answer = await there.world.chat(model="acme/prime", **ask)
    assert answer.status == status
    assert said in answer.error["message"]
    if status == 404:
        assert answer.error["metadata"]["excluded_by"][0]["rule"] == "modalities"


HOURS = {**THERE, "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}}
MARKED = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_was_written_to_a_cache_for_an_hour_has_its_own_price(behind: Callable[..., Any], streamed: bool):
    events = message_events().replace(b'"cache_creation_input_tokens": 300', b'"cache_creation_input_tokens": 300, "cache_creation": {"ephemeral_1h_input_tokens": 200}')  # fmt: skip
    answers = {"stream": events} if streamed else {"whole": message(usage=HOURS)}
    assert not streamed or events != message_events()
    there: Behind = await behind("anthropic", **answers, pricing=PRICES)
    ask: Json = {"model": "acme/prime", "stream": streamed}
    answer = await there.world.chat(MARKED, **ask)
    row = await there.world.only_generation()
    assert (row.cache_write_tokens, row.cache_write_1h_tokens) == (300, 200)
    others = 100 * 7 + 600 * 2 + 30 * 13 + 20 * 17
    assert row.cost_nanos == others + 100 * 9 + 200 * 19
    assert usage_of(answer, streamed=streamed)["prompt_tokens_details"]["cache_write_1h_tokens"] == 200
    lines = await lines_of(there.world, row)
    assert (lines["input_cache_write"], lines["input_cache_write_1h"]) == (100, 200)


async def test_an_hour_that_nobody_asked_for_is_charged_as_any_write(behind: Callable[..., Any]):
    there: Behind = await behind("anthropic", whole=message(usage=HOURS), pricing=PRICES)
    await there.world.chat("Hi", model="acme/prime")
    row = await there.world.only_generation()
    assert (row.cache_write_tokens, row.cache_write_1h_tokens) == (300, 0)
    assert row.cost_nanos == 100 * 7 + 600 * 2 + 30 * 13 + 20 * 17 + 300 * 9
