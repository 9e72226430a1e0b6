"""Finding an installed PostgreSQL: its directories, its version, and the Python that its PL/Python is built with."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigError

SUPPORTED = range(15, 19)
"""Major versions of PostgreSQL that the extension is written for."""

OLDEST_PYTHON = (3, 11)
"""The oldest Python that the client in the backend is written for."""

_LIBPYTHON = re.compile(rb"libpython3\.(\d+)[a-z]*\.so")


@dataclass(frozen=True)
class PostgresTree:
    """Where one PostgreSQL server is installed."""

    bindir: Path
    sharedir: Path
    pkglibdir: Path
    version: str
    """As the server says it, such as 15.20."""

    @property
    def major(self) -> int:
        """Major version, such as 15."""
        return _major(self.version)

    @property
    def extension_dir(self) -> Path:
        """Where control files and scripts of extensions lie."""
        return self.sharedir / "extension"

    @property
    def client_dir(self) -> Path:
        """Where the backend looks for our Python client: found from the running executable, so it needs no setting."""
        return Path(os.path.realpath(self.bindir / "postgres")).parent.parent / "lib" / "pg_motive" / "python"

    @property
    def python(self) -> tuple[int, int] | None:
        """Version of the Python inside PL/Python, or None where plpython3u is not installed."""
        try:
            library = (self.pkglibdir / "plpython3.so").read_bytes()
        except OSError:
            return None
        match = _LIBPYTHON.search(library)
        return (3, int(match.group(1))) if match else None


def check_version(version: str) -> None:
    """Raises ConfigError for a server that pg_motive is not written for; `version` as the server says it."""
    if _major(version) not in SUPPORTED:
        remedy = f"Use PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}."
        raise ConfigError(f"PostgreSQL {version} is not supported", remedy)


def checked_python(tree: PostgresTree) -> tuple[int, int]:
    """Version of the Python inside PL/Python. Raises ConfigError where there is none, or one that is too old."""
    if tree.python is None:
        raise ConfigError(
            f"PostgreSQL {tree.version} in {tree.bindir} has no PL/Python",
            f"Install it (on Debian: postgresql-plpython3-{tree.major}).",
        )
    if tree.python < OLDEST_PYTHON:
        found, needed = (f"{major}.{minor}" for major, minor in (tree.python, OLDEST_PYTHON))
        raise ConfigError(
            f"PL/Python of PostgreSQL {tree.version} in {tree.bindir} has Python {found}; {needed} is needed",
            "Use a system with a newer one (Debian 12, Ubuntu 24.04), or motive install --without-plpython --dsn DSN.",
        )
    return tree.python


def tree_of(pg_config: Path) -> PostgresTree:
    """The server that a `pg_config` describes. Raises ConfigError where it cannot be run."""
    command = [str(pg_config), "--bindir", "--sharedir", "--pkglibdir", "--version"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        bindir, sharedir, pkglibdir, version = lines
        tree = PostgresTree(Path(bindir), Path(sharedir), Path(pkglibdir), version.split()[1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        raise ConfigError(
            f"{pg_config} does not tell where PostgreSQL is", "Give the pg_config of the server with --pg-config."
        ) from None
    if not (tree.bindir / "postgres").exists():
        raise ConfigError(
            f"{tree.bindir} has no server, only client programs", "Install the server, or give its pg_config."
        )
    return tree


def installed_trees() -> list[PostgresTree]:
    """Every server found in the usual places and on PATH, newest first; those with PL/Python before those without."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin/pg_config"), *Path("/usr").glob("pgsql-*/bin/pg_config")]
    places += [Path(part) / "pg_config" for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    found: dict[Path, PostgresTree] = {}
    for place in places:
        if os.access(place, os.X_OK):  # PATH may name directories closed to this user
            try:
                tree = tree_of(place)
            except ConfigError:
                continue
            found.setdefault(Path(os.path.realpath(tree.bindir)), tree)
    return sorted(found.values(), key=lambda tree: (tree.python is not None, tree.major), reverse=True)


def newest_tree() -> PostgresTree:
    """The newest installed server, one with PL/Python first. Raises ConfigError with the remedy where there is none."""
    trees = [tree for tree in installed_trees() if tree.major in SUPPORTED]
    if not trees:
        raise ConfigError(
            f"no PostgreSQL server of version {SUPPORTED[0]} to {SUPPORTED[-1]} is installed",
            "Install one with PL/Python (postgresql-plpython3-17 brings both; where the distribution has an older one, "
            "take it from apt.postgresql.org), or name its pg_config with --pg-config.",
        )
    return trees[0]


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0
