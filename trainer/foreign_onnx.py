"""Somebody's own ONNX classifier, brought under the names, types and outputs that a model repository promises."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from trainer.errors import TrainerError

IDS = ("input_ids", "input_word_ids", "ids", "input")
MASK = ("attention_mask", "input_mask", "mask")
TYPES = ("token_type_ids", "segment_ids", "input_type_ids")
LEAST = 1e-7
"""Probabilities are kept so far from 0 and 1, so that their logits stay finite."""
EXACT = 1e-3
"""So far from 0 or 1 a probability, or a softmax's sum, may lie for want of bits."""


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


def plain(model: ModelProto) -> ModelProto:
    """The model as int64 input_ids, attention_mask [batch, tokens] -> float32 `logits` [batch, outputs].

    The outputs are the model's own, whatever they mean. Inputs of other names and of 32 bits are renamed and cast;
    token types, where asked for, become zeros.
    Raises TrainerError where the inputs do not fit.
    """
    found = _inputs(model)
    ids, mask, types = (_called(names, found) for names in (IDS, MASK, TYPES))
    if ids is None or len(found) > 1 + (mask is not None) + (types is not None):
        raise TrainerError(f"the model's inputs are {', '.join(found)}; it should take {IDS[0]} and {MASK[0]}")
    fixed = [str(d.dim_value) for d in found[ids].type.tensor_type.shape.dim if d.dim_value]
    if fixed:
        raise TrainerError(f"the model takes {' x '.join(fixed)} tokens and no others; export it with dynamic axes")
    core = compose.add_prefix(model, "core/")
    graph = core.graph
    front = []
    for ours, theirs in (("input_ids", ids), ("attention_mask", mask), ("motive/zeros", types)):
        if theirs is not None:
            kind = found[theirs].type.tensor_type.elem_type
            front.append(helper.make_node("Cast", [ours], [f"core/{theirs}"], to=kind))
    if types is not None:
        front.insert(0, helper.make_node("Sub", ["input_ids", "input_ids"], ["motive/zeros"]))
    back = helper.make_node("Cast", [graph.output[0].name], ["logits"], to=TensorProto.FLOAT)
    nodes = [*front, *graph.node, back]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    for name in ("input_ids", "attention_mask"):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "outputs"]))
    onnx.checker.check_model(core)
    return core


def ordered(model: ModelProto, columns: Sequence[int]) -> ModelProto:
    """What `plain` gave, with that of its outputs first which `columns` names first, and so on."""
    core = ModelProto()
    core.CopyFrom(model)
    core.graph.node[-1].output[0] = "motive/unordered"
    core.graph.initializer.append(numpy_helper.from_array(np.array(columns, np.int64), "motive/order"))
    core.graph.node.append(helper.make_node("Gather", ["motive/unordered", "motive/order"], ["logits"], axis=1))
    onnx.checker.check_model(core)
    return core


def check_width(width: int, labels: int) -> None:
    """Raises TrainerError where so many outputs cannot be those of a model with `labels` labels."""
    if width not in (labels, labels + 1, 2 * labels + 1):
        raise TrainerError(
            f"the model gives {width} numbers a text and the taxonomy has {labels} labels; "
            f"it should give {labels}, {labels + 1} (abstention last) or {2 * labels + 1}"
        )


def column_kinds(outputs: NDArray[np.float32], labels: int, given: str = "") -> list[str]:
    """What each column of `outputs` [texts, width] holds: "logit", or the probability of a "sigmoid" or "softmax".

    A softmax's rows sum to 1, abstention last. The two heads of 2 * labels + 1 columns are judged apart, by whether all
    their numbers lie from 0 to 1: trained logits of several texts do not. `given`, "logits" or "probabilities",
    overrules that; raises TrainerError where it cannot be true.
    """
    cuts = (0, labels, 2 * labels + 1) if outputs.shape[1] == 2 * labels + 1 else (0, outputs.shape[1])
    heads = [outputs[:, start:stop] for start, stop in pairwise(cuts)]
    return [kind for head in heads for kind in [_kind(head, labels, given)] * head.shape[1]]


def _kind(head: NDArray[np.float32], labels: int, given: str) -> str:
    within = head.min() >= -EXACT and head.max() <= 1 + EXACT
    if given == "probabilities" and not within:
        raise TrainerError(
            f"the model gives {head.min():.3g} and {head.max():.3g}, which are no probabilities; give --outputs logits"
        )
    if given == "logits" or not within:
        return "logit"
    one_of_many = head.shape[1] > labels and np.allclose(head.sum(axis=1), 1, atol=EXACT)
    return "softmax" if one_of_many else "sigmoid"


def headed(model: ModelProto, labels: int, kinds: Sequence[str]) -> ModelProto:
    """What `plain` or `ordered` gave, with `logits` as a repository has them: float32 [batch, 2 * labels + 1].

    A model with one number a label (sigmoids) or one more (a softmax, abstention last) gets both heads of those
    numbers. Probabilities, as `column_kinds` tells, become logits first.
    """
    core = ModelProto()
    core.CopyFrom(model)
    graph = core.graph
    graph.node[-1].output[0] = "motive/said"
    ending = _ending(graph)
    added = [*_logits(core, kinds), *_heads(core, len(kinds), labels)]
    graph.node.extend(added)
    for i, node in enumerate([*ending, *graph.node[-len(added) :]]):  # so named, they stay in 32 bits on a GPU
        node.name = f"motive/{i}"
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2 * labels + 1]))
    onnx.checker.check_model(core)
    return core


def _ending(graph: GraphProto) -> list[NodeProto]:
    """The nodes at the model's end that make, join, order or pass on probabilities."""
    makers = {name: node for node in graph.node for name in node.output}
    found, ahead = [], [graph.node[-1]]
    while ahead:
        node = ahead.pop()
        if node.op_type in ("Cast", "Concat", "Gather", "Identity", "Sigmoid", "Softmax"):
            found.append(node)
            ahead += [makers[name] for name in node.input if name in makers]
    return found


def _logits(core: ModelProto, kinds: Sequence[str]) -> list[NodeProto]:
    """Nodes from `motive/said` to `motive/given`: log p - log(1 - p) of a sigmoid, log p of a softmax, logits as is."""
    if set(kinds) == {"logit"}:
        return [helper.make_node("Identity", ["motive/said"], ["motive/given"])]
    constants = {
        "least": np.float32(LEAST),
        "most": np.float32(1 - LEAST),
        "whole": np.float32(1),
        "alone": np.array([kind == "sigmoid" for kind in kinds], np.float32),
        "ready": np.array([kind == "logit" for kind in kinds]),
    }
    for name, value in constants.items():
        core.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"motive/{name}"))
    steps = (
        ("Max", ("said", "least"), "over"),
        ("Min", ("over", "most"), "p"),
        ("Sub", ("whole", "p"), "rest"),
        ("Log", ("p",), "log_p"),
        ("Log", ("rest",), "log_rest"),
        ("Mul", ("log_rest", "alone"), "against"),
        ("Sub", ("log_p", "against"), "odds"),
        ("Where", ("ready", "said", "odds"), "given"),
    )
    return [helper.make_node(kind, [f"motive/{n}" for n in names], [f"motive/{to}"]) for kind, names, to in steps]


def _heads(core: ModelProto, width: int, labels: int) -> list[NodeProto]:
    """Nodes from `motive/given` to `logits`."""
    if width == 2 * labels + 1:
        return [helper.make_node("Identity", ["motive/given"], ["logits"])]
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
        helper.make_node("Sub", ["motive/named", "motive/abstention"], ["motive/ahead"]),
        helper.make_node("Concat", ["motive/ahead", "motive/given"], ["logits"], axis=1),
    ]


def _inputs(model: ModelProto) -> dict[str, Any]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in constants}


def _called(names: tuple[str, ...], found: Mapping[str, Any]) -> str | None:
    """The input that bears one of `names`, or NAME:0 as TensorFlow writes it."""
    return next((n for name in names for n in (name, f"{name}:0") if n in found), None)
