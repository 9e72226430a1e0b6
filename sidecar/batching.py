"""Joins the token windows of concurrent calls into batches of near-equal length.

There is no waiting for a batch to fill: while the engine computes one batch, what arrives gathers for the next, so a
single text is never held back and a busy engine always gets full batches. Interactive windows go first, then the many
variants of a text that is explained, then backfill. Within each, calls take turns: one with very many windows, as long
texts have, gets some into a batch and then goes behind all others, also those that come while that batch is computed.

A batch that the engine answers with an error is halved between its calls until the call at fault stands alone.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sidecar import limits, request_id
from sidecar.engines import Engine
from sidecar.errors import DeadlineError, InternalError, MotiveError

BUCKETS = (8, *range(12, 65, 4), *range(72, 129, 8), *range(144, 257, 16), *range(288, 513, 32))
"""Lengths, in tokens, that windows are sorted by: a batch is of one bucket, so that little of it is padding."""

INTERACTIVE, EXPLAIN, BACKFILL = 0, 1, 2

log = logging.getLogger(__name__)


class Job:
    """The windows of one call, and the logits that have come back for them."""

    def __init__(self, windows: Sequence[NDArray[np.int64]], priority: int, deadline: float | None) -> None:
        self.windows = windows
        self.priority = priority
        self.deadline = deadline
        self.request_id = request_id.current.get()
        self.waiting: dict[int, deque[int]] = {}
        """By bucket, the positions of the windows that are in no batch yet."""
        self.logits: NDArray[np.float32] | None = None
        self.left = len(windows)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def accept(self, positions: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Takes the logits [len(positions), outputs] of some of the windows."""
        if self.done.done():
            return
        if self.logits is None:
            self.logits = np.empty((len(self.windows), rows.shape[1]), dtype=np.float32)
        self.logits[list(positions)] = rows
        self.left -= len(positions)
        if self.left == 0:
            self.done.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Ends the job with an error; its remaining windows are dropped."""
        if not self.done.done():
            self.done.set_exception(error)


Entry = tuple[Job, int]
"""The job, and the window's position in it."""


class Line:
    """The jobs of one priority that have windows in no batch yet."""

    def __init__(self) -> None:
        self._turns: OrderedDict[Job, None] = OrderedDict()
        """In the order in which they choose what the next batch is of."""
        self._served: dict[Job, None] = {}
        """Those that have given windows since the last choice; at the next they go behind all others."""
        self._buckets: OrderedDict[int, OrderedDict[Job, None]] = OrderedDict()
        """The one chosen last at the end; in each, its jobs in the order in which they give a window to a batch."""

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, job: Job) -> None:
        """Puts a job with all its windows at the end."""
        for position, window in enumerate(job.windows):
            job.waiting.setdefault(bucket(len(window)), deque()).append(position)
        self._turns[job] = None
        for length in job.waiting:
            self._buckets.setdefault(length, OrderedDict())[job] = None

    def forget(self, job: Job) -> None:
        """Drops what still waits of a job that nobody waits for: it may stand behind others for very long."""
        self._turns.pop(job, None)
        self._served.pop(job, None)
        for length in job.waiting:
            self._buckets[length].pop(job)
        job.waiting.clear()

    def choose(self) -> int:
        """The bucket of the next batch, which the job whose turn it is will be first in."""
        for job in self._served:
            self._turns.move_to_end(job)
        self._served.clear()
        job = next(iter(self._turns))
        # Of its buckets the one that was not chosen for longest: it holds most of other jobs' windows.
        length = next(length for length in self._buckets if length in job.waiting)
        self._buckets.move_to_end(length)
        self._buckets[length].move_to_end(job, last=False)
        return length

    def take(self, length: int, most: int) -> list[Entry]:
        """Takes up to `most` windows of the bucket, one of each job in turn."""
        jobs = self._buckets.get(length, OrderedDict())
        taken: list[Entry] = []
        while jobs and len(taken) < most:
            job, _ = jobs.popitem(last=False)
            positions = job.waiting[length]
            position = positions.popleft()
            if not job.done.done():
                taken.append((job, position))
            if positions:
                jobs[job] = None
            else:
                del job.waiting[length]
            if job.waiting:
                self._served[job] = None
            else:
                del self._turns[job]
                self._served.pop(job, None)
        return taken


class Batcher:
    """Feeds one engine. `on_batch` is told rows and padded length of each batch, for the metrics."""

    def __init__(
        self,
        engine: Engine,
        *,
        batch_tokens: int = limits.BATCH_TOKENS,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._batch_tokens = batch_tokens
        self._on_batch = on_batch or (lambda rows, tokens: None)
        self._lines = (Line(), Line(), Line())
        """By priority."""
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(engine.parallel)
        self._feeders: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts feeding; needs a running event loop."""
        self._feeders = [asyncio.create_task(self._feed()) for _ in range(self._engine.parallel)]

    async def close(self) -> None:
        """Stops feeding. Jobs still waiting are abandoned: drain the server first."""
        for feeder in self._feeders:
            feeder.cancel()
        await asyncio.gather(*self._feeders, return_exceptions=True)

    async def infer(
        self, windows: Sequence[NDArray[np.int64]], *, priority: int = INTERACTIVE, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """windows: vectors of token ids -> logits [windows, outputs]; `deadline` is in time.monotonic() seconds."""
        job = Job(windows, priority, deadline)
        try:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            async with asyncio.timeout(timeout):
                if len(windows) == 1 and not self._arrived.is_set() and not self._slots.locked():
                    # Nobody waits and the engine is idle: the way through a feeder would only take time.
                    async with self._slots:
                        await self._compute([(job, 0)], bucket(len(windows[0])), in_person=True)
                else:
                    self._lines[priority].add(job)
                    self._arrived.set()
                await job.done
        except TimeoutError:
            raise DeadlineError("the deadline passed before the model answered") from None
        finally:
            if job.left:
                self._lines[priority].forget(job)
            job.done.cancel()
        assert job.logits is not None
        return job.logits

    async def _feed(self) -> None:
        while True:
            await self._arrived.wait()
            async with self._slots:
                batch, length = self._next_batch()
                if batch:
                    await self._compute(batch, length)
                elif not any(self._lines):
                    self._arrived.clear()

    def _next_batch(self) -> tuple[list[Entry], int]:
        """The next entries, of one bucket, and the length to pad them to.

        The first priority that waits chooses the bucket and goes first; lower ones fill what room is left.
        """
        first = next((line for line in self._lines if line), None)
        if first is None:
            return [], 0
        length = first.choose()
        most = max(1, min(self._batch_tokens // length, limits.BATCH_ROWS))
        batch: list[Entry] = []
        for line in self._lines:
            batch += line.take(length, most - len(batch))
        return batch, length

    async def _compute(self, batch: list[Entry], length: int, *, in_person: bool = False) -> None:
        """Accepts for the batch's jobs what the engine says, or refuses them; `in_person`: in the only caller's task.

        Never raises anything but its own cancellation: a feeder that ended would leave every later call hanging.
        """
        if self._engine.any_length:
            length = max(len(job.windows[position]) for job, position in batch)
        ids = np.full((len(batch), length), self._engine.repository.manifest.tokens.pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        jobs: dict[Job, list[int]] = {}
        for row, (job, position) in enumerate(batch):
            window = job.windows[position]
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
            jobs.setdefault(job, []).append(row)
        self._on_batch(len(batch), length)
        try:
            logits = await self._infer(ids, mask, list(jobs), in_person)
            for job, rows in jobs.items():
                job.accept([batch[row][1] for row in rows], logits[rows])
            return
        except InternalError as error:
            fault: MotiveError = error
        except MotiveError as error:
            for job in jobs:
                job.refuse(error)
            return
        except Exception as error:
            requests = request_id.of_batch(job.request_id for job in jobs)
            log.error("the batch of requests %s failed: %s", requests, type(error).__name__)
            fault = InternalError(f"the batch failed: {type(error).__name__}")
        waiting = [job for job in jobs if not job.done.done()]
        if len(waiting) == 1:
            waiting[0].refuse(fault)
            return
        middle = len(waiting) // 2
        for half in (waiting[:middle], waiting[middle:]):
            if half:
                await self._compute([entry for entry in batch if entry[0] in half], length)

    async def _infer(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], jobs: Sequence[Job], in_person: bool
    ) -> NDArray[np.float32]:
        """Calls the engine with the latest of the jobs' deadlines, and gives up when every caller has."""
        deadlines = [job.deadline for job in jobs]
        latest = None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
        timeout = None if latest is None else max(0.001, latest - time.monotonic())
        priority = min(job.priority for job in jobs)
        request_id.current.set(request_id.of_batch(job.request_id for job in jobs))
        if in_person or not self._engine.cancellable:
            return await self._engine.infer(ids, mask, timeout_s=timeout, priority=priority)
        call = asyncio.ensure_future(self._engine.infer(ids, mask, timeout_s=timeout, priority=priority))
        waiting = len(jobs)

        def one_has_gone(_: asyncio.Future[None]) -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                call.cancel()

        for job in jobs:
            job.done.add_done_callback(one_has_gone)
        try:
            return await call
        except asyncio.CancelledError:
            feeder = asyncio.current_task()
            if waiting or (feeder is not None and feeder.cancelling()):
                raise
            raise DeadlineError("every caller has given up") from None
        finally:
            for job in jobs:
                job.done.remove_done_callback(one_has_gone)


def bucket(length: int) -> int:
    """The least bucket that holds `length` tokens; above the last one, the next multiple of 128."""
    return next((size for size in BUCKETS if size >= length), -(-length // 128) * 128)
