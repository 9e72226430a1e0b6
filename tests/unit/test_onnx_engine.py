"""The embedded engine: what it takes of the machine that it shares with the answers."""

import os
from pathlib import Path

from sidecar.engines.onnx import YIELD, OnnxEngine
from sidecar.repository import open_repository


async def test_the_threads_that_compute_batches_give_way_to_the_one_that_answers(tiny_repository: Path) -> None:
    """All of them, ONNX Runtime's own included; Linux keeps the niceness of each thread apart."""
    ours, before = os.getpriority(os.PRIO_PROCESS, 0), _threads()
    engine = OnnxEngine(open_repository(tiny_repository), threads=3)
    try:
        niceness = [os.getpriority(os.PRIO_PROCESS, one) for one in _threads() - before]
        assert niceness.count(min(19, ours + YIELD)) == 3, "the engine's own, and two of ONNX Runtime"
        assert os.getpriority(os.PRIO_PROCESS, 0) == ours
    finally:
        await engine.close()


def _threads() -> set[int]:
    return {int(one.name) for one in Path("/proc/self/task").iterdir()}
