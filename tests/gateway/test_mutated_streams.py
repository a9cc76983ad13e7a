"""Ten thousand streams as no provider should send them: through real sockets and the whole gateway, on both databases.

Whatever comes, the client gets a whole answer, there is one charge and one row, and the charge is what the provider reported (hidden
reasoning included, as far as it can be true) or, where it reported nothing that counts, what arrived.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.catalog import Pricing
from bursar.gateway._door import Headers, parse_chat
from bursar.kernel.money import Attos
from bursar.keys import KeyChecker
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway import streams
from tests.gateway.streams import CONTEXT, MOST, Counted, Story
from tests.gateway.wires import STREAM_END, STREAM_HEAD, WIRES, catalog, framed, impatient_world, sse
from tests.gateway.world import NANO, Answer, World
from tests.support.loopback import Line, serving
from tests.support.scale import SEED, scaled

pytestmark = pytest.mark.anyio

PRICES = Counted(prompt=7, completion=13, reasoning=17, cached=2, written=9)
"""In nanos per token: each class another, so that none can be taken for another."""
PRICING = Pricing(
    prompt=Attos(PRICES.prompt * NANO),
    completion=Attos(PRICES.completion * NANO),
    internal_reasoning=Attos(PRICES.reasoning * NANO),
    input_cache_read=Attos(PRICES.cached * NANO),
    input_cache_write=Attos(PRICES.written * NANO),
)
BODY = b'{"model":"acme/prime","stream":true,"messages":[{"role":"user","content":"Say something, please."}]}'
GUESS = -(-parse_chat(BODY, Headers(None, None, None, None, None)).prompt_tokens_bound // 4)
ENDPOINT = "acme/prime@alpha/prime-1"
OWED_AS = {"reported": UsageSource.REPORTED, "counted": UsageSource.COUNTED, "nothing": UsageSource.NONE}


def price_of(counted: Counted) -> int:
    cached = min(counted.cached, counted.prompt)
    written = min(counted.written, counted.prompt - cached)
    reasoning = min(counted.reasoning, counted.completion)
    return (
        (counted.prompt - cached - written) * PRICES.prompt
        + cached * PRICES.cached
        + written * PRICES.written
        + (counted.completion - reasoning) * PRICES.completion
        + reasoning * PRICES.reasoning
    )


class Teller:
    """A gateway with one upstream behind a socket, which says what it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pieces: list[bytes] = []
        self.closes = False

    async def talk(self, line: Line) -> None:
        while True:
            await line.request()
            line.writer.write(STREAM_HEAD)
            for piece in self.pieces:
                line.writer.write(framed(piece))
                await asyncio.sleep(0)  # whoever reads sees this piece alone
            if self.closes:
                return
            line.writer.write(STREAM_END)
            await line.writer.drain()

    async def ask(self, content: bytes, chance: Random, *, closes: bool = False) -> tuple[Answer, Generation]:
        self.pieces, self.closes = streams.cut(content, chance), closes
        answer = await self.world.post(BODY, takes_at_once=chance.random)
        self.world.health.succeeded(ENDPOINT, None)  # none of them is to rest
        return answer, await self.world.generation(answer.headers["x-generation-id"])


@asynccontextmanager
async def telling(protocol: str, database: Database, cast: Cast, checker: KeyChecker) -> AsyncIterator[Teller]:
    teller: list[Teller] = []

    async def talk(line: Line) -> None:
        await teller[0].talk(line)

    async with serving(talk) as server:
        offers = catalog(protocol, server.url, pricing=PRICING)
        teller.append(Teller(await impatient_world(database, cast, checker, offers)))
        yield teller[0]
        await teller[0].world.settled()
        await teller[0].world.providers.close()


def told(answer: Answer, row: Generation) -> list[dict[str, Any]]:
    """The chunks of a stream that ended as one should, with its cost in the last."""
    assert answer.complete
    chunks = answer.chunks
    assert round(chunks[-1]["usage"]["cost"] * 10**9) == row.cost_nanos
    return chunks


STORIES = {
    "openai": (streams.openai_story, streams.openai_events),
    "anthropic": (streams.anthropic_story, streams.anthropic_events),
}


def written(protocol: str, chance: Random) -> tuple[Story, bytes]:
    make, speak = STORIES[protocol]
    story = make(chance)
    return story, streams.ended(streams.dressed(speak(story, chance), chance), story.end, chance)


@pytest.mark.parametrize("protocol", WIRES)
async def test_every_stream_costs_what_was_reported_or_else_what_arrived_and_once(
    protocol: str, database: Database, cast: Cast, checker: KeyChecker
):
    print(f"seed {SEED}: BURSAR_SEED sets another")
    seen: set[tuple[bool, str]] = set()
    async with telling(protocol, database, cast, checker) as teller:
        count = scaled(1_250)
        for number in range(count):
            chance = Random(f"{SEED} {protocol} {number}")
            story, content = written(protocol, chance)
            source, counted = streams.owed(story, GUESS)
            answer, row = await teller.ask(content, chance, closes=story.end.startswith("closed"))
            case = f"case {number}, {story}, {content!r}"
            assert row.usage_source is OWED_AS[source], case
            assert (row.prompt_tokens, row.completion_tokens) == (counted.prompt, counted.completion), case
            assert row.cost_nanos == price_of(counted), case
            assert (row.status is GenerationStatus.OK) == story.finished, case
            if answer.status == 200:
                assert "".join(_texts(told(answer, row))) == story.content, case
            else:
                assert (answer.status, source, row.cost_nanos) == (502, "nothing", 0), case
            seen.add((story.finished, source))
        assert len(await teller.world.generations()) == count
        await teller.world.books_are_right()
    assert seen >= {(True, "reported"), (True, "counted"), (False, "reported"), (False, "counted"), (False, "nothing")}


def _texts(chunks: list[dict[str, Any]]) -> list[str]:
    return [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]


@pytest.mark.parametrize("protocol", WIRES)
async def test_of_whatever_bytes_come_the_client_gets_a_whole_answer_and_pays_once(
    protocol: str, database: Database, cast: Cast, checker: KeyChecker
):
    print(f"seed {SEED}: BURSAR_SEED sets another")
    statuses: set[int] = set()
    async with telling(protocol, database, cast, checker) as teller:
        count = scaled(1_250)
        for number in range(count):
            chance = Random(f"{SEED} {protocol} wild {number}")
            story, content = written(protocol, chance)
            content = streams.mutated(content, chance)
            answer, row = await teller.ask(content, chance, closes=story.end.startswith("closed"))
            case = f"case {number}, {content!r}"
            statuses.add(answer.status)
            if answer.status == 200:
                told(answer, row)
            else:
                assert answer.error["message"], case
                assert (answer.status >= 400, row.status, row.cost_nanos) == (True, GenerationStatus.FAILED, 0), case
            assert 0 <= row.cost_nanos <= CONTEXT * PRICES.written + MOST * PRICES.reasoning, case
        assert len(await teller.world.generations()) == count
        await teller.world.books_are_right()
        assert (await teller.world.hold_states()) <= {"settled", "void"}
    assert {200, 502} <= statuses <= {200, 400, 404, 502, 503, 504}


def compact(event: dict[str, Any]) -> bytes:
    """As providers write it."""
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "prime-1"}


@pytest.mark.parametrize("often", [0.0, 0.5, 1.0], ids=["never", "now and then", "always"])
async def test_plain_deltas_are_handed_on_the_moment_they_come_whenever_the_client_takes_them(
    often: float, database: Database, cast: Cast, checker: KeyChecker
):
    async with telling("openai", database, cast, checker) as teller:
        chance, at_once = Random(f"{SEED} {often}"), 0
        for _ in range(scaled(100)):
            texts = [f"w{number} " * chance.randint(1, 9) for number in range(chance.randint(2, 30))]
            said = [
                {**HEAD, "choices": [{"index": 0, "delta": {"content": each}, "finish_reason": None}]} for each in texts
            ]
            end = [{**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
            usage = {"id": "up-1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(texts)}}
            events = [compact(each) for each in (*said, *end, usage)] + [b"data: [DONE]\n\n"]
            teller.pieces = events if chance.random() < 0.5 else streams.cut(b"".join(events), chance)
            answer = await teller.world.post(BODY, takes_at_once=lambda: 1.0 if chance.random() < often else 0.0)
            row = await teller.world.generation(answer.headers["x-generation-id"])
            assert "".join(_texts(told(answer, row))) == "".join(texts)
            assert row.cost_nanos == 9 * PRICES.prompt + len(texts) * PRICES.completion
            at_once += answer.at_once
        assert (at_once > 0) == (often > 0)


def words(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"id": "up-1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


BEFORE_A_FAILURE = {
    "junk in the same piece": sse(words("one "), words("two ")) + b'data: {"choices": [}}\n\n',
    "junk in the same piece as the first word": sse(words("one two ")) + b"data: <html>\n\n",
    "the end, and no end": sse(words("one two ", "stop")),
}
"""What a provider says before it breaks off, all of it in one piece."""


@pytest.mark.parametrize("name", BEFORE_A_FAILURE)
async def test_words_that_are_charged_are_handed_on_before_the_error(
    name: str, database: Database, cast: Cast, checker: KeyChecker
):
    async with telling("openai", database, cast, checker) as teller:
        teller.pieces, teller.closes = [BEFORE_A_FAILURE[name]], True
        answer = await teller.world.post(BODY)
        row = await teller.world.only_generation()
    assert (answer.status, "".join(_texts(told(answer, row)))) == (200, "one two ")
    assert [each["error"]["code"] for each in answer.chunks if "error" in each] == [502]
    assert (row.status, row.completion_tokens) == (GenerationStatus.FAILED, 2)
    assert row.cost_nanos == row.prompt_tokens * PRICES.prompt + 2 * PRICES.completion


@pytest.mark.parametrize("prompt", [90_000_000, 30_000])
async def test_more_than_was_held_takes_what_is_left_and_is_flagged(
    prompt: int, database: Database, cast: Cast, checker: KeyChecker, caplog: pytest.LogCaptureFixture
):
    """Reported is more than there can be, and more than the credits: the credits go, the rest is the house's, and it is said."""
    usage = {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 4_000}}
    async with telling("openai", database, cast, checker) as teller:
        owner, key = await teller.world.make_pool(100_000)
        teller.pieces = [sse(words("Hi", "stop"), usage, "[DONE]")]
        with caplog.at_level(logging.WARNING, logger="bursar"):
            answer = await teller.world.post(BODY, key=key)
        assert json.loads(answer.data[-2])["usage"]["cost"] == 0.0001
        assert (await teller.world.balance(owner)).available == 0
        assert await teller.world.books_are_right() == 100_000
    flags = [record.getMessage() for record in caplog.records if record.name in ("bursar.funds", "bursar.meter")]
    assert any(f"cost more than was held for it: is {ENDPOINT} priced right?" in flag for flag in flags)
    assert any(f"{ENDPOINT} reported more tokens than there can be" in flag for flag in flags) == (prompt > CONTEXT)
