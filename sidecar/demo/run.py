"""Starting and stopping the demo: PostgreSQL, the extension, the sidecar, the worker, the sample texts."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import psycopg

from sidecar.demo.live import show_live
from sidecar.demo.servers import configure, console, start_sidecar, start_worker, step
from sidecar.demo.show import show, statement
from sidecar.demo.state import DATABASE, DemoState, demo_state, stop_process, wait_until
from sidecar.errors import ConfigError
from sidecar.install import install

NEEDED_MIB = 600

_NEXT = """Go on with:
  [bold]make psql[/bold]    and there, for example:
      select classify_motive('gift for my dad who loves fishing');
      insert into shop.arrivals (body) values ('So quiet that the baby sleeps on');
      select body, motive, motives from shop.arrivals order by id desc limit 1;
      select * from motive.status;
  [bold].venv/bin/motive check --dsn "$(.venv/bin/motive demo dsn)"[/bold]    what works and what does not, on one page
  [bold].venv/bin/motive demo dsn[/bold]    the connection string, for scripts
  [bold]make stop[/bold]    stops the servers and removes their files"""


def start() -> int:
    """`motive demo start`: starts what is not running, annotates the samples and shows them."""
    state = _own_state()
    started = time.monotonic()
    console.print(f"[dim]The demo lives in {state.path} (about 300 MB); make stop removes it.[/dim]", soft_wrap=True)
    with _explained(state):
        if not (state.path / "ready").exists():
            _create(state)
        if state.postgres.pid() is None:
            with step("starting PostgreSQL"):
                state.postgres.start()
        start_sidecar(state)
        with psycopg.connect(state.dsn, autocommit=True) as connection:
            _annotate(state, connection)
            show(connection, console)
            show_live(state, connection, console)
    console.print(f"\nReady after {time.monotonic() - started:.0f} s; PostgreSQL, sidecar and worker go on running.")
    console.print(_NEXT, soft_wrap=True)
    return 0


def stop() -> int:
    """`motive demo stop`: stops everything and removes the demo's directory."""
    state = _own_state()
    if not state.path.exists():
        console.print("No demo is running from this checkout.")
        return 0
    with step("stopping the demo and removing its files"):
        stop_process(state.worker_pid)
        stop_process(state.sidecar_pid)
        try:
            state.postgres.stop("fast")
        finally:
            shutil.rmtree(state.path, ignore_errors=True)
    return 0


def psql() -> int:
    """`motive demo psql`: psql in the demo's database."""
    state = _running()
    program = state.postgres.tree.bindir / "psql"
    return subprocess.run([str(program), state.dsn], check=False).returncode


def dsn() -> int:
    """`motive demo dsn`: prints the connection string."""
    print(_running().dsn)
    return 0


def _own_state() -> DemoState:
    """The demo's state. Programs are run from it, and everybody may make directories beside it."""
    state = demo_state()
    if state.path.exists() and state.path.lstat().st_uid != os.geteuid():
        raise ConfigError(f"{state.path} belongs to another user", "Set MOTIVE_DEMO_STATE to a directory of your own.")
    return state


def _running() -> DemoState:
    state = _own_state()
    if not state.path.exists() or state.postgres.pid() is None:
        raise ConfigError("the demo is not running", "Run make demo first.")
    return state


@contextmanager
def _explained(state: DemoState) -> Iterator[None]:
    """Turns what the system or PostgreSQL refuses into one sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or state.path
        raise ConfigError(f"{where}: {error.strerror}", "Mend this, then make stop and make demo.") from None
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"the demo's database refuses: {reason}", "Run make stop, then make demo.") from None


def _create(state: DemoState) -> None:
    """Makes the directory with its PostgreSQL, model and database; a half-made one from before is replaced."""
    if state.path.exists():
        stop()
    before = os.umask(0o022)  # the account that the servers run under must be able to read what we write
    try:
        try:
            free = shutil.disk_usage(state.path.parent).free // 2**20
            if free < NEEDED_MIB:
                place = state.path.parent
                raise ConfigError(f"{place} has {free} MiB free; the demo needs {NEEDED_MIB}", "Free some room.")
            state.path.mkdir(mode=0o755)
        except OSError as error:
            raise ConfigError(
                f"cannot create {state.path}: {error.strerror}", "Set MOTIVE_DEMO_STATE to a directory of your own."
            ) from None
        prepare(state)
        (state.path / "ready").touch()
    finally:
        os.umask(before)


def prepare(state: DemoState) -> None:
    """PostgreSQL with the extension installed and running, the model built, an empty database."""
    from sidecar.model_build import build_variant
    from sidecar.released import SOURCE, VARIANT

    postgres = state.postgres
    with step("copying PostgreSQL's programs and creating a private cluster"):
        postgres.state.mkdir()
        postgres.create()
    with step("installing the extension into the private copy"):
        install(postgres.tree, say=lambda _: None)
    with step("building the model's variant for this processor"):
        state.model.parent.mkdir()
        build_variant(SOURCE, VARIANT, state.model)
    with step("starting PostgreSQL"):
        postgres.start()
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {DATABASE}")


def _annotate(state: DemoState, connection: psycopg.Connection) -> None:
    configure(connection, state)
    if connection.execute("select to_regclass('shop.texts')").fetchone() == (None,):
        with step("loading the sample reviews, queries and posts"), connection.transaction():
            connection.execute(statement("create").encode())
            connection.execute(statement("attach").encode())
            with connection.cursor().copy(statement("load").encode()) as copy:
                copy.write(_samples().read_bytes())
    start_worker(state)
    with step("waiting for the annotations"):
        wait_until(lambda: connection.execute(statement("pending").encode()).fetchone() == (0,), 60, "the annotation")


def _samples() -> Path:
    return Path(str(files("sidecar.demo") / "samples.csv"))
