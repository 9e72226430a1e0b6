"""Classify: splits texts into requests, keeps two on their way, and puts the answers back in order."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from sidecar import limits
from sidecar.client.answers import (
    ABSTENTION,
    Answer,
    checked_code,
    checked_number,
    checked_taxonomy_digest,
    detail_of,
    model_version,
)
from sidecar.client.channel import Address, Call
from sidecar.errors import InputError, InternalError, VersionError
from sidecar.pb.motive_pb2 import TEXT_ERROR_REASON_NOT_FINITE, ClassifyRequest
from sidecar.redact import redact

Positions = list[int]


def classify(plpy: Any, texts: list[str | None], every: bool, address: Address, seconds: float) -> Answer:
    """See sidecar.client.classify."""
    motives: list[str | None] = [None] * len(texts)
    confidences: list[float | None] = [None] * len(texts)
    model: tuple[str, bytes] | None = None
    detail: str | None = None
    running: deque[tuple[Positions, int, Call]] = deque()
    requests = _requests(texts)
    try:
        while True:
            while len(running) < limits.CLIENT_REQUESTS_IN_FLIGHT and (following := next(requests, None)) is not None:
                positions, request, share = following
                # A later request waits behind the earlier ones; its time is longer by as much.
                allowed = seconds * (share + sum(other for _, other, _ in running))
                running.append((positions, share, Call(address, "Classify", request, allowed)))
            if not running:
                break
            positions, _, call = running[0]
            with call:
                response = call.wait(plpy)
                running.popleft()
                detail = detail_of(call.request_id)
                model = _same_model(model, response)
                results = _results(response, len(positions))
                for position, result in zip(positions, results, strict=True):
                    raise_text_error(result, position + 1)
                if every:
                    return _every(results[0], *model, detail)
                for position, result in zip(positions, results, strict=True):
                    motives[position] = checked_code(result.motives[0].motive) if result.motives else ABSTENTION
                    confidences[position] = checked_number(result.confidence)
    finally:
        for _, _, call in running:
            call.cancel()
    if model is None:  # every text was NULL
        return Answer(motives, confidences)
    return Answer(motives, confidences, model=model[0], taxonomy_digest=model[1], detail=detail)


def _requests(texts: list[str | None]) -> Iterator[tuple[Positions, ClassifyRequest, int]]:
    """The texts that are not None in requests, each with the positions of its texts and its share of deadlines."""
    positions: Positions = []
    request, size = ClassifyRequest(redacted=True), 0
    for position, text in enumerate(texts):
        if text is None:
            continue
        bytes_ = byte_size(text, position + 1)
        if positions and (len(positions) >= limits.CLIENT_BATCH_TEXTS or size + bytes_ > limits.CLIENT_BATCH_BYTES):
            yield positions, request, _deadlines(len(positions), size)
            positions, request, size = [], ClassifyRequest(redacted=True), 0
        hidden, count = redact(text)
        positions.append(position)
        request.texts.append(hidden)
        request.redactions += count
        size += bytes_
    if positions:
        yield positions, request, _deadlines(len(positions), size)


def _deadlines(texts: int, size: int) -> int:
    """How many deadlines a request of so many texts and bytes may take; one text always takes one."""
    if texts == 1:
        return 1
    return max(-(-texts // limits.CLIENT_TEXTS_PER_DEADLINE), -(-size // limits.CLIENT_BYTES_PER_DEADLINE))


def byte_size(text: str, position: int = 0) -> int:
    """UTF-8 bytes of `text`. Raises InputError, naming `position`, when it is longer than one text may be."""
    size = len(text.encode())
    if size > limits.MAX_TEXT_BYTES:
        raise InputError(
            f"the text has {size} bytes; one text may have {limits.MAX_TEXT_BYTES}",
            "Shorten the text, or classify its parts; the limits are in motive.limits.",
            position=position,
        )
    return size


def _same_model(model: tuple[str, bytes] | None, response: Any) -> tuple[str, bytes]:
    said = response.model
    now = model_version(said.name, said.version, said.digest), checked_taxonomy_digest(said.taxonomy_digest)
    if model is not None and model[1] != now[1]:
        raise VersionError(
            "the sidecar changed to a model with another taxonomy during the call", "Run the call again."
        )
    return now


def _results(response: Any, expected: int) -> Any:
    if len(response.results) != expected:
        raise InternalError(f"the sidecar answered {len(response.results)} texts of {expected}")
    return response.results


def raise_text_error(result: Any, position: int = 0) -> None:
    """Raises InputError or InternalError where the sidecar could not classify this text alone."""
    if result.HasField("error"):
        message = " ".join(result.error.message.replace("\0", "").split())[:300]
        raised = InternalError if result.error.reason == TEXT_ERROR_REASON_NOT_FINITE else InputError
        raise raised(message or "the sidecar could not classify the text", position=position)


def _every(result: Any, model: str, taxonomy_digest: bytes, detail: str) -> Answer:
    motives: list[str | None] = [checked_code(scored.motive) for scored in result.motives]
    confidences: list[float | None] = [checked_number(scored.confidence) for scored in result.motives]
    if not motives:
        motives, confidences = [ABSTENTION], [checked_number(result.confidence)]
    return Answer(motives, confidences, model=model, taxonomy_digest=taxonomy_digest, detail=detail)
