"""Makes a Unix socket belong to one server: gRPC itself would let a second one bind silently over the first."""

import fcntl
import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.errors import ConfigError

SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o750


@contextmanager
def owned_socket(path: Path) -> Iterator[None]:
    """Holds `path` for this process: makes its directory, locks, and removes what a killed server left behind.

    Raises ConfigError when another server holds it, something else lies there, or its directory is open to everybody.
    """
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(
                f"everybody may write to {path.parent}, so anybody could put a socket in our place",
                f"Use a directory of its own: mkdir -m {DIRECTORY_MODE:o} DIRECTORY.",
            )
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}", "Choose a directory that this user owns.") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another sidecar is serving on {path}", "Stop it first, or choose another socket with --listen."
            ) from None
        _remove_old(path)
        yield
        path.unlink(missing_ok=True)
    finally:
        # The lock file stays: removing it would let two servers lock two different files of one name.
        os.close(lock)


def _remove_old(path: Path) -> None:
    """Removes a socket at `path`; whatever else lies there is somebody's, and stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} is no socket", "Choose another path with --listen, or remove what lies there.")
        path.unlink()
    except FileNotFoundError:
        pass


def open_to_group(path: Path, group: str) -> None:
    """Gives the bound socket its mode and, where `group` is not empty, its group."""
    if group:
        try:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        except KeyError:
            raise ConfigError(f"there is no group {group!r}", "Create it, or correct socket_group.") from None
        except PermissionError:
            raise ConfigError(
                f"this user may not give the socket to group {group!r}", "Run the sidecar as a member of it."
            ) from None
    path.chmod(SOCKET_MODE)
