"""The embedded engine: what it takes of the machine that it shares with the answers."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar.engines import onnx
from sidecar.engines.onnx import LONE_RUNS, LONE_TOKENS, YIELD, OnnxEngine
from sidecar.errors import InternalError
from sidecar.repository import open_repository

LONE = np.ones((1, 8), dtype=np.int64)


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


async def test_a_model_with_other_outputs_than_the_calibration_knows_is_refused(tiny_repository: Path) -> None:
    """F27 with too many, every answer would be read from the wrong columns."""
    repository = open_repository(tiny_repository)
    calibration = replace(repository.calibration, labels=repository.calibration.labels[:-1])
    engine = OnnxEngine(replace(repository, calibration=calibration), threads=1)
    try:
        with pytest.raises(InternalError, match="the model answered logits"):
            await engine.infer(LONE, LONE)
    finally:
        await engine.close()


async def test_lone_windows_are_computed_in_place_again_once_they_are_quick_again(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was busy for a moment costs the way to another thread for a few calls, not for ever."""
    engine = OnnxEngine(open_repository(tiny_repository), threads=1)
    where: list[bool] = []
    run = engine.run

    def noted(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        where.append(threading.current_thread() is threading.main_thread())
        return run(ids, mask)

    monkeypatch.setattr(engine, "run", noted)

    async def in_place() -> bool:
        await engine.infer(LONE, LONE)
        return where[-1]

    try:
        assert await in_place()
        monkeypatch.setattr(onnx, "LONE_S", 0.0)
        assert not await in_place()
        long = np.ones((1, LONE_TOKENS + 1), dtype=np.int64)
        await engine.infer(long, long)
        assert not where[-1]
        monkeypatch.setattr(onnx, "LONE_S", 60.0)
        assert await in_place()
        engine._lone.extend([120.0] * LONE_RUNS)
        assert [await in_place() for _ in range(LONE_RUNS)] == [False] * (LONE_RUNS // 2 + 1) + [True] * (
            LONE_RUNS // 2
        )
    finally:
        await engine.close()


def _threads() -> set[int]:
    return {int(one.name) for one in Path("/proc/self/task").iterdir()}
