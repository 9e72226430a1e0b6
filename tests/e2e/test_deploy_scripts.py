"""The containers' scripts, run against real servers: PostgreSQL's first start, the setup after each, the models."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar.private_postgres import PrivatePostgres
from sidecar.release import release
from sidecar.released import SOURCE
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
    service = tmp_path / "owner_service"
    service.write_text(f"[owner]\nhost={postgres.sockets}\ndbname=fresh\nuser=postgres\npassword=not asked for\n")
    yield {
        **os.environ,
        "PATH": f"{postgres.tree.bindir}:{os.environ['PATH']}",
        "PGHOST": str(postgres.sockets),
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "fresh",
        "SECRETS": str(tmp_path),
    }
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("drop owned by motive_worker; drop role motive_worker")


def run(script: str, environment: dict[str, str], *arguments: str) -> str:
    command = [str(DEPLOY / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
            run("postgres/setup.sh", of_the_setup(environment))
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


def test_a_backup_is_restored_into_an_empty_database_and_the_setup_finds_it_in_order(
    environment: dict[str, str], fresh_database: str, run_sidecar: RunSidecar, tiny_repository: Path, tmp_path: Path
) -> None:
    """The commands of the README: what initdb.sh and load_model put there would collide, so the database is new."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    run("postgres/initdb.sh", environment)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("update motive.settings set target = %s", [sidecar.target])
        run("postgres/setup.sh", of_the_setup(environment))
        known = connection.execute("select * from motive.taxonomies order by digest, position").fetchall()
    saved = str(tmp_path / "dump")
    for command in (
        ["pg_dump", "--username=postgres", "--format=custom", f"--file={saved}", "fresh"],
        ["dropdb", "--username=postgres", "--force", "fresh"],
        ["createdb", "--username=postgres", "fresh"],
        ["pg_restore", "--username=postgres", "--exit-on-error", "--dbname=fresh", saved],
    ):
        subprocess.run(command, env=environment, check=True, timeout=100)
    run("postgres/setup.sh", of_the_setup(environment))
    with psycopg.connect(fresh_database) as connection:
        rows = connection.execute("select * from motive.taxonomies order by digest, position").fetchall()
    assert rows == known != []


def of_the_setup(environment: dict[str, str]) -> dict[str, str]:
    """What the service `setup` has: the owner's connection as a file, and no variable of the database."""
    rest = {key: value for key, value in environment.items() if not key.startswith(("PG", "POSTGRES"))}
    return {**rest, "PGSERVICEFILE": f"{environment['SECRETS']}/owner_service", "PGSERVICE": "owner"}


@pytest.fixture
def releasing(tmp_path: Path) -> dict[str, str]:
    """What the services `models` and `release` have, but for the volume's path."""
    program = tmp_path / "motive"
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m sidecar "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MOTIVE_CACHE": str(tmp_path / "cache"),
        "MODELS": str(tmp_path / "models"),
        "VARIANT": "cpu-int8",
        "BACKEND": "cpu",
    }


def test_the_shipped_model_is_released_once_and_not_in_the_place_of_what_came_after(
    releasing: dict[str, str], tiny_repository: Path, tmp_path: Path
) -> None:
    """Each `docker compose up` runs the script. The operator's release outlives it, an upgrade included."""
    models = tmp_path / "models"
    run("motive/release.sh", releasing)
    shipped = resolve(models)
    assert open_repository(shipped).manifest.variant == "cpu-int8"
    assert [path.name for path in (models / "triton").iterdir()] == [shipped.name]
    version = release(tiny_repository, models)
    assert "nothing is changed" in run("motive/release.sh", releasing)
    lines = (models / "shipped").read_text().splitlines()
    (models / "shipped").write_text("\n".join(["pg_motive 0.0.1, older", *lines[1:]]) + "\n")
    assert "operator's release stays" in run("motive/release.sh", releasing)
    assert open_repository(resolve(models)).model_version == version
    run("motive/release.sh", releasing, "--shipped")
    assert resolve(models) == shipped
    (models / "shipped").write_text("\n".join(["pg_motive 0.0.1, older", *lines[1:]]) + "\n")
    assert "was already in" in run("motive/release.sh", releasing)
    assert (models / "shipped").read_text().splitlines() == lines


def test_another_backend_has_the_shipped_model_released_for_it(
    releasing: dict[str, str], tiny_repository: Path, tmp_path: Path
) -> None:
    """What is there may be nothing that the other engine can serve."""
    models = tmp_path / "models"
    release(tiny_repository, models)
    (models / "shipped").write_text("pg_motive 0.0.1, older\ncpu-int8/cuda\nreleases/older\n")
    run("motive/release.sh", releasing)
    assert open_repository(resolve(models)).manifest.variant == "cpu-int8"
    assert [path.name for path in (models / "triton").iterdir()] == [resolve(models).name]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_model_of_ones_own_is_released_to_a_running_sidecar_and_taken_back(
    releasing: dict[str, str],
    environment: dict[str, str],
    fresh_database: str,
    run_sidecar: RunSidecar,
    tiny_repository: Path,
    tmp_path: Path,
) -> None:
    """The database knows it before the sidecar serves it; the owner's password is in no variable and no argument."""
    models = tmp_path / "models"
    version = release(tiny_repository, models)
    sidecar = run_sidecar(f"onnx:{models}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    run("postgres/initdb.sh", environment)
    by_hand = {**of_the_setup(environment), **releasing, "BACKEND": "", "SIDECAR": sidecar.target}
    run("motive/release.sh", {**by_hand, "DATABASE": "service=owner"}, str(SOURCE))
    with psycopg.connect(fresh_database) as connection:
        assert value(connection, "select model from motive.models") == open_repository(resolve(models)).model_version
    assert f"serves {version}" in run("motive/release.sh", by_hand, "--rollback")
    assert f"{version:<40} current" in run("motive/release.sh", by_hand, "--list")
