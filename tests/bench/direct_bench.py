"""Direct SQL calls: what classify_motive adds to the engine, and how it compares with the peers' ways.

Side by side in one run: the engine alone, classify_motive with and without the cache, PostgresML's way (a transformers
pipeline inside the backend) and an HTTP service around the same pipeline.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from sidecar.account import short_directory
from sidecar.demo.run import prepare
from sidecar.demo.servers import configure, start_sidecar
from sidecar.demo.state import ROOT, DemoState, stop_process, wait_until
from sidecar.engines.onnx import OnnxEngine
from sidecar.private_postgres import free_port
from sidecar.repository import open_repository
from sidecar.tokenize import Tokenizer
from tests.bench.bars import Bar, print_bars
from tests.bench.ideal import ideal_rate, one_by_one
from tests.bench.pipeline_peer import make_model
from tests.bench.timing import Timing, interleaved, seconds

ENGINE = "engine alone (tokenizer and model)"
CALL = "classify_motive, no cache"
CACHED = "classify_motive, from the cache"
HTTP = "PL/Python and an HTTP service (FastAPI, transformers)"
PIPELINE = "PL/Python with transformers in the backend"
RAW, ROWS, ARRAY = "raw engine, ideal batches", "motive.classify_rows", "classify_motive(text[])"

SHORT = "The old kettle leaks, so we need one that lasts, number {}"
ROUNDS = 300
PAUSE_S = 0.002
PEER_ROUNDS = 60
REVIEWS = 5_000


def run(console: Console) -> None:
    """Prints the tables of the README."""
    with bench_state() as state:
        warm = _latency(state, console)
        cold = _cold(state, console)
        rates = _throughput(state, console)
    print_bars(console, _bars(warm, cold, rates))


def _bars(warm: dict[str, Timing], cold: dict[str, tuple[float, float]], rates: dict[str, float]) -> Iterator[Bar]:
    yield Bar("one text, above the engine, p50", warm[CALL].p50 - warm[ENGINE].p50, 1.0, "ms")
    yield Bar("first call of a session", cold[CALL][0], 150, "ms")
    yield Bar("memory of a backend", cold[CALL][1], 30, "MB")
    yield Bar("classify_motive(text[]), share of the raw engine", 100 * rates[ARRAY] / rates[RAW], 85, "%", least=True)
    yield Bar("motive.classify_rows, share of the raw engine", 100 * rates[ROWS] / rates[RAW], 85, "%", least=True)
    if PIPELINE in warm:
        faster, sooner = warm[PIPELINE].p50 / warm[CALL].p50, cold[PIPELINE][0] / cold[CALL][0]
        yield Bar("faster than the pipeline in the backend, p50", faster, 5, "times", least=True)
        yield Bar("faster than the pipeline in the backend, first call", sooner, 10, "times", least=True)


@contextmanager
def bench_state() -> Iterator[DemoState]:
    """A private PostgreSQL with the extension, not yet a sidecar; everything is gone afterwards."""
    state = DemoState(short_directory("pgm-bench-"))
    try:
        prepare(state)
        yield state
    finally:
        stop_process(state.sidecar_pid)
        state.postgres.stop("immediate")
        subprocess.run(["rm", "-rf", str(state.path)], check=True)


@contextmanager
def sidecar_session(state: DemoState, *options: str) -> Iterator[psycopg.Connection]:
    """A sidecar with `options`, and a session that reaches it."""
    start_sidecar(state, *options)
    try:
        with psycopg.connect(state.dsn, autocommit=True) as connection:
            configure(connection, state)
            yield connection
    finally:
        stop_process(state.sidecar_pid)


def _latency(state: DemoState, console: Console) -> dict[str, Timing]:
    engine = OnnxEngine(open_repository(state.model))
    tokenizer = Tokenizer(engine.repository)
    with sidecar_session(state, "--cache-texts", "0") as connection, _peers(state, connection) as peers:
        timings = interleaved(
            {
                ENGINE: lambda n: one_by_one(engine, tokenizer, SHORT.format(n)),
                CALL: _calling(connection, "classify_motive"),
            },
            rounds=ROUNDS,
            pause_s=PAUSE_S,
        )
        peer_timings = interleaved(
            {name: _calling(connection, function) for name, function in peers.items()},
            rounds=PEER_ROUNDS,
            warm_up=3,
            pause_s=PAUSE_S,
        )
    with sidecar_session(state) as connection:
        cached = interleaved(
            {CACHED: lambda n: _one(connection, "classify_motive", SHORT.format(0))}, rounds=ROUNDS, pause_s=PAUSE_S
        )
    timings |= cached | peer_timings
    _print_latency(console, timings, timings[ENGINE])
    return timings


def _print_latency(console: Console, timings: dict[str, Timing], engine: Timing) -> None:
    table = Table(title="One short text, warm, in milliseconds")
    for column in ("", "p50", "p99", "p50 above the engine", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, timing in timings.items():
        above, ratio = timing.p50 - engine.p50, timing.p50 / engine.p50
        table.add_row(name, f"{timing.p50:.2f}", f"{timing.p99:.2f}", f"{above:+.2f}", f"{ratio:.2f}")
    console.print(table)


def _calling(connection: psycopg.Connection, function: str) -> Callable[[int], object]:
    return lambda number: _one(connection, function, SHORT.format(number))


def _one(connection: psycopg.Connection, function: str, text: str) -> None:
    connection.execute(f"select {function}(%s)".encode(), (text,), prepare=True)


@contextmanager
def _peers(state: DemoState, connection: psycopg.Connection) -> Iterator[dict[str, str]]:
    """Creates the peers' functions; gives their names in SQL by what they are."""
    model = state.path / "peer"
    make_model(state.model, model)
    port = free_port()
    packages = sysconfig.get_path("purelib")
    peers = dict(
        part.split("\n", 1) for part in (Path(__file__).parent / "peers.sql").read_text().split("-- name: ")[1:]
    )
    for body in peers.values():
        connection.execute(body.format(packages=packages, model=model, port=port).encode())
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "tests.bench.pipeline_peer", str(model), str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(state), 120, "the HTTP peer's start")
            names = {HTTP: "bench_http"}
            if state.postgres.account.can_run("test", "-r", f"{packages}/transformers/__init__.py"):
                names[PIPELINE] = "bench_pipeline"
            yield names
        finally:
            server.terminate()
            server.wait()


def _answers(state: DemoState) -> bool:
    # In a session of its own: the function keeps its connection, also one that failed.
    try:
        with psycopg.connect(state.dsn, autocommit=True) as connection:
            connection.execute("select bench_http('ready?')")
    except psycopg.Error:
        return False
    return True


def _cold(state: DemoState, console: Console) -> dict[str, tuple[float, float]]:
    """Milliseconds of a session's first call and megabytes that its backend gains, by way."""
    found: dict[str, tuple[float, float]] = {}
    table = Table(title="A new session: first call, and memory that the backend gains")
    for column in ("", "first call, ms (median)", "MB"):
        table.add_column(column, justify="left" if not column else "right")
    with sidecar_session(state) as connection, _peers(state, connection) as peers:
        calls = {CALL: "classify_motive"} | peers
        for name, function in calls.items():
            repeats = 9 if function != "bench_pipeline" else 3
            samples = [_first_call(state, function) for _ in range(repeats)]
            milliseconds, megabytes = (sorted(values)[repeats // 2] for values in zip(*samples, strict=True))
            found[name] = milliseconds, megabytes
            table.add_row(name, f"{milliseconds:.0f}", f"{megabytes:.1f}")
    console.print(table)
    return found


def _first_call(state: DemoState, function: str) -> tuple[float, float]:
    """Milliseconds of the first call in a new session, and the private memory gained, in MB."""
    with psycopg.connect(state.dsn, autocommit=True) as connection:
        connection.execute("select 1")
        before = _private_memory(connection.info.backend_pid)
        started = time.perf_counter()
        _one(connection, function, SHORT.format("one"))
        elapsed = (time.perf_counter() - started) * 1000
        return elapsed, _private_memory(connection.info.backend_pid) - before


def _private_memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return (int(fields["Private_Dirty"]) + int(fields["Private_Clean"])) * 1024 / 1e6


def _throughput(state: DemoState, console: Console) -> dict[str, float]:
    """Rows per second, by way."""
    texts = reviews(REVIEWS)
    engine = OnnxEngine(open_repository(state.model))
    with sidecar_session(state, "--cache-texts", "0") as connection:
        connection.execute("create table reviews (id int primary key, body text not null)")
        with connection.cursor().copy("copy reviews from stdin") as copy:
            for row in enumerate(texts):
                copy.write_row(row)
        connection.execute("vacuum analyze reviews")
        connection.execute("set statement_timeout = 0")
        ways: dict[str, Callable[[], object]] = {
            RAW: lambda: ideal_rate(engine, texts),
            ROWS: lambda: connection.execute(
                "select count(*) from motive.classify_rows('select id::text, body from reviews')"
            ),
            ARRAY: lambda: connection.execute("select cardinality(classify_motive(array_agg(body))) from reviews"),
        }
        # In turn, the best of two: what else the machine does falls on all alike.
        taken = [{name: seconds(call) for name, call in ways.items()} for _ in range(2)]
        rates = {name: REVIEWS / min(one[name] for one in taken) for name in ways}
        scalar = "select count(classify_motive(body)) from reviews"
        rates["select classify_motive(body)"] = REVIEWS / seconds(lambda: connection.execute(scalar))
    table = Table(title=f"{REVIEWS:,} reviews, rows per second, no cache")
    for column in ("", "rows/s", "share of the raw engine"):
        table.add_column(column, justify="left" if not column else "right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.0f}", f"{rate / rates[RAW]:.0%}")
    console.print(table)
    return rates


def reviews(count: int) -> list[str]:
    """`count` texts of the corpus, reviews first; repeated with a number when there are fewer."""
    rows = [
        json.loads(line)
        for path in sorted((ROOT / "trainer" / "corpus").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    texts = [row["text"] for kind in ("review", "post") for row in rows if row["kind"] == kind]
    return [texts[i % len(texts)] + ("" if i < len(texts) else f" {i}") for i in range(count)]
