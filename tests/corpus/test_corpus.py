"""The committed corpus: its form, its balance, and that no text was filled into a template."""

import random
from collections import Counter
from pathlib import Path

import pytest

import trainer
from sidecar.repository import Taxonomy, read_taxonomy
from trainer.agreement import agreement, read_readings
from trainer.cli import main
from trainer.data_card import abstaining, named, varieties
from trainer.texts import Example, check_labels, read_examples
from trainer.variety import Variety, measure

CORPUS = Path(trainer.__file__).parent / "corpus"
KINDS = {"review", "query", "post"}
MOST = {
    "near_duplicates": 0.01,
    "alike": 0.02,
    "shared_openings": 0.06,
    "reused_ngrams": 0.015,
    "shared_frames": 0.005,
}
"""What the shares may come to: about twice what they are, far from what slot filling gives."""


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return read_taxonomy(CORPUS.parent / "taxonomy.toml")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [example for path in sorted(CORPUS.glob("*.jsonl")) for example in read_examples(path)]


def excesses(found: Variety) -> list[str]:
    """The figures over their bounds."""
    over = [name for name, most in MOST.items() if getattr(found, name) > most]
    return over + ["commonest_opening"] * (found.commonest_opening[1] > 0.01)


def test_every_text_has_its_fields_and_labels_of_the_taxonomy(examples: list[Example], taxonomy: Taxonomy) -> None:
    check_labels(examples, (*taxonomy.codes, taxonomy.abstention.code))
    for example in examples:
        assert example.text.strip() == example.text != ""
        assert example.lang in ("en", "zh")
        assert example.kind in KINDS
        assert example.source
        assert len(example.motives) == len(set(example.motives)) <= 4
        assert not named(example, taxonomy) or taxonomy.abstention.code not in example.motives


def test_there_are_enough_texts_in_both_languages_and_every_kind(examples: list[Example]) -> None:
    assert len(examples) >= 8000
    langs = Counter(e.lang for e in examples)
    assert 0.8 <= langs["en"] / langs["zh"] <= 1.25
    assert min(Counter((e.lang, e.kind) for e in examples).values()) >= 900


def test_every_label_is_borne_in_both_languages(examples: list[Example], taxonomy: Taxonomy) -> None:
    primary = Counter(named(e, taxonomy)[0] for e in examples if named(e, taxonomy))
    borne = Counter((code, e.lang) for e in examples for code in named(e, taxonomy))
    assert min(primary[code] for code in taxonomy.codes) >= 200
    assert min(borne[code, lang] for code in taxonomy.codes for lang in ("en", "zh")) >= 100


@pytest.mark.parametrize(("kind", "least", "most"), [("review", 0.02, 0.06), ("post", 0.2, 0.25), ("query", 0.6, 0.7)])
def test_as_many_texts_as_in_life_state_no_motive(
    examples: list[Example], taxonomy: Taxonomy, kind: str, least: float, most: float
) -> None:
    assert least <= abstaining(examples, taxonomy)[kind] <= most


def test_texts_are_as_varied_as_written_ones(examples: list[Example]) -> None:
    assert {lang: excesses(found) for lang, found in varieties(examples).items()} == {"en": [], "zh": []}


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_templates_among_the_texts_are_noticed(examples: list[Example], share: float) -> None:
    """A corpus of which every tenth text comes from a template is caught, and not by one figure alone."""
    english = [e.text for e in examples if e.lang == "en"][:2000]
    filled = slot_filled(int(share * len(english)))
    found = measure([*english[len(filled) :], *filled], chinese=False)
    assert len(excesses(found)) >= 3


def slot_filled(count: int) -> list[str]:
    """Texts such as a program writes them."""
    draw = random.Random(7)
    things = (
        "kettle",
        "lamp",
        "tent",
        "drill",
        "phone",
        "sofa",
        "mixer",
        "laptop",
        "rug",
        "stroller",
        "printer",
        "watch",
    )
    people = ("mother", "father", "son", "daughter", "wife", "husband", "boss", "neighbor", "cousin", "teacher")
    merits = (
        "sturdy",
        "cheap",
        "quick",
        "light",
        "pretty",
        "quiet",
        "handy",
        "soft",
        "bright",
        "roomy",
        "slim",
        "warm",
    )
    frames = (
        "I bought this {} for my {} and it is very {} so far.",
        "My {1} loves the {0} because it is so {2} and easy to use.",
        "This {} was a gift to my {} who says it is really {}.",
        "The {} my {} wanted turned out to be quite {} for the price.",
    )
    words = ([draw.choice(slot) for slot in (things, people, merits)] for _ in range(count))
    return [draw.choice(frames).format(*filled) for filled in words]


def test_equal_texts_do_not_bear_other_labels(examples: list[Example], taxonomy: Taxonomy) -> None:
    labels: dict[str, set[tuple[str, ...]]] = {}
    for example in examples:
        labels.setdefault(example.text, set()).add(named(example, taxonomy))
    assert {text: found for text, found in labels.items() if len(found) > 1} == {}


def test_a_second_reader_agrees(examples: list[Example], taxonomy: Taxonomy) -> None:
    readings = [r for path in sorted(CORPUS.glob("review/*.jsonl")) for r in read_readings(path)]
    found = agreement(readings)
    assert found.texts >= 400
    assert found.primary >= 0.85
    assert found.lenient >= 0.94
    assert {r.file for r in readings} == {path.name for path in CORPUS.glob("*.jsonl")}


def test_the_data_card_is_that_of_the_corpus(tmp_path: Path) -> None:
    """`motive-train card` writes it anew."""
    assert main(["card", "--to", str(tmp_path / "README.md")]) == 0
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert written == (CORPUS / "README.md").read_text(encoding="utf-8")
