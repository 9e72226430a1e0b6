"""`motive-train distill`: what teachers say of the corpus, averaged, for a smaller student to learn from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import atomic
from trainer.errors import TrainerError
from trainer.learn import Targets
from trainer.texts import Example

Votes = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By the text's key: probability of each motive [labels], and of each primary label, abstention last [labels + 1]."""

LEAST = 0.02
"""Smaller probabilities are not worth their place in the file."""


def soft_votes(logits: Sequence[NDArray[np.float32]], labels: int, temperature: float = 1.0) -> Targets:
    """Mean probabilities of several teachers' logits, each [texts, 2 * labels + 1]."""
    motives, primary = [], []
    for z in logits:
        motives.append(1.0 / (1.0 + np.exp(-z[:, :labels] / temperature)))
        e = np.exp((z[:, labels:] - z[:, labels:].max(axis=1, keepdims=True)) / temperature)
        primary.append(e / e.sum(axis=1, keepdims=True))
    return Targets(np.mean(motives, axis=0, dtype=np.float32), np.mean(primary, axis=0, dtype=np.float32))


def text_key(text: str) -> str:
    """What a text is known by in a file of votes: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def write_votes(path: Path, texts: Sequence[str], votes: Targets, codes: Sequence[str]) -> None:
    """Writes JSON Lines, a file to commit: the text's key, and the probabilities of LEAST and more, by code.

    The last code is that of abstention. An older file stays until the new one is whole.
    """
    with atomic.replaced_file(path) as stream:
        for text, many, one in zip(texts, votes.motives, votes.primary, strict=True):
            row = {"text": text_key(text), "motives": _sparse(many, codes[:-1]), "primary": _sparse(one, codes)}
            stream.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def _sparse(probabilities: NDArray[np.float32], codes: Sequence[str]) -> dict[str, float]:
    return {
        code: round(float(p), 2) for code, p in zip(codes, probabilities, strict=True) if round(float(p), 2) >= LEAST
    }


def read_votes(path: Path, codes: Sequence[str]) -> Votes:
    """Reads what `write_votes` wrote; raises TrainerError where it is of another taxonomy."""
    place = {code: i for i, code in enumerate(codes)}
    votes = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            many, one = np.zeros(len(codes) - 1, np.float32), np.zeros(len(codes), np.float32)
            for array, field in ((many, row["motives"]), (one, row["primary"])):
                for code, probability in field.items():
                    array[place[code]] = probability
            votes[row["text"]] = (many, one / max(float(one.sum()), LEAST))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainerError(f"the teacher's votes {path} cannot be read: {error}") from None
    except (KeyError, IndexError):
        raise TrainerError(f"{path} holds votes for another taxonomy; run motive-train distill again") from None
    return votes


def blend(hard: Targets, examples: Sequence[Example], votes: Votes, share: float) -> Targets:
    """Targets between the labels and the teacher's votes; a text without votes keeps its labels."""
    motives, primary = hard.motives.copy(), hard.primary.copy()
    for i, example in enumerate(examples):
        if (key := text_key(example.text)) in votes:
            many, one = votes[key]
            motives[i] = (1 - share) * motives[i] + share * many
            primary[i] = (1 - share) * primary[i] + share * one
    return Targets(motives, primary)
