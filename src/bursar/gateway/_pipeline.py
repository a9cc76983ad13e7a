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
import logging
from collections.abc import Callable, Mapping

from bursar.activity import GenerationStatus
from bursar.catalog import Catalog, Operation
from bursar.gateway._admit import Admission, Caller
from bursar.gateway._budgets import InsufficientCredits, name_of, remedy_of
from bursar.gateway._counts import CLIENT_LEFT, Counts, Tally
from bursar.gateway._dispatch import Dispatcher, Trace
from bursar.gateway._door import ChatRequest, ClientGone, Receive, Scope, read_body, read_headers
from bursar.gateway._exchange import Exchange, Send, ShuttingDown
from bursar.gateway._funds import Funds, Hold, Intent
from bursar.gateway._limits import ConcurrencyLimits, Places
from bursar.gateway._live import Live
from bursar.gateway._relay import Relay
from bursar.gateway._run import Run
from bursar.gateway._skin import ChatSkin, Skin
from bursar.gateway._skin_completions import CompletionsSkin
from bursar.gateway._skin_embeddings import EmbeddingsSkin
from bursar.gateway._skin_messages import CountTokensSkin, MessagesSkin
from bursar.gateway._skin_responses import ResponsesSkin
from bursar.gateway._state import JournalState
from bursar.gateway._uses import Uses
from bursar.gateway._wire import usage_object, with_field
from bursar.gateway.plan import PARAMETERS, Demand, Plan, affordable_tokens
from bursar.kernel import money
from bursar.kernel.clock import Clock
from bursar.kernel.errors import BursarError
from bursar.kernel.ids import GenerationId, new_generation_id

_log = logging.getLogger("bursar.gateway")


class PostOnly(BursarError):
    """The path takes requests to models only."""

    status = 405
    error_type = "invalid_request"


class Broken(BursarError):
    """A fault of ours; the log has it, the client does not."""


_SORRY = "Internal Server Error"
_JSON = {"content-type": "application/json"}

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
        live: Live,
        uses: Uses | None = None,
        limits: ConcurrencyLimits | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._admission = admission
        self._funds = funds
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._clock = clock
        self._credits_url = credits_url
        self._live = live
        self._uses = uses or Uses()
        self.counts = counts or Counts()
        self.places = Places(limits or ConcurrencyLimits())
        self.is_draining = False
        """No more requests are taken; those that run go on."""
        self._running: dict[asyncio.Task[None], Exchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send, None)

    async def serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller | None) -> None:
        """One request; `caller` is whoever another door has admitted, None for somebody whose key is yet to be read."""
        exchange = Exchange(receive, send)
        task = self.start(scope, exchange, caller)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            exchange.left()
            raise

    def start(
        self,
        scope: Scope,
        exchange: Exchange,
        caller: Caller | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Task[None]:
        """Answers in a task of its own, which nobody cancels: a client that leaves ends its stream, never what it owes.

        `loop` is the running one, for who knows it: asking asyncio costs a system call each time.
        """
        task = (loop or asyncio.get_running_loop()).create_task(self._serve(scope, exchange, caller))
        exchange.task = task
        self._running[task] = exchange
        task.add_done_callback(self._running.__delitem__)
        return task

    def tally(self, journal: JournalState | None) -> Tally:
        """What was counted until now, beside how the journal stands."""
        counts = self.counts
        return Tally(
            at=self._clock.now(),
            answered=dict(counts.answered),
            refused=dict(counts.refused),
            spent=counts.spent,
            batches=dict(counts.batches),
            running=self.places.taken,
            journal=journal,
        )

    async def finish(self) -> None:
        """Takes no more requests from now on, and returns when none runs."""
        self.is_draining = True
        while self._running:
            await asyncio.wait(self._running)

    def cut(self) -> None:
        """Whatever runs ends here: what arrived of it is charged, and the client is told."""
        self.is_draining = True
        for exchange in self._running.values():
            exchange.cut()

    async def drain(self) -> None:
        """Ends whatever runs, and returns when every settlement is made."""
        self.cut()
        await self.finish()

    async def caught_up(self) -> None:
        """Returns when what was answered until now can be read in the activity, or after a moment."""
        await self._funds.caught_up()

    async def _serve(self, scope: Scope, exchange: Exchange, caller: Caller | None) -> None:
        generation = new_generation_id(self._clock.now())
        exchange.generation = generation
        trace = Trace(self._clock)
        skin = self.skins[scope["path"].rstrip("/")]
        try:
            await self.handle(scope, exchange, generation, skin, trace, caller)
        except ClientGone:
            pass
        except BursarError as error:
            self.counts.refused[error.name] += 1
            await self._refuse(exchange, skin, error, generation, trace)
        except Exception:  # noqa: BLE001 - the last resort: whatever it is, the client gets a whole answer without it
            _log.exception("request %s failed", generation)
            self.counts.refused[Broken.__name__] += 1
            await self._refuse(exchange, skin, Broken(_SORRY), generation, trace)
        finally:
            self.counts.answered[exchange.status or CLIENT_LEFT] += 1

    async def handle(
        self,
        scope: Scope,
        exchange: Exchange,
        generation: GenerationId,
        skin: Skin,
        trace: Trace,
        admitted: Caller | None,
    ) -> None:
        begun = self._clock.monotonic()
        if self.is_draining:
            raise ShuttingDown
        if scope["method"] != "POST":
            raise PostOnly(f"{scope['method']} is not allowed here.", remedy="Send a POST with a JSON body.")
        self.places.require_room()
        headers = read_headers(scope)
        trace.wanted = headers.wants_metadata
        caller = admitted or await self._admission.admit_inference(headers.authorization)
        self._uses.note(caller, scope)
        self.places.take(caller)
        self._live.add(exchange, caller)
        try:
            request = skin.parse(await read_body(scope, exchange.receive), headers)
            plan = self._dispatcher.plan(_demand(request, skin.operation, caller), self._catalog(), trace)
            hold = await self._hold(generation, caller, request, plan)
            run = Run(
                skin, generation, caller, headers, request, plan, hold, trace, begun,
                self._funds, self._dispatcher, self._clock, self.counts,
            )  # fmt: skip
            exchange.more_headers = run.headers_of_balance
            await (self._stream(exchange, run) if request.stream else self._whole(exchange, run))
        finally:
            self._live.remove(exchange)
            self.places.give_back(caller)

    async def _hold(self, generation: GenerationId, caller: Caller, request: ChatRequest, plan: Plan) -> Hold:
        price_version = plan.attempts[0].pricing.version
        intent = Intent(caller.owner, generation, plan.ceiling, price_version, caller.key, caller.user, plan.model)
        try:
            return await self._funds.hold(intent)
        except InsufficientCredits as error:
            raise _cannot_afford(plan, error, self._credits_url(caller), request.choices) from None

    async def _whole(self, exchange: Exchange, run: Run) -> None:
        # The client may leave; the provider works on and bills it, so the answer is waited for and charged all the same.
        try:
            operation = run.skin.operation
            completing = self._dispatcher.complete(run.plan, run.request.body, run.trace, operation)
            attempt, upstream = await exchange.wait_for(completing)
            meter = run.measure(attempt)
            answer = meter.embeddings(upstream) if operation == "embeddings" else meter.whole(upstream)
        except BaseException as error:
            await run.close(GenerationStatus.FAILED, error if isinstance(error, BursarError) else Broken(_SORRY))
            raise
        cost = await run.close(GenerationStatus.OK, None)
        answer["usage"] = usage_object(run.usage, cost)
        if run.trace.wanted:
            answer["openrouter_metadata"] = run.trace.metadata()
        await exchange.answer(200, _JSON, run.skin.whole(run.request, answer))

    async def _stream(self, exchange: Exchange, run: Run) -> None:
        failure: BursarError | None = None
        status = GenerationStatus.OK
        writer = run.skin.writer(run.request, run.generation, int(run.hold.opened_at.timestamp()))
        relay = Relay(exchange, run, writer)
        try:
            await exchange.relay(relay.run(), writer.keepalive)
        except ClientGone:
            status = GenerationStatus.CANCELLED
        except BursarError as error:
            failure, status = error, GenerationStatus.FAILED
        except BaseException:
            await run.close(GenerationStatus.FAILED, None)
            raise
        cost = await run.close(status, failure)
        if status is GenerationStatus.CANCELLED:
            return
        if failure is not None and not exchange.started and not (run.meter is not None and run.meter.has_output):
            raise failure  # of an answer that had begun, its words are charged and go out before the error
        end = b"".join(writer.chunk(chunk) for chunk in relay.late)
        if failure is not None:
            end += writer.failed(failure)
        closing = run.meter.closing(usage_object(run.usage, cost)) if run.meter is not None else None
        if closing is not None and run.trace.wanted:
            closing["openrouter_metadata"] = run.trace.metadata()
        await exchange.write(end + writer.end(closing), last=True)

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
        sounds=request.sounds,
        extras=request.extras,
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


def _cannot_afford(plan: Plan, error: InsufficientCredits, credits_url: str, choices: int) -> InsufficientCredits:
    """Says what binds, the credits or a limit, and how many tokens it would pay for."""
    wanted, available, use = plan.completion_tokens, error.available, error.use
    affordable = affordable_tokens(plan, available)
    if affordable <= 0 and use is not None:
        sentence = f"This request could cost more than the {money.format_exact(available)} that are free of the {name_of(use.limit)}."
    elif affordable <= 0:
        sentence = f"Insufficient credits: {money.format_credits(available)} are available."
    else:
        sentence = (
            f"This request requires more credits, or fewer max_tokens. You requested up to {wanted // choices} tokens, "
            f"but can only afford {affordable // choices}."
        )
    if use is not None:
        remedy = f"What binds is the {name_of(use.limit)} of {money.format_credits(use.limit.amount)}. {remedy_of(use)}"
    else:
        remedy = f"Add credits at {credits_url}."
    return InsufficientCredits(sentence, available=available, remedy=remedy, use=use)
