"""Reading labelled or raw texts from what people have: JSON Lines, CSV, Parquet, Label Studio, Argilla, PostgreSQL."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import TrainerError
from trainer.texts import LABELS, MISSING, TIED, Example, from_row, split_labels

Result = TypeVar("Result")

CORRECTIONS = """
select c.body as text, c.motives, a.target::text || c.key::text as "group"
from (select distinct target from motive.attachments) as a, lateral motive.corrections(a.target) as c
order by a.target::text, c.key
"""
"""The default query of `read_database`: the labels people gave through motive.correct, of every attached table that
the role may read; texts of one row stay together."""

Rows = Iterable[tuple[str, Any]]
"""Where in its file each row stands, such as "line 3", and the row."""


def read_any(
    path: Path, *, text_column: str = "", label_column: str = "", abstention: str = "", labels: bool = True
) -> list[Example]:
    """Reads a file by its suffix, a .json file by its contents; raises TrainerError with the row and the remedy.

    `text_column` and `label_column` name the fields where they are not called one of the usual names; where annotators
    were asked several things, `label_column` names the control or question that counts. `abstention` is the code that
    says that no motive is stated: an annotator who gives it agrees with one who gives none. Rows without a label are
    among the texts, marked `unlabelled`; without `labels` all are, whatever their fields of that name hold.
    """
    if not path.is_file():
        raise TrainerError(f"{path} does not exist; give a file of texts")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TrainerError(f"{path} is none of {', '.join(READERS)}; convert it to one of them")
    try:
        rows = [(f"{path}, {place}", row if labels else _bare(row, text_column)) for place, row in reader(path)]
    except UnicodeDecodeError:
        raise TrainerError(f"{path} is not UTF-8; save it as UTF-8") from None
    except (ValueError, OSError, csv.Error) as error:
        raise TrainerError(f"{path} cannot be read: {error}; export it again") from None
    parsed = [_at(place, _task, row) for place, row in rows]
    if not labels:
        parsed = [task and replace(task, votes=()) for task in parsed]
    tasks = [task for task in parsed if task]
    asked = sorted({name for task in tasks for vote in task.votes for name in vote})
    question = _question(path, asked, label_column)
    if len(asked) > 1:  # who answered other questions alone did not say that there is no motive
        parsed = [task and replace(task, votes=[vote for vote in task.votes if question in vote]) for task in parsed]
    return [
        _at(place, _voted, task, question, abstention, text_column)
        if task
        else _at(place, from_row, row, text_column, label_column)
        for (place, row), task in zip(rows, parsed, strict=True)
    ]


def _at(place: str, read: Callable[..., Result], *arguments: Any) -> Result:
    """What `read` gives; raises TrainerError with the place where the row is not as it should be."""
    try:
        return read(*arguments)
    except TrainerError as error:
        raise TrainerError(f"{place}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TrainerError(f"{place} is not of the form that its tool exports ({error}); export it again") from None


@dataclass(frozen=True)
class Task:
    """A text of an annotation tool, with what its annotators said."""

    source: str
    fields: Mapping[str, Any]
    votes: Sequence[Mapping[str, Any]]
    """The answers of each annotator, by the control or question; one that was left blank is not there."""


def _task(row: Any) -> Task | None:
    """A row of a Label Studio or Argilla export; None where it is neither."""
    if isinstance(row, Mapping) and isinstance(row.get("annotations"), list) and "data" in row:
        return Task("label-studio", row["data"], _label_studio_votes(row))
    if isinstance(row, Mapping) and "fields" in row and ("responses" in row or "suggestions" in row):
        return Task("argilla", {**(row.get("metadata") or {}), **row["fields"]}, _argilla_votes(row))
    return None


def _question(path: Path, asked: Sequence[str], wanted: str) -> str:
    """The control or question that was answered with labels: the only one, or of several `wanted`.

    Raises TrainerError where there are several and none of them is `wanted`.
    """
    if len(asked) > 1 and wanted not in asked:
        raise TrainerError(f"{path} has answers to {', '.join(asked)}; say with --label-column which are the labels")
    return wanted if wanted in asked else next(iter(asked), "")


def _bare(row: Any, text_column: str) -> Any:
    """A row of plain fields without its labels."""
    gone = {*LABELS, "primary", "others"} - {text_column}
    return {name: value for name, value in row.items() if name not in gone} if isinstance(row, Mapping) else row


def _json_lines(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise TrainerError(f"{path} cannot be read: line {number} is no JSON ({error}); mend it") from None
                yield f"line {number}", row


def _csv(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        sample = stream.read(8192)
        stream.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=sample.split("\n", 1)[0].count)
        reader = csv.DictReader(stream, delimiter=delimiter)
        for row in reader:
            cells = [cell for cell in row.values() if cell is not None]
            if len(cells) == 1 and not cells[0].strip():
                continue
            if None in row or None in row.values():  # what csv puts for cells beyond the header, and for missing ones
                count = "more" if None in row else "fewer"
                raise TrainerError(
                    f"{path}, line {reader.line_num}: {count} cells than the header; quote texts that hold separators, "
                    "quotes or line breaks"
                )
            yield f"line {reader.line_num}", row


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet

    return _numbered(pyarrow.parquet.read_table(path).to_pylist())


def _json(path: Path) -> Rows:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    rows = document.get("records", document.get("data")) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise ValueError("it holds no list of texts")
    return _numbered(rows)


def _numbered(rows: Iterable[Any]) -> Rows:
    return ((f"record {number}", row) for number, row in enumerate(rows, 1))


def _label_studio_votes(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices of each annotator who did not skip the task; ratings, remarks and spans are no labels."""
    return [
        {
            result.get("from_name", ""): result["value"]["choices"]
            for result in annotation["result"]
            if "choices" in result.get("value", ())
        }
        for annotation in task["annotations"]
        if not annotation.get("was_cancelled")
    ]


def _argilla_votes(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each person submitted; drafts, discarded answers and suggestions do not count."""
    by_person: dict[str, dict[str, Any]] = {}
    responses = record.get("responses") or {}
    answers = (
        [(r, question, r) for question, many in responses.items() for r in many]
        if isinstance(responses, dict)
        else [
            (r, question, v) for r in responses if r.get("status") == "submitted" for question, v in r["values"].items()
        ]
    )
    for response, question, answer in answers:
        if answer.get("status", "submitted") == "submitted":
            by_person.setdefault(str(response.get("user_id")), {})[question] = answer["value"]
    return list(by_person.values())


def _voted(task: Task, question: str, abstention: str, text_column: str) -> Example:
    """A text with the labels that more than half of its annotators gave.

    It is unlabelled where nobody annotated it, and tied where no label has the half and no more than half saw none.
    """
    given = [split_labels(vote.get(question, [])) or () for vote in task.votes]
    votes = [[label for label in vote if label != abstention] for vote in given]
    counts = Counter(label for vote in votes for label in dict.fromkeys(vote))
    places = {label: sum(v.index(label) if label in v else len(v) for v in votes) for label in counts}
    kept = sorted((label for label in counts if 2 * counts[label] > len(votes)), key=lambda m: (places[m], m))
    none = 2 * sum(not vote for vote in votes) > len(votes)
    fields = {"source": task.source, **{k: v for k, v in task.fields.items() if k not in LABELS}}
    plain = from_row(fields, text_column)
    return replace(plain, motives=tuple(kept), unlabelled="" if kept or none else TIED if votes else MISSING)


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}


def read_database(dsn: str, query: str = CORRECTIONS) -> list[Example]:
    """Reads rows of a query with the columns text and motives (text[]); lang, kind, source and group where given."""
    import psycopg
    from psycopg.rows import dict_row

    try:
        with psycopg.connect(dsn, row_factory=dict_row, application_name="motive-train") as connection:
            rows = connection.execute(query.encode()).fetchall()
    except psycopg.Error as error:
        raise TrainerError(f"the database gave no texts: {str(error).strip().splitlines()[0]}") from None
    return [_at(f"row {i} of the query", from_row, {"source": "database", **row}) for i, row in enumerate(rows, 1)]
