"""Stops 5 and 6 of a stream: what the provider sends goes on to the client as it comes, counted."""

from contextlib import aclosing
from functools import partial

from bursar.gateway._dispatch import OpenedStream
from bursar.gateway._exchange import Exchange
from bursar.gateway._meter import Meter
from bursar.gateway._run import Run
from bursar.gateway._skin import Writer
from bursar.gateway.plan import STREAM_TOKENS, Attempt
from bursar.providers import Chunk, Deltas, UpstreamFailed

PROGRESS_BYTES = 1_024
"""About 256 tokens: at most so much of a stream is lost to the house when the process dies."""
PROGRESS_SECONDS = 1.0  # seconds, not money


class Relay:
    """`late`: chunks from the end of the answer on; they wait for the settlement."""

    def __init__(self, exchange: Exchange, run: Run, writer: Writer) -> None:
        self.late: list[Chunk] = []
        self._exchange = exchange
        self._run = run
        self._writer = writer
        self._covered = 0
        """Output tokens that the hold covers so far."""
        self._is_cut = False
        self._noted_bytes = 0
        self._noted_at = run.clock.monotonic()

    async def run(self) -> None:
        """Returns at the end of the answer, or where the credits cover no more of it. Raises what `Dispatcher.open` raises and
        what the stream does."""
        run = self._run
        opened = await run.dispatcher.open(run.plan, run.request.body, run.trace)
        meter = run.measure(opened.attempt)
        self._covered = opened.attempt.completion_tokens
        if self._writer.splices:
            opened.pump.take = partial(self._take_at_once, meter)
        async with aclosing(opened.rest):
            await self._hand_on(opened, meter)

    async def _hand_on(self, opened: OpenedStream, meter: Meter) -> None:
        batch: list[Chunk | Deltas] | None = opened.begun
        while batch is not None:
            out: list[bytes] = []
            try:
                for item in batch:
                    await self._take(item, meter, opened.attempt, out)
            except UpstreamFailed:
                # Junk that nobody had read yet. What came before it is charged, so it is handed on.
                await self._exchange.write(b"".join(out))
                raise
            self._note(meter)
            await self._exchange.write(b"".join(out))
            if self._is_cut:
                return
            batch = await anext(opened.rest, None)

    def _take_at_once(self, meter: Meter, deltas: Deltas) -> bool:
        """Hands plain deltas on at the moment they arrive, where nothing has to be waited for; whether it did."""
        if self.late or self._is_cut or meter.is_finished:
            return False
        spliced = meter.splice(deltas)
        if spliced is None or self._missing(meter.tokens_most + spliced.text_bytes) > 0:
            return False
        if not self._exchange.write_at_once(spliced.data):
            return False
        meter.took(spliced)
        self._note(meter)
        return True

    def _note(self, meter: Meter) -> None:
        if self._run.first_token is None and meter.has_output:
            self._run.first_token = self._run.clock.monotonic()
        fresh = meter.tokens_most - self._noted_bytes
        now = self._run.clock.monotonic()
        if fresh >= PROGRESS_BYTES or (fresh and now - self._noted_at >= PROGRESS_SECONDS):
            self._noted_bytes, self._noted_at = meter.tokens_most, now
            self._run.note_progress(meter)

    async def _take(self, item: Chunk | Deltas, meter: Meter, attempt: Attempt, out: list[bytes]) -> None:
        if isinstance(item, Chunk):
            await self._take_one(item, meter, attempt, out)
            return
        if self._writer.splices and not self.late and not meter.is_finished:
            spliced = meter.splice(item)
            if spliced is not None and await self._covers(attempt, meter.tokens_most + spliced.text_bytes):
                meter.took(spliced)
                out.append(spliced.data)
                return
        for chunk in item.chunks():
            await self._take_one(chunk, meter, attempt, out)

    async def _take_one(self, chunk: Chunk, meter: Meter, attempt: Attempt, out: list[bytes]) -> None:
        if self._is_cut:
            return
        ours = meter.take(chunk)
        if not meter.is_finished and not await self._covers(attempt, meter.tokens_most):
            self.late.append(meter.cut())
            self._is_cut = True
        elif ours is not None and (self.late or meter.is_finished):
            self.late.append(ours)
        elif ours is not None:
            out.append(self._writer.chunk(ours))

    def _missing(self, tokens_most: int) -> int:
        """So many tokens more than the hold covers may have been written; what the client bounded is held for whole."""
        return 0 if self._run.request.max_tokens is not None else tokens_most - self._covered

    async def _covers(self, attempt: Attempt, tokens_most: int) -> bool:
        """Whether the hold covers so much output, extended if need be. Bytes are an upper bound of visible tokens: the hold is
        extended before more than it covers is handed on."""
        missing = self._missing(tokens_most)
        if missing <= 0:
            return True
        extra = -(-missing // STREAM_TOKENS) * STREAM_TOKENS
        if not await self._run.extend(attempt, extra):
            return False
        self._covered += extra
        return True
