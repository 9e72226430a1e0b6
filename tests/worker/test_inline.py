"""Inline mode: the statement itself annotates, within its budget; what is left over goes to the queue."""

import threading
import time

import grpc
import psycopg
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import RefusalError, answer

GIFT, FAST = "a gift for my mother", "my old one is too slow"

pytestmark = pytest.mark.usefixtures("invariants")


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
        assert "Request id pg-" in (caught.value.diag.message_detail or "")
    finally:
        annotation.fake.start()
    assert annotation.value("select count(*) from texts") == 0


def test_on_failure_error_names_the_request_that_was_answered(annotation: Annotation) -> None:
    """With a motive that its taxonomy does not hold: Triton's log has the request."""
    annotation.table(mode="inline", on_failure="error", budget="5 s")

    def strange(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        response = answer(request)
        response.results[0].motives[0].motive = "luxury"
        return response

    with annotation.fake.answering(strange), pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        annotation.execute("insert into texts (body) values (%s)", GIFT)
    assert "Request id pg-" in (caught.value.diag.message_detail or "")


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
    annotation.attach("texts")  # what it does not name stays
    assert annotation.execute("insert into texts (body) values (%s) returning motive", GIFT).fetchone() == ("gift",)
    annotation.attach("texts", mode="queued")
    assert annotation.execute("insert into texts (body) values (%s) returning motive", GIFT).fetchone() == (None,)
    assert annotation.queued() == 1


def partitioned(annotation: Annotation) -> None:
    """The table `texts` in two partitions, attached inline."""
    annotation.execute(
        "create table texts (id integer, part integer, body text, primary key (id, part)) partition by list (part)"
    )
    annotation.execute("create table texts_1 partition of texts for values in (1)")
    annotation.execute("create table texts_2 partition of texts for values in (2)")
    annotation.attach("texts", mode="inline", budget="5 s")


def test_a_row_keeps_its_annotation_when_it_moves_to_another_partition(annotation: Annotation) -> None:
    """P8: a person's label as well; only another text is asked for."""
    partitioned(annotation)
    annotation.execute("insert into texts values (1, 1, %s), (2, 1, %s)", GIFT, GIFT)
    annotation.value("select motive.correct('texts', '[1, 1]', '{performance}')")
    calls = len(annotation.fake.requests)
    annotation.execute("update texts set part = 2")
    assert annotation.labels() == {1: "performance", 2: "gift"}
    assert annotation.value("select motive_model from texts where id = 1") == "person"
    assert len(annotation.fake.requests) == calls
    annotation.execute("update texts set part = 1, body = 'mouse'")
    assert annotation.labels() == {1: "unknown", 2: "unknown"}
    assert annotation.queued() == 0


def test_statements_straight_on_a_partition_made_after_attach_have_their_budget(annotation: Annotation) -> None:
    """Whatever an earlier statement of the session has left of its own."""
    partitioned(annotation)
    annotation.execute("create table texts_3 partition of texts for values in (3)")
    inserted = "insert into texts_3 (id, part, body) values (%s, 3, %s) returning motive"
    assert annotation.execute(inserted, 1, GIFT).fetchone() == ("gift",)
    annotation.execute("select set_config('motive.inline_deadline_' || id, '{1,1}', false) from motive.attachment")
    assert annotation.execute(inserted, 2, GIFT).fetchone() == ("gift",)


def test_a_statement_timeout_below_the_budget_fails_no_statement(annotation: Annotation) -> None:
    """P3: annotation leaves the statement time to end."""
    annotation.table(mode="inline", budget="20 s")
    annotation.execute("insert into texts (body) values ('warm')")
    with annotation.fake.hang():
        annotation.execute("set statement_timeout to '2 s'")
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        annotation.execute("reset statement_timeout")
    assert annotation.queued() == 1


def test_a_transaction_timeout_below_the_budget_ends_no_session(annotation: Annotation) -> None:
    """PostgreSQL would close the connection."""
    if annotation.value("select current_setting('server_version_num')::integer") < 170000:
        pytest.skip("transaction_timeout is there from PostgreSQL 17 on")
    annotation.table(mode="inline", budget="20 s")
    annotation.execute("insert into texts (body) values ('warm')")
    with annotation.fake.hang():
        annotation.execute("set transaction_timeout to '2 s'")
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        annotation.execute("reset transaction_timeout")
    assert annotation.queued() == 1


def test_the_budget_is_the_same_whatever_the_session_says_of_time(annotation: Annotation) -> None:
    """China's CST is not read back as the CST of the United States, fourteen hours later."""
    annotation.table(mode="inline", budget="300 ms")
    annotation.execute("insert into texts (body) values ('warm')")
    annotation.execute("set timezone to 'Asia/Shanghai'; set datestyle to 'SQL'; set extra_float_digits to -10")
    with annotation.fake.hang():
        started = time.monotonic()
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        assert time.monotonic() - started < 3
    paused = "select to_timestamp(current_setting('motive.inline_paused_until')::float8) - clock_timestamp()"
    assert annotation.value(paused + " < interval '1 min'")
