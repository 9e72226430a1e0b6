"""Reading labelled or raw texts from what people have: JSON Lines, CSV, Parquet, Label Studio, Argilla, PostgreSQL."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.texts import FIELDS, Example

TEXT = ("text", "body", "content", "review", "query", "sentence")
LABELS = ("motives", "labels", "label", "motive")
CORRECTIONS = """
select c.body as text, c.motives, a.target::text || c.key::text as "group"
from (select distinct target from motive.attachments) as a, lateral motive.corrections(a.target) as c
order by a.target::text, c.key
"""
"""The default query of `read_database`: the labels people gave through motive.correct, of every attached table that
the role may read; texts of one row stay together."""


def read_any(path: Path, *, text_column: str = "", label_column: str = "") -> list[Example]:
    """Reads a file by its suffix, a .json file by its contents; raises TrainerError with the remedy.

    `text_column` and `label_column` name the fields where they are not called one of the usual names.
    """
    if not path.is_file():
        raise TrainerError(f"{path} does not exist; give a file of texts")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TrainerError(f"{path} is none of {', '.join(READERS)}; convert it to one of them")
    try:
        rows = list(reader(path))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise TrainerError(f"{path} cannot be read: {error}") from None
    return [row if isinstance(row, Example) else from_row(row, text_column, label_column) for row in rows]


def from_row(row: Mapping[str, Any], text_column: str = "", label_column: str = "") -> Example:
    """A row of named fields -> a text; `primary` and `others` are joined where there are no motives."""
    text = _first(row, (text_column,) if text_column else TEXT)
    if text is None:
        raise TrainerError(f"no field holds the text, only {', '.join(map(str, row))}; name it with --text-column")
    labels = _first(row, (label_column,) if label_column else LABELS)
    motives = (
        split_labels(labels)
        if labels is not None
        else (*split_labels(row.get("primary")), *split_labels(row.get("others")))
    )
    return Example(str(text), tuple(dict.fromkeys(motives)), *(str(row.get(k) or "") for k in FIELDS))


def split_labels(value: object) -> tuple[str, ...]:
    """Labels as a list, as JSON, or joined by commas, semicolons or bars."""
    if value is None:
        return ()
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return split_labels(json.loads(value))
        return tuple(part.strip() for part in re.split(r"[,;|]", value) if part.strip())
    if isinstance(value, Iterable):
        return tuple(str(part) for part in value)
    raise TypeError(f"labels {value!r} are neither a list nor a text")


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _json_lines(path: Path) -> Iterable[Any]:
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                yield _record(json.loads(line))


def _csv(path: Path) -> Iterable[Any]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        sample = stream.read(8192)
        stream.seek(0)
        delimiter = max(",;\t", key=sample.split("\n", 1)[0].count)
        yield from csv.DictReader(stream, delimiter=delimiter)


def _parquet(path: Path) -> Iterable[Any]:
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(path).to_pylist()


def _json(path: Path) -> Iterable[Any]:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    rows = document if isinstance(document, list) else document.get("records", document.get("data"))
    if not isinstance(rows, list):
        raise ValueError("it holds no list of texts")
    return map(_record, rows)


def _record(row: dict[str, Any]) -> Any:
    """One record of a JSON file: a Label Studio task, an Argilla record, or plain fields."""
    if "annotations" in row and "data" in row:
        return _label_studio(row)
    if "fields" in row and ("responses" in row or "suggestions" in row):
        return _argilla(row)
    return row


def _label_studio(task: dict[str, Any]) -> Example:
    """A task with the choices of its annotators; of several, the labels that more than half of them gave."""
    votes = []
    for annotation in task["annotations"]:
        if not annotation.get("was_cancelled"):
            choices = [result["value"].get("choices", []) for result in annotation["result"] if "value" in result]
            votes.append([choice for part in choices for choice in part])
    return _voted(task["data"], votes, "label-studio")


def _argilla(record: dict[str, Any]) -> Example:
    """A record with its submitted responses, by question; discarded drafts and suggestions do not count."""
    by_person: dict[str, list[str]] = {}
    responses = record.get("responses") or {}
    answers = (
        [(r.get("user_id"), r) for many in responses.values() for r in many]
        if isinstance(responses, dict)
        else [(r.get("user_id"), v) for r in responses if r.get("status") == "submitted" for v in r["values"].values()]
    )
    for person, answer in answers:
        if answer.get("status", "submitted") == "submitted":
            by_person.setdefault(str(person), []).extend(split_labels(answer["value"]))
    return _voted({**record.get("metadata", {}), **record["fields"]}, list(by_person.values()), "argilla")


def _voted(fields: dict[str, Any], votes: list[list[str]], source: str) -> Example:
    counts = Counter(label for vote in votes for label in dict.fromkeys(vote))
    places = {label: sum(v.index(label) if label in v else len(v) for v in votes) for label in counts}
    kept = sorted((label for label in counts if 2 * counts[label] > len(votes)), key=lambda m: (places[m], m))
    row = {k: v for k, v in fields.items() if k not in LABELS}
    return from_row({"source": source, **row, "motives": kept})


READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
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
    return [from_row({"source": "database", **row}) for row in rows]
