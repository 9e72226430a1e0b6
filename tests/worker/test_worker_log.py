"""What a worker writes to its log, as operators collect it."""

import json

import grpc
import psycopg
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import RefusalError
from tests.fixtures.waiting import wait_until

GIFT = "a gift for my mother"


def test_a_workers_log_is_json_where_that_is_asked_for(annotation: Annotation) -> None:
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with annotation.process("--log-format", "json", "--once") as worker:
        worker.process.wait(60)
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert any("stopped after 1 row" in line["message"] for line in lines)
    assert all({"time", "level", "logger"} <= line.keys() for line in lines)
    assert GIFT not in worker.log


def test_a_fault_of_the_sidecar_is_logged_with_the_id_of_its_request(annotation: Annotation) -> None:
    def refuse(_: pb.ClassifyRequest) -> pb.ClassifyResponse:
        raise RefusalError(grpc.StatusCode.UNAVAILABLE, "not now")

    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with annotation.fake.answering(refuse), annotation.process("--once") as worker:
        worker.process.wait(60)
    assert f"Request id worker-{worker.process.pid}-" in worker.log


def test_a_worker_that_the_database_refuses_says_what_it_needs(
    annotation: Annotation, roles: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """And works as soon as it has it."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with annotation.working(dsn=psycopg.conninfo.make_conninfo(annotation.dsn, user="stranger")):
        refused = wait_until(
            lambda: [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()],
            bool,
            20.0,
            "the refusal to be logged",
        )
        annotation.execute("select motive.grant_worker('stranger')")
        annotation.wait_drained()
    assert "permission denied for schema motive" in refused[0]
    assert "motive.grant_worker(role)" in refused[0]
    assert annotation.labels() == {1: "gift"}
