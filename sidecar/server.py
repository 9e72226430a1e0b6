"""The gRPC server: motive.v1, health and reflection, over a Unix socket or TCP, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection

from sidecar import __version__, limits
from sidecar.batching import BACKFILL, INTERACTIVE
from sidecar.classifier import Classifier
from sidecar.config import Settings, parse_address
from sidecar.engines import Engine
from sidecar.engines.onnx import OnnxEngine
from sidecar.errors import ConfigError, InputError, VersionError
from sidecar.explain import explain
from sidecar.interceptors import CallInterceptor
from sidecar.metrics import Metrics
from sidecar.pb import motive_pb2 as pb
from sidecar.pb import motive_pb2_grpc as pb_grpc
from sidecar.repository import Motive, RepositoryError, TaxonomyError, open_repository
from sidecar.socket_lock import open_to_group, owned_socket

SERVICE = "motive.v1.Motive"
READY_INTERVAL_S = 1.0

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class MotiveService(pb_grpc.MotiveServicer):
    """motive.v1.Motive as proto/motive.proto describes it; a thin skin over the classifier."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self._classifier = classifier
        self._settings = settings

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """One result per text, in order, all from one model version."""
        if not request.texts:
            raise InputError("the request has no texts", "Send at least one.")
        classifier = self._classifier
        _check_model(classifier, request.require_model)
        classifier.metrics.redactions.inc(request.redactions)
        results = await classifier.classify(
            request.texts,
            redacted=request.redacted or not self._settings.redact,
            priority=BACKFILL if request.priority == pb.PRIORITY_BACKFILL else INTERACTIVE,
            deadline=_deadline(context),
        )
        return pb.ClassifyResponse(results=results, model=classifier.model)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """The motives of one text and the words behind them."""
        classifier = self._classifier
        classifier.metrics.redactions.inc(request.redactions)
        redacted = request.redacted or not self._settings.redact
        return await explain(classifier, request.text, redacted=redacted, deadline=_deadline(context))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """The model that answers, with its taxonomy."""
        taxonomy = self._classifier.repository.taxonomy
        return pb.GetModelResponse(
            model=self._classifier.model,
            taxonomy=[_entry(motive, False) for motive in taxonomy.motives] + [_entry(taxonomy.abstention, True)],
            engine=self._classifier.engine.name,
            max_texts=limits.MAX_TEXTS,
            max_text_bytes=limits.MAX_TEXT_BYTES,
            max_message_bytes=limits.MAX_MESSAGE_BYTES,
            server_version=__version__,
        )


def _entry(motive: Motive, abstention: bool) -> pb.TaxonomyEntry:
    return pb.TaxonomyEntry(**vars(motive), abstention=abstention)


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


def open_engine(settings: Settings) -> Engine:
    """The engine that `settings.engine` names; raises ConfigError with the remedy."""
    if settings.engine.startswith("triton://"):
        raise ConfigError("the Triton engine is not part of this version", "Use onnx:PATH.")
    try:
        repository = open_repository(Path(settings.engine.removeprefix("onnx:")))
    except (RepositoryError, TaxonomyError) as error:
        raise ConfigError(str(error), "Correct --engine.") from None
    return OnnxEngine(repository, threads=settings.threads)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains: health says NOT_SERVING first, calls in flight finish."""
    with contextlib.ExitStack() as stack:
        if settings.socket_path is not None:
            stack.enter_context(owned_socket(settings.socket_path))
        metrics = Metrics()
        engine = open_engine(settings)
        classifier = Classifier(
            engine,
            cache_texts=settings.cache_texts,
            max_admitted_texts=settings.max_admitted_texts,
            metrics=metrics,
        )
        classifier.batcher.start()
        await _run(settings, classifier, metrics)
        await classifier.batcher.close()
        await engine.close()


async def _run(settings: Settings, classifier: Classifier, metrics: Metrics) -> None:
    server = grpc.aio.server(
        interceptors=[CallInterceptor(metrics)],
        options=[
            ("grpc.max_receive_message_length", limits.MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    pb_grpc.add_MotiveServicer_to_server(  # type: ignore[no-untyped-call]
        MotiveService(classifier, settings), server
    )
    health_service = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    address = _bind(server, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    if settings.socket_path is not None:
        open_to_group(settings.socket_path, settings.socket_group)
    watch = asyncio.create_task(_watch(classifier.engine, health_service))
    log.info("serving %s on %s with %s", classifier.repository.model_version, address, settings.engine)
    await stop.wait()
    log.info("draining: calls in flight have %.0f s", settings.drain_grace_s)
    watch.cancel()
    await health_service.enter_graceful_shutdown()
    await server.stop(settings.drain_grace_s)


def _bind(server: grpc.aio.Server, settings: Settings) -> str:
    """Binds and returns the address bound, its port chosen by the system where it was 0."""
    before = os.umask(0o117)
    try:
        if settings.socket_path is not None:
            server.add_insecure_port(settings.listen)
            return settings.listen
        host, _ = parse_address(settings.listen, "listen")
        port = server.add_insecure_port(settings.listen)
        return f"{host}:{port}"
    except RuntimeError:
        raise ConfigError(f"cannot listen on {settings.listen}", "Is the port taken? Choose another.") from None
    finally:
        os.umask(before)


async def _watch(engine: Engine, health_service: health.HealthServicer) -> None:
    """Keeps health in step with the engine: SERVING by itself once the engine answers."""
    while True:
        ready = await engine.ready()
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await health_service.set(name, status)
        await asyncio.sleep(READY_INTERVAL_S)
