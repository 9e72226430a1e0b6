"""How sure a figure is: 95 % intervals from resampling the judged texts (Efron 1979, the bootstrap).

They tell how far other texts of the same kind would move a figure; not how far another training would.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.scores import Floats, Judged, Tally, scores

Interval = tuple[float, float]
ROUNDS = 1000
SEED = 17
AT_ONCE = 4_000_000
"""Numbers of a block of samples: some rounds of many texts, or many of few."""


@dataclass(frozen=True)
class Difference:
    """A figure of one model minus that of another, on the same texts."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.interval[0]:+.3f} to {self.interval[1]:+.3f})"


@dataclass(frozen=True)
class Measured:
    """The figures of `scores` with their intervals."""

    figures: dict[str, float]
    intervals: dict[str, Interval]

    def cell(self, figure: str) -> str:
        """A figure as people read it; empty where there is none."""
        if figure not in self.figures:
            return ""
        if figure not in self.intervals:
            return f"{self.figures[figure]:.0f}"
        return span(self.figures[figure], self.intervals[figure])


def span(value: float, interval: Interval) -> str:
    """A figure and its interval as people read them."""
    return f"{value:.3f} ({interval[0]:.2f} to {interval[1]:.2f})"


def measured(judged: Sequence[Judged], rounds: int = ROUNDS) -> Measured:
    """Figures and intervals of one lot of texts."""
    return Measured(scores(judged), bootstrap(judged, rounds))


def bootstrap(judged: Sequence[Judged], rounds: int = ROUNDS, seed: int = SEED) -> dict[str, Interval]:
    """The interval of each figure of `scores`, but "n".

    Percentiles of the samples, except for the calibration error: chance gaps of small bins only ever raise it, in a
    sample more than in the texts themselves, so that percentiles would lie too high (Kumar, Liang and Ma 2019, arXiv
    1909.10155). From its percentiles the bootstrap's estimate of that bias is taken, the samples' mean minus the figure
    (Efron and Tibshirani 1993, chapter 10), down to 0 at most. What chance adds to the figure itself stays in it.
    """
    drawn = _resampled(Tally(judged).figures, len(judged), rounds, seed)
    found = {name: _percentiles(values) for name, values in drawn.items() if name != "n"}
    if "ece" in found:
        low, high = found["ece"]
        bias = float(drawn["ece"].mean()) - scores(judged)["ece"]
        found["ece"] = (max(0.0, low - bias), max(0.0, high - bias))
    return found


def class_bootstrap(judged: Sequence[Judged], rounds: int = ROUNDS, seed: int = SEED) -> dict[str, Interval]:
    """The percentile interval of each class's F1, which is 0 in a sample that lacks the class."""
    tally = Tally(judged)
    drawn = _resampled(lambda weights: {"f1": tally.class_f1(weights)}, len(judged), rounds, seed)["f1"]
    return {name: _percentiles(drawn[:, i]) for i, name in enumerate(tally.classes)}


def difference(
    ours: Sequence[Judged], theirs: Sequence[Judged], figure: str = "macro_f1", rounds: int = ROUNDS, seed: int = SEED
) -> Difference:
    """`figure` of ours minus theirs, both on the same texts in the same order, so that each sample is of both."""
    a, b = (_resampled(Tally(one).figures, len(one), rounds, seed)[figure] for one in (ours, theirs))
    return Difference(scores(ours)[figure] - scores(theirs)[figure], _percentiles(a - b))


def _resampled(figures: Callable[[Floats], dict[str, Floats]], texts: int, rounds: int, seed: int) -> dict[str, Floats]:
    """What `figures` gives for `rounds` samples, each as many texts drawn with replacement; the same for a seed."""
    random = np.random.default_rng(seed)
    block = max(1, AT_ONCE // texts)
    found = []
    for start in range(0, rounds, block):
        count = min(block, rounds - start)
        picked = random.integers(0, texts, (count, texts)) + texts * np.arange(count)[:, None]
        weights = np.bincount(picked.ravel(), minlength=count * texts).reshape(count, texts)
        found.append(figures(weights.astype(np.float64)))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _percentiles(values: Floats) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
