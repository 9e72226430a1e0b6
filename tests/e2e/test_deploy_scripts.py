"""The containers' scripts, run against real servers: PostgreSQL's first start, the setup after each, the models."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar.private_postgres import PrivatePostgres
from sidecar.releases import resolve
from sidecar.repository import open_repository
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.postgres import value
from tests.fixtures.sidecar_process import ROOT, RunSidecar, free_port

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

DEPLOY = ROOT / "sidecar" / "deploy"


@pytest.fixture
def environment(postgres: PrivatePostgres, fresh_database: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the containers have: psql, the names of the database, and files with secrets."""
    for name in ("postgres_password", "worker_password"):
        (tmp_path / name).write_text(f"it's the {name}")
    yield {
        **os.environ,
        "PATH": f"{postgres.tree.bindir}:{os.environ['PATH']}",
        "PGHOST": str(postgres.sockets),
        "PGDATABASE": "fresh",
        "PGUSER": "postgres",
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "fresh",
        "SECRETS": str(tmp_path),
    }
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("drop owned by motive_worker; drop role motive_worker")


def run(script: str, environment: dict[str, str]) -> None:
    done = subprocess.run([DEPLOY / script], env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fresh_database_is_ready_for_the_worker_and_setup_may_be_repeated(
    environment: dict[str, str], fresh_database: str, run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    """The worker's role can annotate, and nothing else; the model's taxonomy is loaded."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    run("postgres/initdb.sh", environment)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        stored = value(connection, "select rolpassword from pg_authid where rolname = 'motive_worker'")
        assert stored.startswith("SCRAM-SHA-256$")
        connection.execute("update motive.settings set target = %s", [sidecar.target])
        for _ in range(2):
            run("postgres/setup.sh", environment)
        assert value(connection, "select classify_motive('a cheap phone')") == "price_value"
        connection.execute("create table texts (id bigint primary key, body text)")
        connection.execute("select motive.attach('texts', 'body')")
        connection.execute("insert into texts values (1, 'a gift')")
        worker = psycopg.conninfo.make_conninfo(fresh_database, user="motive_worker")
        Worker(WorkerSettings(dsn=worker, target=sidecar.target, once=True)).run()
        assert value(connection, "select motive from texts") == "gift"
        with psycopg.connect(worker) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select body from texts")
        with psycopg.connect(worker) as session:
            assert session.execute("select count(*) from motive.measures()").fetchone() != (0,)
        connection.execute("drop table texts")


def test_the_models_volume_is_filled_once_and_again_after_an_upgrade(
    tmp_path: Path,
) -> None:
    """The script as it stands, but for the volume's path."""
    script = tmp_path / "release.sh"
    text = (DEPLOY / "motive" / "release.sh").read_text()
    assert "--to /models" in text
    script.write_text(text.replace("--to /models", f"--to {tmp_path}/models"))
    program = tmp_path / "motive"
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m sidecar "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MOTIVE_CACHE": str(tmp_path / "cache")}
    environment |= {"VARIANT": "cpu-int8", "BACKEND": "cpu"}
    for _ in range(2):
        done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
    served = open_repository(resolve(tmp_path / "models"))
    assert served.manifest.variant == "cpu-int8"
    assert [path.name for path in (tmp_path / "models" / "triton").iterdir()] == [resolve(tmp_path / "models").name]
    assert list((tmp_path / "cache").iterdir()) == []
