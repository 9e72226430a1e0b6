"""The `motive` command: reads flags, calls one function, and turns errors into one sentence and an exit status."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidecar import __version__
from sidecar.config import KINDS, Settings
from sidecar.errors import ConfigError, MotiveError
from sidecar.flags import add_flags
from sidecar.release_cli import add_release
from sidecar.triton_cli import add_triton
from sidecar.worker.cli import add_worker

Commands = Any  # argparse keeps the name of this class to itself


def _serve(arguments: argparse.Namespace) -> int:
    from sidecar import logs
    from sidecar.server import serve

    settings = Settings.gather(vars(arguments))
    logs.configure(settings.log_format)
    asyncio.run(serve(settings))
    return 0


def _add_serve(commands: Commands) -> None:
    text = "Each setting is also a variable, MOTIVE_<NAME>; a flag wins over it."
    parser = commands.add_parser("serve", help="run the sidecar: gRPC in front of a model", description=text)
    add_flags(parser, Settings, KINDS)
    parser.set_defaults(run=_serve)


def _classify(arguments: argparse.Namespace) -> int:
    from sidecar.classify_file import classify_file
    from sidecar.engines import Engine
    from sidecar.engines.open import open_engine
    from sidecar.released import released_model

    def engine() -> Engine:
        url = arguments.engine or f"onnx:{released_model()}"
        return open_engine(Settings(listen="127.0.0.1:0", engine=url))

    return classify_file(arguments.file, engine)


def _add_classify(commands: Commands) -> None:
    parser = commands.add_parser("classify", help="name the motives of the texts in a file; needs no PostgreSQL")
    parser.add_argument("file", help="JSON Lines or CSV with the fields id and text; - reads standard input")
    parser.add_argument("--engine", help="onnx:PATH or triton://HOST:PORT/MODEL; the released model by default")
    parser.set_defaults(run=_classify)


def _server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pg-config", metavar="PATH", help="pg_config of the server; the newest found by default")
    parser.add_argument("--dsn", help="connection string of the server, instead of --pg-config")


def _install(arguments: argparse.Namespace) -> int:
    from sidecar.install import find_tree, install, uninstall

    if arguments.without_plpython:
        return _install_managed(arguments)
    act = install if arguments.command == "install" else uninstall
    act(find_tree(arguments.pg_config, arguments.dsn), dry_run=arguments.dry_run)
    return 0


def _install_managed(arguments: argparse.Namespace) -> int:
    from sidecar.managed import install_managed, managed_script, uninstall_managed

    if not arguments.dsn:
        raise ConfigError("--without-plpython needs a database", "Name it with --dsn, as its owner.")
    if arguments.dry_run and arguments.command == "install":
        print(managed_script(), end="")
    elif arguments.dry_run:
        print("would drop schema motive and what was made with it; annotated tables keep their columns")
    else:
        (install_managed if arguments.command == "install" else uninstall_managed)(arguments.dsn)
    return 0


def _add_install(commands: Commands) -> None:
    for name, text in (
        ("install", "put the extension and its client into a PostgreSQL server"),
        ("uninstall", "remove what `motive install` has put there"),
    ):
        parser = commands.add_parser(name, help=text)
        _server_flags(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument(
            "--without-plpython",
            action="store_true",
            help="into the database at --dsn alone, as its owner: queued annotation only, for managed services",
        )
        parser.set_defaults(run=_install, command=name)


def _check(arguments: argparse.Namespace) -> int:
    from sidecar.check import check

    return check(arguments.dsn, pg_config=arguments.pg_config)


def _add_check(commands: Commands) -> None:
    parser = commands.add_parser("check", help="say on one page what works and what does not, with the remedy")
    parser.add_argument("--dsn", help="connection string of a database with the extension, as its owner")
    parser.add_argument("--pg-config", metavar="PATH", help="pg_config of the server; the newest found by default")
    parser.set_defaults(run=_check)


def _build(arguments: argparse.Namespace) -> int:
    from sidecar.model_build import build_variant
    from sidecar.released import SOURCE

    with _named_faults():
        repository = build_variant(Path(arguments.source or SOURCE), arguments.variant, Path(arguments.to))
    print(f"{repository.model_version} is in {repository.path}")
    return 0


@contextmanager
def _named_faults() -> Iterator[None]:
    """A model repository that cannot be read or written, as one sentence."""
    from sidecar.repository import RepositoryError, TaxonomyError

    try:
        yield
    except (RepositoryError, TaxonomyError) as error:
        raise ConfigError(str(error), "Name the directory of a model repository.") from None
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", "Mend this, and run the command again.") from None


def _show(arguments: argparse.Namespace) -> int:
    from sidecar.released import SOURCE
    from sidecar.repository import open_repository

    with _named_faults():
        repository = open_repository(Path(arguments.source or SOURCE))
    print(repository.model_version)
    print(f"base       {repository.manifest.base}")
    print(f"variant    {repository.manifest.variant}")
    print(f"taxonomy   {repository.manifest.taxonomy_digest}")
    print(f"motives    {', '.join(repository.taxonomy.codes)}; {repository.taxonomy.abstention.code}")
    return 0


def _add_model(commands: Commands) -> None:
    parser = commands.add_parser("model", help="derive a variant of a model repository, or describe one")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="derive the variant that a processor runs fastest")
    build.add_argument("source", nargs="?", help="an exported model repository; the released one by default")
    build.add_argument("--variant", default="cpu-int8", help="cpu-int8, cpu-fp32 or gpu-fp16")
    build.add_argument("--to", required=True, metavar="DIRECTORY", help="where to write it")
    build.set_defaults(run=_build)
    show = actions.add_parser("show", help="say what a model repository holds")
    show.add_argument("source", nargs="?")
    show.set_defaults(run=_show)


def _add_demo(commands: Commands) -> None:
    parser = commands.add_parser("demo", help="a private PostgreSQL with annotated samples (see make demo)")
    parser.add_argument("action", choices=("start", "psql", "dsn", "stop"))
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from sidecar.demo import run

    action: Callable[[], int] = getattr(run, arguments.action)
    return action()


_COMMANDS: tuple[Callable[[Commands], None], ...] = (
    *(_add_serve, add_worker, _add_install, _add_check, _add_classify),
    *(_add_model, add_triton, add_release, _add_demo),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    result = argparse.ArgumentParser(prog="motive", description="Why do people buy? Purchase motives in PostgreSQL.")
    result.add_argument("--version", action="version", version=f"pg_motive {__version__}")
    commands = result.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except MotiveError as error:
        print(f"motive: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`motive classify ... | head`): that is its right.
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
