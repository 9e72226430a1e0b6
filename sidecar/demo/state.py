"""Where a demo lives and what runs in it: one directory outside the checkout, named after the checkout."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigError
from sidecar.private_postgres import PrivatePostgres

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "shop"


@dataclass(frozen=True)
class DemoState:
    """The demo's directory and the files in it."""

    path: Path

    @property
    def sidecar_pid(self) -> Path:
        """Holds the sidecar's process id."""
        return self.path / "sidecar.pid"

    @property
    def worker_pid(self) -> Path:
        """Holds the worker's process id."""
        return self.path / "worker.pid"

    @property
    def sidecar_socket(self) -> Path:
        """The sidecar's Unix socket."""
        return self.path / "motive" / "motive.sock"

    @property
    def model(self) -> Path:
        """The model variant that the demo serves."""
        return self.path / "model" / "motive"

    @property
    def postgres(self) -> PrivatePostgres:
        """The private server in it."""
        return PrivatePostgres(self.path / "postgres")

    @property
    def dsn(self) -> str:
        """Connection string of the demo's database."""
        return self.postgres.dsn(DATABASE)


def demo_state() -> DemoState:
    """The state of this checkout's demo; two checkouts never share one. MOTIVE_DEMO_STATE overrides the directory."""
    if override := os.environ.get("MOTIVE_DEMO_STATE"):
        return DemoState(Path(override))
    name = f"pg_motive-{os.geteuid()}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    # Not the home directory: root's is closed to the account that the servers run under, and sockets need short paths.
    return DemoState(Path("/var/tmp") / name)


def running(pid_file: Path) -> int | None:
    """The process id in `pid_file` while that process lives; after a reboot the number may be another program's."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except (OSError, ValueError):
        return None
    if status.split()[0] == "Z":
        return None
    # While one program is being replaced by another, the command line is empty.
    return pid if not command or b"\0sidecar\0" in command else None


def stop_process(pid_file: Path, timeout: float = 20.0) -> None:
    """Stops the process named in `pid_file` with SIGTERM, then SIGKILL; does nothing where none runs."""
    pid = running(pid_file)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while running(pid_file) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        _reap(pid)
    pid_file.unlink(missing_ok=True)


def kill_process(pid_file: Path) -> None:
    """Ends the process named in `pid_file` with SIGKILL, as a crash would."""
    pid = running(pid_file)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: running(pid_file) is None, 10, "the end of a killed process")
        _reap(pid)
    pid_file.unlink(missing_ok=True)


def _reap(pid: int) -> None:
    """Takes the exit status of a child of ours, without which it would stay listed."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def wait_until(done: Callable[[], bool], timeout: float, description: str) -> float:
    """Polls `done`; returns the seconds it took.

    Raises ConfigError naming `description` when it does not come true in `timeout` seconds.
    """
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > timeout:
            raise ConfigError(
                f"{description} took more than {timeout:.0f} s", "Look into the logs in the demo's directory."
            )
        time.sleep(0.01)
    return time.monotonic() - started
