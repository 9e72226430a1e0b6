"""What the functions give, as an analyst meets them."""

from collections.abc import Callable

import pytest
from psycopg import errors

from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connection, value


def test_a_text_has_a_motive(connection: Connection) -> None:
    assert value(connection, "select classify_motive('a cheap phone')") == "price_value"
    assert value(connection, "select classify_motive('给妈妈的生日礼物')") == "gift"
    assert value(connection, "select classify_motive('wireless mouse')") == "unknown"
    assert value(connection, "select classify_motive('gift'::varchar(10))") == "gift"


def test_an_array_keeps_its_order_and_its_nulls(connection: Connection) -> None:
    query = "select classify_motive(array['gift', null, 'cheap', '', 'mouse'])"
    assert value(connection, query) == ["gift", None, "price_value", "unknown", "unknown"]
    assert value(connection, "select classify_motive('{}'::text[])") == []


def test_an_array_of_arrays_is_refused(connection: Connection) -> None:
    with pytest.raises(errors.ArraySubscriptError):
        connection.execute("select classify_motive(array[['a', 'b'], ['c', 'd']])")


def test_a_long_array_is_split_by_count_and_by_bytes(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    texts = "array_agg(case when g % 7 = 0 then 'gift' else 'cheap' end || g)"
    query = f"select classify_motive({texts}) from generate_series(1, 1000) g"
    found = value(connection, query)
    assert found == ["gift" if number % 7 == 0 else "price_value" for number in range(1, 1001)]
    # Two are on their way at a time, and either may be the first to arrive.
    assert sorted(len(request.texts) for request in fake_sidecar.requests) == [232, 256, 256, 256]
    fake_sidecar.requests.clear()
    value(connection, "select classify_motive(array_agg(repeat('x', 60000))) from generate_series(1, 5) g")
    assert sorted(len(request.texts) for request in fake_sidecar.requests) == [1, 2, 2]


def test_every_motive_comes_best_first(connection: Connection) -> None:
    rows = connection.execute("select * from classify_motives('a cheap and fast gift')").fetchall()
    assert [motive for motive, _ in rows] == ["price_value", "performance", "gift"]
    assert [confidence for _, confidence in rows] == pytest.approx([0.9, 0.8, 0.7])


def test_no_motive_is_one_row_of_unknown(connection: Connection) -> None:
    assert connection.execute("select * from classify_motives('mouse')").fetchall() == [("unknown", 0.75)]


def test_evidence_is_cut_from_the_original_text(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    text = "👩‍👧 mail a@b.com: 给妈妈的礼物, cheap"
    rows = connection.execute("select * from explain_motive(%s)", [text]).fetchall()
    assert {row[1] for row in rows} == {"礼物", "cheap"}
    for _, evidence, start, stop, _ in rows:
        assert text[start - 1 : stop - 1] == evidence
        assert value(connection, "select substr(%s, %s, %s)", text, start, stop - start) == evidence


def test_rows_are_streamed_with_their_keys(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    connection.execute(
        "create temp table reviews as select g as id, 'gift ' || g as body from generate_series(1, 5000) g"
    )
    rows = connection.execute(
        "select key, motive from motive.classify_rows('select id, body from reviews order by id;')"
    )
    assert rows.fetchall() == [(str(number), "gift") for number in range(1, 5001)]


@pytest.mark.parametrize(
    "query",
    [
        "select 1, 'gift'",
        "select 1, 'gift';  \n",
        "select 1, 'gift' -- a comment",
        "with w as (select 1 as a, 'gift' as b) select * from w",
        "values (1, 'gift')",
        "select 1, 'gift'::varchar(9)",
        "table pg_temp.two_columns",
    ],
)
def test_any_query_of_two_columns_will_do(query: str, connection: Connection) -> None:
    connection.execute("create temp table if not exists two_columns as select 1 as k, 'gift'::text as t")
    assert value(connection, "select motive from motive.classify_rows(%s)", query) == "gift"


@pytest.mark.parametrize("query", ["select 1", "delete from motive.settings", "", "select 1, 'a'; select 2, 'b'"])
def test_another_query_is_a_syntax_error(query: str, connection: Connection) -> None:
    with pytest.raises((errors.SyntaxError, errors.InvalidColumnReference)):
        connection.execute("select * from motive.classify_rows(%s)", [query])


def test_the_callers_search_path_reads_its_query(connection: Connection) -> None:
    connection.execute("create schema elsewhere; create table elsewhere.notes as select 7 as id, 'gift'::text as body")
    try:
        connection.execute("set search_path to elsewhere, public")
        assert value(connection, "select key from motive.classify_rows('select id, body from notes')") == "7"
    finally:
        connection.execute("reset search_path; drop schema elsewhere cascade")


def test_personal_data_stays_in_the_backend(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    value(connection, "select classify_motive('cheap, write to jane.doe@example.com or call 13812345678')")
    request = fake_sidecar.requests[-1]
    assert request.redacted
    assert request.redactions == 2
    assert "jane" not in request.texts[0]
    assert "138" not in request.texts[0]


def test_a_column_that_nobody_reads_is_never_computed(connection: Connection, fake_sidecar: FakeSidecar) -> None:
    """Why the functions are STABLE: a view over many rows costs nothing until its motive is asked for."""
    connection.execute(
        "create temp table base as select g as id, 'gift' as body from generate_series(1, 20) g;"
        "create temp view seen as select id, classify_motive(body) as motive from base"
    )
    assert value(connection, "select count(*) from seen") == 20
    assert fake_sidecar.requests == []
    assert value(connection, "select motive from seen where id = 3") == "gift"
    assert len(fake_sidecar.requests) == 1


def test_settings_take_effect_in_the_same_session(connection: Connection, settings: Callable[..., None]) -> None:
    value(connection, "select classify_motive('warm')")
    settings(deadline_ms=1)
    with pytest.raises((errors.QueryCanceled, AssertionError)):
        assert value(connection, "select classify_motive('cheap')") != "price_value"


def test_the_taxonomy_joins_without_doubling_a_row(connection: Connection) -> None:
    connection.execute(
        "begin; insert into motive.taxonomies select decode(repeat('ab', 32), 'hex'), position, code, abstention, "
        "t.group, 'Renamed', name_zh, definition_en, definition_zh, source from motive.taxonomies t"
    )
    rows = connection.execute("select name_en from motive.taxonomy where code = 'gift'").fetchall()
    connection.execute("rollback")
    assert rows == [("Renamed",)]


def test_a_model_is_recorded_once(connection: Connection) -> None:
    first = value(connection, "select motive.load_model()")
    assert value(connection, "select motive.load_model()") == first
    assert connection.execute("select model from motive.models").fetchall() == [(first,)]
    assert value(connection, "select string_agg(code, ' ' order by position) from motive.taxonomy") == (
        "price_value performance gift unknown"
    )


def test_settings_are_one_row(connection: Connection, settings: Callable[..., None]) -> None:
    """A second row replaces the first, as when a dump is restored over a new extension."""
    target = value(connection, "select target from motive.settings")
    connection.execute("insert into motive.settings (target, deadline_ms) values (%s, 777)", [target])
    assert connection.execute("select target, deadline_ms from motive.settings").fetchall() == [(target, 777)]


def test_every_object_has_a_comment(connection: Connection) -> None:
    query = """
        select pg_catalog.pg_describe_object(d.classid, d.objid, 0) from pg_catalog.pg_depend d
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
          and d.refobjid = (select oid from pg_catalog.pg_extension where extname = 'pg_motive')
          and obj_description(d.objid, d.classid::regclass::name) is null
          and not exists (select from pg_catalog.pg_type t where d.classid = 'pg_type'::regclass and t.oid = d.objid
                          and (t.typrelid <> 0 or t.typelem <> 0) and t.typname <> 'answer')
          and not (d.classid = 'pg_class'::regclass and exists
                   (select from pg_catalog.pg_class c where c.oid = d.objid and c.relkind not in ('r', 'v')))
    """
    assert [row[0] for row in connection.execute(query)] == []


def test_every_function_states_its_path_its_volatility_and_that_it_stays_serial(connection: Connection) -> None:
    query = """
        select p.oid::regprocedure::text, p.provolatile, p.proparallel, coalesce(p.proconfig::text, '')
        from pg_catalog.pg_proc p join pg_catalog.pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass
        where d.deptype = 'e' and d.refobjid = (select oid from pg_catalog.pg_extension where extname = 'pg_motive')
          and p.proname ~ '^(classify_|explain_|call_|checked|load_model)'
    """
    for name, volatility, parallel, config in connection.execute(query).fetchall():
        assert volatility in ("s", "v"), f"{name} must not be immutable"
        assert parallel == "u", name
        if name != "motive.classify_rows(text)":
            assert "search_path=pg_catalog, pg_temp" in config, name


def test_python_bodies_have_five_lines(connection: Connection) -> None:
    query = """select p.proname, p.prosrc from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
               where l.lanname = 'plpython3u' and p.pronamespace = 'motive'::regnamespace"""
    bodies = connection.execute(query).fetchall()
    assert bodies
    for name, body in bodies:
        assert len(body.strip().splitlines()) <= 5, name
