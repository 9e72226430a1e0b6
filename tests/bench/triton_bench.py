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
import numpy as np
from rich.console import Console
from rich.table import Table

from sidecar.pb import motive_pb2 as pb
from sidecar.pb.motive_pb2_grpc import MotiveStub
from sidecar.released import released_model
from tests.bench.timing import Timing, interleaved
from tests.fixtures.sidecar_process import SidecarProcess, start_sidecar
from tests.fixtures.triton_process import triton_engine, tritons

CORPUS = Path(__file__).parents[2] / "trainer" / "corpus"
SHORT = "The old kettle leaks, so we need one that lasts, number {}"
ROUNDS = 200
TEXTS = 1_000
TOGETHER = 256
IN_FLIGHT = 2
THROUGHPUT_ROUNDS = 3

CALLERS = 16
CALL_TEXTS = 4
OVERLOAD_S = 5.0
BACK_OFF_S = 0.05
"""What a refused caller waits, as every client of ours does."""


def run(console: Console) -> None:
    """Prints the tables of the README."""
    with servers() as (embedded, triton):
        _latency(console, embedded, triton)
        _throughput(console, embedded, triton)
    _overload(console)


@contextmanager
def servers() -> Iterator[tuple[SidecarProcess, SidecarProcess]]:
    """A sidecar with the embedded engine and one with Triton, neither with a cache; everything is gone afterwards."""
    model = released_model()
    with tempfile.TemporaryDirectory(prefix="m-", dir="/tmp") as folder, tritons() as make:
        engine = triton_engine([make(model).start("motive")], model)
        sidecars = []
        try:
            for name, url in (("embedded", f"onnx:{model}"), ("triton", engine)):
                (directory := Path(folder) / name).mkdir()
                sidecars.append(start_sidecar(directory, url, flags=["--cache-texts", "0"]))
            yield sidecars[0].wait_serving(), sidecars[1].wait_serving()
        finally:
            for sidecar in sidecars:
                sidecar.close()


def _latency(console: Console, embedded: SidecarProcess, triton: SidecarProcess) -> None:
    stubs = {"embedded ONNX Runtime": embedded.stub(), "through Triton": triton.stub()}
    timings = interleaved({name: _short(stub) for name, stub in stubs.items()}, rounds=ROUNDS)
    first, second = timings.values()
    table = Table(title="One short text, the sidecar called over its socket, in milliseconds")
    for column in ("engine", "p50", "p99", "p50 above the embedded"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, timing in timings.items():
        table.add_row(name, f"{timing.p50:.2f}", f"{timing.p99:.2f}", f"{timing.p50 - first.p50:+.2f}")
    console.print(table)
    console.print(f"bar: at most 1.5 ms more at p50; measured {second.p50 - first.p50:+.2f} ms")


def _short(stub: MotiveStub) -> Callable[[int], object]:
    return lambda number: stub.Classify(pb.ClassifyRequest(texts=[SHORT.format(number)]), timeout=30)


def _throughput(console: Console, embedded: SidecarProcess, triton: SidecarProcess) -> None:
    texts = corpus_texts()
    rates: dict[str, list[float]] = {"embedded ONNX Runtime": [], "through Triton": []}
    for _ in range(THROUGHPUT_ROUNDS):
        for name, sidecar in zip(rates, (embedded, triton), strict=True):
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
    console.print(f"bar: at least 80 % of the embedded engine's rate; measured {second / first:.0%}")


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


def _overload(console: Console) -> None:
    model = released_model()
    flags = ["--cache-texts", "0", "--max-admitted-texts", str(CALLERS * CALL_TEXTS)]
    with tempfile.TemporaryDirectory(prefix="m-", dir="/tmp") as folder:
        sidecar = start_sidecar(Path(folder), f"onnx:{model}", flags=flags)
        try:
            sidecar.wait_serving()
            asyncio.run(_load(sidecar.target, CALLERS, 2.0))
            once = asyncio.run(_load(sidecar.target, CALLERS, OVERLOAD_S))
            thrice = asyncio.run(_load(sidecar.target, 3 * CALLERS, OVERLOAD_S))
        finally:
            sidecar.close()
    table = Table(title=f"Overload: {CALLERS} callers are admitted, three times as many call; milliseconds")
    for column in ("callers", "admitted", "p50", "p99", "refused", "p50 of a refusal", "p99 of a refusal"):
        table.add_column(column, justify="right")
    for callers, outcome in ((CALLERS, once), (3 * CALLERS, thrice)):
        good, bad = Timing(outcome.admitted), Timing(outcome.refused) if outcome.refused else None
        table.add_row(
            str(callers),
            str(len(outcome.admitted)),
            *(f"{good.p50:.0f}", f"{good.p99:.0f}", str(len(outcome.refused))),
            *((f"{bad.p50:.1f}", f"{bad.p99:.1f}") if bad else ("–", "–")),
        )
    console.print(table)
    ratio = Timing(thrice.admitted).p99 / Timing(once.admitted).p99
    refusal = float(np.percentile(thrice.refused, 99)) if thrice.refused else float("nan")
    console.print(
        f"bar: refused in under 50 ms, p99 of the admitted within 2 times; measured {refusal:.0f} ms, {ratio:.2f}"
    )


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
