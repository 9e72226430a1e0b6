"""`motive release`: another model put beside the old, tried, switched to under load, refused if broken, taken back."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from sidecar.pb import motive_pb2 as pb
from sidecar.releases import release_name, resolve
from sidecar.repository import Repository, open_repository
from sidecar.triton_server import command as triton_command
from tests.fixtures.sidecar_process import ROOT, RunSidecar, SidecarProcess
from tests.fixtures.tiny_model import WORDS, write_manifest, write_tiny_model
from tests.fixtures.triton_process import RunTriton
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

NEW_CODES = ("cost", "speed", "present")


@pytest.fixture
def old(tmp_path: Path) -> Repository:
    return open_repository(write_tiny_model(tmp_path / "old"))


@pytest.fixture
def new(tmp_path: Path) -> Repository:
    """Another version, whose taxonomy names other motives: an answer that mixes the two would show."""
    return open_repository(write_tiny_model(tmp_path / "new", version="0.0.2+tiny", codes=NEW_CODES))


@pytest.fixture
def broken(tmp_path: Path) -> Repository:
    """Whole by its manifest, but what it calls a model is none."""
    path = write_tiny_model(tmp_path / "broken", version="0.0.3+tiny")
    (path / "1" / "model.onnx").write_bytes(b"no model at all")
    digest = open_repository(path, verify=False).manifest.taxonomy_digest
    write_manifest(path, name="motive", version="0.0.3+tiny", labels=tuple(WORDS), taxonomy_digest=digest)
    return open_repository(path)


def motive_release(*arguments: object, status: int = 0) -> str:
    """Runs the command; returns what it said."""
    command = [sys.executable, "-m", "sidecar", "release", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


class Witness:
    """Asks without a pause, and fails on any answer that is not wholly one model's."""

    def __init__(self, sidecar: SidecarProcess, *versions: Repository) -> None:
        self._labels = {one.model_version: {*one.manifest.labels} for one in versions}
        self._digests = {one.model_version: one.taxonomy.digest for one in versions}
        self._stub = sidecar.stub()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: dict[str, int] = {}
        self.wrong: list[str] = []

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(0.005):
            number += 1
            texts = [f"cheap gift {number}", f"fast gift {number}", f"birthday {number}"]
            try:
                answer = self._stub.Classify(pb.ClassifyRequest(texts=texts), timeout=20)
            except grpc.RpcError as error:
                self.wrong.append(f"{error.code()}: {error.details()}")
                continue
            version = f"{answer.model.name}@{answer.model.version}/{answer.model.digest.hex()[:8]}"
            labels = {motive.motive for one in answer.results for motive in one.motives}
            if not labels <= self._labels[version] or answer.model.taxonomy_digest != self._digests[version]:
                self.wrong.append(f"{version} answered {labels}")
            self.seen[version] = self.seen.get(version, 0) + 1

    def wait_for(self, version: Repository, more: int = 3) -> None:
        """Waits until so many more answers have come from this version."""
        before = self.seen.get(version.model_version, 0)
        wait_until(
            lambda: self.seen.get(version.model_version, 0),
            lambda now: now >= before + more,
            60,
            f"answers of {version.model_version}; seen {self.seen}, wrong {self.wrong[:3]}",
        )


@contextmanager
def witness(sidecar: SidecarProcess, *versions: Repository) -> Iterator[Witness]:
    one = Witness(sidecar, *versions)
    one._thread.start()
    try:
        yield one
    finally:
        one._stopping.set()
        one._thread.join(30)
    assert one.wrong == []


def release_error(sidecar: SidecarProcess) -> tuple[str, bool]:
    said = sidecar.stub().GetModel(pb.GetModelRequest(), timeout=10)
    return said.release_error, said.release_refused


def test_a_release_is_switched_to_under_load_and_taken_back(
    run_sidecar: RunSidecar, tmp_path: Path, old: Repository, new: Repository
) -> None:
    """F21 every answer carries one consistent (version, digest) pair, and no call fails."""
    directory = tmp_path / "models"
    motive_release(old.path, "--to", directory)
    sidecar = run_sidecar(f"onnx:{directory}", metrics=True).wait_serving()
    with witness(sidecar, old, new) as watching:
        watching.wait_for(old)
        said = motive_release(new.path, "--to", directory, "--sidecar", sidecar.target)
        assert f"serves {new.model_version}" in said
        watching.wait_for(new)
        motive_release("--rollback", "--to", directory, "--sidecar", sidecar.target)
        watching.wait_for(old)
    assert sidecar.metric("motive_model_switches_total") == 2
    assert sidecar.metric("motive_model", model=old.model_version) == 1
    assert sidecar.metric("motive_model", model=new.model_version) == 0
    listed = motive_release("--list", "--to", directory)
    assert f"{old.model_version:<40} current" in listed
    assert f"{new.model_version:<40} previous" in listed


def test_a_broken_release_leaves_the_old_one_serving(
    run_sidecar: RunSidecar, tmp_path: Path, old: Repository, new: Repository, broken: Repository
) -> None:
    """F20 the command says why, the link is set back, and GetModel names the reason while it stands."""
    directory = tmp_path / "models"
    motive_release(old.path, "--to", directory)
    sidecar = run_sidecar(f"onnx:{directory}", metrics=True).wait_serving()
    with witness(sidecar, old, new, broken) as watching:
        said = motive_release(broken.path, "--to", directory, "--sidecar", sidecar.target, status=1)
        assert "refuses the release" in said
        assert "switched back" in said
        watching.wait_for(old)
        wait_until(lambda: release_error(sidecar), lambda error: error == ("", False), 20, "all to be well again")
        motive_release(broken.path, "--to", directory)
        wait_until(lambda: release_error(sidecar)[1], bool, 30, "the sidecar to refuse it")
        watching.wait_for(old)
        motive_release(new.path, "--to", directory, "--sidecar", sidecar.target)
        watching.wait_for(new)
    assert sidecar.metric("motive_model_switch_failures_total") >= 2


def test_what_is_no_whole_repository_is_refused_before_anything_changes(tmp_path: Path, old: Repository) -> None:
    directory = tmp_path / "models"
    motive_release(old.path, "--to", directory)
    altered = write_tiny_model(tmp_path / "altered", version="0.0.4+tiny")
    (altered / "tokenizer.json").write_text("{}")
    assert "is not the file the manifest lists" in motive_release(altered, "--to", directory, status=1)
    assert motive_release("--list", "--to", directory).split() == [old.model_version, "current"]
    assert "no previous release" in motive_release("--rollback", "--to", directory, status=1)


def test_old_releases_are_removed_on_request_and_those_in_use_kept(
    tmp_path: Path, old: Repository, new: Repository, broken: Repository
) -> None:
    directory = tmp_path / "models"
    for one in (broken, old, new):
        motive_release(one.path, "--to", directory, "--backend", "cpu")
    assert "removed" in motive_release("--prune", "--to", directory)
    left = {path.name for path in (directory / "releases").iterdir()}
    assert left == {path.name for path in (directory / "triton").iterdir()}
    assert len(left) == 2
    motive_release("--rollback", "--to", directory)


def test_through_triton_a_release_is_loaded_beside_the_old_one_and_a_broken_one_changes_nothing(
    run_sidecar: RunSidecar,
    run_triton: RunTriton,
    tmp_path: Path,
    old: Repository,
    new: Repository,
    broken: Repository,
) -> None:
    """F20, F21 with explicit loading in a real Triton."""
    directory = tmp_path / "models"
    to = ("--to", directory, "--backend", "python")
    motive_release(old.path, *to)
    triton = run_triton(directory / "triton").start()
    sidecar = run_sidecar(f"triton://{triton.address}/motive?repository={directory}").wait_serving()
    newest = open_repository(write_tiny_model(tmp_path / "newest", version="0.0.5+tiny"))
    with witness(sidecar, old, new, broken, newest) as watching:
        watching.wait_for(old)
        motive_release(new.path, *to, "--sidecar", sidecar.target)
        watching.wait_for(new)
        said = motive_release(broken.path, *to, "--sidecar", sidecar.target, "--wait-s", "6", status=1)
        assert "cannot load model" in said
        watching.wait_for(new)
        motive_release("--rollback", "--to", directory, "--sidecar", sidecar.target)
        watching.wait_for(old)
        motive_release(newest.path, *to, "--sidecar", sidecar.target)
        watching.wait_for(newest)
        assert "removed" in motive_release("--prune", "--to", directory, "--triton", triton.address)
        assert triton.ready(release_name(old))
        assert not triton.ready(release_name(new))


def test_triton_loads_models_on_request_alone_and_listens_on_loopback_alone(tmp_path: Path) -> None:
    from sidecar.triton_server import Ports

    words = triton_command(tmp_path, tmp_path, Ports(), "")
    assert "--model-control-mode=explicit" in words
    assert {word.split("=")[1] for word in words if "address" in word} == {"127.0.0.1"}


def test_a_release_that_is_told_to_end_while_it_waits_sets_the_link_back(
    tmp_path: Path, old: Repository, new: Repository
) -> None:
    directory = tmp_path / "models"
    motive_release(old.path, "--to", directory)
    command = [sys.executable, "-m", "sidecar", "release", str(new.path), "--to", str(directory)]
    waiting = subprocess.Popen([*command, "--sidecar", "unix:/nowhere"], cwd=ROOT, stdout=subprocess.PIPE)
    wait_until(lambda: resolve(directory).name, lambda name: name == release_name(new), 30, "the link to be moved")
    waiting.terminate()
    said, _ = waiting.communicate(timeout=30)
    assert b"switched back" in said
    assert resolve(directory).name == release_name(old)
