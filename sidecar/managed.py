"""`motive install --without-plpython`: the same SQL as a plain script, by an ordinary database owner.

For managed services, which let nobody put files beside the server. What needs PL/Python (direct calls, inline mode) is
absent; the parts of sql/managed stand in for it. The version is kept in motive.version.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from sidecar import __version__
from sidecar.errors import ConfigError
from sidecar.extension_script import sources, upgrade_scripts
from sidecar.postgres_tree import check_version

REPLACED = ("30_client.sql", "35_classify.sql", "36_sidecar.sql", "80_grants.sql")
"""Parts of the extension that need PL/Python, or an extension to be there."""

_META = re.compile(r"^\\.*\n", re.MULTILINE)
_CONFIG_DUMP = re.compile(r"^select pg_catalog\.pg_extension_config_dump\(.*\);\n", re.MULTILINE)

Say = Callable[[str], None]
Connection = psycopg.Connection[tuple[object, ...]]


def managed_script() -> str:
    """One transaction, without psql metacommands, that any client can send as it is."""
    parts = {path.name: path for path in (sources() / "pg_motive").glob("*.sql") if path.name not in REPLACED}
    parts |= {path.name: path for path in (sources() / "managed").glob("*.sql")}
    body = "".join(parts[name].read_text(encoding="utf-8") for name in sorted(parts))
    version = f"insert into motive.version (version) values ('{__version__}');\n"
    return f"begin;\n{plain(body)}{version}commit;\n"


def plain(script: str) -> str:
    """An extension's script as one that stands alone."""
    return _CONFIG_DUMP.sub("", _META.sub("", script))


def install_managed(dsn: str, say: Say = print) -> None:
    """Installs or upgrades pg_motive in the database at `dsn`, with the rights of its user. Raises ConfigError."""
    with _connected(dsn) as connection:
        check_version(connection.info.parameter_status("server_version") or "of an unknown version")
        _install(connection, say)


def uninstall_managed(dsn: str, say: Say = print) -> None:
    """Removes what install_managed() has made; annotated tables keep their columns. Raises ConfigError."""
    with _connected(dsn) as connection:
        if _version(connection) is None:
            raise ConfigError("this database has no pg_motive without PL/Python", "There is nothing to remove.")
        with connection.transaction():
            connection.execute("drop function public.classify_motive(text), public.classify_motive(text[])")
            connection.execute("drop schema motive cascade")
        say("removed pg_motive; annotated tables keep their columns")


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    """A connection as the database's owner; what the database refuses becomes one sentence."""
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            yield connection
    except psycopg.Error as error:
        raise ConfigError(
            f"the database refuses: {str(error).strip().splitlines()[0]}",
            "Connect as the owner of the database; nothing was changed.",
        ) from None


def _install(connection: Connection, say: Say) -> None:
    found = _version(connection)
    if found is None:
        connection.execute(managed_script().encode())
        say(f"installed pg_motive {__version__} without PL/Python: queued annotation only")
        return
    for name, script in _steps(found):
        target = name.removesuffix(".sql").rpartition("--")[2]
        with connection.transaction():
            connection.execute(plain(script).encode())
            connection.execute("insert into motive.version (version) values (%s)", [target])
        say(f"upgraded pg_motive to {target}")
    say(f"pg_motive {__version__} is there")


def _version(connection: Connection) -> str | None:
    row = connection.execute("select to_regclass('motive.version') is not null").fetchone()
    if row is None or not row[0]:
        return None
    last = connection.execute("select version from motive.version order by installed_at desc limit 1").fetchone()
    return None if last is None else str(last[0])


def _steps(version: str) -> list[tuple[str, str]]:
    """The upgrade scripts from `version` to ours, in order."""
    scripts, steps = upgrade_scripts(), []
    while version != __version__:
        name = next((name for name in sorted(scripts) if name.startswith(f"pg_motive--{version}--")), None)
        if name is None:
            raise ConfigError(
                f"the database holds pg_motive {version}, from which no upgrade leads to {__version__}",
                "Install a newer pg_motive.",
            )
        steps.append((name, scripts.pop(name)))
        version = name.removesuffix(".sql").rpartition("--")[2]
    return steps
