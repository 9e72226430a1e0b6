"""How sure a figure is: intervals over resampled texts."""

import numpy as np
import pytest

from trainer.intervals import bootstrap, class_bootstrap, difference, measured
from trainer.scores import Judged, Tally, per_class, scores

GOOD = Judged(("refund",), ("refund",), 0.75)
BAD = Judged(("defect",), ("refund",), 0.75)
SILENT = Judged((), (), 0.75)


def test_an_interval_holds_the_figure_and_narrows_with_more_texts() -> None:
    few, many = bootstrap([GOOD, BAD] * 10, rounds=200), bootstrap([GOOD, BAD] * 200, rounds=200)
    for low, high in (few["accuracy"], many["accuracy"]):
        assert low <= 0.5 <= high
    assert many["accuracy"][1] - many["accuracy"][0] < few["accuracy"][1] - few["accuracy"][0]
    assert bootstrap([GOOD, BAD] * 10, rounds=200) == few


def test_the_interval_of_a_perfect_model_holds_its_figure_however_rare_the_classes() -> None:
    perfect = [Judged((code,), (code,), 0.75) for code in ("refund", "defect", "delivery", "price", "gift")]
    assert scores(perfect)["macro_f1"] == 1.0
    assert bootstrap(perfect, rounds=200)["macro_f1"] == (1.0, 1.0)


def test_every_figure_and_every_class_has_an_interval() -> None:
    judged = [GOOD, BAD, SILENT] * 10
    found = measured(judged, rounds=50)
    assert set(found.intervals) == set(scores(judged)) - {"n"}
    assert set(class_bootstrap(judged, rounds=50)) == set(per_class(judged))
    assert found.cell("n") == "30"
    assert found.cell("accuracy").startswith("0.667 (0.")
    assert found.cell("nothing") == ""


def test_blocks_of_samples_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap([GOOD, BAD, SILENT] * 10, rounds=50)
    monkeypatch.setattr("trainer.intervals.AT_ONCE", 100)
    blocks = bootstrap([GOOD, BAD, SILENT] * 10, rounds=50)
    assert all(interval == pytest.approx(whole[name]) for name, interval in blocks.items())


def test_the_interval_of_the_calibration_error_makes_up_for_what_chance_adds_to_it() -> None:
    """The model is just as sure as it is right: all of its error is chance."""
    random = np.random.default_rng(4)
    sure = random.uniform(0.2, 1.0, 400)
    judged = [
        Judged(("refund",), ("refund",) if right else ("defect",), float(p))
        for p, right in zip(sure, random.random(400) < sure, strict=True)
    ]
    low, high = bootstrap(judged, rounds=200)["ece"]
    drawn = Tally(judged).figures(random.multinomial(400, [1 / 400] * 400, 200).astype(float))["ece"]
    assert 0 <= low < scores(judged)["ece"] < high
    assert (low + high) / 2 < drawn.mean() - 0.01


def test_a_calibration_error_that_is_nothing_by_chance_is_not_certain() -> None:
    judged = [GOOD, GOOD, GOOD, BAD] * 10
    assert scores(judged)["ece"] == 0
    low, high = bootstrap(judged, rounds=200)["ece"]
    assert low == 0
    assert high > 0.05


def test_two_models_are_compared_on_the_same_samples() -> None:
    better, worse = [GOOD, SILENT, GOOD, BAD] * 25, [GOOD, SILENT, BAD, BAD] * 25
    none = difference(better, better, rounds=100)
    assert (none.value, none.interval) == (0.0, (0.0, 0.0))
    lead = difference(better, worse, figure="accuracy", rounds=200)
    assert lead.value == pytest.approx(0.25)
    assert 0.1 < lead.interval[0] < 0.25 < lead.interval[1] < 0.4
    assert str(lead).startswith("+0.250 (+0.")
