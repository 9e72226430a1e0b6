"""From a model's logits to calibrated confidences, thresholds and abstention: the one decision rule of the project.

The trainer fits the numbers and the sidecar applies them, both through this module, so that an evaluation says what
users will see.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What is said of one text: motives over their thresholds, best first; none means the abstention label."""

    motives: tuple[tuple[str, float], ...]
    confidence: float
    """Probability that the first motive holds; of abstention where there is no motive."""


@dataclass(frozen=True)
class Calibration:
    """Maps logits to answers.

    A model has one motive logit per label and, optionally, a primary head: one logit per label and a last one for
    abstention, read through a softmax. Each label's motive logit becomes a probability by linear interpolation between
    knots, which holds a Platt scaling, a temperature and an isotonic regression alike.
    """

    labels: tuple[str, ...]
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """Per label: logits, ascending, and the probability at each."""
    thresholds: tuple[float, ...]
    """Per label: the least probability at which it joins the answer."""
    primary: bool
    """Whether the model has a primary head."""
    primary_temperature: float = 1.0
    abstention_bias: float = 0.0
    """Added to the abstention logit of the primary head; raises or lowers how readily the model abstains."""
    motive_weight: float = 0.0
    """With a primary head: how much a label's own probability counts beside that head when the first is chosen, as an
    exponent; it never changes whether the model abstains."""
    abstention_knots: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0, 1.0), (0.0, 1.0))
    """From the raw abstention score, 0 to 1, to the probability that no motive is stated."""
    primary_knots: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """With a primary head: from the larger of the first motive's two probabilities to its confidence."""

    # Arrays made once: making them at every answer took longer than all the rest of it.
    @cached_property
    def _curves(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """The curves of all labels beside one another, as one interpolation takes hardly longer than one label's.

        By label: the first and the last logit, and how far its curve was moved; then the knots of all.
        """
        curves = [_curve(one) for one in self.knots]
        first, last = (np.array([xs[end] for xs, _ in curves]) for end in (0, -1))
        moved = np.cumsum([0.0, *(last - first + 1.0)])[:-1] - first
        knots = [xs + by for (xs, _), by in zip(curves, moved, strict=True)]
        return first, last, moved, np.concatenate(knots), np.concatenate([ys for _, ys in curves])

    @cached_property
    def _least(self) -> Floats:
        return np.asarray(self.thresholds)

    @cached_property
    def _abstention_curve(self) -> tuple[Floats, Floats]:
        return _curve(self.abstention_knots)

    @cached_property
    def _primary_curve(self) -> tuple[Floats, Floats] | None:
        return None if self.primary_knots is None else _curve(self.primary_knots)

    @property
    def outputs(self) -> int:
        """How many logits the model gives for a text."""
        return 2 * len(self.labels) + 1 if self.primary else len(self.labels)

    def probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """logits [texts, outputs] -> calibrated probability [texts, labels] that each motive holds."""
        first, last, moved, xs, ys = self._curves
        result: NDArray[np.float64] = np.interp(logits[:, : len(self.labels)].clip(first, last) + moved, xs, ys)
        return result

    def primary_scores(self, logits: Floats) -> NDArray[np.float64]:
        """logits [texts, outputs] -> [texts, labels + 1]: how strongly each label, abstention last, is the primary."""
        return self._primary_scores(logits, self.probabilities(logits))

    def _primary_scores(self, logits: Floats, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.primary:
            return np.concatenate([probabilities, 1.0 - probabilities.max(axis=1, keepdims=True)], axis=1)
        scores = logits[:, len(self.labels) :].astype(np.float64) / self.primary_temperature
        scores[:, -1] += self.abstention_bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        if self.motive_weight:
            # The best keeps its height, so that abstention wins and loses as before.
            best, weighed = scores[:, :-1].max(axis=1), scores[:, :-1] * probabilities.clip(1e-6) ** self.motive_weight
            scores[:, :-1] = weighed * (best / weighed.max(axis=1).clip(1e-12))[:, None]
        result: NDArray[np.float64] = scores
        return result

    def join_windows(self, logits: Floats) -> NDArray[np.float32]:
        """logits [windows, outputs] of one long text -> logits [outputs] of the whole.

        A motive holds when it holds in any window; the primary head sees the mean, so that no window decides alone.
        """
        joined = logits.max(axis=0)
        joined[len(self.labels) :] = logits[:, len(self.labels) :].mean(axis=0)
        result: NDArray[np.float32] = joined.astype(np.float32)
        return result

    def answers(self, logits: Floats) -> list[Answer]:
        """logits [texts, outputs], finite -> one answer per text, independent of the other texts."""
        probabilities = self.probabilities(logits)
        primary = self._primary_scores(logits, probabilities)
        over = probabilities >= self._least
        if self.primary:
            abstains = primary.argmax(axis=1) == len(self.labels)
            first = primary[:, :-1].argmax(axis=1)
        else:
            abstains = ~over.any(axis=1)
            first = np.where(over, probabilities, -1.0).argmax(axis=1)
        unknown = np.interp(primary[:, -1], *self._abstention_curve)
        return [
            Answer((), float(unknown[row]))
            if abstains[row]
            else self._motives(probabilities[row], primary[row], over[row], int(first[row]))
            for row in range(len(logits))
        ]

    def _motives(self, probability: Floats, primary: Floats, over: NDArray[np.bool_], first: int) -> Answer:
        confidence = float(probability[first])
        if self._primary_curve is not None:
            confidence = float(np.interp(max(confidence, float(primary[first])), *self._primary_curve))
        rest = [i for i in np.argsort(-probability) if over[i] and i != first]
        motives = ((self.labels[first], confidence), *((self.labels[i], float(probability[i])) for i in rest))
        return Answer(motives, confidence)

    def write(self, path: Path) -> None:
        """Writes the file that `read` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        path.write_text(json.dumps({"format": 1, **values}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Reads calibration.json; raises KeyError or TypeError where a field is missing."""
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != 1:
            raise ValueError(f"{path} is of a newer format; upgrade pg_motive")
        return cls(**{name: _frozen(value) for name, value in fields.items()})

    @classmethod
    def plain(cls, labels: Sequence[str], *, primary: bool = False) -> "Calibration":
        """An uncalibrated start: the logistic function and thresholds of one half."""
        logits = np.linspace(-8.0, 8.0, 129)
        knots = (tuple(logits.tolist()), tuple((1.0 / (1.0 + np.exp(-logits))).tolist()))
        return cls(tuple(labels), (knots,) * len(labels), (0.5,) * len(labels), primary)


def _curve(knots: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[Floats, Floats]:
    return np.asarray(knots[0], dtype=np.float64), np.asarray(knots[1], dtype=np.float64)


def _frozen(value: object) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
