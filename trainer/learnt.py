"""What a trained model has learnt from: a hash of each of its training texts, so that it is not judged on them.

The split of a corpus hangs on [data] of a config; a model that is calibrated, tested or exported by another config than
the one it was trained by would meet texts that it knows by heart, and look better than it is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.split import split_key
from trainer.texts import Example

FILE = "training_texts.npy"
"""In a trained folder: eight bytes of each text's hash, ascending."""


def write_learnt(folder: Path, examples: Iterable[Example]) -> None:
    """Writes FILE into `folder`."""
    np.save(folder / FILE, np.array(sorted({_hash(example) for example in examples}), np.uint64))


def read_learnt(folder: Path) -> frozenset[int] | None:
    """The hashes; None where an older version trained the model and wrote none."""
    path = folder / FILE
    return frozenset(np.load(path).tolist()) if path.is_file() else None


def not_learnt(examples: Sequence[Example], learnt: frozenset[int]) -> tuple[Example, ...]:
    """Those that are not among the training texts, however spaced or cased."""
    return tuple(example for example in examples if _hash(example) not in learnt)


def _hash(example: Example) -> int:
    key = split_key(replace(example, group=""))
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8])


def corpus_digest(examples: Iterable[Example]) -> str:
    """SHA-256, hexadecimal, of the texts with their labels, in whatever order and files they come."""
    lines = sorted("\0".join((example.text, *example.motives)) for example in examples)
    return hashlib.sha256("\1".join(lines).encode(errors="surrogatepass")).hexdigest()
