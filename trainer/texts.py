"""Labelled texts: the one form that every reader gives and every step takes, and its JSON Lines file."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError

TEXT = ("text", "body", "content", "review", "query", "sentence")
LABELS = ("motives", "labels", "label", "motive")
MISSING, TIED = "not labelled", "tied"


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
    unlabelled: str = ""
    """Why it has no label, which is not the same as no motive: MISSING, or TIED annotators; empty where it has."""


FIELDS = ("lang", "kind", "source", "group", "how")
"""The fields beside text and motives, in order."""


def from_row(row: object, text_column: str = "", label_column: str = "") -> Example:
    """A row of named fields -> a text; `primary` and `others` are joined where no field is called as labels are.

    Of several names the first that the row has counts, whatever it holds. A row whose labels, or primary, are absent or
    blank is unlabelled; an empty list says that no motive is stated. Raises TrainerError where no field holds a text or
    the labels cannot be read.
    """
    if not isinstance(row, Mapping):
        raise TrainerError(f"{str(row)[:60]!r} is no object of named fields, such as text and motives")
    names = (text_column,) if text_column else TEXT
    if not any(name in row for name in names):
        raise TrainerError(f"no field holds the text, only {', '.join(map(str, row))}; name it with --text-column")
    text = _first(row, names)
    if label_column or any(name in row for name in LABELS):
        motives = split_labels(_first(row, (label_column,) if label_column else LABELS))
    else:
        motives = split_labels(row.get("primary"))
        if motives is not None:
            motives += split_labels(row.get("others")) or ()
    fields = (str(row.get(name) or "") for name in FIELDS)
    example = Example("" if text is None else str(text), tuple(dict.fromkeys(motives or ())), *fields)
    return replace(example, unlabelled=MISSING) if motives is None else example


def split_labels(value: object) -> tuple[str, ...] | None:
    """Labels as a list, as JSON, as Label Studio's choices, or joined by commas, semicolons or bars; None if blank.

    Raises TrainerError where they are none of these.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value.lstrip()[:1] in ("[", "{"):
            return split_labels(_json_labels(value))
        return tuple(part.strip() for part in re.split(r"[,;|]", value) if part.strip()) or None
    if isinstance(value, Mapping) and "choices" in value:
        return split_labels(value["choices"])
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise TrainerError(f"labels {value!r} are neither codes nor a list of codes; write them as in the taxonomy")


def _json_labels(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        raise TrainerError(f"labels {value!r} are no JSON; write a list, or codes with commas between") from None


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of the fields that the row has, blank or not; None where it has none."""
    return next((row[name] for name in names if name in row), None)


def read_examples(path: Path) -> list[Example]:
    """Reads JSON Lines of labelled texts, in the fields that `from_row` knows; unknown ones are ignored.

    Raises TrainerError with the line where one holds no text or no label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold other line separators
    except FileNotFoundError:
        raise TrainerError(f"{path} does not exist; give a file of labelled texts") from None
    except UnicodeDecodeError:
        raise TrainerError(f"{path} is not UTF-8; save it as UTF-8") from None
    return [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _example(path: Path, number: int, line: str) -> Example:
    try:
        example = from_row(json.loads(line))
    except (ValueError, TrainerError) as error:
        raise TrainerError(
            f"{path}, line {number}: no labelled text ({error}); each line is an object with text and motives"
        ) from None
    if example.unlabelled:
        raise TrainerError(
            f"{path}, line {number}: no label; write motives, an empty list where none is stated, or let "
            "motive-train prepare leave such lines out"
        )
    return example


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Writes JSON Lines, one text a line, in the form of `to_row`."""
    write_rows(path, map(to_row, examples))


def to_row(example: Example) -> dict[str, object]:
    """A text as named fields, empty ones left out; an unlabelled text has None for its motives."""
    row: dict[str, object] = {"text": example.text, "motives": None if example.unlabelled else list(example.motives)}
    return row | {name: value for name, value in asdict(example).items() if name in FIELDS and value}


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(to_line(row) + "\n")


def to_line(row: Mapping[str, object]) -> str:
    """A line of JSON Lines."""
    return json.dumps(row, ensure_ascii=False)


def labelled(examples: Iterable[Example]) -> list[Example]:
    """Those that bear a label, be it that no motive is stated; raises TrainerError where there are texts and none does.

    A text that nobody labelled is no example of a text without a motive.
    """
    every = list(examples)
    kept = [example for example in every if not example.unlabelled]
    if every and not kept:
        raise TrainerError(
            f"none of the {len(every)} texts bears a label; name the field with --label-column, or label them; "
            "an empty list, or the abstention code, says that no motive is stated"
        )
    return kept


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
