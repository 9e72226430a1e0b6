"""`motive-train import`: somebody's own ONNX classifier, its tokenizer and its labels become a model repository.

The model may come from any framework (TensorFlow through tf2onnx, PyTorch, scikit-learn): what counts is that it takes
token ids and an attention mask, perhaps token types, and gives one row of logits per text.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, compose, helper

from sidecar.repository import Calibration, Tokens, read_taxonomy
from trainer.answer import open_model
from trainer.calibrate import fit_calibration
from trainer.errors import TrainerError
from trainer.repository import Contents, write_repository
from trainer.texts import Example
from trainer.train import targets

IDS = ("input_ids", "input_word_ids", "ids", "input")
MASK = ("attention_mask", "input_mask", "mask")
TYPES = ("token_type_ids", "segment_ids", "input_type_ids")
PROBES = ("a plain text", "另一段文字", "a rather longer text than the first, to see whether padding changes anything")


def adopt(
    onnx_path: Path, tokenizer: Path, taxonomy: Path, to: Path, *, name: str, version: str, window: int = 256,
    pad_id: int = 0, prefix: str = "", labelled: Sequence[Example] = (),
) -> None:  # fmt: skip
    """Writes the repository `to`; with `labelled` texts it is calibrated on them, else logits go through the logistic.

    Raises TrainerError where the model's inputs or outputs do not fit, or it cannot answer.
    """
    labels = read_taxonomy(taxonomy)
    model = wrapped(load(onnx_path), len(labels.codes))
    primary = outputs(model) == 2 * len(labels.codes) + 1
    contents = Contents(
        name=name,
        version=version,
        variant="source",
        base=onnx_path.stem,
        taxonomy=taxonomy,
        tokenizer=tokenizer,
        calibration=Calibration.plain(labels.codes, primary=primary),
        tokens=Tokens(window, max(1, window * 3 // 4), prefix, pad_id),
        card=f"# {name} {version}\n\nImported from `{onnx_path.name}`; see its makers for training and limits.\n",
    )
    write_repository(to, contents, lambda path: onnx.save(model, str(path)))
    logits = open_model(to).logits(PROBES)
    if not np.isfinite(logits).all():
        raise TrainerError(f"{onnx_path} gives logits that are no numbers; export it again")
    if labelled and primary:
        held = open_model(to).logits([e.text for e in labelled])
        fitted = fit_calibration(labels.codes, held, targets(labelled, labels))
        write_repository(
            to, Contents(**{**contents.__dict__, "calibration": fitted}), lambda p: onnx.save(model, str(p))
        )


def load(path: Path) -> ModelProto:
    """Reads an ONNX file with its external data; raises TrainerError where it is none."""
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's decoder raises a class of its own
        raise TrainerError(
            f"{path} is no ONNX model ({type(error).__name__}); export one with torch.onnx or tf2onnx"
        ) from None


def wrapped(model: ModelProto, labels: int) -> ModelProto:
    """The model under our names and types: int64 input_ids, attention_mask -> float32 `logits`.

    Other names are renamed; int32 inputs get a Cast in front; token types, where asked for, become zeros.
    """
    found = {
        value.name: value for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}
    }
    ids, mask, types = (next((n for n in names if _bare(n, found)), None) for names in (IDS, MASK, TYPES))
    if ids is None or len(found) - (mask is not None) - (types is not None) != 1:
        raise TrainerError(f"the model's inputs are {', '.join(found)}; it should take {IDS[0]} and {MASK[0]}")
    width = outputs(model)
    if width not in (labels, labels + 1, 2 * labels + 1):
        raise TrainerError(
            f"the model gives {width} numbers a text and the taxonomy has {labels} labels; mend one of them"
        )
    core = compose.add_prefix(model, "core/")
    graph = core.graph
    casts, front = {}, []
    for ours, theirs in (("input_ids", ids), ("attention_mask", mask), ("", types)):
        if theirs is None:
            continue
        theirs = _bare(theirs, found) or theirs
        kind = found[theirs].type.tensor_type.elem_type
        if ours:
            front.append(helper.make_node("Cast", [ours], ["core/" + theirs], to=kind))
        else:
            front.append(helper.make_node("Sub", ["input_ids", "input_ids"], ["motive/zeros"]))
            front.append(helper.make_node("Cast", ["motive/zeros"], ["core/" + theirs], to=kind))
        casts[theirs] = kind
    result = graph.output[0].name
    back = [helper.make_node("Cast", [result], ["motive/logits"], to=TensorProto.FLOAT)]
    if width == labels + 1:  # one softmax with a class of its own for abstention: serve it as both heads
        graph.initializer.append(helper.make_tensor("motive/from", TensorProto.INT64, [1], [0]))
        graph.initializer.append(helper.make_tensor("motive/to", TensorProto.INT64, [1], [labels]))
        graph.initializer.append(helper.make_tensor("motive/axis", TensorProto.INT64, [1], [1]))
        back.append(
            helper.make_node("Slice", ["motive/logits", "motive/from", "motive/to", "motive/axis"], ["motive/first"])
        )
        back.append(helper.make_node("Concat", ["motive/first", "motive/logits"], ["logits"], axis=1))
        width = 2 * labels + 1
    else:
        back.append(helper.make_node("Identity", ["motive/logits"], ["logits"]))
    nodes = [*front, *graph.node, *back]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    for name in ("input_ids", "attention_mask"):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width]))
    onnx.checker.check_model(core)
    return core


def _bare(name: str, found: object) -> str | None:
    """The input called `name`, or `name:0` as TensorFlow writes it."""
    return next((n for n in (name, name + ":0") if n in found), None)  # type: ignore[operator]


def outputs(model: ModelProto) -> int:
    """How many numbers the model's first output has for a text; 0 where it does not say."""
    dims = model.graph.output[0].type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if dims else 0
