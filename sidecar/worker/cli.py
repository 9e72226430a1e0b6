"""`motive worker`: its flags, and the run."""

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import psycopg

from sidecar.errors import ConfigError, UnavailableError
from sidecar.flags import add_flags
from sidecar.worker.settings import WorkerSettings

ENVIRONMENT_PREFIX = "MOTIVE_WORKER_"


def add_worker(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    text = "Each setting is also a variable, MOTIVE_WORKER_<NAME>; a flag wins over it."
    parser = commands.add_parser("worker", help="annotate the rows that wait in a database's queue", description=text)
    parser.add_argument("--dsn", default=None, help="connection string of the database")
    parser.add_argument("--dsn-file", default=None, help="file that holds it, with the password")
    parser.add_argument("--once", action="store_true", default=None, help="drain the queue and end, for cron")
    add_flags(parser, WorkerSettings, _KINDS, skip=("dsn", "once"))
    parser.set_defaults(run=_run)


_KINDS: dict[object, Callable[[str], object]] = {
    int: int,
    float: float,
    str: str,
    bool: ("1", "on", "true").__contains__,
}


def _run(arguments: argparse.Namespace) -> int:
    from sidecar import logs
    from sidecar.metrics_worker import worker_metrics
    from sidecar.worker.lane import REFUSED_HINT
    from sidecar.worker.run import Worker, stopped_by_signals

    settings = gather(vars(arguments))
    logs.configure(settings.log_format)
    worker = Worker(settings)
    try:
        with stopped_by_signals(worker), worker_metrics(worker):
            worker.run()
    except psycopg.Error as error:
        raise UnavailableError(
            f"the database refuses: {str(error).strip().splitlines()[0]}",
            REFUSED_HINT,
        ) from None
    return 0


def gather(flags: dict[str, object]) -> WorkerSettings:
    """Flags first, then MOTIVE_WORKER_* from the environment, then the defaults."""
    values: dict[str, object] = {}
    for field in fields(WorkerSettings):
        if flags.get(field.name) is not None:
            values[field.name] = flags[field.name]
        elif (text := os.environ.get(ENVIRONMENT_PREFIX + field.name.upper())) is not None:
            try:
                values[field.name] = _KINDS[field.type](text)
            except ValueError:
                kind = getattr(field.type, "__name__", field.type)
                raise ConfigError(
                    f"{ENVIRONMENT_PREFIX}{field.name.upper()} is {text!r}", f"Give it as {kind}."
                ) from None
    path = flags.get("dsn_file") or os.environ.get(ENVIRONMENT_PREFIX + "DSN_FILE")
    if "dsn" not in values and path:
        values["dsn"] = _dsn(str(path))
    if "dsn" not in values:
        raise ConfigError("no database is named", "Give --dsn, or set MOTIVE_WORKER_DSN.")
    return WorkerSettings(**values)  # type: ignore[arg-type]


def _dsn(path: str) -> str:
    """The connection string that stands in a file, where its password is in no environment and no list of processes."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"dsn_file cannot be read: {error.strerror}", "Let this user read it.") from None
