"""The figures by which a model is judged, against sums done by hand."""

import numpy as np
import pytest

from sidecar.repository import Answer
from trainer.compare import mcnemar
from trainer.scores import Judged, Tally, answered, per_class, reliability, scores, slices
from trainer.texts import Example

TEXTS = [
    Example("a", ("refund", "defect"), "en", "review", how="random"),
    Example("b", ("delivery",), "en", "query", how="enriched"),
    Example("c", (), "zh", "review", how="random"),
    Example("d", ("defect",), "zh", "query"),
]
ANSWERS = [
    Answer((("defect", 0.9), ("refund", 0.6)), 0.9),  # not the primary, but one of the labels
    Answer((("delivery", 0.8), ("refund", 0.5)), 0.8),
    Answer((), 0.7),
    Answer((), 0.4),
]
JUDGED = answered(TEXTS, ANSWERS)


def test_the_figures_are_those_done_by_hand() -> None:
    found = scores(JUDGED)
    assert found["accuracy"] == 0.5
    assert found["lenient"] == 0.75
    assert found["set_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert found["macro_f1"] == pytest.approx((0 + 0 + 1 + 2 / 3) / 4)
    assert found["unknown_recall"] == 1.0
    assert found["unknown_precision"] == 0.5
    assert found["ece"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4) / 4)
    assert per_class(JUDGED) == {"": pytest.approx(2 / 3), "defect": 0, "delivery": 1, "refund": 0}


def test_figures_are_given_for_each_language_kind_and_way_of_drawing() -> None:
    found = slices(JUDGED)
    assert set(found) == {
        "all", "en", "zh", "review", "query", "en review", "en query", "zh review", "zh query",
        "sampled random", "sampled enriched",
    }  # fmt: skip
    assert len(found["sampled random"]) == 2
    assert scores(found["en"])["accuracy"] == 0.5


def test_without_confidences_there_is_no_calibration_error() -> None:
    assert "ece" not in scores([Judged(("refund",), ("refund",), None)])
    assert reliability([Judged(("refund",), ("refund",), None)]) == []


def test_a_sample_has_the_figures_of_the_texts_that_are_drawn_into_it() -> None:
    weights = np.array([[1.0, 2.0, 1.0, 1.0], [3.0, 1.0, 1.0, 2.0]])
    drawn = Tally(JUDGED).figures(weights)
    for row, times in enumerate(weights.astype(int)):
        sample = [j for j, n in zip(JUDGED, times, strict=True) for _ in range(n)]
        assert {name: values[row] for name, values in drawn.items()} == pytest.approx(scores(sample))


def test_a_sample_that_lacks_a_class_is_judged_by_the_classes_that_it_holds() -> None:
    drawn = Tally(JUDGED).figures(np.array([[0.0, 4.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]]))
    assert drawn["macro_f1"] == pytest.approx([1, (0 + 1) / 2])


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"), [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 0.021484375), (0, 10, 0.001953125)]
)
def test_the_exact_test_of_mcnemar(gained: int, lost: int, p_value: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p_value)
    assert mcnemar(lost, gained) == pytest.approx(p_value)
