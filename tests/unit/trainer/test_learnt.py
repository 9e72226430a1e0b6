"""A model is not calibrated or tested on texts that it has learnt."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.trainer.conftest import run
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.export import unseen_parts
from trainer.learnt import FILE, corpus_digest, not_learnt, read_learnt
from trainer.texts import Example
from trainer.train import corpus_split, read_trained

pytestmark = pytest.mark.filterwarnings("ignore")


def with_data(config: Config, **changes: object) -> Config:
    return replace(config, data=replace(config.data, **changes))  # type: ignore[arg-type]


def test_by_its_own_config_a_model_has_learnt_nothing_that_is_held_out(trained: tuple[Config, Path]) -> None:
    config, model = trained
    read = read_trained(model)
    parts = corpus_split(config, read.taxonomy)
    assert unseen_parts(config, read) == parts
    learnt = read_learnt(model)
    assert learnt is not None
    assert not_learnt(parts.train, learnt) == ()
    shouted = replace(parts.train[0], text=f"  {parts.train[0].text.upper()}!")
    assert not_learnt([shouted, Example("a new text")], learnt) == (Example("a new text"),)


def test_another_seed_is_refused_with_the_one_it_was_trained_by(trained: tuple[Config, Path]) -> None:
    config, model = trained
    with pytest.raises(TrainerError, match=r"has learnt; give the config .* seed = 17, calibration_share = 0\.2"):
        unseen_parts(with_data(config, seed=5), read_trained(model))


def test_the_learnt_ones_of_a_larger_share_are_left_out_and_counted(
    trained: tuple[Config, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, model = trained
    read = read_trained(model)
    left = unseen_parts(with_data(config, calibration_share=0.3), read)
    assert set(left.calibration) == set(corpus_split(config, read.taxonomy).calibration)
    assert "are among those that the model has learnt; they are left out." in capsys.readouterr().err


def test_a_folder_without_the_record_is_calibrated_as_its_config_says(
    trained: tuple[Config, Path], tmp_path: Path
) -> None:
    config, model = trained
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    notes = json.loads((tmp_path / "model" / "training.json").read_text())
    del notes["data"]
    (tmp_path / "model" / "training.json").write_text(json.dumps(notes))
    assert run("calibrate", "--config", config.path, "--model", tmp_path / "model") == 0


def test_the_digest_of_a_corpus_minds_texts_and_labels_but_not_their_order() -> None:
    a, b = Example("a", ("refund",)), Example("b")
    assert corpus_digest([a, b]) == corpus_digest([b, a])
    assert corpus_digest([a, b]) != corpus_digest([replace(a, motives=("defect",)), b])


def test_the_card_names_seed_digest_and_intervals_and_no_other_field(
    trained: tuple[Config, Path], exported: Path
) -> None:
    config, model = trained
    card = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    parts = corpus_split(config, read_trained(model).taxonomy)
    assert corpus_digest([*parts.train, *parts.calibration, *parts.test]) in card
    assert "seed 17" in card
    assert re.search(r"primary motive right \| [01]\.\d{3} \(", card)
    assert 'exploring "support tickets" over many texts' in card
    assert "buy" not in card
