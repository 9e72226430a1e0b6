"""The figures by which models are judged: accuracy, F1, abstention and calibration, with bootstrap intervals.

The same figures as the project's scoring script for real texts; a text's first motive is its primary.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sidecar.repository import Answer
from trainer.texts import Example

ABSTENTION = ""
"""Stands for the abstention label among primaries."""
BINS = 15


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


def f1(hit: int, said: int, gold: int) -> float:
    """Twice the hits over all said and all that are so; 0 where there is no hit."""
    return 2 * hit / (said + gold) if hit else 0.0


def per_class(judged: Sequence[Judged]) -> dict[str, float]:
    """F1 of the primary for each class that occurs among the labels."""
    gold = Counter(j.gold_primary for j in judged)
    said = Counter(j.said_primary for j in judged)
    hit = Counter(j.gold_primary for j in judged if j.exact)
    return {c: f1(hit[c], said[c], gold[c]) for c in sorted(gold)}


def scores(judged: Sequence[Judged]) -> dict[str, float]:
    """accuracy, lenient, macro_f1, set_f1, unknown_recall, unknown_precision; ece with confidences. Each 0 to 1."""
    n = len(judged)
    classes = per_class(judged)
    hit = sum(len(set(j.gold) & set(j.said)) for j in judged)
    silent = sum(not j.said for j in judged)
    none = sum(not j.gold for j in judged)
    both = sum(not j.said and not j.gold for j in judged)
    result = {
        "n": float(n),
        "accuracy": sum(j.exact for j in judged) / n,
        "lenient": sum(j.lenient for j in judged) / n,
        "macro_f1": sum(classes.values()) / len(classes),
        "set_f1": f1(hit, sum(len(set(j.said)) for j in judged), sum(len(set(j.gold)) for j in judged)),
        "unknown_recall": both / max(1, none),
        "unknown_precision": both / max(1, silent),
    }
    if all(j.confidence is not None for j in judged):
        result["ece"] = calibration_error(judged)
    return result


def reliability(judged: Iterable[Judged]) -> list[tuple[float, float, int]]:
    """Per bin of confidence that holds a text: mean confidence, share leniently right, number of texts."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for j in judged:
        if j.confidence is not None:
            bins.setdefault(min(BINS - 1, int(j.confidence * BINS)), []).append((j.confidence, j.lenient))
    return [(sum(c for c, _ in b) / len(b), sum(ok for _, ok in b) / len(b), len(b)) for _, b in sorted(bins.items())]


def calibration_error(judged: Sequence[Judged]) -> float:
    """Expected calibration error: mean gap between confidence and lenient correctness over the bins (Guo 2017)."""
    return sum(n * abs(c - ok) for c, ok, n in reliability(judged)) / len(judged)


def bootstrap(
    judged: Sequence[Judged],
    figures: Callable[[Sequence[Judged]], dict[str, float]] = scores,
    rounds: int = 500,
    seed: int = 17,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of each figure over `rounds` resamplings of the texts (Efron 1979)."""
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds):
        sample = [judged[i] for i in random.integers(0, len(judged), len(judged))]
        for name, value in figures(sample).items():
            drawn.setdefault(name, []).append(value)
    return {
        name: (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975)))
        for name, values in drawn.items()
        if name != "n"
    }


def by_slice(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """The figures for all texts, and for each language, kind, pair of both, and way of drawing that is named."""
    groups: dict[str, list[Judged]] = {"all": list(judged)}
    for j in judged:
        drawn = f"sampled {j.how}" if j.how else ""
        for name in dict.fromkeys((j.lang, j.kind, f"{j.lang} {j.kind}".strip(), drawn)):
            if name:
                groups.setdefault(name, []).append(j)
    return {name: scores(group) for name, group in groups.items()}
