"""Providers that stream, fail, fall silent and report what a seed says; and what their answers must cost, worked out apart."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from bursar.catalog import Catalog, Endpoint, Model, Pricing, Provider, endpoint_id
from bursar.kernel.money import Attos
from bursar.providers import ChatCall, Chunk, UpstreamFailed, UpstreamOverloaded, UpstreamTimedOut

PRIME = Model("acme/prime", "Prime", context_length=32_768, max_completion_tokens=4_096)
WORDS = ("ja ", "once upon a time ", "x", "übermäßig ", "a rather longer piece of the answer than usual " * 8)


@dataclass(frozen=True)
class Price:
    """In attos per token and per request; some uneven, so that whoever rounds twice is seen."""

    prompt: int
    completion: int
    request: int

    def of(self, prompt: int, completion: int) -> int:
        """In nanos."""
        total = prompt * self.prompt + completion * self.completion + self.request
        return -(-total // 10**9)


PRICES = {
    "alpha": Price(7_000_000_000, 13_000_000_000, 111_000_000_000),
    "beta": Price(21_123_456_789, 39_999_999_999, 3),
    "gamma": Price(30_000_000_000, 60_000_000_000, 0),
}


def catalog() -> Catalog:
    providers = [Provider(slug, slug.title(), "openai", base_url=slug) for slug in PRICES]
    return Catalog(providers, [PRIME], [_endpoint(each, PRICES[each.slug]) for each in providers])


def _endpoint(at: Provider, price: Price) -> Endpoint:
    return Endpoint(
        id=endpoint_id(PRIME.id, at.slug, "prime-1"),
        model=PRIME,
        provider=at,
        upstream_model="prime-1",
        pricing=Pricing(Attos(price.prompt), Attos(price.completion), request=Attos(price.request)),
        context_length=PRIME.context_length,
        max_completion_tokens=PRIME.max_completion_tokens,
    )


@dataclass
class Sent:
    """One attempt, as the provider knows it."""

    provider: str
    text: str = ""
    """What left for us, whether or not anybody still read it."""
    reported: tuple[int, int] | None = None
    is_complete: bool = False

    @property
    def reported_cost(self) -> int:
        assert self.reported is not None
        return PRICES[self.provider].of(*self.reported)

    def most(self, prompt_bound: int) -> int:
        """What may be charged at most of what arrived: no token is shorter than a byte."""
        return PRICES[self.provider].of(prompt_bound, len(self.text.encode()))


@dataclass
class Upstreams:
    """Every provider at once. Knows a request by the number in its `user` field."""

    rng: random.Random
    failing: float
    silent: float
    note: Callable[[str], None]
    sent: dict[int, list[Sent]] = field(default_factory=dict)

    def upstream_for(self, _protocol: str) -> "Upstreams":
        return self

    def _begin(self, call: ChatCall) -> tuple[int, Sent]:
        number, sent = int(call.body["user"]), Sent(call.base_url or "")
        self.sent.setdefault(number, []).append(sent)
        self.note(f"request {number} is at {sent.provider}")
        return number, sent

    async def complete(self, call: ChatCall) -> dict[str, Any]:
        number, sent = self._begin(call)
        await self._think(number, sent)
        sent.text = "".join(self.rng.choice(WORDS) for _ in range(self.rng.randrange(1, 8)))
        answer: dict[str, Any] = {"id": f"up-{number}"}
        answer["choices"] = [
            {"index": 0, "message": {"role": "assistant", "content": sent.text}, "finish_reason": "stop"}
        ]
        self._report(call, sent, answer)
        sent.is_complete = True
        return answer

    async def stream(self, call: ChatCall) -> AsyncGenerator[list[Chunk], None]:
        number, sent = self._begin(call)
        if self.rng.random() < 0.5:
            yield [self._chunk({"role": "assistant"})]
        await self._think(number, sent)
        for _ in range(self.rng.choice((0, 1, 3, 8, 30))):
            word = self.rng.choice(WORDS)
            sent.text += word
            yield [self._chunk({"content": word})]
            await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.1, 0.4)))
            await self._trouble(number, sent, self.failing / 20, self.silent / 20)
        last: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self._report(call, sent, last)
        sent.is_complete = True
        yield [Chunk(value=last)]

    async def embed(self, call: ChatCall) -> dict[str, Any]:
        raise NotImplementedError(call)

    async def close(self) -> None:
        """Holds nothing."""

    def _chunk(self, delta: dict[str, Any]) -> Chunk:
        return Chunk(value={"id": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    async def _think(self, number: int, sent: Sent) -> None:
        await asyncio.sleep(self.rng.choice((0.0, 0.005, 0.05, 0.5)))
        await self._trouble(number, sent, self.failing, self.silent)

    async def _trouble(self, number: int, sent: Sent, failing: float, silent: float) -> None:
        if self.rng.random() < silent:
            self.note(f"request {number}: {sent.provider} falls silent")
            await asyncio.sleep(4.0)
            raise UpstreamTimedOut("The provider fell silent.", before_output=not sent.text)
        if self.rng.random() < failing:
            self.note(f"request {number}: {sent.provider} fails")
            kind = self.rng.choice((UpstreamFailed, UpstreamOverloaded))
            raise kind("The provider failed.", before_output=not sent.text, retry_after_seconds=1)

    def _report(self, call: ChatCall, sent: Sent, answer: dict[str, Any]) -> None:
        """Usage: true (hidden reasoning included), none at all, zero, or more prompt than was held for."""
        honest = (self.rng.randrange(5, 20), -(-len(sent.text.encode()) // 4) + self.rng.choice((0, 0, 40)))
        most = call.body.get("max_tokens")
        honest = (honest[0], honest[1] if most is None else min(honest[1], most))
        sent.reported = self.rng.choices((honest, None, (0, 0), (30_000, honest[1])), (80, 10, 5, 5))[0]
        if sent.reported is not None:
            prompt, completion = sent.reported
            answer["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion}
