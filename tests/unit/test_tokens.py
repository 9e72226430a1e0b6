"""The file of tokens: what the sidecar takes, what callers send, and when it is read again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar import client
from sidecar.release import Sidecars
from sidecar.tokens import TokenFile
from sidecar.worker.service import Service
from sidecar.worker.settings import WorkerSettings
from tests.fixtures.fake_sidecar import FakeSidecar
from tests.fixtures.waiting import wait_until

OLD, NEWER = "old-token-" * 4, "the-newer-token-" * 4


class Plpy:
    """PostgreSQL without anything to do."""

    def execute(self, query: str) -> None:
        """The client's way to let PostgreSQL act."""


def ask_from_sql(target: str, path: str) -> None:
    answer = client.get_model(Plpy(), client.INTERFACE, target, ["", "", "", path], 10)
    assert answer.sqlstate is None, answer.message


def ask_from_worker(target: str, path: str) -> None:
    service = Service(WorkerSettings(dsn="", target=target, token_file=path))
    try:
        service.model_document()
    finally:
        service.close()


def ask_from_release(target: str, path: str) -> None:
    Sidecars(token_file=path).ask(target)


@pytest.fixture
def fake() -> Iterator[FakeSidecar]:
    """One that asks every call for the newer token."""
    sidecar = FakeSidecar("127.0.0.1:0", token=NEWER)
    sidecar.start()
    yield sidecar
    sidecar.stop()


@pytest.mark.parametrize("ask", [ask_from_sql, ask_from_worker, ask_from_release])
def test_a_caller_sends_the_first_of_the_tokens_that_the_sidecar_takes(
    ask: Callable[[str, str], None], fake: FakeSidecar, tmp_path: Path
) -> None:
    """One file for both sides, while a token is exchanged."""
    file = tmp_path / "tokens"
    file.write_text(f"\n {NEWER} \n{OLD}\n")
    tokens = TokenFile(str(file))
    assert tokens.accepts(f"Bearer {NEWER}".encode())
    assert tokens.accepts(f"Bearer {OLD}".encode())
    ask(fake.target, str(file))


def test_a_token_file_is_read_once_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given other rights, without a change of what it holds."""

    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "tokens"
    file.write_text(OLD)
    tokens = TokenFile(str(file))
    file.write_text(NEWER)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refuse)
        assert tokens.accepts(f"Bearer {OLD}".encode())
    assert not tokens.accepts(f"Bearer {NEWER}".encode())

    def accepted() -> bool:
        # Again and again: two changes within one tick of the file system's clock look like one.
        file.chmod(0o640)
        return tokens.accepts(f"Bearer {NEWER}".encode())

    wait_until(accepted, bool, 10, "the token file to be read again")
    assert not tokens.accepts(f"Bearer {OLD}".encode())
