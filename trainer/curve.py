"""The learning curve: how figures on held-out texts grow with the number of training texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sidecar.repository import Answer
from trainer.errors import TrainerError, UnlearnableError
from trainer.intervals import Difference, difference
from trainer.scores import Judged, answered, scores
from trainer.texts import Example

Fit = Callable[[Sequence[Example]], Callable[[Sequence[str]], list[Answer]]]
WORTH = 0.01
"""A gain of macro-F1 that is worth more texts."""


@dataclass(frozen=True)
class Curve:
    """What was found at each number of training texts, smallest first."""

    points: tuple[tuple[int, dict[str, float]], ...]
    gain: Difference | None = None
    """Macro-F1 of the last point minus that of the one before; None with fewer than two points."""
    skipped: tuple[tuple[int, str], ...] = ()
    """Numbers of texts that could not be learnt from, and why."""
    note: str = ""
    """What a reader should know of how it was learnt."""

    def sentences(self) -> str:
        """Whether more texts would still help, which points are missing, and the note."""
        missing = [f"{size:,} texts could not be learnt from: {reason}." for size, reason in self.skipped]
        return " ".join([verdict(self), *missing, *([self.note] if self.note else [])])


def learning_curve(
    train: Sequence[Example], test: Sequence[Example], fit: Fit, points: int = 5, seed: int = 17
) -> Curve:
    """Fits on 1/2^(points-1) ... 1/2 and all of the texts, drawn with a seed, smaller within larger.

    A number of texts from which `fit` raises UnlearnableError, as where a rare motive has none among them, is skipped;
    other errors rise at once, for more texts cure none of them. Raises TrainerError where there is no point at all.
    """
    order = np.random.default_rng(seed).permutation(len(train))
    found: list[tuple[int, list[Judged]]] = []
    skipped = []
    for size in sorted({len(train) >> shift for shift in range(points)} - {0}):
        try:
            answer = fit([train[i] for i in order[:size]])
        except UnlearnableError as error:
            skipped.append((size, str(error)))
            continue
        found.append((size, answered(test, answer([e.text for e in test]))))
    if skipped and not found:
        raise TrainerError(f"there is no learning curve: {skipped[-1][1]}")
    gain = difference(found[-1][1], found[-2][1]) if len(found) > 1 else None
    return Curve(tuple((size, scores(judged)) for size, judged in found), gain, tuple(skipped))


def verdict(curve: Curve) -> str:
    """One sentence: whether more texts would still help, from the last gain and its interval.

    The interval is that of the judged texts; another seed of the training moves the gain as well.
    """
    if curve.gain is None:
        return "Too few texts for a learning curve."
    low, high = curve.gain.interval
    told = (
        "more texts would still help"
        if low > 0
        else "more of the same texts would help little"
        if high < WORTH
        else "the judged texts are too few to tell whether more would help"
    )
    sizes = f"From {curve.points[-2][0]:,} to {curve.points[-1][0]:,} texts"
    return f"{sizes} macro-F1 changed by {curve.gain}, in brackets its 95 % interval: {told}."
