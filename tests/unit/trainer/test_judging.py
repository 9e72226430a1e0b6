"""Baselines, learning curve, bias audit, comparison and trade-off of models on labelled texts."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from sidecar.repository import Answer, Taxonomy, read_taxonomy
from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import corpus, write_config
from trainer import measure as measure_module
from trainer.answer import open_model
from trainer.baselines import keyword_rules, terms, tfidf, zero_shot
from trainer.bias import PAIRS, Finding, audit, swap
from trainer.compare import compare
from trainer.config import Config, Network
from trainer.curve import Curve, learning_curve, verdict
from trainer.errors import TrainerError, UnlearnableError
from trainer.evaluate import Evaluation, evaluate
from trainer.intervals import Difference, measured
from trainer.measure import fine_tuning_curve, fit_baselines, untrained_prefix
from trainer.presentation import sections
from trainer.presentation import sentences as told
from trainer.scores import Judged, answered, scores
from trainer.texts import Example, write_examples
from trainer.trade_off import measure, picture, sentences
from trainer.train import corpus_split

PNG = b"\x89PNG"


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It don't work: 300 g", ["don't", "work"]),
        ("Очень быстрая ДОСТАВКА", ["очень", "быстрая", "доставка"]),
        ("استرداد المال", ["استرداد", "المال"]),
        ("配送慢 ok", ["配送", "送慢"]),
        ("환불해 주세요", ["환불", "불해", "주세", "세요"]),
    ],
    ids=["English", "Russian", "Arabic", "Chinese", "Korean"],
)
def test_terms_are_words_or_pairs_of_characters_of_any_script(text: str, found: list[str]) -> None:
    assert terms(text) == found


def test_keyword_rules_learn_a_language_of_another_script(taxonomy: Taxonomy) -> None:
    train = [Example(f"верните деньги {'абвгд'[i]}", ("refund",)) for i in range(5)]
    train += [Example(f"где посылка {'абвгд'[i]}", ("delivery",)) for i in range(5)]
    assert keyword_rules(train, taxonomy, words=1)(["где моя посылка"])[0].motives == (("delivery", 0.5),)


def test_a_baseline_that_cannot_be_fitted_says_why(taxonomy: Taxonomy) -> None:
    with pytest.raises(TrainerError, match="2 training texts are too few"):
        keyword_rules([Example("one", ("refund",)), Example("another")], taxonomy)
    with pytest.raises(TrainerError, match="the same primary label"):
        tfidf([Example("one and the same", ("refund",))] * 4, taxonomy)


@pytest.mark.filterwarnings("ignore")
def test_a_baseline_that_cannot_be_fitted_is_left_out(prepared: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TrainerError("no words")

    monkeypatch.setattr(measure_module, "keyword_rules", refuse)
    found = fit_baselines(prepared.path, corpus(20), offline=True)
    assert found.left_out == {"keyword rules": "no words"}
    assert len(found.baselines) == 3
    assert found.curve is not None


@pytest.mark.parametrize("flag", ["--baselines", "--curve"])
def test_a_config_of_another_taxonomy_than_the_models_is_refused_before_any_work(
    exported: Path, held: Path, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", exported, held, "--to", tmp_path / "out", flag) == 1
    assert "released.toml is of the taxonomy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_untrained_encoder_reads_texts_behind_the_prefix_of_its_family() -> None:
    assert untrained_prefix(Network(base="intfloat/multilingual-e5-small")) == "query: "
    assert untrained_prefix(Network(base="intfloat/e5-base-v2", prefix="passage: ")) == "passage: "
    assert untrained_prefix(Network(base="xlm-roberta-base")) == ""


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
    assert [n for n, _ in curve.points] == [40, 80, 160]
    assert curve.points[-1][1]["accuracy"] >= curve.points[0][1]["accuracy"]
    assert curve.gain is not None
    gain = curve.points[-1][1]["macro_f1"] - curve.points[-2][1]["macro_f1"]
    assert curve.gain.value == pytest.approx(gain)
    assert verdict(curve).startswith("From 80 to 160 texts")


@pytest.mark.parametrize(
    ("gain", "ending"),
    [
        (Difference(0.05, (0.01, 0.09)), "more texts would still help."),
        (Difference(-0.01, (-0.03, 0.005)), "would help little."),
        (Difference(0.02, (-0.03, 0.07)), "too few to tell whether more would help."),
        (None, "Too few texts for a learning curve."),
    ],
)
def test_the_last_gain_is_judged_by_its_interval(gain: Difference | None, ending: str) -> None:
    assert verdict(Curve(((1, {}), (2, {})), gain)).endswith(ending)


def test_a_number_of_texts_that_cannot_be_learnt_from_is_skipped_with_its_reason(taxonomy: Taxonomy) -> None:
    train, test = corpus(240)[:160], corpus(240)[160:]

    def fit(part: object) -> object:
        if len(part) < 80:  # type: ignore[arg-type]
            raise UnlearnableError("no training text bears 'defect'")
        return tfidf(part, taxonomy)  # type: ignore[arg-type]

    curve = learning_curve(train, test, fit, points=3)  # type: ignore[arg-type]
    assert [n for n, _ in curve.points] == [80, 160]
    assert "40 texts could not be learnt from: no training text bears 'defect'." in curve.sentences()
    with pytest.raises(TrainerError, match="no learning curve: no training text bears 'defect'"):
        learning_curve(train[:40], test, fit, points=2)  # type: ignore[arg-type]


def test_an_error_that_more_texts_do_not_cure_ends_the_curve_at_once() -> None:
    asked = []

    def fit(part: object) -> object:
        asked.append(part)
        raise TrainerError("no memory")

    with pytest.raises(TrainerError, match="no memory"):
        learning_curve(corpus(160), corpus(20), fit, points=3)  # type: ignore[arg-type]
    assert len(asked) == 1


def test_a_curve_that_cannot_be_calibrated_is_refused_before_any_training(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path, tiny_base).path
    path.write_text(path.read_text().replace("calibration_share = 0.2", "calibration_share = 0.02"))
    monkeypatch.setattr(measure_module, "train", lambda *_, **__: pytest.fail("it was trained first"))
    with pytest.raises(TrainerError, match="too few to calibrate on"):
        fine_tuning_curve(path, corpus(20))


def test_what_is_left_out_is_named_as_what_it_is() -> None:
    every = measured([Judged(("refund",), ("refund",), 0.75)], rounds=5)
    why = {"keyword rules": "no words", "learning curve": "too few texts"}
    lines = told(Evaluation("m", [], {"all": every}, {}, left_out=why)).splitlines()
    assert {"keyword rules is left out: no words", "learning curve is left out: too few texts"} <= set(lines)


@pytest.mark.parametrize("rounds", ["0", "-1"])
def test_an_interval_from_no_resampling_is_refused(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("evaluate", "model", "texts.jsonl", "--rounds", rounds)
    assert f"argument --rounds: {rounds} should be 1 or more" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_the_curve_of_whole_trainings_holds_out_the_same_texts_and_asks_no_teacher(prepared: Config) -> None:
    taught = prepared.path.with_name("taught.toml")
    text = prepared.path.read_text(encoding="utf-8")
    taught.write_text(text.replace("[optimisation]", '[optimisation]\nteacher = "none.jsonl"'), encoding="utf-8")
    parts = corpus_split(prepared, read_taxonomy(prepared.path.parent / "taxonomy.toml"))
    curve = fine_tuning_curve(taught, parts.test, points=2)
    assert [n for n, _ in curve.points] == [len(parts.train) // 2, len(parts.train)]
    assert curve.points[-1][1]["n"] == len(parts.test)
    assert curve.points[-1][1]["accuracy"] > 0.6
    assert "without the votes of [optimisation] teacher" in curve.sentences()


def test_a_curve_that_fails_leaves_the_report(
    prepared: Config, exported: Path, held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainerError("no memory")

    monkeypatch.setattr(measure_module, "fine_tuning_curve", fail)
    to = ("--to", tmp_path / "out", "--config", prepared.path, "--rounds", 20, "--curve")
    assert run("evaluate", exported, held, *to) == 1
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("kind", "text", "swapped"),
    [
        ("gender", "My husband loves His son", "My wife loves Her daughter"),
        ("gender", "给妈妈买的", "给爸爸买的"),
        ("gender", "he held the heat", "she held the heat"),
        ("gender", "a gift for her", "a gift for him"),
        ("gender", "I gave her a lamp for Her birthday", "I gave him a lamp for His birthday"),
        ("gender", "made him smile", "made her smile"),
        ("age", "for KIDS", "for GRANDPARENTS"),
        ("age", "my old phone", "my old phone"),
        ("age", "Old people like it", "Young people like it"),
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


def test_the_report_shows_intervals_and_texts_whose_answers_flipped(exported: Path) -> None:
    model = open_model(exported)
    flip = Finding(1, 1, 0.0, (("my <wife>", "my <husband>", "refund", ""),))
    evaluation = dataclasses.replace(evaluate(model, corpus(40), rounds=20), bias={"gender": flip})
    page = "".join(section.body for section in sections(evaluation, model.repository.taxonomy))
    assert evaluation.slices["review"].cell("macro_f1") in page
    assert "<td>my &lt;wife&gt;</td><td>my &lt;husband&gt;</td><td>refund → other</td>" in page


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


def test_every_command_that_reads_texts_reads_columns_of_any_name(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["ticket,tags", "refund money back please cash,refund", "hello nice weather monday,other", "so what,"]
    (tmp_path / "x.csv").write_text("\n".join(rows), encoding="utf-8")
    columns = ("--text-column", "ticket", "--label-column", "tags")
    assert run("evaluate", exported, tmp_path / "x.csv", *columns, "--rounds", 5, "--to", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "1 of 3 texts in" in said.err
    assert ["en", "2"] in [line.split()[:2] for line in said.out.splitlines()], "the language was told from the texts"
    assert run("compare", exported, exported, tmp_path / "x.csv", *columns) == 0
    assert "0 of 3 primary answers changed" in capsys.readouterr().out
    assert run("compare", exported, exported, tmp_path / "x.csv", *columns, "--labelled") == 0
    assert "0 of 2 primary answers changed" in capsys.readouterr().out
    assert run("trade-off", tmp_path / "x.csv", exported, *columns, "--to", tmp_path / "picture.png") == 0


def test_texts_without_any_label_are_not_judged_by(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("text,tags\nmoney,refund\nhello,other\n", encoding="utf-8")
    assert run("evaluate", exported, tmp_path / "x.csv", "--to", tmp_path / "out") == 1
    assert "none of the 2 texts bears a label; name the field with --label-column" in capsys.readouterr().err


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
