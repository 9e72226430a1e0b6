"""`motive-train compare`: two exported models on the same texts: changed answers, flows, and whether it is chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from trainer.answer import Model
from trainer.errors import TrainerError
from trainer.scores import Judged, answered
from trainer.texts import Example, without_label


@dataclass(frozen=True)
class Comparison:
    """What changes from one model to another."""

    texts: int
    changed: int
    """Texts whose primary answer is another."""
    flows: dict[tuple[str, str], int]
    """(old, new) primary answers that differ, commonest first; empty for abstention."""
    gained: int | None
    """Labelled texts that only the new model answers right (its primary); None without labels."""
    lost: int | None
    p_value: float | None
    """Two-sided exact McNemar test of gained against lost (McNemar 1947)."""
    examples: tuple[tuple[str, str, str], ...]
    """Up to twenty changed texts: text, old, new."""

    def sentences(self, abstention: str = "unknown") -> str:
        """The comparison for a person."""
        lines = [f"{self.changed} of {self.texts} primary answers changed ({self.changed / max(1, self.texts):.1%})."]
        lines += [f"{n:6}  {a or abstention} -> {b or abstention}" for (a, b), n in list(self.flows.items())[:20]]
        if self.p_value is not None:
            verdict = "a real difference" if self.p_value < 0.05 else "within chance"
            lines.append(f"{self.gained} now right, {self.lost} now wrong: {verdict} (McNemar p = {self.p_value:.3g}).")
        lines += [f"  {a or abstention} -> {b or abstention}: {text[:100]!r}" for text, a, b in self.examples]
        return "\n".join(lines)


def compare(old: Model, new: Model, examples: Sequence[Example], *, labelled: bool) -> Comparison:
    """Runs both on `examples`; with `labelled`, judges the change by the labels.

    The models may name different labels. Raises TrainerError where there is no text.
    """
    if not examples:
        raise TrainerError("there is no text to compare on; give a file of texts")
    examples = [without_label(e, new.repository.taxonomy.abstention.code) for e in examples]
    texts = [e.text for e in examples]
    before, after = answered(examples, old.answers(texts)), answered(examples, new.answers(texts))
    pairs = list(zip(examples, before, after, strict=True))
    changed = [(e.text, a.said_primary, b.said_primary) for e, a, b in pairs if a.said_primary != b.said_primary]
    flows = Counter((a, b) for _, a, b in changed)
    gained, lost, p_value = _gains(before, after) if labelled else (None, None, None)
    return Comparison(len(texts), len(changed), dict(flows.most_common()), gained, lost, p_value, tuple(changed[:20]))


def _gains(before: Sequence[Judged], after: Sequence[Judged]) -> tuple[int, int, float]:
    gained = sum(b.exact and not a.exact for a, b in zip(before, after, strict=True))
    lost = sum(a.exact and not b.exact for a, b in zip(before, after, strict=True))
    return gained, lost, mcnemar(gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """Probability, were both models equally good, of a split at least this uneven."""
    total = gained + lost
    tail = sum(comb(total, k) for k in range(min(gained, lost) + 1)) / 2**total
    return min(1.0, 2.0 * float(tail))
