"""Timing two things so that noise of the machine falls on both alike."""

import gc
import itertools
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


TURN, SETTLING = 20, 3
"""Calls in a row of one function, and how many before them do not count: others have just filled the caches."""


def interleaved(
    calls: dict[str, Callable[[int], object]], *, rounds: int, warm_up: int = 10, pause_s: float = 0.0
) -> dict[str, Timing]:
    """Times `rounds` calls of each function with the call's number, in turns of TURN, so that noise falls on all alike.

    The calls of SETTLING and warm-up get negative numbers and are not timed. Before each call, `pause_s` lets what the
    last one left running come to rest: ONNX Runtime's threads spin on for a while.
    """
    durations: dict[str, list[float]] = {name: [] for name in calls}
    untimed = itertools.count(-1, -1)
    for first in range(0, rounds, TURN):
        for name, call in calls.items():
            for _ in range(SETTLING if first else max(SETTLING, warm_up)):
                call(next(untimed))
            for number in range(first, min(first + TURN, rounds)):
                time.sleep(pause_s)
                durations[name].append(_milliseconds(call, number))
    return {name: Timing(values) for name, values in durations.items()}


def _milliseconds(call: Callable[[int], object], number: int) -> float:
    gc.disable()
    started = time.perf_counter()
    call(number)
    elapsed = (time.perf_counter() - started) * 1000
    gc.enable()
    return elapsed


def seconds(call: Callable[[], object], *, repeats: int = 1) -> float:
    """The least duration of `repeats` calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best
