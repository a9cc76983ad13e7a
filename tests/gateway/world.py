"""A gateway in this process, on a real database: with the demo provider at once, or with upstreams that follow a script."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from bursar import actions, ledger
from bursar.access import Actor
from bursar.activity import Generation, find_generation
from bursar.activity import tables as activity_tables
from bursar.catalog import Catalog, Endpoint, Model, Pricing, Provider, endpoint_id, load
from bursar.gateway import (
    Admission,
    DatabaseFunds,
    Dispatcher,
    EndpointHealth,
    Exchange,
    Funds,
    Gateway,
    Live,
    StickySessions,
)
from bursar.kernel.ids import GenerationId, OwnerId, UserId
from bursar.kernel.money import NANOS_PER_CREDIT, Attos, Nanos
from bursar.keys import KeyChecker, KeyKind
from bursar.ledger import tables as ledger_tables
from bursar.providers import ChatCall, Chunk, Providers
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

CREDITS_URL = "https://bursar.example/credits"
GIVE_UP_SECONDS = 20
NANO = 10**9
"""One nano in attos."""

Step = Any
"""What a scripted upstream does next: a chunk or an answer (a dict), a failure to raise, or something to wait for."""


def chunk(text: str | None = None, *, finish: str | None = None, usage: Any = None, **more: Any) -> dict[str, Any]:
    """One `chat.completion.chunk` as a provider sends it."""
    delta = {} if text is None else {"content": text}
    choices = [] if text is None and finish is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "up-1", "choices": choices, **({} if usage is None else {"usage": usage}), **more}


def whole(text: str, *, usage: Any = None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    answer = {"id": "up-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}
    return answer if usage is None else {**answer, "usage": usage}


def usage(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@dataclass
class ScriptedUpstream:
    """An `Upstream` that plays a list of steps for each provider, by its address; notes what it was asked and what was closed."""

    scripts: Mapping[str, Sequence[Step]]
    calls: list[ChatCall] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def _steps(self, call: ChatCall) -> Sequence[Step]:
        self.calls.append(call)
        return self.scripts[call.base_url or ""]

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        for step in self._steps(call):
            if isinstance(step, dict):
                return step
            await _play(step)
        raise AssertionError("the script has no answer")

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        return await self.complete(call)

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk], None]:
        try:
            for step in self._steps(call):
                if isinstance(step, dict):
                    yield [Chunk(value=step)]
                else:
                    await _play(step)
        finally:
            self.closed.append(call.base_url or "")

    async def close(self) -> None:
        """Holds nothing."""

    def upstream_for(self, _protocol: str) -> "ScriptedUpstream":
        """It stands for every protocol."""
        return self


async def _play(step: Step) -> None:
    if isinstance(step, BaseException):
        raise step
    await step()


def provider(slug: str, **more: Any) -> Provider:
    return Provider(**{"slug": slug, "name": slug.title(), "protocol": "openai", "base_url": slug, **more})


def endpoint(
    model: Model, at: Provider, prompt: int = 7, completion: int = 13, request: int = 0, **more: Any
) -> Endpoint:
    """Prices in nanos per token and per request."""
    pricing = Pricing(Attos(prompt * NANO), Attos(completion * NANO), request=Attos(request * NANO))
    return Endpoint(
        id=endpoint_id(model.id, at.slug, "prime-1"),
        model=model,
        provider=at,
        upstream_model="prime-1",
        pricing=pricing,
        context_length=model.context_length,
        max_completion_tokens=model.max_completion_tokens,
        **more,
    )


PRIME = Model("acme/prime", "Prime", context_length=32_768, max_completion_tokens=4_096)
SECOND = Model("acme/second", "Second", context_length=32_768, max_completion_tokens=4_096)


def two_providers() -> Catalog:
    """`acme/prime` at alpha (7 and 13 nanos) and at beta (70 and 130); `acme/second` at beta only."""
    alpha, beta = provider("alpha"), provider("beta")
    offers = [endpoint(PRIME, alpha), endpoint(PRIME, beta, 70, 130), endpoint(SECOND, beta, 70, 130)]
    return Catalog([alpha, beta], [PRIME, SECOND], offers)


@dataclass
class Answer:
    """What the client got, message by message."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False
    at_once: int = 0
    """How many of its pieces were written at the moment they came."""

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error = self.json["error"]
        assert error["code"] == self.status
        assert isinstance(error["message"], str)
        assert error["message"]
        return error

    @property
    def data(self) -> list[str]:
        """The `data:` of each event, `[DONE]` included."""
        events = self.body.decode().split("\n\n")
        return [event.removeprefix("data: ") for event in events if event.startswith("data: ")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The chunks of a stream that ended properly."""
        assert self.data[-1] == "[DONE]", self.data[-2:]
        return [json.loads(data) for data in self.data[:-1]]

    @property
    def text(self) -> str:
        choices = [choice for each in self.chunks for choice in each["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def finish_reasons(self) -> list[str]:
        return [
            choice["finish_reason"]
            for each in self.chunks
            for choice in each["choices"]
            if choice["finish_reason"] is not None
        ]


class Cheapest(random.Random):
    """Draws what chooses the cheapest endpoint first, so that a test knows who is tried."""

    def random(self) -> float:
        return 0.0


class World:
    """`World(database, cast, checker)` is a gateway with the demo provider.

    Give `upstream` and `catalog` for a script, `providers` and `catalog` for upstreams behind real sockets.
    """

    def __init__(
        self,
        database: Database,
        cast: Cast,
        checker: KeyChecker,
        *,
        upstream: ScriptedUpstream | None = None,
        providers: Providers | None = None,
        catalog: Catalog | None = None,
        funds: Callable[[Funds], Funds] = lambda funds: funds,
    ) -> None:
        self.database = database
        self.cast = cast
        self.checker = checker
        self.upstream = upstream
        self.providers: Any = upstream or providers or Providers(clock=database.clock, pace=0)
        self.health = EndpointHealth(database.clock, Cheapest())
        self.admission = Admission(database, checker, database.clock)
        self.catalog = catalog or (
            load(demo=True, file=None, environment={}, real_providers=False, clock=database.clock)
            if upstream is None
            else two_providers()
        )
        self.gateway = Gateway(
            admission=self.admission,
            funds=funds(DatabaseFunds(database)),
            dispatcher=Dispatcher(
                self.providers, lambda _provider: None, health=self.health, sessions=StickySessions(database.clock)
            ),
            catalog=lambda: self.catalog,
            clock=database.clock,
            credits_url=lambda _caller: CREDITS_URL,
            live=Live(database, self.admission, database.clock),
        )
        self.key = ""

    async def make_key(
        self, owner: OwnerId | None = None, creator: UserId | None = None, kind: KeyKind = KeyKind.INFERENCE
    ) -> str:
        _, plaintext = await actions.create_key(
            self.database,
            self.checker,
            Actor.operator(),
            owner=owner or self.cast.owner,
            creator=creator or self.cast.admin.id,
            name="test",
            kind=kind,
        )
        return plaintext

    async def make_pool(self, nanos: int) -> tuple[OwnerId, str]:
        """The stranger's own credits, exactly so many, and a key for them."""
        owner = OwnerId(self.cast.stranger.id)
        if nanos:
            await actions.grant_credits(
                self.database, Actor.operator(), owner=owner, amount=Nanos(nanos), reason="for a test"
            )
        return owner, await self.make_key(owner, self.cast.stranger.id)

    async def chat(
        self, content: Any = "Hello", *, model: str = "demo/echo-1", key: str | None = None, **more: Any
    ) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        return await self.post(json.dumps(body).encode(), key=key)

    async def post(
        self,
        body: bytes | Sequence[bytes],
        *,
        key: str | None = None,
        authorization: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: str = "/api/v1/chat/completions",
        leave: asyncio.Event | None = None,
        on_send: Callable[[Answer, dict[str, Any]], Awaitable[None]] | None = None,
        takes_at_once: Callable[[], float] | None = None,
    ) -> Answer:
        """One request past every HTTP library. The client leaves when `leave` is set. `takes_at_once`: pieces of a stream can be
        written without waiting, as on a server's own connection, whenever it says 0.5 or more."""
        if authorization is None:
            authorization = f"Bearer {self.key if key is None else key}"
        sent = {"authorization": authorization, "content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("192.0.2.44", 4711),
        }
        pieces = [body] if isinstance(body, bytes) else list(body)
        answer = Answer()

        async def receive() -> dict[str, Any]:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            await (leave or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            if on_send is not None:
                await on_send(answer, dict(message))
            answer.messages.append(dict(message))
            answer.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        def send_at_once(piece: bytes) -> bool:
            assert takes_at_once is not None
            if takes_at_once() < 0.5:
                return False
            answer.messages.append({"type": "http.response.body", "body": piece, "more_body": True})
            answer.at_once += 1
            return True

        async with asyncio.timeout(GIVE_UP_SECONDS):
            if takes_at_once is not None:
                await self.gateway.start(scope, Exchange(receive, send, send_at_once=send_at_once))
            else:
                await self.gateway(scope, receive, send)
        return answer

    async def settled(self) -> None:
        """Whatever runs has ended; clients of streams that do not end leave."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while running := self.gateway._running:
                for exchange in running.values():
                    exchange.left()
                await asyncio.wait(running)

    async def generation(self, identity: str, owner: OwnerId | None = None) -> Generation:
        async with self.database.snapshot(SYSTEM) as snapshot:
            found = await find_generation(snapshot, owner or self.cast.owner, GenerationId(identity))
        assert found is not None, f"{identity} is not in the activity"
        return found

    async def generations(self) -> list[Generation]:
        """Everybody's, oldest first."""
        table = activity_tables.generations
        async with self.database.snapshot(SYSTEM) as snapshot:
            rows = await snapshot.all(select(table.c.owner_id, table.c.id).order_by(table.c.id))
            return [
                found for row in rows if (found := await find_generation(snapshot, row.owner_id, row.id)) is not None
            ]

    async def hold_states(self) -> set[str]:
        """How the holds there were ended: open, settled, void, interrupted."""
        async with self.database.snapshot(SYSTEM) as snapshot:
            return {row.state for row in await snapshot.all(select(ledger_tables.holds.c.state))}

    async def balance(self, owner: OwnerId | None = None) -> ledger.Balance:
        async with self.database.snapshot(SYSTEM) as snapshot:
            return await ledger.balance(snapshot, owner or self.cast.owner)

    async def books_are_right(self) -> int:
        """Drift 0, nothing held, activity = ledger = roll-ups. Returns what was spent in all, in nanos."""
        await self.settled()
        hours = activity_tables.usage_hours
        async with self.database.snapshot(SYSTEM) as snapshot:
            books = await ledger.verify(snapshot)
            rolled_up = sum(row.cost_nanos for row in await snapshot.all(select(hours.c.cost_nanos)))
        assert (books.drift, books.open_holds, books.held) == (0, 0, 0)
        cost = sum(generation.cost_nanos for generation in await self.generations())
        assert cost == books.spent == rolled_up
        return books.spent

    async def only_generation(self) -> Generation:
        """The one there is, with the books closed."""
        await self.books_are_right()
        found = await self.generations()
        assert len(found) == 1, [(each.id, each.status) for each in found]
        return found[0]


CREDIT = NANOS_PER_CREDIT
