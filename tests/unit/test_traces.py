"""A span says that something failed and what kind of thing, and nothing of what was read."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sidecar import traces


def test_a_span_that_fails_names_the_class_of_the_error_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    with pytest.raises(ValueError, match="secretword"), traces.span("call", rows=1):
        raise ValueError("secretword")
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.status.description == "ValueError"
    assert not span.status.is_ok
    assert "secretword" not in span.to_json()
