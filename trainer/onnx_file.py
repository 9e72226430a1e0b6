"""The classifier as an ONNX file: dynamic batch and tokens.

Big matrices are stored in eight bits with a step per column where they lie on the grid, else as 16-bit floats that are
cast on load.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from trainer.classifier import MotiveClassifier
from trainer.errors import TrainerError
from trainer.grid import GridLinear

OPSET = 18
BIG = 4096
"""Elements from which a matrix is stored in 16 bits; smaller ones, norms and biases stay in 32."""


def round_weights(model: MotiveClassifier) -> None:
    """Rounds the big matrices to what the file will hold, so that calibration sees the released numbers exactly."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.numel() >= BIG:
                parameter.copy_(parameter.half().float())


def onnx_model(model: MotiveClassifier) -> onnx.ModelProto:
    """Exports in 32 bits: input_ids, attention_mask int64 [batch, tokens] -> logits float32 [batch, outputs]."""
    model = model.eval()
    attention = getattr(model.backbone.config, "_attn_implementation", None)
    if attention is not None:
        model.backbone.set_attn_implementation("eager")  # plain matrix products: runtimes fuse them themselves
    ids = torch.tensor([[0, 5, 2, 1], [0, 5, 6, 2]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=512)
    try:
        program = torch.onnx.export(
            model,
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: batch, 1: tokens}, "attention_mask": {0: batch, 1: tokens}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    finally:
        if attention is not None:
            model.backbone.set_attn_implementation(attention)
    assert program is not None
    return turned(onnx.load_from_string(program.model_proto.SerializeToString()))


def turned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores each matrix that is only read transposed as it is read: the exporter leaves those used more than once."""
    graph = model.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        if node.op_type == "Transpose" and node.input[0] in matrices and readers[node.input[0]] == 1:
            tensor = matrices[node.input[0]]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T, node.output[0]))
            graph.node.remove(node)
    return model


def store_grid(model: onnx.ModelProto, layers: Iterable[GridLinear]) -> onnx.ModelProto:
    """Stores the weights of `layers` as the whole numbers that they are, each cast and multiplied by its steps on load.

    A DequantizeLinear would say the same, but ONNX Runtime then rounds the inputs as well, coarsely and unasked.
    """
    graph, nodes = model.graph, []
    grids = {(layer.whole * layer.step).numpy().tobytes(): layer for layer in layers}
    found = set()
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor).tobytes() if len(tensor.dims) == 2 else b""
        if values in grids:
            found.add(values)
            layer, name = grids[values], tensor.name
            tensor.CopyFrom(numpy_helper.from_array(layer.whole.numpy(), name + ".whole"))
            graph.initializer.append(numpy_helper.from_array(layer.step.numpy(), name + ".step"))
            nodes.append(helper.make_node("Cast", [name + ".whole"], [name + ".wide"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [name + ".wide", name + ".step"], [name]))
    if len(found) < len(grids):
        changed = len(grids) - len(found)
        raise TrainerError(f"the exporter changed {changed} weights; take the version of torch in requirements.lock")
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def store_halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores big float32 matrices as float16, each with a Cast back; a gathered table is cast after the gather."""
    graph = model.graph
    halved: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < BIG:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, name + ".half"))
        halved[name] = name + ".half"
    nodes = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in halved:
            node.input[0] = halved[node.input[0]]
            output, node.output[0] = node.output[0], node.output[0] + ".half"
            nodes += [node, helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT)]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    casts = [
        helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT) for name, half in halved.items() if name in used
    ]
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    del graph.value_info[:]
    for node in graph.node:  # the exporter notes source lines there, paths of this machine among them
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    model.producer_name = "motive-train"
    onnx.checker.check_model(model, full_check=True)
    return model


def write_onnx(model: MotiveClassifier, path: Path) -> None:
    """Writes `model` to `path`; its weights should have been rounded."""
    layers = [module for module in model.modules() if isinstance(module, GridLinear)]
    onnx.save(store_halved(store_grid(onnx_model(model), layers)), str(path))
