"""A sidecar that is away, or comes back."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connection, value
from tests.fixtures.tcp_proxy import TcpProxy


def refusal(connection: Connection) -> tuple[psycopg.Error, float]:
    """The error of a call to a sidecar that is away, and the seconds it took."""
    started = time.monotonic()
    with pytest.raises(errors.SystemError) as caught:
        connection.execute("select classify_motive('cheap')")
    return caught.value, time.monotonic() - started


def test_an_absent_sidecar_is_named_at_once_and_found_when_it_comes(
    connection: Connection, settings: Callable[..., None], postgres_state: Path
) -> None:
    """F04: no sidecar: error within 100 ms, class 58000, a hint that names the setting; the next call finds it."""
    value(connection, "select classify_motive('warm')")
    target = f"unix:{postgres_state}/late.sock"
    settings(target=target)
    error, first = refusal(connection)
    assert error.sqlstate == "58000"
    assert "correct target and tls_* in motive.settings" in (error.diag.message_hint or "")
    assert str(postgres_state) not in str(error), "a caller must not learn the settings"
    assert first < 2.5, "far below the deadline: nothing was waited for"
    refusal(connection)
    late = FakeSidecar(target)
    late.start()
    try:
        assert value(connection, "select classify_motive('cheap')") == "price_value"
    finally:
        late.stop()


def test_a_restarted_sidecar_is_found_by_the_next_call(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F05: the sidecar restarts between two calls of one session: the second succeeds."""
    for _ in range(3):
        assert value(connection, "select classify_motive('cheap')") == "price_value"
        fake_sidecar.stop()
        fake_sidecar.start()
    assert value(connection, "select classify_motive('gift')") == "gift"


def test_a_connection_that_was_reset_is_made_anew(
    connection: Connection, settings: Callable[..., None], tcp_proxies: list[TcpProxy]
) -> None:
    """F05, over TCP: the connection is reset between two calls, or refused for a while."""
    server = FakeSidecar("127.0.0.1:0")
    server.start()
    try:
        proxy = TcpProxy(("127.0.0.1", int(server.target.rpartition(":")[2])))
        tcp_proxies.append(proxy)
        settings(target=proxy.address)
        assert value(connection, "select classify_motive('cheap')") == "price_value"
        proxy.reset()
        assert value(connection, "select classify_motive('cheap')") == "price_value"
        with proxy.drop():
            refusal(connection)
        assert value(connection, "select classify_motive('cheap')") == "price_value"
    finally:
        server.stop()


def test_a_sidecar_that_dies_under_an_array_fails_the_statement_cleanly(
    connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F05, in mid-call: the error is the same, and the session goes on."""
    value(connection, "select classify_motive('warm')")
    fake_sidecar.stop()
    with pytest.raises(errors.SystemError):
        connection.execute("select classify_motive(array_agg('a' || g)) from generate_series(1, 1000) g")
    fake_sidecar.start()
    assert value(connection, "select classify_motive('gift')") == "gift"


def test_a_token_is_sent_and_read_anew_when_it_was_exchanged(
    connection: Connection, fake_sidecar: FakeSidecar, settings: Callable[..., None], postgres_state: Path
) -> None:
    """F05, for tokens: the sidecar's token changes between two calls of one session."""
    token = postgres_state / "token"
    for secret in ("first-token-0123456789", "second-token-0123456789"):
        fake_sidecar.token = secret
        with pytest.raises(errors.SystemError, match="another certificate or token") as caught:
            connection.execute("select classify_motive('cheap')")
        assert "token_file" in (caught.value.diag.message_hint or "")
        token.write_text(secret + "\n")
        settings(token_file=str(token))
        assert value(connection, "select classify_motive('cheap')") == "price_value"
    token.unlink()
    settings(token_file=str(token) + ".missing")
    with pytest.raises(errors.SystemError, match="cannot be read"):
        connection.execute("select classify_motive('cheap')")
