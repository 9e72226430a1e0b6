"""Linear layers in eight bits, the same answer for a text in any company.

ONNX Runtime's one-call dynamic quantization takes one scale for a whole batch, so that an answer depends on the texts
beside it. Here the scale is the row's (the token's), or fixed where the source says what its inputs reach:

    s = max |x| of the row / 127;  x = round(x / s) + 128 as uint8;  y = (x - 128) W s t + b,  W int8, t per column

The weights are those of the source where they lie on the eight-bit grid there, else rounded to it.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, helper

from sidecar.model_build.graph import Array, Graph, contrib, import_contrib
from sidecar.repository.grid import SMALLEST, quantize_columns


def quantize_rows(model: ModelProto) -> ModelProto:
    """Quantizes every big enough MatMul by a constant, in place; returns the model."""
    graph = Graph(model)
    graph.add_constant("rows.zero", np.array(128, np.uint8))
    graph.add_constant("rows.one", np.array(1.0, np.float32))
    graph.add_constant("rows.step", np.array(1.0 / 127.0, np.float32))
    graph.add_constant("rows.least", np.array(1e-9, np.float32))
    graph.add_constant("rows.last", np.array([-1], np.int64))
    done: set[str] = set()
    for node in graph.nodes:
        weight = _weight(graph, node) if node.op_type == "MatMul" else None
        if weight is not None and min(weight[0].shape) >= SMALLEST:
            fixed = _fixed_scale(graph, node.input[0])
            replacements = _fixed(graph, node, *weight, *fixed, done) if fixed else _rows(graph, node, *weight, done)
            graph.replace(node, list(replacements))
    import_contrib(model)
    return graph.finish()


def _weight(graph: Graph, multiply: NodeProto) -> tuple[Array, Array] | None:
    if (found := graph.on_grid(multiply.input[1])) is not None:
        return found
    weight = graph.constant(multiply.input[1])
    return quantize_columns(weight) if weight is not None and weight.ndim == 2 else None


def _fixed_scale(graph: Graph, x: str) -> tuple[str, Array] | None:
    """Where `x` is a value times a factor per channel, cut off at -1 and 1: the value and the factors."""
    clip = graph.maker(x, "Clip")
    scaled = clip and len(clip.input) == 3 and graph.maker(clip.input[0], "Mul")
    if not clip or not scaled or [graph.scalar(end) for end in clip.input[1:]] != [-1.0, 1.0]:
        return None
    pair = graph.with_constant(scaled)
    return pair if pair is not None and pair[1].ndim == 1 else None


def _fixed(
    graph: Graph, node: NodeProto, whole: Array, steps: Array, value: str, factors: Array, done: set[str]
) -> Iterator[NodeProto]:
    """Rounding to bytes is the cut."""
    key = f"{value}.{hashlib.sha256(factors.tobytes()).hexdigest()[:12]}"
    if key not in done:
        done.add(key)
        full = graph.add_constant(key + ".factors", (factors * 127.0).astype(np.float32))
        yield helper.make_node("Mul", [value, full], [key + ".scaled"])
        yield helper.make_node("QuantizeLinear", [key + ".scaled", "rows.one", "rows.zero"], [key + ".bytes"])
    add = graph.only_user(node.output[0], "Add")
    pair = graph.with_constant(add) if add else None
    if add and pair and pair[1].shape == steps.shape:
        graph.replace(add, [])
        bias = graph.other_input(add, node.output[0])
        yield _product(graph, node, key + ".bytes", whole, steps / 127.0, add.output[0], bias)
    else:
        yield _product(graph, node, key + ".bytes", whole, steps / 127.0, node.output[0])


def _rows(graph: Graph, node: NodeProto, whole: Array, steps: Array, done: set[str]) -> Iterator[NodeProto]:
    x, y = node.input[0], node.output[0]
    if x not in done:
        done.add(x)
        yield helper.make_node("Abs", [x], [x + ".abs"])
        yield helper.make_node("ReduceMax", [x + ".abs", "rows.last"], [x + ".max"], keepdims=1)
        yield helper.make_node("Max", [x + ".max", "rows.least"], [x + ".top"])
        yield helper.make_node("Mul", [x + ".top", "rows.step"], [x + ".scale"])
        yield helper.make_node("Div", [x, x + ".scale"], [x + ".scaled"])
        yield helper.make_node("QuantizeLinear", [x + ".scaled", "rows.one", "rows.zero"], [x + ".bytes"])
    yield _product(graph, node, x + ".bytes", whole, steps, y + ".product")
    yield helper.make_node("Mul", [y + ".product", x + ".scale"], [y])


def _product(graph: Graph, node: NodeProto, x: str, whole: Array, steps: Array, y: str, *bias: str) -> NodeProto:
    name = node.input[1]
    integers = graph.add_constant(name + ".bytes", whole)
    scales = graph.add_constant(y + ".scales", steps.astype(np.float32))
    # The zero point of the weights, which is 0, is left out.
    rest = ["", *bias] if bias else []
    return contrib("MatMulIntegerToFloat", [x, integers, "rows.one", scales, "rows.zero", *rest], [y])
