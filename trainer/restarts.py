"""Restarts: after the training proper, one epoch more from half the rate, several times, and the mean of all ends.

Each restart leaves the point that the training came to rest at and comes to rest at another nearby; the mean of such
points lies flatter than any of them and does better on new texts, at the price of the epochs alone (Izmailov and others
2018, arXiv 1803.05407).
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.classifier import MotiveClassifier
from trainer.config import Network, Optimisation
from trainer.learn import Targets, learn
from trainer.predict import Ids


def learn_with_restarts(
    model: MotiveClassifier,
    train: tuple[Ids, Targets],
    held: tuple[Ids, Targets],
    pad_id: int,
    options: Optimisation,
    folder: Path,
    *,
    network: Network,
    resume: bool,
    title: str,
) -> dict[str, float]:
    """As `trainer.learn.learn`, and then the restarts that `options` asks for; returns the last one's figures.

    Their `train_runtime` is that of all. Each restart keeps its checkpoints in a folder of its own below `folder`;
    `resume` goes on with the one under way.
    """
    figures = learn(model, train, held, pad_id, options, folder, network=network, resume=resume, title=title)
    mean = weights(model)
    for n in range(1, options.restarts + 1):
        again = replace(options, epochs=1.0, learning_rate=options.learning_rate / 2, seed=options.seed + n)
        home = folder / f"restart-{n}"
        seconds = figures["train_runtime"]
        figures = learn(
            model, train, held, pad_id, again, home, network=network,
            resume=resume and home.is_dir(), title=f"{title}, restart {n} of {options.restarts}",
        )  # fmt: skip
        figures["train_runtime"] += seconds
        for name, value in weights(model).items():
            mean[name].lerp_(value, 1 / (n + 1))
    model.load_state_dict(mean, strict=False)
    return figures


def weights(model: MotiveClassifier) -> dict[str, Tensor]:
    """A copy of all weights by name."""
    with torch.no_grad():
        return {name: value.clone() for name, value in model.named_parameters()}
