"""Somebody's own ONNX classifier, brought under the names, types and outputs that a model repository promises."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, shape_inference

from trainer.errors import TrainerError

IDS = ("input_ids", "input_word_ids", "ids", "input")
MASK = ("attention_mask", "input_mask", "mask")
TYPES = ("token_type_ids", "segment_ids", "input_type_ids")


def load(path: Path) -> ModelProto:
    """Reads an ONNX file with its external data; raises TrainerError where it is none."""
    if not path.is_file():
        raise TrainerError(f"{path} does not exist; give an ONNX file")
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's decoder raises a class of its own
        raise TrainerError(
            f"{path} is no ONNX model ({type(error).__name__}); export one with torch.onnx or tf2onnx"
        ) from None


def wrapped(model: ModelProto, labels: int) -> ModelProto:
    """The model as int64 input_ids, attention_mask [batch, tokens] -> float32 `logits` [batch, 2 * labels + 1].

    Inputs of other names and of 32 bits are renamed and cast; token types, where asked for, become zeros. A model with
    one number a label (sigmoids) or one more (a softmax, abstention last) gets both heads of those numbers.
    Raises TrainerError where inputs or outputs do not fit.
    """
    found = _inputs(model)
    ids, mask, types = (_called(names, found) for names in (IDS, MASK, TYPES))
    if ids is None or len(found) > 1 + (mask is not None) + (types is not None):
        raise TrainerError(f"the model's inputs are {', '.join(found)}; it should take {IDS[0]} and {MASK[0]}")
    fixed = [str(d.dim_value) for d in found[ids].type.tensor_type.shape.dim if d.dim_value]
    if fixed:
        raise TrainerError(f"the model takes {' x '.join(fixed)} tokens and no others; export it with dynamic axes")
    width = _width(model)
    core = compose.add_prefix(model, "core/")
    graph = core.graph
    front = []
    for ours, theirs in (("input_ids", ids), ("attention_mask", mask), ("motive/zeros", types)):
        if theirs is not None:
            kind = found[theirs].type.tensor_type.elem_type
            front.append(helper.make_node("Cast", [ours], [f"core/{theirs}"], to=kind))
    if types is not None:
        front.insert(0, helper.make_node("Sub", ["input_ids", "input_ids"], ["motive/zeros"]))
    back = [helper.make_node("Cast", [graph.output[0].name], ["motive/given"], to=TensorProto.FLOAT)]
    nodes = [*front, *graph.node, *back, *_heads(core, width, labels)]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    for name in ("input_ids", "attention_mask"):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2 * labels + 1]))
    onnx.checker.check_model(core)
    return core


def _heads(core: ModelProto, width: int, labels: int) -> list[NodeProto]:
    """Nodes from `motive/given` to `logits`."""
    if width == 2 * labels + 1:
        return [helper.make_node("Identity", ["motive/given"], ["logits"])]
    if width not in (labels, labels + 1):
        raise TrainerError(
            f"the model gives {width or 'an unstated number of'} numbers a text and the taxonomy has {labels} labels; "
            f"it should give {labels}, {labels + 1} (abstention last) or {2 * labels + 1}"
        )
    for name, value in (("from", 0), ("one", 1), ("labels", labels), ("end", width), ("axis", 1)):
        core.graph.initializer.append(helper.make_tensor(f"motive/{name}", TensorProto.INT64, [1], [value]))

    def cut(start: str, stop: str, result: str) -> NodeProto:
        names = ["motive/given", f"motive/{start}", f"motive/{stop}", "motive/axis"]
        return helper.make_node("Slice", names, [f"motive/{result}"])

    if width == labels:  # no label's sigmoid over a half means abstention
        return [
            cut("from", "one", "first"),
            helper.make_node("Sub", ["motive/first", "motive/first"], ["motive/abstention"]),
            helper.make_node("Concat", ["motive/given", "motive/given", "motive/abstention"], ["logits"], axis=1),
        ]
    return [
        cut("from", "labels", "named"),
        cut("labels", "end", "abstention"),
        helper.make_node("Sub", ["motive/named", "motive/abstention"], ["motive/over"]),
        helper.make_node("Concat", ["motive/over", "motive/given"], ["logits"], axis=1),
    ]


def _inputs(model: ModelProto) -> dict[str, Any]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in constants}


def _called(names: tuple[str, ...], found: Mapping[str, Any]) -> str | None:
    """The input that bears one of `names`, or NAME:0 as TensorFlow writes it."""
    return next((n for name in names for n in (name, f"{name}:0") if n in found), None)


def _width(model: ModelProto) -> int:
    """How many numbers the first output has for a text; 0 where the model does not say."""
    for candidate in (model, shape_inference.infer_shapes(model)):
        dims = candidate.graph.output[0].type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].dim_value:
            return int(dims[1].dim_value)
    return 0
