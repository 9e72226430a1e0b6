"""Weights as 32-bit floats: the source stores big matrices in 16 bits behind a Cast, or in eight bits with a step per
column behind a Cast and a Mul, which would run every time."""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from sidecar.model_build.graph import Graph, attribute


def widen(model: ModelProto, *, grid: bool = True) -> ModelProto:
    """Turns float16 constants that are cast to float32, directly or after a Gather, into float32 ones.

    With `grid`, eight-bit constants too.
    """
    graph = Graph(model)
    for node in graph.nodes:
        if grid and node.op_type == "Mul" and (found := graph.on_grid(node.output[0])) is not None:
            whole, steps = found
            graph.add_constant(node.output[0], whole * steps)
            graph.replace(node, [])
        if node.op_type != "Cast" or attribute(node, "to") != TensorProto.FLOAT:
            continue
        array = graph.constant(node.input[0])
        if array is not None and array.dtype == np.float16:
            graph.add_constant(node.output[0], array.astype(np.float32))
            graph.replace(node, [])
        elif (gather := _gather_of_half(graph, node)) is not None:
            table = graph.constant(gather.input[0])
            assert table is not None
            wide = graph.add_constant(gather.input[0] + ".wide", table.astype(np.float32))
            gather.input[0], gather.output[0] = wide, node.output[0]
            graph.replace(node, [])
    return graph.finish()


def _gather_of_half(graph: Graph, cast: NodeProto) -> NodeProto | None:
    gather = graph.maker(cast.input[0], "Gather")
    if gather is None or graph.only_user(cast.input[0], "Cast") is None:
        return None
    table = graph.constant(gather.input[0])
    return gather if table is not None and table.dtype == np.float16 else None
