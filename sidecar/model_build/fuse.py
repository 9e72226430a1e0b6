"""Attention and GELU, as exporters write them out, become ONNX Runtime's own operators for them.

ONNX Runtime fuses by itself what it recognizes; the attention of recent exporters it does not. A part that looks
different from what is sought here is left as it is: the model then runs more slowly and answers the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, helper

from sidecar.model_build.graph import Graph, attribute, contrib, import_contrib

TO_HEADS = (0, 2, 1, 3)
KEYS_TO_HEADS = (0, 2, 3, 1)


def fuse(model: ModelProto) -> ModelProto:
    """Replaces what can be replaced, in place; returns the model."""
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type == "Softmax":
            _fuse_attention(graph, node)
        elif node.op_type == "Erf":
            _fuse_gelu(graph, node)
    import_contrib(model)
    return graph.finish()


@dataclass(frozen=True)
class _Scores:
    """What a Softmax reads: query times key, scaled, plus a mask."""

    query: str
    key: str
    mask: str
    scale: float


def _fuse_attention(graph: Graph, softmax: NodeProto) -> None:
    if attribute(softmax, "axis", -1) not in (-1, 3):
        return
    scores = _scores(graph, softmax.input[0])
    context = graph.only_user(softmax.output[0], "MatMul")
    if scores is None or context is None:
        return
    back = graph.only_user(context.output[0], "Transpose")
    joined = back and graph.only_user(back.output[0], "Reshape")
    if not joined or not back or tuple(attribute(back, "perm")) != TO_HEADS:
        return
    sources = [
        _before_heads(graph, name, permutation)
        for name, permutation in ((scores.query, TO_HEADS), (scores.key, KEYS_TO_HEADS), (context.input[1], TO_HEADS))
    ]
    heads = _head_count(graph, scores.query)
    if None in sources or heads is None:
        return
    mask = scores.mask + ".square"
    inputs = [*map(str, sources), "", "", mask]
    attention = contrib("MultiHeadAttention", inputs, [joined.output[0]], num_heads=heads, scale=scores.scale)
    known = mask in graph.made_by
    graph.replace(joined, [attention] if known else [*_square(graph, scores.mask, str(sources[0]), mask), attention])
    graph.made_by[mask] = attention


def _square(graph: Graph, mask: str, tokens: str, output: str) -> Iterator[NodeProto]:
    """The mask as the operator wants it: one row per query, where many exporters leave it to broadcasting."""
    one = graph.add_constant("square.one", np.array([1]))
    yield helper.make_node("Shape", [tokens], [output + ".rows"], start=1, end=2)
    yield helper.make_node("Concat", [one, one, output + ".rows", one], [output + ".shape"], axis=0)
    yield helper.make_node("Expand", [mask, output + ".shape"], [output])


def _scores(graph: Graph, name: str) -> _Scores | None:
    masked = graph.maker(name, "Add")
    for product, mask in ((0, 1), (1, 0)) if masked else ():
        assert masked is not None
        scaled = graph.maker(masked.input[product], "Mul", "Div")
        pair = scaled and graph.with_constant(scaled)
        if not scaled or not pair or pair[1].size != 1:
            continue
        multiply = graph.maker(pair[0], "MatMul")
        if multiply is not None:
            factor = float(pair[1].reshape(-1)[0])
            factor = factor if scaled.op_type == "Mul" else 1.0 / factor
            return _Scores(multiply.input[0], multiply.input[1], masked.input[mask], factor)
    return None


def _before_heads(graph: Graph, name: str, permutation: tuple[int, ...]) -> str | None:
    """[batch, heads, ...] back to what was [batch, tokens, width]."""
    transpose = graph.maker(name, "Transpose")
    if transpose is None or tuple(attribute(transpose, "perm")) != permutation:
        return None
    reshape = graph.maker(transpose.input[0], "Reshape")
    return None if reshape is None else str(reshape.input[0])


def _head_count(graph: Graph, query: str) -> int | None:
    """From the width of the projection that makes the queries, and the last number of the shape they are cut to."""
    transpose = graph.maker(query, "Transpose")
    reshape = transpose and graph.maker(transpose.input[0], "Reshape")
    if not reshape:
        return None
    size, width = _last_number(graph, reshape.input[1]), _width(graph, reshape.input[0])
    return width // size if size and width and width % size == 0 else None


def _last_number(graph: Graph, shape: str) -> int | None:
    array = graph.constant(shape)
    if array is None:
        joined = graph.maker(shape, "Concat")
        array = None if joined is None else graph.constant(joined.input[-1])
    return None if array is None or int(array[-1]) <= 0 else int(array[-1])


def _width(graph: Graph, name: str) -> int | None:
    add = graph.maker(name, "Add")
    pair = add and graph.with_constant(add)
    return int(pair[1].shape[-1]) if pair and pair[1].ndim else None


def _fuse_gelu(graph: Graph, erf: NodeProto) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2, in either order of the last two products."""
    divide = graph.maker(erf.input[0], "Div", "Mul")
    pair = divide and graph.with_constant(divide)
    if not divide or not pair or pair[1].size != 1:
        return
    x, factor = pair[0], float(pair[1].reshape(-1)[0])
    if not math.isclose(factor if divide.op_type == "Div" else 1.0 / factor, math.sqrt(2.0), rel_tol=1e-3):
        return
    add = graph.only_user(erf.output[0], "Add")
    if add is None or graph.scalar(graph.other_input(add, erf.output[0])) != 1.0:
        return
    first = graph.only_user(add.output[0], "Mul")
    second = first and graph.only_user(first.output[0], "Mul")
    if not first or not second:
        return
    others = {graph.other_input(first, add.output[0]), graph.other_input(second, first.output[0])}
    if {x} != {name for name in others if graph.scalar(name) is None} or 0.5 not in map(graph.scalar, others):
        return
    graph.replace(second, [_gelu(graph, x, second.output[0])])


def _gelu(graph: Graph, x: str, output: str) -> NodeProto:
    biased = graph.maker(x, "Add")
    if biased is not None and (pair := graph.with_constant(biased)) and pair[1].ndim == 1:
        bias = graph.other_input(biased, pair[0])
        if np.issubdtype(pair[1].dtype, np.floating):
            return contrib("BiasGelu", [pair[0], bias], [output])
    return contrib("Gelu", [x], [output])
