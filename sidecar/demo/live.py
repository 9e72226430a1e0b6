"""The demo's second act: rows that are written while everything runs, and a worker that is killed under them."""

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sidecar.demo.servers import start_worker
from sidecar.demo.show import statement
from sidecar.demo.state import DemoState, kill_process, wait_until

COPIED = 20


def show_live(state: DemoState, connection: psycopg.Connection, console: Console) -> None:
    """Prints how soon new rows are annotated, and that nothing is lost with the worker. Needs a running worker."""
    connection.execute(statement("arrivals").encode())
    console.print("\n[bold]New rows[/bold], written by ordinary statements while the worker runs:")
    connection.execute(statement("insert").encode())
    inserted = _annotated(connection)
    with connection.cursor().copy(statement("copy").encode()) as copy:
        copy.write("".join(f'"The strap broke after a week, copied line {n}"\n' for n in range(COPIED)))
    copied = _annotated(connection)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for body, motive, confidence in connection.execute(statement("arrived").encode()):
        table.add_row(escape(body), f"[bold]{motive}[/bold]", str(confidence))
    console.print(table)
    console.print(f"   3 rows by INSERT annotated after {inserted:.2f} s, {COPIED} by COPY after {copied:.2f} s")
    _kill(state, connection, console)


def _annotated(connection: psycopg.Connection) -> float:
    return wait_until(lambda: _count(connection, "waiting") == 0, 60, "the annotation of new rows")


def _kill(state: DemoState, connection: psycopg.Connection, console: Console) -> None:
    before = _count(connection, "total")
    connection.execute(statement("flood").encode())
    rows = _count(connection, "total") - before
    wait_until(lambda: bool(_count(connection, "claimed")), 30, "the worker's claim")
    kill_process(state.worker_pid)
    left = _count(connection, "waiting")
    console.print(f"   {rows} more rows; [bold]kill -9[/bold] for the worker that holds them: {left} are still waiting")
    start_worker(state)
    took = _annotated(connection)
    total, waiting = _count(connection, "total"), _count(connection, "waiting")
    console.print(f"   A new worker did those within {took:.1f} s: {total - waiting} of {total} rows are annotated.")


def _count(connection: psycopg.Connection, name: str) -> int:
    row = connection.execute(statement(name).encode()).fetchone()
    assert row is not None
    return int(row[0])
