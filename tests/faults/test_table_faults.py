"""The attached table changes, or refuses what is written (F33, F34): its rows fail alone, and other tables go on."""

import contextlib

import psycopg
import pytest

from tests.fixtures.annotation import Annotation, fill
from tests.fixtures.postgres import Connect
from tests.fixtures.waiting import wait_until

GIFT, FAST = "a gift for my mother", "my old one is too slow"

pytestmark = pytest.mark.usefixtures("invariants")


@pytest.mark.parametrize(
    "change",
    [
        "delete from texts where id = 2",
        "truncate texts",
        "drop table texts",
        "alter table texts drop column body cascade",
    ],
)
def test_what_vanishes_in_flight_is_let_go_quietly(annotation: Annotation, change: str) -> None:
    """F33: row, rows, table or column; another table's rows go on."""
    fill(annotation, 3)
    annotation.execute("create table others (id integer primary key, body text)")
    annotation.attach("others")
    with annotation.working():
        with annotation.fake.hang():
            assert annotation.fake.waiting.wait(20)
            annotation.execute(change)
            annotation.execute("insert into others values (1, %s)", FAST)
        annotation.wait_drained()
    assert annotation.labels("others") == {1: "performance"}
    assert annotation.value("select count(*) from motive.failure") == 0


def test_statements_go_on_after_the_text_column_is_gone_or_renamed(annotation: Annotation) -> None:
    """F33: P3 holds for a table that changed under its triggers; status says what stands in the way."""
    fill(annotation, 1)
    annotation.drain()
    annotation.execute("alter table texts rename column body to content")
    annotation.execute("insert into texts (content) values (%s)", FAST)
    annotation.execute("update texts set content = %s", FAST)
    assert (
        annotation.value("select obstacle from motive.status")
        == "column body is gone: attach the one in its place, motive.attach('public.texts', '...', "
        "prefix => 'motive'), and backfill; or detach"
    )
    annotation.execute("alter table texts rename column content to body")
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert set(annotation.labels().values()) == {"performance"}


@pytest.mark.parametrize(
    "change", ["rename column body to content", "drop column body cascade, add column content text default 'too slow'"]
)
def test_a_column_takes_the_place_of_the_one_that_is_gone(annotation: Annotation, change: str) -> None:
    """F33: the remedy that motive.status names; options and labels stay with the table."""
    annotation.execute("create table texts (id integer primary key, body text, title text)")
    attached = annotation.attach("texts", mode="inline", budget="5 s", prefix="buying_motive")
    annotation.execute("insert into texts values (1, %s, null)", GIFT)
    annotation.execute(f"alter table texts {change}")
    annotation.execute("insert into texts (id, content) values (2, %s)", FAST)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no column nowhere"):
        annotation.attach("texts", "nowhere", prefix="buying_motive")
    assert annotation.attach("texts", "content", prefix="buying_motive") == attached
    assert annotation.execute("select text_column, mode, obstacle from motive.status").fetchall() == [
        ("content", "inline", None)
    ]
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    annotation.execute("insert into texts (id, content) values (3, %s)", GIFT)
    kept = "gift" if "rename" in change else "performance"
    assert annotation.execute("select buying_motive from texts order by id").fetchall() == [
        (kept,),
        ("performance",),
        ("gift",),
    ]
    assert annotation.attach("texts", "title") != attached


@pytest.mark.parametrize("met", [False, True])
def test_rows_that_waited_for_a_column_that_is_gone_are_found_by_a_backfill(annotation: Annotation, met: bool) -> None:
    """F33: unless a worker met them meanwhile, they still wait for the column in its place, as a job does."""
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute("insert into texts values (1, %s)", GIFT)
    annotation.attach("texts")
    annotation.execute("insert into texts values (2, %s)", FAST)
    annotation.value("select motive.backfill('texts')")
    annotation.execute("alter table texts rename body to content")
    if met:
        annotation.drain()
    annotation.attach("texts", "content")
    waiting = (annotation.queued(), annotation.value("select count(*) from motive.job"))
    assert waiting == ((0, 0) if met else (1, 1))
    if met:
        annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.labels() == {1: "gift", 2: "performance"}


def test_a_table_that_has_become_a_partition_says_so(annotation: Annotation) -> None:
    """F33: statements on its parent fire its triggers no more; the remedy that motive.status names is one."""
    annotation.table("id integer primary key, body text")
    annotation.execute("insert into texts values (1, %s)", GIFT)
    annotation.drain()
    annotation.execute("create table every (like texts including all) partition by range (id)")
    annotation.execute("alter table every attach partition texts for values from (0) to (100)")
    annotation.execute("insert into every (id, body) values (2, %s)", FAST)
    assert (
        annotation.value("select obstacle from motive.status")
        == "public.texts is a partition now: motive.detach('public.texts'), then motive.attach('public.every', 'body')"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="attached by itself") as caught:
        annotation.attach("every")
    assert "motive.detach('public.texts')" in (caught.value.diag.message_hint or "")
    annotation.value("select motive.detach('public.texts')")
    annotation.attach("every")
    annotation.value("select motive.backfill('every')")
    annotation.execute("insert into every (id, body) values (3, %s)", GIFT)
    assert annotation.queued() == 1
    annotation.drain()
    assert annotation.labels("every") == {1: "gift", 2: "performance", 3: "gift"}
    annotation.execute("drop table every")


def test_a_table_that_is_renamed_moved_and_given_away_is_annotated_on(annotation: Annotation) -> None:
    """F33: its functions are written anew by themselves."""
    fill(annotation, 2)
    annotation.execute("create role buyer; create schema shelf authorization buyer")
    try:
        annotation.execute("alter table texts rename to reviews; alter table reviews set schema shelf")
        annotation.execute("alter table shelf.reviews owner to buyer")
        annotation.execute("insert into shelf.reviews (body) values (%s)", FAST)
        annotation.drain()
        assert annotation.labels("shelf.reviews") == {1: "gift", 2: "gift", 3: "performance"}
    finally:
        annotation.execute(
            "drop schema shelf cascade; drop owned by buyer cascade; drop role buyer; select motive.sweep()"
        )


@pytest.mark.parametrize(
    "trigger", ["trigger refuse before", "constraint trigger refuse after", "constraint trigger refuse after deferred"]
)
def test_a_row_that_the_table_refuses_fails_alone(annotation: Annotation, trigger: str) -> None:
    """F34: a trigger of the user's that raises for one row, also one that would do so only at the commit."""
    annotation.table()
    annotation.execute("insert into texts (body) select 'gift ' || i from generate_series(1, 20) i")
    kind = trigger.removesuffix(" deferred")
    deferred = "" if kind == trigger else "deferrable initially deferred"
    annotation.execute(
        "create function pg_temp.refuse() returns trigger language plpgsql as "
        "$$ begin if new.id = 7 and new.motive is not null then raise 'frozen'; end if; return new; end $$; "
        f"create {kind} update on texts {deferred} for each row execute function pg_temp.refuse()"
    )
    annotation.drain()
    wait_until(
        lambda: (annotation.drain(), annotation.value("select count(*) from motive.failures"))[1],
        lambda n: n == 1,
        20.0,
        "the row to be retired",
    )
    assert annotation.value("select reason from motive.failures") == (
        "the table refuses the row: error P0001; update the row yourself to see it"
    ), "and not its message, which may quote the text"
    assert annotation.value("select count(*) from texts where motive = 'gift'") == 19


@pytest.mark.parametrize("answer", ["null", "old"])
def test_a_row_whose_update_the_table_swallows_fails_alone(annotation: Annotation, answer: str) -> None:
    """P5: a trigger that drops the update, or undoes it, without an error."""
    annotation.table()
    annotation.execute("insert into texts (body) select 'gift ' || i from generate_series(1, 20) i")
    annotation.execute(
        "create function pg_temp.swallow() returns trigger language plpgsql as "
        f"$$ begin if new.id = 7 then return {answer}; end if; return new; end $$; "
        "create trigger swallow before update on texts for each row execute function pg_temp.swallow()"
    )
    wait_until(
        lambda: (annotation.drain(), annotation.value("select count(*) from motive.failures"))[1],
        lambda n: n == 1,
        20.0,
        "the row to be retired",
    )
    assert "ignores the update" in annotation.value("select reason from motive.failures where key = '[\"7\"]'")
    assert annotation.value("select count(*) from texts where motive = 'gift'") == 19
    annotation.execute("drop trigger swallow on texts")
    annotation.value("select motive.retry('texts')")
    annotation.drain()
    assert annotation.labels()[7] == "gift"


def test_a_row_that_a_policy_hides_from_updates_fails_and_a_locked_one_comes_back(
    annotation: Annotation, connect: Connect
) -> None:
    """P5: neither can be locked, and only one of them is the table's fault."""
    annotation.execute("create role keeper; create schema shelf authorization keeper; set role keeper")
    try:
        annotation.execute("create table shelf.texts (id integer primary key, body text)")
        annotation.execute("create policy seen on shelf.texts for select using (true)")
        annotation.execute("create policy changed on shelf.texts for update using (id <> 2)")
        annotation.execute("reset role")
        annotation.attach("shelf.texts")
        annotation.execute("alter table shelf.texts enable row level security, force row level security")
        annotation.execute("insert into shelf.texts select i, 'gift ' || i from generate_series(1, 3) as i")
        with contextlib.closing(connect()) as other:
            other.execute("begin; select from shelf.texts where id = 3 for update")
            with annotation.working():
                wait_until(
                    lambda: annotation.value("select array_agg(key) from motive.failures"),
                    lambda keys: keys == [["2"]],
                    20.0,
                    "the hidden row to be retired",
                )
                assert annotation.execute("select keys, attempts from motive.queue").fetchall() == [([["3"]], 0)]
                assert annotation.labels("shelf.texts") == {1: "gift", 2: None, 3: None}
                other.execute("rollback")
                annotation.wait_drained()
        assert annotation.labels("shelf.texts") == {1: "gift", 2: None, 3: "gift"}
        annotation.check()
    finally:
        annotation.execute("reset role; drop schema shelf cascade; select motive.sweep(); drop role keeper")


def test_a_table_whose_functions_cannot_be_written_anew_stops_no_other(annotation: Annotation) -> None:
    """P5: the sweep goes on with the others, and its own rows fail with a reason."""
    annotation.execute("create table stuck (id integer primary key, body text)")
    annotation.execute("create table texts (id integer primary key, body text)")
    stuck, _ = annotation.attach("stuck"), annotation.attach("texts")
    annotation.execute(
        f"drop function motive.read_{stuck}; "
        f"create function motive.read_{stuck}(entries bigint[], keys jsonb[], model text, every boolean) "
        "returns integer language sql as 'select 1'"
    )
    annotation.execute("alter table stuck rename to moved_stuck; alter table texts rename to moved_texts")
    annotation.execute("insert into moved_stuck values (1, %s)", GIFT)
    annotation.execute("insert into moved_texts values (1, %s)", GIFT)
    annotation.execute("select motive.sweep()")
    wait_until(
        lambda: (annotation.drain(), annotation.execute("select target::text, key from motive.failures").fetchall())[1],
        lambda failures: failures == [("moved_stuck", ["1"])],
        20.0,
        "the row to be retired",
    )
    assert annotation.labels("moved_texts") == {1: "gift"}
    annotation.execute("drop table moved_stuck; select motive.sweep()")


def test_a_walk_that_one_table_refuses_does_not_stop_the_others(annotation: Annotation) -> None:
    """P5: a policy that raises is its own table's matter; motive.jobs shows it; without it the walk goes on."""
    annotation.execute("create role keeper; create schema shelf authorization keeper; set role keeper")
    try:
        annotation.execute("create table shelf.texts (id integer primary key, body text)")
        annotation.execute("insert into shelf.texts values (1, %s)", GIFT)
        annotation.execute("create policy broken on shelf.texts using (1 / 0 = 1)")
        annotation.execute("reset role")
        annotation.attach("shelf.texts")
        annotation.execute("alter table shelf.texts enable row level security, force row level security")
        annotation.execute("create table texts (id integer primary key, body text)")
        annotation.execute("insert into texts values (1, %s)", GIFT)
        annotation.attach("texts")
        annotation.value("select motive.backfill('shelf.texts')")
        annotation.value("select motive.backfill('texts')")
        annotation.drain()
        assert annotation.labels() == {1: "gift"}
        assert annotation.execute(
            "select target::text, finished_at is null, problem from motive.jobs order by 1"
        ).fetchall() == [
            ("shelf.texts", True, "error 22012; update the row yourself to see it"),
            ("texts", False, None),
        ]
        annotation.execute("drop policy broken on shelf.texts; create policy mended on shelf.texts using (true)")
        wait_until(
            lambda: (annotation.drain(), annotation.labels("shelf.texts"))[1],
            lambda labels: labels == {1: "gift"},
            10.0,
            "the walk to go on",
        )
        assert annotation.value("select count(*) from motive.jobs where problem is not null") == 0
    finally:
        annotation.execute("reset role; drop schema shelf cascade; select motive.sweep(); drop role keeper")
