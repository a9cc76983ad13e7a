"""The ways an upstream fails × before and after its first output × its protocol × with and without somebody else to ask.

Through the whole gateway, on real sockets: the right fallback or error, one charge or none, one row that tells every attempt.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from bursar.activity import GenerationStatus
from bursar.keys import KeyChecker
from bursar.storage import Database
from tests.conftest import Cast
from tests.gateway.wires import (
    STREAM_END,
    STREAM_HEAD,
    WIRES,
    Wire,
    catalog,
    framed,
    impatient_world,
    response,
    silent,
    sse,
)
from tests.gateway.world import CREDIT, World
from tests.support.loopback import Line, Talk, self_signed, server_side, serving
from tests.support.server import free_port

pytestmark = pytest.mark.anyio

Where = Literal["before", "after"]
UNAVAILABLE, OVERLOADED, TIMEOUT = "provider_unavailable", "provider_overloaded", "timeout"


@dataclass(frozen=True)
class Way:
    """How it fails and what comes of it.

    `before`, `after`: the status and `error_type` when it fails before and after the first output; None where it cannot fail so.
    `moves_on`: whether somebody else is asked. `retry_after`: what a client that is told to wait is told.
    """

    before: tuple[int, str]
    after: tuple[int, str] | None
    moves_on: bool = True
    retry_after: int | None = None


WAYS = {
    #                                before the first output        after it                      else
    "refused":                Way((502, UNAVAILABLE),        None),
    "reset":                  Way((502, UNAVAILABLE),        (502, UNAVAILABLE)),
    "dns":                    Way((502, UNAVAILABLE),        None),
    "tls":                    Way((502, UNAVAILABLE),        None),
    "timeout before headers": Way((504, TIMEOUT),            None),
    "timeout after headers":  Way((504, TIMEOUT),            (504, TIMEOUT)),
    "400":                    Way((400, "invalid_request"),  (400, "invalid_request"),     moves_on=False),
    "401":                    Way((404, "not_found"),        (404, "not_found")),
    "404":                    Way((404, "not_found"),        (404, "not_found")),
    "429":                    Way((503, OVERLOADED),         (503, OVERLOADED),            retry_after=30),
    "500":                    Way((502, UNAVAILABLE),        (502, UNAVAILABLE)),
    "503":                    Way((503, OVERLOADED),         (503, OVERLOADED),            retry_after=5),
    "junk":                   Way((502, UNAVAILABLE),        (502, UNAVAILABLE)),
    "truncated":              Way((502, UNAVAILABLE),        (502, UNAVAILABLE)),
}  # fmt: skip
MOVES_ON = [name for name, way in WAYS.items() if way.moves_on]
AFTER = [name for name, way in WAYS.items() if way.after is not None]


def failing(name: str, wire: Wire, where: Where, *, stream: bool) -> Talk:
    """What a server says that fails this way: a stream may have named its role before its first output."""
    so_far = STREAM_HEAD + framed(wire.opening + (wire.words(["one ", "two"]) if where == "after" else b""))
    half = so_far if stream else b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"

    async def talk(line: Line) -> None:
        await line.request()
        match name:
            case "reset":
                await line.say(*([half] if where == "after" else []))
                line.reset()
            case "timeout before headers":
                await silent(line)
            case "timeout after headers":
                await line.say(half)
                await silent(line)
            case "junk" if stream:
                await line.say(so_far + framed(sse("<html>")) + STREAM_END)
            case "junk":
                await line.say(response(200, b"<html>Bad gateway</html>", "text/html"))
            case "truncated":
                await line.say(half + (STREAM_END if stream else b""))
            case _ if where == "after":
                await line.say(so_far + framed(wire.error_event(int(name))) + STREAM_END)
            case _:
                more = {"Retry_After": "3600"} if name == "429" else {}
                await line.say(response(int(name), wire.error(int(name)), **more))

    return talk


def healthy(wire: Wire) -> Talk:
    """Says "fine": 5 prompt tokens, 2 of output."""

    async def talk(line: Line) -> None:
        while True:
            if b'"stream":true' in await line.request():
                await line.say(STREAM_HEAD + framed(wire.stream(["fine"], 5, 2)) + STREAM_END)
            else:
                await line.say(response(200, wire.whole("fine", 5, 2)))

    return talk


class Upstreams:
    """`async with` servers; `sick` and `well` say their addresses."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self._wire = wire
        self._folder = folder
        self._stack = AsyncExitStack()
        self.asked: Callable[[], int] = lambda: 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self._stack.aclose()

    async def sick(self, name: str, where: Where, *, stream: bool) -> str:
        if name == "refused":
            return f"http://127.0.0.1:{free_port()}"
        if name == "dns":
            return "http://nobody.invalid"
        tls = server_side(self_signed(self._folder)) if name == "tls" else None
        talk = healthy(self._wire) if name == "tls" else failing(name, self._wire, where, stream=stream)
        return (await self._stack.enter_async_context(serving(talk, tls=tls))).url

    async def well(self) -> str:
        server = await self._stack.enter_async_context(serving(healthy(self._wire)))
        self.asked = lambda: len(server.lines)
        return server.url


@pytest.fixture(params=WIRES)
async def upstreams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Upstreams]:
    async with Upstreams(WIRES[request.param], tmp_path) as made:
        yield made


@pytest.fixture
async def gateway(
    upstreams: Upstreams, database: Database, cast: Cast, checker: KeyChecker
) -> AsyncIterator[Callable[..., Any]]:
    """`await gateway(alpha, beta)` is a gateway that asks at these addresses, in that order."""
    made: list[World] = []

    async def make(*addresses: str) -> World:
        made.append(await impatient_world(database, cast, checker, catalog(upstreams._wire.name, *addresses)))
        return made[-1]

    yield make
    for world in made:
        await world.settled()
        await world.providers.close()


def attempts_of(row: Any) -> list[tuple[str, int, bool]]:
    """Who was asked, what came of it, and whether the reason is told."""
    return [(each["provider_name"], each["status"], bool(each.get("error"))) for each in json.loads(row.attempts)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", MOVES_ON)
async def test_before_the_first_output_the_next_endpoint_answers_and_is_the_only_one_charged(
    upstreams: Upstreams, gateway: Callable[..., Any], name: str, stream: bool
):
    world: World = await gateway(await upstreams.sick(name, "before", stream=stream), await upstreams.well())
    answer = await world.chat(model="acme/prime", stream=stream)
    assert answer.status == 200
    assert (answer.chunks[0] if stream else answer.json)["provider"] == "Beta"
    assert (answer.text if stream else answer.json["choices"][0]["message"]["content"]) == "fine"
    row = await world.only_generation()
    assert (row.status, row.provider, row.cost_nanos) == (GenerationStatus.OK, "beta", 5 * 70 + 2 * 130)
    assert attempts_of(row) == [("Alpha", WAYS[name].before[0], True), ("Beta", 200, False)]
    assert await world.hold_states() == {"settled"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", WAYS)
async def test_before_the_first_output_and_with_nobody_left_it_is_a_real_status_and_free(
    upstreams: Upstreams, gateway: Callable[..., Any], name: str, stream: bool
):
    way = WAYS[name]
    sick = await upstreams.sick(name, "before", stream=stream)
    # Whose request is at fault is not helped by another endpoint of the same model: it is there and must not be asked.
    world: World = await gateway(sick, *([] if way.moves_on else [await upstreams.well()]))
    answer = await world.chat(model="acme/prime", stream=stream)
    assert (answer.status, answer.error["metadata"]["error_type"]) == way.before
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get("retry-after") == (None if way.retry_after is None else str(way.retry_after))
    assert answer.error["metadata"]["provider_name"] == "Alpha"
    assert upstreams.asked() == 0
    row = await world.only_generation()
    assert (row.status, row.cost_nanos, row.error_status) == (GenerationStatus.FAILED, 0, way.before[0])
    assert attempts_of(row) == [("Alpha", way.before[0], True)]
    assert await world.hold_states() == {"void"}
    assert (await world.balance()).available == 10 * CREDIT


@pytest.mark.parametrize("second", [False, True], ids=["alone", "with another"])
@pytest.mark.parametrize("name", AFTER)
async def test_after_the_first_output_the_stream_ends_with_the_error_and_costs_what_arrived_once(
    upstreams: Upstreams, gateway: Callable[..., Any], name: str, second: bool
):
    after = WAYS[name].after
    assert after is not None
    sick = await upstreams.sick(name, "after", stream=True)
    world: World = await gateway(sick, *([await upstreams.well()] if second else []))
    answer = await world.chat(model="acme/prime", stream=True)
    assert answer.status == 200
    assert answer.text == "one two"
    *_, failed, last = answer.chunks
    assert (failed["error"]["code"], failed["error"]["metadata"]["error_type"]) == after
    # What OpenRouter's own client requires of a chunk, error or not.
    assert failed.keys() >= {"id", "object", "created", "model", "choices"}
    assert isinstance(failed["error"]["message"], str)
    assert [(each["index"], each["finish_reason"]) for each in failed["choices"]] == [(0, "error")]
    assert upstreams.asked() == 0
    row = await world.only_generation()
    assert (row.status, row.provider, row.error_status) == (GenerationStatus.FAILED, "alpha", after[0])
    assert (row.completion_tokens, row.finish_reason) == (2, "error")
    assert row.cost_nanos == row.prompt_tokens * 7 + 2 * 13
    assert round(last["usage"]["cost"] * 1e9) == row.cost_nanos
    assert attempts_of(row) == [("Alpha", after[0], True)]
    assert await world.hold_states() == {"settled"}


@pytest.mark.parametrize("name", [name for name in WAYS if "timeout" not in name])
async def test_what_is_the_providers_fault_is_remembered_and_what_is_not_is_not(
    upstreams: Upstreams, gateway: Callable[..., Any], name: str
):
    world: World = await gateway(await upstreams.sick(name, "before", stream=False))
    for _ in range(3):
        await world.chat(model="acme/prime")
    assert world.health.look()("acme/prime@alpha/prime-1").has_outage is WAYS[name].moves_on
