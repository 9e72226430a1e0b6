"""Dump and restore, pg_upgrade, and DROP EXTENSION (F60, F61)."""

import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from sidecar.account import short_directory
from sidecar.install import install
from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.annotation import Annotation, check_invariants, drain
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import create_database, value

GIFT, FAST = "a gift for my mother", "my old one is too slow"
KEPT = (
    "select * from texts order by id",
    "select motive.keys_of(keys, numbers), attempts from motive.queue",
    "select key, hash, reason from motive.failure",
    "select key, motives, corrected_by from motive.correction",
    "select target::text, text_column, mode from motive.attachment",
    "select max_attempts, retry_delay from motive.annotation_settings",
    "select tgname from pg_trigger where tgname like 'zzz%' order by 1",
)


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
    with psycopg.connect(dsn, autocommit=True) as restored:
        for query in KEPT:
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


@pytest.mark.slow
def test_pg_upgrade_keeps_everything(postgres: PrivatePostgres, fake_sidecar: FakeSidecar) -> None:
    """F60: to another cluster by pg_upgrade; here of the same version, where a machine has but one."""
    state = short_directory("pm-up-")
    old, new = (
        PrivatePostgres(state / name, port=port, durable=False) for name, port in (("old", 5433), ("new", 5434))
    )
    try:
        for server in (old, new):
            server.create()
            install(server.tree, say=lambda _: None)
        old.start(die_with_caller=True)
        with psycopg.connect(old.dsn(), autocommit=True) as connection:
            connection.execute("create extension pg_motive cascade")
            connection.execute("create table texts (id integer primary key, body text)")
            connection.execute("select motive.attach('texts', 'body')")
            connection.execute("insert into texts values (1, %s), (2, repeat('x', 70000))", [GIFT])
            drain(old.dsn(), fake_sidecar.target)
            connection.execute("insert into texts values (3, %s)", [FAST])
            kept = {query: connection.execute(query).fetchall() for query in KEPT}
        old.stop()
        upgrade = [
            str(new.tree.bindir / "pg_upgrade"),
            "--username=postgres",
            "--no-sync",
            f"--socketdir={old.sockets}",
        ]
        upgrade += [f"--old-bindir={old.tree.bindir}", f"--new-bindir={new.tree.bindir}"]
        upgrade += [f"--old-datadir={old.data}", f"--new-datadir={new.data}", "--old-port=5433", "--new-port=5434"]
        done = subprocess.run(old.account.command(*upgrade), cwd=old.data, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        new.start(die_with_caller=True)
        with psycopg.connect(new.dsn(), autocommit=True) as connection:
            for query, rows in kept.items():
                assert connection.execute(query).fetchall() == rows, query
            assert drain(new.dsn(), fake_sidecar.target) == 1
            connection.execute("insert into texts values (4, %s)", [FAST])
            assert drain(new.dsn(), fake_sidecar.target) == 1
            check_invariants(connection)
    finally:
        for server in (old, new):
            server.stop("immediate")
        shutil.rmtree(state)
