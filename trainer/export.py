"""`motive-train calibrate` and `export`: from a trained folder to a model repository that the sidecar serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Calibration, Tokens, open_repository
from trainer.calibrate import fit_calibration
from trainer.card import model_card
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.learn import Targets
from trainer.onnx_file import round_weights, write_onnx
from trainer.predict import onnx_infer, predict, token_ids, torch_infer
from trainer.repository import Contents, write_repository
from trainer.texts import Example
from trainer.train import Trained, corpus_split, read_trained, targets

TOLERANCE = 1e-3
"""How far a probability of the exported model may lie from torch's."""


def trained_logits(trained: Trained, texts: Sequence[str], window: int) -> NDArray[np.float32]:
    """Logits [texts, outputs] of the trained classifier as it will be released, its weights rounded."""
    round_weights(trained.model)
    rows = token_ids(trained.tokenizer, texts, window, trained.prefix)
    return predict(torch_infer(trained.model), rows, trained.pad_id)


def calibrate(config: Config, trained: Trained) -> Calibration:
    """Fits the calibration on the part of the corpus that is held out for it."""
    return fit_calibration(trained.taxonomy.codes, *held_out(config, trained), config.release.calibration)


def held_out(config: Config, trained: Trained) -> tuple[NDArray[np.float32], Targets]:
    """Logits and targets of the texts that are held out to calibrate on."""
    held = corpus_split(config, trained.taxonomy).calibration
    logits = trained_logits(trained, [example.text for example in held], config.release.window)
    return logits, targets(held, trained.taxonomy)


@dataclass(frozen=True)
class Parity:
    """How far an exported model lies from torch: largest difference of a probability, share of equal primaries."""

    difference: float
    same_primary: float


def parity(trained: Trained, calibration: Calibration, onnx_path: Path, texts: Sequence[str], window: int) -> Parity:
    """Compares the ONNX file with torch on `texts`."""
    ours = trained_logits(trained, texts, window)
    rows = token_ids(trained.tokenizer, texts, window, trained.prefix)
    theirs = predict(onnx_infer(str(onnx_path)), rows, trained.pad_id)
    a, b = calibration.probabilities(ours), calibration.probabilities(theirs)
    p, q = calibration.primary_scores(ours), calibration.primary_scores(theirs)
    difference = max(float(np.abs(a - b).max()), float(np.abs(p - q).max()))
    return Parity(difference, float((p.argmax(axis=1) == q.argmax(axis=1)).mean()))


def export(config: Config, folder: Path, path: Path, *, checked: int = 1000) -> Parity:
    """Calibrates what lies in `folder` and writes it as the repository `path`; nothing is written unless parity holds.

    Raises TrainerError where the exported probabilities differ from torch's by more than 1e-3 on up to `checked` texts.
    """
    trained = read_trained(folder)
    calibration = calibrate(config, trained)
    parts = corpus_split(config, trained.taxonomy)
    texts = [e.text for e in (*parts.test, *parts.calibration, *parts.train)][:checked]
    found = Parity(0.0, 1.0)

    def write_model(onnx_path: Path) -> None:
        nonlocal found
        write_onnx(trained.model, onnx_path)
        found = parity(trained, calibration, onnx_path, texts, config.release.window)
        if not found.difference <= TOLERANCE:
            raise TrainerError(
                f"the exported model differs from torch by {found.difference:.4f}; nothing was exported; "
                "upgrade torch and onnxscript and try again"
            )

    release = config.release
    contents = Contents(
        name=release.name,
        version=release.version,
        variant="source",
        base=trained.base,
        taxonomy=folder / "taxonomy.toml",
        tokenizer=folder / "tokenizer.json",
        calibration=calibration,
        tokens=Tokens(release.window, release.stride, trained.prefix, trained.pad_id),
        card=model_card(config, trained, parts, held_out_figures(trained, calibration, parts.test, release.window)),
    )
    write_repository(path, contents, write_model)
    open_repository(path)
    return found


def held_out_figures(
    trained: Trained, calibration: Calibration, examples: Sequence[Example], window: int
) -> dict[str, float]:
    """Figures on the part of the corpus that was neither trained nor calibrated on; empty where there is none."""
    from trainer.scores import answered, scores

    if not examples:
        return {}
    logits = trained_logits(trained, [e.text for e in examples], window)
    return scores(answered(examples, calibration.answers(logits)))
