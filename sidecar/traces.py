"""Traces for OpenTelemetry: off unless asked for, and then one span per call and one per batch sent to Triton.

Spans carry counts, ids and the class of an error, never a text or a message. The packages come with the extra `traces`;
when off, none is imported.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sidecar import __version__
from sidecar.errors import ConfigError

_tracer: Any = None


@contextmanager
def traces(collector: str) -> Iterator[None]:
    """Sends spans to the OTLP/gRPC collector at `HOST:PORT` until the block ends; on an empty address, none."""
    global _tracer
    if not collector:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError("traces need OpenTelemetry's packages", "pip install '.[traces]'.") from None
    provider = TracerProvider(
        resource=Resource.create({"service.name": "motive-sidecar", "service.version": __version__})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"http://{collector}", insecure=True)))
    _tracer = provider.get_tracer("sidecar")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()


@contextmanager
def span(name: str, parent: Mapping[str, str] | None = None, **attributes: str | int) -> Iterator[None]:
    """A span around the block; `parent` holds the caller's `traceparent`, where it sent one. Costs nothing when off."""
    if _tracer is None:
        yield
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import Status, StatusCode

    context = extract(parent) if parent else None
    # What the library would record of an exception is its message and stack, which may quote what was being read.
    with _tracer.start_as_current_span(
        name, context=context, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as one:
        try:
            yield
        except BaseException as error:
            one.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def headers() -> dict[str, str]:
    """What makes the next server's spans part of this trace; empty when off."""
    if _tracer is None:
        return {}
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier
