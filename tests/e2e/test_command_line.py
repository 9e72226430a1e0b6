"""The `motive` command as a user types it: answers on standard output, one sentence and a status where it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from sidecar.check import check
from sidecar.postgres_tree import PostgresTree
from sidecar.private_postgres import PrivatePostgres, copy_tree
from tests.fixtures.annotation import Annotation
from tests.fixtures.postgres import Connection
from tests.fixtures.sidecar_process import ROOT


def motive(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs one command."""
    command = [sys.executable, "-m", "sidecar", *arguments]
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)


def refused(*arguments: str, **environment: str) -> str:
    """What a command that must fail says: a sentence and a remedy, no traceback."""
    done = motive(*arguments, **environment)
    assert done.returncode == 1, done
    assert done.stderr.startswith("motive: "), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("classify", "/nonexistent.csv"), "cannot read /nonexistent.csv"),
        (("classify", "-", "--engine", "onnx:/nonexistent"), "/nonexistent"),
        (("serve", "--listen", "unix:relative.sock", "--engine", "onnx:/x"), "is not absolute"),
        (("serve", "--listen", "127.0.0.1", "--engine", "onnx:/x"), "is not HOST:PORT"),
        (("serve", "--listen", "127.0.0.1:0", "--engine", "tensorflow:/x"), "is unknown"),
        (("install", "--pg-config", "/bin/false"), "does not tell where PostgreSQL is"),
        (("install", "--pg-config", "/bin/false", "--dsn", "host=/x"), "both name a server"),
        (("install", "--without-plpython"), "needs a database"),
        (("install", "--dsn", "host=/nonexistent"), "cannot be asked"),
        (("model", "show", "/nonexistent"), "/nonexistent"),
        (("worker",), "no database is named"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_sentence_with_its_remedy(arguments: tuple[str, ...], named: str) -> None:
    assert named in refused(*arguments)


def test_standard_input_is_classified_line_by_line(tiny_repository: Path) -> None:
    lines = [{"id": "a", "text": "a cheap gift"}, {"id": 2, "text": "wireless mouse"}]
    done = motive(
        *("classify", "-", "--engine", f"onnx:{tiny_repository}"),
        stdin="".join(json.dumps(line) + "\n" for line in lines),
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["id"] == "a"
    assert set(first["motives"]) == {"price_value", "gift"}
    assert 0.5 < first["confidence"] <= 1.0
    assert (second["id"], second["motives"]) == (2, [])


def test_csv_from_standard_input_is_known_by_its_first_line(tiny_repository: Path) -> None:
    done = motive("classify", "-", "--engine", f"onnx:{tiny_repository}", stdin='id,text\n7,"cheap, really"\n')
    assert json.loads(done.stdout)["motives"] == ["price_value"], done.stderr


def test_a_bad_line_is_named_and_the_others_are_answered(tiny_repository: Path) -> None:
    done = motive(
        "classify", "-", "--engine", f"onnx:{tiny_repository}", stdin='{"id": 1, "text": "cheap"}\n{"id": 2\n'
    )
    assert json.loads(done.stdout)["id"] == 1
    assert done.returncode == 1
    assert "line 2 is not JSON" in done.stderr


def test_a_server_of_an_unsupported_version_is_refused(postgres: PrivatePostgres, tmp_path: Path) -> None:
    tree = postgres.tree
    liar = tmp_path / "pg_config"
    lines = "\n".join([str(tree.bindir), str(tree.sharedir), str(tree.pkglibdir), "PostgreSQL 14.9"])
    liar.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    liar.chmod(0o755)
    said = refused("install", "--pg-config", str(liar))
    assert "PostgreSQL 14.9 is not supported" in said
    assert "15 to 18" in said


def test_libraries_for_another_python_that_cannot_be_fetched_are_named(
    postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server's Python is not ours, and no package index answers: nothing is changed."""
    target = tmp_path_factory.mktemp("other")
    copy_tree(postgres.tree, target)
    config = next(target.glob("**/bin/pg_config"))
    library = next(target.glob("**/lib/plpython3.so"))
    ours = f"libpython3.{sys.version_info.minor}.so".encode()
    library.write_bytes(library.read_bytes().replace(ours, b"libpython3.99.so"))
    before = set(target.rglob("*"))
    dry = motive("install", "--pg-config", str(config), "--dry-run")
    assert "PL/Python with Python 3.99" in dry.stdout
    assert "fetched with pip" in dry.stdout
    said = refused(
        "install", "--pg-config", str(config), PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE="/dev/null"
    )
    assert "for Python 3.99" in said
    assert "package index" in said
    assert {path for path in set(target.rglob("*")) - before if path.is_file()} == set()


def test_the_plain_script_is_printed_by_a_dry_run() -> None:
    done = motive("install", "--without-plpython", "--dsn", "host=/nonexistent", "--dry-run")
    assert done.stdout.startswith("begin;")
    assert "create table motive.queue" in done.stdout


def page(dsn: str) -> tuple[int, str]:
    """Status and text of `motive check`."""
    lines: list[str] = []
    return check(dsn, say=lines.append), "\n".join(lines)


def test_check_sees_rows_that_no_worker_comes_for(annotation: Annotation) -> None:
    annotation.table()
    status, text = page(annotation.dsn)
    assert status == 0, text
    assert "texts.body: 0 rows waiting" in text
    annotation.execute("insert into texts (body) values ('cheap')")
    annotation.execute("update motive.queue set enqueued_at = clock_timestamp() - interval '10 min'")
    status, text = page(annotation.dsn)
    assert status == 1
    assert "the first since 60" in text
    assert "motive worker" in text
    annotation.drain()
    assert page(annotation.dsn)[0] == 0


def test_check_tells_a_user_what_a_user_may_see(connection: Connection, roles: tuple[str, str]) -> None:
    granted, stranger = roles
    status, text = page(psycopg.conninfo.make_conninfo(connection.info.dsn, user=granted))
    assert status == 0, text
    assert "only the extension's owner" in text
    assert "is performance" in text
    status, text = page(psycopg.conninfo.make_conninfo(connection.info.dsn, user=stranger))
    assert status == 1
    assert "permission denied" in text


def test_check_of_a_server_that_is_away_says_so() -> None:
    done = motive("check", "--dsn", "host=/nonexistent dbname=x")
    assert done.returncode == 1
    assert "FAIL  database" in done.stdout
    assert "start the server" in done.stdout


def test_check_without_a_database_looks_at_the_newest_servers_files() -> None:
    done = motive("check")
    assert "PL/Python with Python" in done.stdout
    assert "name one with --dsn" in done.stdout


def test_a_directory_without_a_server_is_told_apart(tmp_path: Path, postgres: PrivatePostgres) -> None:
    tree: PostgresTree = postgres.tree
    (tmp_path / "bin").mkdir()
    clients = tmp_path / "bin" / "pg_config"
    lines = "\n".join([str(tmp_path / "bin"), str(tree.sharedir), str(tree.pkglibdir), "PostgreSQL 15.1"])
    clients.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    clients.chmod(0o755)
    assert "only client programs" in refused("install", "--pg-config", str(clients))
