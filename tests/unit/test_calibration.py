"""From logits to answers: thresholds, abstention, order, windows; independent of the neighbours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sidecar.repository import Calibration

LABELS = ("a", "b", "c")
FLAT = Calibration.plain(LABELS)
HEADED = Calibration.plain(LABELS, primary=True)


def logits(*rows: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(rows, dtype=np.float32)


def test_without_a_primary_head_the_best_over_its_threshold_comes_first() -> None:
    (answer,) = FLAT.answers(logits([1.0, 3.0, -2.0]))
    assert [motive for motive, _ in answer.motives] == ["b", "a"]
    assert answer.confidence == answer.motives[0][1] == pytest.approx(0.953, abs=1e-3)


def test_nothing_over_its_threshold_is_abstention() -> None:
    (answer,) = FLAT.answers(logits([-1.0, -3.0, -2.0]))
    assert answer.motives == ()
    assert answer.confidence == pytest.approx(1 - 0.269, abs=1e-3)


def test_with_a_primary_head_it_chooses_the_first_and_whether_to_abstain() -> None:
    first, none = HEADED.answers(logits([2, 3, -9, 5, 0, 0, 0], [2, 3, -9, 0, 0, 0, 5]))
    assert [motive for motive, _ in first.motives] == ["a", "b"]
    assert none.motives == ()
    assert none.confidence > 0.9


def test_each_label_is_read_from_its_own_curve_and_flat_beyond_its_ends() -> None:
    curves = (((-4.0, 0.0, 4.0), (0.1, 0.2, 0.9)), ((2.0, 3.0), (0.0, 1.0)), ((-30.0, -20.0), (0.4, 0.3)))
    mixed = replace(FLAT, knots=curves)
    ends = logits([-1e30, -1e30, -1e30], [1e30, 1e30, 1e30], [0, 2.5, -20])
    rows = np.concatenate([ends, np.random.default_rng(5).normal(size=(300, 3)).astype(np.float32) * 20])
    alone = np.stack([np.interp(rows[:, i], *curve) for i, curve in enumerate(curves)], axis=1)
    assert mixed.probabilities(rows) == pytest.approx(alone, abs=1e-12)


def test_a_bias_makes_abstention_more_ready() -> None:
    eager = replace(HEADED, abstention_bias=10.0)
    row = logits([2, 3, -9, 5, 0, 0, 0])
    assert HEADED.answers(row)[0].motives
    assert not eager.answers(row)[0].motives


def test_a_motive_that_surely_holds_may_come_before_the_primary_head_s_favourite() -> None:
    weighed = replace(HEADED, motive_weight=1.0)
    close = logits([-3, 4, -9, 1.0, 0.8, 0, 0])
    assert HEADED.answers(close)[0].motives[0][0] == "a"
    assert weighed.answers(close)[0].motives[0][0] == "b"


def test_weighing_the_motives_changes_no_abstention() -> None:
    rows = np.random.default_rng(3).normal(size=(300, 7)).astype(np.float32) * 3
    weighed = replace(HEADED, motive_weight=0.7)
    said = [[not answer.motives for answer in one.answers(rows)] for one in (HEADED, weighed)]
    assert said[0] == said[1]
    assert any(said[0])


def test_an_answer_is_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(200, 7)).astype(np.float32) * 4
    together = HEADED.answers(rows)
    assert together == [HEADED.answers(rows[i : i + 1])[0] for i in range(200)]
    assert all(0 <= p <= 1 for answer in together for _, p in answer.motives)


def test_a_motive_of_any_window_is_a_motive_of_the_whole() -> None:
    joined = HEADED.join_windows(logits([9, -9, -9, 4, 0, 0, 0], [-9, 9, -9, 0, 4, 0, 0]))
    assert joined.tolist() == [9, 9, -9, 2, 2, 0, 0]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    HEADED.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == HEADED
