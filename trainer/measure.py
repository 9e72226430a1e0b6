"""The baselines and the learning curve that `evaluate` shows beside a model, fitted on the config's corpus."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from sidecar.repository import Answer, Taxonomy, read_taxonomy
from trainer.baselines import Baseline, encoder, keyword_rules, tfidf, zero_shot
from trainer.bases import load_base
from trainer.calibrate import check_enough
from trainer.config import Config, Network, read_config
from trainer.curve import Curve, learning_curve
from trainer.embed import embedder
from trainer.errors import TrainerError
from trainer.export import calibrate, served_logits
from trainer.split import Split
from trainer.texts import Example, without_label
from trainer.train import corpus_split, read_trained, train

ENCODED = 4000
"""How many training texts the untrained encoder reads where there is no GPU: all of them would take it many minutes."""
POINTS = 4
"""Points of a curve of fine-tuning: an eighth, a quarter, a half and all of the texts."""
E5 = re.compile(r"(?:^|[/-])e5-(?!.*instruct)")
"""Encoders that read a text as they were trained only behind "query: " (Wang and others 2024, arXiv 2402.05672)."""
WITHOUT_TEACHER = (
    "Every point learns from the labels alone, without the votes of [optimisation] teacher: teachers that have learnt "
    "from all texts would tell the smaller points what those should not know."
)


@dataclass(frozen=True)
class Fitted:
    """What could be fitted on the corpus, and why the rest could not."""

    baselines: dict[str, Baseline] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason, by the name of a baseline or "learning curve"."""
    curve: Curve | None = None
    """Of the untrained encoder with regressions."""


def check_same_labels(config_path: Path, taxonomy: Taxonomy) -> None:
    """Raises TrainerError where what is fitted by the config would name other labels than a model of `taxonomy`."""
    theirs = read_taxonomy(read_config(config_path).taxonomy_path)
    if (theirs.codes, theirs.abstention.code) != (taxonomy.codes, taxonomy.abstention.code):
        raise TrainerError(
            f'{config_path} is of the taxonomy "{theirs.name}" and the model names the labels of "{taxonomy.name}"; '
            "give the model's own config with --config"
        )


def fit_baselines(config_path: Path, examples: Sequence[Example], *, offline: bool = False) -> Fitted:
    """Fits the baselines on the training part; the learning curve is judged on `examples`."""
    config = read_config(config_path)
    taxonomy = read_taxonomy(config.taxonomy_path)
    every = corpus_split(config, taxonomy).train
    read = every if torch.cuda.is_available() else _drawn(every, ENCODED, config.data.seed)
    embed = embedder(
        load_base(config.network.base, offline=offline), config.network.max_tokens, untrained_prefix(config.network)
    )
    test = [without_label(e, taxonomy.abstention.code) for e in examples]
    fits: dict[str, Callable[[], Baseline]] = {
        "keyword rules": lambda: keyword_rules(every, taxonomy),
        "TF-IDF and logistic regression": lambda: tfidf(every, taxonomy),
        "encoder, zero-shot": lambda: zero_shot(embed, taxonomy),
        f"encoder and logistic regression, {len(read):,} texts": lambda: encoder(embed, read, taxonomy),
    }
    found, left_out = {}, {}
    for name, fit in fits.items():
        try:
            found[name] = fit()
        except TrainerError as error:
            left_out[name] = str(error)
    try:
        curve = learning_curve(read, test, lambda part: encoder(embed, part, taxonomy))
    except TrainerError as error:
        return Fitted(found, {**left_out, "learning curve": str(error)})
    return Fitted(found, left_out, curve)


def untrained_prefix(network: Network) -> str:
    """What stands before a text that the untrained encoder reads: the config's prefix, or its family's own."""
    return network.prefix or ("query: " if E5.search(network.base) else "")


def fine_tuning_curve(
    config_path: Path, examples: Sequence[Example], *, offline: bool = False, points: int = POINTS
) -> Curve:
    """The learning curve of the config's fine-tuning: a training a point, calibrated on the same texts.

    It learns from the labels alone: votes come from teachers that saw the texts a smaller point leaves out. Raises
    TrainerError, before any training, where the texts held out are too few to calibrate on.
    """
    config = read_config(config_path)
    taxonomy = read_taxonomy(config.taxonomy_path)
    parts = corpus_split(config, taxonomy)
    check_enough(len(parts.calibration))
    test = [without_label(e, taxonomy.abstention.code) for e in examples]
    untaught = replace(config, optimisation=replace(config.optimisation, teacher=""))
    with tempfile.TemporaryDirectory() as folder:
        curve = learning_curve(
            parts.train, test, lambda part: _fine_tuned(untaught, parts, part, Path(folder), offline), points
        )
    return replace(curve, note=WITHOUT_TEACHER) if config.optimisation.teacher else curve


def _fine_tuned(
    config: Config, parts: Split, part: Sequence[Example], folder: Path, offline: bool
) -> Callable[[Sequence[str]], list[Answer]]:
    """Trains on `part`, and calibrates on the same texts whatever the part."""
    train(config, folder / "model", parts=replace(parts, train=tuple(part)), offline=offline)
    trained = read_trained(folder / "model")
    calibration = calibrate(config, trained, parts)
    return lambda texts: calibration.answers(served_logits(trained, texts, config.release))


def _drawn(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples[i] for i in sorted(order[:count])]
