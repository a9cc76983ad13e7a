"""Stop 5: the attempts, in order. Falls back only before the first byte of output; no transaction is open meanwhile."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bursar.catalog import Operation, Provider
from bursar.gateway.plan import Attempt, Plan
from bursar.kernel.clock import Clock
from bursar.providers import ChatCall, Chunk, Providers, UpstreamFailed, has_output

CHUNKS_BEFORE_OUTPUT_MAX = 64
"""After so many chunks without output the stream is handed on as it is."""

Credential = Callable[[Provider], str | None]
Result = TypeVar("Result")


@dataclass(slots=True)
class Trace:
    """What was tried and how it ended: the generation's `attempts`."""

    clock: Clock
    tried: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, attempt: Attempt, work: Awaitable[Result]) -> Result:
        """Notes the outcome and passes it on."""
        begun = self.clock.monotonic()
        note: dict[str, Any] = {
            "endpoint_id": attempt.endpoint.id,
            "provider_name": attempt.endpoint.provider.name,
            "model": attempt.endpoint.model.id,
            "status": 200,
        }
        self.tried.append(note)
        try:
            return await work
        except UpstreamFailed as error:
            note["status"] = error.status
            note["error"] = error.sentence
            raise
        finally:
            note["latency_ms"] = int((self.clock.monotonic() - begun) * 1000)


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A stream whose first output is here: `begun` holds the chunks up to it. `rest` yields the others and must be closed."""

    attempt: Attempt
    begun: list[Chunk]
    rest: AsyncGenerator[list[Chunk], None]


class Dispatcher:
    def __init__(self, providers: Providers, credential: Credential) -> None:
        self._providers = providers
        self._credential = credential

    async def complete(
        self, plan: Plan, body: dict[str, Any], trace: Trace, operation: Operation = "chat"
    ) -> tuple[Attempt, dict[str, Any]]:
        """The first attempt that answers. Raises what the last one raised."""

        async def once(attempt: Attempt) -> tuple[Attempt, dict[str, Any]]:
            upstream = self._providers.upstream_for(attempt.endpoint.provider.protocol)
            answer = upstream.embed if operation == "embeddings" else upstream.complete
            return attempt, await answer(self._call(attempt, body))

        return await self._first(plan, trace, once)

    async def open(self, plan: Plan, body: dict[str, Any], trace: Trace) -> OpenedStream:
        """The first attempt whose first output arrives. Raises what the last one raised."""

        async def once(attempt: Attempt) -> OpenedStream:
            upstream = self._providers.upstream_for(attempt.endpoint.provider.protocol)
            rest = upstream.stream(self._call(attempt, body))
            begun: list[Chunk] = []
            try:
                # A chunk that only names the role is no output yet: until there is some, another endpoint may still be tried.
                async for batch in rest:
                    begun += batch
                    if any(has_output(chunk.value) for chunk in batch) or len(begun) >= CHUNKS_BEFORE_OUTPUT_MAX:
                        break
                return OpenedStream(attempt, begun, rest)
            except BaseException:
                await rest.aclose()
                raise

        return await self._first(plan, trace, once)

    async def _first(self, plan: Plan, trace: Trace, once: Callable[[Attempt], Awaitable[Result]]) -> Result:
        last = plan.attempts[-1]
        for attempt in plan.attempts:
            try:
                return await trace.run(attempt, once(attempt))
            except UpstreamFailed as error:
                if attempt is last or not error.retryable:
                    raise
        raise AssertionError("a plan has at least one attempt")

    def _call(self, attempt: Attempt, body: dict[str, Any]) -> ChatCall:
        provider = attempt.endpoint.provider
        return ChatCall(
            upstream_model=attempt.endpoint.upstream_model,
            body=body,
            base_url=provider.base_url,
            credential=self._credential(provider),
        )
