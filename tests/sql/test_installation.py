"""`motive install`, `uninstall` and `check` on a private server's files."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sidecar import __version__, limits
from sidecar.check import check
from sidecar.errors import ConfigError
from sidecar.extension_script import SCRIPT, script, sources
from sidecar.install import find_tree, install, installed_version, tree_of_dsn, uninstall
from sidecar.pb import motive_pb2 as pb
from sidecar.postgres_tree import PostgresTree, newest_tree
from sidecar.private_postgres import PrivatePostgres, copy_tree
from tests.fixtures.fake_sidecar import FakeSidecar, described_model
from tests.fixtures.postgres import Connection, value


def quiet(_: str) -> None:
    """Says nothing."""


def files(tree: PostgresTree) -> set[Path]:
    """Every file and directory of a server."""
    root = tree.sharedir.parents[2]
    return set(root.rglob("*"))


@pytest.fixture(scope="module")
def bare_tree(tmp_path_factory: pytest.TempPathFactory) -> PostgresTree:
    """A server's files without pg_motive."""
    target = tmp_path_factory.mktemp("bare")
    copy_tree(newest_tree(), target)
    return find_tree(pg_config=str(next(target.glob("**/bin/pg_config"))))


def test_uninstall_removes_exactly_what_install_made(bare_tree: PostgresTree) -> None:
    before = files(bare_tree)
    install(bare_tree, dry_run=True, say=quiet)
    assert files(bare_tree) == before, "a dry run changes nothing"
    install(bare_tree, say=quiet)
    install(bare_tree, say=quiet)
    assert installed_version(bare_tree) == __version__
    assert len(list(bare_tree.client_dir.parent.iterdir())) == 3, "the client, the link to it, and the list of files"
    assert list(bare_tree.client_dir.rglob("*.pyc")), "compiled, so that no session has to"
    lines: list[str] = []
    uninstall(bare_tree, dry_run=True, say=lines.append)
    assert any(SCRIPT in line for line in lines)
    uninstall(bare_tree, say=quiet)
    assert files(bare_tree) == before
    with pytest.raises(ConfigError, match="not installed"):
        uninstall(bare_tree, say=quiet)


def test_a_server_is_found_by_its_dsn(postgres: PrivatePostgres) -> None:
    tree = tree_of_dsn(postgres.dsn())
    assert tree.client_dir == postgres.tree.client_dir
    assert tree.version == postgres.tree.version
    with pytest.raises(ConfigError, match="cannot be asked"):
        tree_of_dsn("host=/nonexistent dbname=postgres")
    with pytest.raises(ConfigError, match="does not tell where"):
        find_tree(pg_config="/bin/false")


def test_check_names_what_is_missing(
    postgres: PrivatePostgres, connection: Connection, fake_sidecar: FakeSidecar, fresh_database: str
) -> None:
    lines: list[str] = []
    assert check(connection.info.dsn, say=lines.append) == 0, lines
    assert any("fake@1.0.0" in line for line in lines)
    lines.clear()
    assert check(fresh_database, say=lines.append) == 1
    assert any("create extension pg_motive cascade" in line for line in lines)
    with psycopg.connect(fresh_database, autocommit=True) as fresh:
        fresh.execute("create extension pg_motive cascade")
    lines.clear()
    assert check(fresh_database, say=lines.append) == 1
    assert any("could not be reached" in line for line in lines)
    assert any("motive serve" in line for line in lines)


def test_check_tells_of_an_engine_that_does_not_answer_and_of_a_release_that_is_refused(
    connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    def ailing(request: pb.GetModelRequest) -> pb.GetModelResponse:
        said = described_model(request)
        said.ready = False
        said.release_error = "motive-2 is refused: no model"
        said.backends.add(address="triton:8001", breaker=pb.BREAKER_STATE_OPEN, reason="does not answer")
        return said

    fake_sidecar.get_model = ailing
    lines: list[str] = []
    assert check(connection.info.dsn, say=lines.append) == 1
    page = "\n".join(lines)
    assert "FAIL  engine     not ready; triton:8001 open: does not answer" in page
    assert "FAIL  release    motive-2 is refused: no model" in page
    assert "motive release --rollback" in page


def test_make_builds_the_same_script(tmp_path: Path) -> None:
    for part in ("Makefile", "pg_motive.control"):
        (tmp_path / part).write_bytes((sources() / part).read_bytes())
    (tmp_path / "pg_motive").symlink_to(sources() / "pg_motive")
    subprocess.run(["make", "-s", "-C", str(tmp_path), "script"], check=True, capture_output=True)
    assert (tmp_path / SCRIPT).read_text(encoding="utf-8") == script()


def test_the_control_file_names_the_packages_version() -> None:
    text = (sources() / "pg_motive.control").read_text(encoding="utf-8")
    assert re.search(r"default_version = '(.*)'", text).group(1) == __version__  # type: ignore[union-attr]


def test_the_extension_is_created_in_any_schema_and_dropped_whole(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute('create extension plpython3u; create schema "My Tools"')
        connection.execute('create extension pg_motive schema "My Tools"')
        connection.execute("create role visitor")
        try:
            connection.execute("select motive.grant_usage('visitor')")
            granted = """select has_function_privilege('visitor', '"My Tools".classify_motive(text)', 'EXECUTE')"""
            assert value(connection, granted) is True
            connection.execute("drop extension pg_motive")
            left = "select count(*) from pg_namespace where nspname = 'motive'"
            assert value(connection, left) == 0
        finally:
            connection.execute("drop owned by visitor; drop role visitor")


def test_limits_and_defaults_of_sql_are_those_of_python(connection: Connection) -> None:
    rows = connection.execute("select name, value from motive.limits").fetchall()
    stated: dict[str, int] = dict(rows)
    assert stated == {name: getattr(limits, name.upper()) for name in stated}
    default = """select column_default::int from information_schema.columns
                 where table_schema = 'motive' and table_name = 'settings' and column_name = 'deadline_ms'"""
    assert value(connection, default) == limits.DEFAULT_DEADLINE_MS


def test_a_restored_dump_brings_settings_model_and_taxonomy(
    postgres: PrivatePostgres,
    connection: Connection,
    settings: Callable[..., None],
    database: str,
    fresh_database: str,
) -> None:
    settings(deadline_ms=4321)
    pg_dump, pg_restore = (str(postgres.tree.bindir / name) for name in ("pg_dump", "pg_restore"))
    dump = subprocess.run([pg_dump, "-Fc", "-d", database], check=True, capture_output=True).stdout
    restore = [pg_restore, "--exit-on-error", "-d", fresh_database]
    subprocess.run(restore, input=dump, check=True, capture_output=True)
    with psycopg.connect(fresh_database, autocommit=True) as restored:
        for table in ("motive.settings", "motive.models", "motive.taxonomies", "motive.taxonomy"):
            rows = f"select * from {table} order by 1, 2"
            assert restored.execute(rows).fetchall() == connection.execute(rows).fetchall()
        assert value(restored, "select classify_motive('cheap')") == "price_value"
