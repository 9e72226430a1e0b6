"""Evidence that is left out should take its motive with it: the check sees it where it does, and where it does not."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar.repository.evidence import Span, apart, candidate_spans, without
from tests.fixtures.tiny_model import write_tiny_model
from tests.unit.trainer.conftest import run
from trainer.answer import Model, open_model
from trainer.evidence import check_evidence, drawn
from trainer.texts import Example, write_examples

TEXTS = ("the mouse is cheap and wireless", "my mother is very fast", "the wireless mouse", "a 礼物 for my mother")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose motives hang on single words."""
    return open_model(write_tiny_model(tmp_path_factory.mktemp("model") / "motive"))


def unseen(done: int, total: int) -> None:
    """No progress bar."""


def test_a_motive_that_hangs_on_a_word_falls_without_it(model: Model) -> None:
    found = check_evidence(model, TEXTS, unseen)
    assert (found.texts, found.named, found.lowered) == (3, 3, 3)
    assert found.share == 1.0
    assert found.by_chance < found.lowered
    assert found.fall > found.fall_by_chance
    assert found == check_evidence(model, TEXTS, unseen)


def test_texts_without_a_motive_are_not_counted(model: Model) -> None:
    found = check_evidence(model, ["the wireless mouse", ""], unseen)
    assert (found.texts, found.share) == (0, 0.0)
    assert check_evidence(model, [], unseen) == found


def test_a_motive_that_does_not_hang_on_the_words_is_found_out(model: Model) -> None:
    """A model that says the more for every word that is missing: no evidence is any."""
    calibration = dataclasses.replace(model.repository.calibration, abstention_bias=-1e6)

    class Contrary(Model):
        def clean_logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
            rows = np.zeros((len(texts), 7), np.float32)
            rows[:, 0] = rows[:, 3] = [5.0 - len(text.split()) / 10 for text in texts]
            return rows

    contrary = Contrary(dataclasses.replace(model.repository, calibration=calibration), model.tokenizer, model.infer)
    found = check_evidence(contrary, TEXTS, unseen)
    assert (found.texts, found.named, found.lowered, found.share) == (4, 0, 0, 0.0)


def test_chance_draws_as_many_spans_of_the_same_lengths_that_do_not_overlap() -> None:
    spans = [Span(i, i + size, size) for size in (1, 2) for i in range(9)]
    found = [Span(0, 2, 2), Span(4, 5, 1), Span(6, 7, 1)]
    for seed in range(20):
        result = drawn(found, spans, random.Random(seed))
        assert [span.units for span in result] == [2, 1, 1]
        assert all(apart(a, b) for i, a in enumerate(result) for b in result[:i])
    assert drawn([Span(0, 9, 9)], spans, random.Random(1)) == []


def test_a_text_of_which_no_token_stands_for_anything_has_no_spans() -> None:
    assert candidate_spans(" ", []) == []


def test_spans_are_left_out_together_each_for_a_blank() -> None:
    assert without("a bc def", Span(0, 1, 1), Span(5, 8, 1)) == "  bc  "
    assert without("a bc def", Span(5, 8, 1), Span(0, 1, 1)) == "  bc  "
    assert without("a bc") == "a bc"


@pytest.mark.filterwarnings("ignore")
def test_evaluate_reports_the_evidence_on_request(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (("price_value",), ("performance",), (), ("gift",))
    write_examples(tmp_path / "held.jsonl", [Example(t, m, "en") for t, m in zip(TEXTS, labels, strict=True)])
    arguments = ("evaluate", model.repository.path, tmp_path / "held.jsonl", "--rounds", 20, "--to", tmp_path / "to")
    assert run(*arguments) == 0
    assert "evidence" not in json.loads((tmp_path / "to" / "figures.json").read_text())
    assert run(*arguments, "--evidence") == 0
    sentence = "Without its evidence the first motive falls in 100.0% of the 3 texts that have one"
    assert sentence in capsys.readouterr().out
    assert sentence in (tmp_path / "to" / "MODEL_CARD.md").read_text()
    assert sentence in (tmp_path / "to" / "report.html").read_text()
    assert json.loads((tmp_path / "to" / "figures.json").read_text())["evidence"]["share"] == 1.0
