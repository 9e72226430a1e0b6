"""Which words carried each motive of a text, asked of the serving model (sidecar.repository.evidence says how).

A motive of a long text holds where it holds in any window, so that its words are looked for in one: the one that speaks
for it most. The work is a few hundred windows however long the text is, and classify calls go before it.
"""

import numpy as np
from numpy.typing import NDArray

from sidecar.batching import EXPLAIN
from sidecar.classifier import Classifier, aside
from sidecar.errors import InternalError
from sidecar.pb import motive_pb2 as pb
from sidecar.redact import redact
from sidecar.repository.evidence import Span, candidate_spans, evidence, without

Part = tuple[int, int]


async def explain(classifier: Classifier, text: str, *, redacted: bool, deadline: float | None) -> pb.ExplainResponse:
    """The answer for `text` and the spans behind each of its motives; offsets count characters of `text`.

    Raises what Classifier.classify raises.
    """
    (result,) = await classifier.classify([text], redacted=redacted, deadline=deadline)
    response = pb.ExplainResponse(result=result, model=classifier.model)
    if not result.motives:
        return response
    clean = text if redacted else (await aside(redact, text))[0]
    calibration = classifier.repository.calibration
    occluded: dict[Part, tuple[list[Span], NDArray[np.float32]]] = {}
    for motive, part in (await _parts(classifier, clean, [one.motive for one in result.motives], deadline)).items():
        start, stop = part
        if part not in occluded:
            passage = clean[start:stop]
            spans = candidate_spans(passage, classifier.tokenizer.pieces(passage))
            variants = [passage, *(without(passage, span) for span in spans)]
            occluded[part] = spans, await _logits(classifier, variants, deadline)
        response.evidence.extend(
            pb.Evidence(motive=motive, start=start + span.start, stop=start + span.stop, weight=weight)
            for span, weight in evidence(*occluded[part], calibration, motive)
        )
    return response


async def _parts(classifier: Classifier, text: str, motives: list[str], deadline: float | None) -> dict[str, Part]:
    """The part of `text` that speaks most for each motive."""
    parts = await aside(classifier.tokenizer.passages, text)
    if len(parts) == 1:
        return dict.fromkeys(motives, parts[0])
    logits = await _logits(classifier, [text[start:stop] for start, stop in parts], deadline)
    labels = classifier.repository.calibration.labels
    return {motive: parts[int(logits[:, labels.index(motive)].argmax())] for motive in motives}


async def _logits(classifier: Classifier, texts: list[str], deadline: float | None) -> NDArray[np.float32]:
    """Of finite numbers: with any other, a weight would be made up."""
    with classifier.admitted(len(texts)):
        logits = await classifier.logits(texts, priority=EXPLAIN, deadline=deadline)
    if not np.isfinite(logits).all():
        raise InternalError(
            "the model gave no finite number for a part of this text", "Check the model with motive check."
        )
    return logits
