"""`motive-train prepare`: raw labelled texts in, a clean corpus and a report out."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sidecar.repository import Taxonomy
from trainer.cleaning import clean
from trainer.duplicates import near_duplicates
from trainer.errors import TrainerError
from trainer.language import detect_language
from trainer.split import Split, split
from trainer.texts import MISSING, TIED, Example, check_labels, labelled, without_label, write_examples


@dataclass(frozen=True)
class Report:
    """What `prepare` did."""

    read: int
    unlabelled: int
    """Texts dropped because nobody labelled them."""
    tied: int
    """Texts dropped because no label has more than half of their annotators."""
    blank: int
    cleaned: int
    """Texts that cleaning changed."""
    duplicates: int
    """Texts dropped because an earlier one equals or resembles them."""
    contradictions: int
    """Among the duplicates, those whose labels were others than the earlier text's."""
    contradicted: tuple[tuple[str, str, str], ...]
    """Up to twenty of these: the beginning of the text, the labels that were kept, and those that were dropped."""
    parts: dict[str, int]
    languages: dict[str, int]
    kinds: dict[str, int]
    motives: dict[str, int]
    """Texts that bear each label, the abstention code included."""

    def sentences(self) -> str:
        """The report for a person."""
        lines = [
            f"{self.read} texts read; {self.blank} blank and {self.duplicates} duplicates dropped"
            f" ({self.contradictions} of them labelled otherwise); cleaning changed {self.cleaned}.",
            *(f"  kept {kept}, not {dropped}: {text!r}" for text, kept, dropped in self.contradicted[:5]),
            "Parts: " + ", ".join(f"{k} {v}" for k, v in self.parts.items()) + ".",
            "Languages: " + ", ".join(f"{k or '?'} {v}" for k, v in self.languages.items()) + ".",
            "Labels: " + ", ".join(f"{k} {v}" for k, v in self.motives.items()) + ".",
        ]
        if self.unlabelled or self.tied:
            lines.append(f"Left out: {self.unlabelled} texts without a label, {self.tied} whose annotators are tied.")
        rare = [k for k, v in self.motives.items() if v < 20]
        if rare:
            lines.append(f"Fewer than 20 texts: {', '.join(rare)}; expect little there.")
        return "\n".join(lines)


def prepare(
    examples: Sequence[Example], taxonomy: Taxonomy, shares: tuple[float, float], seed: int, resemblance: float = 0.8
) -> tuple[Split, Report]:
    """Cleans, drops what is unlabelled, blank or resembles an earlier text (so that no near-duplicate spans two parts),
    names languages, splits, reports.

    `shares`: of calibration and of test. Of near-duplicates the first stays, with its labels. Raises TrainerError where
    a label is not in the taxonomy, no text has one, or nothing is left.
    """
    if sum(shares) >= 1:
        raise TrainerError(f"shares of {shares[0]} and {shares[1]} leave no text to train on; lower one")
    abstention = taxonomy.abstention.code
    taken = labelled(examples)
    tidy = [replace(without_label(e, abstention), text=clean(e.text)) for e in taken]
    check_labels(tidy, taxonomy.codes)
    changed = sum(a.text != b.text for a, b in zip(taken, tidy, strict=True))
    texts = [replace(e, lang=e.lang or detect_language(e.text)) for e in tidy if e.text]
    first = near_duplicates([e.text for e in texts], resemblance)
    kept = [e for i, e in enumerate(texts) if first[i] == i]
    if not kept:
        raise TrainerError("no text is left after cleaning; give a file with texts")
    contradictions = [
        (texts[j].text[:80], _said(texts[j], abstention), _said(texts[i], abstention))
        for i, j in enumerate(first)
        if set(texts[i].motives) != set(texts[j].motives)
    ]
    parts = split(kept, *shares, seed)
    labels = Counter(m for e in kept for m in (e.motives or (abstention,)))
    report = Report(
        read=len(examples),
        unlabelled=sum(e.unlabelled == MISSING for e in examples),
        tied=sum(e.unlabelled == TIED for e in examples),
        blank=len(tidy) - len(texts),
        cleaned=changed,
        duplicates=len(texts) - len(kept),
        contradictions=len(contradictions),
        contradicted=tuple(contradictions[:20]),
        parts={name: len(part) for name, part in asdict_parts(parts).items()},
        languages=dict(Counter(e.lang for e in kept).most_common()),
        kinds=dict(Counter(e.kind for e in kept).most_common()),
        motives={code: labels[code] for code in (*taxonomy.codes, abstention)},
    )
    return parts, report


def _said(example: Example, abstention: str) -> str:
    return ", ".join(example.motives) or abstention


def asdict_parts(parts: Split) -> dict[str, Sequence[Example]]:
    """The parts by their names."""
    return {"train": parts.train, "calibration": parts.calibration, "test": parts.test}


def write_prepared(folder: Path, parts: Split, report: Report) -> None:
    """Writes the corpus, one file, its test part for `evaluate`, and the report.

    The test part lies in a folder of its own: what reads `*.jsonl` should not read its texts twice.
    `train` makes the split again: the same where [data] of its config has the seed and shares of `prepare`.
    """
    every: Iterable[Example] = (e for part in asdict_parts(parts).values() for e in part)
    write_examples(folder / "corpus.jsonl", every)
    write_examples(folder / "parts" / "test.jsonl", parts.test)
    (folder / "prepared.json").write_text(
        json.dumps(asdict(report), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
