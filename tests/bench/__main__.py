"""Runs every benchmark, or those named: `python -m tests.bench direct engine`."""

import importlib
import sys
from pathlib import Path

from rich.console import Console


def main() -> int:
    """Each module tests/bench/NAME_bench.py has `run(console)`."""
    names = sorted(path.stem.removesuffix("_bench") for path in Path(__file__).parent.glob("*_bench.py"))
    chosen = sys.argv[1:] or names
    unknown = set(chosen) - set(names)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    console = Console()
    for name in chosen:
        console.rule(f"{name} bench")
        importlib.import_module(f"tests.bench.{name}_bench").run(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
