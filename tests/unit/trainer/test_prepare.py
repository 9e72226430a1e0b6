"""Reading, cleaning, duplicates, language and the split."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.repository import read_taxonomy
from tests.unit.trainer.tiny import TAXONOMY
from trainer.cleaning import clean
from trainer.duplicates import near_duplicates
from trainer.errors import TrainerError
from trainer.language import detect_language
from trainer.prepare import prepare, write_prepared
from trainer.readers import read_any
from trainer.split import split, split_key
from trainer.texts import Example, read_examples


@pytest.mark.parametrize(
    ("dirty", "tidy"),
    [
        ("schÃ¶n und gut", "schön und gut"),
        ("It&#39;s <b>great</b><br>really", "It's great\nreally"),
        ("a\u200bb \t c\x00", "ab c"),
        ("质量很好，价格便宜！", "质量很好，价格便宜！"),
        ("2 < 3 and 4 > 1", "2 < 3 and 4 > 1"),
        ("👨\u200d👩\u200d👧 love it", "👨\u200d👩\u200d👧 love it"),
        ("write to someone@example.com", "write to " + "*" * 19),
    ],
)
def test_cleaning_repairs_without_changing_what_is_said(dirty: str, tidy: str) -> None:
    assert clean(dirty) == tidy


@pytest.mark.parametrize("text", ["", "plain", "我妈说好看 so nice", "<p>a</p>", "ÃƒÂ©"])
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("wireless mouse", "en"),
        ("苹果 iPhone 15 Pro Max 手机壳", "zh"),
        ("とても良い商品です", "ja"),
        ("das ist sehr gut und nicht teuer", "de"),
        ("очень хорошо", "ru"),
        ("12345 !!", ""),
    ],
)
def test_the_language_is_told_from_the_script(text: str, code: str) -> None:
    assert detect_language(text) == code


def test_near_duplicates_point_to_the_first_of_their_kind() -> None:
    texts = [
        "This vacuum picks up all the dog hair from my carpets and it is easy to carry upstairs.",
        "A wholly different text about a lamp with warm light for the bedroom.",
        "This vacuum picks up all the dog hair from my carpets, and it is easy to carry upstairs!!",
        "快递很快，质量也不错，孩子很喜欢，下次还会再来买的",
        "快递很快，质量也不错，孩子很喜欢，下次还会来买的",
    ]
    assert near_duplicates(texts) == [0, 1, 0, 3, 3]


def test_short_texts_are_no_duplicates_of_each_other() -> None:
    assert near_duplicates(["usb", "hub", "", "好看", "好吃"]) == [0, 1, 2, 3, 4]


def test_a_group_never_parts_and_adding_texts_moves_no_other() -> None:
    texts = [Example(f"text number {i}", ("refund",), group=f"g{i % 40}") for i in range(400)]
    before = split(texts, 0.2, 0.2, seed=1)
    parts = [{split_key(e) for e in part} for part in (before.train, before.calibration, before.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    after = split([*texts, Example("one more", ("refund",))], 0.2, 0.2, seed=1)
    assert set(before.test) <= set(after.test)
    assert set(before.train) <= set(after.train)
    assert split(texts, 0.2, 0.2, seed=2) != before


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


def test_a_primary_and_others_become_motives(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "primary": "defect", "others": ["refund"]}\n')
    assert read_any(tmp_path / "x.jsonl")[0].motives == ("defect", "refund")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", "not json\n", "cannot be read"),
        ("x.jsonl", '{"nothing": 1}\n', "name it with --text-column"),
        ("x.xlsx", "", "convert it"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_remedy(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TrainerError, match=message):
        read_any(tmp_path / name)


def test_prepare_reports_what_it_dropped(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    taxonomy = read_taxonomy(tmp_path / "taxonomy.toml")
    words = ["apple", "river", "stone", "cloud", "tiger", "paper", "lamp", "violin", "desert", "copper"]
    raw = [Example(f"{a} {b} {c} is gone", ("refund",)) for a in words for b in words for c in words[:2] if a != b]
    raw += [Example(raw[0].text + "!", ("defect",)), Example("  <br> "), Example("no label at all here", ("other",))]
    parts, report = prepare(raw, taxonomy, (0.2, 0.1), seed=5)
    assert (report.blank, report.duplicates >= 1, report.contradictions) == (1, True, 1)
    assert report.motives["other"] == 1
    write_prepared(tmp_path / "out", parts, report)
    assert len(read_examples(tmp_path / "out" / "corpus.jsonl")) == sum(report.parts.values())
    assert "Fewer than 20 texts: delivery, defect, other" in report.sentences()


def test_an_unknown_label_is_named(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    with pytest.raises(TrainerError, match="'refnud'"):
        prepare([Example("x", ("refnud",))], read_taxonomy(tmp_path / "taxonomy.toml"), (0.1, 0.1), 1)
