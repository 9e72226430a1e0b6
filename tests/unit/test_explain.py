"""Explain: which words are named, and how much it may ask of the model whatever the text is."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar.batching import EXPLAIN, INTERACTIVE
from sidecar.classifier import Classifier
from sidecar.engines.onnx import OnnxEngine
from sidecar.errors import InternalError
from sidecar.explain import explain
from sidecar.repository import open_repository


@pytest.fixture
async def classifier(tiny_repository: Path) -> AsyncIterator[Classifier]:
    engine = OnnxEngine(open_repository(tiny_repository), threads=1)
    one = Classifier(engine, cache_texts=0)
    one.batcher.start()
    yield one
    await one.batcher.close()
    await engine.close()


async def test_a_motive_of_a_long_text_is_explained_by_the_window_that_speaks_for_it_most(
    classifier: Classifier,
) -> None:
    text = "gift " + "mouse wireless very " * 24 + "birthday gift for my mother"
    response = await explain(classifier, text, redacted=True, deadline=None)
    assert len(classifier.tokenizer.passages(text)) > 2
    named = [one for one in response.evidence if one.motive == "gift"]
    assert named
    assert all(one.start >= text.index("birthday") for one in named)


async def test_explaining_a_text_of_any_length_asks_for_a_few_hundred_windows_after_all_classify_calls(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one such call would hold up every other caller for minutes."""
    asked = {INTERACTIVE: 0, EXPLAIN: 0}
    infer = classifier.batcher.infer

    async def counted(windows: Sequence[NDArray[np.int64]], **options: Any) -> NDArray[np.float32]:
        asked[options["priority"]] += len(windows)
        return await infer(windows, **options)

    monkeypatch.setattr(classifier.batcher, "infer", counted)
    text = "gift mouse wireless " * 3_000
    response = await explain(classifier, text, redacted=True, deadline=None)
    assert any("gift" in text[one.start : one.stop] for one in response.evidence)
    passages = len(classifier.tokenizer.passages(text))
    assert asked[INTERACTIVE] <= passages + 1
    assert asked[EXPLAIN] <= passages + 200


async def test_numbers_that_are_none_are_an_error_and_no_weight(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F27 a weight made of NaN would look like any other."""
    logits = classifier.logits

    async def spoilt(texts: Sequence[str], **options: Any) -> NDArray[np.float32]:
        rows = await logits(texts, **options)
        if options.get("priority") == EXPLAIN:
            rows[-1, 0] = np.nan
        return rows

    monkeypatch.setattr(classifier, "logits", spoilt)
    with pytest.raises(InternalError, match="finite"):
        await explain(classifier, "a cheap gift", redacted=True, deadline=None)
