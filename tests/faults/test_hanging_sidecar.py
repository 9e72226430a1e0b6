"""A sidecar that does not answer: the call ends in time, by whatever ends it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import errors

from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.fake_sidecar import FakeSidecar, Phase
from tests.fixtures.postgres import Connect, Connection, value
from tests.fixtures.tcp_proxy import TcpProxy
from tests.fixtures.waiting import wait_until

SLACK_S = 2.5
"""Room for a busy machine, on top of what must hold: still far below the deadline that would end the call otherwise."""

WAIT_S = 30.0
"""For what must happen, however busy the machine."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails when the block takes longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started <= seconds + SLACK_S


def in_background(connection: Connection, query: str) -> tuple[threading.Thread, list[BaseException]]:
    """Runs a query in a thread; the list holds the error it ends with."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            connection.execute(query)
        except psycopg.Error as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_statement_timeout_ends_a_hanging_call(connect: Connect, fake_sidecar: FakeSidecar) -> None:
    """F01: the sidecar hangs, statement_timeout is 300 ms: error 57014 in time, locks gone, the sidecar told."""
    connection, other = connect(), connect()
    connection.execute("create temp table held (id int)")
    value(connection, "select classify_motive('warm')")
    connection.execute("set statement_timeout = '300ms'")
    with fake_sidecar.hang(), at_most(0.4), pytest.raises(errors.QueryCanceled):
        connection.execute("lock table held; select classify_motive('cheap')")
    assert fake_sidecar.cancelled.wait(WAIT_S), "the sidecar was not told that nobody waits"
    pid = connection.info.backend_pid
    assert value(other, "select count(*) from pg_locks where pid = %s", pid) == 0
    connection.execute("reset statement_timeout")
    assert value(connection, "select classify_motive('cheap')") == "price_value"


def test_cancel_ends_a_hanging_call(connect: Connect, fake_sidecar: FakeSidecar) -> None:
    """F02: the sidecar hangs and pg_cancel_backend comes: cancelled within 200 ms, the session usable after."""
    connection, other = connect(), connect()
    value(connection, "select classify_motive('warm')")
    with fake_sidecar.hang():
        thread, failures = in_background(connection, "select classify_motive('cheap')")
        assert fake_sidecar.waiting.wait(WAIT_S)
        with at_most(0.2):
            value(other, "select pg_cancel_backend(%s)", connection.info.backend_pid)
            thread.join(WAIT_S)
        assert fake_sidecar.cancelled.wait(WAIT_S), "the sidecar was not told that nobody waits"
    assert isinstance(failures[0], errors.QueryCanceled)
    assert "user request" in str(failures[0])
    assert value(connection, "select classify_motive('gift')") == "gift"


def test_terminate_ends_a_hanging_call(connect: Connect, fake_sidecar: FakeSidecar, postgres: PrivatePostgres) -> None:
    """F03: the sidecar hangs and pg_terminate_backend comes: the backend is gone, the cluster did not restart."""
    connection, other = connect(), connect()
    value(connection, "select classify_motive('warm')")
    before = len(postgres.log.read_text())
    pid = connection.info.backend_pid
    with fake_sidecar.hang():
        thread, failures = in_background(connection, "select classify_motive('cheap')")
        assert fake_sidecar.waiting.wait(WAIT_S)
        with at_most(0.2):
            value(other, "select pg_terminate_backend(%s)", pid)
            wait_until(
                lambda: value(other, "select count(*) from pg_stat_activity where pid = %s", pid),
                lambda count: count == 0,
                WAIT_S,
                "the backend to be gone",
            )
        thread.join(WAIT_S)
    assert isinstance(failures[0], errors.AdminShutdown)
    log = postgres.log.read_text()[before:]
    assert "terminated by signal" not in log
    assert "reinitializing" not in log


def test_cancel_ends_every_request_of_an_array(connect: Connect, fake_sidecar: FakeSidecar) -> None:
    """F02, for arrays: the requests that are on their way together are all given up."""
    connection, other = connect(), connect()
    value(connection, "select classify_motive('warm')")
    with fake_sidecar.hang():
        query = "select classify_motive(array_agg('cheap' || g)) from generate_series(1, 2000) g"
        thread, failures = in_background(connection, query)
        wait_until(lambda: len(fake_sidecar.requests), lambda count: count >= 3, WAIT_S, "two requests on their way")
        value(other, "select pg_cancel_backend(%s)", connection.info.backend_pid)
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert isinstance(failures[0], errors.QueryCanceled)


@pytest.mark.parametrize("phase", ["headers", "message", "trailers"])
def test_deadline_holds_while_the_server_hangs(
    phase: Phase, connection: Connection, fake_sidecar: FakeSidecar, settings: Callable[..., None]
) -> None:
    """F06: the deadline expires before headers, message or trailers: the same error each time, in time."""
    value(connection, "select classify_motive('warm')")
    settings(deadline_ms=250)
    with fake_sidecar.hang(phase), at_most(0.35), pytest.raises(errors.QueryCanceled, match="did not answer in time"):
        connection.execute("select classify_motive('cheap')")


@pytest.mark.parametrize("phase", ["connect", "send"])
def test_deadline_holds_while_the_connection_is_deaf(
    phase: str, connection: Connection, settings: Callable[..., None], tcp_proxies: list[TcpProxy]
) -> None:
    """F06: the deadline expires in connect or in send: the same error, in time; the next call works."""
    server = FakeSidecar("127.0.0.1:0")
    server.start()
    proxy = TcpProxy(("127.0.0.1", int(server.target.rpartition(":")[2])))
    tcp_proxies.append(proxy)
    value(connection, "select classify_motive('warm')")
    settings(target=proxy.address, deadline_ms=20_000)
    with ExitStack() as stack:
        stack.callback(server.stop)
        if phase == "send":
            value(connection, "select classify_motive('cheap')")
        settings(deadline_ms=250)
        text = "cheap" + "x" * 60_000
        with proxy.deaf(), at_most(0.35), pytest.raises(errors.QueryCanceled, match="did not answer in time"):
            value(connection, "select classify_motive(%s)", text)
        settings(deadline_ms=20_000)
        assert value(connection, "select classify_motive('cheap')") == "price_value"
