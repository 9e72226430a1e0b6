"""Prepares a checkout: system packages through apt, Python packages into .venv. Quick when nothing is missing.

Runs on the system's own Python before anything is installed, so it uses the standard library alone:

    python3 sidecar/bootstrap.py serve     # what `make demo` needs
    python3 sidecar/bootstrap.py test      # and the trainer, the tools and the tests
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
EXTRAS = {"serve": "", "test": "[trainer,dev,base-models]", "bench": "[trainer,dev,base-models,bench]"}
# pip takes about this much room; a half-written environment would be worse than a sentence.
NEEDED_MIB = {"serve": 1_200, "test": 4_000, "bench": 4_200}
OLDEST_PYTHON = (3, 11)


def say(message: str) -> None:
    """One line of progress."""
    print(f"• {message}", flush=True)


def fail(message: str, remedy: str) -> NoReturn:
    """Ends with one sentence and its remedy."""
    sys.exit(f"pg_motive: {message}.\n  {remedy}")


def run(*command: str, quiet: bool = True, environment: dict[str, str] | None = None) -> str:
    """Runs a command; on failure ends with the last lines of what it said."""
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode:
        tail = "\n  ".join(done.stdout.strip().splitlines()[-12:])
        fail(f"`{' '.join(command[:6])}` failed", f"It said:\n  {tail}")
    if not quiet:
        print(done.stdout, end="")
    return done.stdout


def as_root(*command: str) -> None:
    """Runs a command as root: directly, or through sudo."""
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            fail("system packages are missing and there is no sudo", f"As root, run: {' '.join(command)}")
        command = ("sudo", *(() if sys.stdin.isatty() else ("-n",)), *command)
    run(*command, environment={"DEBIAN_FRONTEND": "noninteractive"})


def postgres_with_python() -> list[int]:
    """Major versions of PostgreSQL on this machine that have PL/Python, newest first."""
    found = (
        int(path.parent.parent.name)
        for path in Path("/usr/lib/postgresql").glob("*/lib/plpython3.so")
        if (path.parent.parent / "bin" / "initdb").exists()
    )
    return sorted(found, reverse=True)


def missing_packages() -> list[str]:
    """Debian packages to install, by what this machine lacks."""
    packages = []
    if not postgres_with_python():
        packages += ["postgresql", f"postgresql-plpython3-{_postgres_candidate()}"]
    if subprocess.run([python(), "-c", "import ensurepip, venv"], capture_output=True).returncode:
        packages.append("python3-venv")
    return packages


def _postgres_candidate() -> str:
    """The major version to install: one that is there already without PL/Python, else the distribution's."""
    servers = sorted(int(path.parent.parent.name) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if servers:
        return str(servers[-1])
    policy = subprocess.run(["apt-cache", "policy", "postgresql"], capture_output=True, text=True).stdout
    match = re.search(r"Candidate: (\d+)", policy)
    if match is None:
        fail("apt knows no package postgresql", "Use Debian 12 or newer, or Ubuntu 24.04 or newer; run apt-get update")
    return match.group(1)


def install_system_packages() -> None:
    """Installs what is missing, without starting a server of the system's own."""
    needs = not postgres_with_python() or bool(missing_packages())
    if not needs:
        return
    if not shutil.which("apt-get"):
        fail(
            "PostgreSQL with PL/Python is missing and this system has no apt",
            "Install PostgreSQL 15 or newer with its plpython3u language and Python 3.11 or newer, then run this again",
        )
    say("updating the package lists (apt-get update)")
    as_root("apt-get", "update", "-q")
    packages = missing_packages()
    if any(name.startswith("postgresql") for name in packages) and not Path("/usr/share/postgresql-common").exists():
        # The system's own cluster would start at once; ours is private.
        as_root("mkdir", "-p", "/etc/postgresql-common/createcluster.d")
        as_root(
            "sh", "-c", "echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/pg_motive.conf"
        )
    say(f"installing {', '.join(packages)} (apt-get install, about 200 MB)")
    as_root("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)


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
    lock = ROOT / "requirements.lock"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + lock.read_bytes() + kind.encode()).hexdigest()
    stamp = VENV / f"pg_motive-{kind}.stamp"
    if stamp.exists() and stamp.read_text() == wanted and (VENV / "bin" / "python").exists():
        return
    free = shutil.disk_usage(ROOT).free // 2**20
    if free < NEEDED_MIB[kind]:
        fail(f"{ROOT} has {free} MiB free; {NEEDED_MIB[kind]} are needed", "Free some room and run this again")
    if not (VENV / "bin" / "python").exists():
        say(f"creating .venv with {python()}")
        run(python(), "-m", "venv", str(VENV))
    say(f"installing Python packages into .venv ({kind}, up to {NEEDED_MIB[kind]} MB; minutes the first time)")
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(lock))
    run(*pip, "-e", f"{ROOT}{EXTRAS[kind]}")
    stamp.write_text(wanted)


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
