"""Annotation of tables: what the triggers cost writers, how fast the queue drains, how fresh the labels are.

Side by side in one run: inserts with and without the trigger, inline against a direct call, the queue with a model that
costs nothing against other queues on PostgreSQL, a backfill against the raw engine, claims beside an old transaction.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import LiteralString

import psycopg
from rich.console import Console
from rich.table import Table

from sidecar.account import short_directory
from sidecar.demo.servers import configure, start_sidecar
from sidecar.demo.state import DemoState, stop_process
from sidecar.engines.onnx import OnnxEngine
from sidecar.install import install
from sidecar.private_postgres import PrivatePostgres
from sidecar.repository import open_repository
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.bench.direct_bench import bench_state, reviews
from tests.bench.ideal import ideal_rate
from tests.bench.queue_peers import PEERS
from tests.bench.timing import Timing, interleaved, seconds
from tests.fixtures.null_sidecar import null_sidecar

Connection = psycopg.Connection
BODY = "I bought this phone because the old one was slow, number "
REVIEW = (
    "The old one took half a minute to open the camera, so for my sister's wedding I finally bought this phone. "
    "It was on offer, the battery lasts two days, and the pictures are good enough to print. Review number "
)
DRAINED_ROWS = 100_000
BACKFILLED_ROWS = 3_000
DEAD_ROWS = 50_000
STORED_ROWS = 30_000


def run(console: Console) -> None:
    """Prints the tables of the README."""
    with _null_database() as (connection, target):
        _inserts(connection, console)
        _drain(connection, target, console)
        _claims(connection, console)
        _storage(connection, target, console)
    with bench_state() as state, psycopg.connect(state.dsn, autocommit=True) as connection:
        _real_model(state, connection, console)


@contextlib.contextmanager
def _null_database() -> Iterator[tuple[Connection, str]]:
    """A private database with the extension, and a sidecar whose model costs nothing."""
    directory = short_directory("pgm-null-")
    server = PrivatePostgres(directory / "pg")
    try:
        server.create()
        install(server.tree, say=lambda _: None)
        server.start(die_with_caller=True)
        with (
            psycopg.connect(server.dsn(), autocommit=True) as connection,
            null_sidecar(f"unix:{directory}/null.sock") as target,
        ):
            (directory / "null.sock").chmod(0o666)
            connection.execute("create extension pg_motive cascade")
            connection.execute("update motive.settings set target = %s", [target])
            connection.execute("select motive.load_model()")
            yield connection, target
    finally:
        server.stop("immediate")
        shutil.rmtree(directory)


def _table(connection: Connection, name: str, **options: str) -> None:
    connection.execute(f"drop table if exists {name}; select motive.sweep()")
    connection.execute(
        f"create table {name} (id bigint generated always as identity primary key, "
        "product integer not null default random() * 1000, rating integer not null default 5, "
        "written_at timestamptz not null default clock_timestamp(), body text)"
    )
    connection.execute(f"create index on {name} (product)")
    if options.get("attach", "yes") == "yes":
        connection.execute("select motive.attach(%s, 'body', %s, '5 s')", [name, options.get("mode", "queued")])


def _inserts(connection: Connection, console: Console) -> None:
    # A table of reviews as shops have them, texts of about 240 characters, two indexes.
    _table(connection, "plain", attach="no")
    connection.execute(
        "alter table plain add motive text, add motive_confidence real, add motives text[], "
        "add motive_model text, add motive_hash bytea"
    )
    _table(connection, "queued")
    numbers = count()

    def single(table: str) -> Callable[[int], object]:
        query = f"insert into {table} (body) values (%s)".encode()
        return lambda _: connection.execute(query, [f"{REVIEW}{next(numbers)}"])

    def many(table: str) -> Callable[[int], object]:
        query = f"insert into {table} (body) select %s || i from generate_series(1, 1000) i".encode()
        return lambda _: connection.execute(query, [REVIEW])

    ones = interleaved({name: single(name) for name in ("plain", "queued")}, rounds=3000)
    thousands = interleaved({name: many(name) for name in ("plain", "queued")}, rounds=200)
    table = Table(title="Inserts, median of a statement")
    for column in ("", "ms", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    rows: list[tuple[str, Timing, Timing]] = [
        ("one row, queued, against no trigger", ones["queued"], ones["plain"]),
        ("1,000 rows, queued, against no trigger", thousands["queued"], thousands["plain"]),
    ]
    for name, ours, theirs in rows:
        table.add_row(name, f"{ours.p50:.3f} / {theirs.p50:.3f}", f"{ours.p50 / theirs.p50:.2f}")
    console.print(table)
    connection.execute("drop table plain, queued; select motive.sweep(); truncate motive.queue")


def _worker(connection: Connection, target: str) -> Worker:
    return Worker(WorkerSettings(dsn=connection.info.dsn, target=target, once=True))


def _drain(connection: Connection, target: str, console: Console) -> None:
    table = Table(title="Queue with a model that costs nothing, one worker")
    for column in ("", "rows/s"):
        table.add_column(column, justify="left" if not column else "right")
    for name, rows in (("1,000 rows a statement", 1000), ("one row a statement", 1)):
        _table(connection, "texts")
        total = DRAINED_ROWS if rows > 1 else DRAINED_ROWS // 4
        if rows > 1:
            for start in range(0, total, rows):
                connection.execute(
                    "insert into texts (body) select %s || i from generate_series(%s::int, %s::int) i",
                    [BODY, start, start + rows - 1],
                )
        else:
            loop = f"for i in 1 .. {total} loop insert into texts (body) values ('{BODY}' || i); end loop"
            connection.execute(f"do $$ begin {loop}; end $$".encode())
        connection.execute("vacuum analyze texts")
        worker = _worker(connection, target)
        took = seconds(worker.run)
        assert worker.written == total, (worker.written, total)
        table.add_row(f"pg_motive, {name}", f"{total / took:,.0f}")
    connection.execute("drop table texts; select motive.sweep()")
    for name, peer in PEERS.items():
        try:
            rate = f"{peer(connection.info.dsn):,.0f}"
        except ImportError as error:
            rate = f"not installed ({error.name})"
        table.add_row(name, rate)
    console.print(table)


def _claims(connection: Connection, console: Console) -> None:
    _table(connection, "texts")
    with psycopg.connect(connection.info.dsn) as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select count(*) from texts")
        connection.execute(
            "insert into motive.queue (attachment, keys) select (select id from motive.attachment), "
            "jsonb_build_array(jsonb_build_array(i::text)) from generate_series(1, %s) i",
            [DEAD_ROWS],
        )
        connection.execute("delete from motive.queue")
        connection.execute("insert into texts (body) select %s || i from generate_series(1, 500) i", [BODY])
        for _ in range(500):
            connection.execute("update texts set body = body || '.' where id = %s", [_ + 1])
        timing = interleaved(
            {"claim": lambda _: connection.execute("select * from motive.claim(1)").fetchone()}, rounds=400
        )
    claim = timing["claim"]
    console.print(
        f"Claims beside {DEAD_ROWS:,} dead rows and an old transaction: p50 {claim.p50:.1f} ms, p99 {claim.p99:.1f} ms"
    )
    connection.execute("drop table texts; truncate motive.queue; select motive.sweep()")


def _storage(connection: Connection, target: str, console: Console) -> None:
    # What annotating does to a table that was there before: every row is updated once, into longer rows.
    table = Table(title=f"Backfill of {STORED_ROWS:,} rows")
    for column in ("", "MB before", "MB after", "HOT", "WAL, bytes a row"):
        table.add_column(column, justify="left" if not column else "right")
    for fillfactor in (100, 70, 40):
        _table(connection, "texts", attach="no")
        connection.execute(f"alter table texts set (fillfactor = {fillfactor})".encode())
        connection.execute(
            "insert into texts (body) select %s || i from generate_series(1, %s) i", [REVIEW, STORED_ROWS]
        )
        connection.execute("vacuum analyze texts")
        connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
        size = "select pg_total_relation_size('texts') / 1e6"
        before = _number(connection, size)
        log = _number(connection, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
        _worker(connection, target).run()
        log = _number(connection, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')") - log
        connection.execute("select pg_stat_force_next_flush()")
        hot = _number(
            connection, "select n_tup_hot_upd / n_tup_upd::float8 from pg_stat_user_tables where relname = 'texts'"
        )
        after = _number(connection, size)
        table.add_row(
            f"fillfactor {fillfactor}", f"{before:.1f}", f"{after:.1f}", f"{hot:.0%}", f"{log / STORED_ROWS:,.0f}"
        )
    console.print(table)
    connection.execute("drop table texts; select motive.sweep()")


def _number(connection: Connection, query: LiteralString) -> float:
    row = connection.execute(query).fetchone()
    assert row is not None
    return float(row[0])


def _real_model(state: DemoState, connection: Connection, console: Console) -> None:
    texts = reviews(BACKFILLED_ROWS)
    engine = OnnxEngine(open_repository(state.model))
    ideal = BACKFILLED_ROWS / seconds(lambda: ideal_rate(engine, texts))
    start_sidecar(state, "--cache-texts", "0")
    try:
        configure(connection, state)
        _inline(connection, console)
        target = f"unix:{state.sidecar_socket}"
        _table(connection, "texts", attach="no")
        with connection.cursor().copy("copy texts (body) from stdin") as copy:
            for text in texts:
                copy.write_row((text,))
        connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
        worker = _worker(connection, target)
        rate = BACKFILLED_ROWS / seconds(worker.run)
        ideal = max(ideal, BACKFILLED_ROWS / seconds(lambda: ideal_rate(engine, texts)))
        console.print(
            f"Backfill with the real model: {rate:,.0f} rows/s, {rate / ideal:.0%} of the raw engine ({ideal:,.0f})"
        )
        _freshness(state, connection, target, rate / 2, console)
    finally:
        stop_process(state.sidecar_pid)


def _inline(connection: Connection, console: Console) -> None:
    _table(connection, "inline", mode="inline")
    numbers = count()
    calls = interleaved(
        {
            "inline": lambda _: connection.execute("insert into inline (body) values (%s)", [f"{BODY}{next(numbers)}"]),
            "direct": lambda _: connection.execute("select classify_motive(%s)", [f"{BODY}{next(numbers)}"]),
        },
        rounds=300,
    )
    ours, theirs = calls["inline"].p50, calls["direct"].p50
    console.print(
        f"One row inline: {ours:.2f} ms against a direct call's {theirs:.2f} ms, {ours / theirs:.2f} times; no cache"
    )
    connection.execute("drop table inline; select motive.sweep(); truncate motive.queue")


def _freshness(state: DemoState, connection: Connection, target: str, rate: float, console: Console) -> None:
    connection.execute("truncate motive.freshness_bucket")
    worker = Worker(WorkerSettings(dsn=state.dsn, target=target))
    thread = threading.Thread(target=worker.run)
    thread.start()
    started, written = time.monotonic(), 0
    texts = reviews(BACKFILLED_ROWS)
    while (elapsed := time.monotonic() - started) < 15.0:
        if written < elapsed * rate:
            connection.execute("insert into texts (body) values (%s)", [f"{texts[written % len(texts)]} {written}"])
            written += 1
        else:
            time.sleep(0.001)
    while connection.execute("select count(*) from motive.queue").fetchone() != (0,):
        time.sleep(0.01)
    worker.stop()
    thread.join()
    row = connection.execute("select rows, p50, p95, p99 from motive.freshness").fetchone()
    assert row is not None
    p50, p95, p99 = (value.total_seconds() * 1000 for value in row[1:])
    console.print(
        f"Freshness at half load ({rate:,.0f} rows/s, {row[0]} rows): "
        f"p50 < {p50:.0f} ms, p95 < {p95:.0f} ms, p99 < {p99:.0f} ms"
    )
