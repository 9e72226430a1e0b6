"""`motive classify FILE`: texts from a file, motives to standard output, no PostgreSQL needed.

Reads JSON Lines or CSV with the fields `id` and `text`; writes one JSON object a line, in the order of the input:
`id`, `motives` (over their thresholds, best first; empty for the abstention label), `confidence` (of the first motive,
or of abstention). A text that cannot be classified gets `error` instead; a line that cannot be read is named on
standard error and left out.
"""

import asyncio
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sidecar.batching import BACKFILL
from sidecar.classifier import Classifier
from sidecar.engines import Engine
from sidecar.errors import InputError
from sidecar.pb import motive_pb2 as pb

CHUNK = 2_048
"""Texts classified at once: enough for full batches of every length."""


@dataclass
class Rows:
    """Iterates over (id, text) of a stream, and keeps a sentence for every line that could not be read."""

    stream: TextIO
    csv: bool
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        rows = self._csv() if self.csv else self._json_lines()
        for number, row in rows:
            if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("text"), str):
                self.problems.append(f"line {number} has no id or no text; give every row both")
            elif not row["text"].isascii() and not _encodable(row["text"]):
                self.problems.append(f"line {number} has half a surrogate pair; its text is not valid Unicode")
            else:
                yield row["id"], row["text"]

    def _json_lines(self) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(self.stream, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                self.problems.append(f"line {number} is not JSON: {error}")

    def _csv(self) -> Iterator[tuple[int, Any]]:
        csv.field_size_limit(2**31 - 1)
        reader = csv.DictReader(self.stream, strict=True)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            self.problems.append(f"line {reader.line_num} is not CSV: {error}; the lines after it were not read")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_rows(path: str) -> Rows:
    """Opens `path`, or standard input for `-`; CSV by the file's ending, or by a first line that names its columns."""
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Give a file, or - for standard input.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start}", "Convert it: iconv -t UTF-8.") from None
    first = text.lstrip()[:1]
    is_csv = path.endswith(".csv") or (not path.endswith((".jsonl", ".json", ".ndjson")) and first not in ("{", ""))
    return Rows(io.StringIO(text, newline=""), is_csv)


def classify_file(
    path: str, engine: Callable[[], Engine], output: TextIO = sys.stdout, errors: TextIO = sys.stderr
) -> int:
    """Classifies every row of `path`; returns 0, or 1 when a line could not be read or a text not classified.

    `engine` is called once the file is open: loading a model takes seconds, a missing file none.
    """
    rows = open_rows(path)
    failed = asyncio.run(_classify(rows, engine(), output, errors))
    for problem in rows.problems:
        print(f"motive: {path}: {problem}", file=errors)
    return 1 if failed or rows.problems else 0


async def _classify(rows: Rows, engine: Engine, output: TextIO, errors: TextIO) -> int:
    classifier = Classifier(engine, cache_texts=0)
    classifier.batcher.start()
    failed = 0
    read = list(rows)
    console = Console(file=errors)
    bar = Progress(
        SpinnerColumn(), TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip
    with bar if console.is_terminal else nullcontext():
        task = bar.add_task("", total=len(read))
        remaining = iter(read)
        while chunk := list(islice(remaining, CHUNK)):
            results = await classifier.classify([text for _, text in chunk], priority=BACKFILL)
            for (row_id, _), result in zip(chunk, results, strict=True):
                failed += result.HasField("error")
                print(json.dumps(_answer(row_id, result), ensure_ascii=False), file=output)
            bar.advance(task, len(chunk))
    await classifier.batcher.close()
    await engine.close()
    return failed


def _answer(row_id: Any, result: pb.Classification) -> dict[str, Any]:
    if result.HasField("error"):
        return {"id": row_id, "error": result.error.message}
    return {
        "id": row_id,
        "motives": [scored.motive for scored in result.motives],
        "confidence": round(result.confidence, 4),
    }
