"""From SQL to a sidecar over mutual TLS, with the files that motive.settings names, and as they are replaced."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from sidecar.account import unprivileged_account
from sidecar.tls import CertificateFiles
from tests.fixtures.certificates import Authority
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import RunSidecar, free_port
from tests.fixtures.tcp_proxy import TcpProxy
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def live(short_directory: Path) -> Path:
    """Where the certificates in use lie, open to the user that PostgreSQL runs as."""
    short_directory.chmod(0o755)
    path = short_directory / "live"
    path.mkdir()
    return path


def put(authority: Authority, name: str, live: Path) -> CertificateFiles:
    """A new certificate with its key and authority, in place of the last ones of that name."""
    files = authority.issue(name)
    for source, end in ((files.ca, "ca"), (files.cert, "pem"), (files.key, "key")):
        shutil.copyfile(source, draft := live / f".{name}.{end}")
        unprivileged_account().own(draft)
        draft.replace(live / f"{name}.{end}")
    return CertificateFiles(*(str(live / f"{name}.{end}") for end in ("pem", "key", "ca")))


@pytest.fixture
def first(tmp_path: Path) -> Authority:
    """The authority that sidecar and database begin with."""
    return Authority(tmp_path / "first", "first")


@pytest.fixture
def way(
    run_sidecar: RunSidecar, tiny_repository: Path, first: Authority, live: Path, tcp_proxies: list[TcpProxy]
) -> TcpProxy:
    """The way to a sidecar that asks for certificates; its connections can be cut."""
    server = put(first, "server", live)
    port = free_port()
    tls = ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", server.ca]
    sidecar = run_sidecar(f"onnx:{tiny_repository}", listen=f"127.0.0.1:{port}", flags=tls)
    wait_until(lambda: "serving motive" in sidecar.log(), bool, 60, "the sidecar to serve")
    proxy = TcpProxy(("127.0.0.1", port))
    tcp_proxies.append(proxy)
    return proxy


@pytest.fixture
def session(fresh_database: str, way: TcpProxy) -> Iterator[Connection]:
    with closing(psycopg.connect(fresh_database, autocommit=True)) as connection:
        connection.execute("create extension pg_motive cascade")
        connection.execute("update motive.settings set target = %s", [way.address])
        yield connection


def use(session: Connection, files: CertificateFiles) -> None:
    """Names the files in motive.settings."""
    session.execute(
        "update motive.settings set tls_authority = %s, tls_certificate = nullif(%s, ''), tls_key = nullif(%s, '')",
        [files.ca, files.cert, files.key],
    )


def ask(session: Connection) -> str:
    """The motive."""
    return str(value(session, "select classify_motive('a cheap phone')"))


def assert_refused(session: Connection) -> None:
    """58000, with a hint that names what may be wrong."""
    with pytest.raises(psycopg.errors.SystemError) as caught:
        ask(session)
    assert "tls_" in (caught.value.diag.message_hint or "")


def test_only_a_certificate_of_the_sidecars_authority_is_answered(
    session: Connection, first: Authority, live: Path, tmp_path: Path
) -> None:
    """F25 none, and one of another authority, are 58000; so is a sidecar that the database does not trust."""
    good = put(first, "client", live)
    stranger = put(Authority(tmp_path / "stranger", "stranger"), "stranger", live)
    use(session, good)
    session.execute("select motive.load_model()")
    assert ask(session) == "price_value"
    for files in (
        CertificateFiles(ca=good.ca),
        CertificateFiles(stranger.cert, stranger.key, good.ca),
        CertificateFiles(good.cert, good.key, stranger.ca),
    ):
        use(session, files)
        assert_refused(session)
    use(session, good)
    assert ask(session) == "price_value"


def test_a_session_takes_new_certificates_of_a_new_authority_at_its_next_connection(
    session: Connection, first: Authority, way: TcpProxy, live: Path, tmp_path: Path
) -> None:
    """F25 rotation: on both sides at once, without a failed call; or one after the other, half-written meanwhile."""
    use(session, put(first, "client", live))
    session.execute("select motive.load_model()")
    assert ask(session) == "price_value"
    second = Authority(tmp_path / "second", "second")
    for name in ("server", "client"):
        put(second, name, live)
    assert ask(session) == "price_value", "the connection that there is goes on"
    way.reset()
    assert ask(session) == "price_value"
    third = Authority(tmp_path / "third", "third")
    put(third, "server", live)
    way.reset()
    assert_refused(session)
    put(third, "client", live)
    for end in ("ca", "pem", "key"):
        whole = (live / f"client.{end}").read_bytes()
        (live / f"client.{end}").write_bytes(b"half")
        assert_refused(session)
        (live / f"client.{end}").write_bytes(whole)
    assert ask(session) == "price_value"
