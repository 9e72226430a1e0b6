"""Inline mode: the statement itself annotates, within its budget; what is left over goes to the queue."""

import threading
import time
from collections.abc import Iterator

import grpc
import psycopg
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import RefusalError, answer

GIFT, FAST = "a gift for my mother", "my old one is too slow"


@pytest.fixture(autouse=True)
def _invariants(annotation: Annotation) -> Iterator[None]:
    """Every test ends with a worker that drains, and the three invariants."""
    yield
    annotation.drain()
    annotation.check()


def test_returning_shows_the_motive(annotation: Annotation) -> None:
    """INSERT and UPDATE annotate at once, and enqueue nothing."""
    annotation.table(mode="inline", budget="5 s")
    rows = annotation.execute("insert into texts (body) values (%s), (null), ('mouse') returning motive, motives", GIFT)
    assert rows.fetchall() == [("gift", ["gift"]), (None, None), ("unknown", [])]
    row = annotation.execute("update texts set body = %s where id = 1 returning motive, motive_model", FAST).fetchone()
    assert row is not None
    assert row[0] == "performance"
    assert row[1].startswith("fake@1.0.0/")
    calls = len(annotation.fake.requests)
    annotation.execute("update texts set body = body")
    assert len(annotation.fake.requests) == calls
    assert annotation.queued() == 0


def test_a_spent_budget_leaves_the_rest_to_the_queue(annotation: Annotation) -> None:
    """P3: the statement waits at most its budget, and succeeds."""
    annotation.table(mode="inline", budget="300 ms")
    annotation.execute("insert into texts (body) values ('warm')")
    with annotation.fake.hang():
        started = time.monotonic()
        annotation.execute("insert into texts (body) select %s from generate_series(1, 50)", GIFT)
        assert time.monotonic() - started < 1.5
        assert annotation.queued() == 50
        # The next statements do not ask a sidecar that has just failed.
        calls = len(annotation.fake.requests)
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        assert len(annotation.fake.requests) == calls
    assert annotation.queued() == 51


def test_a_dead_sidecar_fails_no_statement(annotation: Annotation) -> None:
    """P3: the row is queued."""
    annotation.table(mode="inline")
    annotation.fake.stop()
    try:
        assert annotation.execute("insert into texts (body) values (%s) returning motive", GIFT).fetchone() == (None,)
    finally:
        annotation.fake.start()
    assert annotation.queued() == 1


def test_on_failure_error_raises(annotation: Annotation) -> None:
    """For those who prefer to fail."""
    annotation.table(mode="inline", on_failure="error")
    annotation.fake.stop()
    try:
        with pytest.raises(psycopg.OperationalError) as caught:
            annotation.execute("insert into texts (body) values (%s)", GIFT)
        assert caught.value.sqlstate == "58000"
    finally:
        annotation.fake.start()
    assert annotation.value("select count(*) from texts") == 0


def test_a_text_at_fault_does_not_pause_inline_annotation(annotation: Annotation) -> None:
    """F50: one text that cannot be read is queued, and retired there; the next row is asked inline."""

    def refuse(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        if "poison" in request.texts:
            raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, "cannot read this")
        return answer(request)

    annotation.table(mode="inline", budget="5 s")
    with annotation.fake.answering(refuse):
        rows = annotation.execute("insert into texts (body) values ('poison'), (%s) returning motive", GIFT).fetchall()
        assert rows == [(None,), ("gift",)]
        assert annotation.queued() == 1


def test_the_cancel_of_a_statement_is_never_swallowed(annotation: Annotation) -> None:
    """A cancel ends the statement, although a fault of the sidecar would not."""
    annotation.table(mode="inline", budget="10 s")
    annotation.execute("insert into texts (body) values ('warm')")

    def cancel() -> None:
        annotation.fake.waiting.wait(10)
        annotation.connection.cancel_safe()

    with annotation.fake.hang():
        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            annotation.execute("insert into texts (body) values (%s)", GIFT)
        thread.join()
    assert annotation.value("select count(*) from texts") == 1


def test_the_mode_can_be_changed_back_and_forth(annotation: Annotation) -> None:
    """A second attach updates the options."""
    annotation.table()
    annotation.attach("texts", mode="inline", budget="5 s")
    assert annotation.execute("insert into texts (body) values (%s) returning motive", GIFT).fetchone() == ("gift",)
    annotation.attach("texts", mode="queued")
    assert annotation.execute("insert into texts (body) values (%s) returning motive", GIFT).fetchone() == (None,)
    assert annotation.queued() == 1
