"""A sidecar that fails or lies: the error is ours, and nothing of it reaches a row."""

from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import psycopg
import pytest
from psycopg import errors

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import FakeSidecar, RefusalError, answer, model_version
from tests.fixtures.postgres import Connect, Connection, value


def failing(error: Exception) -> Callable[[pb.ClassifyRequest], pb.ClassifyResponse]:
    """A classify that raises."""

    def classify(_: pb.ClassifyRequest) -> pb.ClassifyResponse:
        raise error

    return classify


def labelled(label: str, confidence: float = 0.9) -> Callable[[pb.ClassifyRequest], pb.ClassifyResponse]:
    """A classify that answers every text with this label."""

    def classify(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        scored = pb.ScoredMotive(motive=label, confidence=confidence)
        result = pb.Classification(motives=[scored], confidence=confidence)
        return pb.ClassifyResponse(results=[result] * len(request.texts), model=model_version())

    return classify


def refused(connection: Connection, query: str = "select classify_motive('cheap')") -> psycopg.Error:
    """The error of a call."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(query)
    assert caught.value.diag.message_hint, "every error has a hint"
    assert "Traceback" not in str(caught.value)
    assert "Traceback" not in (caught.value.diag.context or "")
    return caught.value


def test_what_a_handler_raises_never_reaches_the_caller(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F13: the server raises: INTERNAL, never the message or a path."""
    with fake_sidecar.answering(failing(ValueError("cannot read /srv/secret/model.onnx"))):
        error = refused(connection)
    assert error.sqlstate == "XX000"
    assert "INTERNAL" in str(error)
    assert "secret" not in str(error)
    assert "ValueError" not in str(error)


def test_an_internal_error_shows_nothing_of_its_details(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F13: what the sidecar's log has of it is found by the request's id."""
    details = "boom in /srv/secret"
    with fake_sidecar.answering(failing(RefusalError(grpc.StatusCode.INTERNAL, details))):
        error = refused(connection)
    assert (error.diag.message_detail or "").startswith(f"Request id pg-{connection.info.backend_pid}-")
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("status", "sqlstate"),
    [
        (grpc.StatusCode.UNAVAILABLE, "58000"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "57014"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "53000"),
        (grpc.StatusCode.INVALID_ARGUMENT, "22023"),
        (grpc.StatusCode.FAILED_PRECONDITION, "55000"),
        (grpc.StatusCode.INTERNAL, "XX000"),
        (grpc.StatusCode.UNKNOWN, "XX000"),
        (grpc.StatusCode.CANCELLED, "58000"),
        (grpc.StatusCode.UNIMPLEMENTED, "55000"),
    ],
)
def test_every_status_has_its_sqlstate(
    status: grpc.StatusCode, sqlstate: str, connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F13: whatever the sidecar reports, the SQLSTATE is stable, and the request's id is told."""
    with fake_sidecar.answering(failing(RefusalError(status, "no"))):
        error = refused(connection)
    assert error.sqlstate == sqlstate
    assert "Request id pg-" in (error.diag.message_detail or "")


def test_a_server_of_another_kind_is_a_version_error(
    connection: Connection, settings: Callable[..., None], postgres_state: Path
) -> None:
    """F14: a gRPC server that does not know our service: 55000."""
    path = postgres_state / "other.sock"
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        path.chmod(0o666)
        settings(target=f"unix:{path}")
        assert refused(connection).sqlstate == "55000"
    finally:
        server.stop(None).wait()


def python(connection: Connection, body: str) -> None:
    """Runs Python in the session's backend."""
    indented = body.replace("\n    ", "\n")
    connection.execute(f"do language plpython3u $python$\n{indented}\n$python$")


CLIENT = """
import os, sys
sys.path.insert(0, os.path.realpath('/proc/self/exe').rpartition('/bin/')[0] + '/lib/pg_motive/python')
"""


def test_a_client_of_another_version_is_refused(connect: Connect) -> None:
    """F14: SQL and client that do not fit: 55000 with a hint, and the session goes on."""
    connection = connect()
    python(connection, CLIENT + "from sidecar import client\nclient.INTERFACE = 2")
    error = refused(connection)
    assert error.sqlstate == "55000"
    assert "motive install" in (error.diag.message_hint or "")
    assert value(connection, "select 1") == 1


LONGER = """
from sidecar import client
longer = lambda ask: lambda *given: (*ask(*given), 'a field of a version to come')
client.classify, client.explain, client.get_model = map(longer, (client.classify, client.explain, client.get_model))
"""


@pytest.mark.parametrize(
    "query",
    [
        "select classify_motive('cheap')",
        "select * from explain_motive('cheap')",
        "select * from motive.classify_rows($$select 1, 'cheap'$$)",
        "select motive.load_model()",
        "select * from motive.sidecar()",
    ],
)
def test_an_answer_of_another_length_is_of_another_version(query: str, connect: Connect) -> None:
    """F14: during an upgrade, an open session or an extension still to be upgraded knows an answer of other fields."""
    connection = connect()
    python(connection, CLIENT + LONGER)
    error = refused(connection, query)
    assert error.sqlstate == "55000"
    assert "motive install" in (error.diag.message_hint or "")


def test_an_inline_insert_with_a_client_of_another_version_is_queued(annotation: Annotation) -> None:
    """P3: during an upgrade, too."""
    annotation.table(mode="inline")
    python(annotation.connection, CLIENT + LONGER)
    annotation.execute("insert into texts (body) values ('a gift')")
    assert annotation.queued() == 1
    annotation.drain()
    assert annotation.labels() == {1: "gift"}


def test_a_grpc_older_than_the_stubs_is_refused(connect: Connect) -> None:
    """F14: grpcio older than the stubs: 55000 that names both versions, no crash."""
    connection = connect()
    python(connection, CLIENT + "import grpc\ngrpc.__version__ = '1.50.0'")
    error = refused(connection)
    assert error.sqlstate == "55000"
    assert "1.50.0" in str(error)
    assert "motive install" in (error.diag.message_hint or "")


def test_a_protobuf_older_than_the_stubs_is_refused(connect: Connect) -> None:
    """F14: protobuf older than the stubs: the same."""
    connection = connect()
    body = "from google.protobuf import runtime_version\nruntime_version.MAJOR = runtime_version.OSS_MAJOR = 4"
    python(connection, CLIENT + body)
    assert refused(connection).sqlstate == "55000"


def test_a_client_that_is_not_installed_is_named(connect: Connect) -> None:
    """F14: no client beside the server: an error that says so, no crash."""
    connection = connect()
    python(connection, "import sys\nsys.modules['sidecar'] = None")
    error = refused(connection)
    assert error.sqlstate == "55000"
    assert "motive install" in (error.diag.message_hint or "")


@pytest.mark.parametrize(
    "label",
    ["'); drop table reviews; --", "x" * 1_000_000, "luxury", "", "Gift", "gift\u202e", "gift\nnext", "💥"],
    ids=["quote", "huge", "stranger", "empty", "case", "override", "newline", "emoji"],
)
def test_a_label_that_the_taxonomy_does_not_hold_is_refused(
    label: str, connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F58: in each form of the call; the message stays short."""
    queries = (
        "select classify_motive('cheap')",
        "select classify_motive(array['cheap', 'gift'])",
        "select * from classify_motives('cheap')",
        "select * from motive.classify_rows('select 1, ''cheap''')",
    )
    with fake_sidecar.answering(labelled(label)):
        for query in queries:
            error = refused(connection, query)
            assert error.sqlstate == "55000"
            assert len(str(error)) < 1500
            assert "Request id pg-" in (error.diag.message_detail or "")


def test_a_nul_in_a_label_is_refused(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F58: PL/Python would cut the label there, and `gift` would be a label of the taxonomy."""
    with fake_sidecar.answering(labelled("gift\0x")):
        assert refused(connection).sqlstate == "55000"


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), -0.5, 1.5])
def test_a_confidence_that_is_no_probability_is_refused(
    confidence: float, connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F58: a NaN would be stored in a column of reals."""
    with fake_sidecar.answering(labelled("gift", confidence)):
        assert refused(connection).sqlstate == "XX000"
        assert refused(connection, "select * from classify_motives('x')").sqlstate == "XX000"


def test_too_few_answers_are_refused(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F58: answers that cannot be matched to their texts."""

    def short(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        response = answer(request)
        del response.results[0]
        return response

    with fake_sidecar.answering(short):
        assert refused(connection, "select classify_motive(array['a', 'b'])").sqlstate == "XX000"


def test_a_model_that_is_not_loaded_is_named(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F58: another taxonomy's answer is refused until the owner loads it."""

    def other(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        response = answer(request)
        response.model.taxonomy_digest = b"\1" * 32
        return response

    with fake_sidecar.answering(other):
        error = refused(connection)
    assert error.sqlstate == "55000"
    assert "motive.load_model()" in (error.diag.message_hint or "")


def test_a_text_that_the_sidecar_cannot_read_is_named(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """F58: an error of one text raises, naming its place, or its key."""

    def poison(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        response = answer(request)
        for text, result in zip(request.texts, response.results, strict=True):
            if text == "poison":
                error = pb.TextError(reason=pb.TEXT_ERROR_REASON_NOT_FINITE, message="the model gave NaN")
                result.CopyFrom(pb.Classification(error=error))
        return response

    with fake_sidecar.answering(poison):
        with pytest.raises(errors.InternalError_, match=r"text 3: the model gave NaN\nDETAIL: *Request id"):
            connection.execute("select classify_motive(array['a', null, 'poison'])")
        with pytest.raises(errors.InternalError_, match=r"the row with key 'k2': the model gave NaN\nDETAIL: *Req"):
            connection.execute("select motive.classify_rows('values (''k1'', ''a''), (''k2'', ''poison'')')")


def test_a_text_that_cannot_be_explained_is_an_error_and_not_a_text_without_evidence(
    connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F27, F58: as a direct call of classify_motive would be."""

    def explain(_: pb.ExplainRequest) -> pb.ExplainResponse:
        error = pb.TextError(reason=pb.TEXT_ERROR_REASON_NOT_FINITE, message="the model gave NaN")
        return pb.ExplainResponse(result=pb.Classification(error=error), model=model_version())

    fake_sidecar.explain = explain
    error = refused(connection, "select * from explain_motive('cheap')")
    assert error.sqlstate == "XX000"
    assert "the model gave NaN" in str(error)
    assert "Request id pg-" in (error.diag.message_detail or "")


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 2), (0, 6), (4_000_000_000, 4_000_000_001)])
def test_evidence_outside_the_text_is_refused(
    start: int, stop: int, connection: Connection, fake_sidecar: FakeSidecar
) -> None:
    """F58: spans are checked against the text."""

    def explain(_: pb.ExplainRequest) -> pb.ExplainResponse:
        evidence = pb.Evidence(motive="gift", start=start, stop=stop, weight=0.5)
        return pb.ExplainResponse(evidence=[evidence], model=model_version())

    fake_sidecar.explain = explain
    assert refused(connection, "select * from explain_motive('cheap')").sqlstate == "XX000"
