"""The `motive` command: reads flags, calls one function, and turns errors into one sentence and an exit status."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields

from sidecar import __version__
from sidecar.config import Settings
from sidecar.errors import MotiveError


def _serve(arguments: argparse.Namespace) -> int:
    from sidecar.server import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(serve(Settings.gather(vars(arguments))))
    return 0


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("serve", help="run the sidecar: gRPC in front of a model")
    for field in fields(Settings):
        kind = {"int": int, "float": float}.get(str(field.type), str)
        flag = "--" + field.name.replace("_", "-")
        if str(field.type) == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(flag, type=kind, default=None, metavar=field.name.upper())
    parser.set_defaults(run=_serve)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    result = argparse.ArgumentParser(prog="motive", description="Why do people buy? Purchase motives in PostgreSQL.")
    result.add_argument("--version", action="version", version=f"pg_motive {__version__}")
    commands = result.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
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
    except KeyboardInterrupt:
        return 130
