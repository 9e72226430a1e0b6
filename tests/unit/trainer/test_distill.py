"""A smaller student learns from what teachers say of the corpus."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import write_config
from trainer.config import Config
from trainer.distill import blend, read_votes, soft_votes, write_votes
from trainer.errors import TrainerError
from trainer.learn import Targets
from trainer.texts import Example
from trainer.train import read_trained

CODES = ("delivery", "defect", "other")


def test_votes_are_the_mean_of_the_teachers() -> None:
    sure = np.array([[10.0, -10.0, 10.0, -10.0, -10.0]], np.float32)
    votes = soft_votes([sure, -sure], labels=2)
    assert np.allclose(votes.motives, 0.5, atol=1e-3)
    assert np.allclose(votes.primary, [[0.5, 0.25, 0.25]], atol=1e-3)


def test_votes_are_kept_by_key_and_blend_with_the_labels(tmp_path: Path) -> None:
    hard = Targets(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.eye(3, dtype=np.float32)[:2])
    soft = Targets(np.array([[0.5, 0.1234]], np.float32), np.array([[0.2, 0.3, 0.5]], np.float32))
    write_votes(tmp_path / "votes.jsonl", ["a text"], soft, CODES)
    assert "a text" not in (tmp_path / "votes.jsonl").read_text(encoding="utf-8")
    votes = read_votes(tmp_path / "votes.jsonl", CODES)
    mixed = blend(hard, [Example("a text"), Example("without votes")], votes, share=0.5)
    assert np.allclose(mixed.motives, [[0.75, 0.06], [0.0, 1.0]])
    assert np.allclose(mixed.primary[0], [0.6, 0.15, 0.25])
    with pytest.raises(TrainerError, match="another taxonomy"):
        read_votes(tmp_path / "votes.jsonl", ("refund", "other"))


def test_a_student_of_one_layer_learns_from_a_teacher(
    trained: tuple[Config, Path], tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, teacher = trained
    votes = tmp_path / "votes.jsonl"
    assert run("distill", teacher, "--config", config.path, "--to", votes) == 0
    assert len(read_votes(votes, ("refund", *CODES))) > 100
    votes.write_text("".join(votes.read_text().splitlines(keepends=True)[:100]))
    student = write_config(tmp_path, tiny_base, epochs=1.0, layers=[0], teacher=votes.name, teacher_share=0.7)
    assert run("train", "--config", student.path, "--to", tmp_path / "student") == 0
    assert re.search(r"^100 of \d+ training texts have votes in votes\.jsonl$", capsys.readouterr().err, re.MULTILINE)
    assert read_trained(tmp_path / "student").model.backbone.config.num_hidden_layers == 1


def test_a_teacher_of_other_labels_is_refused(
    trained: tuple[Config, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, teacher = trained
    other = shutil.copytree(teacher, tmp_path / "other")
    taxonomy = (teacher / "taxonomy.toml").read_text(encoding="utf-8")
    (other / "taxonomy.toml").write_text(taxonomy.replace('"refund"', '"money_back"'), encoding="utf-8")
    assert run("distill", teacher, other, "--config", config.path, "--to", tmp_path / "votes.jsonl") == 1
    assert f"{other} knows other labels" in capsys.readouterr().err
    assert not (tmp_path / "votes.jsonl").exists()
