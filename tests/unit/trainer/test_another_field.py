"""A user's own taxonomy, support tickets, from a CSV to answers of the running sidecar: no code of ours changes."""

import json
from pathlib import Path

import numpy as np

from sidecar.pb import motive_pb2 as pb
from sidecar.repository import read_taxonomy
from tests.fixtures.sidecar_process import RunSidecar
from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import corpus
from trainer.answer import open_model
from trainer.cli import parser
from trainer.config import Config, Data
from trainer.scores import answered, scores
from trainer.texts import read_examples, write_examples
from trainer.train import corpus_split

TEXTS = ["refund money back please cash", "hello nice weather monday", "broken screen dead crack"]


def test_a_csv_becomes_a_corpus_with_languages_and_without_the_abstention_code(prepared: Config) -> None:
    folder = prepared.path.parent
    report = json.loads((folder / "prepared.json").read_text())
    examples = read_examples(folder / "corpus.jsonl")
    assert report["read"] == 240
    assert len(examples) == sum(report["parts"].values())
    assert {e.lang for e in examples} == {"en"}
    assert {m for e in examples for m in e.motives} == {"refund", "delivery", "defect"}


def test_the_test_part_that_prepare_writes_is_the_one_that_train_holds_out(prepared: Config) -> None:
    folder = prepared.path.parent
    shares = ("--calibration-share", 0.2, "--test-share", 0.1)
    to = ("--taxonomy", folder / "taxonomy.toml", "--to", folder / "again")
    assert run("prepare", folder / "corpus.jsonl", *shares, *to) == 0
    written = read_examples(folder / "again" / "parts" / "test.jsonl")
    assert written
    assert {e.text for e in written} == {
        e.text for e in corpus_split(prepared, read_taxonomy(folder / "taxonomy.toml")).test
    }


def test_prepare_splits_as_a_config_that_says_nothing_else() -> None:
    given = parser().parse_args(["prepare", "texts.csv", "--to", "work"])
    assert (given.seed, given.calibration_share, given.test_share) == (
        Data.seed, Data.calibration_share, Data.test_share,
    )  # fmt: skip


def test_calibration_gives_a_threshold_a_label(exported: Path) -> None:
    calibration = json.loads((exported / "calibration.json").read_text())
    assert calibration["labels"] == ["refund", "delivery", "defect"]
    assert all(0 < limit < 1 for limit in calibration["thresholds"])


def test_the_exported_model_has_learnt_the_labels(exported: Path) -> None:
    model = open_model(exported)
    answers = model.answers(TEXTS)
    assert [a.motives[0][0] if a.motives else "other" for a in answers] == ["refund", "other", "defect"]
    judged = answered(corpus(), model.answers([e.text for e in corpus()]))
    assert scores(judged)["accuracy"] > 0.85


def test_evaluation_writes_report_figures_and_card(
    trained: tuple[Config, Path], exported: Path, tmp_path: Path
) -> None:
    write_examples(tmp_path / "held.jsonl", corpus(80))
    to = ("--to", tmp_path / "out", "--config", trained[0].path, "--rounds", 20, "--baselines", "--offline")
    assert run("evaluate", exported, tmp_path / "held.jsonl", *to) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["slices"]["all"]["n"] == 80
    assert {"en", "review", "query", "en review"} <= set(figures["slices"])
    assert set(figures["intervals"]) == set(figures["slices"])
    assert set(figures["intervals"]["en query"]) == set(figures["slices"]["all"]) - {"n"}
    assert set(figures["per_class_intervals"]) == set(figures["per_class_f1"])
    assert len(figures["baselines"]) == len(figures["macro_f1_over_baselines"]) == 4
    assert "other" in figures["per_class_f1"]
    assert [n for n, _ in figures["learning_curve"]] == sorted(n for n, _ in figures["learning_curve"])
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# tickets 1.0.0")
    assert "Evaluated on 80 texts" in card
    assert "| en review | 40 |" in card


def test_the_sidecar_answers_as_the_trainer_does(exported: Path, run_sidecar: RunSidecar) -> None:
    sidecar = run_sidecar(f"onnx:{exported}").wait_serving()
    response = sidecar.stub().Classify(pb.ClassifyRequest(texts=TEXTS), timeout=20)
    ours = open_model(exported).answers(TEXTS)
    said = [[m.motive for m in one.motives if m.motive != "other"] for one in response.results]
    assert said == [[code for code, _ in answer.motives] for answer in ours]
    theirs = [one.motives[0].confidence for one in response.results if one.motives]
    wanted = [a.confidence for a, one in zip(ours, response.results, strict=True) if one.motives]
    assert np.allclose(theirs, wanted, atol=1e-3)
