"""From texts to answers: cache, repeated texts, admission, windows of long texts, redaction, numbers that are none."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sidecar import limits
from sidecar.classifier import Classifier
from sidecar.engines.onnx import OnnxEngine
from sidecar.errors import InputError, OverloadError
from sidecar.explain import explain
from sidecar.pb import motive_pb2 as pb
from sidecar.redact import redact
from sidecar.repository import open_repository


@pytest.fixture
async def classifier(tiny_repository: Path) -> AsyncIterator[Classifier]:
    engine = OnnxEngine(open_repository(tiny_repository), threads=1)
    one = Classifier(engine, cache_texts=100, max_admitted_texts=50)
    one.batcher.start()
    yield one
    await one.batcher.close()
    await engine.close()


def first(answer: pb.Classification) -> str:
    return answer.motives[0].motive if answer.motives else "unknown"


async def test_a_repeated_text_is_read_once_and_remembered(classifier: Classifier) -> None:
    answers = await classifier.classify(["cheap", "cheap", "gift", "cheap"])
    assert [first(answer) for answer in answers] == ["price_value", "price_value", "gift", "price_value"]
    await classifier.classify(["gift"])
    assert classifier.metrics.classified._value.get() == 5
    assert classifier.metrics.cached._value.get() == 3


async def test_scalar_array_and_shuffled_batches_agree(classifier: Classifier) -> None:
    """F65 the sidecar's part: an answer does not depend on its neighbours."""
    texts = [f"{a} {b} mouse" for a in ("cheap", "slow phone", "wireless") for b in ("gift", "very fast", "so")]
    alone = np.concatenate([await classifier.logits([text]) for text in texts])
    order = np.random.default_rng(3).permutation(len(texts))
    shuffled = np.empty_like(alone)
    shuffled[order] = await classifier.logits([texts[i] for i in order])
    assert np.abs(await classifier.logits(texts) - alone).max() <= 1e-3
    assert np.abs(shuffled - alone).max() <= 1e-3


async def test_a_motive_at_the_end_of_a_long_text_is_found(classifier: Classifier) -> None:
    text = "wireless mouse " * 300 + "birthday gift"
    assert len(classifier.tokenizer.windows([text])[0]) > 5
    (answer,) = await classifier.classify([text])
    assert "gift" in {scored.motive for scored in answer.motives} or first(answer) == "unknown"
    joined = await classifier.logits([text])
    assert joined[0, 2] == pytest.approx((await classifier.logits(["birthday gift"]))[0, 2], abs=1e-3)


async def test_more_than_is_admitted_is_refused_at_once(classifier: Classifier) -> None:
    """F15 the classifier's part."""
    with classifier.admitted(1), pytest.raises(OverloadError, match="holds 1 texts of at most 50"):
        await classifier.classify([f"cheap {i}" for i in range(50)])
    assert classifier.metrics.refused._value.get() == 50
    assert len(await classifier.classify([f"cheap {i}" for i in range(50)])) == 50
    await asyncio.wait_for(classifier.idle(), 5)


async def test_too_many_texts_are_bad_input_rather_than_overload(classifier: Classifier) -> None:
    """F26 a worker would try an overload for ever."""
    with pytest.raises(InputError):
        await classifier.classify([""] * (limits.MAX_TEXTS + 1))


async def test_personal_data_is_masked_before_the_model_reads_it(classifier: Classifier) -> None:
    await classifier.classify(["cheap, write to a@b.com"])
    await classifier.classify(["cheap, write to ******* "], redacted=True)
    assert classifier.metrics.redactions._value.get() == 1


@pytest.mark.parametrize(("texts", "aside"), [(["cheap"] * 20, False), (["cheap " + "x" * 60_000], True)])
async def test_long_texts_are_redacted_and_tokenized_where_they_hold_nobody_up(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, texts: list[str], aside: bool
) -> None:
    """Health checks and other calls are answered on this thread."""
    seen = []

    def watched(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(said: Any) -> Any:
            seen.append(threading.current_thread())
            return work(said)

        return call

    monkeypatch.setattr("sidecar.classifier.redact", watched(redact))
    monkeypatch.setattr(classifier.tokenizer, "windows", watched(classifier.tokenizer.windows))
    await classifier.classify(texts)
    assert len(seen) == len(texts) + 1
    assert [one is not threading.main_thread() for one in seen] == [aside] * len(seen)


async def test_numbers_that_are_none_fail_their_text_alone(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F27 nothing is guessed from NaN, and nothing remembered."""

    async def logits(texts: list[str], **options: object) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), 7), dtype=np.float32)
        rows[0, 3] = np.nan
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "logits", logits)
        answers = await classifier.classify(["cheap", "gift"])
    assert [answer.error.reason for answer in answers] == [pb.TEXT_ERROR_REASON_NOT_FINITE, 0]
    (again,) = await classifier.classify(["cheap"])
    assert first(again) == "price_value"


@pytest.mark.parametrize(
    ("text", "motive", "words"),
    [
        ("the mouse is very cheap", "price_value", "cheap"),
        ("  a 礼物 for my mouse", "gift", "礼物"),
        ("slow", "performance", "slow"),
    ],
)
async def test_explain_names_the_words_without_which_the_motive_falls(
    text: str, motive: str, words: str, classifier: Classifier
) -> None:
    response = await explain(classifier, text, redacted=True, deadline=None)
    named = [text[one.start : one.stop] for one in response.evidence if one.motive == motive]
    assert words in named
    spans = sorted((one.start, one.stop) for one in response.evidence if one.motive == motive)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


async def test_explain_has_nothing_to_say_of_unknown(classifier: Classifier) -> None:
    response = await explain(classifier, "wireless mouse", redacted=True, deadline=None)
    assert not response.result.motives
    assert not response.evidence


async def test_more_than_is_ever_admitted_is_bad_input(classifier: Classifier) -> None:
    """F26 "try again" would be a lie."""
    with pytest.raises(InputError, match="the limit is 50"):
        await classifier.classify([f"cheap {i}" for i in range(51)])


async def test_explain_is_admitted_like_other_work(classifier: Classifier) -> None:
    """F15 its many variants of a text count as texts."""
    with pytest.raises(OverloadError):
        await explain(classifier, "cheap " + "the mouse is very wireless " * 8, redacted=True, deadline=None)
