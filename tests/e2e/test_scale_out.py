"""What outgrows one machine, as processes: two sidecars behind one address, three workers, two Tritons.

One of each is killed, the model is switched, and all sidecars and all Tritons are away for a while and come back, while
rows come in and calls are made.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from sidecar.release import release
from sidecar.repository import open_repository
from tests.fixtures.annotation import WorkerProcess, check_invariants, start_worker
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess, free_port
from tests.fixtures.tcp_proxy import TcpProxy
from tests.fixtures.tiny_model import write_tiny_model
from tests.fixtures.triton_process import RunTriton, TritonProcess, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]

PAUSE_S = 0.05
WAIT_S = 90.0
AWAY = ("58000", "57014", "53000")
"""What a call may meet while a sidecar dies under it, or nobody answers."""
AWAY_INSERTS = 80
"""Of each client, before what is away comes back: seconds in which inline mode gives up, pauses, and tries again."""


class Client(threading.Thread):
    """Does one thing to the database over and over; faults of the service are counted, any other ends it."""

    def __init__(self, dsn: str, act: Callable[[Connection, int], None]) -> None:
        super().__init__()
        self._dsn, self._act = dsn, act
        self._stopping = threading.Event()
        self.done = 0
        self.faults: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as session:
                number = 0
                while not self._stopping.wait(PAUSE_S):
                    number += 1
                    try:
                        self._act(session, number)
                    except psycopg.Error as error:
                        if error.sqlstate not in AWAY:
                            raise
                        self.faults.append(f"{error.sqlstate} {error}")
                    else:
                        self.done += 1
        except BaseException as error:
            self.error = error

    def more(self, description: str, count: int = 5) -> None:
        """Waits until it has done so much more."""
        before = self.done
        wait_until(
            lambda: self.error or self.done,
            lambda done: done != self.done or self.done >= before + count,
            WAIT_S,
            description,
        )
        assert self.error is None, self.error
        wait_until(lambda: self.done, lambda done: done >= before + count, WAIT_S, description)

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join(60)
        assert not self.is_alive()


def call(session: Connection, number: int) -> None:
    assert value(session, "select classify_motive(%s)", f"a cheap thing {number}") == "price_value"


def insert_queued(session: Connection, number: int) -> None:
    session.execute(
        "insert into queued (body) select 'gift ' || %s || ' ' || n from generate_series(1, 20) n", [number]
    )


def insert_inline(session: Connection, number: int) -> None:
    session.execute("insert into instant (body) values ('a slow phone ' || %s)", [number])


@pytest.fixture
def everything(
    fresh_database: str, run_sidecar: RunSidecar, run_triton: RunTriton, tmp_path: Path, tcp_proxies: list[TcpProxy]
) -> Iterator["Everything"]:
    with ExitStack() as stack:
        yield Everything(fresh_database, run_sidecar, run_triton, tmp_path, tcp_proxies, stack)


class Everything:
    """All of it, running."""

    def __init__(
        self,
        dsn: str,
        run_sidecar: RunSidecar,
        run_triton: RunTriton,
        path: Path,
        proxies: list[TcpProxy],
        stack: ExitStack,
    ) -> None:
        self.models = path / "models"
        self.quiet: list[str] = []
        self._run_sidecar = run_sidecar
        first = write_tiny_model(path / "first")
        release(first, self.models, backend="python", say=self.quiet.append)
        self.tritons: list[TritonProcess] = [run_triton(self.models / "triton").start() for _ in range(2)]
        ports = [free_port() for _ in range(2)]
        self.sidecars: list[SidecarProcess] = [self.start_sidecar(f"127.0.0.1:{port}") for port in ports]
        for sidecar in self.sidecars:
            sidecar.wait_serving()
        balancer = TcpProxy(*(("127.0.0.1", port) for port in ports))
        proxies.append(balancer)
        self.session: Connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        self.session.execute("create extension pg_motive cascade")
        self.session.execute("update motive.settings set target = %s", [balancer.address])
        self.session.execute("select motive.load_model()")
        self.session.execute("create table queued (id bigint generated always as identity primary key, body text)")
        self.session.execute("create table instant (id bigint generated always as identity primary key, body text)")
        self.session.execute("select motive.attach('queued', 'body'), motive.attach('instant', 'body', 'inline')")
        self._dsn, self._address, self._stack = dsn, balancer.address, stack
        self.workers: list[WorkerProcess] = [self.start_worker() for _ in range(3)]
        self.calls, self.queued, self.inline = (Client(dsn, act) for act in (call, insert_queued, insert_inline))
        for client in self.clients:
            client.start()
            stack.callback(client.stop)

    def start_sidecar(self, listen: str) -> SidecarProcess:
        """A sidecar that asks both Tritons."""
        return self._run_sidecar(triton_engine(self.tritons, self.models), listen=listen)

    def start_worker(self) -> WorkerProcess:
        """A worker that asks both sidecars."""
        worker = start_worker(self._dsn, self._address, "--lease-s", "5")
        self._stack.callback(worker.end)
        return worker

    @property
    def clients(self) -> tuple[Client, ...]:
        """Those who call, insert into the queued table and into the inline one."""
        return (self.calls, self.queued, self.inline)

    def goes_on(self, after: str) -> None:
        """Waits until every client has done more, and rows are still annotated."""
        for client in self.clients:
            client.more(f"work to go on after {after}")
        newest = value(self.session, "select max(id) from queued")
        wait_until(
            lambda: value(self.session, "select motive from queued where id = %s", newest),
            lambda motive: motive == "gift",
            WAIT_S,
            f"a new row to be annotated after {after}",
        )

    def only_inserts_go_on(self, without: str) -> None:
        """Waits until inserts have gone on for a while without an answer, and calls have failed."""
        for client in (self.queued, self.inline):
            client.more(f"inserts to go on without {without}", AWAY_INSERTS)
        before = len(self.calls.faults)
        wait_until(
            lambda: self.calls.error or len(self.calls.faults),
            lambda faults: not isinstance(faults, int) or faults > before,
            WAIT_S,
            f"calls to fail without {without}",
        )
        assert self.calls.error is None, self.calls.error

    def restart_what_died(self) -> None:
        """Whatever was killed runs again, where it ran before."""
        for triton in self.tritons:
            if triton.process is not None and triton.process.poll() is not None:
                triton.start()
        for place, sidecar in enumerate(self.sidecars):
            if sidecar.process.poll() is not None:
                self.sidecars[place] = self.start_sidecar(sidecar.target)
        for sidecar in self.sidecars:
            sidecar.wait_serving()
        for place, worker in enumerate(self.workers):
            if worker.process.poll() is not None:
                self.workers[place] = self.start_worker()


def test_one_of_each_and_then_all_may_die_and_the_model_change_under_load_and_nothing_is_lost(
    everything: Everything,
) -> None:
    """While one is left, calls are answered at once; no insert ever fails; every row has the label of its text."""
    everything.goes_on("the start")
    everything.tritons[0].kill()
    everything.goes_on("the death of a Triton")
    everything.workers[0].kill()
    everything.goes_on("the death of a worker")
    everything.sidecars[0].kill()
    everything.goes_on("the death of a sidecar")
    newer = write_tiny_model(everything.models.parent / "second", version="0.0.2+tiny")
    version = release(newer, everything.models, backend="python", say=everything.quiet.append)
    wait_until(
        lambda: value(everything.session, "select count(*) from queued where motive_model = %s", version),
        lambda rows: rows > 0,
        WAIT_S,
        "rows to be annotated by the newer model",
    )
    everything.goes_on("the switch of the model")
    # A call in flight on the sidecar that died may be lost; the next one finds the other.
    assert len(everything.calls.faults) <= 5, everything.calls.faults
    everything.restart_what_died()
    everything.goes_on("the return of the dead")
    everything.sidecars[0].terminate()
    everything.sidecars[1].kill()
    assert everything.sidecars[0].wait() == 0
    everything.only_inserts_go_on("a sidecar")
    everything.restart_what_died()
    everything.goes_on("the return of both sidecars")
    for triton in everything.tritons:
        triton.kill()
    everything.only_inserts_go_on("a Triton")
    everything.restart_what_died()
    everything.goes_on("the return of both Tritons")
    for client in everything.clients:
        client.stop()
    assert everything.queued.faults == everything.inline.faults == []
    wait_until(
        lambda: value(everything.session, "select count(*) from motive.queue"),
        lambda n: n == 0,
        WAIT_S,
        "an empty queue",
    )
    for table, motive in (("queued", "gift"), ("instant", "performance")):
        wrong = f"select count(*) from {table} where motive is distinct from '{motive}'"
        assert value(everything.session, wrong) == 0
    assert value(everything.session, "select count(distinct motive_model) from queued") == 2
    assert {open_repository(newer).model_version} == {version}
    check_invariants(everything.session)
    everything.session.execute("drop table queued, instant")
