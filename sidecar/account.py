"""The unprivileged account that private servers run under: PostgreSQL refuses root.

A caller that is not root simply runs them as itself. Nothing here is used by a packaged installation, which has its own
system accounts.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sidecar.errors import ConfigError

NAME = "pg_motive"


@dataclass(frozen=True)
class Account:
    """Who runs a private server, and how a command is started as that user."""

    name: str
    uid: int
    gid: int

    @property
    def foreign(self) -> bool:
        """Whether it is another user than the caller."""
        return self.uid != os.geteuid()

    def command(self, *command: str, read_everything: bool = False, death_signal: str = "") -> list[str]:
        """The argument list that runs `command` as this user.

        `read_everything` gives it CAP_DAC_READ_SEARCH, for a Python whose interpreter or checkout lies in a directory
        closed to this user; never for PostgreSQL. The kernel sends it `death_signal` (such as TERM) when the caller's
        thread ends, however that happens.
        """
        options: list[str] = []
        if self.foreign:
            options += [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
            if read_everything:
                options += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        if death_signal:
            options += [f"--pdeathsig={death_signal}"]
        return ["setpriv", *options, "--", *command] if options else list(command)

    def own(self, path: Path) -> None:
        """Makes this user the owner of `path`."""
        if self.foreign:
            os.chown(path, self.uid, self.gid)

    def can_run(self, *command: str) -> bool:
        """Whether `command` succeeds as this user without further rights."""
        return subprocess.run(self.command(*command), capture_output=True, cwd="/", check=False).returncode == 0


@cache
def unprivileged_account() -> Account:
    """The caller, or for root the system user `pg_motive`, which is created when missing."""
    if os.geteuid() != 0:
        return Account(_caller_name(), os.geteuid(), os.getegid())
    if shutil.which("setpriv") is None:
        raise ConfigError("setpriv is missing", "Install the package util-linux, or run this as an ordinary user.")
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _create()
        entry = pwd.getpwnam(NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def short_directory(prefix: str) -> Path:
    """A fresh directory that others may enter, with a path short enough for Unix sockets in it."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    directory.chmod(0o755)
    return directory


def _caller_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        # A container may run under a number that has no name.
        return "postgres"


def _create() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    done = subprocess.run([*command, "--shell", "/usr/sbin/nologin", NAME], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 9):  # 9: another process has just created it
        raise ConfigError(
            f"the system user {NAME} cannot be created: {done.stderr.strip()}",
            f"Create it (useradd --system {NAME}), or run this as an ordinary user.",
        )
