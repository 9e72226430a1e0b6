"""The batcher: who shares a batch, in which order, and what happens when the engine fails or the caller leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar import request_id
from sidecar.batching import BACKFILL, BUCKETS, EXPLAIN, INTERACTIVE, Batcher, bucket
from sidecar.engines import Backend
from sidecar.errors import DeadlineError, InternalError, UnavailableError
from sidecar.repository import Repository, open_repository
from tests.fixtures.waiting import async_wait_until

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class ScriptedEngine:
    """Answers each row with its first token; waits at a gate, and does what a test tells it to."""

    name = "scripted"
    parallel = 1

    def __init__(self, repository: Repository, *, cancellable: bool = False, any_length: bool = False) -> None:
        self.repository = repository
        self.cancellable = cancellable
        self.any_length = any_length
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[tuple[int, int]] = []
        self.first_tokens: list[list[int]] = []
        self.ids: list[str] = []
        self.priorities: list[int] = []
        self.cancelled = 0
        self.act: Callable[[Floats], Floats] = lambda logits: logits

    async def infer(
        self, input_ids: Ids, attention_mask: Ids, *, timeout_s: float | None = None, priority: int = 0
    ) -> Floats:
        self.batches.append((input_ids.shape[0], input_ids.shape[1]))
        self.first_tokens.append(input_ids[:, 0].tolist())
        self.ids.append(request_id.current.get())
        self.priorities.append(priority)
        assert (attention_mask.sum(axis=1) > 0).all()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.act(input_ids[:, :1].astype(np.float32))

    async def ready(self) -> bool:
        return True

    def backends(self) -> Sequence[Backend]:
        return ()

    async def close(self) -> None:
        return


@pytest.fixture
def repository(tiny_repository: object) -> Repository:
    return open_repository(tiny_repository)  # type: ignore[arg-type]


@asynccontextmanager
async def running(engine: ScriptedEngine, batch_tokens: int = 2048) -> AsyncIterator[Batcher]:
    batcher = Batcher(engine, batch_tokens=batch_tokens)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


@asynccontextmanager
async def busy(engine: ScriptedEngine, batch_tokens: int = 2048) -> AsyncIterator[tuple[Batcher, asyncio.Task[Floats]]]:
    """A batcher whose engine computes window(0) until its gate opens, and that call."""
    engine.gate.clear()
    async with running(engine, batch_tokens) as batcher:
        head = asyncio.create_task(batcher.infer([window(0)]))
        await _until(lambda: len(engine.batches) == 1, "the first batch")
        yield batcher, head


def window(first: int, length: int = 5) -> Ids:
    return np.full(length, first, dtype=np.int64)


def test_a_bucket_holds_its_length_and_is_not_much_longer() -> None:
    for length in range(1, 2000):
        assert bucket(length) >= length
        assert bucket(length) - length < max(8, length / 4) or length > BUCKETS[-1]
    assert bucket(BUCKETS[-1] + 1) == 640


async def test_where_any_length_will_do_a_batch_is_no_longer_than_its_longest_window(repository: Repository) -> None:
    for any_length, expected in ((True, 101), (False, 104)):
        engine = ScriptedEngine(repository, any_length=any_length)
        async with running(engine) as batcher:
            await batcher.infer([window(1, 101), window(2, 98)])
        assert engine.batches == [(2, expected)]


async def test_answers_come_back_in_the_order_of_the_windows(repository: Repository) -> None:
    async with running(ScriptedEngine(repository)) as batcher:
        windows = [window(i, length=1 + (i * 7) % 40) for i in range(300)]
        logits = await batcher.infer(windows)
    assert logits[:, 0].tolist() == list(range(300))


async def test_what_arrives_while_a_batch_is_computed_shares_the_next_one(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine) as (batcher, first):
        rest = [asyncio.create_task(batcher.infer([window(i)])) for i in range(1, 9)]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *rest)
    assert engine.batches == [(1, 8), (8, 8)]


async def test_lengths_are_not_mixed_and_the_longest_waiting_goes_first(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine) as (batcher, head):
        tasks = [head]
        for first, length in ((1, 100), (2, 5), (3, 100), (4, 5)):
            tasks.append(asyncio.create_task(batcher.infer([window(first, length)])))
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
    assert engine.first_tokens[1:] == [[1, 3], [2, 4]]
    assert engine.batches[1:] == [(2, 104), (2, 8)]


async def test_a_call_of_very_many_windows_holds_short_ones_up_for_no_more_than_the_batch_being_computed(
    repository: Repository,
) -> None:
    """Its own batches are as full as ever."""
    engine = ScriptedEngine(repository)
    engine.gate.clear()
    async with running(engine, batch_tokens=128) as batcher:
        long = asyncio.create_task(batcher.infer([window(100 + i, length=64) for i in range(40)]))
        await _until(lambda: engine.first_tokens == [[100, 101]], "the long call's first batch")
        shorts = [asyncio.create_task(batcher.infer([one])) for one in (window(1, length=64), window(2))]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(long, *shorts)
    assert engine.first_tokens[1:4] == [[1, 102], [2], [103, 104]]
    assert len(engine.batches) == 20 + 1 + 1


async def test_calls_take_turns_and_none_starves(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine, batch_tokens=16) as (batcher, head):
        tasks = [head]
        for windows in (
            [window(10), window(11), window(12), window(13, 16), window(14, 16)],
            [window(20), window(21), window(22)],
            [window(30, 16)],
        ):
            tasks.append(asyncio.create_task(batcher.infer(windows)))
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
    assert engine.first_tokens[1:] == [[10, 20], [30], [11, 21], [13], [22, 12], [14]]


async def test_interactive_windows_go_before_backfill_and_backfill_fills_the_room(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine, batch_tokens=24) as (batcher, head):
        tasks = [head]
        for priority, firsts in ((BACKFILL, (10, 11, 12)), (INTERACTIVE, (1, 2))):
            tasks.append(asyncio.create_task(batcher.infer([window(i) for i in firsts], priority=priority)))
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
    assert engine.first_tokens[1:] == [[1, 2, 10], [11, 12]]
    assert engine.priorities == [INTERACTIVE, INTERACTIVE, BACKFILL]


async def test_variants_of_an_explained_text_wait_for_texts_to_classify_and_go_before_backfill(
    repository: Repository,
) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine, batch_tokens=16) as (batcher, head):
        tasks = [head]
        for priority, firsts in ((BACKFILL, (31, 32)), (EXPLAIN, (21, 22)), (INTERACTIVE, (11, 12))):
            tasks.append(asyncio.create_task(batcher.infer([window(i) for i in firsts], priority=priority)))
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
    assert engine.first_tokens == [[0], [11, 12], [21, 22], [31, 32]]


async def test_a_batch_never_holds_more_tokens_or_rows_than_allowed(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with running(engine, batch_tokens=1_000_000) as batcher:
        await batcher.infer([window(i) for i in range(600)])
    assert max(rows for rows, _ in engine.batches) == 256


async def test_a_failed_batch_fails_its_callers_and_no_later_one(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with running(engine) as batcher:
        for error, seen in ((UnavailableError("away"), UnavailableError), (ValueError("a defect"), InternalError)):
            engine.act = _raise(error)
            with pytest.raises(seen):
                await batcher.infer([window(1)])
        engine.act = lambda logits: logits[:0]
        with pytest.raises(InternalError):
            await batcher.infer([window(1)])
        engine.act = lambda logits: logits
        assert (await batcher.infer([window(3)])).tolist() == [[3.0]]


async def test_a_call_that_the_engine_cannot_answer_fails_alone(repository: Repository) -> None:
    """Strangers whose windows shared its batch are answered, after few further batches."""
    engine = ScriptedEngine(repository)

    def act(logits: Floats) -> Floats:
        if 13 in logits:
            raise InternalError("cannot read 13")
        return logits

    engine.act = act
    async with busy(engine) as (batcher, head):
        rest = [asyncio.create_task(batcher.infer([window(i), window(i)])) for i in range(1, 33)]
        await asyncio.sleep(0)
        engine.gate.set()
        answers = await asyncio.gather(head, *rest, return_exceptions=True)
    assert isinstance(answers.pop(13), InternalError)
    assert all(isinstance(answer, np.ndarray) for answer in answers)
    assert len(engine.batches) <= 2 + 2 * 5


async def test_nothing_is_kept_of_callers_that_have_left(repository: Repository) -> None:
    """Behind others they might wait for ever, and more with every caller."""
    engine = ScriptedEngine(repository)
    async with busy(engine) as (batcher, head):
        for priority in (INTERACTIVE, EXPLAIN, BACKFILL):
            stays = asyncio.create_task(batcher.infer([window(1)], priority=priority))
            leaves = asyncio.create_task(batcher.infer([window(2), window(3, 40)], priority=priority))
            await asyncio.sleep(0)
            leaves.cancel()
            await asyncio.gather(leaves, return_exceptions=True)
            assert len(batcher._lines[priority]) == 1
            assert [len(jobs) for jobs in batcher._lines[priority]._buckets.values()] == [1, 0]
            stays.cancel()
        engine.gate.set()
        await head


async def test_a_lone_call_of_an_idle_engine_does_not_wait_for_a_feeder(repository: Repository) -> None:
    """It counts as one of the batches computed at once, and those that come meanwhile follow it."""
    engine = ScriptedEngine(repository)
    batcher = Batcher(engine)
    assert (await batcher.infer([window(7)])).tolist() == [[7.0]], "nobody feeds"
    engine.gate.clear()
    async with running(engine) as batcher:
        alone = asyncio.create_task(batcher.infer([window(0)]))
        await asyncio.sleep(0)
        rest = [asyncio.create_task(batcher.infer([window(i)])) for i in (1, 2)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert engine.first_tokens[1:] == [[0]]
        with pytest.raises(DeadlineError):
            await batcher.infer([window(3)], deadline=time.monotonic())
        alone.cancel()
        await _until(lambda: len(engine.batches) == 3, "the two that waited")
        engine.gate.set()
        await asyncio.gather(*rest)
    assert engine.first_tokens[1:] == [[0], [1, 2]]


async def test_a_deadline_ends_the_wait_and_what_was_queued_is_dropped(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    async with busy(engine) as (batcher, first):
        with pytest.raises(DeadlineError):
            await batcher.infer([window(1)], deadline=time.monotonic() + 0.05)
        engine.gate.set()
        await first
        await batcher.infer([window(2)])
    assert engine.first_tokens == [[0], [2]]


async def test_a_batch_whose_callers_have_all_left_is_cancelled_where_that_frees_something(
    repository: Repository,
) -> None:
    """F16 the batcher's part."""
    engine = ScriptedEngine(repository, cancellable=True)
    async with busy(engine) as (batcher, call):
        call.cancel()
        await _until(lambda: engine.cancelled == 1, "the engine to be told")
        engine.gate.set()
        assert (await batcher.infer([window(5)])).tolist() == [[5.0]]


async def test_a_batch_with_one_caller_left_goes_on(repository: Repository) -> None:
    engine = ScriptedEngine(repository, cancellable=True)
    async with busy(engine) as (batcher, head):
        leaves, stays = (asyncio.create_task(batcher.infer([window(i)])) for i in (1, 2))
        await asyncio.sleep(0)
        engine.gate.set()
        await head
        leaves.cancel()
        assert (await stays).tolist() == [[2.0]]
    assert engine.cancelled == 0


async def test_a_batch_carries_the_ids_of_its_requests(repository: Repository) -> None:
    engine = ScriptedEngine(repository)
    engine.gate.clear()

    async def ask(id_: str) -> None:
        request_id.current.set(id_)
        await batcher.infer([window(1)])

    async with running(engine) as batcher:
        tasks = [asyncio.create_task(ask("a"))]
        await _until(lambda: len(engine.batches) == 1, "the first batch")
        tasks += [asyncio.create_task(ask(id_)) for id_ in ("b", "c")]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
    assert engine.ids == ["a", "b,c"]


def test_very_many_ids_are_cut_short() -> None:
    assert request_id.of_batch(str(i) for i in range(20)) == "0,1,2,3,4,5,6,7,+12"
    assert request_id.of_batch(["a", "", "a"]) == "a"


def _raise(error: Exception) -> Callable[[Floats], Floats]:
    def act(logits: Floats) -> Floats:
        raise error

    return act


async def _until(condition: Callable[[], bool], description: str) -> None:
    async def fetch() -> bool:
        return condition()

    await async_wait_until(fetch, bool, 5, description)
