"""Which words carried a motive: the spans without which its confidence falls most (occlusion).

Source of the method: Zeiler and Fergus 2014, occlusion sensitivity; Li, Monroe and Jurafsky 2016, "Understanding neural
networks through representation erasure". Every span is checked against the model: leaving it out does lower the motive.
Here stand the texts to ask the model of and what follows from its logits; the sidecar asks it, and so does an
evaluation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sidecar.repository.calibration import Calibration

MAX_UNITS = 48
"""Units a text is cut into; longer texts get coarser units, so that the work stays bounded."""

SPAN_UNITS = (1, 2, 3, 5)
"""Lengths of the spans that are tried, in units."""

MAX_SPANS = 3
"""Spans named for one motive."""

_LEAST_SHARE = 0.25
"""A further span must weigh at least this share of the heaviest."""

_LENGTH_COST = 0.9
"""What a span keeps of its weight per further unit: of two that weigh about the same, the shorter is named."""


@dataclass(frozen=True)
class Piece:
    """One token of a text: its characters are text[start:stop]."""

    start: int
    stop: int


@dataclass(frozen=True)
class Span:
    """Some units of a text, one after another: text[start:stop]."""

    start: int
    stop: int
    units: int


def pieces_at(offsets: Iterable[tuple[int, int]], prefix: int) -> list[Piece]:
    """The pieces of a text that a tokenizer read behind a prefix of so many characters."""
    pieces = (Piece(max(0, start - prefix), stop - prefix) for start, stop in offsets)
    return [piece for piece in pieces if piece.stop > piece.start]


def units(text: str, pieces: Sequence[Piece]) -> list[Piece]:
    """Joins tokens into words (Latin script: up to a blank; Chinese: the tokenizer's own words), at most MAX_UNITS."""
    words: list[Piece] = []
    for piece in pieces:
        start, stop = piece.start, piece.stop
        while start < stop and text[start].isspace():
            start += 1
        if start == stop:
            continue
        glued = words and words[-1].stop == start and text[start - 1].isascii() and text[start].isascii()
        if glued and text[start - 1].isalnum() and text[start].isalnum():
            words[-1] = Piece(words[-1].start, stop)
        else:
            words.append(Piece(start, stop))
    words = [word for word in words if any(character.isalnum() for character in text[word.start : word.stop])] or words
    if len(words) <= MAX_UNITS:
        return words
    groups = np.array_split(np.arange(len(words)), MAX_UNITS)
    return [Piece(words[group[0]].start, words[group[-1]].stop) for group in groups]


def candidate_spans(text: str, pieces: Sequence[Piece]) -> list[Span]:
    """Every run of 1, 2, 3 or 5 units of `text`, and the whole; none where no token stands for anything visible."""
    words = units(text, pieces)
    if not words:
        return []
    sizes = [size for size in SPAN_UNITS if size < len(words)] + [len(words)]
    return [
        Span(words[first].start, words[first + size - 1].stop, size)
        for size in sizes
        for first in range(len(words) - size + 1)
    ]


def without(text: str, *spans: Span) -> str:
    """The text with a blank in the place of each span; the spans are disjoint."""
    for span in sorted(spans, key=lambda one: -one.start):
        text = text[: span.start] + " " + text[span.stop :]
    return text


def evidence(
    spans: Sequence[Span], logits: NDArray[np.float32], calibration: Calibration, motive: str
) -> list[tuple[Span, float]]:
    """The spans that carried `motive`, heaviest first, with what its probability falls by without each.

    logits [1 + spans, outputs] are those of the text and of the text without each span.
    """
    label = calibration.labels.index(motive)
    column = calibration.probabilities(logits)[:, label]
    falls: NDArray[np.float64] = column[0] - column[1:]
    if not (falls > 0).any():
        # A saturated calibration hides small falls; the logit still shows them.
        raw = logits[:, label]
        falls = np.minimum(raw[0] - raw[1:], 1.0) * 1e-3
    return [(spans[i], min(1.0, float(falls[i]))) for i in heaviest(spans, falls)]


def heaviest(spans: Sequence[Span], falls: NDArray[np.float64]) -> list[int]:
    """Indices of at most MAX_SPANS disjoint spans, heaviest first, each of which lowers the motive when left out."""
    worth = falls * _LENGTH_COST ** np.array([span.units - 1 for span in spans])
    chosen: list[int] = []
    for i in np.argsort(-worth, kind="stable"):
        if falls[i] <= 0 or (chosen and worth[i] < _LEAST_SHARE * worth[chosen[0]]):
            break
        if all(apart(spans[i], spans[j]) for j in chosen):
            chosen.append(int(i))
        if len(chosen) == MAX_SPANS:
            break
    return chosen


def apart(a: Span, b: Span) -> bool:
    """Whether two spans share no character."""
    return a.stop <= b.start or b.stop <= a.start
