"""Two minutes of everything at once: clients write while workers, the sidecar and PostgreSQL itself are killed."""

import random
import threading
import time

import psycopg
import pytest

from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.annotation import Annotation, WorkerProcess, start_worker
from tests.fixtures.fake_sidecar import CODES

STORM_S = 120.0
CLIENTS = 8
PAUSE_S = 0.05
"""Between two statements of a client: about what two cores can annotate."""
WORDS = ("gift", "slow", "cheap", "mouse", "a gift but slow")


class Client(threading.Thread):
    """One session that inserts, updates, deletes and copies; it connects again after every stop of the server."""

    def __init__(self, dsn: str, number: int, end: float) -> None:
        super().__init__(name=f"client-{number}")
        self._dsn, self._end = dsn, end
        self._random = random.Random(number)
        self._pause = threading.Event()
        self.statements = 0
        self.errors: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._end:
            try:
                with psycopg.connect(self._dsn, autocommit=True) as session:
                    while time.monotonic() < self._end:
                        self._write(session)
                        self.statements += 1
                        self._pause.wait(PAUSE_S)
            except psycopg.OperationalError:
                self._pause.wait(PAUSE_S)  # the server is being stopped or started
            except psycopg.Error as error:
                self.errors.append(repr(error))
                return

    def _write(self, session: psycopg.Connection[tuple[object, ...]]) -> None:
        text = f"{self._random.choice(WORDS)} {self._random.random()}"
        some = self._random.randrange(4000)
        turn = self._random.randrange(10)
        if turn < 4:
            session.execute("insert into texts (body) values (%s)", [text])
        elif turn < 5:
            session.execute("insert into texts (body) select %s || i from generate_series(1, 50) i", [text])
        elif turn < 8:
            session.execute("update texts set body = %s where id between %s and %s", [text, some, some + 5])
        elif turn < 9:
            session.execute("delete from texts where id between %s and %s", [some, some + 20])
        else:
            with session.cursor().copy("copy texts (body) from stdin") as copy:
                for place in range(20):
                    copy.write_row((f"{text} {place}" if place else None,))


class Workers(threading.Thread):
    """Keeps two workers running, and kills one after the other with -9."""

    def __init__(self, annotation: Annotation, end: float) -> None:
        super().__init__(name="workers")
        self._annotation = annotation
        self._end = end
        self.killed = 0

    def _start(self) -> WorkerProcess:
        flags = ("--lease-s", "3", "--database-timeout-s", "5")
        return start_worker(self._annotation.dsn, self._annotation.fake.target, *flags)

    def run(self) -> None:
        workers: list[WorkerProcess] = [self._start(), self._start()]
        pause = threading.Event()
        try:
            while time.monotonic() < self._end:
                pause.wait(4.0)
                workers[0].end()
                self.killed += 1
                workers = [*workers[1:], self._start()]
        finally:
            for worker in workers:
                worker.end()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_row_is_lost_stuck_or_stale_after_a_storm(annotation: Annotation, postgres: PrivatePostgres) -> None:
    """F28, F29, F30, F32, F33, F36 at once; afterwards every row with text has the label of its current text."""
    annotation.table()
    end = time.monotonic() + STORM_S
    clients = [Client(annotation.dsn, number, end) for number in range(CLIENTS)]
    workers = Workers(annotation, end)
    for thread in (*clients, workers):
        thread.start()
    pause = threading.Event()
    restarts = 0
    while time.monotonic() + 12.0 < end:
        pause.wait(10.0)
        annotation.fake.stop()
        pause.wait(1.0)
        annotation.fake.start()
        if restarts < 4:
            postgres.restart("immediate", die_with_caller=True)
            restarts += 1
    for thread in (*clients, workers):
        thread.join(60)
    assert [client.errors for client in clients] == [[]] * CLIENTS
    annotation.reconnect()
    with annotation.working():
        annotation.wait_drained(120.0)
    annotation.check()
    wrong = annotation.value(
        "select count(*) from texts where body is not null and motive <> case "
        "when body like '%%cheap%%' then 'price_value' when body like '%%slow%%' then 'performance' "
        "when body like '%%gift%%' then 'gift' else 'unknown' end"
    )
    assert wrong == 0
    assert annotation.value("select count(*) from motive.failures") == 0
    assert annotation.value("select count(*) from texts where motive = any (%s)", list(CODES)) > 0
    assert min(client.statements for client in clients) > 50
    assert workers.killed > 10
    assert restarts == 4
    log = postgres.log.read_text(encoding="utf-8", errors="replace")
    assert "deadlock detected" not in log
