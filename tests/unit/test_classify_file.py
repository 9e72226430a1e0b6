"""`motive classify FILE` with files good and bad."""

import io
import json
from functools import partial
from pathlib import Path

import pytest

from sidecar.classify_file import Rows, classify_file, open_rows
from sidecar.engines.onnx import OnnxEngine
from sidecar.errors import InputError
from sidecar.repository import open_repository


def rows_of(text: str, *, is_csv: bool = False) -> tuple[list[tuple[object, str]], list[str]]:
    rows = Rows(io.StringIO(text, newline=""), is_csv)
    return list(rows), rows.problems


def test_json_lines_give_their_ids_and_texts_and_blank_lines_are_passed_over() -> None:
    assert rows_of('{"id": 1, "text": "a"}\n\n{"id": "x", "text": "礼物"}\n') == ([(1, "a"), ("x", "礼物")], [])


def test_csv_may_hold_quotes_commas_and_line_breaks() -> None:
    assert rows_of('id,text\n7,"a, ""b""\nc"\n', is_csv=True) == ([("7", 'a, "b"\nc')], [])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{broken", "line 1 is not JSON"),
        ('{"id": 1}', "line 1 has no id or no text"),
        ('{"id": 1, "text": 5}', "line 1 has no id or no text"),
        ("[1, 2]", "line 1 has no id or no text"),
        ('{"id": 1, "text": "\\ud800"}', "line 1 has half a surrogate pair"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_stops_no_other(line: str, named: str) -> None:
    rows, problems = rows_of(line + '\n{"id": 2, "text": "b"}\n')
    assert rows == [(2, "b")]
    assert len(problems) == 1
    assert problems[0].startswith(named)


def test_a_file_that_is_not_there_or_not_utf8_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        open_rows(str(tmp_path / "absent.jsonl"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("id,text\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 at byte 13"):
        open_rows(str(latin))


def test_answers_come_in_order_and_a_bad_text_carries_its_own_error(tmp_path: Path, tiny_repository: Path) -> None:
    source = tmp_path / "texts.jsonl"
    texts = ["hello", "", "x" * 70_000, "你好"]
    source.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    output = io.StringIO()
    engine = partial(OnnxEngine, open_repository(tiny_repository), threads=1)
    status = classify_file(str(source), engine, output, io.StringIO())
    answers = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]
    assert answers[1] == {"id": 1, "motives": [], "confidence": 1.0}
    assert "70000 bytes" in answers[2]["error"]
    assert status == 1
