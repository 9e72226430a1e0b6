"""Dump and restore, DROP EXTENSION, and databases without PL/Python (F60, F61)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar.errors import ConfigError
from sidecar.managed import install_managed, managed_script, uninstall_managed
from sidecar.private_postgres import PrivatePostgres
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.annotation import Annotation, check_invariants, clean
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connection, create_database, value

GIFT, FAST = "a gift for my mother", "my old one is too slow"


def drain(dsn: str, target: str) -> int:
    """Runs a worker on the database until nothing is left to do."""
    worker = Worker(WorkerSettings(dsn=dsn, target=target, once=True))
    worker.run()
    return worker.written


def test_a_dump_restores_everything_and_enqueues_nothing_twice(
    annotation: Annotation, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    """F60: settings, queue, failures, corrections, triggers and labels survive pg_dump and pg_restore."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s), (repeat('x', 70000))", GIFT, FAST)
    annotation.drain()
    annotation.value("select motive.correct('texts', '2', '{gift}')")
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    saved = tmp_path / "dump"
    bindir = postgres.tree.bindir
    subprocess.run([bindir / "pg_dump", "-Fc", "-f", saved, annotation.dsn], check=True)
    dsn = create_database(postgres, "restored")
    subprocess.run([bindir / "pg_restore", "--exit-on-error", "-d", dsn, saved], check=True)
    kept = (
        "select * from texts order by id",
        "select keys, attempts from motive.queue",
        "select key, hash, reason from motive.failure",
        "select key, motives, corrected_by from motive.correction",
        "select target::text, text_column, mode from motive.attachment",
        "select max_attempts, retry_delay from motive.annotation_settings",
        "select tgname from pg_trigger where tgname like 'zzz%' order by 1",
    )
    with psycopg.connect(dsn, autocommit=True) as restored:
        for query in kept:
            assert restored.execute(query).fetchall() == annotation.connection.execute(query).fetchall(), query
        assert drain(dsn, annotation.fake.target) == 1
        restored.execute("insert into texts (body) values (%s)", [FAST])
        assert drain(dsn, annotation.fake.target) == 1
        check_invariants(restored)
    annotation.execute("drop database restored with (force)")
    annotation.drain()
    annotation.check()


def test_dropping_the_extension_keeps_tables_and_labels(fresh_database: str, fake_sidecar: FakeSidecar) -> None:
    """F61: refused while tables are attached; with CASCADE the triggers go and everything of the user's stays."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create extension pg_motive cascade")
        connection.execute("create table texts (id integer primary key, body text)")
        connection.execute("select motive.attach('texts', 'body')")
        connection.execute("insert into texts values (1, %s)", [GIFT])
        drain(fresh_database, fake_sidecar.target)
        check_invariants(connection)
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            connection.execute("drop extension pg_motive")
        connection.execute("drop extension pg_motive cascade")
        connection.execute("insert into texts values (2, %s); update texts set body = body || '!'".replace("%s", "'x'"))
        assert connection.execute("select id, motive from texts order by id").fetchall() == [(1, "gift"), (2, None)]
        assert value(connection, "select count(*) from pg_trigger where tgrelid = 'texts'::regclass") == 0
        connection.execute("create extension pg_motive")
        connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
        assert drain(fresh_database, fake_sidecar.target) == 2
        check_invariants(connection)


def test_dropping_the_extension_after_detach_needs_no_cascade(fresh_database: str) -> None:
    """F61: what was detached leaves nothing that depends on it."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create extension pg_motive cascade")
        connection.execute("create table texts (id integer primary key, body text)")
        connection.execute("select motive.attach('texts', 'body'), motive.detach('texts')")
        connection.execute("drop extension pg_motive")
        assert value(connection, "select count(*) from pg_namespace where nspname = 'motive'") == 0


@pytest.fixture
def managed(postgres: PrivatePostgres) -> Iterator[str]:
    """Connection string of a database that an ordinary role owns, as that role."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("create role landlord login")
        create_database(postgres, "managed")
        connection.execute("alter database managed owner to landlord")
        yield postgres.dsn("managed", "landlord")
        connection.execute("drop database managed with (force)")
        connection.execute("drop role landlord")


def test_an_ordinary_owner_annotates_without_pl_python(managed: str, fake_sidecar: FakeSidecar) -> None:
    """The plain script gives the same queue, the same functions and the same worker."""
    said: list[str] = []
    install_managed(managed, said.append)
    install_managed(managed, said.append)
    assert said[-1].endswith("is there")
    with psycopg.connect(managed, autocommit=True) as connection:
        everything(connection, managed, fake_sidecar.target)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="without PL/Python"):
            connection.execute("select classify_motive('x')")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="needs PL/Python"):
            connection.execute("select motive.attach('texts', 'body', 'inline')")
        clean(connection)
    uninstall_managed(managed, said.append)
    with pytest.raises(ConfigError):
        uninstall_managed(managed, said.append)


def everything(connection: Connection, dsn: str, target: str) -> None:
    """Attach, insert, update, backfill, correct: as in a database that has the extension."""
    connection.execute("create table texts (id integer primary key, body text)")
    connection.execute("insert into texts values (0, %s)", [FAST])
    connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
    connection.execute("insert into texts values (1, %s), (2, %s)", [GIFT, FAST])
    drain(dsn, target)
    connection.execute("update texts set body = %s where id = 2", [GIFT])
    connection.execute("select motive.correct('texts', '1', '{performance}')")
    drain(dsn, target)
    labels = connection.execute("select id, motive from texts order by id").fetchall()
    assert labels == [(0, "performance"), (1, "performance"), (2, "gift")]
    assert connection.execute("select waiting, failed from motive.status").fetchone() == (0, 0)
    check_invariants(connection)


def test_the_managed_script_is_plain_sql() -> None:
    """No psql metacommands, nothing of extensions, no PL/Python: any client can send it."""
    script = managed_script()
    for word in ("\n\\", "@extschema@", "pg_extension_config_dump", "plpython3u"):
        assert word not in script
