"""An installation that was upgraded equals a fresh one (F59).

There is one version so far, so an older one is made here out of it; each script in sql/upgrade comes under the same
test as soon as it is there, from the installation script of its first version, kept in tests/sql/released.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar import __version__
from sidecar.extension_script import script, upgrade_scripts
from sidecar.managed import managed_script, plain
from sidecar.private_postgres import PrivatePostgres
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.annotation import check_invariants
from tests.fixtures.catalog import objects
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connection, create_database, value

RELEASED = Path(__file__).parent / "released"
GUARD = '\\echo Use "ALTER EXTENSION pg_motive UPDATE" to load this file. \\quit\n'
OLDER = "0.0.9"
ATTACH = "create table if not exists texts (id integer primary key, body text); select motive.attach('texts', 'body')"


def older_script() -> str:
    """The installation script of a version without one column, one view, and with another body of a function."""
    return without_problem(script()).replace(
        "limit 1001) as n having count(*) between 1 and 1000", "limit 101) as n having count(*) between 1 and 100"
    )


def without_problem(text: str) -> str:
    """A script without the column motive.job.problem, and without what motive.jobs shows of it."""
    return (
        text.replace("    finished_at timestamptz,\n    problem text\n", "    finished_at timestamptz\n")
        .replace(definition(r",\n[^\n]* as problem(?=\nfrom motive.job )"), "")
        .replace(problem_comment(), "")
    )


def problem_comment() -> str:
    """The statement that explains the missing column."""
    return definition(r"comment on column motive.job.problem is [^\n]*\n")


def definition(pattern: str) -> str:
    """One statement of the installation script."""
    found = re.search(pattern, script(), re.DOTALL)
    assert found, pattern
    return found.group()


def upgrade_script() -> str:
    """From the older version to ours, as sql/upgrade/README.md says that such a script is written."""
    jobs = definition(r"create view motive.jobs .*?;\n")
    capture = definition(r"create function motive.capture_statements.*?\n\$\$;\n")
    return (
        GUARD
        + "set local search_path to pg_catalog, pg_temp;\n"
        + "alter table motive.job add column problem text;\n"
        + problem_comment()
        + jobs.replace("create view", "create or replace view")
        + capture.replace("create function", "create or replace function")
    )


@pytest.fixture
def older(postgres: PrivatePostgres) -> Iterator[None]:
    """A server that offers the older version and the way to ours."""
    directory = postgres.tree.sharedir / "extension"
    files = {
        directory / f"pg_motive--{OLDER}.sql": older_script(),
        directory / f"pg_motive--{OLDER}--{__version__}.sql": upgrade_script(),
    }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    yield
    for path in files:
        path.unlink()


@pytest.fixture
def two_databases(postgres: PrivatePostgres) -> Iterator[tuple[Connection, Connection]]:
    """Connections to two empty databases."""
    names = ("upgraded", "newest")
    dsns = [create_database(postgres, name) for name in names]
    with psycopg.connect(dsns[0], autocommit=True) as one, psycopg.connect(dsns[1], autocommit=True) as other:
        yield one, other
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        for name in names:
            connection.execute(f"drop database {name} with (force)")


def test_an_upgraded_installation_equals_a_fresh_one(
    older: None, two_databases: tuple[Connection, Connection], fake_sidecar: FakeSidecar
) -> None:
    """F59: with a table attached and rows in the queue, which survive and are annotated afterwards."""
    upgraded, newest = two_databases
    upgraded.execute(f"create extension pg_motive version '{OLDER}' cascade")
    upgraded.execute(ATTACH)
    upgraded.execute("insert into texts select i, 'a gift' from generate_series(1, 100) i")
    newest.execute("create extension pg_motive cascade")
    newest.execute(ATTACH)
    assert objects(upgraded) != objects(newest)
    upgraded.execute("alter extension pg_motive update")
    upgraded.execute("insert into texts values (101, 'a gift')")
    upgraded.execute("select motive.sweep()")
    assert objects(upgraded) == objects(newest)
    assert value(upgraded, "select extversion from pg_extension where extname = 'pg_motive'") == __version__
    assert value(upgraded, "select sum(cardinality(numbers)) from motive.queue") == 101
    worker = Worker(WorkerSettings(dsn=upgraded.info.dsn, target=fake_sidecar.target, once=True))
    worker.run()
    assert worker.written == 101
    check_invariants(upgraded)


def test_the_same_upgrade_serves_databases_without_pl_python(two_databases: tuple[Connection, Connection]) -> None:
    """F59: as a plain script."""
    upgraded, newest = two_databases
    body = managed_script()
    newest.execute(body.encode())
    for part in ("problem", "capture"):
        assert part in body
    upgraded.execute(without_problem(body).encode())
    for connection in (upgraded, newest):
        connection.execute(ATTACH)
    upgraded.execute(plain(upgrade_script()).encode())
    upgraded.execute("select motive.sweep()")
    assert objects(upgraded) == objects(newest)


def chains() -> dict[str, list[str]]:
    """For each version from which upgrades start: the steps to ours."""
    steps = {tuple(name.removesuffix(".sql").split("--")[1:]): name for name in upgrade_scripts()}
    starts = {old for old, _ in steps} - {new for _, new in steps}
    found = {}
    for start in starts:
        at, path = start, []
        while at != __version__:
            (at,) = (new for old, new in steps if old == at)
            path.append(at)
        found[start] = path
    return found


def test_every_upgrade_path_gives_the_newest_version(
    postgres: PrivatePostgres, two_databases: tuple[Connection, Connection]
) -> None:
    """F59: from the oldest version that was released, step by step."""
    _, newest = two_databases
    newest.execute("create extension pg_motive cascade")
    newest.execute(ATTACH)
    wanted = objects(newest)
    for start, path in chains().items():
        base = RELEASED / f"pg_motive--{start}.sql"
        installed = postgres.tree.sharedir / "extension" / base.name
        installed.write_bytes(base.read_bytes())
        with psycopg.connect(create_database(postgres, "oldest"), autocommit=True) as oldest:
            oldest.execute(f"create extension pg_motive version '{start}' cascade")
            oldest.execute(ATTACH)
            for step in path:
                oldest.execute(f"alter extension pg_motive update to '{step}'")
            oldest.execute("select motive.sweep()")
            assert objects(oldest) == wanted, f"from {start}"
        newest.execute("drop database oldest with (force)")
        installed.unlink()
