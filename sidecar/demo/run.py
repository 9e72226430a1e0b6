"""Starting and stopping the demo: PostgreSQL, the extension, the sidecar, the worker, the sample texts."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

from sidecar.demo.show import show, statement
from sidecar.demo.state import DATABASE, ROOT, DemoState, demo_state, running, stop_process, wait_until
from sidecar.errors import ConfigError
from sidecar.install import install

NEEDED_MIB = 600

console = Console()


def start() -> int:
    """`motive demo start`: starts what is not running, annotates the samples and shows them."""
    state = demo_state()
    started = time.monotonic()
    console.print(f"[dim]The demo lives in {state.path} (about 300 MB); make stop removes it.[/dim]")
    if not (state.path / "ready").exists():
        _create(state)
    if state.postgres.pid() is None:
        with step("starting PostgreSQL"):
            state.postgres.start()
    start_sidecar(state)
    with psycopg.connect(state.dsn, autocommit=True) as connection:
        _annotate(state, connection)
        show(connection, console)
    console.print(
        f"\nReady after {time.monotonic() - started:.0f} s. Go on with:\n"
        "  [bold]make psql[/bold]    then  select classify_motive('gift for my dad who loves fishing');\n"
        "  [bold]make stop[/bold]    stops the servers and removes their files\n"
        "  [bold].venv/bin/motive demo dsn[/bold]    prints the connection string, for scripts"
    )
    return 0


def stop() -> int:
    """`motive demo stop`: stops everything and removes the demo's directory."""
    state = demo_state()
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


def _running() -> DemoState:
    state = demo_state()
    if not state.path.exists() or state.postgres.pid() is None:
        raise ConfigError("the demo is not running", "Run make demo first.")
    return state


@contextmanager
def step(title: str) -> Iterator[None]:
    """Says what is being done, and how long it took where that was noticeable."""
    before = time.monotonic()
    with console.status(title):
        yield
    elapsed = time.monotonic() - before
    console.print(f"• {title}" + (f" [dim]({elapsed:.1f} s)[/dim]" if elapsed >= 0.5 else ""))


def _create(state: DemoState) -> None:
    """Makes the directory with its PostgreSQL, model and database; a half-made one from before is replaced."""
    if state.path.exists():
        stop()
    free = shutil.disk_usage(state.path.parent).free // 2**20
    if free < NEEDED_MIB:
        raise ConfigError(f"{state.path.parent} has {free} MiB free; the demo needs {NEEDED_MIB}", "Free some room.")
    try:
        state.path.mkdir(mode=0o755)
    except OSError as error:
        raise ConfigError(
            f"cannot create {state.path}: {error.strerror}", "Set MOTIVE_DEMO_STATE to a directory of your own."
        ) from None
    prepare(state)
    (state.path / "ready").touch()


def prepare(state: DemoState) -> None:
    """PostgreSQL with the extension installed and running, the model built, an empty database."""
    from sidecar.build import build_variant
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


def start_sidecar(state: DemoState, *options: str) -> None:
    """Starts the sidecar on the state's socket and waits until its health says SERVING; leaves a running one alone."""
    if running(state.sidecar_pid) is not None:
        return
    with step("starting the sidecar"):
        directory = state.sidecar_socket.parent
        if not directory.exists():
            directory.mkdir(mode=0o750)
            state.postgres.account.own(directory)
        flags = ("--listen", f"unix:{state.sidecar_socket}", "--engine", f"onnx:{state.model}", *options)
        spawn(state, "sidecar", "serve", *flags)
        wait_until(lambda: _healthy(state), 60, "the sidecar's start")


def start_worker(state: DemoState) -> None:
    """Starts the worker; leaves a running one alone."""
    if running(state.worker_pid) is None:
        with step("starting the worker"):
            spawn(state, "worker", "worker", "--dsn", state.dsn, "--target", f"unix:{state.sidecar_socket}")


def spawn(state: DemoState, name: str, *arguments: str) -> None:
    """Runs a `motive` command in the background, as the unprivileged account, with its log and pid in the state."""
    account = state.postgres.account
    command = [sys.executable, "-m", "sidecar", *arguments]
    # A checkout below a closed home directory can be read by nobody else: then the interpreter alone may read it.
    closed = account.foreign and not account.can_run(sys.executable, "-c", f"open({str(ROOT / 'pyproject.toml')!r})")
    with (state.path / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            account.command(*command, read_everything=closed),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    (state.path / f"{name}.pid").write_text(f"{process.pid}\n", encoding="ascii")


def _healthy(state: DemoState) -> bool:
    if running(state.sidecar_pid) is None:
        log = (state.path / "sidecar.log").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise ConfigError(f"the sidecar did not start; its log ends with:\n{log}", "Mend what the log names.")
    with grpc.insecure_channel(f"unix:{state.sidecar_socket}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def configure(connection: psycopg.Connection, state: DemoState) -> None:
    """Creates the extension where it is missing, and points it at the state's sidecar."""
    connection.execute("create extension if not exists pg_motive cascade")
    connection.execute("update motive.settings set target = %s", (f"unix:{state.sidecar_socket}",))
    connection.execute("select motive.load_model()")


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
