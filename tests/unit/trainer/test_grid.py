"""Weights on the eight-bit grid: what is released, and what the eight-bit variant then loses no more."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import BertConfig, BertModel

from sidecar.model_build.variant import VARIANTS
from trainer.classifier import MotiveClassifier
from trainer.errors import TrainerError
from trainer.grid import GridLinear, Reach, measure_reach, put_on_grid
from trainer.onnx_file import round_weights, store_grid, write_onnx
from trainer.predict import Ids, onnx_infer, predict, torch_infer

pytestmark = pytest.mark.filterwarnings("ignore")
LABELS, PAD = 3, 0


@pytest.fixture
def rows() -> Ids:
    random = np.random.default_rng(5)
    return [random.integers(1, 100, size=size).tolist() for size in random.integers(2, 24, size=64)]


def encoder(layers: int, spread: float = 0.02, *, pooler: bool = False) -> MotiveClassifier:
    """A random classifier, wide enough for the grid."""
    torch.manual_seed(11)
    config = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=spread,
    )
    return MotiveClassifier(BertModel(config, add_pooling_layer=pooler), LABELS).eval()


@pytest.fixture
def model() -> MotiveClassifier:
    """One in which, as in trained ones, a few channels reach much further than the others."""
    classifier = encoder(2, 0.15)
    with torch.no_grad():
        for layer in classifier.backbone.encoder.layer:
            layer.attention.output.LayerNorm.weight[7] = 25.0
            layer.intermediate.dense.weight[[3, 90]] *= 30.0
    return classifier


def logits(model: MotiveClassifier, rows: Ids) -> NDArray[np.float32]:
    return predict(torch_infer(model), rows, PAD)


def grid_layers(model: MotiveClassifier) -> dict[str, GridLinear]:
    return {name: module for name, module in model.backbone.named_modules() if isinstance(module, GridLinear)}


def test_norms_are_told_from_other_inputs_and_padding_does_not_count(model: MotiveClassifier, rows: Ids) -> None:
    reach = measure_reach(model, rows, PAD)
    inputs_from_norms = {name for name, normed in reach.normed.items() if normed}
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        assert {f"{layer}.attention.self.{part}" for part in ("query", "key", "value")} <= inputs_from_norms
        assert f"{layer}.intermediate.dense" in inputs_from_norms
        assert not {f"{layer}.attention.output.dense", f"{layer}.output.dense"} & inputs_from_norms
    alone = Reach()
    for row in rows:
        part = measure_reach(model, [row], PAD)
        for name, most in part.channels.items():
            alone.channels[name] = torch.maximum(alone.channels.get(name, most), most)
    for name, most in reach.channels.items():
        torch.testing.assert_close(most, alone.channels[name], rtol=1e-3, atol=1e-4)


def test_what_reaches_far_is_cut_or_kept_apart_and_the_answers_stay(
    model: MotiveClassifier, rows: Ids, tmp_path: Path
) -> None:
    before = logits(model, rows)
    measure_reach(model, rows, PAD).save(tmp_path)
    put_on_grid(model.backbone, Reach.load(tmp_path))
    layers = grid_layers(model)
    assert len(layers) == 12
    assert layers["encoder.layer.0.intermediate.dense"].cut
    outer = layers["encoder.layer.0.output.dense"]
    assert not outer.cut
    assert {3, 90} & set(outer.far.tolist())
    assert outer.whole[outer.far].abs().max() == 0
    assert np.std(logits(model, rows) - before) < 0.1 * np.std(before)


def test_a_layer_that_no_text_ran_through_is_left_as_it_is(model: MotiveClassifier) -> None:
    put_on_grid(model.backbone, Reach())
    assert not grid_layers(model)


def test_a_layer_that_reads_one_vector_of_a_text_is_left_as_it_is(rows: Ids, tmp_path: Path) -> None:
    """A pooler, whose result nobody reads: exporters drop it."""
    model = encoder(1, pooler=True)
    put_on_grid(model.backbone, measure_reach(model, rows, PAD))
    assert len(grid_layers(model)) == 6
    round_weights(model)
    write_onnx(model, tmp_path / "source.onnx")
    given = predict(onnx_infer(str(tmp_path / "source.onnx"), 1), rows, PAD)
    assert np.abs(given - logits(model, rows)).max() < 1e-3


def test_the_eight_bit_variant_multiplies_by_the_released_weights(
    model: MotiveClassifier, rows: Ids, tmp_path: Path
) -> None:
    put_on_grid(model.backbone, measure_reach(model, rows, PAD))
    round_weights(model)
    write_onnx(model, tmp_path / "source.onnx")
    expected = logits(model, rows)
    built = {name: VARIANTS[name](onnx.load(str(tmp_path / "source.onnx"))) for name in ("cpu-fp32", "cpu-int8")}
    error = {}
    for name, graph in {"source": onnx.load(str(tmp_path / "source.onnx")), **built}.items():
        onnx.save(graph, str(tmp_path / f"{name}.onnx"))
        error[name] = np.std(predict(onnx_infer(str(tmp_path / f"{name}.onnx"), 1), rows, PAD) - expected)
    assert error["source"] < 1e-4
    assert error["cpu-fp32"] < 1e-4
    assert error["cpu-int8"] < 0.05 * np.std(expected)

    stored = [numpy_helper.to_array(t) for t in built["cpu-int8"].graph.initializer]
    whole = {array.tobytes() for array in stored if array.dtype == np.int8}
    assert whole == {layer.whole.numpy().tobytes() for layer in grid_layers(model).values()}
    norms = [node.output[0] for node in built["cpu-int8"].graph.node if node.op_type == "LayerNormalization"]
    measured = [node.input[0] for node in built["cpu-int8"].graph.node if node.op_type == "Abs"]
    assert not set(norms) & set(measured), "what a norm gives is scaled by what is known of it"


def test_weights_that_the_exporter_changed_are_not_stored_in_silence(
    model: MotiveClassifier, rows: Ids, tmp_path: Path
) -> None:
    put_on_grid(model.backbone, measure_reach(model, rows, PAD))
    write_onnx(model, tmp_path / "source.onnx")
    other = onnx.load(str(tmp_path / "source.onnx"))
    with pytest.raises(TrainerError, match="the exporter changed 12 weights"):
        store_grid(other, grid_layers(model).values())
