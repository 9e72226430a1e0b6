"""The purchase motives: what the taxonomy file promises to models, to SQL and to readers."""

from pathlib import Path

import pytest

import trainer
from sidecar.repository import TaxonomyError, read_taxonomy

PATH = Path(trainer.__file__).with_name("taxonomy.toml")
GROUPS = {
    "utilitarian": [
        "functional_need", "performance", "quality", "price_value", "convenience", "replacement", "compatibility",
    ],
    "hedonic": ["enjoyment", "appearance", "novelty"],
    "social": ["gift", "caretaking", "status", "trust"],
    "values and situation": ["wellbeing", "ethics", "occasion"],
}  # fmt: skip


def test_the_motives_stand_in_four_groups_in_order() -> None:
    taxonomy = read_taxonomy(PATH)
    found: dict[str, list[str]] = {}
    for motive in taxonomy.motives:
        found.setdefault(motive.group, []).append(motive.code)
    assert found == GROUPS
    assert taxonomy.abstention.code == "unknown"


def test_every_motive_is_named_defined_and_sourced_in_both_languages() -> None:
    taxonomy = read_taxonomy(PATH)
    every = (*taxonomy.motives, taxonomy.abstention)
    for motive in every:
        assert len(motive.definition_en) > 40
        assert any("\u4e00" <= c <= "\u9fff" for c in motive.name_zh)
        assert any("\u4e00" <= c <= "\u9fff" for c in motive.definition_zh)
        assert motive.source
    assert (
        len({m.definition_en for m in every})
        == len({m.name_en for m in every})
        == len({m.name_zh for m in every})
        == 18
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('name = "x"\n[abstention]\ncode = "unknown"\n', "motive"),
        ('name = "x"\n[[motive]]\ncode = "A b"\n[abstention]\ncode = "unknown"\n', "is no code"),
        ('name = "x"\n[[motive]]\ncode = "a"\n[[motive]]\ncode = "a"\n[abstention]\ncode = "unknown"\n', "a"),
        ('name = "x"\n[[motive]]\ncode = 3\n[abstention]\ncode = "unknown"\n', "quotes"),
        ("name = ", "TOML"),
    ],
)
def test_a_taxonomy_that_cannot_be_used_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "t.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TaxonomyError, match=sentence):
        read_taxonomy(tmp_path / "t.toml")
