"""Splitting labelled texts into training, calibration and test parts: by group, by a seed, stable as a corpus grows."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import TrainerError
from trainer.texts import Example


@dataclass(frozen=True)
class Split:
    """The three parts; no group, and no text however spaced or cased, is in two of them."""

    train: tuple[Example, ...]
    calibration: tuple[Example, ...]
    test: tuple[Example, ...]


def split_key(example: Example) -> str:
    """What keeps texts together: the group, or the text itself without case, space and punctuation."""
    return example.group or re.sub(r"[\W_]+", "", example.text.casefold()) or example.text


def split(examples: Sequence[Example], calibration_share: float, test_share: float, seed: int) -> Split:
    """Puts every text where a hash of its key and the seed says: adding texts moves none of the others.

    Raises TrainerError where nothing is left to train on or, with a share above 0, to hold out.
    """
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        place = _place(str(seed), example)
        parts[2 if place < test_share else 1 if place < test_share + calibration_share else 0].append(example)
    shares = (1 - calibration_share - test_share, calibration_share, test_share)
    for part, share, name in zip(parts, shares, ("training", "calibration", "test"), strict=True):
        if not part and share > 0:
            raise TrainerError(f"{len(examples)} texts leave none for {name}; add texts or change the shares in [data]")
    return Split(*map(tuple, parts))


def fold(example: Example, folds: int, seed: int) -> int:
    """Which of so many folds a training text is in, 0 up: by a hash of its key, so that a group never parts."""
    return int(_place(f"fold\0{seed}", example) * folds)


def _place(salt: str, example: Example) -> float:
    """A number from 0 to below 1 that is the same for every text of a key."""
    digest = hashlib.sha256(f"{salt}\0{split_key(example)}".encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
