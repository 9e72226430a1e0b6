"""Labelled texts: the one form that every reader gives and every step takes, and its JSON Lines file."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainer.errors import TrainerError


@dataclass(frozen=True)
class Example:
    """One labelled text."""

    text: str
    motives: tuple[str, ...] = ()
    """Codes, the primary first; none means that no motive is stated."""
    lang: str = ""
    """ISO 639-1 code, such as "en" or "zh"; empty where it is not known."""
    kind: str = ""
    """review, query or post, or whatever a user's corpus tells apart; may be empty."""
    source: str = ""
    """Who wrote or gave it."""
    group: str = ""
    """Texts of one group (an author, a product) never part between training and held-out texts; may be empty."""
    how: str = ""
    """How the text was drawn (such as random or enriched): figures are shown for each; may be empty."""


FIELDS = ("lang", "kind", "source", "group", "how")
"""The fields beside text and motives, in order."""


def read_examples(path: Path) -> list[Example]:
    """Reads JSON Lines with the fields of Example; unknown fields are ignored. Raises TrainerError with the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line separators
    except FileNotFoundError:
        raise TrainerError(f"{path} does not exist; give a file of labelled texts") from None
    return [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _example(path: Path, number: int, line: str) -> Example:
    try:
        row = json.loads(line)
        motives = row.get("motives") or []
        return Example(
            str(row["text"]),
            tuple(map(str, motives)),
            *(str(row.get(name) or "") for name in FIELDS),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainerError(
            f"{path}, line {number}: no labelled text ({error}); each line is an object with text and motives"
        ) from None


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Writes JSON Lines, one text a line, empty fields left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for example in examples:
            row = {"text": example.text, "motives": list(example.motives)}
            row |= {k: v for k, v in asdict(example).items() if k not in row and v}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def without_label(example: Example, code: str) -> Example:
    """The text without `code`: the abstention code among labels means that there is none."""
    return replace(example, motives=tuple(m for m in example.motives if m != code))


def check_labels(examples: Iterable[Example], codes: Iterable[str]) -> None:
    """Raises TrainerError where a text bears a code that is not among `codes`."""
    known = set(codes)
    for example in examples:
        for code in example.motives:
            if code not in known:
                raise TrainerError(
                    f"{code!r}, a label of {example.text[:40]!r}, is not in the taxonomy; add it or mend the label"
                )
