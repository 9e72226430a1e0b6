"""A Triton that answers nonsense, seen from the database: nothing of it is ever written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psycopg
import pytest

from sidecar.errors import MotiveError
from sidecar.worker.run import Worker
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.annotation import check_invariants
from tests.fixtures.fake_triton import FakeTriton
from tests.fixtures.postgres import Connection, value
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess, free_port
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

INJECTION = b"'); drop table texts; --"


@pytest.fixture
def sidecar(run_sidecar: RunSidecar, fake_triton: FakeTriton, tiny_repository: Path) -> SidecarProcess:
    """One that asks the fake, on TCP, as PostgreSQL runs as another user."""
    engine = f"triton://{fake_triton.address}/motive?repository={tiny_repository}"
    return run_sidecar(engine, listen=f"127.0.0.1:{free_port()}", flags=["--cache-texts", "0"]).wait_serving()


@pytest.fixture
def session(fresh_database: str, sidecar: SidecarProcess) -> Iterator[Connection]:
    """A database that asks this sidecar, with one attached table and rows that wait."""
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("create extension pg_motive cascade")
        connection.execute("update motive.settings set target = %s", [sidecar.target])
        connection.execute("update motive.annotation_settings set max_attempts = 2, retry_delay = interval '10 ms'")
        connection.execute("select motive.load_model()")
        connection.execute("create table texts (id bigint primary key, body text)")
        connection.execute("select motive.attach('texts', 'body')")
        connection.execute("insert into texts select n, 'cheap ' || n from generate_series(1, 5) as n")
        yield connection
        connection.execute("drop table texts")


def drain(session: Connection, sidecar: SidecarProcess) -> None:
    """Runs a worker until nothing is left, or until it says that it cannot."""
    Worker(WorkerSettings(dsn=session.info.dsn, target=sidecar.target, once=True, lanes=1)).run()


def answered(session: Connection) -> bool:
    """Whether a direct call is answered now."""
    try:
        session.execute("select classify_motive('cheap')")
    except psycopg.Error:
        return False
    return True


@pytest.mark.parametrize(
    "changes",
    [
        {"datatype": "BYTES", "shape": [1, 1], "raw": len(INJECTION).to_bytes(4, "little") + INJECTION},
        {"shape": [1, 8], "raw": bytes(32)},
        {"name": "something"},
    ],
    ids=["text", "extra label", "no output"],
)
def test_answers_of_another_form_write_nothing_and_use_up_no_attempt(
    changes: dict[str, Any], session: Connection, sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F27, F58 the service is at fault, not the rows: they wait, and are annotated once it answers rightly."""
    with fake_triton.answering(lambda request, _: fake_triton.answer(request, **changes)):
        with pytest.raises(psycopg.Error) as refused:
            session.execute("select classify_motive('cheap')")
        assert refused.value.sqlstate in ("XX000", "58000")
        with pytest.raises(MotiveError):
            drain(session, sidecar)
    assert value(session, "select count(*) from texts where motive is not null or motive_hash is not null") == 0
    assert value(session, "select count(*) from motive.failures") == 0
    assert value(session, "select max(attempts) from motive.queue") == 0
    wait_until(lambda: answered(session), bool, 30, "the breaker to let a right answer through")
    drain(session, sidecar)
    assert value(session, "select count(*) from texts where motive = 'unknown'") == 5
    check_invariants(session)


def test_a_text_without_finite_numbers_is_retired_with_that_reason_and_the_others_are_annotated(
    session: Connection, sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """F27 NaN for one text fails that text alone, and only after its attempts."""

    def infer(request: Any, _: Any) -> Any:
        ids = np.frombuffer(request.raw_input_contents[0], dtype=np.int64).reshape(tuple(request.inputs[0].shape))
        values = np.zeros((len(ids), fake_triton.outputs), dtype=np.float32)
        values[:, -1] = 3.0
        # `gift` is the only word of the poisoned row that the tiny vocabulary knows.
        values[(ids == poison).any(axis=1), 0] = np.nan
        return fake_triton.answer(request, values=values)

    from tokenizers import Tokenizer

    poison = Tokenizer.from_file(str(_repository(sidecar) / "tokenizer.json")).token_to_id("gift")
    session.execute("insert into texts values (6, 'a gift')")
    with fake_triton.answering(infer):
        for _ in range(3):
            drain(session, sidecar)
    assert value(session, "select motive from texts where id = 6") is None
    assert "finite" in value(session, "select reason from motive.failures")
    assert value(session, "select count(*) from texts where motive = 'unknown'") == 5
    check_invariants(session)


def test_a_text_that_triton_answers_with_an_error_is_retired_and_the_others_are_annotated(
    session: Connection, sidecar: SidecarProcess, fake_triton: FakeTriton
) -> None:
    """Nobody takes the server for broken, or the rows would be given back for ever."""
    from tokenizers import Tokenizer

    poison = Tokenizer.from_file(str(_repository(sidecar) / "tokenizer.json")).token_to_id("gift")

    def infer(request: Any, context: Any) -> Any:
        if (np.frombuffer(request.raw_input_contents[0], dtype=np.int64) == poison).any():
            context.abort(grpc.StatusCode.INTERNAL, "cannot read this")
        return fake_triton.answer(request)

    session.execute("insert into texts values (6, 'a gift')")
    with fake_triton.answering(infer):
        for _ in range(3):
            drain(session, sidecar)
        assert answered(session), "a direct call of another text"
    assert value(session, "select motive from texts where id = 6") is None
    assert value(session, "select count(*) from motive.failures") == 1
    assert value(session, "select count(*) from texts where motive = 'unknown'") == 5
    check_invariants(session)


def _repository(sidecar: SidecarProcess) -> Path:
    """Where the sidecar reads its model."""
    arguments = sidecar.process.args
    assert isinstance(arguments, list)
    engine = next(str(one) for one in arguments if "repository=" in str(one))
    return Path(engine.partition("repository=")[2])
