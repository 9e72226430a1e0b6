"""The whole graph in 16-bit floats, for GPUs; inputs and outputs stay as they are."""

from onnx import ModelProto, TensorProto

from sidecar.model_build.graph import Graph, attribute

BLOCKED = ("LayerNormalization", "Softmax", "ReduceSum", "Where", "Range")
"""What sums up many values, or holds the mask's large numbers, stays in 32 bits."""
WIDE = "motive/"
"""So do nodes whose names begin thus: `motive-train import` names those that turn probabilities into logits."""


def halve(model: ModelProto) -> ModelProto:
    """Converts a float32 graph; returns the new model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    wide = [node.name for node in model.graph.node if node.name.startswith(WIDE)]
    converted: ModelProto = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=[*BLOCKED], node_block_list=wide
    )
    return _without_detours(converted)


def _without_detours(model: ModelProto) -> ModelProto:
    """What one 32-bit node gives another is not rounded to 16 bits in between, as the converter would have it."""
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
            narrow = graph.maker(node.input[0], "Cast")
            if narrow is not None and attribute(narrow, "to") == TensorProto.FLOAT16:
                node.input[0] = narrow.input[0]
    return graph.finish()
