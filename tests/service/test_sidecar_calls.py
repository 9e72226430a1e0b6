"""motive.v1 as callers see it, on one running sidecar: answers, stock tools, refusals, and nothing leaking out."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sidecar import limits
from sidecar.interceptors import CallInterceptor
from sidecar.metrics import Metrics
from sidecar.pb import motive_pb2 as pb
from sidecar.pb.motive_pb2_grpc import MotiveServicer, MotiveStub, add_MotiveServicer_to_server
from tests.fixtures.sidecar_process import SERVING, SidecarProcess

SECRET = "/home/somebody/secret.txt: my card is 4111"


def test_motives_come_in_the_order_of_the_texts(shared_sidecar: SidecarProcess) -> None:
    texts = ("a cheap phone", "wireless mouse", "礼物", "birthday", "  ", "")
    assert shared_sidecar.classify(*texts) == ["price_value", "unknown", "gift", "gift", "unknown", "unknown"]


def test_one_bad_text_fails_alone(shared_sidecar: SidecarProcess) -> None:
    too_long = "x" * (limits.MAX_TEXT_BYTES + 1)
    response = shared_sidecar.stub().Classify(pb.ClassifyRequest(texts=["cheap", too_long, "gift"]), timeout=20)
    assert [one.HasField("error") for one in response.results] == [False, True, False]
    assert response.results[1].error.reason == pb.TEXT_ERROR_REASON_TOO_LONG
    assert str(limits.MAX_TEXT_BYTES) in response.results[1].error.message


@pytest.mark.parametrize("text", ["\x00", "cheap\x00gift", "🎁" * 50, "هدية", "‮abc", "'); drop table x; --", "e\u0301"])
def test_odd_texts_get_an_answer(text: str, shared_sidecar: SidecarProcess) -> None:
    """F50 the sidecar's part: a label or `unknown`, never a failed call."""
    assert len(shared_sidecar.classify(text)) == 1


def test_explain_names_the_words_that_carried_a_motive(shared_sidecar: SidecarProcess) -> None:
    text = "the mouse is very cheap"
    response = shared_sidecar.stub().Explain(pb.ExplainRequest(text=text), timeout=20)
    spans = [(text[one.start : one.stop], one.motive) for one in response.evidence]
    assert spans[0] == ("cheap", "price_value")
    assert all(0 < one.weight <= 1 for one in response.evidence)


def test_get_model_says_what_answers_and_what_it_stands_on(shared_sidecar: SidecarProcess) -> None:
    stub = shared_sidecar.stub()
    model = stub.GetModel(pb.GetModelRequest(), timeout=10)
    answer = stub.Classify(pb.ClassifyRequest(texts=["cheap"]), timeout=10)
    assert model.model == answer.model
    assert [entry.code for entry in model.taxonomy] == ["price_value", "performance", "gift", "unknown"]
    assert [entry.abstention for entry in model.taxonomy] == [False, False, False, True]
    assert model.ready
    assert model.engine == "onnx"
    assert [backend.breaker for backend in model.backends] == [pb.BREAKER_STATE_CLOSED]
    assert model.release_error == ""


def test_a_model_that_is_not_served_is_refused(shared_sidecar: SidecarProcess) -> None:
    request = pb.ClassifyRequest(texts=["cheap"], require_model="motive@9.9.9/00000000")
    assert _refusal(shared_sidecar.stub(), request).code() == grpc.StatusCode.FAILED_PRECONDITION


def test_stock_health_probes_get_their_answer(shared_sidecar: SidecarProcess) -> None:
    stub = health_pb2_grpc.HealthStub(shared_sidecar.channel())
    for service in ("", "motive.v1.Motive"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status == SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Check(health_pb2.HealthCheckRequest(service="nonsense"), timeout=5)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_health_watcher_that_leaves_takes_no_other_with_it(shared_sidecar: SidecarProcess) -> None:
    stub = health_pb2_grpc.HealthStub(shared_sidecar.channel())
    streams = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
    assert [next(stream).status for stream in streams] == [SERVING] * 3
    for stream in streams:
        stream.cancel()
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING


def test_stock_reflection_describes_the_service(shared_sidecar: SidecarProcess) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(shared_sidecar.channel())
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="motive.v1.Motive"),
    ]
    listed, described = list(stub.ServerReflectionInfo(iter(requests), timeout=10))
    names = {service.name for service in listed.list_services_response.service}
    assert {"motive.v1.Motive", "grpc.health.v1.Health"} <= names
    (file,) = described.file_descriptor_response.file_descriptor_proto
    assert [one.name for one in FileDescriptorProto.FromString(file).service[0].method] == [
        "Classify",
        "Explain",
        "GetModel",
    ]


def test_too_many_texts_and_no_text_are_refused(shared_sidecar: SidecarProcess) -> None:
    """F26 10,001 texts: refused as bad input, not as overload."""
    stub = shared_sidecar.stub()
    many = _refusal(stub, pb.ClassifyRequest(texts=["cheap"] * (limits.MAX_TEXTS + 1)))
    assert many.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _refusal(stub, pb.ClassifyRequest()).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_of_five_mebibytes_is_bad_input_and_a_huge_one_is_refused(shared_sidecar: SidecarProcess) -> None:
    """F26 RESOURCE_EXHAUSTED would mean overload, and be tried again for ever."""
    stub = shared_sidecar.stub()
    text = "x" * 60_000
    assert _refusal(stub, pb.ClassifyRequest(texts=[text] * 90)).code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _refusal(stub, pb.ClassifyRequest(texts=[text] * 300)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shared_sidecar.classify("cheap") == ["price_value"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 8,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 4096,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    ],
    ids=["http1", "bytes", "frames", "tls"],
)
def test_malformed_frames_harm_nobody_else(garbage: bytes, shared_sidecar: SidecarProcess) -> None:
    """F26 a connection that talks nonsense is dropped; one beside it goes on."""
    stub = shared_sidecar.stub()
    stub.GetModel(pb.GetModelRequest(), timeout=10)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(shared_sidecar.target.removeprefix("unix:"))
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65_536):
            pass
    assert stub.GetModel(pb.GetModelRequest(), timeout=10).model.name == "motive"


def test_an_unknown_method_is_refused(shared_sidecar: SidecarProcess) -> None:
    """F26 the connection stays of use."""
    channel = shared_sidecar.channel()
    unknown = channel.unary_unary("/motive.v1.Motive/Nothing", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as missing:
        unknown(b"", timeout=10)
    assert missing.value.code() == grpc.StatusCode.UNIMPLEMENTED
    stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
    assert stub.GetModel(pb.GetModelRequest(), timeout=10).model.name == "motive"


def test_no_text_is_in_the_log(shared_sidecar: SidecarProcess) -> None:
    shared_sidecar.classify("verysecretword cheap")
    _refusal(shared_sidecar.stub(), pb.ClassifyRequest(texts=["verysecretword"], require_model="other"))
    assert "verysecretword" not in shared_sidecar.log()


class _Broken(MotiveServicer):
    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        raise RuntimeError(SECRET)


@asynccontextmanager
async def intercepted(metrics: Metrics) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server in this process, whose GetModel is broken."""
    server = grpc.aio.server(interceptors=[CallInterceptor(metrics)])
    add_MotiveServicer_to_server(_Broken(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def test_an_internal_error_shows_an_id_and_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    """F13 the client sees INTERNAL and a request id, never the message or a path; the log has the same id."""
    metrics = Metrics()
    async with intercepted(metrics) as channel:
        stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.GetModel(pb.GetModelRequest(), timeout=10, metadata=(("x-request-id", "abc-123"),))
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert "abc-123" in (failed.value.details() or "")
    assert "abc-123" in str(failed.value.trailing_metadata())
    for seen in (failed.value.details() or "", caplog.text):
        assert "secret" not in seen
        assert "4111" not in seen
    assert "abc-123" in caplog.text
    assert metrics.calls.labels("GetModel", "INTERNAL")._value.get() == 1


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff\xff nonsense", b"\x0a\x02\xc3\x28", b"\x0b" * 100_000],
    ids=["bytes", "utf8", "groups"],
)
async def test_a_message_that_cannot_be_parsed_is_bad_input_like_any_other(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """F13, F26 with its request id, one line of log, and counted."""
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    async with intercepted(metrics) as channel:
        raw = channel.unary_unary("/motive.v1.Motive/Classify", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(payload, timeout=10, metadata=(("x-request-id", "abc-123"),))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "no message that Classify takes" in (refused.value.details() or "")
    assert "abc-123" in str(refused.value.trailing_metadata())
    assert metrics.calls.labels("Classify", "INVALID_ARGUMENT")._value.get() == 1
    (line,) = caplog.records
    assert line.getMessage().startswith("request abc-123: Classify INVALID_ARGUMENT")


def _refusal(stub: MotiveStub, request: pb.ClassifyRequest) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Classify(request, timeout=20)
    return refused.value
