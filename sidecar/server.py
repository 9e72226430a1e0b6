"""The gRPC server: motive.v1, health and reflection, over a Unix socket or TCP, until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sidecar import limits
from sidecar.config import Settings, parse_address
from sidecar.engines.open import open_engine
from sidecar.errors import ConfigError
from sidecar.health import Health
from sidecar.interceptors import CallInterceptor
from sidecar.metrics import Metrics
from sidecar.metrics_server import metrics_server
from sidecar.model_switch import ModelSwitch
from sidecar.pb import motive_pb2_grpc as pb_grpc
from sidecar.service import SERVICE, MotiveService
from sidecar.socket_lock import open_to_group, owned_socket
from sidecar.tls import CertificateFiles, server_credentials
from sidecar.tokens import TokenFile, TokenInterceptor
from sidecar.traces import traces

__all__ = ["open_engine", "serve"]

READY_INTERVAL_S = 1.0
_STREAMS_GRACE_S = 0.2

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains: health says NOT_SERVING first, calls in flight finish."""
    with contextlib.ExitStack() as stack:
        if settings.socket_path is not None:
            stack.enter_context(owned_socket(settings.socket_path))
        stack.enter_context(traces(settings.traces))
        metrics = Metrics()
        models = ModelSwitch(settings, metrics)
        stack.enter_context(metrics_server(settings.metrics, metrics.registry))
        await models.start()
        # What is there now stays: a collection that looks through the model's objects would be felt in somebody's call.
        gc.freeze()
        try:
            await _run(settings, models, metrics)
        finally:
            await models.close()


async def _run(settings: Settings, models: ModelSwitch, metrics: Metrics) -> None:
    calls = CallInterceptor(metrics)
    tokens = [TokenInterceptor(TokenFile(settings.token_file))] if settings.token_file else []
    server = grpc.aio.server(
        interceptors=[*tokens, calls],
        options=[
            # Twice what is allowed, so that a message somewhat too big is answered by us, and rightly.
            ("grpc.max_receive_message_length", 2 * limits.MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", limits.MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    health = Health(SERVICE)
    pb_grpc.add_MotiveServicer_to_server(  # type: ignore[no-untyped-call]
        MotiveService(models, health, redact=settings.redact), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    address = _bind(server, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    if settings.socket_path is not None:
        open_to_group(settings.socket_path, settings.socket_group)
    watch = asyncio.create_task(_watch(models, health, metrics))
    log.info("serving %s on %s with %s", models.current.repository.model_version, address, settings.engine)
    await stop.wait()
    log.info("draining: calls in flight have %.0f s", settings.drain_grace_s)
    watch.cancel()
    health.drain()
    await _drain(server, calls, settings.drain_grace_s)


async def _drain(server: grpc.aio.Server, calls: CallInterceptor, grace_s: float) -> None:
    """Refuses new calls, lets those in flight finish, and ends streams that would never end by themselves."""
    stopping = asyncio.create_task(server.stop(grace_s))
    await asyncio.wait([stopping, asyncio.create_task(calls.idle())], return_when=asyncio.FIRST_COMPLETED)
    await server.stop(_STREAMS_GRACE_S)
    await stopping


def _bind(server: grpc.aio.Server, settings: Settings) -> str:
    """Binds and returns the address bound, its port chosen by the system where it was 0."""
    before = os.umask(0o117)
    try:
        if settings.socket_path is not None:
            server.add_insecure_port(settings.listen)
            return settings.listen
        host, _ = parse_address(settings.listen, "listen")
        if settings.tls_cert:
            files = CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
            port = server.add_secure_port(settings.listen, server_credentials(files))
        else:
            port = server.add_insecure_port(settings.listen)
        return f"{host}:{port}"
    except RuntimeError:
        raise ConfigError(f"cannot listen on {settings.listen}", "Is the port taken? Choose another.") from None
    finally:
        os.umask(before)


async def _watch(models: ModelSwitch, health: Health, metrics: Metrics) -> None:
    """Keeps health in step with the engine, SERVING by itself once that answers, and the model with the releases."""
    while True:
        try:
            await models.look()
            engine = models.current.engine
            ready = await engine.ready()
            health.set(ready)
            metrics.show_backends(ready, engine.backends())
        # The watch must outlive whatever one look meets; the next look is a second away.
        except Exception as error:
            log.error("cannot see whether the engine is ready: %s", type(error).__name__)
            health.set(False)
            metrics.ready.set(False)
        await asyncio.sleep(READY_INTERVAL_S)
