"""`motive triton`: its flags. Runs a real Triton on this machine, to try the Triton engine without Docker or a GPU."""

import argparse
from pathlib import Path
from typing import Any

from sidecar.triton_server import Ports


def add_triton(commands: Any) -> None:
    """Adds the command to the command line; `commands` is what argparse's add_subparsers() gave."""
    parser = commands.add_parser("triton", help="run Triton on this machine, with a model, without Docker or a GPU")
    parser.add_argument(
        "model", nargs="?", help="a model repository or a directory of releases; the released model by default"
    )
    for name, port in vars(Ports()).items():
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT", help=f"on 127.0.0.1; {port}")
    parser.add_argument("--fetch", action="store_true", help="only fetch Triton's files, and say where they lie")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from sidecar import triton_server

    if arguments.fetch:
        print(triton_server.install())
        return 0
    if arguments.model:
        path = Path(arguments.model)
    else:
        from sidecar.released import released_model

        path = released_model()
    return triton_server.run(path, Ports(arguments.grpc_port, arguments.http_port, arguments.metrics_port))
