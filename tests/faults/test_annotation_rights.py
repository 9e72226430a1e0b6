"""Who may do what with annotated tables (F53, F57)."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.annotation import Annotation
from tests.fixtures.postgres import Connect, Connection

GIFT = "a gift for my mother"


@pytest.fixture(autouse=True)
def _invariants(annotation: Annotation) -> Iterator[None]:
    """Every test ends with a worker that drains, and the three invariants."""
    yield
    annotation.execute("drop schema if exists alices cascade; select motive.sweep()")
    annotation.drain()
    annotation.check()


def test_an_owner_without_privileges_attaches_and_is_annotated(annotation: Annotation, alice: Connection) -> None:
    """F53: a granted user needs nothing but her own table."""
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    annotation.drain()
    assert alice.execute("select motive from alices.texts").fetchone() == ("gift",)
    alice.execute("select motive.correct('alices.texts', '1', '{performance}')")
    alice.execute(
        "select motive.backfill('alices.texts'), motive.retry('alices.texts'), motive.reannotate('alices.texts')"
    )
    annotation.drain()
    assert alice.execute("select motive from alices.texts").fetchone() == ("performance",)
    assert alice.execute("select target::text from motive.status").fetchall() == [("alices.texts",)]
    alice.execute("select motive.detach('alices.texts', drop_columns => true)")


def test_inserting_needs_no_grant(annotation: Annotation, alice: Connection, connect: Connect) -> None:
    """F53: a stranger who may insert into the table may do just that."""
    alice.execute("grant usage on schema alices to stranger; grant insert on alices.texts to stranger")
    stranger = connect("stranger")
    stranger.execute("insert into alices.texts values (1, %s)", [GIFT])
    annotation.drain()
    assert alice.execute("select motive from alices.texts").fetchone() == ("gift",)


@pytest.mark.parametrize(
    "statement",
    [
        "select motive.attach('texts', 'body')",
        "insert into motive.attachment (target, text_column) values ('texts', 'body')",
        "insert into motive.attachment (id, target, text_column) overriding system value values (77, 'texts', 'body')",
        "select * from motive.queue",
        "delete from motive.queue",
        "select * from motive.failure",
        "select * from motive.settings",
        "update motive.annotation_settings set max_attempts = 1",
        "select motive.claim()",
        "select motive.promote('x')",
        "select motive.complete(gen_random_uuid(), '[]', 'x')",
        "select motive.repair(1)",
    ],
)
def test_a_granted_user_gets_no_further(
    annotation: Annotation, roles: tuple[str, str], connect: Connect, statement: str
) -> None:
    """F53, F57: neither another's table nor the queue."""
    annotation.execute("create table texts (id integer primary key, body text)")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType)):
        connect("granted").execute(statement)


def test_another_users_attachments_are_invisible(
    annotation: Annotation, roles: tuple[str, str], connect: Connect
) -> None:
    """F53: views show what one may SELECT."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    session = connect("granted")
    for view in ("attachments", "queue_depth", "failures", "freshness", "jobs", "status"):
        assert session.execute(f"select * from motive.{view}").fetchall() == []
    with pytest.raises(psycopg.errors.UndefinedObject):
        session.execute("select motive.detach('texts')")
    with pytest.raises(psycopg.errors.UndefinedObject, match="said nothing of the rows that you may read"):
        session.execute("select * from motive.diff('a', 'b')")


def test_rows_that_row_level_security_hides_are_told_of_to_nobody(
    annotation: Annotation, alice: Connection, connect: Connect
) -> None:
    """P6: neither their keys nor what is known of them, to whom the table would not show them."""
    annotation.execute("select motive.grant_usage('stranger')")
    alice.execute("alter table alices.texts add tenant name not null default 'granted'")
    alice.execute("grant usage on schema alices to stranger; grant select on alices.texts to stranger")
    alice.execute("insert into alices.texts values (1, %s), (2, %s)", [GIFT, GIFT])
    annotation.drain()
    annotation.execute(
        "insert into motive.failure (attachment, key, hash, reason, attempts) "
        "select a.id, '[\"1\"]', '', 'refused', 1 from motive.attachment as a; "
        "insert into motive.job (attachment, kind, problem, finished_at) "
        "select a.id, 'backfill', 'row 1', now() from motive.attachment as a; "
        "insert into motive.shadow_result (attachment, key, model, hash, motives, confidence) "
        "select a.id, jsonb_build_array(t.id::text), 'tried', t.motive_hash, '{performance}', 1 "
        "from motive.attachment as a, alices.texts as t"
    )
    model = annotation.value("select min(motive_model) from alices.texts")
    looks = (
        "select key from motive.failures",
        "select key from motive.shadow_result where key is not null",
        "select problem from motive.jobs where problem is not null",
    )

    def seen(session: Connection) -> list[int]:
        return [len(session.execute(look.encode()).fetchall()) for look in looks]

    compared = f"select key from motive.diff('{model}', 'tried', 'alices.texts')".encode()
    stranger = connect("stranger")
    assert seen(stranger) == [1, 2, 1]
    assert len(stranger.execute(compared).fetchall()) == 2
    alice.execute(
        "alter table alices.texts enable row level security; "
        "create policy own on alices.texts using (tenant = current_user)"
    )
    assert seen(stranger) == [0, 0, 0]
    with pytest.raises(psycopg.errors.UndefinedObject, match="said nothing of the rows that you may read"):
        stranger.execute(compared)
    assert stranger.execute("select kind, problem from motive.jobs").fetchall() == [("backfill", None)]
    assert seen(alice) == [1, 2, 1]
    assert len(alice.execute(compared).fetchall()) == 2


def test_a_worker_needs_no_superuser(
    annotation: Annotation, roles: tuple[str, str], connect: Connect, alice: Connection
) -> None:
    """P6: motive.grant_worker() is enough for everything that a worker does."""
    annotation.execute("select motive.grant_worker('stranger')")
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    alice.execute("select motive.backfill('alices.texts')")
    annotation.drain(dsn=psycopg.conninfo.make_conninfo(annotation.dsn, user="stranger"))
    assert alice.execute("select motive from alices.texts").fetchone() == ("gift",)
    annotation.execute("select motive.revoke_worker('stranger')")
    held = "select bool_or(has_schema_privilege('stranger', 'motive', 'usage')), " + (
        "bool_or(has_function_privilege('stranger', p.oid, 'execute')) "
        "from pg_proc as p where p.pronamespace = 'motive'::regnamespace"
    )
    assert annotation.execute(held).fetchone() == (False, False)
