"""From logits to probabilities: two ways, each where it does better, read by the sidecar in the same form."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar.repository import Calibration
from tests.unit.trainer.conftest import run
from trainer.calibrate import fit_calibration, log_losses, sigmoid
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.learn import Targets

LABELS = ("steps", "logistic")


def held_out(texts: int) -> tuple[NDArray[np.float32], Targets]:
    """Two motives: one holds in a tenth or nine tenths of the texts, whichever side of 0; the other by its log-odds."""
    random = np.random.default_rng(5)
    z = random.normal(0.0, 3.0, (texts, 2))
    chance = np.stack([np.where(z[:, 0] > 0, 0.9, 0.1), sigmoid(z[:, 1] - 1.0)], axis=1)
    motives = (random.random((texts, 2)) < chance).astype(np.float32)
    primary = np.zeros((texts, 3), np.float32)
    primary[np.arange(texts), np.where(motives.any(axis=1), motives.argmax(axis=1), 2)] = 1.0
    logits = np.concatenate([z, 4.0 * primary - 2.0], axis=1).astype(np.float32)
    return logits, Targets(motives, primary)


def probabilities(method: str, at: tuple[float, ...], texts: int = 4000) -> NDArray[np.float64]:
    calibration = fit_calibration(LABELS, *held_out(texts), method)
    return calibration.probabilities(np.array([[z, z, 0, 0, 0] for z in at], np.float32))


def test_platt_gives_a_logistic_curve_and_isotonic_any_rising_one() -> None:
    assert probabilities("platt", (-1.0, 1.0, 3.0))[:, 1] == pytest.approx(
        sigmoid(np.array([-2.0, 0.0, 2.0])), abs=0.05
    )
    bent = probabilities("isotonic", (-6.0, -0.5, 0.5, 6.0))[:, 0]
    assert bent == pytest.approx([0.1, 0.1, 0.9, 0.9], abs=0.07)
    assert (np.diff(probabilities("isotonic", tuple(np.linspace(-20, 20, 400))), axis=0) >= 0).all()


def test_the_best_is_chosen_for_each_motive_by_texts_it_was_not_fitted_on() -> None:
    logits, wanted = held_out(4000)
    losses = log_losses(logits.astype(np.float64), wanted.motives.astype(np.float64))
    assert losses[0]["isotonic"] < losses[0]["platt"] - 0.01
    assert losses[1]["platt"] < losses[1]["isotonic"] + 0.005
    at = (-5.0, -1.0, 0.5, 4.0)
    chosen = ["isotonic", min(losses[1], key=losses[1].__getitem__)]
    for label, method in enumerate(chosen):
        assert (probabilities("best", at)[:, label] == probabilities(method, at)[:, label]).all()


def test_a_motive_that_few_texts_bear_stays_on_its_logistic_curve() -> None:
    logits, wanted = held_out(400)
    wanted.motives[:, 0] = 0.0
    wanted.primary[:] = np.eye(3, dtype=np.float32)[np.where(wanted.motives[:, 1] > 0, 1, 2)]
    losses = log_losses(logits.astype(np.float64), wanted.motives.astype(np.float64))
    assert losses[0]["isotonic"] < losses[0]["platt"]
    best, platt = (fit_calibration(LABELS, logits, wanted, method) for method in ("best", "platt"))
    assert best.knots[0] == platt.knots[0]


def test_few_texts_are_not_bent_to() -> None:
    logits, wanted = held_out(60)
    losses = log_losses(logits.astype(np.float64), wanted.motives.astype(np.float64))
    assert losses[1]["platt"] < losses[1]["isotonic"]


def test_the_sidecar_reads_an_isotonic_calibration(tmp_path: Path) -> None:
    calibration = fit_calibration(LABELS, *held_out(400), "isotonic")
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration


def test_another_method_is_refused() -> None:
    with pytest.raises(TrainerError, match="none of platt, isotonic, best"):
        fit_calibration(LABELS, *held_out(100), "magic")


def test_calibrate_says_how_both_do(trained: tuple[Config, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, model = trained
    assert run("calibrate", "--config", config.path, "--model", model) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "isotonic" in head
    assert [row.split()[0] for row in rows] == ["refund", "delivery", "defect"]
    assert all(0.0 < float(number) < 1.0 for row in rows for number in row.split()[1:])
    assert not (model / "calibration.json").exists()
