"""The figures by which a model is judged, against sums done by hand."""

import pytest

from sidecar.repository import Answer
from trainer.compare import mcnemar
from trainer.scores import Judged, answered, bootstrap, by_slice, per_class, reliability, scores
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
    slices = by_slice(JUDGED)
    assert set(slices) == {
        "all", "en", "zh", "review", "query", "en review", "en query", "zh review", "zh query",
        "sampled random", "sampled enriched",
    }  # fmt: skip
    assert slices["sampled random"]["n"] == 2
    assert slices["en"]["accuracy"] == 0.5


def test_without_confidences_there_is_no_calibration_error() -> None:
    assert "ece" not in scores([Judged(("refund",), ("refund",), None)])
    assert reliability([Judged(("refund",), ("refund",), None)]) == []


def test_a_bootstrap_interval_holds_the_figure_and_narrows_with_more_texts() -> None:
    few, many = bootstrap(JUDGED * 5, rounds=100), bootstrap(JUDGED * 200, rounds=100)
    for low, high in (few["accuracy"], many["accuracy"]):
        assert low <= 0.5 <= high
    assert many["accuracy"][1] - many["accuracy"][0] < few["accuracy"][1] - few["accuracy"][0]
    assert bootstrap(JUDGED * 5, rounds=100) == few


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"), [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 0.021484375), (0, 10, 0.001953125)]
)
def test_the_exact_test_of_mcnemar(gained: int, lost: int, p_value: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p_value)
    assert mcnemar(lost, gained) == pytest.approx(p_value)
