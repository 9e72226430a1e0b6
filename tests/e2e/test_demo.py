"""The demo as a stranger runs it: one command, annotated rows of the released model, and no trace after `stop`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sidecar.account import short_directory
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import ROOT
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow


class Demo:
    """One demo in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One `motive` command that means this demo."""
        variables = {**os.environ, "MOTIVE_DEMO_STATE": str(self.path), "COLUMNS": "120"}
        command = [sys.executable, "-m", "sidecar", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)

    @property
    def dsn(self) -> str:
        """What `motive demo dsn` prints."""
        return self.run("demo", "dsn").stdout.strip()

    def pid(self, name: str) -> int:
        """Process id of the sidecar or the worker."""
        return int((self.path / f"{name}.pid").read_text())


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A directory for demos."""
    directory = short_directory("pmd-")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def demo(state: Path) -> Iterator[Demo]:
    """A demo that was started once."""
    made = Demo(state / "demo")
    started = made.run("demo", "start")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        (state / "first.txt").write_text(started.stdout)
        yield made
    finally:
        made.run("demo", "stop")


@pytest.fixture
def shop(demo: Demo) -> Iterator[Connection]:
    """A connection to the demo's database."""
    with psycopg.connect(demo.dsn, autocommit=True) as connection:
        yield connection


def test_it_shows_rows_an_explanation_a_chart_new_rows_and_how_to_go_on(demo: Demo, state: Path) -> None:
    shown = (state / "first.txt").read_text()
    for expected in (
        "wireless mouse",
        "给妈妈的生日礼物",
        "Why?  select motive, evidence",
        "█",
        "utilitarian",
        "3 rows by INSERT annotated after",
        "20 by COPY after",
        "239 of 239 rows are annotated",
        "make psql",
        "make stop",
    ):
        assert expected in shown


def test_every_sample_of_both_languages_is_annotated(shop: Connection) -> None:
    rows = shop.execute("select kind, lang, count(*), count(motive) from shop.texts group by kind, lang").fetchall()
    assert {(kind, lang) for kind, lang, _, _ in rows} == {
        (kind, lang) for kind in ("review", "query", "post") for lang in ("en", "zh")
    }
    assert sum(count for _, _, count, _ in rows) >= 60
    assert all(count == annotated for _, _, count, annotated in rows)


@pytest.mark.parametrize(
    ("text", "motive"),
    [
        ("I want to buy a new phone because my old one is too slow.", "performance"),
        ("给妈妈的生日礼物", "gift"),
        ("wireless mouse", "unknown"),
    ],
)
def test_the_readmes_sentences_have_their_answers(text: str, motive: str, shop: Connection) -> None:
    assert value(shop, "select classify_motive(%s)", text) == motive


def test_the_released_model_answers_alike_alone_in_arrays_and_shuffled(shop: Connection) -> None:
    alone = shop.execute(
        "select t.id::text, m.motive, m.confidence from shop.texts as t "
        "cross join lateral (select * from classify_motives(t.body) limit 1) as m"
    ).fetchall()
    query = "select id, body from shop.texts order by md5(body)"
    together = {key: (motive, confidence) for key, motive, confidence in _rows(shop, query)}
    assert len(together) >= 60
    for key, motive, confidence in alone:
        assert together[key][0] == motive
        assert together[key][1] == pytest.approx(confidence, abs=1e-3)


def _rows(connection: Connection, query: str) -> list[tuple[str, str, float]]:
    found: list[tuple[str, str, float]] = connection.execute(
        "select key, motive, confidence from motive.classify_rows(%s)", [query]
    ).fetchall()
    return found


def test_a_row_inserted_by_anybody_is_annotated(shop: Connection) -> None:
    shop.execute("insert into shop.arrivals (body) values ('A birthday present for my father')")
    wait_until(
        lambda: value(shop, "select motive from shop.arrivals order by id desc limit 1"),
        lambda motive: motive == "gift",
        30,
        "the annotation",
    )


def test_check_finds_everything_in_order(demo: Demo) -> None:
    done = demo.run("check", "--dsn", demo.dsn)
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert "ok    answer" in done.stdout


def test_a_second_start_leaves_the_servers_running_and_shows_it_again(demo: Demo, shop: Connection) -> None:
    sidecar, started = demo.pid("sidecar"), value(shop, "select pg_postmaster_start_time()")
    again = demo.run("demo", "start")
    assert again.returncode == 0, again.stderr
    assert "239 of 239 rows are annotated" in again.stdout
    assert demo.pid("sidecar") == sidecar
    assert value(shop, "select pg_postmaster_start_time()") == started


def test_a_stale_process_number_is_not_believed(demo: Demo, state: Path) -> None:
    """After a reboot the number in the file may be another program's."""
    other = Demo(state / "stale")
    shutil.copytree(demo.path, other.path, ignore=shutil.ignore_patterns("*.sock*", ".s.PGSQL*", "server"))
    (other.path / "sidecar.pid").write_text(f"{os.getpid()}\n")
    assert "the demo is not running" in other.run("demo", "dsn").stderr
    assert other.run("demo", "stop").returncode == 0
    assert not other.path.exists()
    assert demo.dsn, "the real one still runs"


def test_a_directory_that_cannot_be_made_is_named(state: Path) -> None:
    done = Demo(state / "missing" / "demo").run("demo", "start")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "MOTIVE_DEMO_STATE" in done.stderr


def test_a_path_too_long_for_sockets_is_named(state: Path) -> None:
    done = Demo(state / ("x" * 90)).run("demo", "start")
    assert done.returncode == 1
    assert "too long a path" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_run_from(state: Path) -> None:
    theirs = Demo(state / "theirs")
    theirs.path.mkdir()
    os.chown(theirs.path, 65534, 65534)
    for action in ("start", "dsn", "stop"):
        assert "belongs to another user" in theirs.run("demo", action).stderr


def _lives(pid: int) -> bool:
    """Whether it still runs; in a container nobody may take an orphan's exit status, and it stays listed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stop_leaves_nothing_behind(state: Path) -> None:
    brief = Demo(state / "brief")
    assert brief.run("demo", "stop").returncode == 0, "stopping what does not run is no error"
    assert brief.run("demo", "start").returncode == 0
    pids = [brief.pid("sidecar"), brief.pid("worker")]
    assert brief.run("demo", "stop").returncode == 0
    assert not brief.path.exists()
    assert not [pid for pid in pids if _lives(pid)]
    assert "the demo is not running" in brief.run("demo", "dsn").stderr
