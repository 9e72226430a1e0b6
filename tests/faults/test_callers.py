"""Who may call, and what a caller can change: nothing that belongs to another, and never where texts go."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors

from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connect, value

CALLS = (
    "select classify_motive('cheap')",
    "select classify_motive(array['cheap'])",
    "select * from classify_motives('cheap')",
    "select * from explain_motive('cheap')",
    "select * from motive.classify_rows('select 1, ''cheap''')",
    "select * from motive.taxonomy",
    "select * from motive.models",
    "select * from motive.limits",
)
OWNERS_ALONE = (
    "select * from motive.settings",
    "update motive.settings set target = 'unix:/tmp/evil.sock'",
    "insert into motive.settings (target) values ('unix:/tmp/evil.sock')",
    "select * from motive.call_terms",
    "select * from motive.taxonomies",
    "delete from motive.models",
    "select motive.load_model()",
    "select motive.register_model('{}')",
    "select motive.call_classify(array['cheap'], false, 'unix:/tmp/evil.sock', null, 1)",
    "select motive.call_explain('cheap', 'unix:/tmp/evil.sock', null, 1)",
    "select motive.call_get_model('unix:/tmp/evil.sock', null, 1)",
    "select motive.classify_texts(array['cheap'], false)",
    "select motive.grant_usage('stranger')",
    "create function motive.mine() returns int language sql as 'select 1'",
)


def test_nothing_of_one_role_is_left_for_the_next(connect: Connect, roles: tuple[str, str]) -> None:
    """F12: one role calls; after SET ROLE and DISCARD ALL another calls: refused, with nothing reused."""
    granted, stranger = roles
    connection = connect()
    connection.execute(f"set role {granted}")
    assert value(connection, "select classify_motive('cheap')") == "price_value"
    connection.execute(f"reset role; set role {stranger}")
    for query in CALLS:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(query)
    connection.execute("discard all")
    connection.execute(f"set role {granted}")
    assert value(connection, "select classify_motive('gift')") == "gift"


def test_rows_are_read_with_the_callers_rights(connect: Connect, roles: tuple[str, str]) -> None:
    """F12: classify_rows gives a granted role no table that it may not read."""
    owner = connect()
    owner.execute("create table secret as select 1 as id, 'cheap'::text as body")
    try:
        with pytest.raises(errors.InsufficientPrivilege):
            connect("granted").execute("select * from motive.classify_rows('select id, body from secret')")
    finally:
        owner.execute("drop table secret")


def test_only_a_granted_role_can_call_and_only_what_is_granted(connect: Connect, roles: tuple[str, str]) -> None:
    """F53: a stranger can execute and read nothing; a granted role can classify, and read no settings."""
    granted, stranger = (connect(role) for role in roles)
    for query in CALLS:
        assert granted.execute(query).fetchall()
        with pytest.raises(errors.InsufficientPrivilege):
            stranger.execute(query)
    for query in OWNERS_ALONE:
        for connection in (granted, stranger):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(query)


def test_revoking_takes_back_all_that_granting_gave(connect: Connect, roles: tuple[str, str]) -> None:
    """F53: after motive.revoke_usage the role is a stranger again."""
    connect().execute("select motive.revoke_usage('granted')")
    connection = connect("granted")
    for query in CALLS:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(query)


def test_a_caller_cannot_redirect_texts(
    connect: Connect, roles: tuple[str, str], fake_sidecar: FakeSidecar, settings: Callable[..., None]
) -> None:
    """F54: not by SET, by search_path, by objects in pg_temp, nor by operators and functions of its own."""
    owner, connection = connect(), connect("granted")
    owner.execute("create schema trap authorization granted; grant create on schema public to granted")
    try:
        connection.execute("""
            set motive.target = 'unix:/tmp/evil.sock';
            set pg_motive.target = 'unix:/tmp/evil.sock';
            create table trap.settings (target text);
            create temp table settings (target text, deadline_ms int);
            create temp table call_terms (target text, files text[], seconds float8);
            create temp table taxonomies (digest bytea, code text, abstention boolean);
            create function trap.caught(text, text) returns boolean language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            create function trap.caught(bytea, bytea) returns boolean language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            create function trap.caught(int, int) returns boolean language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            create operator trap.= (leftarg = text, rightarg = text, function = trap.caught);
            create operator trap.= (leftarg = bytea, rightarg = bytea, function = trap.caught);
            create operator trap.< (leftarg = int, rightarg = int, function = trap.caught);
            create function trap.array_replace(anyarray, anyelement, anyelement) returns anyarray language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            create function trap.array_append(anyarray, anyelement) returns anyarray language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            create function trap.cardinality(text[]) returns int language plpgsql as
                $$ begin raise exception 'trapped'; end $$;
            set search_path to trap, pg_temp, public, pg_catalog;
        """)
        for query in CALLS:
            connection.execute(query)
        assert len(fake_sidecar.requests) == 4
    finally:
        owner.execute("revoke create on schema public from granted; drop schema trap cascade")


def test_proxies_of_the_environment_are_ignored(connect: Connect) -> None:
    """F54: a proxy in the environment of the server would see every text; the channel has proxies off."""
    connection = connect()
    value(connection, "select classify_motive('warm')")
    body = "import sys\nreturn dict(sys.modules['sidecar.client.channel']._OPTIONS)['grpc.enable_http_proxy']"
    connection.execute(f"create function pg_temp.proxy() returns int language plpython3u as $$\n{body}\n$$")
    assert value(connection, "select pg_temp.proxy()") == 0


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/tmp/x.sock",
        "unix:relative.sock",
        "unix:/" + "x" * 120,
        "xds:///x",
        "dns:///x:1",
        "host",
        "host:x",
        "a b:1",
    ],
)
def test_a_target_that_cannot_work_is_refused(connect: Connect, target: str) -> None:
    """F54: settings are checked when they are written."""
    with pytest.raises(psycopg.errors.CheckViolation):
        connect().execute("update motive.settings set target = %s", [target])
