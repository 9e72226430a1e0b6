"""`motive model build`: variants that answer like their source, each row by itself, written whole or not at all."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from sidecar.model_build import VARIANTS, BuildError, build_variant
from sidecar.model_build import variant as variant_module
from sidecar.model_build.fuse import fuse
from sidecar.model_build.widen import widen
from sidecar.repository import Repository, RepositoryError, open_repository, read_taxonomy
from sidecar.repository.grid import quantize_columns
from sidecar.tokenize import Tokenizer
from trainer.config import read_config
from trainer.texts import Example
from trainer.train import corpus_split, targets

Ints = NDArray[np.int64]
TRAINER = Path(__file__).parents[3] / "trainer"


def session(repository: Repository) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(repository.onnx_path), options, providers=["CPUExecutionProvider"])


def logits(running: Any, rows: list[Ints], width: int) -> NDArray[np.float32]:
    ids, mask = np.full((len(rows), width), 1, dtype=np.int64), np.zeros((len(rows), width), dtype=np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    result: NDArray[np.float32] = running.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
    return result


def texts(pieces: int, count: int = 24) -> list[Ints]:
    random = np.random.default_rng(3)
    return [random.integers(2, pieces, size=size) for size in random.integers(1, 24, size=count)]


@pytest.mark.parametrize(("name", "allowed"), [("cpu-fp32", 1e-4), ("cpu-int8", 0.1), ("gpu-fp16", 0.02)])
def test_a_variant_gives_the_logits_of_its_source(source: Path, tmp_path: Path, name: str, allowed: float) -> None:
    rows = texts(64)
    expected = logits(session(open_repository(source)), rows, 24)
    built = build_variant(source, name, tmp_path / "built")
    assert np.abs(logits(session(built), rows, 24) - expected).max() < allowed


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_says_what_it_is_and_keeps_labels_and_calibration(source: Path, tmp_path: Path, name: str) -> None:
    original, built = open_repository(source), build_variant(source, name, tmp_path / "built")
    assert built.manifest.variant == name
    assert built.manifest.version == "1.0.0+" + name.split("-")[1]
    assert built.calibration == original.calibration
    assert built.manifest.labels == original.manifest.labels
    assert built.manifest.digest != original.manifest.digest


@pytest.mark.parametrize("name", ["cpu-fp32", "cpu-int8"])
def test_an_answer_does_not_depend_on_its_neighbours(source: Path, tmp_path: Path, name: str) -> None:
    built = build_variant(source, name, tmp_path / "built")
    running, rows = session(built), texts(64)
    assert_same_alone_together_and_shuffled(running, rows, built, 24)


def assert_same_alone_together_and_shuffled(running: Any, rows: list[Ints], built: Repository, width: int) -> None:
    together = logits(running, rows, width)
    alone = np.concatenate([logits(running, [row], len(row)) for row in rows])
    order = np.random.default_rng(5).permutation(len(rows))
    shuffled = np.empty_like(together)
    shuffled[order] = logits(running, [rows[i] for i in order], width + 8)
    for score in (built.calibration.probabilities, built.calibration.primary_scores):
        assert np.abs(score(alone) - score(together)).max() <= 1e-3
        assert np.abs(score(shuffled) - score(together)).max() <= 1e-3


def test_attention_and_gelu_are_fused(source: Path, tmp_path: Path) -> None:
    built = build_variant(source, "cpu-int8", tmp_path / "built")
    kinds = Counter(node.op_type for node in onnx.load(str(built.onnx_path)).graph.node)
    assert kinds["MultiHeadAttention"] == kinds["BiasGelu"] == 2
    assert kinds["Softmax"] == kinds["Erf"] == 0
    assert kinds["MatMulIntegerToFloat"] == 12


def test_a_graph_without_anything_to_fuse_is_left_as_it_is(source: Path, tmp_path: Path) -> None:
    model = onnx.load(str(source / "1" / "model.onnx"))
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.attribute[0].i = 2
    before = Counter(node.op_type for node in widen(model).graph.node)
    after = Counter(node.op_type for node in fuse(model).graph.node)
    assert after["Softmax"] == before["Softmax"] == 2
    assert after["MultiHeadAttention"] == 0


def test_no_pair_of_products_overflows_sixteen_bits() -> None:
    weight = np.random.default_rng(1).standard_t(2, size=(257, 40)).astype(np.float32)
    integers, scales = quantize_columns(weight)
    padded = np.concatenate([integers, np.zeros((1, 40), np.int8)]).astype(np.int32).reshape(-1, 2, 40)
    assert 255 * np.maximum(padded, 0).sum(axis=1).max() <= 32767
    assert 255 * np.maximum(-padded, 0).sum(axis=1).max() <= 32768
    assert (np.abs(integers * scales - weight) <= scales * 0.5001).all()


def test_a_build_that_is_killed_leaves_the_old_variant_and_nothing_that_can_be_loaded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "served"
    before = build_variant(source, "cpu-fp32", folder / "tiny")

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    # A real kill leaves the stage behind as well.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(variant_module, "_seal", die)
    with pytest.raises(Killed):
        build_variant(source, "cpu-int8", folder / "tiny")
    assert open_repository(folder / "tiny").manifest == before.manifest
    for stray in folder.iterdir():
        if stray.name != "tiny":
            assert not (stray / "config.pbtxt").exists()
            assert not (stray / "1").exists()
            with pytest.raises(RepositoryError):
                open_repository(stray / "tiny")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(variant_module, "save_graph", full)
    with pytest.raises(BuildError, match="No space left"):
        build_variant(source, "cpu-int8", tmp_path / "served" / "tiny")
    assert list((tmp_path / "served").iterdir()) == []


def test_a_second_build_replaces_the_first(source: Path, tmp_path: Path) -> None:
    build_variant(source, "cpu-fp32", tmp_path / "served" / "tiny")
    assert build_variant(source, "cpu-int8", tmp_path / "served" / "tiny").manifest.variant == "cpu-int8"
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["tiny"]


def test_what_cannot_be_built_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no variant 'tpu'"):
        build_variant(source, "tpu", tmp_path / "built")
    with pytest.raises(BuildError, match="already a variant"):
        build_variant(build_variant(source, "cpu-fp32", tmp_path / "built").path, "cpu-int8", tmp_path / "again")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(BuildError, match="no model repository"):
        build_variant(source, "cpu-int8", tmp_path / "home")


def test_the_released_model_answers_each_text_by_itself(released: Path, tmp_path: Path) -> None:
    built = build_variant(released, "cpu-int8", tmp_path / "motive")
    assert_same_alone_together_and_shuffled(session(built), texts(20_000, 12), built, 24)


@pytest.fixture
def unseen() -> list[Example]:
    """Texts of the corpus that the released model was not trained on."""
    config = read_config(TRAINER / "released.toml")
    parts = corpus_split(config, read_taxonomy(TRAINER / "taxonomy.toml"))
    return list((*parts.test, *parts.calibration)[::2])


@pytest.mark.slow
def test_eight_bits_change_one_primary_in_a_hundred_of_the_released_model_and_a_point_of_accuracy_at_most(
    released: Path, tmp_path: Path, unseen: list[Example]
) -> None:
    plain, small = (build_variant(released, name, tmp_path / name) for name in ("cpu-fp32", "cpu-int8"))
    windows = [first for first, *_ in Tokenizer(plain).windows([example.text for example in unseen])]
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    expected, given = (primaries(one, [windows[i] for i in order]) for one in (plain, small))
    right = targets([unseen[i] for i in order], plain.taxonomy).primary.argmax(axis=1)
    assert expected.size >= 1000
    assert (expected == given).mean() >= 0.99
    assert abs((expected == right).mean() - (given == right).mean()) <= 0.01


def primaries(repository: Repository, rows: list[Ints]) -> Ints:
    running, batches = session(repository), [rows[i : i + 16] for i in range(0, len(rows), 16)]
    scores = [repository.calibration.primary_scores(logits(running, batch, len(batch[-1]))) for batch in batches]
    result: Ints = np.concatenate(scores).argmax(axis=1)
    return result
