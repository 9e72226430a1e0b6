"""Prepares a checkout: system packages through apt, Python packages into .venv. Quick when nothing is missing.

Runs on the system's own Python before anything is installed, so it uses the standard library alone:

    python3 sidecar/bootstrap.py serve     # what `make demo` needs
    python3 sidecar/bootstrap.py test      # and the trainer, the tools and the tests
"""

from __future__ import annotations  # an older Python must get as far as the sentence that it is too old

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
# Each kind holds everything of the kinds before it.
EXTRAS = {"serve": "", "test": "[trainer,dev,base-models]", "bench": "[trainer,dev,base-models,bench]"}
# pip takes about this much room; a half-written environment would be worse than a sentence.
NEEDED_MIB = {"serve": 600, "test": 4_000, "bench": 4_200}
NEEDED_SYSTEM_MIB = 400
OLDEST_PYTHON = (3, 11)
SUPPORTED_POSTGRES = range(15, 19)


def say(message: str) -> None:
    """One line of progress."""
    print(f"• {message}", flush=True)


def fail(message: str, remedy: str) -> NoReturn:
    """Ends with one sentence and its remedy."""
    sys.exit(f"pg_motive: {message}.\n  {remedy}")


def run(*command: str) -> None:
    """Runs a command; on failure ends with the last lines of what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        tail = "\n  ".join(done.stdout.strip().splitlines()[-12:])
        fail(f"`{' '.join(command[:6])}` failed", f"It said:\n  {tail}")


def as_root(*command: str) -> None:
    """Runs a command as root: directly, or through sudo."""
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            fail("system packages are missing and there is no sudo", f"As root, run: {' '.join(command)}")
        command = ("sudo", *(() if sys.stdin.isatty() else ("-n",)), *command)
    run(*command)


def apt_get(*arguments: str) -> None:
    """Runs apt-get without questions; waits a while for another one to finish."""
    as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", *arguments)


def postgres_with_python() -> list[int]:
    """Major versions of PostgreSQL on this machine that have PL/Python, newest first."""
    found = (
        int(path.parent.parent.name)
        for path in Path("/usr/lib/postgresql").glob("*/lib/plpython3.so")
        if (path.parent.parent / "bin" / "initdb").exists()
    )
    return sorted((major for major in found if major in SUPPORTED_POSTGRES), reverse=True)


def missing_packages() -> list[str]:
    """Debian packages to install, by what this machine lacks."""
    packages = []
    if not postgres_with_python():
        packages.append(f"postgresql-plpython3-{_postgres_to_install()}")  # brings the server of its number along
    if not has_venv():
        packages.append("python3-venv")
    return packages


def has_venv() -> bool:
    """Whether our interpreter can make an environment with pip in it; Debian packs that apart."""
    return subprocess.run([python(), "-c", "import ensurepip, venv"], capture_output=True).returncode == 0


def _postgres_to_install() -> int:
    """The major version to install: one that is there already without PL/Python, else the newest that apt offers."""
    installed = (int(path.parent.parent.name) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    for major in (*sorted(installed, reverse=True), *reversed(SUPPORTED_POSTGRES)):
        if major in SUPPORTED_POSTGRES and _is_offered(f"postgresql-plpython3-{major}"):
            return major
    fail(
        "apt offers no PL/Python of PostgreSQL 15 to 18",
        "Run apt-get update as root; Debian 12 or newer and Ubuntu 24.04 or newer have it",
    )


def _is_offered(package: str) -> bool:
    # By whether a record is printed at all: what apt says around it is in the caller's language.
    return bool(subprocess.run(["apt-cache", "show", package], capture_output=True).stdout)


def install_system_packages() -> None:
    """Installs what is missing, without starting a server of the system's own."""
    if postgres_with_python() and has_venv():
        return
    if not shutil.which("apt-get"):
        fail(
            "PostgreSQL with PL/Python, or Python's venv, is missing and this system has no apt",
            "Install PostgreSQL 15 to 18 with its plpython3u language and Python 3.11 or newer, then run this again",
        )
    if os.geteuid() != 0 and not shutil.which("sudo"):
        fail(
            "system packages are missing and there is no sudo",
            f"As root, run: apt-get install {' '.join(missing_packages())}",
        )
    if (
        os.geteuid() != 0
        and not sys.stdin.isatty()
        and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode
    ):
        fail("sudo asks for a password and there is no terminal to ask it in", "Run this in a terminal, or as root")
    free = shutil.disk_usage("/usr").free // 2**20
    if free < NEEDED_SYSTEM_MIB:
        fail(f"/usr has {free} MiB free; {NEEDED_SYSTEM_MIB} are needed", "Free some room and run this again")
    say("updating the package lists (apt-get update)")
    apt_get("update")
    packages = missing_packages()
    if any(name.startswith("postgresql") for name in packages) and not Path("/usr/share/postgresql-common").exists():
        # The system's own cluster would start at once; ours is private.
        as_root("mkdir", "-p", "/etc/postgresql-common/createcluster.d")
        as_root(
            "sh", "-c", "echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/pg_motive.conf"
        )
    say(f"installing {', '.join(packages)} (apt-get install, about 200 MB)")
    apt_get("install", "-y", "--no-install-recommends", *packages)


def python() -> str:
    """The interpreter for .venv: the system's own where it is new enough, since other users can run it."""
    for candidate in ("/usr/bin/python3", sys.executable):
        if Path(candidate).exists():
            version = subprocess.run(
                [candidate, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
            )
            if tuple(map(int, version.stdout.split())) >= OLDEST_PYTHON:
                return candidate
    fail("Python 3.11 or newer is needed", "Use Debian 12 or newer, or Ubuntu 24.04 or newer")


def install_python_packages(kind: str) -> None:
    """Fills .venv from the lock file; a stamp remembers what it was filled from."""
    if (VENV / "bin" / "python").exists() and any(is_filled(one) for one in list(EXTRAS)[list(EXTRAS).index(kind) :]):
        return
    free = shutil.disk_usage(ROOT).free // 2**20
    if free < NEEDED_MIB[kind]:
        fail(f"{ROOT} has {free} MiB free; {NEEDED_MIB[kind]} are needed", "Free some room and run this again")
    if not (VENV / "bin" / "python").exists() or not (VENV / "bin" / "pip").exists():
        say(f"creating .venv with {python()}")
        run(python(), "-m", "venv", "--clear", str(VENV))
    say(f"installing Python packages into .venv ({kind}, up to {NEEDED_MIB[kind]} MB; minutes the first time)")
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(LOCK))
    run(*pip, "-e", f"{ROOT}{EXTRAS[kind]}")
    stamp(kind).write_text(wanted(kind))


def is_filled(kind: str) -> bool:
    """Whether .venv was filled for `kind` from the files as they are now."""
    return stamp(kind).exists() and stamp(kind).read_text() == wanted(kind)


def stamp(kind: str) -> Path:
    """The file that remembers what .venv was filled from."""
    return VENV / f"pg_motive-{kind}.stamp"


def wanted(kind: str) -> str:
    """What the stamp must hold."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + LOCK.read_bytes() + kind.encode()).hexdigest()


def main() -> None:
    """Does what is missing of one kind."""
    kind = sys.argv[1] if len(sys.argv) == 2 and sys.argv[1] in EXTRAS else None
    if kind is None:
        fail("which kind?", f"Give one of: {', '.join(EXTRAS)}")
    started = time.monotonic()
    install_system_packages()
    install_python_packages(kind)
    if time.monotonic() - started > 5:
        say(f"ready after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
