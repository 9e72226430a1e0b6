"""Linear layers in eight bits, each row of activations by a scale of its own.

ONNX Runtime's one-call dynamic quantization takes one scale for a whole batch, so that an answer depends on the texts
beside it. Here the scale is the row's (the token's): the same text gives the same answer in any company.

    s = max |x| of the row / 127;  x = round(x / s) + 128 as uint8;  y = (x - 128) W s t + b,  W int8, t per column
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from sidecar.model_build.graph import Graph, contrib, import_contrib

SMALLEST = 64
"""Inputs or outputs below which a matrix stays in 32 bits: the heads, whose time is nothing."""

PAIR = 32767 / 255
"""What two neighbouring weights of one sign may add up to: processors without a dot product of bytes add two products
in sixteen bits, and saturate."""

Ints = NDArray[np.int8]
Floats = NDArray[np.float32]


def quantize_columns(weight: Floats) -> tuple[Ints, Floats]:
    """weight [inputs, outputs] -> int8 of that shape and a scale per output, such that no pair overflows."""
    padded = np.concatenate([weight, np.zeros((weight.shape[0] % 2, weight.shape[1]), np.float32)])
    scales = np.abs(weight).max(axis=0) / 127.0
    for sign in (1.0, -1.0):
        pairs = np.maximum(sign * padded, 0.0).reshape(-1, 2, weight.shape[1]).sum(axis=1).max(axis=0)
        # Each of the two may be rounded up by a half.
        scales = np.maximum(scales, pairs / (PAIR - 1.0))
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def quantize_rows(model: ModelProto) -> ModelProto:
    """Quantizes every big enough MatMul by a constant, in place; returns the model."""
    graph = Graph(model)
    graph.add_constant("rows.zero", np.array(128, np.uint8))
    graph.add_constant("rows.one", np.array(1.0, np.float32))
    graph.add_constant("rows.step", np.array(1.0 / 127.0, np.float32))
    graph.add_constant("rows.least", np.array(1e-9, np.float32))
    graph.add_constant("rows.last", np.array([-1], np.int64))
    rows: set[str] = set()
    for node in graph.nodes:
        weight = graph.constant(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.ndim == 2 and min(weight.shape) >= SMALLEST:
            new = [] if node.input[0] in rows else list(_quantize(node.input[0]))
            rows.add(node.input[0])
            graph.replace(node, [*new, *_multiply(graph, node, weight)])
    import_contrib(model)
    return graph.finish()


def _quantize(x: str) -> Iterator[NodeProto]:
    yield helper.make_node("Abs", [x], [x + ".abs"])
    yield helper.make_node("ReduceMax", [x + ".abs", "rows.last"], [x + ".max"], keepdims=1)
    yield helper.make_node("Max", [x + ".max", "rows.least"], [x + ".top"])
    yield helper.make_node("Mul", [x + ".top", "rows.step"], [x + ".scale"])
    yield helper.make_node("Div", [x, x + ".scale"], [x + ".scaled"])
    yield helper.make_node("QuantizeLinear", [x + ".scaled", "rows.one", "rows.zero"], [x + ".bytes"])


def _multiply(graph: Graph, node: NodeProto, weight: Floats) -> Iterator[NodeProto]:
    x, name, y = node.input[0], node.input[1], node.output[0]
    integers, scales = quantize_columns(weight)
    inputs = [
        x + ".bytes",
        graph.add_constant(name + ".bytes", integers),
        "rows.one",
        graph.add_constant(name + ".scales", scales),
        "rows.zero",
    ]
    yield contrib("MatMulIntegerToFloat", inputs, [y + ".product"])
    yield helper.make_node("Mul", [y + ".product", x + ".scale"], [y])
