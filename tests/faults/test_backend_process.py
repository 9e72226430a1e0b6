"""What gRPC does to a PostgreSQL process: its memory, its threads, its signals, its end."""

import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connect, Connection, value
from tests.fixtures.waiting import wait_until


def status(pid: int) -> dict[str, int]:
    """Resident memory in kilobytes and threads of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(re.search(rf"{name}:\s+(\d+)", text).group(1)) for name in ("VmRSS", "Threads")}  # type: ignore[union-attr]


def unblocked(pid: int) -> dict[str, int]:
    """For each thread but the main one that does not block every signal: its mask."""
    every = sum(
        1 << (number - 1) for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)
    )
    masks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name == str(pid):
            continue
        try:
            text = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        found = re.search(r"SigBlk:\s+([0-9a-f]+)", text)
        if found and int(found.group(1), 16) & every != every:
            masks[task.name] = int(found.group(1), 16)
    return masks


@pytest.mark.slow
def test_ten_thousand_calls_leave_memory_and_threads_flat(connection: Connection) -> None:
    """F07: 10,000 calls in one session."""
    pid = connection.info.backend_pid
    call = "do $$ begin for i in 1..%s loop perform classify_motive('cheap ' || i); end loop; end $$"
    connection.execute(call % 1000)
    before = status(pid)
    connection.execute(call % 9000)
    after = status(pid)
    assert after["VmRSS"] - before["VmRSS"] < 4096
    assert after["Threads"] <= before["Threads"] + 2


def test_no_thread_of_grpc_takes_a_signal_of_postgres(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F08: every thread but the main one blocks all signals, during the 1st, 2nd and 100th call."""
    pid = connection.info.backend_pid
    for number in range(1, 101):
        if number not in (1, 2, 100):
            value(connection, "select classify_motive('cheap')")
            continue
        with fake_sidecar.hang():
            thread = threading.Thread(target=value, args=(connection, "select classify_motive('cheap')"))
            thread.start()
            try:
                assert fake_sidecar.waiting.wait(30)
                assert status(pid)["Threads"] > 2
                assert unblocked(pid) == {}
            finally:
                fake_sidecar._release.set()
                thread.join(30)


def test_signals_at_a_thousand_per_second_harm_nothing(connection: Connection, postgres: PrivatePostgres) -> None:
    """F09: SIGALRM and SIGUSR1 at 1 kHz during 1,000 calls: no crash, every result right."""
    value(connection, "select classify_motive('warm')")
    pid = connection.info.backend_pid
    before = len(postgres.log.read_text())
    stop, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        while not stop.wait(0.001):
            os.kill(pid, (signal.SIGALRM, signal.SIGUSR1)[sent % 2])
            sent += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        query = """select count(*) filter (where classify_motive(case when g % 2 = 0 then 'cheap' else 'gift' end)
                   = case when g % 2 = 0 then 'price_value' else 'gift' end) from generate_series(1, 1000) g"""
        assert value(connection, query) == 1000
    finally:
        stop.set()
        sender.join()
    assert sent > 100
    assert "terminated by signal" not in postgres.log.read_text()[before:]


@pytest.mark.slow
def test_two_hundred_sessions_come_and_go(database: str, fake_sidecar: FakeSidecar, postgres: PrivatePostgres) -> None:
    """F10: 200 sessions connect, call once, disconnect: none hangs, none ends by a signal."""
    before = len(postgres.log.read_text())

    def visit(number: int) -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            assert value(connection, "select classify_motive('gift')") == "gift"
            return connection.info.backend_pid

    with ThreadPoolExecutor(8) as pool:
        pids = list(pool.map(visit, range(200)))
    wait_until(
        lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()], lambda left: not left, 60, "backends to end"
    )
    log = postgres.log.read_text()[before:]
    assert "terminated by signal" not in log
    assert "exited with exit code" not in log


def test_a_plan_stays_serial_whatever_is_forced(connect: Connect) -> None:
    """F11: every parallel setting forced: no Gather in the plan, right answers, no crash."""
    connection = connect()
    version = connection.info.server_version // 10000
    force = "debug_parallel_query" if version >= 16 else "force_parallel_mode"
    connection.execute(
        f"set {force} = on; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; "
        "set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 4"
    )
    connection.execute("create table words as select g as id, 'gift ' || g as body from generate_series(1, 100) g")
    try:
        connection.execute("alter table words set (parallel_workers = 4); analyze words")
        queries = [
            "select classify_motive(body), count(*) from words group by 1",
            "select m.motive, count(*) from words, classify_motives(body) m group by 1",
            "select e.motive, count(*) from words, explain_motive(body) e group by 1",
            "select u, count(*) from unnest((select classify_motive(array_agg(body)) from words)) u group by 1",
            "select motive, count(*) from motive.classify_rows('select id, body from words') group by 1",
        ]
        for query in queries:
            plan = "\n".join(row[0] for row in connection.execute("explain " + query))
            if "array_agg" not in query:  # reading the table alone may be parallel
                assert "Gather" not in plan, plan
            assert connection.execute(query).fetchall() == [("gift", 100)], query
    finally:
        connection.execute("drop table words")
