"""What enqueues and what does not (F42 to F47, F49)."""

import contextlib
import re
import threading
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.annotation import Annotation
from tests.fixtures.postgres import Connect
from tests.fixtures.waiting import wait_until

GIFT, FAST = "a gift for my mother", "my old one is too slow"

pytestmark = pytest.mark.usefixtures("invariants")


def queued_keys(annotation: Annotation) -> list[list[str]]:
    """All keys in the queue, in order; then the queue is emptied by a worker."""
    keys = [
        key
        for (keys,) in annotation.execute("select motive.keys_of(keys, numbers) from motive.queue order by id")
        for key in keys
    ]
    annotation.drain()
    return keys


def test_statements_succeed_while_sidecar_and_worker_are_down(annotation: Annotation) -> None:
    """F42: INSERT, UPDATE and COPY do not notice."""
    annotation.table()
    annotation.fake.stop()
    try:
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        annotation.execute("update texts set body = %s", FAST)
        with annotation.connection.cursor().copy("copy texts (body) from stdin") as copy:
            copy.write_row((GIFT,))
        with pytest.raises(Exception, match="rows are left"):
            annotation.drain()
    finally:
        annotation.fake.start()
    annotation.drain()
    assert annotation.labels() == {1: "performance", 2: "gift"}


def test_updates_in_the_opposite_key_order_meet_no_deadlock(annotation: Annotation, connect: Connect) -> None:
    """F42: users update rows from the last to the first while workers write from the first to the last."""
    annotation.table()
    annotation.execute("insert into texts (body) select %s || i from generate_series(1, 300) i", GIFT)
    user = connect()
    with annotation.working(lanes=4):
        for turn in range(10):
            with user.transaction():
                for key in range(300, 0, -10):
                    user.execute(
                        "update texts set body = %s where id between %s and %s", [f"{GIFT} {turn}", key - 9, key]
                    )
        annotation.wait_drained()
    assert annotation.value("select deadlocks from pg_stat_database where datname = current_database()") == 0
    assert set(annotation.labels().values()) == {"gift"}


def test_a_worker_never_waits_for_a_locked_row(annotation: Annotation, connect: Connect) -> None:
    """P3: what a user has locked goes back to the queue at no cost, and the others are written."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s)", GIFT, GIFT)
    user = connect()
    with user.transaction():
        user.execute("select from texts where id = 1 for update")
        with annotation.working():
            wait_until(lambda: annotation.labels()[2], lambda label: label == "gift", 10.0, "the free row's motive")
            assert annotation.labels()[1] is None
    assert annotation.value("select max(attempts) from motive.queue") == 0


@pytest.mark.parametrize("ending", ["rollback", "savepoint", "failure", "two_phase"])
def test_what_is_rolled_back_is_not_queued(annotation: Annotation, ending: str) -> None:
    """F43: an enqueue belongs to the user's transaction."""
    annotation.table("id integer primary key, body text")
    execute = annotation.execute
    execute("begin")
    if ending == "savepoint":
        execute("savepoint s")
        execute("insert into texts values (1, %s)", GIFT)
        execute("rollback to s")
        execute("commit")
    elif ending == "failure":
        with contextlib.suppress(psycopg.errors.UniqueViolation):
            execute("insert into texts values (1, %s), (1, %s)", GIFT, GIFT)
        execute("rollback")
    elif ending == "two_phase":
        execute("insert into texts values (1, %s)", GIFT)
        execute("prepare transaction 'motive_test'")
        assert annotation.queued() == 0
        execute("rollback prepared 'motive_test'")
    else:
        execute("insert into texts values (1, %s)", GIFT)
        execute("rollback")
    assert annotation.queued() == 0


def test_a_prepared_transaction_is_queued_when_it_commits(annotation: Annotation) -> None:
    """F43: PREPARE TRANSACTION works on attached tables, and its rows are annotated."""
    annotation.table("id integer primary key, body text")
    annotation.execute("begin")
    annotation.execute("insert into texts values (1, %s)", GIFT)
    annotation.execute("prepare transaction 'motive_test'")
    annotation.execute("commit prepared 'motive_test'")
    assert queued_keys(annotation) == [["1"]]


def test_annotating_a_row_does_not_enqueue_it_again(annotation: Annotation) -> None:
    """F44: neither does an update that leaves the text as it is; an ORM's save keeps the labels right."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    before = annotation.execute(
        "select motive, motive_confidence, motives, motive_model, motive_hash from texts"
    ).fetchone()
    annotation.drain()
    assert annotation.queued() == 0
    annotation.execute("update texts set body = body")
    assert annotation.queued() == 0
    assert before is not None
    # The application read the row before it was annotated, and writes all of it back.
    annotation.execute(
        "update texts set body = body, motive = %s, motive_confidence = %s, motives = %s, motive_model = %s, "
        "motive_hash = %s",
        *before,
    )
    assert annotation.queued() == 0
    assert annotation.labels() == {1: "gift"}
    # With another text, the old labels that it writes back are not believed.
    annotation.execute("update texts set body = %s, motive = 'gift'", FAST)
    assert annotation.labels() == {1: None}
    assert queued_keys(annotation) == [["1"]]
    assert annotation.labels() == {1: "performance"}


@pytest.mark.parametrize("key", ["integer", "text", "citext"])
def test_an_update_of_one_row_leaves_no_plan_that_a_large_one_suffers_from(
    annotation: Annotation, connect: Connect, key: str
) -> None:
    """P3: a session plans once; old and new rows must not be compared each with each, whatever the key's type is."""
    annotation.execute("create extension if not exists citext")
    annotation.table(f"id {key} primary key, body text")
    annotation.execute("insert into texts select i, %s from generate_series(1, 20) as i", GIFT)
    plans: list[str] = []
    session = connect()
    session.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    session.execute(
        "load 'auto_explain'; set auto_explain.log_min_duration to 0; set client_min_messages to log; "
        "set auto_explain.log_nested_statements to on"
    )
    session.execute("update texts set body = body where id = '1'")
    joins = [plan for plan in plans if "join motive_old" in plan.partition("Query Text")[2]]
    assert joins
    assert not [plan for plan in joins if "Nested Loop" in plan]
    annotation.drain()
    annotation.execute("drop table texts; drop extension citext")


def test_a_trigger_that_rewrites_the_text_is_seen(annotation: Annotation) -> None:
    """F45: what counts is the text as it stands in the table."""
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute(
        "create function pg_temp.rewrite() returns trigger language plpgsql as "
        "$$ begin new.body := replace(new.body, 'X', 'gift'); return new; end $$"
    )
    annotation.execute(
        "create trigger a before insert or update on texts for each row execute function pg_temp.rewrite()"
    )
    annotation.attach("texts")
    annotation.execute("insert into texts values (1, 'an X')")
    annotation.drain()
    assert annotation.labels() == {1: "gift"}
    annotation.execute("update texts set body = 'an X'")
    assert annotation.queued() == 0
    annotation.execute("update texts set body = 'X X'")
    assert queued_keys(annotation) == [["1"]]


def test_other_triggers_can_tell_an_annotation_from_a_change(annotation: Annotation) -> None:
    """What the README says of updated_at: a condition on motive.writing leaves it alone while a worker writes."""
    annotation.table("id integer primary key, body text, updated_at text not null default 'never'")
    annotation.execute(
        "create function pg_temp.touch() returns trigger language plpgsql as "
        "$$ begin new.updated_at := 'now'; return new; end $$; "
        "create trigger touch before update on texts for each row "
        "when (current_setting('motive.writing', true) is distinct from 'on') execute function pg_temp.touch()"
    )
    annotation.execute("insert into texts (id, body) values (1, %s), (2, %s)", GIFT, GIFT)
    annotation.execute("update texts set body = %s where id = 2", FAST)
    annotation.drain()
    annotation.value("select motive.correct('texts', '1', '{performance}')")
    assert annotation.execute("select id, motive, updated_at from texts order by id").fetchall() == [
        (1, "performance", "never"),
        (2, "performance", "now"),
    ]


def test_a_writer_under_repeatable_read_retries_after_an_annotation(annotation: Annotation, connect: Connect) -> None:
    """What the README says of it: an annotation is an update like any other."""
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts values (1, %s)", GIFT)
    writer = connect()
    writer.execute("begin isolation level repeatable read")
    writer.execute("select * from texts")
    annotation.drain()
    with pytest.raises(psycopg.errors.SerializationFailure):
        writer.execute("update texts set body = %s", [FAST])
    writer.execute("rollback")
    writer.execute("update texts set body = %s", [FAST])
    annotation.drain()
    assert annotation.labels() == {1: "performance"}


def test_merge_and_on_conflict_queue_exactly_the_changed_rows(annotation: Annotation) -> None:
    """F46: rows inserted, and rows whose text changed; not those left alone."""
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts values (1, %s), (2, %s), (3, %s)", GIFT, GIFT, GIFT)
    assert queued_keys(annotation) == [["1"], ["2"], ["3"]]
    upsert = "insert into texts values (1, %s), (4, %s) on conflict (id) "
    annotation.execute(upsert + "do nothing", FAST, FAST)
    assert queued_keys(annotation) == [["4"]]
    annotation.execute(upsert + "do update set body = excluded.body", FAST, FAST)
    assert queued_keys(annotation) == [["1"]]
    annotation.execute(
        "merge into texts t using (values (1, %s), (2, %s), (5, %s)) as v (id, body) on t.id = v.id "
        "when matched then update set body = v.body when not matched then insert values (v.id, v.body)",
        FAST,
        FAST,
        FAST,
    )
    assert sorted(queued_keys(annotation)) == [["2"], ["5"]]


def test_a_changed_key_counts_as_a_new_row(annotation: Annotation) -> None:
    """F46: the annotation stays right under the new key."""
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts values (1, %s), (2, %s)", GIFT, FAST)
    annotation.drain()
    annotation.execute("update texts set id = id + 10")
    assert sorted(queued_keys(annotation)) == [["11"], ["12"]]
    assert annotation.labels() == {11: "gift", 12: "performance"}


def test_partitions_are_captured_however_they_are_written(annotation: Annotation) -> None:
    """F46: through the parent, straight into a partition, by a move between partitions; new partitions are named."""
    annotation.execute(
        "create table texts (id integer, part integer, body text, primary key (id, part)) partition by list (part)"
    )
    annotation.execute("create table texts_1 partition of texts for values in (1)")
    annotation.execute("create table texts_2 partition of texts for values in (2)")
    annotation.attach("texts")
    annotation.execute("insert into texts values (1, 1, %s)", GIFT)
    annotation.execute("insert into texts_2 values (2, 2, %s)", GIFT)
    assert queued_keys(annotation) == [["1", "1"], ["2", "2"]]
    annotation.execute("update texts set part = 2 where id = 1")
    assert queued_keys(annotation) == [["1", "2"]]
    annotation.execute("update texts_2 set body = %s where id = 2", FAST)
    assert queued_keys(annotation) == [["2", "2"]]
    annotation.execute("create table texts_3 partition of texts for values in (3)")
    assert annotation.value("select uncovered_partitions::text[] from motive.status") == ["texts_3"]
    annotation.execute("insert into texts values (3, 3, %s)", GIFT)
    assert queued_keys(annotation) == [["3", "3"]]
    annotation.attach("texts")
    assert annotation.value("select uncovered_partitions from motive.status") == []
    annotation.execute("alter table texts detach partition texts_3; drop table texts_3")
    annotation.execute("insert into texts values (4, 1, %s)", GIFT)
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.labels() == {1: "gift", 2: "performance", 4: "gift"}


def test_a_table_that_becomes_a_partition_and_one_that_stops_being_one(annotation: Annotation) -> None:
    """F46: what an attached partition brings along is found by a backfill; a detached one leaves nothing behind."""
    annotation.execute(
        "create table texts (id integer, part integer, body text, primary key (id, part)) partition by list (part)"
    )
    annotation.execute("create table texts_1 partition of texts for values in (1)")
    annotation.attach("texts")
    annotation.execute("create table texts_2 (like texts including all)")
    annotation.execute("insert into texts_2 (id, part, body) values (2, 2, %s)", GIFT)
    annotation.execute("alter table texts attach partition texts_2 for values in (2)")
    annotation.execute("insert into texts_2 values (3, 2, %s)", GIFT)
    assert annotation.queued() == 0
    assert annotation.value("select uncovered_partitions::text[] from motive.status") == ["texts_2"]
    annotation.attach("texts")
    annotation.execute("insert into texts_2 values (4, 2, %s)", FAST)
    assert queued_keys(annotation) == [["4", "2"]]
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.labels() == {2: "gift", 3: "gift", 4: "performance"}
    annotation.execute("alter table texts detach partition texts_2")
    annotation.value("select motive.detach('texts')")
    assert annotation.value("select count(*) from pg_trigger where tgname like 'zzz%'") == 0
    annotation.execute("drop table texts, texts_2")


def test_a_key_or_a_text_of_another_type_than_at_attach_is_captured(annotation: Annotation) -> None:
    """P2: the triggers see that the columns have changed, before a worker has written them anew."""
    annotation.table("id integer primary key, body varchar(100)")
    for name in ("reset", "keep", "brought"):
        annotation.execute(f"drop trigger {trigger_prefix(annotation)}_{name} on texts")
    annotation.execute("alter table texts alter id type text, alter body type text")
    annotation.execute("insert into texts values ('1\"x', %s), ('2', %s)", GIFT, GIFT)
    assert annotation.queued() == 2
    annotation.attach("texts")
    annotation.drain()
    assert annotation.labels() == {'1"x': "gift", "2": "gift"}
    annotation.execute("update texts set body = %s where id = '2'", FAST)
    assert queued_keys(annotation) == [["2"]]


def trigger_prefix(annotation: Annotation) -> str:
    """How the names of the triggers of the only attachment begin."""
    return f"zzz_motive_{annotation.value('select id from motive.attachment')}"


def test_a_backfill_finds_exactly_what_the_triggers_missed(annotation: Annotation) -> None:
    """F47: rows written with triggers off, as a logical subscriber or a restore writes them."""
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts select i, %s from generate_series(1, 50) i", GIFT)
    annotation.drain()
    annotation.execute("set session_replication_role = replica")
    annotation.execute("insert into texts values (60, %s)", GIFT)
    annotation.execute("update texts set body = %s where id = 7", FAST)
    annotation.execute("set session_replication_role = origin")
    assert annotation.queued() == 0
    annotation.value("select motive.backfill('texts')")
    annotation.value("select motive.step()")
    assert queued_keys(annotation) == [["7"], ["60"]]
    assert (annotation.labels()[7], annotation.labels()[60]) == ("performance", "gift")


@pytest.mark.slow
def test_a_statement_of_a_million_rows_is_split_in_bounded_memory(annotation: Annotation, connect: Connect) -> None:
    """F49: entries of a thousand keys; no more memory than a few times work_mem; nobody is notified of anything."""
    annotation.table("id integer primary key, body text")
    listener = connect()
    listener.execute("listen motive_control")
    annotation.execute("set work_mem to '4MB'")
    annotation.execute("insert into texts values (0, 'a gift')")  # caches and plans are there
    backend = Path(f"/proc/{annotation.value('select pg_backend_pid()')}")
    before = private_memory(backend, "VmHWM")
    annotation.execute("insert into texts select i, 'a gift' from generate_series(1, 1000000) i")
    grown = private_memory(backend, "VmHWM") - before
    assert grown < 200 * 2**20
    sizes = annotation.execute("select cardinality(numbers), count(*) from motive.queue group by 1 order by 1")
    assert sizes.fetchall() == [(1, 1), (1000, 1000)]
    assert list(listener.notifies(timeout=0.0)) == []
    # What it enqueued is as good as any other: a worker finds the rows gone, and lets them go.
    annotation.execute("truncate texts; delete from motive.queue where mod(id, 20) <> 0")


def private_memory(process: Path, field: str) -> int:
    """Bytes of a line of /proc/PID/status, without the server's shared buffers."""
    status = (process / "status").read_text()
    kibibytes = {name: int(text) for name, text in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    return 1024 * (kibibytes[field] - kibibytes["RssShmem"])


def test_many_sessions_write_and_every_row_is_annotated(annotation: Annotation, connect: Connect) -> None:
    """P2: eight sessions insert and update at once while a worker works."""
    annotation.table()

    def write(number: int) -> None:
        session = connect()
        for turn in range(20):
            session.execute("insert into texts (body) values (%s)", [f"gift {number} {turn}"])
            session.execute("update texts set body = body || ' slow' where id %% 8 = %s", [number])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    with annotation.working():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        annotation.wait_drained()
    assert annotation.value("select count(*) from texts") == 160
