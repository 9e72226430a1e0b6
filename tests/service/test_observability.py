"""Metrics, traces and logs: counted and followed, and never with a text in them."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.fake_triton import FakeTriton
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess, free_port
from tests.fixtures.triton_process import TritonProcess, triton_engine
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

SECRET = "secretword"


def test_metrics_count_texts_cache_abstentions_batches_and_calls(
    run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    sidecar = run_sidecar(f"onnx:{tiny_repository}", metrics=True).wait_serving()
    stub = sidecar.stub()
    texts = [f"cheap {SECRET}", "wireless mouse", f"cheap {SECRET}", "call me: 415-555-0132", "x" * 70_000]
    stub.Classify(pb.ClassifyRequest(texts=texts), timeout=20)
    stub.Classify(pb.ClassifyRequest(texts=texts[:1]), timeout=20)
    with pytest.raises(grpc.RpcError):
        stub.Classify(pb.ClassifyRequest(), timeout=20)
    metric = sidecar.metric
    assert metric("motive_texts_total") == 6
    assert metric("motive_cached_texts_total") >= 2
    assert metric("motive_abstained_texts_total") == 2
    assert metric("motive_failed_texts_total") == 1
    assert metric("motive_redactions_total") == 1
    assert metric("motive_held_texts") == 0
    assert metric("motive_calls_total", method="Classify", status="OK") == 2
    assert metric("motive_calls_total", method="Classify", status="INVALID_ARGUMENT") == 1
    assert metric("motive_call_seconds_count", method="Classify") == 3
    assert metric("motive_batch_rows_count") >= 1
    assert metric("motive_model") == 1
    wait_until(lambda: metric("motive_ready"), lambda ready: ready == 1, 20, "the engine to be shown ready")
    wait_until(lambda: "motive_breaker_state{" in _page(sidecar.metrics_port), bool, 20, "the breaker to be shown")
    assert SECRET not in _page(sidecar.metrics_port)


def _page(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_json_logs_are_one_object_a_line_without_a_text_or_a_call_that_succeeded(
    run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    sidecar = run_sidecar(f"onnx:{tiny_repository}", flags=["--log-format", "json"]).wait_serving()
    sidecar.classify(f"cheap {SECRET}")
    sidecar.terminate()
    assert sidecar.wait() == 0
    lines = [json.loads(line) for line in sidecar.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert any("serving motive@" in line["message"] for line in lines)
    assert all("request " not in line["message"] for line in lines), "calls that succeed are not logged"
    assert SECRET not in sidecar.log()


@pytest.mark.postgres
def test_a_call_that_failed_in_sql_is_found_in_the_sidecars_log_by_the_id_in_its_detail(
    run_sidecar: RunSidecar, fresh_database: str, fake_triton: FakeTriton, tiny_repository: Path
) -> None:
    """53000, 22023 and 57014, each with one line; the text is in none."""
    engine = f"triton://{fake_triton.address}/motive?repository={tiny_repository}"
    flags = ["--log-format", "json", "--max-admitted-texts", "1"]
    listen = f"127.0.0.1:{free_port()}"
    sidecar = run_sidecar(engine, listen=listen, metrics=True, flags=flags).wait_serving()
    with psycopg.connect(fresh_database, autocommit=True) as session:
        session.execute("create extension pg_motive cascade")
        session.execute("update motive.settings set target = %s", [sidecar.target])
        session.execute("select motive.load_model()")

        def failed(sqlstate: str, *texts: str) -> str:
            """The request id of a call that ends so."""
            with pytest.raises(psycopg.Error) as caught:
                session.execute("select classify_motive(%s::text[])", [list(texts)])
            assert caught.value.sqlstate == sqlstate
            found = re.fullmatch(r"Request id (pg-\d+-[0-9a-f]{8})\.", caught.value.diag.message_detail or "")
            assert found is not None, caught.value.diag.message_detail
            assert found[1].startswith(f"pg-{session.info.backend_pid}-")
            return found[1]

        invalid = failed("22023", SECRET, "cheap")
        with fake_triton.hang():
            held = sidecar.stub().Classify.future(pb.ClassifyRequest(texts=["gift"]), timeout=60)
            assert fake_triton.waiting.wait(20), "the only place to be taken"
            overload = failed("53000", SECRET)
        held.result()
        wait_until(lambda: sidecar.metric("motive_held_texts"), lambda held: held == 0, 20, "the place to be free")
        session.execute("update motive.settings set deadline_ms = 1000")
        with fake_triton.hang():
            late = failed("57014", SECRET)
    assert _line(sidecar, overload) == ("warning", "Classify", "RESOURCE_EXHAUSTED")
    assert _line(sidecar, invalid) == ("info", "Classify", "INVALID_ARGUMENT")
    # Whose clock is first: the caller's, which cancels, or the sidecar's own.
    assert _line(sidecar, late)[2] in ("CANCELLED", "DEADLINE_EXCEEDED")
    assert SECRET not in sidecar.log()


def _line(sidecar: SidecarProcess, request_id: str) -> tuple[str, str, str]:
    """Level, method and status of the one line about a call."""
    lines = wait_until(
        lambda: [line for line in sidecar.log().splitlines() if request_id in line], bool, 10, "the call in the log"
    )
    (entry,) = map(json.loads, lines)
    assert entry["request_id"] == request_id
    said = re.fullmatch(rf"request {request_id}: (\w+) (\w+) in \d+ ms", entry["message"])
    assert said is not None, entry["message"]
    return entry["level"], said[1], said[2]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:
        with self._lock:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[str, Collector]]:
    port, one = free_port(), Collector()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(one, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield f"127.0.0.1:{port}", one
    server.stop(None).wait(10)


def test_a_trace_goes_on_from_the_caller_through_the_sidecar_to_triton(
    run_sidecar: RunSidecar, tiny_triton: TritonProcess, tiny_repository: Path, collector: tuple[str, Collector]
) -> None:
    """Off by default; when on, a span for the call under the caller's, with counts and no text."""
    address, seen = collector
    engine = triton_engine([tiny_triton], tiny_repository)
    sidecar = run_sidecar(engine, flags=["--traces", address]).wait_serving()
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"), ("x-request-id", "traced-1"))
    sidecar.stub().Classify(pb.ClassifyRequest(texts=[f"cheap {SECRET}"]), timeout=20, metadata=metadata)
    sidecar.terminate()
    assert sidecar.wait() == 0
    names = {span.name: span for span in seen.spans}
    call = names["motive.v1/Classify"]
    assert call.trace_id.hex() == trace
    assert call.parent_span_id.hex() == "b7ad6b7169203331"
    assert "triton" in names
    assert all(SECRET not in str(span) for span in seen.spans)


def test_a_listening_port_for_metrics_beyond_loopback_is_refused(
    run_sidecar: RunSidecar, tiny_repository: Path
) -> None:
    sidecar = run_sidecar(f"onnx:{tiny_repository}", flags=["--metrics", "0.0.0.0:0"])
    assert sidecar.wait() == 1
    assert "would be open to other machines" in sidecar.log()
