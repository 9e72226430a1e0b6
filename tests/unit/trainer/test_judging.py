"""Baselines, learning curve, bias audit, comparison and trade-off of models on labelled texts."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from sidecar.repository import Answer, Taxonomy, read_taxonomy
from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import TAXONOMY, corpus
from trainer.answer import open_model
from trainer.baselines import keyword_rules, tfidf, zero_shot
from trainer.bias import PAIRS, audit, swap
from trainer.compare import compare
from trainer.config import Config
from trainer.curve import learning_curve, verdict
from trainer.errors import TrainerError
from trainer.evaluate import evaluate
from trainer.measure import fine_tuning_curve
from trainer.scores import answered, scores
from trainer.texts import Example, write_examples
from trainer.trade_off import measure, picture, sentences
from trainer.train import corpus_split

PNG = b"\x89PNG"


@pytest.fixture
def taxonomy(tmp_path: Path) -> Taxonomy:
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    return read_taxonomy(tmp_path / "taxonomy.toml")


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A file of texts with the abstention code written out, as some people's files have it."""
    write_examples(
        tmp_path / "held.jsonl", [dataclasses.replace(e, motives=e.motives or ("other",)) for e in corpus(80)]
    )
    return tmp_path / "held.jsonl"


@pytest.fixture
def flattened(exported: Path, tmp_path: Path) -> Path:
    """The tiny model, but with a bias that makes it abstain always: another version of it."""
    from trainer.repository import Contents, write_repository

    opened = open_model(exported).repository
    silent = dataclasses.replace(opened.calibration, abstention_bias=1e6)
    manifest = opened.manifest
    contents = Contents(
        "tickets", "2.0.0", "source", "base", exported / "taxonomy.toml", exported / "tokenizer.json", silent,
        manifest.tokens, "# card",
    )  # fmt: skip

    def same_network(path: Path) -> None:
        shutil.copyfile(opened.onnx_path, path)

    write_repository(tmp_path / "silent" / "tickets", contents, same_network)
    return tmp_path / "silent" / "tickets"


@pytest.mark.parametrize("fit", [keyword_rules, tfidf])
def test_fitted_baselines_learn_what_words_tell(fit: object, taxonomy: Taxonomy) -> None:
    train, test = corpus(240)[:160], corpus(240)[160:]
    answer = fit(train, taxonomy)  # type: ignore[operator]
    assert scores(answered(test, answer([e.text for e in test])))["accuracy"] >= 0.5


def test_the_zero_shot_encoder_takes_the_nearest_definition(taxonomy: Taxonomy) -> None:
    words = ("money", "parcel", "work", "none")

    def embed(texts: object) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        rows = [[float(word in text.casefold()) + 0.01 for word in words] for text in texts]  # type: ignore[attr-defined]
        return np.asarray(rows, np.float32)

    said = zero_shot(embed, taxonomy)(["my money", "the parcel", "it does not work", "none at all"])
    assert [a.motives[0][0] if a.motives else "other" for a in said] == ["refund", "delivery", "defect", "other"]


def test_a_learning_curve_rises_and_says_whether_more_would_help(taxonomy: Taxonomy) -> None:
    train, test = corpus(240)[:160], corpus(240)[160:]
    curve = learning_curve(train, test, lambda part: tfidf(part, taxonomy), points=3)
    assert [n for n, _ in curve] == [40, 80, 160]
    assert curve[-1][1]["accuracy"] >= curve[0][1]["accuracy"]
    assert verdict([(1, {"macro_f1": 0.4}), (2, {"macro_f1": 0.5})]).endswith("more texts would still help.")
    assert verdict([(1, {"macro_f1": 0.5}), (2, {"macro_f1": 0.5})]).endswith("would help little.")
    assert "Too few" in verdict(curve[:1])


@pytest.mark.filterwarnings("ignore")
def test_the_curve_of_whole_trainings_holds_out_the_same_texts(prepared: Config) -> None:
    parts = corpus_split(prepared, read_taxonomy(prepared.path.parent / "taxonomy.toml"))
    curve = fine_tuning_curve(prepared.path, parts.test, points=2)
    assert [n for n, _ in curve] == [len(parts.train) // 2, len(parts.train)]
    assert curve[-1][1]["n"] == len(parts.test)
    assert curve[-1][1]["accuracy"] > 0.6


@pytest.mark.parametrize(
    ("kind", "text", "swapped"),
    [
        ("gender", "My husband loves His son", "My wife loves Her daughter"),
        ("gender", "给妈妈买的", "给爸爸买的"),
        ("gender", "he held the heat", "she held the heat"),
        ("age", "for KIDS", "for GRANDPARENTS"),
        ("nationality", "made in USA", "made in CHINA"),
        ("name", "a lamp", "a lamp"),
    ],
)
def test_words_are_swapped_whole_and_in_their_case(kind: str, text: str, swapped: str) -> None:
    assert swap(text, PAIRS[kind]) == swapped


def test_the_audit_finds_a_model_that_minds_the_gender() -> None:
    def answer(texts: object) -> list[Answer]:
        return [
            Answer((("refund", 0.9),), 0.9) if "wife" in text else Answer((), 0.8)
            for text in texts  # type: ignore[attr-defined]
        ]

    found = audit(["my wife", "my husband", "a lamp", "for kids"], answer)
    assert (found["gender"].swapped, found["gender"].flipped) == (2, 2)
    assert (found["age"].swapped, found["age"].flipped, found["age"].shift) == (1, 0, 0.0)
    assert found["name"].swapped == 0


def test_evaluation_refuses_no_texts_and_other_labels(exported: Path) -> None:
    model = open_model(exported)
    with pytest.raises(TrainerError, match="no text to evaluate"):
        evaluate(model, [])
    with pytest.raises(TrainerError, match="'pizza'"):
        evaluate(model, [Example("x", ("pizza",))])


def test_a_comparison_names_changes_flows_and_significance(exported: Path, flattened: Path, held: Path) -> None:
    old, new = open_model(exported), open_model(flattened)
    found = compare(old, new, corpus(80), labelled=True)
    assert found.changed == sum(found.flows.values()) > 20
    assert {after for _, after in found.flows} == {""}
    assert found.p_value is not None
    assert found.p_value < 0.05
    assert found.gained is not None
    assert found.lost is not None
    assert found.lost > found.gained
    text = found.sentences("other")
    assert "refund -> other" in text
    assert "a real difference" in text
    assert compare(old, old, corpus(40), labelled=False).changed == 0


def test_compare_and_trade_off_are_commands(
    exported: Path, flattened: Path, held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", exported, flattened, held, "--labelled") == 0
    assert "now wrong" in capsys.readouterr().out
    assert run("trade-off", held, exported, flattened, "--to", tmp_path / "picture.png") == 0
    said = capsys.readouterr().out
    assert "tickets@1.0.0" in said
    assert "tickets@2.0.0" in said
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)


def test_a_trade_off_holds_quality_size_and_speed(exported: Path) -> None:
    point = measure(open_model(exported), corpus(40))
    assert point.accuracy > 0.8
    assert point.megabytes == pytest.approx((exported / "1" / "model.onnx").stat().st_size / 1e6)
    assert point.milliseconds > 0
    assert point.texts_per_second > 0
    assert picture([point]).startswith(PNG)
    assert len(sentences([point]).splitlines()) == 2
    with pytest.raises(TrainerError, match="no text"):
        measure(open_model(exported), [])
