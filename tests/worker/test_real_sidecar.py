"""The whole way with nothing faked: a real sidecar with the tiny model, the extension, and a worker."""

import psycopg

from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.annotation import check_invariants, clean
from tests.fixtures.sidecar_process import SidecarProcess


def test_rows_are_annotated_by_a_real_sidecar(served_database: str, backend_sidecar: SidecarProcess) -> None:
    """Queued, inline and by backfill: the same model gives the same label."""
    with psycopg.connect(served_database, autocommit=True) as connection:
        connection.execute("create table texts (id integer primary key, body text)")
        connection.execute("insert into texts values (1, 'birthday gift'), (2, 'wireless mouse'), (3, '')")
        connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
        connection.execute("insert into texts values (4, 'birthday gift')")
        Worker(WorkerSettings(dsn=served_database, target=backend_sidecar.target, once=True)).run()
        connection.execute("select motive.attach('texts', 'body', 'inline', '5 s')")
        connection.execute("insert into texts values (5, 'birthday gift')")
        rows = connection.execute("select id, motive, motive_model from texts order by id").fetchall()
        assert [row[1] for row in rows] == ["gift", "unknown", "unknown", "gift", "gift"]
        assert len({row[2] for row in rows}) == 1
        assert connection.execute("select classify_motive('birthday gift')").fetchone() == ("gift",)
        check_invariants(connection)
        clean(connection)
