"""Databases without PL/Python and without our files: the plain script, run by an ordinary database owner."""

from collections.abc import Iterator

import psycopg
import pytest

from sidecar import postgres_tree
from sidecar.check import check
from sidecar.errors import ConfigError
from sidecar.managed import install_managed, managed_script, uninstall_managed
from sidecar.private_postgres import PrivatePostgres
from tests.fixtures.annotation import check_invariants, clean, drain
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.postgres import Connection, create_database

GIFT, FAST = "a gift for my mother", "my old one is too slow"


@pytest.fixture
def managed(postgres: PrivatePostgres) -> Iterator[str]:
    """Connection string of a database that an ordinary role owns, as that role."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("create role landlord login")
        create_database(postgres, "managed")
        connection.execute("alter database managed owner to landlord")
        yield postgres.dsn("managed", "landlord")
        connection.execute("drop database managed with (force)")
        connection.execute("drop role landlord")


def test_an_ordinary_owner_annotates_without_pl_python(managed: str, fake_sidecar: FakeSidecar) -> None:
    """The plain script gives the same queue, the same functions and the same worker."""
    said: list[str] = []
    install_managed(managed, said.append)
    install_managed(managed, said.append)
    assert said[-1].endswith("is there")
    with psycopg.connect(managed, autocommit=True) as connection:
        everything(connection, managed, fake_sidecar.target)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="without PL/Python"):
            connection.execute("select classify_motive('x')")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="needs PL/Python"):
            connection.execute("select motive.attach('texts', 'body', 'inline')")
        clean(connection)
    uninstall_managed(managed, said.append)
    with pytest.raises(ConfigError):
        uninstall_managed(managed, said.append)


def everything(connection: Connection, dsn: str, target: str) -> None:
    """Attach, insert, update, backfill, correct: as in a database that has the extension."""
    connection.execute("create table texts (id integer primary key, body text)")
    connection.execute("insert into texts values (0, %s)", [FAST])
    connection.execute("select motive.attach('texts', 'body'), motive.backfill('texts')")
    connection.execute("insert into texts values (1, %s), (2, %s)", [GIFT, FAST])
    drain(dsn, target)
    connection.execute("update texts set body = %s where id = 2", [GIFT])
    connection.execute("select motive.correct('texts', '1', '{performance}')")
    drain(dsn, target)
    labels = connection.execute("select id, motive from texts order by id").fetchall()
    assert labels == [(0, "performance"), (1, "performance"), (2, "gift")]
    assert connection.execute("select waiting, failed from motive.status").fetchone() == (0, 0)
    check_invariants(connection)


def test_the_managed_script_is_plain_sql() -> None:
    """No psql metacommands, nothing of extensions, no PL/Python: any client can send it."""
    script = managed_script()
    for word in ("\n\\", "@extschema@", "pg_extension_config_dump", "plpython3u"):
        assert word not in script


def quiet(_: str) -> None:
    """Says nothing."""


def test_a_server_that_pg_motive_is_not_written_for_is_refused_and_named_by_check(
    managed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(postgres_tree, "SUPPORTED", range(97, 99))
        with pytest.raises(ConfigError, match="is not supported") as refused:
            install_managed(managed, quiet)
        assert "PostgreSQL 97 to 98" in refused.value.hint
    with psycopg.connect(managed) as connection:
        assert connection.execute("select to_regnamespace('motive')").fetchone() == (None,), "nothing was changed"
    install_managed(managed, quiet)
    lines: list[str] = []
    assert check(managed, say=lines.append) == 0, lines
    monkeypatch.setattr(postgres_tree, "SUPPORTED", range(97, 99))
    assert check(managed, say=lines.append) == 1
    assert any(line.startswith("FAIL  server") and "is not supported" in line for line in lines)


def test_a_database_that_is_away_or_refuses_is_one_sentence(postgres: PrivatePostgres, managed: str) -> None:
    for act in (install_managed, uninstall_managed):
        with pytest.raises(ConfigError, match="the database refuses"):
            act("host=/nonexistent dbname=x", quiet)
    install_managed(managed, quiet)
    with psycopg.connect(postgres.dsn("managed"), autocommit=True) as administrator:
        administrator.execute("alter schema motive owner to postgres; grant select on motive.version to landlord")
        administrator.execute("grant usage on schema motive to landlord")
        with pytest.raises(ConfigError, match="must be owner of schema motive"):
            uninstall_managed(managed, quiet)
        administrator.execute("alter schema motive owner to landlord")
    uninstall_managed(managed, quiet)


@pytest.fixture
def tenants(postgres: PrivatePostgres, managed: str) -> Iterator[Connection]:
    """The superuser's connection to the database, where two more roles own a schema each; one lends itself."""
    install_managed(managed, quiet)
    with psycopg.connect(postgres.dsn("managed"), autocommit=True) as administrator:
        administrator.execute("create role tenant login; create role stranger login; grant tenant to landlord")
        for role in ("tenant", "stranger"):
            administrator.execute(f"create schema {role} authorization {role}; select motive.grant_usage('{role}')")
        yield administrator
        administrator.execute("drop owned by tenant, stranger cascade; drop role tenant, stranger")


def test_tables_of_roles_that_the_installer_can_act_for_are_annotated(
    postgres: PrivatePostgres, managed: str, tenants: Connection, fake_sidecar: FakeSidecar
) -> None:
    """The functions on a table belong to its owner here too; of others the refusal says what is missing."""
    with psycopg.connect(postgres.dsn("managed", "tenant"), autocommit=True) as session:
        session.execute("create table tenant.texts (id integer primary key, body text)")
        session.execute("select motive.attach('tenant.texts', 'body')")
        session.execute("insert into tenant.texts values (1, %s)", [GIFT])
        drain(managed, fake_sidecar.target)
        assert session.execute("select motive from tenant.texts").fetchone() == ("gift",)
        assert session.execute("select has_schema_privilege('tenant', 'motive', 'CREATE')").fetchone() == (False,)
        tenants.execute("revoke tenant from landlord")
        session.execute("insert into tenant.texts values (2, %s)", [GIFT])
        obstacle = session.execute("select obstacle from motive.status").fetchone()
        assert obstacle == ("the table belongs to tenant: grant tenant to landlord, who installed pg_motive",)
        session.execute("select motive.detach('tenant.texts')")
    with psycopg.connect(postgres.dsn("managed", "stranger"), autocommit=True) as session:
        session.execute("create table stranger.texts (id integer primary key, body text)")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="grant stranger to landlord"):
            session.execute("select motive.attach('stranger.texts', 'body')")
    drain(managed, fake_sidecar.target)


def test_membership_without_its_rights_is_refused_with_the_remedy(
    postgres: PrivatePostgres, managed: str, tenants: Connection, fake_sidecar: FakeSidecar
) -> None:
    """What attach would meet half way is said before it begins; the remedy helps."""
    withhold, remedy = (
        ("alter role landlord noinherit", "alter role landlord inherit")
        if tenants.info.server_version < 160000
        else ("grant tenant to landlord with set false", "grant tenant to landlord with inherit true, set true")
    )
    tenants.execute(withhold.encode())
    with psycopg.connect(postgres.dsn("managed", "tenant"), autocommit=True) as session:
        session.execute("create table tenant.texts (id integer primary key, body text)")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=remedy):
            session.execute("select motive.attach('tenant.texts', 'body')")
        tenants.execute(remedy.encode())
        session.execute("select motive.attach('tenant.texts', 'body')")
        session.execute("insert into tenant.texts values (1, %s)", [GIFT])
        drain(managed, fake_sidecar.target)
        assert session.execute("select motive from tenant.texts").fetchone() == ("gift",)


@pytest.fixture
def gateway(postgres: PrivatePostgres, database: str, managed: str) -> Iterator[str]:
    """A role that reaches the session's database, which has the extension, by password alone; its password."""
    access = postgres.data / "pg_hba.conf"
    before = access.read_text(encoding="utf-8")
    access.write_text("local all caller scram-sha-256\n" + before, encoding="utf-8")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create role caller login password 'open sesame'")
        connection.execute("select motive.grant_usage('caller'), pg_reload_conf()")
        yield "open sesame"
        access.write_text(before, encoding="utf-8")
        connection.execute("drop owned by caller; drop role caller; select pg_reload_conf()")


def test_direct_calls_go_through_a_gateway(
    postgres: PrivatePostgres, managed: str, gateway: str, fake_sidecar: FakeSidecar
) -> None:
    """By dblink and a foreign server, as the README says; users need neither the server nor its password."""
    install_managed(managed, quiet)
    with psycopg.connect(postgres.dsn("managed"), autocommit=True) as administrator:
        administrator.execute("create extension dblink; grant usage on foreign data wrapper dblink_fdw to landlord")
        administrator.execute("create role analyst login")
    with psycopg.connect(managed, autocommit=True) as owner:
        owner.execute(
            "create server motive_gateway foreign data wrapper dblink_fdw "
            f"options (host '{postgres.sockets}', port '{postgres.port}', dbname 'motive'); "
            "create user mapping for current_user server motive_gateway "
            f"options (user 'caller', password '{gateway}'); "
            "insert into motive.gateway (server) values ('motive_gateway'); select motive.grant_usage('analyst')"
        )
    try:
        with psycopg.connect(postgres.dsn("managed", "analyst"), autocommit=True) as analyst:
            assert analyst.execute("select classify_motive(%s)", [GIFT]).fetchone() == ("gift",)
            strange = ["it's a gift", 'back\\slash {,} "slow"', None, ""]
            answers = analyst.execute("select classify_motive(%s::text[])", [strange]).fetchone()
            assert answers == (["gift", "performance", None, "unknown"],)
            assert analyst.execute("select classify_motive(null::text)").fetchone() == (None,)
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="70000 bytes"):
                analyst.execute("select classify_motive(repeat('x', 70000))")
            with pytest.raises(psycopg.errors.UndefinedObject, match="user mapping"):
                analyst.execute("select * from dblink('motive_gateway', 'select 1') as a (n integer)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                analyst.execute("select motive.ask_gateway('select 1')")
    finally:
        with psycopg.connect(postgres.dsn("managed"), autocommit=True) as administrator:
            administrator.execute("drop owned by analyst cascade; drop role analyst; drop extension dblink cascade")
