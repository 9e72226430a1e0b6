"""The baselines and the learning curve that `evaluate` shows beside a model, fitted on the config's corpus."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sidecar.repository import Answer, read_taxonomy
from trainer.baselines import Baseline, encoder, keyword_rules, tfidf, zero_shot
from trainer.bases import load_base
from trainer.config import Config, read_config
from trainer.curve import learning_curve
from trainer.embed import embedder
from trainer.export import calibrate, trained_logits
from trainer.split import Split
from trainer.texts import Example, without_label
from trainer.train import corpus_split, read_trained, train

Curve = list[tuple[int, dict[str, float]]]
ENCODED = 4000
"""How many training texts the untrained encoder reads where there is no GPU: all of them would take it many minutes."""
POINTS = 4
"""Points of a curve of fine-tuning: an eighth, a quarter, a half and all of the texts."""


def baselines(
    config_path: Path, examples: Sequence[Example], *, offline: bool = False
) -> tuple[dict[str, Baseline], Curve]:
    """The baselines, fitted on the training part, and the learning curve of the untrained encoder with regressions."""
    config = read_config(config_path)
    taxonomy = read_taxonomy(config.resolve(config.data.taxonomy))
    every = corpus_split(config, taxonomy).train
    read = every if torch.cuda.is_available() else _drawn(every, ENCODED, config.data.seed)
    embed = embedder(load_base(config.network.base, offline=offline), config.network.max_tokens, config.network.prefix)
    found = {
        "keyword rules": keyword_rules(every, taxonomy),
        "TF-IDF and logistic regression": tfidf(every, taxonomy),
        "encoder, zero-shot": zero_shot(embed, taxonomy),
        f"encoder and logistic regression, {len(read):,} texts": encoder(embed, read, taxonomy),
    }
    test = [without_label(e, taxonomy.abstention.code) for e in examples]
    return found, learning_curve(read, test, lambda part: encoder(embed, part, taxonomy))


def fine_tuning_curve(
    config_path: Path, examples: Sequence[Example], *, offline: bool = False, points: int = POINTS
) -> Curve:
    """The learning curve of the config's whole fine-tuning: a training a point, calibrated on the same texts."""
    config = read_config(config_path)
    taxonomy = read_taxonomy(config.resolve(config.data.taxonomy))
    parts = corpus_split(config, taxonomy)
    test = [without_label(e, taxonomy.abstention.code) for e in examples]
    with tempfile.TemporaryDirectory() as folder:
        return learning_curve(
            parts.train, test, lambda part: _fine_tuned(config, parts, part, Path(folder), offline), points
        )


def _fine_tuned(
    config: Config, parts: Split, part: Sequence[Example], folder: Path, offline: bool
) -> Callable[[Sequence[str]], list[Answer]]:
    """Trains on `part`, and calibrates on the same texts whatever the part."""
    train(config, folder / "model", parts=replace(parts, train=tuple(part)), offline=offline)
    trained = read_trained(folder / "model")
    calibration = calibrate(config, trained)
    return lambda texts: calibration.answers(trained_logits(trained, texts, config.release.window))


def _drawn(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples[i] for i in sorted(order[:count])]
