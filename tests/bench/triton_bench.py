"""What Triton costs beside the embedded engine on the same cores, and what overload costs those who were admitted.

A real Triton with the Python backend runs the same model.onnx in the same ONNX Runtime, so that the difference is the
way there and back. Both engines answer in turn, so that the machine's noise falls on both.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table

from sidecar.pb import motive_pb2 as pb
from sidecar.pb.motive_pb2_grpc import MotiveStub
from sidecar.released import released_model
from tests.bench.bars import Bar, print_bars
from tests.bench.timing import Timing, interleaved
from tests.fixtures.sidecar_process import SidecarProcess, start_sidecar
from tests.fixtures.triton_process import triton_engine, tritons

CORPUS = Path(__file__).parents[2] / "trainer" / "corpus"
SHORT = "The old kettle leaks, so we need one that lasts, number {}"
EMBEDDED, TRITON = "embedded ONNX Runtime", "through Triton"
ROUNDS = 200
TEXTS = 1_000
TOGETHER = 256
IN_FLIGHT = 2
THROUGHPUT_ROUNDS = 3

CALLERS = 16
CALL_TEXTS = 4
WARM_UP_S = 2.0
OVERLOAD_S = 15.0
BACK_OFF_S = 0.05
"""What a refused caller waits, as every client of ours does."""


def run(console: Console) -> None:
    """Prints the tables of the README."""
    with servers() as sidecars:
        bars = [_latency(console, sidecars), _throughput(console, sidecars)]
    with servers("--max-admitted-texts", str(CALLERS * CALL_TEXTS)) as sidecars:
        bars += _overload(console, sidecars)
    print_bars(console, bars)


@contextmanager
def servers(*flags: str) -> Iterator[dict[str, SidecarProcess]]:
    """A sidecar for each engine, by its name, none with a cache; everything is gone afterwards."""
    model = released_model()
    with tempfile.TemporaryDirectory(prefix="m-", dir="/tmp") as folder, tritons() as make:
        urls = {EMBEDDED: f"onnx:{model}", TRITON: triton_engine([make(model).start("motive")], model)}
        sidecars: dict[str, SidecarProcess] = {}
        try:
            for place, (name, url) in enumerate(urls.items()):
                (directory := Path(folder) / str(place)).mkdir()
                sidecars[name] = start_sidecar(directory, url, flags=["--cache-texts", "0", *flags])
            for sidecar in sidecars.values():
                sidecar.wait_serving()
            yield sidecars
        finally:
            for sidecar in sidecars.values():
                sidecar.close()


def _latency(console: Console, sidecars: dict[str, SidecarProcess]) -> Bar:
    calls = {name: _short(sidecar.stub()) for name, sidecar in sidecars.items()}
    timings = interleaved(calls, rounds=ROUNDS)
    first, second = timings.values()
    table = Table(title="One short text, the sidecar called over its socket, in milliseconds")
    for column in ("engine", "p50", "p99", "p50 above the embedded"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, timing in timings.items():
        table.add_row(name, f"{timing.p50:.2f}", f"{timing.p99:.2f}", f"{timing.p50 - first.p50:+.2f}")
    console.print(table)
    return Bar("one text through Triton, above the embedded, p50", second.p50 - first.p50, 1.5, "ms")


def _short(stub: MotiveStub) -> Callable[[int], object]:
    return lambda number: stub.Classify(pb.ClassifyRequest(texts=[SHORT.format(number)]), timeout=30)


def _throughput(console: Console, sidecars: dict[str, SidecarProcess]) -> Bar:
    texts = corpus_texts()
    rates: dict[str, list[float]] = {name: [] for name in sidecars}
    for _ in range(THROUGHPUT_ROUNDS):
        for name, sidecar in sidecars.items():
            started = time.perf_counter()
            asyncio.run(_all(sidecar.target, texts))
            rates[name].append(len(texts) / (time.perf_counter() - started))
    first, second = (max(values) for values in rates.values())
    table = Table(title=f"{TEXTS:,} texts of the corpus, {IN_FLIGHT} requests of {TOGETHER} in flight")
    for column in ("engine", "texts/s, best of 3", "of the embedded"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, values in rates.items():
        table.add_row(name, f"{max(values):.0f}", f"{max(values) / first:.0%}")
    console.print(table)
    return Bar("many texts through Triton, share of the embedded", 100 * second / first, 80, "%", least=True)


def corpus_texts() -> list[str]:
    """Every so many lines of the whole corpus."""
    lines = [line for path in sorted(CORPUS.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [str(json.loads(line)["text"]) for line in lines[:: len(lines) // TEXTS]][:TEXTS]


async def _all(target: str, texts: list[str]) -> None:
    parts = iter([texts[start : start + TOGETHER] for start in range(0, len(texts), TOGETHER)])

    async def one_after_the_other(stub: MotiveStub) -> None:
        for part in parts:
            await stub.Classify(pb.ClassifyRequest(texts=part), timeout=300)

    async with grpc.aio.insecure_channel(target) as channel:
        stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
        await asyncio.gather(*(one_after_the_other(stub) for _ in range(IN_FLIGHT)))


@dataclass
class Outcome:
    """How long calls took, in milliseconds."""

    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


def _overload(console: Console, sidecars: dict[str, SidecarProcess]) -> list[Bar]:
    table = Table(title=f"Overload: {CALLERS} callers are admitted, three times as many call; milliseconds")
    for column in ("engine", "callers", "admitted", "p50", "p99", "refused", "p50 of a refusal", "p99 of a refusal"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    bars = []
    for name, sidecar in sidecars.items():
        asyncio.run(_load(sidecar.target, CALLERS, WARM_UP_S))
        once, thrice = (asyncio.run(_load(sidecar.target, factor * CALLERS, OVERLOAD_S)) for factor in (1, 3))
        for callers, outcome in ((CALLERS, once), (3 * CALLERS, thrice)):
            table.add_row(name, str(callers), *_cells(outcome.admitted, 0), *_cells(outcome.refused, 1))
        refusal = Timing(thrice.refused).p99 if thrice.refused else float("nan")
        bars.append(Bar(f"overload, {name}: a refusal, p99", refusal, 50, "ms"))
        slower = Timing(thrice.admitted).p99 / Timing(once.admitted).p99
        bars.append(Bar(f"overload, {name}: who is admitted, p99, against no overload", slower, 2, "times"))
    console.print(table)
    return bars


def _cells(durations_ms: list[float], digits: int) -> tuple[str, str, str]:
    """How many, p50 and p99."""
    if not durations_ms:
        return "0", "–", "–"
    timing = Timing(durations_ms)
    return str(len(durations_ms)), f"{timing.p50:.{digits}f}", f"{timing.p99:.{digits}f}"


async def _load(target: str, callers: int, seconds: float) -> Outcome:
    """So many callers, each asking again as soon as it is answered."""
    outcome, numbers, end = Outcome(), itertools.count(), time.perf_counter() + seconds

    async def caller(stub: MotiveStub) -> None:
        while (started := time.perf_counter()) < end:
            texts = [SHORT.format(next(numbers)) for _ in range(CALL_TEXTS)]
            try:
                await stub.Classify(pb.ClassifyRequest(texts=texts), timeout=60)
                outcome.admitted.append((time.perf_counter() - started) * 1000)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                outcome.refused.append((time.perf_counter() - started) * 1000)
                await asyncio.sleep(BACK_OFF_S)

    async with grpc.aio.insecure_channel(target) as channel:
        stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
        await asyncio.gather(*(caller(stub) for _ in range(callers)))
    return outcome
