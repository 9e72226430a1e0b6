"""The learning curve: how figures on held-out texts grow with the number of training texts."""

from collections.abc import Callable, Sequence

import numpy as np

from sidecar.repository import Answer
from trainer.scores import answered, scores
from trainer.texts import Example

Fit = Callable[[Sequence[Example]], Callable[[Sequence[str]], list[Answer]]]


def learning_curve(
    train: Sequence[Example], test: Sequence[Example], fit: Fit, points: int = 5, seed: int = 17
) -> list[tuple[int, dict[str, float]]]:
    """Fits on 1/2^(points-1) ... 1/2 and all of the texts, drawn with a seed, smaller within larger; smallest first."""
    order = np.random.default_rng(seed).permutation(len(train))
    sizes = sorted({len(train) >> shift for shift in range(points)} - {0})
    result = []
    for size in sizes:
        answer = fit([train[i] for i in order[:size]])
        result.append((size, scores(answered(test, answer([e.text for e in test])))))
    return result


def verdict(curve: Sequence[tuple[int, dict[str, float]]], figure: str = "macro_f1") -> str:
    """One sentence: whether more texts would still help, from the gain of the last doubling."""
    if len(curve) < 2:
        return "Too few texts for a learning curve."
    gain = curve[-1][1][figure] - curve[-2][1][figure]
    if gain >= 0.01:
        return f"The last doubling of the texts gained {gain:.3f} of {figure}: more texts would still help."
    return f"The last doubling of the texts gained {gain:.3f} of {figure}: more of the same texts would help little."
