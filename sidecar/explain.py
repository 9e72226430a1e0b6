"""Which words carried each motive: the words without which its confidence falls most (occlusion).

Source of the method: Zeiler and Fergus 2014, occlusion sensitivity; Li, Monroe and Jurafsky 2016, "Understanding neural
networks through representation erasure". Every span is checked against the model: leaving it out does lower the motive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sidecar.classifier import Classifier
from sidecar.pb import motive_pb2 as pb
from sidecar.redact import redact
from sidecar.tokenize import Piece

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
class _Span:
    start: int
    stop: int
    units: int


async def explain(classifier: Classifier, text: str, *, redacted: bool, deadline: float | None) -> pb.ExplainResponse:
    """The answer for `text` and the spans behind each of its motives; offsets count characters of `text`.

    Raises what Classifier.classify raises.
    """
    (result,) = await classifier.classify([text], redacted=redacted, deadline=deadline)
    response = pb.ExplainResponse(result=result, model=classifier.model)
    if not result.motives:
        return response
    clean = text if redacted else redact(text)[0]
    spans = candidate_spans(clean, classifier.tokenizer.pieces(clean))
    variants = [clean, *(clean[: span.start] + " " + clean[span.stop :] for span in spans)]
    with classifier.admitted(len(variants)):
        logits = await classifier.logits(variants, deadline=deadline)
    probabilities = classifier.repository.calibration.probabilities(logits)
    labels = classifier.repository.manifest.labels
    for scored in result.motives:
        column = probabilities[:, labels.index(scored.motive)]
        falls = column[0] - column[1:]
        if not (falls > 0).any():
            # A saturated calibration hides small falls; the logit still shows them.
            raw = logits[:, labels.index(scored.motive)]
            falls = np.minimum(raw[0] - raw[1:], 1.0) * 1e-3
        response.evidence.extend(
            pb.Evidence(motive=scored.motive, start=spans[i].start, stop=spans[i].stop, weight=min(1.0, falls[i]))
            for i in heaviest(spans, falls)
        )
    return response


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


def candidate_spans(text: str, pieces: Sequence[Piece]) -> list[_Span]:
    """Every run of 1, 2, 3 or 5 units of `text`, and the whole."""
    words = units(text, pieces)
    sizes = [size for size in SPAN_UNITS if size < len(words)] + [len(words)]
    return [
        _Span(words[first].start, words[first + size - 1].stop, size)
        for size in sizes
        for first in range(len(words) - size + 1)
    ]


def heaviest(spans: Sequence[_Span], falls: NDArray[np.float64]) -> list[int]:
    """Indices of at most MAX_SPANS disjoint spans, heaviest first, each of which lowers the motive when left out."""
    worth = falls * _LENGTH_COST ** np.array([span.units - 1 for span in spans])
    chosen: list[int] = []
    for i in np.argsort(-worth, kind="stable"):
        if falls[i] <= 0 or (chosen and worth[i] < _LEAST_SHARE * worth[chosen[0]]):
            break
        if all(_apart(spans[i], spans[j]) for j in chosen):
            chosen.append(int(i))
        if len(chosen) == MAX_SPANS:
            break
    return chosen


def _apart(a: _Span, b: _Span) -> bool:
    first, second = sorted([(a.start, a.stop), (b.start, b.stop)])
    return all(stop <= start for (_, stop), (start, _) in pairwise([first, second]))
