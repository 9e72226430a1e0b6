"""Which words carried each motive of a text, asked of the serving model (sidecar.repository.evidence says how)."""

from sidecar.classifier import Classifier
from sidecar.pb import motive_pb2 as pb
from sidecar.redact import redact
from sidecar.repository.evidence import candidate_spans, evidence, without


async def explain(classifier: Classifier, text: str, *, redacted: bool, deadline: float | None) -> pb.ExplainResponse:
    """The answer for `text` and the spans behind each of its motives; offsets count characters of `text`.

    Raises what Classifier.classify raises.
    """
    (result,) = await classifier.classify([text], redacted=redacted, deadline=deadline)
    response = pb.ExplainResponse(result=result, model=classifier.model)
    if not result.motives:
        return response
    clean = text if redacted else redact(text)[0]
    spans = candidate_spans(clean, classifier.tokenizer.pieces(clean))
    variants = [clean, *(without(clean, span) for span in spans)]
    with classifier.admitted(len(variants)):
        logits = await classifier.logits(variants, deadline=deadline)
    for scored in result.motives:
        response.evidence.extend(
            pb.Evidence(motive=scored.motive, start=span.start, stop=span.stop, weight=weight)
            for span, weight in evidence(spans, logits, classifier.repository.calibration, scored.motive)
        )
    return response
