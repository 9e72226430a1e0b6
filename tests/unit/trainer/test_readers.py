"""Reading texts and labels: JSON Lines, tables, exports of annotation tools."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.repository import Taxonomy
from tests.unit.trainer.conftest import run
from trainer.errors import TrainerError
from trainer.readers import read_any
from trainer.texts import MISSING, TIED, Example, read_examples


def write_json_lines(path: Path) -> Path:
    path = path / "texts.jsonl"
    path.write_text('{"text": "a", "motives": ["refund", "defect"]}\n{"text": "b", "labels": "delivery;refund"}\n')
    return path


def write_csv(path: Path) -> Path:
    path = path / "texts.csv"
    path.write_text('text;label\na;"refund,defect"\nb;delivery|refund\n')
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path / "texts.parquet"
    pq.write_table(pa.table({"body": ["a", "b"], "motives": [["refund", "defect"], ["delivery", "refund"]]}), path)
    return path


def write_label_studio(path: Path) -> Path:
    def task(text: str, *votes: list[str]) -> dict[str, object]:
        results = [{"result": [{"type": "choices", "value": {"choices": vote}}]} for vote in votes]
        return {"id": 1, "data": {"text": text}, "annotations": [*results, {"was_cancelled": True, "result": []}]}

    path = path / "studio.json"
    rows = [task("a", ["refund", "defect"]), task("b", ["delivery", "refund"], ["delivery", "refund"], ["defect"])]
    path.write_text(json.dumps(rows))
    return path


def write_argilla(path: Path) -> Path:
    def record(text: str, labels: list[str]) -> dict[str, object]:
        good = {"value": labels, "status": "submitted", "user_id": "u1"}
        draft = {"value": ["defect"], "status": "draft", "user_id": "u2"}
        return {
            "id": "1",
            "fields": {"text": text},
            "metadata": {},
            "suggestions": {},
            "responses": {"motives": [good, draft]},
        }

    path = path / "argilla.json"
    path.write_text(json.dumps([record("a", ["refund", "defect"]), record("b", ["delivery", "refund"])]))
    return path


@pytest.mark.parametrize("write", [write_json_lines, write_csv, write_parquet, write_label_studio, write_argilla])
def test_every_export_gives_the_same_texts(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    found = read_any(write(tmp_path))
    assert [(e.text, e.motives) for e in found] == [("a", ("refund", "defect")), ("b", ("delivery", "refund"))]


def studio(*votes: list[str] | None) -> dict[str, object]:
    """A Label Studio task with the choices of its annotators; None for one who skipped it."""
    annotations = [
        {"was_cancelled": True, "result": []}
        if vote is None
        else {"result": [{"type": "choices", "value": {"choices": vote}}]}
        for vote in votes
    ]
    return {"data": {"text": "a"}, "annotations": annotations}


def argilla(*answers: dict[str, object]) -> dict[str, object]:
    """An Argilla record with the answers of its annotators."""
    return {"fields": {"text": "a"}, "responses": {"motives": list(answers)}}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "a"}, MISSING),
        ({"text": "a", "motives": None}, MISSING),
        ({"text": "a", "label": " "}, MISSING),
        ({"text": "a", "primary": None, "others": None}, MISSING),
        ({"text": "a", "primary": None, "others": []}, MISSING),
        ({"text": "a", "primary": "", "others": ["gift"]}, MISSING),
        ({"text": "a", "motives": "", "label": "gift"}, MISSING),
        ({"text": "a", "motives": None, "primary": "gift"}, MISSING),
        (studio(), MISSING),
        (studio(None, None), MISSING),
        (argilla(), MISSING),
        (argilla({"value": ["defect"], "status": "draft", "user_id": "u"}), MISSING),
        (argilla({"value": ["defect"], "status": "discarded", "user_id": "u"}), MISSING),
        (studio(["refund"], ["defect"]), TIED),
        (studio(["refund"], []), TIED),
        ({"text": "a", "motives": []}, ""),
        ({"text": "a", "label": "other"}, ""),
        ({"text": "a", "label": "[]"}, ""),
        (studio([], [], ["refund"]), ""),
        (studio(["other"], ["other"]), ""),
    ],
)
def test_no_label_is_told_from_no_motive(tmp_path: Path, row: dict[str, object], why: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps([row]))
    (one,) = read_any(tmp_path / "x.json")
    assert one.unlabelled == why
    assert one.motives in ((), ("other",))


def test_a_blank_text_is_not_filled_from_another_field(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "", "review": "5", "motives": ["gift"]}\n')
    assert read_any(tmp_path / "x.jsonl") == [Example("", ("gift",))]


def test_annotators_who_name_the_abstention_code_agree_with_those_who_name_none(
    taxonomy: Taxonomy, tmp_path: Path
) -> None:
    rows = [studio(["other"], [], ["refund"]), studio(["refund"], ["other"]), studio(["refund"], ["other", "refund"])]
    for row, text in zip(rows, ("apple", "river", "stone"), strict=True):
        row["data"] = {"text": text}
    (tmp_path / "x.json").write_text(json.dumps(rows))
    found = read_any(tmp_path / "x.json", abstention="other")
    assert [(e.motives, e.unlabelled) for e in found] == [((), ""), ((), TIED), (("refund",), "")]
    shares = ("--calibration-share", 0, "--test-share", 0)
    to = ("--taxonomy", tmp_path / "taxonomy.toml", "--to", tmp_path / "out")
    assert run("prepare", tmp_path / "x.json", *shares, *to) == 0
    written = read_examples(tmp_path / "out" / "corpus.jsonl")
    assert {(e.text, e.motives) for e in written} == {("apple", ()), ("stone", ("refund",))}


def test_an_empty_cell_of_a_half_labelled_table_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("body,tags\na,refund\nb,\n")
    assert [e.unlabelled for e in read_any(tmp_path / "x.csv", label_column="tags")] == ["", MISSING]
    assert {e.unlabelled for e in read_any(tmp_path / "x.csv")} == {MISSING}


def test_label_studios_short_form_names_its_choices(tmp_path: Path) -> None:
    rows = [{"ticket": "a", "motives": {"choices": ["refund", "defect"]}}, {"ticket": "b", "motives": "delivery"}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    found = read_any(tmp_path / "x.json", text_column="ticket")
    assert [e.motives for e in found] == [("refund", "defect"), ("delivery",)]


def test_the_texts_of_an_export_may_stand_in_a_field_of_any_name(tmp_path: Path) -> None:
    task = {**studio(["refund"]), "data": {"ticket": "my money"}}
    (tmp_path / "x.json").write_text(json.dumps([task]))
    (one,) = read_any(tmp_path / "x.json", text_column="ticket")
    assert (one.text, one.motives) == ("my money", ("refund",))


@pytest.mark.parametrize(
    ("line", "motives"),
    [
        ('"motives": "gift"', ("gift",)),
        ('"primary": "gift", "others": ["trend"]', ("gift", "trend")),
        ('"label": []', ()),
    ],
)
def test_a_corpus_file_is_read_as_every_other_file(tmp_path: Path, line: str, motives: tuple[str, ...]) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"text": "a", {line}}}\n')
    assert [e.motives for e in read_examples(tmp_path / "x.jsonl")] == [motives]


def test_a_corpus_file_without_a_label_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "motives": []}\n{"text": "b"}\n')
    with pytest.raises(TrainerError, match="line 2: no label"):
        read_examples(tmp_path / "x.jsonl")


def test_texts_to_be_labelled_may_have_labels_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "label": 1}\n')
    assert [e.text for e in read_any(tmp_path / "x.jsonl", labels=False)] == ["a"]


def studio_of_two(*votes: tuple[list[str], list[str]]) -> dict[str, object]:
    """A Label Studio task whose annotators gave motives and, by another control, tones; and a rating each."""
    annotations = [
        {
            "result": [
                {"type": "choices", "from_name": "motive", "value": {"choices": motives}},
                {"type": "choices", "from_name": "tone", "value": {"choices": tones}},
                {"type": "rating", "from_name": "stars", "value": {"rating": 4}},
            ]
        }
        for motives, tones in votes
    ]
    return {"data": {"text": "a"}, "annotations": annotations}


def argilla_of_two(motives: list[str], tone: str) -> dict[str, object]:
    """An Argilla record with one person's answers to two questions."""
    good = {"status": "submitted", "user_id": "u"}
    return {
        "fields": {"text": "a"},
        "responses": {"motive": [{**good, "value": motives}], "tone": [{**good, "value": tone}]},
    }


@pytest.mark.parametrize(
    "row",
    [studio_of_two((["refund", "defect"], ["angry"])), argilla_of_two(["refund", "defect"], "angry")],
    ids=["label-studio", "argilla"],
)
def test_of_several_controls_the_one_that_is_named_holds_the_labels(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "x.json").write_text(json.dumps([row]))
    assert read_any(tmp_path / "x.json", label_column="motive")[0].motives == ("refund", "defect")
    assert read_any(tmp_path / "x.json", label_column="tone")[0].motives == ("angry",)
    assert read_any(tmp_path / "x.json", labels=False)[0].unlabelled == MISSING
    for column in ("", "mood"):
        with pytest.raises(TrainerError, match="has answers to motive, tone; say with --label-column which"):
            read_any(tmp_path / "x.json", label_column=column)


def test_the_only_control_of_an_export_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([studio(["refund"])]))
    assert read_any(tmp_path / "x.json", label_column="tags")[0].motives == ("refund",)


def test_who_left_the_question_blank_and_answered_others_has_no_vote(tmp_path: Path) -> None:
    rows = [studio_of_two((["refund"], ["angry"]), ([], ["calm"])), studio_of_two(([], ["calm"]))]
    for row in rows:
        for annotation in row["annotations"]:  # type: ignore[attr-defined]
            annotation["result"] = [r for r in annotation["result"] if r["value"].get("choices") != []]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    found = read_any(tmp_path / "x.json", label_column="motive")
    assert [(e.motives, e.unlabelled) for e in found] == [(("refund",), ""), ((), MISSING)]


def test_a_tsv_is_parted_by_tabs_whatever_its_header_holds(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("text, as written, in full\tlabel\nso, late\tdelivery\n")
    (found,) = read_any(tmp_path / "x.tsv", text_column="text, as written, in full")
    assert (found.text, found.motives) == ("so, late", ("delivery",))


@pytest.mark.parametrize("blank", ["  ", '""', "\t"])
def test_a_blank_line_is_no_row(tmp_path: Path, blank: str) -> None:
    (tmp_path / "x.csv").write_text(f"text,label\na,gift\n{blank}\nb,gift\n{blank}\n")
    assert [e.text for e in read_any(tmp_path / "x.csv")] == ["a", "b"]


@pytest.mark.parametrize(
    "content", ["text,label\na,gift\nlate, broken,gift\n", "text,label\na,gift\nlate\nand broken,gift\n"]
)
def test_texts_that_fall_apart_for_want_of_quotes_are_refused_with_the_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(TrainerError, match=r"x\.csv, line 3: (more|fewer) cells than the header; quote texts"):
        read_any(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text('text,label\n"late, broken",gift\n\n"late\nand broken",\n')
    assert [e.text for e in read_any(tmp_path / "y.csv")] == ["late, broken", "late\nand broken"]


@pytest.mark.parametrize("read", [read_any, read_examples])
def test_texts_in_another_encoding_are_refused_and_a_mark_at_the_start_is_none_of_them(
    tmp_path: Path, read: Callable[[Path], list[Example]]
) -> None:
    line = '{"text": "很好看", "motives": ["gift"]}\n'
    (tmp_path / "bom.jsonl").write_text(line, encoding="utf-8-sig")
    assert read(tmp_path / "bom.jsonl") == [Example("很好看", ("gift",))]
    (tmp_path / "gbk.jsonl").write_text(line, encoding="gbk")
    with pytest.raises(TrainerError, match=r"gbk\.jsonl is not UTF-8; save it as UTF-8"):
        read(tmp_path / "gbk.jsonl")


def test_a_primary_and_others_become_motives(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "primary": "defect", "others": ["refund"]}\n')
    assert read_any(tmp_path / "x.jsonl")[0].motives == ("defect", "refund")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", "not json\n", "cannot be read"),
        ("x.jsonl", '{"nothing": 1}\n', "name it with --text-column"),
        ("x.xlsx", "", "convert it"),
        ("x.jsonl", '{"text": "a", "label": 3}\n', "line 1: labels 3 are neither codes nor a list"),
        ("x.jsonl", '{"text": "a", "label": "gift"}\n["a"]\n', "line 2: .* is no object of named fields"),
        ("x.csv", "text,label\na,[gift\n", "line 2: labels '\\[gift' are no JSON"),
        ("x.json", '[{"text": "a"}, {"data": {"text": "b"}, "annotations": [3]}]', "record 2 is not of the form"),
        ("x.json", "3", "holds no list"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_remedy(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TrainerError, match=message):
        read_any(tmp_path / name)


def test_a_quote_that_swallows_half_the_file_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,label\na,"' + "b,gift\n" * 1000)
    before = csv.field_size_limit(1000)  # the whole process's: other libraries raise it
    try:
        with pytest.raises(TrainerError, match="cannot be read: field larger than"):
            read_any(tmp_path / "x.csv")
    finally:
        csv.field_size_limit(before)
