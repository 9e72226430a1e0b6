"""A user's own ONNX model becomes a repository: names, types and heads of other makers, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sidecar.model_build import build_variant
from sidecar.repository import open_repository
from tests.fixtures.sidecar_process import RunSidecar
from tests.unit.trainer.conftest import run
from tests.unit.trainer.tiny import TAXONOMY, WORDS, corpus, tiny_tokenizer
from trainer.answer import open_model
from trainer.foreign_onnx import column_kinds
from trainer.texts import write_examples

TEXTS = ["money refund cash", "courier parcel late", "screen broken smoke", "hello monday"]
ANSWERS = ["refund", "delivery", "defect", "other"]
LABELS = [label for label in WORDS if label]


def table(width: int) -> NDArray[np.float32]:
    """What each piece adds to each of `width` outputs: a word of a label speaks for it."""
    pieces = tiny_tokenizer().get_vocab()
    table = np.zeros((len(pieces), width), np.float32)
    columns = range(3) if width < 7 else range(6)
    for label, words in WORDS.items():
        for word in words:
            for column in columns:
                if label and column % 3 == LABELS.index(label):
                    table[pieces["▁" + word], column] = 4.0
    return table


def write_model(
    path: Path,
    width: int,
    *,
    names: tuple[str, ...] = ("input_ids", "attention_mask"),
    kind: int = TensorProto.INT64,
    tokens: str | int = "tokens",
    masked: bool = True,
    factor: float = 1.0,
    ending: str = "",
) -> Path:
    """A bag of words whose file looks as another framework wrote it; without `masked` it reads the padding too.

    `ending` is the operation on its logits, "both" for sigmoids of the labels beside a softmax, "mixed" for logits
    of the labels beside a softmax.
    """
    ids, mask, *types = names
    bias = np.full(width, -2.0, np.float32)
    bias[-1] = 2.0 if width in (4, 7) else -2.0  # abstention's column, where there is one
    weights = table(width) * np.float32(factor)
    if not masked:
        weights[1] = 1.0
    nodes = [
        helper.make_node("Gather", ["table", ids], ["said"]),
        helper.make_node("Cast", [mask], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["kept3"]),
        helper.make_node("Mul", ["said", "kept3"], ["heard"])
        if masked
        else helper.make_node("Identity", ["said"], ["heard"]),
        helper.make_node("ReduceSum", ["heard", "one"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "bias"], ["scores" if types else "answer"]),
    ]
    if types:  # token types take part, so that leaving them out would fail
        nodes += [
            helper.make_node("Cast", [types[0]], ["types"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["types", "one"], ["typed"], keepdims=1),
            helper.make_node("Sub", ["scores", "typed"], ["answer"]),
        ]
    constants = {"table": weights, "bias": bias, "last": np.array([-1]), "one": np.array([1])}
    if ending:
        nodes[-1].output[0] = "before"
        constants["parts"] = np.array([width // 2, width - width // 2])
        if ending in ("both", "mixed"):
            nodes += [
                helper.make_node("Split", ["before", "parts"], ["many", "single"], axis=1),
                helper.make_node("Sigmoid" if ending == "both" else "Identity", ["many"], ["sigmoids"]),
                helper.make_node("Softmax", ["single"], ["softmax"], axis=1),
                helper.make_node("Concat", ["sigmoids", "softmax"], ["answer"], axis=1),
            ]
        else:
            nodes.append(helper.make_node(ending, ["before"], ["answer"]))
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(name, kind, ["n", tokens]) for name in names],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a taxonomy and a tokenizer."""
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def bring(folder: Path, model: Path, *more: object) -> int:
    """`motive-train import` into folder/tickets."""
    files = ("--tokenizer", folder / "tokenizer.json", "--taxonomy", folder / "taxonomy.toml", "--pad-id", 1)
    return run("import", model, *files, "--to", folder / "tickets", "--name", "tickets", *more)


def primaries(folder: Path) -> list[str]:
    """What the imported model says of TEXTS."""
    return [a.motives[0][0] if a.motives else "other" for a in open_model(folder / "tickets").answers(TEXTS)]


@pytest.mark.parametrize("width", [3, 4, 7], ids=["sigmoids", "a softmax with abstention", "both heads"])
def test_models_of_every_kind_of_output_are_served(folder: Path, width: int) -> None:
    assert bring(folder, write_model(folder / "m.onnx", width)) == 0
    assert primaries(folder) == ANSWERS
    assert open_repository(folder / "tickets").manifest.primary_head


@pytest.mark.parametrize(
    ("width", "ending"), [(3, "Sigmoid"), (4, "Softmax"), (4, "Sigmoid"), (7, "both"), (7, "Sigmoid"), (7, "mixed")]
)
def test_a_model_that_gives_probabilities_answers_as_one_that_gives_their_logits(
    folder: Path, width: int, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(folder, write_model(folder / "m.onnx", width)) == 0
    assert "taken as probabilities" not in capsys.readouterr().err
    wanted = open_model(folder / "tickets").answers(TEXTS)
    assert bring(folder, write_model(folder / "m.onnx", width, ending=ending)) == 0
    probabilities = 4 if ending == "mixed" else width
    said = (
        f"m.onnx gives numbers from 0 to 1 in {probabilities} of its {width} outputs: they are taken as probabilities"
    )
    assert said in capsys.readouterr().err
    for found, one in zip(open_model(folder / "tickets").answers(TEXTS), wanted, strict=True):
        assert [code for code, _ in found.motives] == [code for code, _ in one.motives]
        assert [p for _, p in found.motives] == pytest.approx([p for _, p in one.motives], abs=1e-4)
        assert found.confidence == pytest.approx(one.confidence, abs=1e-4)


@pytest.mark.parametrize(("width", "ending"), [(3, "Sigmoid"), (4, "Softmax"), (7, "both")])
def test_confident_probabilities_become_the_same_logits_in_sixteen_bits(folder: Path, width: int, ending: str) -> None:
    assert bring(folder, write_model(folder / "m.onnx", width, ending=ending, factor=2.5)) == 0
    build_variant(folder / "tickets", "gpu-fp16", folder / "halved")
    wide, narrow = (open_model(folder / name).logits(TEXTS) for name in ("tickets", "halved"))
    assert np.abs(wide).max() > 12
    assert np.abs(wide - narrow).max() < 0.05


def in_order(path: Path, order: Sequence[int]) -> list[str]:
    """Has the model at `path` give its outputs in `order`; what they are called then."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["taxonomys" if name == "answer" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array(order), "order"))
    model.graph.node.append(helper.make_node("Gather", ["taxonomys", "order"], ["answer"], axis=1))
    onnx.save(model, path)
    codes = [*LABELS, "other"] if len(order) < 7 else [*LABELS, *LABELS, "other"]
    return [codes[i] for i in order]


@pytest.mark.parametrize("told", ["config.json beside it", "a config.json", "lines"])
@pytest.mark.parametrize(
    ("order", "ending"),
    [((2, 0, 1), ""), ((3, 1, 0, 2), ""), ((3, 1, 0, 2), "Softmax"), ((1, 2, 0, 6, 4, 3, 5), "both")],
    ids=["sigmoids", "abstention first", "abstention first, a softmax", "both heads"],
)
def test_outputs_come_into_the_taxonomys_order_by_their_names(
    folder: Path, order: tuple[int, ...], ending: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(folder, write_model(folder / "m.onnx", len(order), ending=ending)) == 0
    wanted = open_model(folder / "tickets").logits(TEXTS)
    names = in_order(folder / "m.onnx", order)
    if told == "lines":
        file = folder / "names.txt"
        file.write_text("\n".join(names) + "\n", encoding="utf-8")
    else:
        file = folder / ("config.json" if "beside" in told else "theirs.json")
        file.write_text(json.dumps({"id2label": {str(i): name for i, name in enumerate(names)}}), encoding="utf-8")
    more = () if "beside" in told else ("--labels", file)
    assert bring(folder, folder / "m.onnx", *more) == 0
    assert f"{file} names the outputs in another order" in capsys.readouterr().err
    assert np.abs(open_model(folder / "tickets").logits(TEXTS) - wanted).max() < 1e-4
    build_variant(folder / "tickets", "gpu-fp16", folder / "halved")
    assert np.abs(open_model(folder / "halved").logits(TEXTS) - wanted).max() < 0.05


@pytest.mark.parametrize(
    "config", [{"model_type": "bert"}, {"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}], ids=["none", "numbers"]
)
def test_a_config_that_names_no_labels_leaves_the_taxonomys_order(folder: Path, config: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    assert bring(folder, write_model(folder / "m.onnx", 3)) == 0
    assert primaries(folder) == ANSWERS


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (
            "refund\ndelivery\nbroken\n",
            "names an output 'broken', and none of refund, delivery, defect; write the code",
        ),
        ("refund\ndelivery\ndelivery\n", "names no output 'defect'; write the code of each output on a line"),
        ("refund\ndelivery\ndefect\nother\n", "names 4 outputs, and the model gives 3; write the code"),
        ('{"id2label": {"1": "refund", "2": "delivery", "3": "defect"}}', "numbers no labels from 0 up under id2label"),
        ('{"id2label": ["refund"]}', "numbers no labels from 0 up under id2label"),
        ("{", "numbers no labels from 0 up under id2label"),
        ("", "names 0 outputs"),
        (None, "names.txt cannot be read (No such file or directory); write the code"),
    ],
)
def test_names_that_do_not_tell_every_output_are_refused(
    folder: Path, named: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if named is not None:
        (folder / "names.txt").write_text(named)
    assert bring(folder, write_model(folder / "m.onnx", 3), "--labels", folder / "names.txt") == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert "with --labels" in said[0]
    assert not (folder / "tickets").exists()


def test_probabilities_may_miss_0_and_1_for_want_of_bits() -> None:
    assert column_kinds(np.array([[1.0000001, -1e-8, 0, 0]], np.float32), 3) == ["softmax"] * 4
    assert column_kinds(np.array([[1.01, 0, 0, 0]], np.float32), 3) == ["logit"] * 4


def test_what_the_outputs_are_can_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(folder / "m.onnx", 3, ending="Sigmoid")
    assert bring(folder, model, "--outputs", "logits") == 0
    assert (open_model(folder / "tickets").logits(TEXTS) >= 0).all()
    assert bring(folder, model, "--outputs", "probabilities") == 0
    assert (open_model(folder / "tickets").logits(TEXTS) < 0).any()
    assert "taken as probabilities" not in capsys.readouterr().err
    assert bring(folder, write_model(folder / "m.onnx", 3), "--outputs", "probabilities") == 1
    assert "which are no probabilities; give --outputs logits" in capsys.readouterr().err


@pytest.mark.parametrize(("bias", "status"), [(-7.0, 1), (-20.0, 0)], ids=["doubtful", "certain either way"])
def test_padding_that_changes_small_probabilities_is_refused_where_their_logits_tell(
    folder: Path, bias: float, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(write_model(folder / "m.onnx", 3, masked=False, ending="Sigmoid"))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = np.zeros_like(table(3))
    weights[1] = 0.01  # the padding's
    constants["table"].CopyFrom(numpy_helper.from_array(weights, "table"))
    constants["bias"].CopyFrom(numpy_helper.from_array(np.full(3, bias, np.float32), "bias"))
    onnx.save(model, folder / "m.onnx")
    assert bring(folder, folder / "m.onnx") == status
    assert ("answers a padded text otherwise" in capsys.readouterr().err) == bool(status)


def test_an_encoder_without_its_head_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(write_model(folder / "m.onnx", 3))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("heard", TensorProto.FLOAT, ["n", "tokens", 3]))
    onnx.save(model, folder / "m.onnx")
    assert bring(folder, folder / "m.onnx") == 1
    assert "gives 2 dimensions a text; it should give one row of numbers" in capsys.readouterr().err


def test_a_softmax_without_abstention_names_what_has_more_than_the_half(folder: Path) -> None:
    assert bring(folder, write_model(folder / "m.onnx", 3, ending="Softmax")) == 0
    assert primaries(folder) == ANSWERS


def test_a_model_as_tf2onnx_writes_it_is_served_by_the_sidecar(folder: Path, run_sidecar: RunSidecar) -> None:
    names = ("input_word_ids:0", "input_mask:0", "segment_ids:0")
    assert bring(folder, write_model(folder / "m.onnx", 3, names=names, kind=TensorProto.INT32)) == 0
    assert primaries(folder) == ANSWERS
    sidecar = run_sidecar(f"onnx:{folder / 'tickets'}").wait_serving()
    assert [said.replace("unknown", "other") for said in sidecar.classify(*TEXTS)] == ANSWERS


def test_an_imported_model_is_calibrated_on_labelled_texts(folder: Path) -> None:
    write_examples(folder / "held.jsonl", corpus(120))
    model = write_model(folder / "m.onnx", 3)
    assert bring(folder, model, "--calibrate-on", folder / "held.jsonl") == 0
    assert primaries(folder) == ANSWERS
    assert open_repository(folder / "tickets").calibration.primary_knots is not None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 5}, "the model gives 5 numbers a text and the taxonomy has 3 labels"),
        ({"width": 3, "names": ("pixels", "attention_mask")}, "the model's inputs are pixels, attention_mask"),
        ({"width": 3, "names": ("input_ids", "attention_mask", "depth")}, "it should take input_ids"),
        ({"width": 3, "tokens": 128}, "128 tokens and no others; export it with dynamic axes"),
        ({"width": 3, "masked": False}, "answers a padded text otherwise"),
        ({"width": 3, "factor": float("nan")}, "logits that are no numbers"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_in_one_sentence(
    folder: Path, options: dict[str, object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(folder, write_model(folder / "m.onnx", **options)) == 1  # type: ignore[arg-type]
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert not (folder / "tickets").exists()


@pytest.mark.parametrize(
    ("name", "sentence"), [("m.onnx", "is no ONNX model"), ("none.onnx", "does not exist"), ("tokenizer.json", "is no")]
)
def test_files_that_are_something_else_are_named(
    folder: Path, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "m.onnx").write_bytes(b"no model at all")
    if name == "tokenizer.json":
        write_model(folder / "m.onnx", 3)
        (folder / "tokenizer.json").write_text("{}")
        name = "m.onnx"
    assert bring(folder, folder / name) == 1
    assert sentence in capsys.readouterr().err


def test_a_window_longer_than_the_model_reads_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(write_model(folder / "m.onnx", 3))
    positions = numpy_helper.from_array(np.zeros((1, 64, 3), np.float32), "positions")
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"], start=1),
        helper.make_node("Squeeze", ["shape"], ["tokens"]),
        helper.make_node("Range", ["zero", "tokens", "step"], ["places"]),
        helper.make_node("Gather", ["positions", "places"], ["placed"], axis=1),
        helper.make_node("Add", ["heard", "placed"], ["there"]),
    ]
    total = next(i for i, node in enumerate(model.graph.node) if node.op_type == "ReduceSum")
    model.graph.node[total].input[0] = "there"
    for at, node in enumerate(nodes):
        model.graph.node.insert(total + at, node)
    scalars = [numpy_helper.from_array(np.array(value), name) for name, value in (("zero", 0), ("step", 1))]
    model.graph.initializer.extend([positions, *scalars])
    onnx.save(model, folder / "short.onnx")
    assert bring(folder, folder / "short.onnx", "--window", 65) == 1
    assert "short.onnx cannot read 65 tokens" in capsys.readouterr().err
    assert not (folder / "tickets").exists()
    assert bring(folder, folder / "short.onnx", "--window", 64) == 0
