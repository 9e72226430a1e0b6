"""`motive install` and `motive uninstall`: the extension's files and the backend's client, into one PostgreSQL.

The client goes into a directory of its own, with the libraries it needs for the Python that PL/Python is built with:
copied from this environment where that is the same Python, else fetched by pip for the other one. It is built beside
its place and moved there in one step, so that a session never finds half of it.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from sidecar import __version__
from sidecar.errors import ConfigError
from sidecar.extension_script import CONTROL, SCRIPT, control_file, script, upgrade_scripts
from sidecar.postgres_tree import PostgresTree, check_version, checked_python, newest_tree, tree_of

CLIENT_MODULES = ("__init__.py", "limits.py", "errors.py", "bearer.py", "redact.py", "client", "pb")
"""What of the package `sidecar` the backend needs."""

LIBRARIES = ("grpcio", "protobuf")

_PROBE = "import sys; sys.path.insert(0, sys.argv[1]); from sidecar.client.grpc_loader import load; load()"

Say = Callable[[str], None]


def find_tree(pg_config: str | None = None, dsn: str | None = None) -> PostgresTree:
    """The server meant: by its pg_config, by a connection to it, or the newest one found on this machine."""
    if pg_config and dsn:
        raise ConfigError("--pg-config and --dsn both name a server", "Give one of them.")
    if pg_config:
        return tree_of(Path(pg_config))
    return tree_of_dsn(dsn) if dsn else newest_tree()


def tree_of_dsn(dsn: str) -> PostgresTree:
    """The server that answers at `dsn`, as it describes itself. It must run on this machine; needs a superuser."""
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            rows = connection.execute("select name, setting from pg_catalog.pg_config()").fetchall()
            places: dict[str, str] = dict(rows)
            version = connection.info.parameter_status("server_version") or "0"
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"the server at --dsn cannot be asked: {reason}", "Give a superuser's connection.") from None
    tree = PostgresTree(Path(places["BINDIR"]), Path(places["SHAREDIR"]), Path(places["PKGLIBDIR"]), version.split()[0])
    if not tree.extension_dir.is_dir():
        raise ConfigError(f"the server's directory {tree.sharedir} is not on this machine", "Run motive install there.")
    return tree


def install(tree: PostgresTree, *, dry_run: bool = False, say: Say = print) -> None:
    """Installs extension and client into `tree`; with `dry_run` only says what it would do. Raises ConfigError."""
    check_version(tree.version)
    python = checked_python(tree)
    interpreter = _interpreter(python)
    copies = _environment_files() if python == sys.version_info[:2] else []
    if not copies:
        _check_pip(python)
    home = tree.client_dir.parent
    files = _extension_files(tree)
    say(f"PostgreSQL {tree.version} in {tree.bindir}, PL/Python with Python {python[0]}.{python[1]}")
    say(f"extension {__version__}: {', '.join(path.name for path in files)} -> {tree.extension_dir}")
    how = "copied from this environment" if copies else "fetched with pip"
    say(f"client: sidecar.client, {', '.join(_pins())} ({how}) -> {tree.client_dir}")
    if interpreter is None:
        name = f"python{python[0]}.{python[1]}"
        say(
            f"{name} is not on PATH, so the client is neither tried nor compiled, and the first call of each session "
            f"takes longer: install it (on Debian: {name}) and run motive install again"
        )
    if dry_run:
        return
    with _explained(tree), _readable_by_all():
        home.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        try:
            staging.chmod(0o755)
            _fill(staging, python, copies)
            if interpreter:
                _compile(staging, interpreter)
                _check_client(staging, interpreter)
            for path, text in files.items():
                _write(path, text)
            _publish(staging, tree.client_dir)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        _write(_manifest(tree), json.dumps({"version": __version__, "files": [str(path) for path in files]}) + "\n")
    say("installed. In each database: create extension pg_motive cascade; then motive check")


def uninstall(tree: PostgresTree, *, dry_run: bool = False, say: Say = print) -> None:
    """Removes what install() put into `tree`, and nothing else; databases keep their objects until DROP EXTENSION."""
    home = tree.client_dir.parent
    try:
        files = [Path(path) for path in json.loads(_manifest(tree).read_text(encoding="utf-8"))["files"]]
    except (OSError, ValueError, KeyError):
        raise ConfigError(f"pg_motive is not installed in {tree.bindir}", "Name the server with --pg-config.") from None
    for path in [*files, home]:
        say(f"{'would remove' if dry_run else 'removing'} {path}")
    if dry_run:
        return
    with _explained(tree):
        for path in files:
            path.unlink(missing_ok=True)
        shutil.rmtree(home)


def installed_version(tree: PostgresTree) -> str | None:
    """Version of what install() has put into `tree`; None where it has put nothing."""
    try:
        return str(json.loads(_manifest(tree).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return None


def _manifest(tree: PostgresTree) -> Path:
    return tree.client_dir.parent / "installed.json"


def _extension_files(tree: PostgresTree) -> dict[Path, str]:
    files = {CONTROL: control_file(), SCRIPT: script(), **upgrade_scripts()}
    return {tree.extension_dir / name: text for name, text in files.items()}


def _pins() -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in LIBRARIES]


def _fill(staging: Path, python: tuple[int, int], copies: list[tuple[Path, Path]]) -> None:
    package = Path(__file__).parent
    for name in CLIENT_MODULES:
        source, target = package / name, staging / "sidecar" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    for source, relative in copies:
        target = staging / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    if not copies:
        _fetch(staging, python)


def _environment_files() -> list[tuple[Path, Path]]:
    """Every file of the libraries and of what they need, with its place; empty where this environment cannot tell."""
    names, copies = list(LIBRARIES), []
    for name in names:
        distribution = importlib.metadata.distribution(name)
        if distribution.files is None:
            return []
        for file in distribution.files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                copies.append((Path(str(distribution.locate_file(file))), Path(file)))
        for requirement in distribution.requires or ():
            needed = re.match(r"[A-Za-z0-9._-]+", requirement)
            if needed and "extra ==" not in requirement and needed.group() not in names:
                names.append(needed.group())
    return copies if all(source.is_file() for source, _ in copies) else []


def _check_pip(python: tuple[int, int]) -> None:
    if importlib.util.find_spec("pip") is None:
        version = f"{python[0]}.{python[1]}"
        raise ConfigError(
            f"the client's libraries must be fetched for Python {version}, and this environment has no pip",
            f"Run {sys.executable} -m ensurepip, or make the environment with PL/Python's own Python {version}.",
        )


def _fetch(staging: Path, python: tuple[int, int]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python[0]}.{python[1]}"]
    done = subprocess.run([*command, f"--target={staging}", *_pins()], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise ConfigError(
            f"pip could not fetch the client's libraries for Python {python[0]}.{python[1]}: {said}",
            "Give pip access to a package index (PIP_INDEX_URL), and run motive install again.",
        )


def _interpreter(python: tuple[int, int]) -> str | None:
    """An interpreter of that version; None where only its library is installed."""
    return sys.executable if python == sys.version_info[:2] else shutil.which(f"python{python[0]}.{python[1]}")


def _compile(staging: Path, interpreter: str) -> None:
    subprocess.run([interpreter, "-I", "-m", "compileall", "-qq", str(staging)], capture_output=True, check=False)


def _check_client(staging: Path, interpreter: str) -> None:
    # -S: without this environment's packages, as inside the backend.
    command = [interpreter, "-I", "-S", "-B", "-c", _PROBE, str(staging)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ConfigError(f"the client does not load: {said}", "Install pg_motive's Python packages anew.")


def _publish(staging: Path, client: Path) -> None:
    """Makes `client` a link to what was staged, in one step, and removes what it led to before."""
    build = client.with_name(f"python-{__version__}-{os.urandom(4).hex()}")
    before = client.resolve() if client.is_symlink() else None
    staging.rename(build)
    link = client.with_name(f".link-{os.urandom(4).hex()}")
    link.symlink_to(build.name)
    link.replace(client)
    if before is not None and before.parent == build.parent.resolve():
        shutil.rmtree(before, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


@contextmanager
def _readable_by_all() -> Iterator[None]:
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _explained(tree: PostgresTree) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"{error.filename} cannot be written", f"Run this as a user who may write to {tree.sharedir}, such as root."
        ) from None
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", "Mend this, and run the command again.") from None
