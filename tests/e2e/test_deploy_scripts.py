"""The containers' scripts, run against real servers: the setup after each start, the models."""

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
    """PostgreSQL's programs and where its server is; beside it the containers' secrets, as files."""
    (tmp_path / "worker_password").write_text("it's the worker_password")
    service = tmp_path / "owner_service"
    service.write_text(f"[owner]\nhost={postgres.sockets}\ndbname=fresh\nuser=postgres\npassword=not asked for\n")
    yield {
        **os.environ,
        "PATH": f"{postgres.tree.bindir}:{os.environ['PATH']}",
        "PGHOST": str(postgres.sockets),
        "PGUSER": "postgres",
        "SECRETS": str(tmp_path),
    }
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("drop owned by motive_worker; drop role motive_worker")


def run(script: str, environment: dict[str, str], *arguments: str, may_fail: bool = False) -> str:
    """What the script says."""
    command = [str(DEPLOY / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def interrupted_setup(environment: dict[str, str], database: str, target: str) -> None:
    """Runs setup.sh, which ends as no sidecar is where the containers have theirs; then the database knows `target`."""
    run("postgres/setup.sh", of_the_setup(environment), may_fail=True)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("update motive.settings set target = %s", [target])


def test_the_setup_makes_a_new_server_ready_for_the_worker_and_may_be_interrupted_and_repeated(
    environment: dict[str, str], fresh_database: str, run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    """The worker's role can annotate, and nothing else; the model's taxonomy is loaded."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    subprocess.run(["dropdb", "fresh"], env=environment, check=True, timeout=100)
    interrupted_setup(environment, fresh_database, sidecar.target)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        password = "select rolpassword from pg_authid where rolname = 'motive_worker'"
        stored = value(connection, password)
        assert stored.startswith("SCRAM-SHA-256$")
        for _ in range(2):
            run("postgres/setup.sh", of_the_setup(environment))
        assert value(connection, password) == stored
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
    """The commands of the README: what the setup puts there would collide, so the database is new."""
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{free_port()}").wait_serving()
    interrupted_setup(environment, fresh_database, sidecar.target)
    run("postgres/setup.sh", of_the_setup(environment))
    with psycopg.connect(fresh_database) as connection:
        known = connection.execute("select * from motive.taxonomies order by digest, position").fetchall()
    saved = str(tmp_path / "dump")
    for command in (
        ["pg_dump", "--format=custom", f"--file={saved}", "fresh"],
        ["dropdb", "--if-exists", "--force", "fresh"],
        ["createdb", "fresh"],
        ["pg_restore", "--exit-on-error", "--dbname=fresh", saved],
    ):
        subprocess.run(command, env=environment, check=True, timeout=100)
    run("postgres/setup.sh", of_the_setup(environment))
    with psycopg.connect(fresh_database) as connection:
        rows = connection.execute("select * from motive.taxonomies order by digest, position").fetchall()
    assert rows == known != []


def test_the_workers_password_is_in_no_log_of_a_server_that_logs_every_statement(
    environment: dict[str, str], postgres: PrivatePostgres, fresh_database: str
) -> None:
    """Nor in what the script says. Here only the database exists before."""
    begin = postgres.log.stat().st_size
    logged = {**of_the_setup(environment), "PGOPTIONS": "-c log_statement=all -c log_min_duration_statement=0"}
    said = run("postgres/setup.sh", logged, may_fail=True)
    with psycopg.connect(fresh_database) as connection:
        assert value(connection, "select rolpassword is not null from pg_authid where rolname = 'motive_worker'")
    log = postgres.log.read_bytes()[begin:].decode()
    assert "create extension" in log
    assert "the worker_password" not in log + said


def of_the_setup(environment: dict[str, str]) -> dict[str, str]:
    """What the service `setup` has: the database's name, and the connection of its owner as a file."""
    rest = {key: value for key, value in environment.items() if not key.startswith("PG")}
    secrets = rest.pop("SECRETS")
    return {
        **rest,
        "POSTGRES_DB": "fresh",
        "PGSERVICEFILE": f"{secrets}/owner_service",
        "PGSERVICE": "owner",
        "WORKER_PASSWORD_FILE": f"{secrets}/worker_password",
    }


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
    interrupted_setup(environment, fresh_database, sidecar.target)
    by_hand = {**of_the_setup(environment), **releasing, "BACKEND": "", "SIDECAR": sidecar.target}
    run("motive/release.sh", {**by_hand, "DATABASE": "service=owner"}, str(SOURCE))
    with psycopg.connect(fresh_database) as connection:
        assert value(connection, "select model from motive.models") == open_repository(resolve(models)).model_version
    assert f"serves {version}" in run("motive/release.sh", by_hand, "--rollback")
    assert f"{version:<40} current" in run("motive/release.sh", by_hand, "--list")
