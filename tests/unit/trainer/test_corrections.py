"""Labels that people gave with motive.correct become training texts."""

from pathlib import Path

import pytest

from tests.fixtures.annotation import Annotation
from tests.unit.trainer.conftest import run
from trainer.errors import TrainerError
from trainer.readers import read_database
from trainer.texts import read_examples

TEXTS = ("a present for my neighbour's new baby", "so slow that the kettle boils first", "a bare lamp of some kind")


@pytest.fixture
def corrected(annotation: Annotation) -> Annotation:
    """Two attached tables, one of them with two columns, and corrections in each."""
    annotation.table("id integer primary key, body text, title text")
    annotation.attach("texts", "title", prefix="title_motive")
    annotation.execute("create table posts (id integer primary key, body text)")
    annotation.attach("posts")
    annotation.execute("insert into texts values (1, %s, 'nothing said'), (2, 'not corrected', null)", TEXTS[0])
    annotation.execute("insert into posts values (7, %s), (8, %s)", TEXTS[1], TEXTS[2])
    annotation.value("select motive.correct('texts', '1', '{gift}', 'body')")
    annotation.value("select motive.correct('texts', '1', '{}', 'title')")
    annotation.value("select motive.correct('posts', '7', '{performance, price_value}')")
    annotation.value("select motive.correct('posts', '8', '{unknown}')")
    return annotation


def test_corrections_of_every_table_are_read(corrected: Annotation) -> None:
    found = {e.text: (e.motives, e.source) for e in read_database(corrected.dsn)}
    assert found == {
        TEXTS[0]: (("gift",), "database"),
        "nothing said": ((), "database"),
        TEXTS[1]: (("performance", "price_value"), "database"),
        TEXTS[2]: ((), "database"),
    }
    groups = {e.text: e.group for e in read_database(corrected.dsn)}
    assert groups[TEXTS[0]] == groups["nothing said"] != groups[TEXTS[1]]


def test_prepare_joins_them_to_files(corrected: Annotation, tmp_path: Path) -> None:
    lines = [f'{{"text": "file text {word} {i}", "motives": ["gift"]}}' for i, word in enumerate(WORDS)]
    (tmp_path / "own.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shares = ("--calibration-share", 0, "--test-share", 0, "--resemblance", 0.99)
    assert run("prepare", tmp_path / "own.jsonl", "--dsn", corrected.dsn, "--to", tmp_path / "out", *shares) == 0
    assert {e.text for e in read_examples(tmp_path / "out" / "corpus.jsonl")} >= {*TEXTS, "file text apple 0"}


def test_a_correction_wins_over_an_older_label_in_a_file(
    corrected: Annotation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.jsonl").write_text(f'{{"text": "{TEXTS[0]}!", "motives": ["price_value"]}}\n', encoding="utf-8")
    shares = ("--calibration-share", 0, "--test-share", 0)
    assert run("prepare", tmp_path / "own.jsonl", "--dsn", corrected.dsn, "--to", tmp_path / "out", *shares) == 0
    kept = {e.text: e.motives for e in read_examples(tmp_path / "out" / "corpus.jsonl")}
    assert kept[TEXTS[0]] == ("gift",)
    assert f"{TEXTS[0]}!" not in kept
    assert "kept gift, not price_value" in capsys.readouterr().out


def test_any_query_with_text_and_motives_serves(corrected: Annotation) -> None:
    (one,) = read_database(
        corrected.dsn, "select body as text, '{gift}'::text[] as motives, 'zh' as lang from texts where id = 2"
    )
    assert (one.text, one.motives, one.lang) == ("not corrected", ("gift",), "zh")
    with pytest.raises(TrainerError, match="the database gave no texts"):
        read_database(corrected.dsn, "select nonsense")


WORDS = ("apple", "river", "stone", "cloud", "tiger", "paper")
