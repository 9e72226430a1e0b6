"""The ordinary way: rows are written, the worker annotates them."""

import psycopg
import pytest

from tests.fixtures.annotation import Annotation

GIFT, FAST = "a gift for my mother", "my old one is too slow"


def test_rows_of_every_kind_of_statement_are_annotated(annotation: Annotation) -> None:
    """INSERT of one and of many rows, COPY, UPDATE: each row gets the motive of its text, NULL stays NULL."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s), (null), ('')", GIFT, FAST)
    with annotation.connection.cursor().copy("copy texts (body) from stdin") as copy:
        copy.write_row((GIFT,))
    assert annotation.drain() == 4
    assert annotation.labels() == {1: "gift", 2: "performance", 3: None, 4: "unknown", 5: "gift"}
    annotation.execute("update texts set body = %s where id = 1", FAST)
    assert annotation.labels()[1] is None
    annotation.drain()
    assert annotation.labels()[1] == "performance"
    row = annotation.execute(
        "select motive_confidence, motives, motive_model, motive_hash from texts where id = 4"
    ).fetchone()
    assert row is not None
    assert row[1] == []
    assert row[2].startswith("fake@1.0.0/")
    assert len(row[3]) == 16
    annotation.check()


def test_a_running_worker_annotates_within_a_second(annotation: Annotation) -> None:
    """Nobody calls anything: the row is written, and shortly after its motive is there."""
    annotation.table()
    with annotation.working():
        annotation.execute("insert into texts (body) values (%s)", GIFT)
        annotation.wait_drained(5.0)
    assert annotation.labels() == {1: "gift"}
    rows = annotation.execute("select rows, p50 <= p99, p99 < interval '5 s' from motive.freshness").fetchone()
    assert rows == (1, True, True)
    annotation.check()


def test_equal_texts_are_asked_once(annotation: Annotation) -> None:
    """A thousand rows with two texts cost two texts."""
    annotation.table()
    annotation.execute(
        "insert into texts (body) select case i %% 2 when 0 then %s else %s end from generate_series(1, 1000) i",
        GIFT,
        FAST,
    )
    annotation.drain()
    assert sum(len(request.texts) for request in annotation.fake.requests) == 2
    annotation.check()


def test_personal_data_does_not_leave_the_worker(annotation: Annotation) -> None:
    """The worker redacts before it sends, and says how much."""
    annotation.table()
    annotation.execute("insert into texts (body) values ('write to mary@example.com, a gift')")
    annotation.drain()
    (request,) = annotation.fake.requests
    assert "mary" not in request.texts[0]
    assert (request.redacted, request.redactions) == (True, 1)


def test_two_columns_of_one_table_are_annotated_apart(annotation: Annotation) -> None:
    """Each column has its own prefix, and one's change leaves the other's annotation."""
    annotation.table("id integer primary key, body text, title text")
    annotation.attach("texts", "title", prefix="title_motive")
    annotation.execute("insert into texts (id, body, title) values (1, %s, %s)", GIFT, FAST)
    annotation.drain()
    annotation.execute("update texts set title = %s", GIFT)
    assert annotation.execute("select motive, title_motive from texts").fetchone() == ("gift", None)
    annotation.drain()
    assert annotation.execute("select motive, title_motive from texts").fetchone() == ("gift", "gift")
    annotation.check()


@pytest.mark.parametrize("rows", [0, 1, 4321])
def test_a_backfill_annotates_what_was_there_before(annotation: Annotation, rows: int) -> None:
    """Rows older than attach are walked in steps, through the cursor."""
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute("insert into texts select i, %s || i from generate_series(1, %s) i", GIFT, rows)
    annotation.attach("texts")
    assert annotation.queued() == 0
    assert annotation.value("select motive.backfill('texts')") == 1
    assert annotation.drain() == rows
    assert annotation.execute(
        "select kind, scanned, enqueued, finished_at is not null from motive.jobs"
    ).fetchall() == [("backfill", rows, rows, True)]
    annotation.value("select motive.backfill('texts')")
    assert annotation.drain() == 0
    annotation.check()


def test_reannotation_touches_only_rows_of_another_model(annotation: Annotation) -> None:
    """Stale rows only; people's corrections stay."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s), (%s)", GIFT, FAST, GIFT)
    annotation.drain()
    annotation.execute(
        "set motive.writing to 'on'; update texts set motive_model = 'old@1/0' where id = 1; reset motive.writing"
    )
    annotation.value("select motive.correct('texts', '3', '{performance}')")
    annotation.value("select motive.reannotate('texts')")
    assert annotation.drain() == 1
    assert annotation.labels() == {1: "gift", 2: "performance", 3: "performance"}
    annotation.check()


def test_corrections_stay_until_the_text_changes(annotation: Annotation) -> None:
    """P8: neither a worker nor an ORM's save nor a backfill overwrites a person's label."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.value("select motive.correct('texts', '1', '{performance, gift}')")
    assert annotation.drain() == 0
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.execute("select motive, motives, motive_model, motive_confidence from texts").fetchone() == (
        "performance",
        ["performance", "gift"],
        "person",
        1.0,
    )
    assert annotation.execute("select key, body, motives from motive.corrections('texts')").fetchone() == (
        ["1"],
        GIFT,
        ["performance", "gift"],
    )
    annotation.execute("update texts set body = body || '!'")
    annotation.drain()
    assert annotation.execute("select motive, motive_model from texts").fetchone() == (
        "gift",
        annotation.value("select model from motive.models"),
    )
    annotation.check()


@pytest.mark.parametrize("column", ["motive", "motive_confidence", "motives"])
def test_a_persons_label_is_filled_again_from_what_is_left_of_it(annotation: Annotation, column: str) -> None:
    """P8: a column that was dropped and attached anew is no reason for the model to overwrite a correction."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    annotation.value("select motive.correct('texts', '1', '{performance, gift}')")
    annotation.execute(f"alter table texts drop {column} cascade")
    annotation.attach("texts")
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.execute("select motive, motive_confidence, motives, motive_model from texts").fetchall() == [
        ("performance", 1.0, ["performance"] if column == "motives" else ["performance", "gift"], "person")
    ]
    annotation.check()


@pytest.mark.parametrize(
    ("key", "motives", "reason"),
    [
        ("1", ["nonsense"], "not a motive"),
        ("1", ["gift", None], "not a motive"),
        ("1", [["gift"], ["gift"]], "one dimension"),
        ("1", None, "one dimension"),
        ("7", ["gift"], "no row"),
        (None, ["gift"], "NULL is no key"),
        ("[]", ["gift"], "is no key"),
        ('"x"', ["gift"], "invalid input syntax for type bigint"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    annotation: Annotation, key: str | None, motives: object, reason: str
) -> None:
    """With a sentence that names what was wrong."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with pytest.raises(Exception, match=reason):
        annotation.value("select motive.correct('texts', %s::jsonb, %s)", key, motives)
    assert annotation.queued() == 1


def test_a_correction_labels_the_row_whose_key_is_as_it_was_written(annotation: Annotation) -> None:
    """P8: a text that looks like a number, or like JSON, is never another row's key."""
    keys = ["1000", "1e3", "007", '["1000"]', "true", "0b5c8a57-6d1f-4d0c-8a7e-000000000001"]
    annotation.table("id text primary key, body text")
    for key in keys:
        annotation.execute("insert into texts values (%s, %s)", key, FAST)
    annotation.drain()
    for key in keys:
        annotation.value("select motive.correct('texts', to_jsonb(%s::text), '{gift}')", key)
        assert annotation.execute(
            "update texts set body = body || '.' where motive = 'gift' returning id"
        ).fetchall() == [(key,)]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"1000 is a number, and column id of .* is a text"):
        annotation.value("select motive.correct('texts', '1e3', '{gift}')")


def test_a_key_of_several_columns_is_an_array_or_an_object(annotation: Annotation) -> None:
    """P8: of as many values as the key has columns."""
    annotation.table("tenant text, id integer, body text, primary key (tenant, id)")
    annotation.execute("insert into texts values ('1000', 1, %s), ('1e3', 1, %s), ('1e3', 2, %s)", FAST, FAST, FAST)
    for key in ('"1"', '["1e3"]', '["1e3", 1, 2]', "true", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="is no key of") as caught:
            annotation.value("select motive.correct('texts', %s::jsonb, '{gift}')", key)
        assert "tenant, id" in (caught.value.diag.message_hint or "")
    annotation.value("select motive.correct('texts', '[\"1e3\", 1]', '{gift}')")
    annotation.value('select motive.correct(\'texts\', \'{"id": 2, "tenant": "1e3", "body": ""}\', \'{gift}\')')
    assert annotation.execute("select tenant, id from texts where motive = 'gift' order by 1, 2").fetchall() == [
        ("1e3", 1),
        ("1e3", 2),
    ]


def test_a_correction_needs_a_taxonomy(fresh_database: str) -> None:
    """Before a model is loaded, there is nothing that a person could choose from."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create extension pg_motive cascade")
        connection.execute("create table texts (id integer primary key, body text)")
        connection.execute("select motive.attach('texts', 'body')")
        connection.execute("insert into texts values (1, %s)", [GIFT])
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no taxonomy is loaded"):
            connection.execute("select motive.correct('texts', '1', '{}')")


def test_attach_again_updates_the_options_and_detach_keeps_the_annotation(annotation: Annotation) -> None:
    """attach is idempotent; detach takes only triggers, and columns where it is asked to."""
    annotation.table()
    first = annotation.value("select id from motive.attachment")
    assert annotation.attach("texts", budget="1 s") == first
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    assert annotation.value("select motive.detach('texts')") == 1
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    assert annotation.queued() == 0
    assert annotation.labels() == {1: "gift", 2: None}
    assert (
        annotation.value(
            "select count(*) from pg_proc where pronamespace = 'motive'::regnamespace and proname ~ '_[0-9]+$'"
        )
        == 0
    )
    annotation.attach("texts")
    annotation.value("select motive.detach('texts', drop_columns => true)")
    assert (
        annotation.value(
            "select string_agg(column_name, ' ' order by ordinal_position) from information_schema.columns "
            "where table_name = 'texts'"
        )
        == "id body"
    )
    annotation.execute("drop table texts")


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("create table texts (body text)", "no primary key"),
        ("create temporary table texts (id integer primary key, body text)", "temporary"),
        ("create view texts as select 1 as id, 'x'::text as body", "not a table"),
        ("create table texts (id integer primary key, body integer)", "type integer"),
        ("create table texts (id integer primary key, other text)", "no column body"),
        (
            "create table texts (id integer primary key, a text, body text generated always as (a || a) stored)",
            "is generated",
        ),
        ("create table texts (id integer primary key, body text, motives integer)", "column motives already"),
    ],
)
def test_attach_refuses_with_the_remedy(annotation: Annotation, definition: str, reason: str) -> None:
    """F45: and other tables that cannot be annotated."""
    annotation.execute(definition)
    with pytest.raises(Exception, match=reason) as caught:
        annotation.attach("texts")
    assert "HINT" in str(caught.value)
    annotation.execute("drop view texts" if "view" in definition else "drop table texts")
    assert annotation.value("select count(*) from motive.attachment") == 0


def test_attach_refuses_keys_that_say_only_that_nothing_overlaps(annotation: Annotation) -> None:
    """Its index has no equality: a person's label would land on every row whose period overlaps."""
    if annotation.value("select current_setting('server_version_num')::integer") < 180000:
        pytest.skip("keys without overlaps are PostgreSQL 18's")
    annotation.execute(
        "create table texts (room int4range, at daterange, body text, primary key (room, at without overlaps))"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="periods without overlaps"):
        annotation.attach("texts")


@pytest.mark.parametrize(
    ("options", "reason", "hint"),
    [
        ({"mode": "inlin"}, "mode cannot be 'inlin'", "queued, inline"),
        ({"on_failure": "x"}, "on_failure cannot be 'x'", "queue, error"),
        ({"budget": "2 min"}, "budget cannot be 00:02:00", "at most 1 minute"),
        ({"budget": "0"}, "budget cannot be 00:00:00", "more than 0"),
    ],
)
def test_attach_names_the_options_that_there_are(
    annotation: Annotation, options: dict[str, str], reason: str, hint: str
) -> None:
    """Instead of the name of a constraint."""
    annotation.execute("create table texts (id integer primary key, body text)")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=reason) as caught:
        annotation.attach("texts", **options)
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize("table", ["texts", "children"])
def test_attach_refuses_tables_that_inherit(annotation: Annotation, table: str) -> None:
    """A parent shows its children's rows, which have neither its triggers nor its key."""
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute("create table children (primary key (id)) inherits (texts)")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="inherits") as caught:
        annotation.attach(table)
    assert "partitioned" in (caught.value.diag.message_hint or "")
    annotation.execute("drop table children, texts")


def test_a_second_column_needs_a_prefix_of_its_own(annotation: Annotation) -> None:
    """The refusal says how to give one; another attach need not repeat it."""
    annotation.table("id integer primary key, body text, title text")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="prefix motive already") as caught:
        annotation.attach("texts", "title")
    assert "prefix => 'title_motive'" in (caught.value.diag.message_hint or "")
    first = annotation.attach("texts", "title", prefix="title_motive")
    assert annotation.attach("texts", "title") == first
    assert annotation.value("select prefix from motive.attachments where text_column = 'title'") == "title_motive"
