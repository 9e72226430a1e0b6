"""motive.v1.Motive as proto/motive.proto describes it: a thin skin over the model that is served."""

import time
from typing import Any

import grpc
import grpc.aio

from sidecar import __version__, limits
from sidecar.batching import BACKFILL, INTERACTIVE
from sidecar.classifier import Classifier
from sidecar.engines import Backend
from sidecar.errors import InputError, VersionError
from sidecar.explain import explain
from sidecar.health import Health
from sidecar.model_switch import ModelSwitch
from sidecar.pb import motive_pb2 as pb
from sidecar.pb import motive_pb2_grpc as pb_grpc
from sidecar.repository import Motive

SERVICE = "motive.v1.Motive"

Context = grpc.aio.ServicerContext[Any, Any]

_BREAKER = {
    "closed": pb.BREAKER_STATE_CLOSED,
    "half_open": pb.BREAKER_STATE_HALF_OPEN,
    "open": pb.BREAKER_STATE_OPEN,
}


class MotiveService(pb_grpc.MotiveServicer):
    """Each call takes the model once, so that its answer is one model's whatever is switched meanwhile."""

    def __init__(self, models: ModelSwitch, health: Health, *, redact: bool) -> None:
        self._models = models
        self._health = health
        self._redact = redact

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """One result per text, in order, all from one model version."""
        if not request.texts:
            raise InputError("the request has no texts", "Send at least one.")
        classifier = self._models.current
        _check_model(classifier, request.require_model)
        classifier.metrics.redactions.inc(request.redactions)
        results = await classifier.classify(
            request.texts,
            redacted=request.redacted or not self._redact,
            priority=BACKFILL if request.priority == pb.PRIORITY_BACKFILL else INTERACTIVE,
            deadline=_deadline(context),
        )
        return pb.ClassifyResponse(results=results, model=classifier.model)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """The motives of one text and the words behind them."""
        classifier = self._models.current
        classifier.metrics.redactions.inc(request.redactions)
        redacted = request.redacted or not self._redact
        return await explain(classifier, request.text, redacted=redacted, deadline=_deadline(context))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """The model that answers, with its taxonomy, and what it computes on."""
        classifier = self._models.current
        taxonomy = classifier.repository.taxonomy
        return pb.GetModelResponse(
            model=classifier.model,
            taxonomy=[_entry(motive, False) for motive in taxonomy.motives] + [_entry(taxonomy.abstention, True)],
            engine=classifier.engine.name,
            max_texts=limits.MAX_TEXTS,
            max_text_bytes=limits.MAX_TEXT_BYTES,
            max_message_bytes=limits.MAX_MESSAGE_BYTES,
            server_version=__version__,
            ready=self._health.serving,
            backends=[_backend(backend) for backend in classifier.engine.backends()],
            release_error=self._models.error,
            release_refused=self._models.refused,
        )


def _entry(motive: Motive, abstention: bool) -> pb.TaxonomyEntry:
    return pb.TaxonomyEntry(**vars(motive), abstention=abstention)


def _backend(backend: Backend) -> pb.Backend:
    return pb.Backend(
        address=backend.address,
        breaker=_BREAKER[backend.breaker],
        reason=backend.reason,
        batches=backend.batches,
    )


def _deadline(context: Context) -> float | None:
    """The call's deadline in time.monotonic() seconds; None where the caller set none."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _check_model(classifier: Classifier, required: str) -> None:
    if required and required != classifier.repository.model_version:
        raise VersionError(
            f"model {required!r} is asked for, {classifier.repository.model_version!r} is served",
            "Ask again without require_model, or serve the model that is asked for.",
        )
