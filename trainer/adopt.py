"""`motive-train import`: somebody's own ONNX classifier, its tokenizer and its labels become a model repository.

The model may come from any framework (TensorFlow through tf2onnx, PyTorch, scikit-learn): what counts is that it takes
token ids and an attention mask, perhaps token types, and gives one row of logits, or of probabilities, per text.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sidecar.repository import Calibration, Taxonomy, Tokens, read_taxonomy
from trainer.calibrate import fit_calibration
from trainer.destination import check_for_repository
from trainer.errors import TrainerError
from trainer.foreign_labels import columns, find_names
from trainer.foreign_onnx import check_width, column_kinds, headed, load, ordered, plain
from trainer.predict import Infer, onnx_infer, predict, token_ids
from trainer.progress import say
from trainer.repository import Contents, write_repository
from trainer.texts import Example, check_labels, without_label
from trainer.train import targets

PROBES = ("a plain text", "另一段文字", "a rather longer text than the first, to see whether padding changes anything")
SHORT = 64
"""Tokens that every model should read."""
TOLERANCE = 1e-3
CERTAIN = 8.0
"""Logits made of probabilities differ beyond it by more than TOLERANCE for want of bits alone."""


def adopt(
    onnx_path: Path, tokenizer_path: Path, taxonomy_path: Path, to: Path, *, name: str, version: str,
    window: int = 256, pad_id: int = 0, prefix: str = "", labelled: Sequence[Example] = (),
    outputs: str = "", names: Path | None = None,
) -> None:  # fmt: skip
    """Writes the repository `to`; with `labelled` texts it is calibrated on them, else logits go through the logistic.

    The outputs' order is that of the file `names` or of the config.json beside the model, by `find_names`; where
    neither tells one, it is the taxonomy's.

    Outputs that all lie from 0 to 1 are taken as probabilities, which become logits; standard error says so. `outputs`,
    "logits" or "probabilities", overrules that.

    Raises TrainerError, and writes nothing, where the model's inputs or outputs do not fit, where it cannot answer, not
    even a text of `window` tokens, where a text's answer depends on what it is padded to, or where something other than
    a model repository lies at `to`.
    """
    check_for_repository(to)
    taxonomy = read_taxonomy(taxonomy_path)
    labels = len(taxonomy.codes)
    named = find_names(onnx_path, names)
    given = plain(load(onnx_path))
    tokenizer = _tokenizer(tokenizer_path)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(given, f"{folder}/given.onnx")
        infer = _engine(f"{folder}/given.onnx", onnx_path)
        probes = token_ids(tokenizer, PROBES, min(window, SHORT), prefix)
        said = _probe(infer, probes, pad_id, onnx_path)
        check_width(said.shape[1], labels)
        if named and (places := columns(named, said.shape[1], taxonomy)) != sorted(places):
            given, said = ordered(given, places), said[:, places]
            say(f"{named.path} names the outputs in another order than the taxonomy; they are put into the taxonomy's")
        kinds = column_kinds(said, labels, outputs)
        made = sum(kind != "logit" for kind in kinds)
        if made and not outputs:
            say(
                f"{onnx_path} gives numbers from 0 to 1 in {made} of its {len(kinds)} outputs: they are taken as "
                "probabilities, and made logits; where they are logits, give --outputs logits"
            )
        model = headed(given, labels, kinds)
        onnx.save(model, f"{folder}/model.onnx")
        infer = _engine(f"{folder}/model.onnx", onnx_path)
        if made:  # where probabilities differ little, their logits may differ much
            _probe(infer, probes, pad_id, onnx_path, CERTAIN)
        _probe_length(infer, token_ids(tokenizer, [" ".join(PROBES) * window], window, prefix), pad_id, onnx_path)
        calibration = Calibration.plain(taxonomy.codes, primary=True)
        if labelled:
            texts = _labelled(labelled, taxonomy)
            logits = predict(infer, token_ids(tokenizer, [e.text for e in texts], window, prefix), pad_id)
            calibration = fit_calibration(taxonomy.codes, logits, targets(texts, taxonomy))
    contents = Contents(
        name=name,
        version=version,
        variant="source",
        base=onnx_path.stem,
        taxonomy=taxonomy_path,
        tokenizer=tokenizer_path,
        calibration=calibration,
        tokens=Tokens(window, max(1, window * 3 // 4), prefix, pad_id),
        card=f"# {name} {version}\n\nImported from `{onnx_path.name}`; see its makers for training and limits.\n",
    )
    write_repository(to, contents, lambda path: onnx.save(model, str(path)))


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise TrainerError(f"{path} is no tokenizer.json ({error}); save one with tokenizer.save_pretrained") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _engine(path: str, given: Path) -> Infer:
    try:
        return onnx_infer(path)
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        raise TrainerError(f"ONNX Runtime cannot open {given}: {_first_line(error)}") from None


def _probe(infer: Infer, rows: list[list[int]], pad_id: int, given: Path, most: float = np.inf) -> NDArray[np.float32]:
    """The outputs [texts, outputs]; raises TrainerError where the model fails, gives no number or reads the padding.

    Outputs beyond `most` are as good as `most`.
    """
    together = _answers(infer, rows, pad_id, given)
    if together.ndim != 2:
        raise TrainerError(
            f"{given} gives {together.ndim - 1} dimensions a text; it should give one row of numbers: "
            "export the classifier whole, with the head on its encoder"
        )
    single = np.concatenate([_answers(infer, [row], pad_id, given) for row in rows])
    if not np.isfinite(together).all():
        raise TrainerError(f"{given} gives logits that are no numbers; export it again")
    if np.abs(together.clip(-most, most) - single.clip(-most, most)).max() > TOLERANCE:
        raise TrainerError(
            f"{given} answers a padded text otherwise; export it with its attention mask, or give --pad-id"
        )
    return together


def _answers(infer: Infer, rows: list[list[int]], pad_id: int, given: Path) -> NDArray[np.float32]:
    try:
        return predict(infer, rows, pad_id)
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        raise TrainerError(
            f"{given} cannot answer: {_first_line(error)}; does the tokenizer belong to the model?"
        ) from None


def _probe_length(infer: Infer, rows: list[list[int]], pad_id: int, given: Path) -> None:
    """Raises TrainerError where the model cannot read a text as long as the window."""
    try:
        predict(infer, rows, pad_id)
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        raise TrainerError(
            f"{given} cannot read {len(rows[0])} tokens ({_first_line(error)}); give a smaller --window"
        ) from None


def _labelled(examples: Sequence[Example], taxonomy: Taxonomy) -> list[Example]:
    texts = [without_label(e, taxonomy.abstention.code) for e in examples]
    check_labels(texts, taxonomy.codes)
    return texts


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
