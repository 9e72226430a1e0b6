"""The installation script adopts nothing that somebody has left in its way, and quotes nothing it should not."""

import re
import subprocess
import sys

import psycopg
import pytest
from psycopg import errors

from sidecar.extension_script import script, upgrade_scripts
from tests.fixtures.postgres import value

TRAPS = {
    "schema": ("create schema motive authorization mallory", errors.DuplicateSchema),
    "table": (
        "create schema motive authorization mallory; create table motive.settings (target text);"
        "alter table motive.settings owner to mallory",
        errors.DuplicateSchema,
    ),
    "function": (
        "create function public.classify_motive(body text) returns text language sql as 'select ''trapped'''; "
        "alter function public.classify_motive(text) owner to mallory",
        errors.DuplicateFunction,
    ),
}


@pytest.mark.parametrize("trap", TRAPS.keys())
def test_an_object_in_the_way_makes_create_extension_fail(trap: str, fresh_database: str) -> None:
    """F55: a schema, table or function that another role has made first: CREATE EXTENSION fails, adopting nothing."""
    setup, expected = TRAPS[trap]
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create role mallory")
        try:
            connection.execute(setup)
            with pytest.raises(expected):
                connection.execute("create extension pg_motive cascade")
            assert value(connection, "select count(*) from pg_extension where extname = 'pg_motive'") == 0
            mallory = "select count(*) from pg_shdepend where refobjid = 'mallory'::regrole and deptype = 'o'"
            assert value(connection, mallory) >= 1, "what was there still belongs to its owner"
        finally:
            connection.execute("drop owned by mallory cascade; drop role mallory")


def test_pgspot_finds_nothing() -> None:
    """F56: neither in the built script nor in an upgrade."""
    done = subprocess.run([sys.executable, "-m", "tests.verify.lint_sql"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_variable_of_the_script_stands_inside_quotes() -> None:
    """F56: @extschema@ and @extowner@ are replaced as plain text; inside quotes that is an injection."""
    quoted = re.compile(r"\$([a-z]*)\$.*?\$\1\$|'(?:[^']|'')*'", re.DOTALL)
    for text in (script(), *upgrade_scripts().values()):
        code = re.sub(r"--[^\n]*", "", text)
        assert not [found.group() for found in quoted.finditer(code) if "@ext" in found.group()]


def test_every_script_refuses_to_run_in_psql() -> None:
    """F56: each begins with the guard, so that nobody makes loose objects of it."""
    for text in (script(), *upgrade_scripts().values()):
        assert re.match(r"\\echo Use \"[^\"]+\" to load this file\. \\quit\n", text)
