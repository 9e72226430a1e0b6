"""The padding mask without the detour that recent exporters make to it.

They look up each place of the mask by its own row and column, and ask whether its number is at least 0: on processors
some twenty nodes that do nothing, and TensorRT may know none of the lookups. A mask that is made otherwise is left as
it is.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from sidecar.model_build.graph import Graph, attribute

RANK = 4
"""Of the mask and of the scores that it is added to: [batch, heads, queries, keys]."""


def straighten(model: ModelProto) -> ModelProto:
    """Replaces what can be replaced, in place; returns the model."""
    graph = Graph(model)
    for node in graph.nodes:
        # Added to scores it may be of fewer queries, as it is broadcast.
        if node.op_type == "Where" and all(user.op_type == "Add" for user in graph.used_by[node.output[0]]):
            _straighten(graph, node)
    return graph.finish()


def _straighten(graph: Graph, where: NodeProto) -> None:
    lookup = graph.maker(_without_truths(graph, where.input[0]), "GatherND")
    if lookup is None or not _looks_up_itself(graph, lookup):
        return
    straight = where.input[0] + ".straight"
    axes = graph.add_constant(straight + ".axes", np.array([1, 2]))
    direct = helper.make_node("Unsqueeze", [lookup.input[0], axes], [straight])
    graph.replace(where, [direct, helper.make_node("Where", [straight, *where.input[1:]], [where.output[0]])])


def _without_truths(graph: Graph, name: str) -> str:
    """The value that decides: of And, the one that is not always true."""
    while (both := graph.maker(name, "And")) is not None:
        deciding = [operand for operand in both.input if not _always_true(graph, operand)]
        if len(deciding) != 1:
            break
        name = deciding[0]
    return name


def _always_true(graph: Graph, name: str) -> bool:
    array = graph.constant(name)
    if array is not None:
        return bool(array.all())
    if (both := graph.maker(name, "And")) is not None:
        return all(_always_true(graph, operand) for operand in both.input)
    compare = graph.maker(name, "GreaterOrEqual")
    if compare is None or graph.scalar(compare.input[1]) != 0.0:
        return False
    numbers, _ = _without_unsqueezes(graph, compare.input[0])
    return _counts(graph, numbers)


def _looks_up_itself(graph: Graph, lookup: NodeProto) -> bool:
    """Whether data [batch, tokens] of booleans becomes [batch, 1, 1, tokens] of the same."""
    cast, places = graph.maker(lookup.input[0], "Cast"), graph.maker(lookup.input[1], "Concat")
    if cast is None or attribute(cast, "to") != TensorProto.BOOL or attribute(lookup, "batch_dims", 0) != 0:
        return False
    if places is None or attribute(places, "axis") not in (-1, RANK) or len(places.input) != 2:
        return False
    return all(
        _is_place(graph, name, cast.input[0], dimension, axis)
        for name, dimension, axis in zip(places.input, (0, 1), (0, RANK - 1), strict=True)
    )


def _is_place(graph: Graph, name: str, data: str, dimension: int, axis: int) -> bool:
    """Whether `name` holds, at each place, its number along `axis`, as many as `data` has along `dimension`."""
    last = graph.maker(name, "Unsqueeze")
    expand = last and graph.maker(last.input[0], "Expand")
    if not last or not expand or graph.scalar(last.input[1]) not in (-1.0, float(RANK)):
        return False
    numbers, shape = _without_unsqueezes(graph, expand.input[0])
    size = graph.maker(numbers, "Range")
    length = size and graph.maker(size.input[1], "Squeeze")
    of = length and graph.maker(length.input[0], "Shape")
    if not of or of.input[0] != data or not _counts(graph, numbers):
        return False
    if (attribute(of, "start", 0), attribute(of, "end")) != (dimension, dimension + 1):
        return False
    return shape == [place == axis for place in range(RANK)]


def _counts(graph: Graph, name: str) -> bool:
    """Whether `name` is 0, 1, 2, ..."""
    made = graph.maker(name, "Range")
    return made is not None and graph.scalar(made.input[0]) == 0.0 and graph.scalar(made.input[2]) == 1.0


def _without_unsqueezes(graph: Graph, name: str) -> tuple[str, list[bool]]:
    """The vector that `name` was, and for each of its dimensions now whether it is that vector's."""
    steps: list[list[int]] = []
    while (node := graph.maker(name, "Unsqueeze")) is not None and (axes := graph.constant(node.input[1])) is not None:
        steps.insert(0, axes.reshape(-1).tolist())
        name = node.input[0]
    dimensions = [True]
    for step in steps:
        rank = len(dimensions) + len(step)
        new = {axis % rank for axis in step}
        old = iter(dimensions)
        dimensions = [False if place in new else next(old) for place in range(rank)]
    return name, dimensions
