"""The demo's sidecar and worker: started in the background as the unprivileged account, with logs in the state."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

from sidecar.demo.state import ROOT, DemoState, running, wait_until
from sidecar.errors import ConfigError

LEASE_S = 2
"""For how long a claim of the demo's worker stands after its death; whoever watches should not have to wait long."""

console = Console()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Says what is being done, and how long it took where that was noticeable."""
    before = time.monotonic()
    with console.status(title):
        yield
    elapsed = time.monotonic() - before
    console.print(f"• {title}" + (f" [dim]({elapsed:.1f} s)[/dim]" if elapsed >= 0.5 else ""))


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
            target = f"unix:{state.sidecar_socket}"
            flags = ("--dsn", state.dsn, "--target", target, "--lease-s", str(LEASE_S))
            spawn(state, "worker", "worker", *flags)


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
