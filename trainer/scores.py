"""The figures by which models are judged: accuracy, F1, abstention and calibration.

The same figures as the project's scoring script for real texts; a text's first motive is its primary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Answer
from trainer.texts import Example

ABSTENTION = ""
"""Stands for the abstention label among primaries."""
BINS = 15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One text's labels beside what was answered."""

    gold: tuple[str, ...]
    said: tuple[str, ...]
    confidence: float | None
    lang: str = ""
    kind: str = ""
    how: str = ""

    @property
    def gold_primary(self) -> str:
        """The primary label, or ABSTENTION."""
        return self.gold[0] if self.gold else ABSTENTION

    @property
    def said_primary(self) -> str:
        """The answered primary, or ABSTENTION."""
        return self.said[0] if self.said else ABSTENTION

    @property
    def exact(self) -> bool:
        """Whether the primaries agree."""
        return self.gold_primary == self.said_primary

    @property
    def lenient(self) -> bool:
        """Whether the answered primary is among the labels, or both abstain."""
        return self.said_primary in self.gold if self.gold else not self.said


def answered(examples: Sequence[Example], answers: Sequence[Answer]) -> list[Judged]:
    """Joins labelled texts with a model's answers, in order."""
    return [
        Judged(e.motives, tuple(m for m, _ in a.motives), a.confidence, e.lang, e.kind, e.how)
        for e, a in zip(examples, answers, strict=True)
    ]


class Tally:
    """Per text the numbers whose sums give every figure, so that thousands of samples cost one matrix product.

    A sample of the texts is a row of `weights` [samples, texts]: how often each text is in it. The classes are those
    that occur among all the labels; one that a sample lacks has F1 0 there, and no part in its macro-F1.
    """

    def __init__(self, judged: Sequence[Judged]) -> None:
        self.judged = judged
        self.classes = sorted({j.gold_primary for j in judged})

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        gold = np.array([[j.gold_primary == c for c in self.classes] for j in self.judged], float)
        said = np.array([[j.said_primary == c for c in self.classes] for j in self.judged], float)
        columns = {
            "flat": np.array([_numbers(j) for j in self.judged], float),
            "gold": gold,
            "gold_or_said": gold + said,
            "hit": gold * said,
        }
        if all(j.confidence is not None for j in self.judged):
            columns["gap"] = np.zeros((len(self.judged), BINS))
            for row, j in enumerate(self.judged):
                columns["gap"][row, _bin(j.confidence or 0.0)] = (j.confidence or 0.0) - j.lenient
        return columns

    def class_f1(self, weights: Floats) -> Floats:
        """F1 of the primary [samples, classes]."""
        return _f1(weights @ self._columns["hit"], weights @ self._columns["gold_or_said"])

    def figures(self, weights: Floats) -> dict[str, Floats]:
        """Each figure of `scores` [samples]."""
        n = weights.sum(axis=1)
        held = (weights @ self._columns["gold"] > 0).sum(axis=1)
        exact, lenient, together, sizes, none, silent, both = (weights @ self._columns["flat"]).T
        result = {
            "n": n,
            "accuracy": exact / n,
            "lenient": lenient / n,
            "macro_f1": self.class_f1(weights).sum(axis=1) / held,
            "set_f1": _f1(together, sizes),
            "unknown_recall": both / np.maximum(1, none),
            "unknown_precision": both / np.maximum(1, silent),
        }
        if "gap" in self._columns:
            # Expected calibration error: mean gap between confidence and lenient correctness over bins (Guo 2017).
            result["ece"] = np.abs(weights @ self._columns["gap"]).sum(axis=1) / n
        return result


def _numbers(j: Judged) -> tuple[float, ...]:
    gold, said = set(j.gold), set(j.said)
    none, silent = not j.gold, not j.said
    return (j.exact, j.lenient, len(gold & said), len(gold) + len(said), none, silent, none and silent)


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(confidence * BINS))


def _f1(hit: Floats, gold_and_said: Floats) -> Floats:
    """Twice the hits over all that are so and all said; 0 where there is no hit."""
    result: Floats = 2 * hit / np.maximum(1, gold_and_said)
    return result


def scores(judged: Sequence[Judged]) -> dict[str, float]:
    """accuracy, lenient, macro_f1, set_f1, unknown_recall, unknown_precision; ece with confidences. Each 0 to 1."""
    return {name: float(value[0]) for name, value in Tally(judged).figures(_once(judged)).items()}


def per_class(judged: Sequence[Judged]) -> dict[str, float]:
    """F1 of the primary for each class that occurs among the labels."""
    tally = Tally(judged)
    return dict(zip(tally.classes, tally.class_f1(_once(judged))[0].tolist(), strict=True))


def _once(judged: Sequence[Judged]) -> Floats:
    return np.ones((1, len(judged)))


def reliability(judged: Iterable[Judged]) -> list[tuple[float, float, int]]:
    """Per bin of confidence that holds a text: mean confidence, share leniently right, number of texts."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for j in judged:
        if j.confidence is not None:
            bins.setdefault(_bin(j.confidence), []).append((j.confidence, j.lenient))
    return [(sum(c for c, _ in b) / len(b), sum(ok for _, ok in b) / len(b), len(b)) for _, b in sorted(bins.items())]


def slices(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """All texts, and those of each language, kind, pair of both, and way of drawing that is named."""
    groups: dict[str, list[Judged]] = {"all": list(judged)}
    for j in judged:
        drawn = f"sampled {j.how}" if j.how else ""
        for name in dict.fromkeys((j.lang, j.kind, f"{j.lang} {j.kind}".strip(), drawn)):
            if name:
                groups.setdefault(name, []).append(j)
    return groups
