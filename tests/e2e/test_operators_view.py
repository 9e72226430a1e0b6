"""What an operator sees of the whole way: the breaker from SQL, one id from SQL to Triton, the queue in Prometheus."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from sidecar.errors import ConfigError
from sidecar.release import release
from sidecar.releases import resolve
from tests.fixtures.annotation import check_invariants
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import ROOT, RunSidecar, SidecarProcess, free_port
from tests.fixtures.tiny_model import write_tiny_model
from tests.fixtures.triton_process import RunTriton, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def session(fresh_database: str) -> Iterator[Connection]:
    """A connection to an empty database with the extension, which asks nobody yet."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create extension pg_motive cascade")
        yield connection


def use(session: Connection, sidecar: SidecarProcess) -> None:
    """The database asks this sidecar from now on."""
    session.execute("update motive.settings set target = %s", [sidecar.target])


def test_sql_sees_the_breaker_and_why_and_the_one_id_reaches_tritons_log(
    session: Connection, run_sidecar: RunSidecar, run_triton: RunTriton, tiny_repository: Path
) -> None:
    """The id names the backend, as PostgreSQL's own log does."""
    up, down = run_triton(tiny_repository), run_triton(tiny_repository)
    up.start("motive", extra=("--log-verbose=1",))
    sidecar = run_sidecar(triton_engine([up, down], tiny_repository), listen=f"127.0.0.1:{free_port()}").wait_serving()
    use(session, sidecar)
    session.execute("select motive.load_model()")
    assert value(session, "select classify_motive('a cheap phone')") == "price_value"
    pid = session.info.backend_pid
    wait_until(up.log, lambda log: f"pg-{pid}-" in log, 20, "the backend's id in Triton's log")
    columns = "backend, breaker, reason is null, ready, engine, release_error"
    query = f"select {columns} from motive.sidecar() order by backend = %s"
    rows = session.execute(query, [down.address]).fetchall()
    assert rows == [
        (up.address, "closed", True, True, "triton", None),
        (down.address, "open", False, True, "triton", None),
    ]


def test_a_release_makes_its_model_known_to_the_database_before_it_is_switched_to(
    session: Connection, fresh_database: str, tiny_repository: Path, tmp_path: Path
) -> None:
    """The first answer of the new model is understood; a database that refuses leaves everything as it was."""
    said: list[str] = []
    version = release(tiny_repository, tmp_path / "models", dsns=[fresh_database], say=said.append)
    assert session.execute("select model from motive.models").fetchall() == [(version,)]
    assert value(session, "select count(*) from motive.taxonomy") == 4
    newer = write_tiny_model(tmp_path / "newer", version="0.0.9+tiny")
    with pytest.raises(ConfigError, match="cannot be made known"):
        release(newer, tmp_path / "models", dsns=["host=/nonexistent dbname=none"], say=said.append)
    assert resolve(tmp_path / "models").name in said[0]


def test_the_embedded_engine_is_one_row_without_an_address(
    session: Connection, run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    use(session, run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving())
    assert session.execute("select engine, backend, breaker, ready from motive.sidecar()").fetchall() == [
        ("onnx", None, "closed", True)
    ]


def test_a_worker_shows_its_queue_to_prometheus(
    session: Connection, fresh_database: str, run_sidecar: RunSidecar, tiny_repository: Path, tmp_path: Path
) -> None:
    """Depth while the sidecar is away, freshness once rows are written, and never a text."""
    port = free_port()
    (tmp_path / "token").write_text("a-token-of-sixteen-characters")
    flags = ["--token-file", str(tmp_path / "token")]
    listen = f"127.0.0.1:{free_port()}"
    session.execute("create table texts (id bigint primary key, body text)")
    session.execute("select motive.attach('texts', 'body')")
    session.execute("insert into texts select n, 'cheap secretword ' || n from generate_series(1, 50) as n")
    command = [sys.executable, "-m", "sidecar", "worker", "--dsn", fresh_database, "--target", listen]
    worker = subprocess.Popen([*command, "--metrics", f"127.0.0.1:{port}", *flags], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        page = wait_until(
            lambda: scraped(port), lambda text: "motive_worker_fault 1.0" in text, 60, "the fault to be shown"
        )
        waiting = 'motive_queue_rows{priority="new",state="waiting",target="public.texts",text_column="body"} 50.0'
        wait_until(lambda: scraped(port), lambda text: waiting in text, 30, waiting)
        assert "motive_worker_database_up 1.0" in page
        run_sidecar(f"onnx:{tiny_repository}", listen=listen, flags=flags)
        page = wait_until(
            lambda: scraped(port), lambda text: "motive_worker_rows_total 50.0" in text, 60, "the rows to be written"
        )
        assert "motive_worker_fault 0.0" in page
        assert 'motive_freshness_seconds{quantile="0.99",target="public.texts",text_column="body"}' in scraped(port)
        assert "secretword" not in page
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    check_invariants(session)
    session.execute("drop table texts")


def scraped(port: int) -> str:
    """The page at /metrics; empty while nobody serves it."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except URLError:
        return ""
