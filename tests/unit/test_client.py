"""The backend's client without PostgreSQL: `plpy` is an argument, and all that it is asked for is a trivial query."""

import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import client, limits
from sidecar.client.answers import Answer, checked_code, checked_number, failed, model_version
from sidecar.client.signals import blocked
from sidecar.errors import InputError, InternalError, UnavailableError, VersionError
from sidecar.pb import motive_pb2 as pb
from sidecar.repository.taxonomy import CODE
from tests.fixtures.fake_sidecar import FakeSidecar, answer


class Interrupted(BaseException):
    """Stands for PostgreSQL's cancel."""


class Plpy:
    """Counts the chances that PostgreSQL had to interrupt, and takes the one it is told to."""

    def __init__(self, interrupt_at: int = 10**9) -> None:
        self.chances = 0
        self._interrupt_at = interrupt_at

    def execute(self, _: str) -> None:
        """What the wait calls."""
        self.chances += 1
        if self.chances >= self._interrupt_at:
            raise Interrupted


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSidecar]:
    """A fake of this test's own."""
    sidecar = FakeSidecar("127.0.0.1:0")
    sidecar.start()
    yield sidecar
    sidecar.stop()


def ask(
    fake: FakeSidecar, *texts: str | None, plpy: Plpy | None = None, every: bool = False, seconds: float = 5
) -> Answer:
    """One call of the client."""
    return client.classify(plpy or Plpy(), client.INTERFACE, list(texts), every, fake.target, None, seconds)


def test_an_answer_comes_in_order(fake: FakeSidecar) -> None:
    answer = ask(fake, "cheap", None, "mouse", "gift")
    assert answer.motives == ["price_value", None, "", "gift"]
    assert answer.sqlstate is None
    assert answer.model == f"fake@1.0.0/{answer.model[-8:] if answer.model else ''}"


def test_a_cancel_passes_through_and_the_sidecar_is_told(fake: FakeSidecar) -> None:
    with fake.hang(), pytest.raises(Interrupted):
        ask(fake, "cheap", plpy=Plpy(interrupt_at=2))
    assert fake.cancelled.wait(30)


def test_a_fast_answer_does_not_wait_for_the_next_look(fake: FakeSidecar) -> None:
    looks = []
    for _ in range(50):
        plpy = Plpy()
        ask(fake, "cheap", plpy=plpy)
        looks.append(plpy.chances)
    assert min(looks) == 0


def test_a_fault_is_a_value(fake: FakeSidecar) -> None:
    fake.stop()
    answer = ask(fake, "cheap")
    assert answer.sqlstate == "58000"
    assert answer.hint
    assert answer.motives is None


def test_a_deadline_is_a_value(fake: FakeSidecar) -> None:
    with fake.hang():
        assert ask(fake, "cheap", seconds=0.1).sqlstate == "57014"


def test_a_sessions_first_call_has_no_more_time_than_the_others(
    fake: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the import takes of it is gone: the statement around it has a timeout of its own."""
    ask(fake, "cheap")
    monkeypatch.setattr(client, "load", lambda: threading.Event().wait(0.3))
    ask(fake, "cheap", seconds=5.0)
    assert fake.deadlines[-1] < 4.75
    monkeypatch.undo()
    ask(fake, "cheap", seconds=5.0)
    assert fake.deadlines[-1] > 4.75


def test_many_texts_may_take_longer_than_one_and_still_end(fake: FakeSidecar) -> None:
    def slow(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        threading.Event().wait(1.0)  # what the model takes
        return answer(request)

    with fake.answering(slow):
        assert ask(fake, "cheap", seconds=0.3).sqlstate == "57014"
        assert ask(fake, *["cheap"] * 256, seconds=0.6).sqlstate is None
    with fake.hang():
        assert ask(fake, *["cheap"] * 64, seconds=0.1).sqlstate == "57014"


def test_another_interface_is_refused_before_anything_is_sent(fake: FakeSidecar) -> None:
    answer = client.classify(Plpy(), client.INTERFACE + 1, ["cheap"], False, fake.target, None, 5)
    assert answer.sqlstate == "55000"
    assert fake.requests == []


def test_a_long_text_is_refused_before_anything_is_sent(fake: FakeSidecar) -> None:
    answer = ask(fake, "a", "é" * limits.MAX_TEXT_BYTES)
    assert (answer.sqlstate, answer.position) == ("22023", 2)
    assert fake.requests == []


def test_an_answers_fields_are_those_of_the_sql_type() -> None:
    sql = (Path(__file__).parents[2] / "sql" / "pg_motive" / "30_client.sql").read_text(encoding="utf-8")
    body = sql.partition("create type motive.answer as (")[2].partition(");")[0]
    assert [line.split()[0] for line in body.strip().splitlines()] == list(Answer._fields)


def test_the_clients_codes_are_those_of_the_taxonomy() -> None:
    for code in ("a", "gift", "a" * 63, "a" * 64, "", "A", "1a", "_a", "a-b", "a\n", "ä"):
        try:
            accepted = checked_code(code) == code
        except VersionError:
            accepted = False
        assert accepted == (CODE.fullmatch(code) is not None), repr(code)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.1, 1.1])
def test_a_number_that_is_no_probability_is_refused(number: float) -> None:
    with pytest.raises(InternalError):
        checked_number(number)


def test_rounding_past_one_is_no_fault() -> None:
    assert checked_number(1.0000001) <= 1.0


@pytest.mark.parametrize(("name", "digest"), [("motive", b""), ("mo\ntive", b"x" * 32), ("m" * 300, b"x" * 32)])
def test_a_model_that_cannot_be_named_is_refused(name: str, digest: bytes) -> None:
    with pytest.raises(InternalError):
        model_version(name, "1.0.0", digest)


def test_a_fault_takes_its_own_hint_or_the_common_one() -> None:
    answer = failed(InputError("no", "Do this.", position=3))
    assert (answer.position, answer.sqlstate, answer.message, answer.hint) == (3, "22023", "no", "Do this.")
    assert answer.detail == "Found before a request was made."
    assert "motive serve" in (failed(UnavailableError("no")).hint or "")


def test_signals_are_blocked_inside_and_restored_after() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    masks: list[set[signal.Signals]] = []
    with blocked():
        thread = threading.Thread(target=lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))  # type: ignore[arg-type]
        thread.start()
        thread.join()
    assert masks[0] >= signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
