"""Is the evidence that a model names really what it goes by? Leave it out and see whether the motive falls.

The spans are those of `explain_motive`. Each was chosen because its own removal lowers the motive; what is judged here
is all of them left out at once, beside as many spans of the same lengths drawn by chance from the same text.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sidecar.redact import redact
from sidecar.repository.evidence import Span, apart, candidate_spans, evidence, without
from trainer.answer import Model
from trainer.progress import Advance

BATCH = 16
"""Texts that are asked about at once: about 150 variants of each."""


@dataclass(frozen=True)
class EvidenceCheck:
    """What leaving out the evidence of the first motive does, over the texts that were answered with a motive."""

    texts: int
    named: int
    """Texts with any evidence; the whole text may be the only span that lowers the motive."""
    lowered: int
    """Texts in which the motive's probability falls once all its evidence is left out."""
    gone: int
    """Texts whose answer then has another first motive, or none."""
    fall: float
    """Mean fall of the probability, over the texts with evidence."""
    by_chance: int
    """Texts in which it falls, too, when as many spans of the same lengths are left out by chance."""
    fall_by_chance: float

    @property
    def share(self) -> float:
        """The share of the texts in which the motive's probability falls."""
        return self.lowered / max(1, self.texts)

    def sentence(self) -> str:
        """The finding for a person."""
        return (
            f"Without its evidence the first motive falls in {self.share:.1%} of the {self.texts} texts that have one, "
            f"by {self.fall:.2f} on average, and {self.gone / max(1, self.texts):.1%} are answered otherwise; without "
            f"as many words drawn by chance it falls in {self.by_chance / max(1, self.texts):.1%}, by "
            f"{self.fall_by_chance:.2f}."
        )


def check_evidence(model: Model, texts: Sequence[str], advance: Advance, seed: int = 17) -> EvidenceCheck:
    """Finds the evidence of each text's first motive, as `explain_motive` does, and leaves it out."""
    said = [
        (redact(text)[0], answer.motives[0][0])
        for text, answer in zip(texts, model.answers(texts), strict=True)
        if answer.motives
    ]
    chance = random.Random(seed)
    asked, motives = [], []
    for at in range(0, len(said), BATCH):
        advance(at, len(said))
        for (text, motive), found, spans in _found(model, said[at : at + BATCH]):
            if found:
                asked += [text, without(text, *found), without(text, *drawn(found, spans, chance))]
                motives.append(motive)
    advance(len(said), len(said))
    if not motives:
        return EvidenceCheck(len(said), 0, 0, 0, 0.0, 0, 0.0)
    calibration = model.repository.calibration
    logits = model.clean_logits(asked)
    columns = np.repeat([calibration.labels.index(motive) for motive in motives], 3)
    held = calibration.probabilities(logits)[np.arange(len(asked)), columns].reshape(-1, 3)
    falls, others = held[:, 0] - held[:, 1], held[:, 0] - held[:, 2]
    after = calibration.answers(logits[1::3])
    gone = sum((a.motives[0][0] if a.motives else "") != motive for a, motive in zip(after, motives, strict=True))
    return EvidenceCheck(
        len(said), len(motives), int((falls > 0).sum()), gone, float(falls.mean()),
        int((others > 0).sum()), float(others.mean()),
    )  # fmt: skip


def _found(model: Model, said: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], list[Span], list[Span]]]:
    """Per text and motive: the two, the spans that carried the motive, and all that were tried."""
    tried = [candidate_spans(text, model.pieces(text)) for text, _ in said]
    variants = [
        variant
        for (text, _), spans in zip(said, tried, strict=True)
        for variant in (text, *(without(text, span) for span in spans))
    ]
    parts = np.split(model.clean_logits(variants), np.cumsum([1 + len(spans) for spans in tried])[:-1])
    calibration = model.repository.calibration
    return [
        (one, [span for span, _ in evidence(spans, logits, calibration, one[1])], spans)
        for one, spans, logits in zip(said, tried, parts, strict=True)
    ]


def drawn(found: Sequence[Span], spans: Sequence[Span], chance: random.Random) -> list[Span]:
    """As many of `spans` as were found, of the same lengths and disjoint, by chance; fewer where there is no room."""
    result: list[Span] = []
    for wanted in found:
        free = [span for span in spans if span.units == wanted.units and all(apart(span, one) for one in result)]
        if free:
            result.append(chance.choice(free))
    return result
