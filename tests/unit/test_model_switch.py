"""Which release is served: tried at the start as well as at a switch, and by every Triton that served the old one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from tritonclient.grpc import service_pb2

from sidecar import model_switch
from sidecar.config import Settings
from sidecar.errors import ConfigError
from sidecar.metrics import Metrics
from sidecar.model_switch import ModelSwitch
from sidecar.release import release
from sidecar.releases import resolve
from sidecar.repository import Repository, open_repository
from tests.fixtures.fake_triton import FakeTriton
from tests.fixtures.tiny_model import WORDS, _network, write_manifest, write_tiny_model
from tests.fixtures.waiting import async_wait_until


def publish(directory: Path, path: Path, version: str, change: Callable[[Path], object] | None = None) -> None:
    """Makes a tiny model at `path`, changed and made whole again by its manifest, and releases it."""
    write_tiny_model(path, version=version)
    if change is not None:
        digest = open_repository(path).manifest.taxonomy_digest
        change(path)
        write_manifest(path, name="motive", version=version, labels=tuple(WORDS), taxonomy_digest=digest)
    release(path, directory, say=lambda _: None)


def no_model(path: Path) -> None:
    (path / "1" / "model.onnx").write_bytes(b"no model at all")


def no_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").write_text("{}")


def wrong_outputs(path: Path) -> None:
    """It opens, and answers with more numbers than there are labels."""
    onnx.save(_network(np.zeros((64, 2 * len(WORDS) + 3), dtype=np.float32), 0), str(path / "1" / "model.onnx"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of releases with one good release."""
    publish(tmp_path / "models", tmp_path / "old", "0.0.1+tiny")
    return tmp_path / "models"


def switch(engine: str) -> ModelSwitch:
    return ModelSwitch(Settings(listen="127.0.0.1:0", engine=engine), Metrics())


@pytest.mark.parametrize("change", [no_model, no_tokenizer, wrong_outputs])
async def test_a_release_that_cannot_be_served_is_not_served_after_a_restart_either(
    directory: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    good = resolve(directory).name
    publish(directory, tmp_path / "broken", "0.0.2+tiny", change)
    models = switch(f"onnx:{directory}")
    await models.start()
    assert models.current.repository.path.name == good
    said = models.error
    assert "is refused" in said
    await models.look()
    assert (models.refused, models.error) == (True, said)
    publish(directory, tmp_path / "mended", "0.0.3+tiny")
    await models.look()
    await until_serving(models, "0.0.3+tiny")
    await models.close()


def version_of(models: ModelSwitch) -> str:
    """What is served now."""
    return models.current.repository.manifest.version


async def until_serving(models: ModelSwitch, version: str) -> None:
    async def served() -> str:
        return version_of(models)

    await async_wait_until(served, lambda found: found == version, 20, f"{version} to serve")


async def test_a_first_release_that_cannot_be_opened_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    publish(tmp_path / "models", tmp_path / "broken", "0.0.2+tiny", no_model)
    with pytest.raises(ConfigError, match="cannot load"):
        await switch(f"onnx:{tmp_path / 'models'}").start()


async def test_a_start_waits_for_no_triton(directory: Path, tmp_path: Path) -> None:
    publish(directory, tmp_path / "new", "0.0.2+tiny")
    models = switch(f"triton://127.0.0.1:9/motive?repository={directory}")
    await models.start()
    assert version_of(models) == "0.0.2+tiny"
    assert models.error == ""
    await models.close()


async def test_a_release_refused_at_the_start_for_what_triton_answered_is_tried_again_after_a_pause(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sets the link back then, and Triton may be mended a moment later."""
    monkeypatch.setattr(model_switch, "REFUSED_S", 0.0)
    triton = FakeTriton(open_repository(resolve(directory))).start()
    try:
        publish(directory, tmp_path / "new", "0.0.2+tiny")
        models = switch(f"triton://{triton.address}/motive?repository={directory}")
        with triton.answering(lambda request, context: context.abort(grpc.StatusCode.INTERNAL, "for now")):
            await models.start()
            assert (models.refused, version_of(models)) == (True, "0.0.1+tiny")
            await models.look()
            assert models._switching is not None
            await models._switching
            assert (models.refused, version_of(models)) == (True, "0.0.1+tiny")
        await models.look()
        await until_serving(models, "0.0.2+tiny")
        assert (models.refused, models.error) == (False, "")
        await models.close()
    finally:
        triton.stop()


async def test_whatever_ends_a_switch_is_told_once_without_its_words(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models = switch(f"onnx:{directory}")
    await models.start()
    publish(directory, tmp_path / "new", "0.0.2+tiny")
    monkeypatch.setattr(models, "_open", lambda path: [][0])
    for _ in range(3):
        await models.look()
        assert models._switching is not None
        await models._switching
    assert models.refused
    assert models.error.endswith("is refused: IndexError")
    assert len([one for one in caplog.records if "is refused" in one.message]) == 1
    await models.close()


class Lacking(FakeTriton):
    """A Triton that cannot load some models."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(repository)
        self.lacks: set[str] = set()

    def ModelReady(self, request: Any, context: Any) -> service_pb2.ModelReadyResponse:
        return service_pb2.ModelReadyResponse(ready=request.name not in self.lacks)


@pytest.mark.parametrize("patient", [True, False])
async def test_a_switch_waits_for_every_triton_that_served_the_old_model_but_not_for_ever(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    patient: bool,
) -> None:
    """Else the first that has the new model would get everybody's calls, and nobody would hear of the others."""

    async def error() -> str:
        return models.error

    tritons = [Lacking(open_repository(resolve(directory))).start() for _ in range(2)]
    try:
        addresses = ",".join(one.address for one in tritons)
        models = switch(f"triton://{addresses}/motive?repository={directory}")
        await models.start()
        publish(directory, tmp_path / "new", "0.0.2+tiny")
        tritons[1].lacks.add(resolve(directory).name)
        if not patient:
            monkeypatch.setattr(model_switch, "TRIAL_S", model_switch._ANSWER_S)
        await models.current.engine.ready()
        await models.look()
        if patient:
            await async_wait_until(error, lambda said: tritons[1].address in said, 20, "the wait to be told")
            assert version_of(models) == "0.0.1+tiny"
            tritons[1].lacks.clear()
        else:
            assert models._switching is not None
            await asyncio.wait_for(models._switching, 20)
            assert any(tritons[1].address in one.message for one in caplog.records)
        await until_serving(models, "0.0.2+tiny")
        await models.close()
    finally:
        for one in tritons:
            one.stop()
