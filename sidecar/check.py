"""`motive check`: one page of what works and what does not, with remedies, from the server's files to an answer."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from sidecar import __version__
from sidecar.errors import ConfigError, MotiveError
from sidecar.install import find_tree, installed_version, tree_of_dsn
from sidecar.postgres_tree import PostgresTree, check_version, checked_python

Connection = psycopg.Connection[tuple[Any, ...]]

TOO_OLD = timedelta(minutes=1)
"""A row that has waited longer for its annotation says that no worker comes."""


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    subject: str
    works: bool
    text: str
    remedy: str = ""


def check(dsn: str | None = None, *, pg_config: str | None = None, say: Callable[[str], None] = print) -> int:
    """Prints the page; returns 0 when everything works, else 1.

    With `dsn`, looks at that server and database, all the way to an answer of the model. Without, at the files of the
    server that `pg_config` or, failing that, the newest one found on this machine describes.
    """
    failed = False
    for finding in findings(dsn, pg_config):
        failed = failed or not finding.works
        say(f"{'ok  ' if finding.works else 'FAIL'}  {finding.subject:<10} {finding.text}")
        if finding.remedy:
            say(f"      {'':<10} -> {finding.remedy}")
    return int(failed)


def findings(dsn: str | None, pg_config: str | None) -> Iterator[Finding]:
    """The lines of the page; ends at the first one without which the next make no sense."""
    yield Finding("pg_motive", True, __version__)
    if dsn is None:
        yield from _server(lambda: find_tree(pg_config))
        yield Finding("database", True, "not looked at; name one with --dsn")
        return
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            if _exists(connection, "motive.version"):
                yield from _managed(connection)
                return
            if pg_config or _superuser(connection):
                yield from _server(lambda: find_tree(pg_config) if pg_config else tree_of_dsn(dsn))
            else:
                yield _supported(_version(connection), "; its files only a superuser may see")
            yield from _database(connection)
    except psycopg.Error as error:
        yield Finding("database", False, _sentence(error), "Correct --dsn, or start the server.")


def _server(find: Callable[[], PostgresTree]) -> Iterator[Finding]:
    try:
        tree = find()
    except MotiveError as error:
        yield Finding("server", False, error.message, error.hint)
        return
    yield _supported(tree.version, f" in {tree.bindir}")
    yield from _files(tree)


def _supported(version: str, details: str) -> Finding:
    """Whether pg_motive is written for the server."""
    try:
        check_version(version)
    except ConfigError as error:
        return Finding("server", False, error.message, error.hint)
    return Finding("server", True, f"PostgreSQL {version}{details}")


def _files(tree: PostgresTree) -> Iterator[Finding]:
    try:
        python = checked_python(tree)
        yield Finding("language", True, f"PL/Python with Python {python[0]}.{python[1]}")
    except ConfigError as error:
        yield Finding("language", False, error.message, error.hint)
    version = installed_version(tree)
    if version is None:
        yield Finding("client", False, f"nothing in {tree.client_dir}", "Run motive install.")
    elif version != __version__:
        yield Finding("client", False, f"{version} in {tree.client_dir}, not {__version__}", "Run motive install.")
    else:
        yield Finding("client", True, f"{version} in {tree.client_dir}")


def _database(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "select extversion, nspname from pg_catalog.pg_extension e "
        "join pg_catalog.pg_namespace n on n.oid = extnamespace where extname = 'pg_motive'"
    ).fetchone()
    if row is None:
        yield Finding(
            "extension", False, f"not in database {connection.info.dbname}", "create extension pg_motive cascade;"
        )
        return
    version, home = row
    if version != __version__:
        yield Finding("extension", False, f"{version}, not {__version__}", "alter extension pg_motive update;")
    else:
        yield Finding("extension", True, f"{version} in database {connection.info.dbname}, schema {home}")
    try:
        if _may_read(connection, "motive.call_terms"):
            yield from _sidecar(connection)
        else:
            yield Finding("sidecar", True, "not looked at: only the extension's owner may read its settings")
        yield from _answer(connection, home)
        yield from _annotation(connection)
    except psycopg.Error as error:
        yield Finding("answer", False, _sentence(error), error.diag.message_hint or "")


def _sidecar(connection: Connection) -> Iterator[Finding]:
    """What the backend hears from the sidecar: the way that a call takes, with the settings that it uses."""
    row = connection.execute(
        "select t.target, a.model, a.message, a.hint from motive.call_terms t, "
        "motive.call_get_model(t.target, t.files, t.seconds) a"
    ).fetchone()
    if row is None:
        raise ConfigError("motive.settings is empty", "insert into motive.settings default values;")
    target, document, message, hint = row
    if document is None:
        yield Finding("sidecar", False, f"{message} at {target}", hint)
        return
    model = json.loads(document)
    version = model["server_version"]
    remedy = "" if version == __version__ else f"Run version {__version__} of the sidecar."
    yield Finding("sidecar", not remedy, f"{version} at {target}, engine {model['engine']}", remedy)
    yield _engine(model)
    yield _release(model["release_error"])
    name = f"{model['name']}@{model['version']}/{model['digest'][:8]}"
    loaded = connection.execute(
        "select count(*) from motive.taxonomies where digest = pg_catalog.decode(%s, 'hex')", [model["taxonomy_digest"]]
    ).fetchone()
    if loaded is None or loaded[0] == 0:
        yield Finding(
            "model", False, f"{name}, its taxonomy not loaded in this database", "select motive.load_model();"
        )
    else:
        yield Finding("model", True, f"{name}, {loaded[0]} codes")


def _engine(model: dict[str, Any]) -> Finding:
    """Whether the engine answers, and each Triton that has something to say."""
    listed = [f"{one['address']} {one['breaker']}: {one['reason']}" for one in model["backends"] if one["reason"]]
    text = "; ".join(["ready" if model["ready"] else "not ready", *listed])
    return Finding("engine", model["ready"], text, "" if model["ready"] else "Start Triton, or look into its log.")


def _release(error: str) -> Finding:
    """Whether the newest release is the one that serves."""
    remedy = "Wait, if Triton is loading it; else motive release --rollback, or release a mended one."
    return Finding("release", not error, error or "the newest one serves", remedy if error else "")


def _answer(connection: Connection, home: str) -> Iterator[Finding]:
    text = "I want to buy a new phone because my old one is too slow."
    query = sql.SQL("select {}.classify_motive(%s)").format(sql.Identifier(home))
    row = connection.execute(query, [text]).fetchone()
    yield Finding("answer", True, f"{text!r} is {row[0] if row else None}")


def _annotation(connection: Connection) -> Iterator[Finding]:
    """What the attached columns that this user may read are like."""
    if not _may_read(connection, "motive.status"):
        return
    rows = connection.execute(
        "select target::text, text_column, waiting, oldest, failed, obstacle, uncovered_partitions from motive.status"
    ).fetchall()
    if not rows:
        yield Finding("annotation", True, "no column is attached; see motive.attach()")
    for target, column, waiting, oldest, failed, obstacle, uncovered in rows:
        text = f"{target}.{column}: {waiting} rows waiting, {failed} retired"
        if obstacle:
            yield Finding("annotation", False, f"{text}; {obstacle}", "Mend this, then motive.backfill().")
        elif uncovered:
            remedy = f"select motive.attach('{target}', '{column}'); select motive.backfill('{target}', '{column}');"
            yield Finding("annotation", False, f"{text}; partitions came after attach", remedy)
        elif oldest is not None and oldest > TOO_OLD:
            waited = f"{text}, the first since {oldest.total_seconds():.0f} s"
            yield Finding("annotation", False, waited, "Run motive worker --dsn DSN, or look into its log.")
        else:
            yield Finding("annotation", True, text + (": see motive.failures" if failed else ""))


def _managed(connection: Connection) -> Iterator[Finding]:
    """A database with the plain script: no files, no direct calls."""
    yield _supported(_version(connection), ", pg_motive without PL/Python")
    row = connection.execute("select version from motive.version order by installed_at desc limit 1").fetchone()
    version = row[0] if row else None
    remedy = "" if version == __version__ else "motive install --without-plpython --dsn DSN"
    text = f"{version} in database {connection.info.dbname}: queued annotation only"
    yield Finding("schema", not remedy, text, remedy)
    yield from _annotation(connection)


def _exists(connection: Connection, relation: str) -> bool:
    return _truth(connection, "select pg_catalog.to_regclass(%s) is not null", relation)


def _may_read(connection: Connection, relation: str) -> bool:
    return _truth(
        connection,
        "select pg_catalog.has_schema_privilege('motive', 'usage') and pg_catalog.has_table_privilege(%s, 'select')",
        relation,
    )


def _superuser(connection: Connection) -> bool:
    return _truth(connection, "select rolsuper from pg_catalog.pg_roles where rolname = %s", connection.info.user)


def _truth(connection: Connection, query: LiteralString, argument: str) -> bool:
    row = connection.execute(query, [argument]).fetchone()
    return row is not None and bool(row[0])


def _version(connection: Connection) -> str:
    return connection.info.parameter_status("server_version") or "of an unknown version"


def _sentence(error: psycopg.Error) -> str:
    return re.sub(r"^[a-z ]+ failed: ", "", str(error).strip().splitlines()[0])
