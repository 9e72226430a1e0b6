"""The mask of recent exporters: looked up place by place, until `straighten` reads it directly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sidecar.model_build.straighten import straighten

Change = Callable[[ModelProto], object]


def detour() -> ModelProto:
    """attention_mask [batch, tokens] and scores [batch, 1, tokens, tokens] -> scores with padding far below zero."""
    numbers = {"zero": 0, "one": 1, "first": [1, 2], "third": [3], "front": [0, 1], "second": [2], "last": [-1]}
    constants = [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in numbers.items()]
    constants += [
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array(0, dtype=np.float32), "kept"),
        numpy_helper.from_array(np.array(-1e9, dtype=np.float32), "away"),
    ]
    nodes = [
        *_numbers("rows", 0),
        *_numbers("columns", 1),
        _node("Unsqueeze", ["rows", "first"], "rows3"),
        _node("Unsqueeze", ["rows3", "third"], "rows4"),
        _node("Unsqueeze", ["columns", "front"], "columns3"),
        _node("Unsqueeze", ["columns3", "second"], "columns4"),
        _node("Max", ["rows4", "columns4"], "both"),
        _node("Shape", ["both"], "shape"),
        _node("Expand", ["rows4", "shape"], "row"),
        _node("Expand", ["columns4", "shape"], "column"),
        _node("Unsqueeze", ["row", "last"], "row5"),
        _node("Unsqueeze", ["column", "last"], "column5"),
        _node("Concat", ["row5", "column5"], "places", axis=-1),
        _node("Cast", ["attention_mask"], "seen", to=TensorProto.BOOL),
        _node("GatherND", ["seen", "places"], "looked_up", batch_dims=0),
        _node("Unsqueeze", ["columns3", "third"], "queries"),
        _node("GreaterOrEqual", ["queries", "zero"], "real"),
        _node("And", ["true", "real"], "always"),
        _node("And", ["always", "looked_up"], "condition"),
        _node("Where", ["condition", "kept", "away"], "mask"),
        _node("Add", ["scores", "mask"], "masked"),
    ]
    inputs = [
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1, "tokens", "tokens"]),
    ]
    outputs = [helper.make_tensor_value_info("masked", TensorProto.FLOAT, ["batch", 1, "tokens", "tokens"])]
    graph = helper.make_graph(nodes, "detour", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _numbers(name: str, dimension: int) -> list[NodeProto]:
    return [
        _node("Shape", ["attention_mask"], f"{name}.shape", start=dimension, end=dimension + 1),
        _node("Squeeze", [f"{name}.shape"], f"{name}.length"),
        _node("Range", ["zero", f"{name}.length", "one"], name),
    ]


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def answer(model: ModelProto) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    feed = {"attention_mask": mask, "scores": random.normal(size=(3, 1, 4, 4)).astype(np.float32)}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["masked"], feed)[0]
    return result


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_the_mask_is_read_directly_and_the_answer_is_the_same() -> None:
    straight = straighten(detour())
    assert kinds(straight) == ["Cast", "Unsqueeze", "Where", "Add"]
    np.testing.assert_array_equal(answer(straight), answer(detour()))


def _node_of(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def _put(name: str, place: int, value: str) -> Change:
    return lambda model: _node_of(model, name).input.__setitem__(place, value)


@pytest.mark.parametrize(
    "change",
    [
        _put("places", 0, "column5"),
        _put("real", 1, "one"),
        _put("condition", 0, "looked_up"),
        _put("columns", 0, "one"),
        _put("rows.shape", 0, "scores"),
    ],
    ids=["by column alone", "not from the first query on", "twice", "from the second column on", "of something else"],
)
def test_a_mask_that_says_something_else_stays_as_it_is(change: Change) -> None:
    model = detour()
    change(model)
    assert "GatherND" in kinds(straighten(model))
