"""Stop 5: the attempts, in order. Falls back only before the first output; no transaction is open meanwhile.

What each attempt says about its endpoint goes to `EndpointHealth`, and what is known there goes into the next plan (stop 3).

| an attempt fails                         | then                                         | its endpoint          |
|------------------------------------------|----------------------------------------------|-----------------------|
| because of the provider, or in time      | the next endpoint, within the budget         | has failed            |
| because the operator must act            | the next endpoint, within the budget         | has failed            |
| because of the request                   | the next *model*, if the request names one   | neither well nor ill  |
| because its protocol cannot say it       | the next endpoint                            | neither well nor ill  |
| after output began                       | the stream ends with the error               | has failed            |
| because the client left                  | nothing                                      | neither well nor ill  |
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bursar.catalog import Catalog, Operation, Provider
from bursar.gateway._health import EndpointHealth
from bursar.gateway._sticky import StickySessions
from bursar.gateway.plan import (
    Attempt,
    Demand,
    EndpointsResting,
    NoEndpoints,
    Plan,
    Refusal,
    find_variant,
    make_plan,
)
from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError
from bursar.providers import (
    ChatCall,
    Chunk,
    Deltas,
    Providers,
    Pump,
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamRefused,
    has_output,
    hides_reasoning,
)

CHUNKS_BEFORE_OUTPUT_MAX = 64
"""After so many chunks without output the stream is handed on as it is."""

Credential = Callable[[Provider], str | None]
Result = TypeVar("Result")


@dataclass(slots=True)
class Trace:
    """What was planned and tried and how it ended: the generation's `attempts`, and `openrouter_metadata` where it is wanted."""

    clock: Clock
    wanted: bool = False
    """Whether the client asked to see it."""
    requested: str = ""
    plan: Plan | None = None
    refusals: list[Refusal] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    attempted_at: float = 0.0
    """When the latest attempt began, in monotonic seconds."""

    async def run(self, attempt: Attempt, work: Awaitable[Result]) -> Result:
        """Notes the outcome and passes it on."""
        begun = self.attempted_at = self.clock.monotonic()
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

    def broke_off(self, error: UpstreamFailed) -> None:
        """The latest attempt, which had begun to answer."""
        self.tried[-1] |= {"status": error.status, "error": error.sentence}

    def metadata(self) -> dict[str, Any]:
        """OpenRouter's `openrouter_metadata`, with one field more: `endpoints.excluded` says which rule kept whom out."""
        planned = [attempt.endpoint for attempt in self.plan.attempts] if self.plan is not None else []
        last = self.tried[-1] if self.tried else None
        served = last["endpoint_id"] if last is not None and last["status"] == 200 else None
        names = [f"{note['provider_name']} {note['status']}" for note in self.tried]
        return {
            "requested": self.requested,
            "strategy": "fallback" if len({endpoint.model.id for endpoint in planned}) > 1 else "direct",
            "region": None,
            "is_byok": False,
            "summary": f"{', '.join(names) or 'nothing was tried'}; {len(self.refusals)} excluded",
            "attempt": len(self.tried),
            "attempts": [
                {"provider": note["provider_name"], "model": note["model"], "status": note["status"]}
                for note in self.tried
            ],
            "endpoints": {
                "total": len(planned) + len(self.refusals),
                "available": [
                    {"provider": each.provider.name, "model": each.model.id, "selected": each.id == served}
                    for each in planned
                ],
                "excluded": [{"endpoint": each.endpoint, "rule": each.rule} for each in self.refusals],
            },
        }


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A stream whose first output is here: `begun` holds the chunks up to it. `rest` yields the others and must be closed."""

    attempt: Attempt
    begun: list[Chunk | Deltas]
    rest: AsyncGenerator[list[Chunk | Deltas], None]
    pump: Pump


class Dispatcher:
    def __init__(
        self, providers: Providers, credential: Credential, *, health: EndpointHealth, sessions: StickySessions
    ) -> None:
        self._providers = providers
        self._credential = credential
        self._health = health
        self._sessions = sessions

    def plan(self, demand: Demand, catalog: Catalog, trace: Trace) -> Plan:
        """Stop 3 with what is known at this moment. Raises what `make_plan` raises."""
        trace.requested = demand.models[0]
        try:
            plan = make_plan(demand, catalog, self._health.surroundings(self._favourites(demand, catalog)))
        except (NoEndpoints, EndpointsResting) as error:
            trace.refusals = list(error.reasons)
            raise
        trace.plan, trace.refusals = plan, list(plan.refusals)
        return plan

    def ended(self, attempt: Attempt, trace: Trace, failure: BursarError | None, tokens: int | None) -> None:
        """An answer that had begun is over. `tokens`: how many it was of, where it came to its end."""
        if isinstance(failure, UpstreamFailed):
            trace.broke_off(failure)
            self._note(attempt, failure)
        elif tokens is not None:
            self._health.measured(attempt.endpoint.id, tokens, trace.clock.monotonic() - trace.attempted_at)

    def _favourites(self, demand: Demand, catalog: Catalog) -> frozenset[str]:
        if demand.session is None:
            return frozenset()
        models = [model for name in demand.models if (model := find_variant(name, catalog)[0]) is not None]
        found = [self._sessions.find(demand.session, model.id) for model in models]
        return frozenset(each for each in found if each is not None)

    async def complete(
        self, plan: Plan, body: dict[str, Any], trace: Trace, operation: Operation = "chat"
    ) -> tuple[Attempt, dict[str, Any]]:
        """The first attempt that answers. Raises `UpstreamFailed`, see `_first`; `EndpointsResting`."""

        async def once(attempt: Attempt) -> tuple[Attempt, dict[str, Any]]:
            upstream = self._providers.upstream_for(attempt.endpoint.provider.protocol)
            answer = upstream.embed if operation == "embeddings" else upstream.complete
            return attempt, await answer(self._call(attempt, body))

        return await self._first(plan, trace, once, streamed=False)

    async def open(self, plan: Plan, body: dict[str, Any], trace: Trace) -> OpenedStream:
        """The first attempt whose first output arrives. Raises `UpstreamFailed`, see `_first`; `EndpointsResting`."""

        async def once(attempt: Attempt) -> OpenedStream:
            upstream = self._providers.upstream_for(attempt.endpoint.provider.protocol)
            call = self._call(attempt, body)
            rest = upstream.stream(call)
            begun: list[Chunk | Deltas] = []
            try:
                # A chunk that only names the role is no output yet: until there is some, another endpoint may still be tried.
                async for batch in rest:
                    begun += batch
                    if (
                        any(isinstance(each, Deltas) or has_output(each.value) for each in batch)
                        or len(begun) >= CHUNKS_BEFORE_OUTPUT_MAX
                    ):
                        break
                return OpenedStream(attempt, begun, rest, call.pump)
            except BaseException:
                await rest.aclose()
                raise

        return await self._first(plan, trace, once, streamed=True)

    async def _first(
        self, plan: Plan, trace: Trace, once: Callable[[Attempt], Awaitable[Result]], *, streamed: bool
    ) -> Result:
        """Tries until one succeeds. Raises the last failure, with the others as its `previous_errors`.

        A failure that needs the operator gives way to one that passes by itself: the whole then passes by itself.
        """
        self._health.asked()
        failures: list[tuple[Attempt, UpstreamFailed]] = []
        refused_for: set[str] = set()
        for attempt in plan.attempts:
            if attempt.endpoint.model.id in refused_for:
                continue
            if not self._may_try(attempt, trace, again=any(not isinstance(e, UpstreamRefused) for _, e in failures)):
                continue
            begun = trace.clock.monotonic()
            try:
                result = await trace.run(attempt, once(attempt))
            except UpstreamFailed as error:
                self._note(attempt, error)
                failures.append((attempt, error))
                if not error.retryable:
                    refused_for.add(attempt.endpoint.model.id)
            except BaseException:
                self._health.released(attempt.endpoint.id)
                raise
            else:
                latency = trace.clock.monotonic() - begun if streamed else None
                self._health.succeeded(attempt.endpoint.id, latency)
                if plan.session is not None:
                    self._sessions.served(plan.session, attempt.endpoint.model.id, attempt.endpoint.id)
                return result
        raise _told(failures) if failures else _resting(trace)

    def _may_try(self, attempt: Attempt, trace: Trace, *, again: bool) -> bool:
        endpoint = attempt.endpoint
        if again and not self._health.may_try_again():
            sentence = f"{endpoint.provider.name} was not tried: too many second tries just now."
            trace.refusals.append(Refusal(endpoint.id, "retry_budget", sentence))
            return False
        if not self._health.claim(endpoint.id):
            # It may have been fine when the plan was made.
            seconds = self._health.look()(endpoint.id).retry_after_seconds
            sentence = f"{endpoint.provider.name} failed too often; it is tried again in {seconds} s."
            trace.refusals.append(Refusal(endpoint.id, "circuit_open", sentence, seconds))
            return False
        return True

    def _note(self, attempt: Attempt, error: UpstreamFailed) -> None:
        if isinstance(error, UpstreamRefused):
            self._health.released(attempt.endpoint.id)
            return
        self._health.failed(
            attempt.endpoint.id,
            needs_person=isinstance(error, UpstreamNeedsOperator),
            retry_after_seconds=error.retry_after_seconds,
        )

    def _call(self, attempt: Attempt, body: dict[str, Any]) -> ChatCall:
        provider = attempt.endpoint.provider
        return ChatCall(
            upstream_model=attempt.endpoint.upstream_model,
            body=body if attempt.endpoint.model.takes_reasoning else _untold(body),
            base_url=provider.base_url,
            credential=self._credential(provider),
        )


def _untold(body: dict[str, Any]) -> dict[str, Any]:
    """Without a word on how much to reason, for a model that takes none: many refuse one. That thoughts be hidden stays said."""
    if "reasoning" not in body and "reasoning_effort" not in body:
        return body
    reasoning = body.get("reasoning")
    left = {name: value for name, value in body.items() if name not in ("reasoning", "reasoning_effort")}
    return {**left, "reasoning": {"exclude": True}} if hides_reasoning(body) and reasoning is not None else left


def _told(failures: Sequence[tuple[Attempt, UpstreamFailed]]) -> UpstreamFailed:
    """The one failure that the client is told, of several."""
    passing = [each for each in failures if not isinstance(each[1], UpstreamNeedsOperator)]
    attempt, told = (passing or failures)[-1]
    told.provider_name = attempt.endpoint.provider.name
    told.previous_errors = [
        {"provider": earlier.endpoint.provider.name, "code": error.provider_code, "status": error.status}
        for earlier, error in failures
        if error is not told
    ]
    return told


def _resting(trace: Trace) -> EndpointsResting:
    """Every endpoint's circuit opened between the plan and the call."""
    waits = [each.retry_after_seconds for each in trace.refusals if each.retry_after_seconds is not None]
    sentence = f"No endpoint of {trace.requested} is available just now."
    return EndpointsResting(sentence, trace.refusals, min(waits), [trace.requested])
