"""Cleaning, duplicates, language, the split, and what prepare makes of them."""

from pathlib import Path
from random import Random

import pytest

from sidecar.repository import Taxonomy
from trainer.cleaning import clean
from trainer.duplicates import near_duplicates
from trainer.errors import TrainerError
from trainer.language import detect_language
from trainer.prepare import prepare, write_prepared
from trainer.split import split, split_key
from trainer.texts import MISSING, TIED, Example, read_examples


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


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_near_duplicates_are_found_at_every_threshold(threshold: float) -> None:
    random = Random(4)
    firsts = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=204)) for _ in range(60)]
    kept = round(200 * 2 * threshold / (1 + threshold)) + 5  # so many shingles in common are little over the threshold
    alike = [text[:kept] + "".join(random.choices("0123456789", k=204 - kept)) for text in firsts]
    assert near_duplicates([*firsts, *alike], threshold) == [*range(60), *range(60)]


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


def test_prepare_reports_what_it_dropped(taxonomy: Taxonomy, tmp_path: Path) -> None:
    words = ["apple", "river", "stone", "cloud", "tiger", "paper", "lamp", "violin", "desert", "copper"]
    raw = [Example(f"{a} {b} {c} is gone", ("refund",)) for a in words for b in words for c in words[:2] if a != b]
    raw += [Example(raw[0].text + "!", ("defect",)), Example("  <br> "), Example("no label at all here", ("other",))]
    parts, report = prepare(raw, taxonomy, (0.2, 0.1), seed=5)
    assert (report.blank, report.duplicates >= 1, report.contradictions) == (1, True, 1)
    assert report.motives["other"] == 1
    write_prepared(tmp_path / "out", parts, report)
    assert len(read_examples(tmp_path / "out" / "corpus.jsonl")) == sum(report.parts.values())
    assert [path.name for path in (tmp_path / "out").glob("*.jsonl")] == ["corpus.jsonl"], "a text would be read twice"
    assert "Fewer than 20 texts: delivery, defect, other" in report.sentences()
    assert f"kept refund, not defect: '{raw[0].text}'" in report.sentences()


def test_prepare_leaves_out_and_counts_what_nobody_labelled(taxonomy: Taxonomy) -> None:
    without = [
        Example("apple", unlabelled=MISSING),
        Example("river", unlabelled=MISSING),
        Example("x", unlabelled=TIED),
    ]
    parts, report = prepare([*without, Example("stone", ("refund",))], taxonomy, (0, 0), seed=5)
    assert [e.text for e in parts.train] == ["stone"]
    assert (report.read, report.unlabelled, report.tied) == (4, 2, 1)
    assert "Left out: 2 texts without a label, 1 whose annotators are tied." in report.sentences()
    with pytest.raises(TrainerError, match="none of the 3 texts bears a label; name the field with --label-column"):
        prepare(without, taxonomy, (0, 0), seed=5)


def test_an_unknown_label_is_named(taxonomy: Taxonomy) -> None:
    with pytest.raises(TrainerError, match="'refnud'"):
        prepare([Example("x", ("refnud",))], taxonomy, (0.1, 0.1), 1)
