"""`motive release`: its flags."""

import argparse
import signal
from pathlib import Path
from typing import Any

from sidecar.errors import ConfigError
from sidecar.tls import CertificateFiles


def add_release(commands: Any) -> None:
    """Adds the command to the command line; `commands` is what argparse's add_subparsers() gave."""
    parser = commands.add_parser("release", help="serve another model: put beside the old one, checked, switched to")
    parser.add_argument("model", nargs="?", metavar="PATH", help="the model repository to release")
    parser.add_argument("--to", required=True, metavar="DIRECTORY", help="directory of releases that sidecars serve")
    parser.add_argument("--rollback", action="store_true", help="go back to the release before")
    parser.add_argument("--list", action="store_true", help="show the releases there are")
    parser.add_argument("--prune", action="store_true", help="remove all but the current release and the one before")
    parser.add_argument(
        "--backend", help="what Triton runs it with: cpu, cuda, tensorrt or python; none without Triton"
    )
    parser.add_argument("--dsn", action="append", default=[], help="a database that is to know the model; repeatable")
    parser.add_argument(
        "--triton", action="append", default=[], metavar="HOST:PORT", help="with --prune: unload there too; repeatable"
    )
    for name, text in (("ca", "turns TLS to Triton on"), ("cert", "for mutual TLS"), ("key", "of that certificate")):
        parser.add_argument(f"--triton-{name}", default="", metavar="FILE", help=text)
    parser.add_argument(
        "--sidecar", action="append", default=[], metavar="TARGET", help="wait until this one serves it; repeatable"
    )
    parser.add_argument("--wait-s", type=float, default=120.0, metavar="SECONDS", help="how long to wait for each")
    parser.add_argument("--tls-authority", default="", metavar="FILE", help="turns TLS to the sidecars on")
    parser.add_argument("--tls-certificate", default="", metavar="FILE", help="for mutual TLS")
    parser.add_argument("--tls-key", default="", metavar="FILE", help="of that certificate")
    parser.add_argument("--token-file", default="", metavar="FILE", help="file with the token that sidecars ask for")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # As Ctrl-C does, it ends the wait for a sidecar with the links set back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from sidecar import release
    from sidecar.triton_repository import BACKENDS

    directory = Path(arguments.to)
    wanted = [bool(arguments.model), arguments.rollback, arguments.list, arguments.prune]
    if sum(wanted) != 1:
        raise ConfigError("what is to be done is not clear", "Give one of: PATH, --rollback, --list, --prune.")
    if arguments.backend not in (None, *BACKENDS):
        raise ConfigError(f"backend {arguments.backend!r} is unknown", f"Give one of: {', '.join(BACKENDS)}.")
    if arguments.list:
        for version, mark in release.listing(directory):
            print(f"{version:<40} {mark}".rstrip())
    elif arguments.prune:
        files = CertificateFiles(arguments.triton_cert, arguments.triton_key, arguments.triton_ca)
        for name in release.prune(directory, arguments.triton, files if files.ca else None):
            print(f"removed {name}")
    elif arguments.rollback:
        release.roll_back(directory, sidecars=_sidecars(arguments), wait_s=arguments.wait_s)
    else:
        release.release(
            Path(arguments.model),
            directory,
            backend=arguments.backend,
            dsns=arguments.dsn,
            sidecars=_sidecars(arguments),
            wait_s=arguments.wait_s,
        )
    return 0


def _sidecars(arguments: argparse.Namespace) -> Any:
    from sidecar.release import Sidecars

    files = CertificateFiles(arguments.tls_certificate, arguments.tls_key, arguments.tls_authority)
    return Sidecars(tuple(arguments.sidecar), files if files.ca else None, arguments.token_file)
