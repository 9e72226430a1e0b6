"""`motive-train distill`: what teachers say of the corpus, averaged, for a smaller student to learn from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import TrainerError
from trainer.learn import Targets
from trainer.texts import Example

Votes = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By text: probability of each motive [labels], and of each primary label with abstention last [labels + 1]."""


def soft_votes(logits: Sequence[NDArray[np.float32]], labels: int, temperature: float = 1.0) -> Targets:
    """Mean probabilities of several teachers' logits, each [texts, 2 * labels + 1]."""
    motives, primary = [], []
    for z in logits:
        motives.append(1.0 / (1.0 + np.exp(-z[:, :labels] / temperature)))
        e = np.exp((z[:, labels:] - z[:, labels:].max(axis=1, keepdims=True)) / temperature)
        primary.append(e / e.sum(axis=1, keepdims=True))
    return Targets(np.mean(motives, axis=0, dtype=np.float32), np.mean(primary, axis=0, dtype=np.float32))


def write_votes(path: Path, texts: Sequence[str], votes: Targets) -> None:
    """Writes JSON Lines: text, motives, primary, each probability to three places (a file to commit)."""
    with path.open("w", encoding="utf-8") as stream:
        for text, many, one in zip(texts, votes.motives, votes.primary, strict=True):
            row = {"text": text, "motives": np.round(many, 3).tolist(), "primary": np.round(one, 3).tolist()}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_votes(path: Path, labels: int) -> Votes:
    """Reads what `write_votes` wrote; raises TrainerError where it is of another taxonomy."""
    votes = {}
    try:
        for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
            row = json.loads(line)
            votes[row["text"]] = (np.asarray(row["motives"], np.float32), np.asarray(row["primary"], np.float32))
    except (OSError, ValueError, KeyError) as error:
        raise TrainerError(f"the teacher's votes {path} cannot be read: {error}") from None
    if any(len(many) != labels for many, _ in votes.values()):
        raise TrainerError(f"{path} holds votes for another taxonomy; run motive-train distill again")
    return votes


def blend(hard: Targets, examples: Sequence[Example], votes: Votes, share: float) -> Targets:
    """Targets between the labels and the teacher's votes; a text without votes keeps its labels."""
    motives, primary = hard.motives.copy(), hard.primary.copy()
    for i, example in enumerate(examples):
        if example.text in votes:
            many, one = votes[example.text]
            motives[i] = (1 - share) * motives[i] + share * many
            primary[i] = (1 - share) * primary[i] + share * one
    return Targets(motives, primary)
