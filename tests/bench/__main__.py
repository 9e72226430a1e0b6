"""Runs every benchmark, or those named: `python -m tests.bench direct engine`; with --readme also writes the README."""

import argparse
import importlib
import os
import platform
import signal
import sys
import time
from pathlib import Path

from tests.bench.record import Recorder, write_section

README = Path(__file__).parents[2] / "README.md"


def main() -> int:
    """Each module tests/bench/NAME_bench.py has `run(console)`."""
    names = sorted(path.stem.removesuffix("_bench") for path in Path(__file__).parent.glob("*_bench.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures speed, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(names)}")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md as well")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    # Told to stop, it still stops the servers that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Recorder(width=None if sys.stdout.isatty() else 120)
    console.print(f"[dim]{machine()}[/dim]")
    for name in arguments.names or names:
        console.parts.clear()
        console.rule(f"{name} bench")
        started = time.monotonic()
        importlib.import_module(f"tests.bench.{name}_bench").run(console)
        took = time.monotonic() - started
        if arguments.readme and not write_section(README, name, console.markdown):
            print(f"{README.name} has no place for bench {name}", file=sys.stderr)
        console.rule(f"{took:.0f} s", style="dim")
    return 0


def machine() -> str:
    """What it runs on, in one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
