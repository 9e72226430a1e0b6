"""A streaming replica: annotations are plain data there, and direct calls work as on the primary."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import RunSidecar, free_port
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def replica(postgres: PrivatePostgres, postgres_state: Path) -> Iterator[PrivatePostgres]:
    """A hot standby of the session's server, with the same executables and the same client."""
    access = postgres.data / "pg_hba.conf"
    before = access.read_text()
    access.write_text(before + "local replication all trust\n")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")
        standby = PrivatePostgres(postgres_state / "replica", port=5433)
        standby.state.mkdir()
        (standby.state / "server").symlink_to(postgres.state / "server")
        for directory in (standby.data, standby.sockets):
            directory.mkdir(mode=0o700)
            directory.chmod(0o700)
            standby.account.own(directory)
        standby.log.touch()
        standby.account.own(standby.log)
        copy = [str(postgres.tree.bindir / "pg_basebackup"), "--pgdata", str(standby.data), "--write-recovery-conf"]
        copy += ["--host", str(postgres.sockets), "--username=postgres", "--checkpoint=fast", "--no-sync"]
        subprocess.run(standby.account.command(*copy), check=True, capture_output=True, cwd="/")
        with (standby.data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write(f"port = 5433\nunix_socket_directories = '{standby.sockets}'\n")
        standby.start(die_with_caller=True)
        yield standby
        standby.stop("immediate")
        access.write_text(before)
        connection.execute("select pg_reload_conf()")


def test_a_replica_shows_annotations_and_answers_direct_calls(
    fresh_database: str, replica: PrivatePostgres, run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    """Attaching and queueing belong to the primary; the replica refuses them as it refuses any write."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    with psycopg.connect(fresh_database, autocommit=True) as primary:
        primary.execute("create extension pg_motive cascade")
        primary.execute("update motive.settings set target = %s", [sidecar.target])
        primary.execute("select motive.load_model()")
        primary.execute("create table texts (id bigint primary key, body text)")
        primary.execute("select motive.attach('texts', 'body', 'inline', '5 s')")
        primary.execute("insert into texts values (1, 'a birthday gift')")
        end = value(primary, "select pg_current_wal_insert_lsn()::text")
        with psycopg.connect(replica.dsn(), autocommit=True) as standby:
            wait_until(
                lambda: value(standby, "select pg_last_wal_replay_lsn() >= %s::pg_lsn", end), bool, 30, "the replica"
            )
        with psycopg.connect(replica.dsn("fresh"), autocommit=True) as standby:
            _check(standby)
        primary.execute("drop table texts")


def _check(standby: Connection) -> None:
    assert value(standby, "select pg_is_in_recovery()")
    assert value(standby, "select motive from texts") == "gift"
    assert value(standby, "select classify_motive('a cheap phone')") == "price_value"
    query = "select motive from motive.classify_rows('select id::text, body from texts')"
    assert value(standby, query) == "gift"
    assert value(standby, "select count(*) from motive.status") == 1
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.execute("select motive.backfill('texts')")
