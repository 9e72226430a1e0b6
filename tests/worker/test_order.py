"""Which rows a worker takes first, for how long it holds them, and the same by hand from psql."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import psycopg
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import RefusalError, answer
from tests.fixtures.postgres import Connect
from tests.fixtures.waiting import wait_until

GIFT = "a gift for my mother"


@pytest.fixture
def two_tables(annotation: Annotation) -> Annotation:
    """`texts` with three thousand rows that wait, `others` with one."""
    annotation.table()
    annotation.execute("create table others (id integer primary key, body text)")
    annotation.attach("others")
    for _ in range(3):
        annotation.execute("insert into texts (body) select %s || i from generate_series(1, 1000) i", GIFT)
    annotation.execute("insert into others values (1, %s)", GIFT)
    return annotation


def claimed_tables(annotation: Annotation, lease: str) -> set[str]:
    """The tables that a claim has rows of."""
    rows = annotation.execute(
        "select a.target::text from motive.queue as q join motive.attachment as a on a.id = q.attachment "
        "where q.lease = %s",
        lease,
    )
    return {table for (table,) in rows}


def test_no_table_starves_another(two_tables: Annotation) -> None:
    """One claim has rows of every table that waits, however much of one there is."""
    lease, _, rows = two_tables.execute("select * from motive.claim(1500)").fetchone() or ("", 0, 0)
    assert claimed_tables(two_tables, lease) == {"texts", "others"}
    assert rows == 1001
    two_tables.value("select motive.release(%s)", lease)
    two_tables.drain()
    two_tables.check()


def test_rows_just_written_come_before_a_backfill(annotation: Annotation) -> None:
    """In the queue, and, by its priority, in the sidecar; a lane without background work takes no backfill at all."""
    annotation.execute("create table texts (id bigint generated always as identity primary key, body text)")
    annotation.execute("insert into texts (body) select %s || i from generate_series(1, 1000) i", GIFT)
    annotation.attach("texts")
    annotation.value("select motive.backfill('texts')")
    assert annotation.value("select motive.step(600)") == 600
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    assert annotation.execute("select priority, waiting from motive.queue_depth order by 1").fetchall() == [
        ("backfill", 600),
        ("new", 1),
    ]
    lease, _, rows = annotation.execute("select * from motive.claim(100)").fetchone() or ("", 0, 0)
    assert rows == 1
    assert annotation.execute("select from motive.claim(100, background => false)").fetchall() == []
    annotation.value("select motive.release(%s)", lease)
    annotation.drain(lanes=1)
    assert [request.priority for request in annotation.fake.requests][:2] == [1, 2]
    annotation.check()


def test_a_lease_lasts_as_long_as_its_worker_waits_for_an_answer(annotation: Annotation) -> None:
    """The heartbeat: another worker does not take the rows, and each is written once."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with annotation.working(lease_s=0.6, lanes=1), annotation.working(lease_s=0.6, lanes=1):
        with annotation.fake.hang():
            assert annotation.fake.waiting.wait(20)
            first = annotation.value("select ready_at from motive.queue")
            wait_until(
                lambda: annotation.value("select ready_at - %s > interval '1500 ms' from motive.queue", first),
                bool,
                20.0,
                "the lease to be prolonged three times",
            )
        annotation.wait_drained()
    assert len(annotation.fake.requests) == 1
    assert annotation.labels() == {1: "gift"}


def test_the_queue_can_be_worked_from_psql(annotation: Annotation) -> None:
    """Claim, read, complete and fail are plain SQL; whoever comes after the lease changes nothing."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), ('no'), (null)", GIFT)
    annotation.drain()
    model = annotation.value("select motive_model from texts where id = 1")
    annotation.execute("update texts set body = body || '.'")
    lease = annotation.value("select claimed from motive.claim()")
    readings = annotation.execute("select entry, key, body, hash from motive.read(%s, %s)", lease, model).fetchall()
    assert [(key, body) for _, key, body, _ in readings] == [(["1"], GIFT + "."), (["2"], "no.")]
    assert annotation.value("select motive.extend(%s, interval '1 minute')", lease) == 1
    entry, key, _, hash_ = readings[0]
    assert annotation.value("select motive.fail(%s, %s, '[[\"2\"]]', 'tried by hand')", lease, entry) == 1
    result = {"e": entry, "k": key, "h": f"\\x{hash_.hex()}", "m": ["performance", "gift"], "c": 0.5}
    stranger = annotation.execute(
        "select * from motive.complete(gen_random_uuid(), %s, %s)", json.dumps([result]), model
    )
    assert stranger.fetchone() == (0, 0, 1)
    done = annotation.execute(
        "select * from motive.complete(%s, %s, %s)", lease, json.dumps([result]), model
    ).fetchone()
    assert done == (1, 0, 0)
    late = annotation.execute(
        "select * from motive.complete(%s, %s, %s)", lease, json.dumps([result]), model
    ).fetchone()
    assert late == (0, 0, 1)
    assert annotation.execute("select motive, motives from texts where id = 1").fetchone() == (
        "performance",
        ["performance", "gift"],
    )
    assert annotation.execute("select keys, attempts from motive.queue").fetchall() == [([["2"]], 1)]
    wait_until(lambda: (annotation.drain(), annotation.queued())[1], lambda keys: keys == 0, 10.0, "the second attempt")
    annotation.check()


def test_a_row_that_fails_by_hand_again_and_again_is_retired(annotation: Annotation) -> None:
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    for attempt in range(1, 4):
        lease = wait_until(
            lambda: annotation.value("select max(claimed::text) from motive.claim()"), bool, 10.0, "the next attempt"
        )
        entry = annotation.value("select id from motive.queue")
        annotation.value("select motive.fail(%s, %s, '[[\"1\"]]', %s)", lease, entry, f"attempt {attempt}")
    assert annotation.execute("select key, reason, attempts from motive.failures").fetchall() == [
        (["1"], "attempt 3", 3)
    ]
    assert annotation.queued() == 0
    annotation.value("select motive.retry('texts')")
    annotation.drain()
    assert annotation.labels() == {1: "gift"}
    annotation.check()


def command(*flags: str) -> "subprocess.CompletedProcess[str]":
    """`motive worker` to its end."""
    line = [sys.executable, "-m", "sidecar", "worker", *flags]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2])


def test_once_drains_and_ends_for_cron(annotation: Annotation, connect: Connect) -> None:
    """With status 0 where nothing is left, else with a sentence that says what is at fault."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    done = command("--dsn", annotation.dsn, "--target", annotation.fake.target, "--once")
    assert (done.returncode, annotation.labels()) == (0, {1: "gift"}), done.stderr
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    done = command("--dsn", annotation.dsn, "--target", "unix:/nonexistent/motive.sock", "--once")
    assert done.returncode != 0
    assert "rows are left" in done.stderr
    assert "Traceback" not in done.stderr
    annotation.drain()


def test_once_goes_on_in_smaller_claims_where_it_asked_too_much(annotation: Annotation) -> None:
    """Of a sidecar that is slow or full, not away."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    for number in range(60):
        annotation.execute("insert into texts (body) values (%s)", f"{GIFT} {number}")

    def refuse(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        if len(request.texts) > 10:
            raise RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return answer(request)

    with annotation.fake.answering(refuse):
        annotation.drain(lanes=1)
    annotation.check()
    assert set(annotation.labels().values()) == {"gift"}


def test_a_database_that_a_worker_cannot_use_is_named_in_a_sentence(
    annotation: Annotation, fresh_database: str, roles: tuple[str, str]
) -> None:
    """Without the extension, without the right, without a server."""
    stranger = psycopg.conninfo.make_conninfo(annotation.dsn, user="stranger")
    for dsn in (fresh_database, stranger, "host=/nonexistent dbname=x"):
        done = command("--dsn", dsn, "--target", annotation.fake.target, "--once")
        assert done.returncode != 0
        assert "the database refuses" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
