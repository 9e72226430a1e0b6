"""The queue in the database, as the worker sees it: one function for each SQL function, and nothing else.

Every call is a transaction of its own. What a call means is said by the comment of its SQL function.

Triggers and policies of users' tables run in these calls, as the table's owner but in our session, where they can
change settings, search_path among them, and make temporary types. So every name here is qualified, and a call that
reads or writes a user's table ends by resetting what may have been set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

CONTROL_CHANNEL = "motive_control"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one worker holds for a while."""

    lease: str
    rows: int


class Reading(NamedTuple):
    """One key of a claim. Without `text` and `problem` there is nothing to do for it."""

    entry: int
    key: str
    """JSON, as the queue holds it; never taken apart here."""
    text: str | None
    hash: str | None
    """Hexadecimal, of the text as it was read; None where nothing is to do."""
    problem: str | None
    """Why the text cannot be sent."""
    priority: int
    """1 for rows just written, 2 for backfills, 3 for shadow runs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What complete() did, in rows."""

    written: int
    skipped: int
    returned: int


def connect(dsn: str, *, name: str = "pg_motive worker") -> Connection:
    """A connection that works through a pooler in transaction mode as well: nothing in it outlives a transaction."""
    return psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        application_name=name,
        connect_timeout=10,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )


def claim(
    connection: Connection, max_rows: int, lease_s: float, shadow: str | None = None, background: bool = True
) -> Claim | None:
    """motive.claim(); None where nothing is waiting."""
    query = "select * from motive.claim(%s, pg_catalog.make_interval(secs => %s), %s, %s)"
    row = connection.execute(query, (max_rows, lease_s, shadow, background)).fetchone()
    return Claim(str(row[0]), row[2]) if row else None


def read(connection: Connection, lease: str, model: str | None, timeout_s: float) -> list[Reading]:
    """motive.read(); raises psycopg's QueryCanceled where the tables' own policies take longer than `timeout_s`."""
    query = (
        "select entry, key::pg_catalog.text, body, pg_catalog.encode(hash, 'hex'), problem, priority "
        "from motive.read(%s, %s)"
    )
    return list(map(Reading._make, _in_clean_session(connection, query, (lease, model), timeout_s)))


def complete(connection: Connection, lease: str, results: Sequence[str], model: str, timeout_s: float) -> Outcome:
    """motive.complete(); each result is one JSON object. Raises QueryCanceled like `read`."""
    document = "[" + ",".join(results) + "]"
    query = "select * from motive.complete(%s, %s::pg_catalog.jsonb, %s)"
    (row,) = _in_clean_session(connection, query, (lease, document, model), timeout_s)
    return Outcome(*row)


def extend(connection: Connection, lease: str, by_s: float) -> int:
    """motive.extend()."""
    return _number(connection, "select motive.extend(%s, pg_catalog.make_interval(secs => %s))", (lease, by_s))


def release(connection: Connection, lease: str, delay_s: float = 0.0) -> int:
    """motive.release()."""
    return _number(connection, "select motive.release(%s, pg_catalog.make_interval(secs => %s))", (lease, delay_s))


def put_off(connection: Connection, lease: str, delay_s: float) -> str:
    """motive.put_off(); the tables that it has wait."""
    query = "select motive.put_off(%s, pg_catalog.make_interval(secs => %s))"
    row = connection.execute(query, (lease, delay_s)).fetchone()
    assert row is not None
    return str(row[0])


def step(connection: Connection, max_rows: int, model: str | None, timeout_s: float) -> int:
    """motive.step(). Raises QueryCanceled like `read`."""
    ((done,),) = _in_clean_session(connection, "select motive.step(%s, %s)", (max_rows, model), timeout_s)
    return int(done)


def put_off_step(connection: Connection, model: str | None) -> str:
    """motive.put_off_step(); the table whose job it has wait, empty where somebody else has it."""
    row = connection.execute("select motive.put_off_step(%s)", (model,)).fetchone()
    assert row is not None
    return str(row[0] or "")


def sweep(connection: Connection) -> None:
    """motive.sweep()."""
    connection.execute("select motive.sweep()")


def register_model(connection: Connection, document: str) -> str:
    """motive.register_served_model()."""
    row = connection.execute("select motive.register_served_model(%s::pg_catalog.jsonb)", (document,)).fetchone()
    assert row is not None
    return str(row[0])


def progress(connection: Connection) -> list[tuple[str, int, int]]:
    """motive.progress(): what runs, with the rows read and those there are to read."""
    return [(str(what), seen, total) for what, seen, total in connection.execute("select * from motive.progress()")]


def listen(connection: Connection) -> None:
    """Has the connection told of control events."""
    connection.execute(f"listen {CONTROL_CHANNEL}")


def _in_clean_session(
    connection: Connection, query: LiteralString, parameters: tuple[object, ...], timeout_s: float
) -> list[tuple[Any, ...]]:
    """All rows of a query; what it has set for the session is reset in the same transaction and the same round trip.

    The server itself ends it after `timeout_s`: a connection that is merely given up would go on and hold its locks.
    """
    with connection.pipeline():
        connection.execute(
            "select pg_catalog.set_config('statement_timeout', %s, true)", (str(max(1, int(timeout_s * 1000))),)
        )
        cursor = connection.execute(query, parameters)
        connection.execute("reset all")
    return cursor.fetchall()


def _number(connection: Connection, query: Any, parameters: tuple[object, ...]) -> int:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return int(row[0] or 0)
