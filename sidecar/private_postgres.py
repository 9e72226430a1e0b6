"""A private PostgreSQL: its own copy of the server's files, its own data, one directory, no trace elsewhere.

The copy relocates itself because PostgreSQL finds its other directories relative to its executable. So an extension
can be installed into it while the system's PostgreSQL stays as it was.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Literal

from psycopg.conninfo import make_conninfo

from sidecar import limits
from sidecar.account import Account, unprivileged_account
from sidecar.errors import ConfigError
from sidecar.postgres_tree import PostgresTree, checked_python, newest_tree, tree_of

StopMode = Literal["smart", "fast", "immediate"]

_SETTINGS = """
# Written by pg_motive for its private server.
listen_addresses = '{addresses}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 260
shared_buffers = 64MB
fsync = {durable}
full_page_writes = {durable}
synchronous_commit = {durable}
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
"""

_ACCESS = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


class PrivatePostgres:
    """One private server in one directory. Its superuser is `postgres`; only the caller can open its socket."""

    def __init__(self, state: Path, *, port: int = 5432, tcp: bool = False, durable: bool = True) -> None:
        """`state` is the directory; `port` names the socket and, with `tcp`, the port on the loopback interface.

        `durable` off trades safety against a crash of the machine for speed; a kill of the server loses nothing.
        """
        self.state = state
        self.port = port
        self.tcp = tcp
        self.durable = durable
        self.account: Account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.state / "data"

    @property
    def sockets(self) -> Path:
        """The directory of the Unix socket."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.state / "postgres.log"

    @property
    def password(self) -> str:
        """The superuser's password over TCP."""
        return (self.state / "password").read_text(encoding="ascii").strip()

    @property
    def tree(self) -> PostgresTree:
        """The private copy's directories."""
        return tree_of(next((self.state / "server").glob("**/bin/pg_config")))

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Connection string over the Unix socket."""
        return make_conninfo(host=str(self.sockets), port=self.port, dbname=database, user=user)

    def tcp_dsn(self, database: str = "postgres") -> str:
        """Connection string of the superuser over the loopback interface."""
        return f"host=127.0.0.1 port={self.port} dbname={database} user=postgres password={self.password}"

    def create(self, source: PostgresTree | None = None) -> None:
        """Copies the server's files (the newest found, or `source`) and makes an empty cluster."""
        socket_path = os.fsencode(self.sockets / f".s.PGSQL.{self.port}")
        if len(socket_path) > limits.MAX_SOCKET_PATH:
            raise ConfigError(
                f"{self.state} is too long a path: a socket in it would have {len(socket_path)} bytes",
                f"Choose a shorter one; the kernel allows {limits.MAX_SOCKET_PATH} bytes.",
            )
        source = source or newest_tree()
        checked_python(source)  # before anything is made: without it the copy would be of no use
        before = os.umask(0o022)  # another user must be able to read the copy
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            copy_tree(source, self.state / "server")
        finally:
            os.umask(before)
        for directory, mode in ((self.data, 0o700), (self.sockets, 0o755)):
            directory.mkdir(mode=mode)
            directory.chmod(mode)
            self.account.own(directory)
        self.log.touch(mode=0o640)
        self.account.own(self.log)
        secret = self.state / "password"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(18) + "\n", encoding="ascii")
        self.account.own(secret)
        self._run(
            *("initdb", "--pgdata", str(self.data), "--username=postgres", f"--pwfile={secret}", "--auth=trust"),
            *("--encoding=UTF8", "--locale-provider=libc", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
        )
        on = "on" if self.durable else "off"
        addresses = "127.0.0.1" if self.tcp else ""
        settings = _SETTINGS.format(addresses=addresses, port=self.port, sockets=self.sockets, durable=on)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write(settings)
        (self.data / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")

    def start(self, *, die_with_caller: bool = False, timeout: float = 60.0) -> None:
        """Starts the server and waits until it accepts connections. Raises ConfigError with the end of its log."""
        command = [str(self.tree.bindir / "postgres"), "-D", str(self.data)]
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                self.account.command(*command, death_signal="INT" if die_with_caller else ""),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd="/",
                start_new_session=True,
                env=_environment(),
            )
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise ConfigError(f"PostgreSQL did not start; its log ends with:\n{tail}", "Mend what the log names.")
            time.sleep(0.02)

    def stop(self, mode: StopMode = "fast", timeout: float = 60.0) -> None:
        """Stops the server, also one that another process started; does nothing where none runs."""
        pid = self.pid()
        if pid is None:
            return
        sent = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        os.kill(pid, sent)
        if self._process is not None and self._process.pid == pid:
            self._process.wait(timeout)
            self._process = None
            return
        deadline = time.monotonic() + timeout
        while _alive(pid):
            if time.monotonic() > deadline:
                raise ConfigError(f"PostgreSQL (process {pid}) does not stop", "End its sessions and try again.")
            time.sleep(0.02)

    def restart(self, mode: StopMode = "fast", *, die_with_caller: bool = False) -> None:
        """Stops and starts the server."""
        self.stop(mode)
        self.start(die_with_caller=die_with_caller)

    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        try:
            pid = int(self._status()[0])
            # After a reboot the number may be another program's.
            ours = os.fsencode(self.data) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return None
        return pid if ours and _alive(pid) else None

    def _ready(self) -> bool:
        try:
            lines = self._status()
        except OSError:
            return False
        # A file left by a killed server names another process until the new one has written its own.
        return (
            len(lines) > 7
            and lines[7].strip() == "ready"
            and self._process is not None
            and int(lines[0]) == self._process.pid
        )

    def _status(self) -> list[str]:
        return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()

    def _run(self, program: str, *arguments: str) -> None:
        command = self.account.command(str(self.tree.bindir / program), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=_environment(), check=False)
        if done.returncode != 0:
            raise ConfigError(f"{program} failed: {(done.stderr or done.stdout).strip()}", "Mend what it names.")


def copy_tree(source: PostgresTree, target: Path) -> None:
    """Copies a server's executables, libraries and shared files (about 50 MB), keeping their relative places."""
    root = Path(os.path.commonpath([source.bindir, source.sharedir, source.pkglibdir]))
    if root == Path(root.anchor):
        raise ConfigError(f"PostgreSQL at {source.bindir} cannot be copied", "Its parts have no directory in common.")
    # The executable's tail must stay as it was built, and only a path below a directory of the same name does so.
    base = target / root.name
    for directory in (source.bindir, source.sharedir, source.pkglibdir):
        shutil.copytree(
            directory,
            base / directory.relative_to(root),
            symlinks=False,
            ignore=shutil.ignore_patterns("bitcode", "man", "pgxs", "*motive*"),
            dirs_exist_ok=True,
        )


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    # Nothing of the caller's Python or PostgreSQL settings reaches the server.
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return not stat.rpartition(")")[2].lstrip().startswith("Z")
