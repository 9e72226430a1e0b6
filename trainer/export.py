"""`motive-train calibrate` and `export`: from a trained folder to a model repository that the sidecar serves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Calibration, Tokens, open_repository
from trainer.answer import joined_logits
from trainer.calibrate import check_enough, fit_calibration
from trainer.card import model_card
from trainer.config import Config, Release
from trainer.destination import check_for_repository
from trainer.errors import TrainerError
from trainer.intervals import Measured, measured
from trainer.learn import Targets
from trainer.learnt import not_learnt, read_learnt
from trainer.onnx_file import round_weights, write_onnx
from trainer.predict import Infer, onnx_infer, predict, token_ids, torch_infer
from trainer.progress import say
from trainer.repository import Contents, write_repository
from trainer.scores import answered
from trainer.split import Split
from trainer.texts import Example
from trainer.train import Trained, corpus_split, read_trained, targets

TOLERANCE = 1e-3
"""How far a probability of the exported model may lie from torch's."""


def trained_logits(trained: Trained, texts: Sequence[str], window: int) -> NDArray[np.float32]:
    """Logits [texts, outputs] of the texts' first `window` tokens, by the weights as they will be released, rounded."""
    round_weights(trained.model)
    rows = token_ids(trained.tokenizer, texts, window, trained.prefix)
    return predict(torch_infer(trained.model), rows, trained.pad_id)


def served_logits(
    trained: Trained, texts: Sequence[str], release: Release, infer: Infer | None = None
) -> NDArray[np.float32]:
    """Logits [texts, outputs] as the sidecar will have them, a long text's windows joined; by `infer`, or by torch."""
    round_weights(trained.model)
    join = Calibration.plain(trained.taxonomy.codes, primary=True).join_windows
    engine = infer or torch_infer(trained.model)
    return joined_logits(engine, trained.tokenizer, texts, served_tokens(trained, release), join)


def served_tokens(trained: Trained, release: Release) -> Tokens:
    """How the sidecar will cut texts."""
    return Tokens(release.window, release.stride, trained.prefix, trained.pad_id)


def calibrate(config: Config, trained: Trained, parts: Split) -> Calibration:
    """Fits the calibration on the part of the corpus that is held out for it."""
    logits, wanted = held_out(config, trained, parts)
    return fit_calibration(trained.taxonomy.codes, logits, wanted, config.release.calibration)


def held_out(config: Config, trained: Trained, parts: Split) -> tuple[NDArray[np.float32], Targets]:
    """Logits and targets of the texts held out to calibrate on; raises TrainerError where they are too few."""
    held = parts.calibration
    check_enough(len(held))
    logits = served_logits(trained, [example.text for example in held], config.release)
    return logits, targets(held, trained.taxonomy)


def unseen_parts(config: Config, trained: Trained) -> Split:
    """The corpus's parts, those held out without the texts that the model has learnt, which is said.

    Raises TrainerError where these are more than half: the model was trained by another config.
    """
    parts, learnt = corpus_split(config, trained.taxonomy), read_learnt(trained.folder)
    if learnt is None:
        return parts
    unseen = replace(parts, calibration=not_learnt(parts.calibration, learnt), test=not_learnt(parts.test, learnt))
    held, left = (len(one.calibration) + len(one.test) for one in (parts, unseen))
    told = f"{held - left} of the {held} texts that {config.path} holds out are among those that the model has learnt"
    if 2 * left < held:
        data = ", ".join(f"{name} = {value}" for name, value in trained.notes["data"].items())
        raise TrainerError(f"{told}; give the config it was trained by, with {data} in [data]")
    if left < held:
        say(f"{told}; they are left out.")
    return unseen


def parity(
    trained: Trained, calibration: Calibration, onnx_path: Path, texts: Sequence[str], release: Release
) -> float:
    """How far the ONNX file lies from torch on `texts`: the largest difference of a probability."""
    ours = served_logits(trained, texts, release)
    theirs = served_logits(trained, texts, release, onnx_infer(str(onnx_path)))
    a, b = calibration.probabilities(ours), calibration.probabilities(theirs)
    p, q = calibration.primary_scores(ours), calibration.primary_scores(theirs)
    return max(float(np.abs(a - b).max()), float(np.abs(p - q).max()))


def export(config: Config, folder: Path, path: Path, *, checked: int = 1000) -> float:
    """Calibrates what lies in `folder` and writes it as the repository `path`; nothing is written unless parity holds.

    Returns the largest difference of an exported probability from torch's on up to `checked` texts. Raises TrainerError
    where it is more than 1e-3, or something other than a model repository lies at `path`.
    """
    check_for_repository(path)
    trained = read_trained(folder)
    parts = unseen_parts(config, trained)
    calibration = calibrate(config, trained, parts)
    texts = [e.text for e in (*parts.test, *parts.calibration, *parts.train)][:checked]
    difference = 0.0

    def write_model(onnx_path: Path) -> None:
        nonlocal difference
        write_onnx(trained.model, onnx_path)
        difference = parity(trained, calibration, onnx_path, texts, config.release)
        if not difference <= TOLERANCE:
            raise TrainerError(
                f"the exported model differs from torch by {difference:.4f}; nothing was exported; "
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
        tokens=served_tokens(trained, release),
        card=model_card(config, trained, parts, held_out_figures(trained, calibration, parts.test, release)),
    )
    write_repository(path, contents, write_model)
    open_repository(path)
    return difference


def held_out_figures(
    trained: Trained, calibration: Calibration, examples: Sequence[Example], release: Release
) -> Measured | None:
    """Figures on the part of the corpus that was neither trained nor calibrated on; None where there is none."""
    if not examples:
        return None
    logits = served_logits(trained, [e.text for e in examples], release)
    return measured(answered(examples, calibration.answers(logits)))
