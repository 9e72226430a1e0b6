"""What a table's owner gains who uses it against the worker and the extension: nothing (F57, P9)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.fixtures.annotation import Annotation
from tests.fixtures.postgres import Connect, Connection
from tests.fixtures.waiting import wait_until

GIFT = "a gift for my mother"

# Tries to become superuser, whoever it runs as, and notes who that was.
TRY = """
create table alices.seen (who text, gained boolean);
-- Keeps what a rollback undoes.
create sequence alices.others;
grant usage on sequence alices.others to public;
create function alices.count_others() returns boolean language plpgsql as $$
begin
    if current_user <> 'granted' then
        perform nextval('alices.others');
    end if;
    return true;
end $$;
create function alices.try() returns boolean language plpgsql as $$
begin
    perform alices.count_others();
    begin
        execute 'alter role granted superuser';
        insert into alices.seen values (current_user, true);
    exception when others then
        insert into alices.seen values (current_user, false);
    end;
    return true;
end $$;
create function alices.try_in_trigger() returns trigger language plpgsql as
    $$ begin perform alices.try(); return new; end $$;
-- With it a type's values cannot be read as text, nor a value become one of it, without its being run.
create function alices.try_on(text) returns text language plpgsql as
    $$ begin perform alices.try(); return $1; end $$;
"""


@pytest.fixture(autouse=True)
def _nothing_gained(annotation: Annotation, alice: Connection) -> Iterator[None]:
    """Every test begins with the weapon, and ends with nobody but its owner having fired it."""
    alice.execute(TRY)
    yield
    assert {who for (who,) in annotation.execute("select who from alices.seen")} <= {"granted"}
    assert not annotation.value("select bool_or(gained) from alices.seen")
    assert not annotation.value("select is_called from alices.others")
    assert not annotation.value("select rolsuper from pg_roles where rolname = 'granted'")


def annotate(annotation: Annotation, alice: Connection) -> None:
    """A row of hers is annotated by a worker that is a superuser; somebody else's as well."""
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.attach("texts")
    annotation.execute("insert into texts values (1, %s)", GIFT)
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    annotation.value("select motive.backfill('alices.texts')")
    annotation.drain(lanes=1)
    assert annotation.labels() == {1: "gift"}


def fired(annotation: Annotation) -> bool:
    """Whether the weapon went off at all: otherwise the test shows nothing."""
    return bool(annotation.value("select exists (select from alices.seen)"))


@pytest.mark.parametrize("moment", ["before update", "after update"])
def test_a_trigger_fires_as_the_tables_owner(annotation: Annotation, alice: Connection, moment: str) -> None:
    alice.execute(f"create trigger try {moment} on alices.texts for each row execute function alices.try_in_trigger()")
    annotate(annotation, alice)
    assert fired(annotation)
    assert annotation.labels("alices.texts") == {1: "gift"}


def test_a_deferred_trigger_fires_as_the_tables_owner_too(annotation: Annotation, alice: Connection) -> None:
    """At the commit it would fire as the worker; one that defers the next is followed to its end."""
    alice.execute("create table alices.other (n integer)")
    alice.execute(
        "create function alices.defer() returns trigger language plpgsql as $$ begin perform alices.try(); "
        "set constraints all deferred; insert into alices.other values (1); return new; end $$; "
        "create constraint trigger defer after update on alices.texts deferrable initially deferred "
        "for each row execute function alices.defer(); "
        "create constraint trigger try after insert on alices.other deferrable initially deferred "
        "for each row execute function alices.try_in_trigger()"
    )
    annotate(annotation, alice)
    assert annotation.value("select count(*) from alices.seen") >= 2
    assert annotation.labels("alices.texts") == {1: "gift"}


def test_deferred_triggers_without_end_stop_their_own_rows_alone(annotation: Annotation, alice: Connection) -> None:
    alice.execute("create table alices.other (n integer)")
    alice.execute(
        "create function alices.defer() returns trigger language plpgsql as $$ begin perform alices.try(); "
        "set constraints all deferred; insert into alices.other values (1); return new; end $$"
    )
    for table, event in (("texts", "update"), ("other", "insert")):
        alice.execute(
            f"create constraint trigger defer after {event} on alices.{table} deferrable initially deferred "
            "for each row execute function alices.defer()"
        )
    annotate(annotation, alice)
    assert annotation.labels("alices.texts") == {1: None}


@pytest.mark.parametrize("forced", [True, False])
def test_a_policy_is_asked_as_the_tables_owner(annotation: Annotation, alice: Connection, forced: bool) -> None:
    alice.execute("create policy try on alices.texts using (alices.try())")
    alice.execute("alter table alices.texts enable row level security")
    if forced:
        alice.execute("alter table alices.texts force row level security")
    annotate(annotation, alice)
    assert fired(annotation) is forced
    assert annotation.labels("alices.texts") == {1: "gift"}


def test_an_index_expression_is_computed_as_the_tables_owner(annotation: Annotation, alice: Connection) -> None:
    alice.execute(
        "create function alices.index_try(text) returns text immutable language plpgsql as $$ begin "
        "if current_user <> 'granted' then execute 'alter role granted superuser'; end if; return $1; end $$; "
        "create index on alices.texts (alices.index_try(motive))"
    )
    annotate(annotation, alice)
    assert annotation.labels("alices.texts") == {1: "gift"}


SHADOWS = """
create domain alices.oid as pg_catalog.oid check (alices.try());
create domain alices.regrole as pg_catalog.regrole check (alices.try());
create function alices.array_agg(jsonb) returns jsonb[] language plpgsql as
    $$ begin perform alices.try(); return null; end $$;
"""


@pytest.mark.parametrize("security", ["invoker", "definer"])
def test_functions_that_their_owner_has_altered_give_nothing_away(
    annotation: Annotation, alice: Connection, security: str
) -> None:
    """The reader and the writer are hers: she may change as whom they run, and what their names mean."""
    alice.execute(SHADOWS)
    alice.execute(
        "create trigger try before update on alices.texts for each row execute function alices.try_in_trigger()"
    )
    number = annotation.value("select id from motive.attachment")
    for name in ("read", "scan", "said", "write"):
        alice.execute(f"alter function motive.{name}_{number} security {security}")
        alice.execute(f"alter function motive.{name}_{number} set search_path to alices, pg_catalog")
    annotate(annotation, alice)


def test_a_cast_of_the_owners_is_not_run_by_the_capturing_trigger(annotation: Annotation, alice: Connection) -> None:
    """That trigger is the extension's: she may put it on another table, but not on other types."""
    number = annotation.value("select id from motive.attachment")
    alice.execute(
        "create type alices.evil as (t text); "
        "create function alices.said(alices.evil) returns text language plpgsql as "
        "$$ begin perform alices.try(); return 'x'; end $$; "
        "create cast (alices.evil as text) with function alices.said(alices.evil)"
    )
    for table, columns in (("a", "id integer, body alices.evil"), ("b", "id alices.evil, body text")):
        alice.execute(f"create table alices.{table} ({columns})")
        alice.execute(
            f"create trigger trap after insert on alices.{table} referencing new table as motive_new "
            f"for each statement execute function motive.capture_{number}()"
        )
    alice.execute("insert into alices.a values (1, row('x')); insert into alices.b values (row('x'), 'x')")
    annotate(annotation, alice)


@pytest.mark.parametrize(("function", "event", "rows"), [
    ("capture", "insert", ""),
    ("capture", "insert", "referencing new table as other"),
    ("recapture", "update", ""),
    ("recapture", "update", "referencing new table as motive_new"),
    ("recapture", "insert", "referencing new table as motive_new"),
])  # fmt: skip
def test_a_view_of_the_writers_is_not_taken_for_the_rows_of_a_statement(
    annotation: Annotation, alice: Connection, function: str, event: str, rows: str
) -> None:
    """In a trigger without transition tables their names would lead to pg_temp."""
    number = annotation.value("select id from motive.attachment")
    for name in ("motive_new", "motive_old"):
        alice.execute(f"create temp view {name} as select 1 as id, 'x'::text as body where alices.try()")
    alice.execute(
        "create temp table texts (id integer primary key, body text); insert into pg_temp.texts values (2, 'x'); "
        f"create trigger trap after {event} on pg_temp.texts {rows} "
        f"for each statement execute function motive.{function}_{number}()"
    )
    with pytest.raises(psycopg.errors.TriggeredActionException, match=r"only motive\.attach"):
        alice.execute(
            "insert into pg_temp.texts values (1, 'x')" if event == "insert" else "update pg_temp.texts set body = 'y'"
        )
    alice.execute("drop table pg_temp.texts; drop view pg_temp.motive_new, pg_temp.motive_old")
    annotate(annotation, alice)


@pytest.mark.parametrize("place", ["trigger", "deferred trigger", "policy"])
def test_a_cursor_that_is_held_beyond_the_commit_is_refused(
    annotation: Annotation, alice: Connection, place: str
) -> None:
    """The commit would compute it as the worker."""
    alice.execute(
        "create function alices.hold() returns boolean language plpgsql as $$ begin "
        "if current_user = session_user then return true; end if; "
        "execute 'declare held cursor with hold for select alices.try()'; return true; end $$; "
        "create function alices.hold_in_trigger() returns trigger language plpgsql as "
        "$$ begin perform alices.hold(); return new; end $$"
    )
    if place == "policy":
        alice.execute("create policy hold on alices.texts using (alices.hold())")
        alice.execute("alter table alices.texts enable row level security")
        alice.execute("alter table alices.texts force row level security")
    else:
        kind = "constraint trigger" if place.startswith("deferred") else "trigger"
        deferred = "deferrable initially deferred" if place.startswith("deferred") else ""
        alice.execute(
            f"create {kind} hold after update on alices.texts {deferred} "
            "for each row execute function alices.hold_in_trigger()"
        )
    annotate(annotation, alice)
    assert annotation.value("select motive from alices.texts") is None
    assert not fired(annotation)
    annotation.execute("delete from motive.queue")


@pytest.mark.parametrize("call", ["select count(*) from motive.diff('a@1/00000000', 'b@1/00000000', 'alices.texts')",
                                  "select count(*) from motive.corrections('alices.texts')",
                                  "select motive.correct('alices.texts', '1', '{gift}')"])  # fmt: skip
def test_a_cast_of_the_owners_is_not_run_by_who_reads_the_annotation(
    annotation: Annotation, alice: Connection, call: str
) -> None:
    annotate(annotation, alice)
    alice.execute(
        "create type alices.evil as (t text); "
        "create function alices.said(alices.evil) returns text language plpgsql as "
        "$$ begin perform alices.try(); return 'x'; end $$; "
        "create cast (alices.evil as text) with function alices.said(alices.evil) as implicit"
    )
    for (trigger,) in alice.execute(
        "select tgname from pg_trigger where tgrelid = 'alices.texts'::regclass and not tgisinternal"
    ).fetchall():
        alice.execute(f"drop trigger {trigger} on alices.texts".encode())
    alice.execute("alter table alices.texts alter motive_model type alices.evil using row(motive_model)::alices.evil")
    with pytest.raises(psycopg.Error, match=r"other types than|has said nothing"):
        annotation.execute(call)
    assert not fired(annotation)


def test_who_compares_models_runs_nothing_of_owners_that_were_not_named(
    annotation: Annotation, alice: Connection, connect: Connect
) -> None:
    """Policies are asked as whoever reads, and what is constant in an index the planner computes as him."""
    annotate(annotation, alice)
    alice.execute(
        "create function alices.constant(text) returns boolean immutable language sql as 'select true'; "
        "create index on alices.texts (id) where alices.constant('x'); "
        "create or replace function alices.constant(text) returns boolean immutable language plpgsql as "
        "$$ begin perform alices.try(); return true; end $$; "
        "create policy try on alices.texts using (alices.try()); grant usage on schema alices to public; "
        "alter table alices.texts enable row level security; grant select on alices.texts to public"
    )
    compare = "select count(*) from motive.diff('a@1/00000000', 'b@1/00000000')"
    annotation.execute("select motive.grant_usage('stranger')")
    try:
        for reader in (connect("stranger"), connect()):
            with pytest.raises(psycopg.Error, match="has said nothing"):
                reader.execute(compare)
    finally:
        annotation.execute("select motive.revoke_usage('stranger')")
    assert not fired(annotation)


def test_a_table_that_gives_way_to_a_view_while_it_is_waited_for_is_not_read(
    annotation: Annotation, alice: Connection, connect: Connect
) -> None:
    annotate(annotation, alice)
    reader = connect()
    with alice.transaction(), ThreadPoolExecutor(1) as pool:
        alice.execute(
            "alter table alices.texts rename to moved; "
            "create view alices.texts as select * from alices.moved where alices.try()"
        )
        reading = pool.submit(reader.execute, "select count(*) from motive.diff('a@1/0', 'b@1/0', 'alices.texts')")
        waiting = "select count(*) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        wait_until(lambda: annotation.value(waiting, reader.info.backend_pid), bool, 20.0, "the reader to wait")
        alice.execute("commit")
        with pytest.raises(psycopg.Error):
            reading.result(20)
        alice.execute("begin")
    assert not fired(annotation)
    alice.execute("drop view alices.texts; alter table alices.moved rename to texts")


@pytest.mark.parametrize("weapon", ["deferred", "held"])
def test_a_search_path_that_a_trigger_sets_hides_nothing(
    annotation: Annotation, alice: Connection, weapon: str
) -> None:
    """It outlives the functions around the trigger: neither what settles a table nor what is ours looks there."""
    fire = "" if weapon == "deferred" else "execute 'declare held cursor with hold for select alices.try()'; "
    alice.execute(
        "create table alices.pg_trigger (tgdeferrable boolean); "
        "create table alices.pg_cursors (is_holdable boolean, creation_time timestamptz); "
        "create function alices.more(integer, integer) returns boolean language plpgsql as "
        "$$ begin perform alices.try(); return false; end $$; "
        "create operator alices.> (leftarg = integer, rightarg = integer, function = alices.more); "
        "create function alices.set() returns trigger language plpgsql as "
        "$$ begin perform set_config('search_path', 'alices, pg_catalog', false); " + fire + "return new; end $$; "
        "create trigger set before update on alices.texts for each row execute function alices.set()"
    )
    if weapon == "deferred":
        alice.execute(
            "create constraint trigger try after update on alices.texts deferrable initially deferred "
            "for each row execute function alices.try_in_trigger()"
        )
    annotate(annotation, alice)
    annotation.execute("delete from motive.queue")


@pytest.mark.parametrize("name", ["read", "scan", "said", "write"])
def test_types_of_the_owners_are_not_looked_up_before_a_function_knows_whom_it_runs_as(
    annotation: Annotation, alice: Connection, name: str
) -> None:
    number = annotation.value("select id from motive.attachment")
    for type_ in ("jsonb", "text", "bytea", "oid", "int4", "bool"):
        alice.execute(f"create domain alices.{type_} as pg_catalog.{type_} check (alices.count_others())".encode())
    alice.execute(f"alter function motive.{name}_{number} security invoker".encode())
    alice.execute(f"alter function motive.{name}_{number} set search_path to alices, pg_catalog".encode())
    annotate(annotation, alice)


def test_truncating_does_not_hide_what_a_deferred_trigger_has_deferred(
    annotation: Annotation, alice: Connection
) -> None:
    alice.execute("create table alices.a (n integer); create table alices.b (n integer)")
    for here, there in ("ab", "ba"):
        alice.execute(
            f"create function alices.fire_{here}() returns trigger language plpgsql as $$ begin "
            "perform alices.count_others(); "
            f"set constraints all deferred; truncate alices.{there}; insert into alices.{there} values (1); "
            "return new; end $$; "
            f"create constraint trigger fire after insert on alices.{here} deferrable initially deferred "
            f"for each row execute function alices.fire_{here}()"
        )
    alice.execute(
        "create function alices.begin() returns trigger language plpgsql as "
        "$$ begin insert into alices.a values (1); return new; end $$; "
        "create trigger begin before update on alices.texts for each row execute function alices.begin()"
    )
    annotate(annotation, alice)
    assert annotation.labels("alices.texts") == {1: None}
    annotation.execute("delete from motive.queue")


def test_what_an_earlier_owner_has_granted_ends_with_his_ownership(annotation: Annotation, alice: Connection) -> None:
    number = annotation.value("select id from motive.attachment")
    for name in ("read", "scan", "said", "write"):
        alice.execute(f"grant execute on function motive.{name}_{number} to stranger with grant option".encode())
    annotation.execute("create role bob; grant all on schema alices to bob; alter table alices.texts owner to bob")
    try:
        annotation.execute("select motive.sweep()")
        holders = (
            "select distinct g.grantee::regrole::text from pg_proc as p cross join lateral aclexplode(p.proacl) as g "
            "where p.pronamespace = 'motive'::regnamespace and p.proname ~ %s order by 1"
        )
        assert annotation.execute(holders, f"_{number}$").fetchall() == [("bob",), ("postgres",)]
    finally:
        annotation.execute("alter table alices.texts owner to granted; select motive.sweep()")
        annotation.execute("drop owned by bob; drop role bob")


def test_an_assertion_of_the_owners_stops_nobody_else(annotation: Annotation, alice: Connection) -> None:
    """PL/pgSQL's `others` leaves it out."""
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    annotation.execute("delete from motive.queue")
    alice.execute(
        "create function alices.asserts() returns boolean language plpgsql as "
        "$$ begin if current_user <> session_user then raise assert_failure; end if; return true; end $$; "
        "create policy asserts on alices.texts using (alices.asserts()); "
        "alter table alices.texts enable row level security, force row level security"
    )
    annotation.execute("create table texts (id integer primary key, body text); insert into texts values (1, 'a gift')")
    annotation.attach("texts")
    annotation.value("select motive.backfill('alices.texts')")
    annotation.value("select motive.backfill('texts')")
    with annotation.working(lanes=1):
        wait_until(annotation.labels, lambda labels: labels == {1: "gift"}, 20.0, "somebody else's row")
    assert "P0004" in annotation.value("select problem from motive.jobs where finished_at is null")


@pytest.mark.parametrize("column", ["body", "motive", "motives", "motive_model"])
def test_a_check_of_the_owners_is_not_run_by_the_inline_trigger(
    annotation: Annotation, alice: Connection, column: str
) -> None:
    alice.execute("select motive.attach('alices.texts', 'body', 'inline', '5 s')")
    number = annotation.value("select id from motive.attachment")
    alice.execute(
        "create domain alices.evil as text check (value is null or alices.try_on(value) = value); "
        "create domain alices.evils as text[] check (value is null or alices.try_on('x') = 'x')"
    )
    types = {
        "body": "text",
        "motive": "text",
        "motive_confidence": "real",
        "motives": "text[]",
        "motive_model": "text",
        "motive_hash": "bytea",
        column: "alices.evils" if column == "motives" else "alices.evil",
    }
    columns = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    alice.execute(f"create table alices.trap ({columns})")
    alice.execute(
        f"create trigger trap before insert on alices.trap for each row execute function motive.inline_{number}()"
    )
    alice.execute("insert into alices.trap (body) values (%s)", [GIFT])
    annotate(annotation, alice)


@pytest.mark.parametrize("name", ["$body$;alter role granted superuser;select $body$", "'||alices.try()||'", "$$"])
def test_names_are_never_read_as_code(annotation: Annotation, alice: Connection, name: str) -> None:
    """Not even where nobody checks the bodies of functions when they are made."""
    alice.execute("set check_function_bodies to off")
    quoted = psycopg.sql.Identifier(name).as_string()
    table = f"alices.{quoted}"
    alice.execute(f"create table {table} (id integer primary key, {quoted} text)".encode())
    alice.execute("select motive.attach(%s, %s, 'inline', '5 s', 'queue', 'm$body$')", [table, name])
    alice.execute("select motive.attach(%s, %s, prefix => 'm$body$')", [table, name])
    alice.execute(f"insert into {table} values (1, 'a gift')".encode())
    annotate(annotation, alice)
    assert alice.execute(f'select "m$body$" from {table}'.encode()).fetchall() == [("gift",)]


@pytest.mark.parametrize("name", ["Ann.Smith", "ann@shop.com", "Ann"])
def test_owners_may_have_any_name(annotation: Annotation, name: str) -> None:
    role = psycopg.sql.Identifier(name).as_string()
    annotation.execute(f"create role {role}; select motive.grant_usage('{role}')")
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute(f"alter table texts owner to {role}")
    try:
        annotation.attach("texts")
        annotation.execute("insert into texts values (1, %s)", GIFT)
        annotation.drain(lanes=1)
        assert annotation.labels() == {1: "gift"}
    finally:
        annotation.execute(f"drop owned by {role} cascade; drop role {role}; select motive.sweep()")


def test_a_trigger_that_sleeps_holds_up_nobody_elses_rows(annotation: Annotation, alice: Connection) -> None:
    """Its rows alone are put off; the server ends what takes too long, and lets go of its locks."""
    alice.execute(
        "create function alices.sleep() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(60); return new; end $$; "
        "create trigger sleep before update on alices.texts for each row execute function alices.sleep()"
    )
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.attach("texts")
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    put_off = "select ready_at > clock_timestamp() + interval '1 s' from motive.queue where lease is null"
    with annotation.working(lanes=1, database_timeout_s=1.0):
        for number in range(1, 4):
            annotation.execute("insert into texts values (%s, %s)", number, GIFT)
            wait_until(annotation.labels, lambda labels: None not in labels.values(), 20.0, "somebody else's row")
        wait_until(
            lambda: annotation.execute(put_off).fetchone(), lambda row: row == (True,), 20.0, "hers to be put off"
        )
    annotation.execute("delete from motive.queue")


SETTINGS = {
    "encoding": "set client_encoding to 'LATIN1'",
    "search path": "perform set_config('search_path', 'alices', false)",
    "timeout": "set statement_timeout to '1ms'",
    "read only": "set default_transaction_read_only to on",
    "replication": "set client_min_messages to error; set datestyle to 'german'; set row_security to off",
    "types": "if to_regtype('pg_temp.jsonb') is null then "
    "create domain pg_temp.jsonb as text check (alices.try()); create domain pg_temp.int2 as text; end if",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_trigger_sets_for_the_session_harms_nobody(
    annotation: Annotation, alice: Connection, setting: str
) -> None:
    """The worker's next calls are as if it had never run."""
    alice.execute(
        "create function alices.make_interval(secs float8) returns interval language plpgsql as "
        "$$ begin perform alices.try(); return '1 s'; end $$"
    )
    alice.execute(
        "create function alices.set() returns trigger language plpgsql as "
        f"$$ begin {SETTINGS[setting]}; return new; end $$; "
        "create trigger try before update on alices.texts for each row execute function alices.set()"
    )
    annotate(annotation, alice)
    assert annotation.labels("alices.texts") == {1: "gift"}


def test_an_encoding_that_a_policy_sets_loses_no_text(annotation: Annotation, alice: Connection) -> None:
    """Texts are sent in the worker's."""
    alice.execute(
        "create function alices.latin() returns boolean language plpgsql as $$ begin "
        "if current_user <> session_user then perform set_config('client_encoding', 'LATIN1', false); end if; "
        "return true; end $$; "
        "create policy latin on alices.texts using (alices.latin()); "
        "alter table alices.texts enable row level security, force row level security; "
        "insert into alices.texts values (2, '送给妈妈的 gift')"
    )
    annotate(annotation, alice)
    assert annotation.labels("alices.texts") == {1: "gift", 2: "gift"}


def test_a_policy_that_sleeps_holds_up_no_walk_over_anothers_table(annotation: Annotation, alice: Connection) -> None:
    alice.execute("insert into alices.texts values (1, %s)", [GIFT])
    annotation.execute("delete from motive.queue")
    alice.execute(
        "create function alices.sleep() returns boolean language plpgsql as "
        "$$ begin if current_user <> session_user then perform pg_sleep(60); end if; return true; end $$; "
        "create policy sleep on alices.texts using (alices.sleep()); "
        "alter table alices.texts enable row level security, force row level security"
    )
    annotation.execute("create table texts (id integer primary key, body text); insert into texts values (1, 'a gift')")
    annotation.attach("texts")
    annotation.value("select motive.backfill('alices.texts')")
    annotation.value("select motive.backfill('texts')")
    with annotation.working(lanes=1, database_timeout_s=1.0):
        wait_until(annotation.labels, lambda labels: labels == {1: "gift"}, 20.0, "somebody else's row")
    assert "take too long" in annotation.value("select problem from motive.jobs where finished_at is null")
