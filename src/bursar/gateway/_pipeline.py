"""One chat completion: seven stops, one direction. `Gateway.handle` is the only function that knows their order.

1 door      bytes → request                  400, 413
2 admit     key → caller, from memory        401, 403
3 plan      request × catalogue → attempts   400, 404
4 hold      the ceiling, durably             402
5 dispatch  attempts until one answers       400, 502, 503, 504
6 meter     ids, provider, cost; counting
7 close     the settlement, durably; then the client gets the end
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from bursar.activity import Generation, GenerationStatus, UsageSource
from bursar.catalog import Catalog, Operation, Usage, charge
from bursar.gateway._admit import Admission, Caller
from bursar.gateway._dispatch import Dispatcher, Trace
from bursar.gateway._door import ChatRequest, ClientGone, Headers, Receive, Scope, read_body, read_headers
from bursar.gateway._exchange import Exchange, Send
from bursar.gateway._funds import Funds, Hold, InsufficientCredits, Intent
from bursar.gateway._meter import Meter
from bursar.gateway._skin import ChatSkin, Skin, Writer
from bursar.gateway._skin_completions import CompletionsSkin
from bursar.gateway._skin_embeddings import EmbeddingsSkin
from bursar.gateway._skin_messages import CountTokensSkin, MessagesSkin
from bursar.gateway._skin_responses import ResponsesSkin
from bursar.gateway._wire import usage_object, with_field
from bursar.gateway.plan import PARAMETERS, STREAM_TOKENS, Attempt, Demand, Plan, affordable_tokens, output_bound
from bursar.kernel import money
from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import GenerationId, new_generation_id
from bursar.kernel.money import Nanos
from bursar.providers import Chunk, UpstreamFailed

_log = logging.getLogger("bursar.gateway")


class PostOnly(BursarError):
    """The path takes requests to models only."""

    status = 405
    error_type = "invalid_request"


class Broken(BursarError):
    """A fault of ours; the log has it, the client does not."""


@dataclass(slots=True)
class Run:
    """One request past its hold: everything its settlement needs."""

    skin: Skin
    generation: GenerationId
    caller: Caller
    headers: Headers
    request: ChatRequest
    plan: Plan
    hold: Hold
    trace: Trace
    begun: float
    attempt: Attempt | None = None
    meter: Meter | None = None
    first_token: float | None = None
    extension: asyncio.Task[bool] | None = None
    """The latest extension of the hold; whoever closes waits for it."""


SKINS: Mapping[str, Skin] = {
    "/api/v1/chat/completions": ChatSkin(),
    "/api/v1/responses": ResponsesSkin(),
    "/api/v1/embeddings": EmbeddingsSkin(),
    "/api/v1/completions": CompletionsSkin(),
    "/api/v1/messages": MessagesSkin(),
    "/api/v1/messages/count_tokens": CountTokensSkin(),
}
"""By path, without a slash at its end."""


class Gateway:
    """An ASGI application for POSTs to the paths of its skins."""

    skins = SKINS

    def __init__(
        self,
        *,
        admission: Admission,
        funds: Funds,
        dispatcher: Dispatcher,
        catalog: Callable[[], Catalog],
        clock: Clock,
        credits_url: Callable[[Caller], str],
    ) -> None:
        self._admission = admission
        self._funds = funds
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._clock = clock
        self._credits_url = credits_url
        self._closing: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send, None)

    async def serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller | None) -> None:
        """One request; `caller` is whoever another door has admitted, None for somebody whose key is yet to be read."""
        generation = new_generation_id(self._clock.now())
        exchange = Exchange(receive, send, generation)
        trace = Trace(self._clock)
        skin = self.skins[scope["path"].rstrip("/")]
        try:
            await self.handle(scope, receive, exchange, generation, skin, trace, caller)
        except ClientGone:
            pass
        except BursarError as error:
            await self._refuse(exchange, skin, error, generation, trace)
        except Exception:  # noqa: BLE001 - the last resort: whatever it is, the client gets a whole answer without it
            _log.exception("request %s failed", generation)
            await self._refuse(exchange, skin, Broken("Internal Server Error"), generation, trace)

    async def handle(
        self,
        scope: Scope,
        receive: Receive,
        exchange: Exchange,
        generation: GenerationId,
        skin: Skin,
        trace: Trace,
        admitted: Caller | None,
    ) -> None:
        begun = self._clock.monotonic()
        if scope["method"] != "POST":
            raise PostOnly(f"{scope['method']} is not allowed here.", remedy="Send a POST with a JSON body.")
        headers = read_headers(scope)
        trace.wanted = headers.wants_metadata
        caller = admitted or await self._admission.admit_inference(headers.authorization)
        request = skin.parse(await read_body(scope, receive), headers)
        plan = self._dispatcher.plan(_demand(request, skin.operation, caller), self._catalog(), trace)

        def run_of(hold: Hold) -> Run:
            return Run(skin, generation, caller, headers, request, plan, hold, trace, begun)

        run = await self._hold(generation, caller, request, plan, run_of)
        if request.stream:
            await self._stream(exchange, run)
        else:
            await self._whole(exchange, run)

    async def drain(self) -> None:
        """Waits for settlements that are still being written; call it when no more requests come in."""
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _hold(
        self,
        generation: GenerationId,
        caller: Caller,
        request: ChatRequest,
        plan: Plan,
        run_of: Callable[[Hold], Run],
    ) -> Run:
        price_version = plan.attempts[0].pricing.version
        intent = Intent(caller.owner, generation, plan.ceiling, price_version, caller.key, caller.user, plan.model)
        holding = asyncio.create_task(self._held(intent, run_of))
        try:
            return await asyncio.shield(holding)
        except InsufficientCredits as error:
            raise _cannot_afford(plan, error.available, self._credits_url(caller), request.choices) from None
        except asyncio.CancelledError:
            await self._owed(self._let_go(holding))
            raise

    async def _held(self, intent: Intent, run_of: Callable[[Hold], Run]) -> Run:
        return run_of(await self._funds.hold(intent))

    async def _let_go(self, holding: asyncio.Task[Run]) -> None:
        """Nobody waits for this hold any more: gives it back once it is there."""
        await asyncio.wait({holding})
        if holding.exception() is None:
            await self._close(holding.result(), GenerationStatus.CANCELLED, None)

    async def _whole(self, exchange: Exchange, run: Run) -> None:
        # The client may leave; the provider works on and bills it, so the answer is waited for and charged all the same.
        answer = await self._owed(self._complete(run))
        await exchange.answer(200, {"content-type": "application/json"}, answer)

    async def _complete(self, run: Run) -> bytes:
        try:
            operation = run.skin.operation
            run.attempt, upstream = await self._dispatcher.complete(run.plan, run.request.body, run.trace, operation)
            run.meter = self._meter(run, run.attempt)
            answer = run.meter.embeddings(upstream) if operation == "embeddings" else run.meter.whole(upstream)
        except BursarError as error:
            await self._close(run, GenerationStatus.FAILED, error)
            raise
        except BaseException:
            await self._close(run, GenerationStatus.FAILED, Broken("Internal Server Error"))
            raise
        cost = await self._close(run, GenerationStatus.OK, None)
        answer["usage"] = usage_object(run.meter.usage()[0], cost)
        if run.trace.wanted:
            answer["openrouter_metadata"] = run.trace.metadata()
        return run.skin.whole(run.request, answer)

    async def _stream(self, exchange: Exchange, run: Run) -> None:
        failure: BursarError | None = None
        status = GenerationStatus.OK
        late: list[Chunk] = []
        writer = run.skin.writer(run.request, run.generation, int(run.hold.opened_at.timestamp()))
        try:
            await exchange.while_connected(self._relay(exchange, run, writer, late), writer.keepalive)
        except ClientGone:
            status = GenerationStatus.CANCELLED
        except BursarError as error:
            failure, status = error, GenerationStatus.FAILED
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            await self._owed(self._close(run, GenerationStatus.CANCELLED if left else GenerationStatus.FAILED, None))
            raise
        cost = await self._owed(self._close(run, status, failure))
        if status is GenerationStatus.CANCELLED:
            return
        if failure is not None and not exchange.started and not (run.meter is not None and run.meter.has_output):
            raise failure  # of an answer that had begun, its words are charged and go out before the error
        end = b"".join(writer.chunk(chunk) for chunk in late)
        if failure is not None:
            end += writer.failed(failure)
        closing = run.meter.closing(usage_object(run.meter.usage()[0], cost)) if run.meter is not None else None
        if closing is not None and run.trace.wanted:
            closing["openrouter_metadata"] = run.trace.metadata()
        await exchange.write(end + writer.end(closing), last=True)

    async def _relay(self, exchange: Exchange, run: Run, writer: Writer, late: list[Chunk]) -> None:
        """Hands chunks on. Those from the end of the answer on go to `late`: they wait for the settlement."""
        opened = await self._dispatcher.open(run.plan, run.request.body, run.trace)
        run.attempt = opened.attempt
        run.meter = meter = self._meter(run, opened.attempt)
        covered = opened.attempt.completion_tokens
        is_cut = False
        async with aclosing(opened.rest):
            batch: list[Chunk] | None = opened.begun
            while batch is not None:
                out: list[bytes] = []
                for chunk in batch:
                    try:
                        ours = meter.take(chunk)
                    except UpstreamFailed:
                        # Junk that nobody had read yet. What came before it is charged, so it is handed on.
                        await exchange.write(b"".join(out))
                        raise
                    # Bytes are an upper bound of visible tokens: the hold is extended before more than it covers is handed on.
                    missing = meter.pieces_bytes - covered
                    if missing > 0 and not meter.is_finished and run.request.max_tokens is None:
                        extra = -(-missing // STREAM_TOKENS) * STREAM_TOKENS
                        if not await self._extend(run, opened.attempt, extra):
                            late.append(meter.cut())
                            is_cut = True
                            break
                        covered += extra
                    if ours is not None and (late or meter.is_finished):
                        late.append(ours)
                    elif ours is not None:
                        out.append(writer.chunk(ours))
                if run.first_token is None and meter.has_output:
                    run.first_token = self._clock.monotonic()
                await exchange.write(b"".join(out))
                if is_cut:
                    return
                batch = await anext(opened.rest, None)

    async def _extend(self, run: Run, attempt: Attempt, tokens: int) -> bool:
        """By the price of so many more tokens, in a task of its own: a cancelled request must not leave it half done."""
        run.extension = asyncio.create_task(self._funds.extend(run.hold, output_bound(attempt.pricing, tokens)))
        return await asyncio.shield(run.extension)

    async def _close(self, run: Run, status: GenerationStatus, failure: BursarError | None) -> Nanos:
        """Settles, or voids where nothing came of it; returns what was charged."""
        if run.extension is not None:
            await asyncio.gather(run.extension, return_exceptions=True)
        usage, source = run.meter.usage() if run.meter is not None else (Usage(requests=0), UsageSource.NONE)
        if run.attempt is not None:
            tokens = usage.completion_tokens if status is GenerationStatus.OK else None
            self._dispatcher.ended(run.attempt, run.trace, failure, tokens)
        failed_empty = status is not GenerationStatus.OK and (run.meter is None or not run.meter.has_output)
        if failed_empty:
            usage, source = Usage(requests=0), UsageSource.NONE
        elif source is UsageSource.NONE:
            usage = Usage()
        generation = self._generation(run, status, failure, usage, source)
        if failed_empty:
            await self._funds.void(run.hold, generation)
            return Nanos(0)
        return await self._funds.settle(run.hold, generation)

    def _generation(
        self, run: Run, status: GenerationStatus, failure: BursarError | None, usage: Usage, source: UsageSource
    ) -> Generation:
        endpoint = run.attempt.endpoint if run.attempt is not None else None
        pricing = run.attempt.pricing if run.attempt is not None else None
        finish = run.meter.finish_reason if run.meter is not None else None
        return Generation(
            owner_id=run.caller.owner,
            id=run.generation,
            created_at=run.hold.opened_at,
            key_id=run.caller.key,
            user_id=run.caller.user,
            status=status,
            requested_model=run.plan.model[:120],
            model=endpoint.model.id if endpoint is not None else run.plan.model[:120],
            provider=endpoint.provider.slug if endpoint is not None else None,
            endpoint_id=endpoint.id if endpoint is not None else None,
            upstream_id=run.meter.upstream_id if run.meter is not None else None,
            api_type=run.skin.api_type,
            streamed=run.request.stream,
            cancelled=status is GenerationStatus.CANCELLED,
            error_status=failure.status if failure is not None else None,
            finish_reason="error" if status is GenerationStatus.FAILED else finish,
            native_finish_reason=run.meter.native_finish_reason if run.meter is not None else None,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cost_nanos=charge(pricing, usage) if pricing is not None else Nanos(0),
            usage_source=source,
            price_version=pricing.version if pricing is not None else None,
            first_token_ms=None if run.first_token is None else int((run.first_token - run.begun) * 1000),
            duration_ms=int((self._clock.monotonic() - run.begun) * 1000),
            attempts=json.dumps(run.trace.tried),
            http_referer=run.headers.http_referer,
            app_title=run.headers.app_title,
            user_agent=run.headers.user_agent,
            external_user=run.request.external_user,
            session_id=run.request.session_id,
        )

    def _meter(self, run: Run, attempt: Attempt) -> Meter:
        return Meter(run.plan, attempt, generation=run.generation, created=int(self._clock.now().timestamp()))

    async def _owed(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs to its end in a task of its own: a client that disconnects cancels the request, never what it owes."""
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return await asyncio.shield(task)

    async def _refuse(
        self, exchange: Exchange, skin: Skin, error: BursarError, generation: GenerationId, trace: Trace
    ) -> None:
        if not exchange.started:
            status, headers, body = skin.refusal(error, generation)
            if trace.wanted and trace.requested:
                body = with_field(body, "openrouter_metadata", trace.metadata())
            await exchange.answer(status, headers, body)


def _demand(request: ChatRequest, operation: Operation, caller: Caller) -> Demand:
    return Demand(
        models=request.models,
        prompt_tokens=request.prompt_tokens_bound,
        images=request.images,
        max_tokens=request.max_tokens,
        choices=request.choices,
        stream=request.stream,
        preferences=request.preferences,
        operation=operation,
        parameters=PARAMETERS.intersection(request.body),
        prompt_tokens_least=request.prompt_tokens_least,
        reasoning_tokens=request.reasoning_tokens,
        session=None if request.session_id is None else f"{caller.owner}/{request.session_id}",
    )


def _cannot_afford(plan: Plan, available: Nanos, credits_url: str, choices: int) -> InsufficientCredits:
    wanted = plan.completion_tokens
    affordable = affordable_tokens(plan, available)
    if affordable <= 0:
        sentence = f"Insufficient credits: {money.format_credits(available)} are available."
    else:
        sentence = (
            f"This request requires more credits, or fewer max_tokens. You requested up to {wanted // choices} tokens, "
            f"but can only afford {affordable // choices}."
        )
    return InsufficientCredits(sentence, available=available, remedy=f"Add credits at {credits_url}.")
