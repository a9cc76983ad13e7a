"""One request past its hold: everything its settlement needs, and the settlement itself (stop 7)."""

import asyncio
from dataclasses import dataclass

import msgspec

from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.catalog import Usage, charge
from bursar.gateway._admit import Caller
from bursar.gateway._counts import Counts
from bursar.gateway._dispatch import Dispatcher, Trace
from bursar.gateway._door import ChatRequest, Headers
from bursar.gateway._funds import Funds, Hold, Progress
from bursar.gateway._meter import Meter
from bursar.gateway._skin import Skin
from bursar.gateway.plan import Attempt, Plan, output_bound
from bursar.kernel import money
from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import GenerationId
from bursar.kernel.money import Nanos

_NOTHING = Usage(requests=0)
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Run:
    skin: Skin
    generation: GenerationId
    caller: Caller
    headers: Headers
    request: ChatRequest
    plan: Plan
    hold: Hold
    trace: Trace
    begun: float
    """In monotonic seconds."""
    funds: Funds
    dispatcher: Dispatcher
    clock: Clock
    counts: Counts
    attempt: Attempt | None = None
    meter: Meter | None = None
    first_token: float | None = None
    usage: Usage = _NOTHING
    """What was charged for, once it is closed."""
    extension: asyncio.Task[bool] | None = None
    """The latest extension of the hold; whoever closes waits for it."""

    def headers_of_balance(self) -> list[tuple[bytes, bytes]]:
        """What may still be spent, in credits, and what says so: the least of the credits and all limits that bind the request."""
        found = self.funds.available(self.hold)
        return [
            (b"x-bursar-available", money.credits_text(found.amount).encode()),
            (b"x-bursar-bound-by", found.bound_by.encode()),
        ]

    def measure(self, attempt: Attempt) -> Meter:
        """This attempt answers."""
        created = int(self.clock.now().timestamp())
        self.attempt = attempt
        self.meter = Meter(self.plan, attempt, generation=self.generation, created=created)
        return self.meter

    async def extend(self, attempt: Attempt, tokens: int) -> bool:
        """By the price of so many more tokens, in a task of its own: a client that leaves must not leave it half done."""
        self.extension = asyncio.create_task(self.funds.extend(self.hold, output_bound(attempt, tokens)))
        return await asyncio.shield(self.extension)

    def note_progress(self, meter: Meter) -> None:
        """What arrived since the last note is charged even if this process dies. Roughly counted: it happens again and again."""
        assert self.attempt is not None
        so_far = meter.rough_usage()
        cost = charge(self.attempt.pricing, so_far)
        version = self.attempt.pricing.version
        self.funds.progress(self.hold, Progress(so_far, version, cost))

    async def close(self, status: GenerationStatus, failure: BursarError | None) -> Nanos:
        """Settles, or voids where nothing came of it; returns what was charged."""
        if self.extension is not None:
            await asyncio.gather(self.extension, return_exceptions=True)
        usage, source = self.meter.usage() if self.meter is not None else (_NOTHING, UsageSource.NONE)
        if self.attempt is not None:
            tokens = usage.completion_tokens if status is GenerationStatus.OK else None
            self.dispatcher.ended(self.attempt, self.trace, failure, tokens)
        failed_empty = status is not GenerationStatus.OK and (self.meter is None or not self.meter.has_output)
        if failed_empty:
            usage, source = _NOTHING, UsageSource.NONE
        elif source is UsageSource.NONE:
            usage = Usage()
        self.usage = usage
        generation = self._row(status, failure, usage, source)
        if failed_empty:
            await self.funds.void(self.hold, generation)
            return Nanos(0)
        charged = await self.funds.settle(self.hold, generation)
        self.counts.spent = Nanos(self.counts.spent + charged)
        return charged

    def _row(
        self, status: GenerationStatus, failure: BursarError | None, usage: Usage, source: UsageSource
    ) -> Generation:
        meter, request, headers, caller = self.meter, self.request, self.headers, self.caller
        endpoint = self.attempt.endpoint if self.attempt is not None else None
        pricing = self.attempt.pricing if self.attempt is not None else None
        asked = self.plan.model[:120]
        return Generation(
            owner_id=caller.owner,
            id=self.generation,
            created_at=self.hold.opened_at,
            key_id=caller.key,
            user_id=caller.user,
            status=status,
            requested_model=asked,
            model=endpoint.model.id if endpoint is not None else asked,
            provider=endpoint.provider.slug if endpoint is not None else None,
            endpoint_id=endpoint.id if endpoint is not None else None,
            upstream_id=meter.upstream_id if meter is not None else None,
            api_type=self.skin.api_type,
            streamed=request.stream,
            cancelled=status is GenerationStatus.CANCELLED,
            error_status=failure.status if failure is not None else None,
            finish_reason=_finish_reason(status, meter),
            native_finish_reason=meter.native_finish_reason if meter is not None else None,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            audio_tokens=usage.audio_tokens,
            image_tokens=usage.image_tokens,
            audio_output_tokens=usage.audio_output_tokens,
            image_output_tokens=usage.image_output_tokens,
            images=usage.images,
            sounds=self.plan.sounds,
            media_made=meter.media_made if meter is not None else 0,
            cost_nanos=charge(pricing, usage) if pricing is not None else Nanos(0),
            usage_source=source,
            price_version=pricing.version if pricing is not None else None,
            first_token_ms=None if self.first_token is None else int((self.first_token - self.begun) * 1000),
            duration_ms=int((self.clock.monotonic() - self.begun) * 1000),
            attempts=_encode(self.trace.tried).decode(),
            http_referer=headers.http_referer,
            app_title=headers.app_title,
            user_agent=headers.user_agent,
            external_user=request.external_user,
            session_id=request.session_id,
        )


def _finish_reason(status: GenerationStatus, meter: Meter | None) -> str | None:
    if status is GenerationStatus.FAILED:
        return "error"
    return meter.finish_reason if meter is not None else None
