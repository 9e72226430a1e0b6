"""Timing two things so that noise of the machine falls on both alike."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Durations of single calls, in milliseconds."""

    durations_ms: Sequence[float]

    @property
    def p50(self) -> float:
        """Median, in milliseconds."""
        return float(np.percentile(self.durations_ms, 50))

    @property
    def p99(self) -> float:
        """99th percentile, in milliseconds."""
        return float(np.percentile(self.durations_ms, 99))


def interleaved(
    calls: dict[str, Callable[[int], object]], *, rounds: int, warm_up: int = 10, pause_s: float = 0.0
) -> dict[str, Timing]:
    """Calls each function with the round's number, in turn, `rounds` times.

    After each call, `pause_s` lets what it left running come to rest: ONNX Runtime's threads spin on for a while.
    """
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-warm_up, rounds):
        for name, call in calls.items():
            time.sleep(pause_s)
            gc.disable()
            started = time.perf_counter()
            call(number)
            elapsed = (time.perf_counter() - started) * 1000
            gc.enable()
            if number >= 0:
                durations[name].append(elapsed)
    return {name: Timing(values) for name, values in durations.items()}


def seconds(call: Callable[[], object], *, repeats: int = 1) -> float:
    """The least duration of `repeats` calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
