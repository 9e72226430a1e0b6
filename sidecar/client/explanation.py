"""Explain: the spans of one text, checked against its length."""

from typing import Any

from sidecar.client.answers import (
    Answer,
    checked_code,
    checked_number,
    checked_taxonomy_digest,
    detail_of,
    model_version,
)
from sidecar.client.channel import Address, Call
from sidecar.client.classification import byte_size, raise_text_error
from sidecar.errors import InternalError
from sidecar.pb.motive_pb2 import ExplainRequest
from sidecar.redact import redact


def explain(plpy: Any, text: str, address: Address, seconds: float) -> Answer:
    """See sidecar.client.explain. Redaction keeps lengths, so that the spans fit the original text."""
    byte_size(text)
    hidden, count = redact(text)
    request = ExplainRequest(text=hidden, redacted=True, redactions=count)
    with Call(address, "Explain", request, seconds) as call:
        return _answer(call.wait(plpy), len(text))._replace(detail=detail_of(call.request_id))


def _answer(response: Any, length: int) -> Answer:
    raise_text_error(response.result)
    for span in response.evidence:
        if not 0 <= span.start < span.stop <= length:
            raise InternalError(f"the sidecar named characters {span.start} to {span.stop} of {length}")
    said = response.model
    return Answer(
        [checked_code(span.motive) for span in response.evidence],
        [checked_number(span.weight) for span in response.evidence],
        [span.start for span in response.evidence],
        [span.stop for span in response.evidence],
        model_version(said.name, said.version, said.digest),
        checked_taxonomy_digest(said.taxonomy_digest),
    )
