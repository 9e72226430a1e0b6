"""Restarts: what is kept is the mean of all ends, and a kill in one loses no epoch that was done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import write_config
from trainer import learn, restarts
from trainer.classifier import load_classifier
from trainer.errors import TrainerError
from trainer.train import train

pytestmark = pytest.mark.filterwarnings("ignore")


class StopInRestart(TrainerCallback):
    """A kill when the first step of a restart is done."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:
        if state.num_train_epochs == 1:
            raise KeyboardInterrupt


class Count(TrainerCallback):
    """Notes every step by the epochs of its training."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:
        self.steps.append(state.num_train_epochs)


def test_the_mean_of_all_ends_is_kept_also_by_a_training_that_was_killed_in_a_restart(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, tiny_base, epochs=2.0, restarts=2)
    ends = []

    def watched(model: Any, *arguments: Any, **named: Any) -> dict[str, float]:
        figures = learn.learn(model, *arguments, **named)
        ends.append(restarts.weights(model))
        return figures

    with monkeypatch.context() as patch:
        patch.setattr(restarts, "learn", watched)
        train(config, tmp_path / "straight")
    kept = dict(load_classifier(tmp_path / "straight", 3, "mean").named_parameters())
    assert len(ends) == 3
    for name, value in kept.items():
        assert torch.allclose(value, torch.stack([end[name] for end in ends]).mean(dim=0), atol=1e-6)
    assert not torch.equal(ends[1]["motives.weight"], ends[0]["motives.weight"])
    assert not torch.equal(ends[2]["motives.weight"], ends[1]["motives.weight"])

    with monkeypatch.context() as patch:
        patch.setattr(learn, "callbacks", lambda options: [StopInRestart()])
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "killed")
    steps: list[int] = []
    monkeypatch.setattr(learn, "callbacks", lambda options: [Count(steps)])
    assert run("train", "--config", config.path, "--to", tmp_path / "killed", "--resume") == 0
    assert set(steps) == {1}, "the epochs before the restart were done again"
    again = dict(load_classifier(tmp_path / "killed", 3, "mean").named_parameters())
    assert all(torch.allclose(again[name], value, atol=1e-6) for name, value in kept.items())


def test_two_ways_of_choosing_the_weights_that_are_kept_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="average keeps a running mean and restarts keeps the mean of several ends"):
        write_config(tmp_path, tiny_base, restarts=1, average=0.5)
