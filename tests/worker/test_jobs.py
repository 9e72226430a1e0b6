"""Walks over whole tables: what holds them up, and how they end."""

import psycopg
import pytest

from tests.fixtures.annotation import Annotation
from tests.fixtures.postgres import Connect, Connection

GIFT = "a gift for my mother"

pytestmark = pytest.mark.usefixtures("invariants")


def old_rows(annotation: Annotation, table: str) -> None:
    """Attaches a table with three rows that no trigger has seen, and has it walked."""
    annotation.execute(f"create table {table} (id integer primary key, body text)")
    annotation.execute(f"insert into {table} select i, %s from generate_series(1, 3) i", GIFT)
    annotation.attach(table)
    annotation.value("select motive.backfill(%s)", table)


def test_a_locked_table_holds_up_no_other_walk(annotation: Annotation, connect: Connect) -> None:
    """P5: it says so, comes last, holds up no `--once` either, is not taken for done, and goes on without the lock."""
    annotation.execute("update motive.annotation_settings set retry_delay = interval '1 h'")
    old_rows(annotation, "texts")
    old_rows(annotation, "others")
    locker = connect()
    with locker.transaction():
        locker.execute("lock table texts in access exclusive mode")
        assert [annotation.value("select motive.step()") for _ in range(3)] == [1, 3, 0]
        assert annotation.execute("select target::text, problem from motive.jobs order by 1").fetchall() == [
            ("others", None),
            ("texts", "the table is locked"),
        ]
        with annotation.process("--once") as worker:
            assert worker.wait() == 0
        assert annotation.labels("others") == dict.fromkeys((1, 2, 3), "gift")
    annotation.drain()
    assert annotation.labels("texts") == annotation.labels("others") == dict.fromkeys((1, 2, 3), "gift")


def test_a_cancelled_job_takes_along_what_it_has_enqueued(annotation: Annotation) -> None:
    """And nothing else: neither new rows nor what another kind of job has enqueued."""
    old_rows(annotation, "texts")
    annotation.value("select motive.step(2)")
    annotation.value("select motive.shadow('other@1.0.0/00000000')")
    annotation.value("select motive.step(2)")
    annotation.execute("insert into texts values (4, %s)", GIFT)
    waiting = "select priority, waiting from motive.queue_depth order by 1"
    assert annotation.execute(waiting).fetchall() == [("backfill", 3), ("new", 1)]
    annotation.value("select motive.step(2)")
    assert annotation.execute(waiting).fetchall() == [("backfill", 3), ("new", 1), ("shadow", 2)]
    assert annotation.value("select motive.cancel('texts', kind => 'shadow')") == 1
    assert annotation.execute(waiting).fetchall() == [("backfill", 3), ("new", 1)]
    annotation.value("select motive.backfill('texts')")
    assert annotation.value("select motive.cancel('texts')") == 1
    assert annotation.execute(waiting).fetchall() == [("new", 1)]
    assert annotation.value("select motive.step()") == 0
    annotation.drain()
    assert annotation.labels() == {1: None, 2: None, 3: None, 4: "gift"}
    annotation.value("select motive.backfill('texts')")


def test_a_kind_of_job_that_there_is_not_is_refused(annotation: Annotation) -> None:
    """Nothing would be cancelled, which looks like success; every kind in motive.jobs can be named."""
    old_rows(annotation, "texts")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="kind cannot be 'backfil'") as caught:
        annotation.value("select motive.cancel('texts', kind => 'backfil')")
    assert "backfill, reannotate, retry, shadow, promote" in (caught.value.diag.message_hint or "")
    for kind in ("backfill", "reannotate", "retry", "shadow", "promote"):
        annotation.execute(
            "insert into motive.job (attachment, kind) select a.id, %s from motive.attachment as a", kind
        )
        assert annotation.value("select motive.cancel('texts', kind => %s)", kind) >= 1
    annotation.value("select motive.backfill('texts')")


def test_a_cancelled_retry_keeps_the_record_of_what_is_retired(annotation: Annotation) -> None:
    """A row leaves motive.failures once it is annotated, or needs no annotation any more, and not before."""
    retired = "select key from motive.failures order by 1"
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts select i, repeat('gift', 20000) from generate_series(1, 3) as i")
    annotation.drain()
    assert annotation.execute(retired).fetchall() == [(["1"],), (["2"],), (["3"],)]
    annotation.value("select motive.retry('texts')")
    assert [annotation.value("select motive.step(2)") for _ in range(2)] == [2, 1]
    assert annotation.queued() == 3
    annotation.value("select motive.cancel('texts')")
    assert annotation.queued() == 0
    assert annotation.execute(retired).fetchall() == [(["1"],), (["2"],), (["3"],)]
    annotation.execute("delete from texts where id = 1")
    annotation.value("select motive.retry('texts')")
    annotation.drain()
    assert annotation.execute(retired).fetchall() == [(["2"],), (["3"],)]


def test_without_a_table_only_those_that_the_caller_owns_are_walked(annotation: Annotation, alice: Connection) -> None:
    """One that he may only read, and sees in motive.attachments, keeps him from none of his own."""
    annotation.table()
    annotation.execute("grant select on texts to granted")
    (started,) = alice.execute("select motive.shadow('other@1.0.0/00000000')").fetchone() or (None,)
    assert started == 1
    assert annotation.execute("select target::text from motive.jobs").fetchall() == [("alices.texts",)]


@pytest.mark.parametrize("call", ["attach('texts', 'body')", "backfill('texts')", "cancel('texts')"])
def test_only_the_owner_of_a_table_has_it_walked(
    annotation: Annotation, alice: Connection, roles: tuple[str, str], call: str
) -> None:
    """Who may only read it is told so in a sentence, with whose it is."""
    annotation.table()
    annotation.execute("grant select on texts to granted")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"must be owner of table public\.texts") as caught:
        alice.execute(f"select motive.{call}".encode())
    assert "postgres" in (caught.value.diag.message_hint or "")
