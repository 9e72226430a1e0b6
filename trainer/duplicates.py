"""Exact and near duplicates among many texts, by MinHash over character shingles (Broder 1997) in bands."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HASHES = 64
MISSED = 1e-3
"""How likely at most a pair at the threshold may meet in no band, and so be overlooked."""
_PRIME = (1 << 61) - 1


def shingles(text: str) -> frozenset[str]:
    """What two texts are compared by: their runs of five letters or digits, of two in Chinese; the text if shorter."""
    plain = re.sub(r"[\W_]+", "", text.casefold())
    size = 2 if re.search(r"[\u3400-\u9fff]", plain) else 5
    return frozenset(plain[i : i + size] for i in range(max(1, len(plain) - size + 1)))


def resemblance(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard's share of common shingles, 0 to 1."""
    return len(a & b) / len(a | b)


def near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[int]:
    """For each text the index of the first one that it equals or resembles by `threshold` or more; its own if none."""
    rows = rows_per_band(threshold)
    sets = [shingles(text) for text in texts]
    first = list(range(len(texts)))
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, signature in enumerate(map(_signature, sets)):
        keys = [(at, signature[at : at + rows].tobytes()) for at in range(0, HASHES, rows)]
        candidates = sorted({j for key in keys for j in buckets[key]})
        match = next((j for j in candidates if resemblance(sets[i], sets[j]) >= threshold), None)
        if match is not None:
            first[i] = match
            continue
        for key in keys:
            buckets[key].append(i)
    return first


def rows_per_band(threshold: float) -> int:
    """How many hashes make a band: more compare fewer pairs, fewer overlook fewer pairs (see MISSED)."""
    sizes = (16, 8, 4, 2)
    return next((size for size in sizes if (1 - threshold**size) ** (HASHES // size) <= MISSED), 1)


def _signature(items: frozenset[str]) -> NDArray[np.uint64]:
    hashes = [int.from_bytes(hashlib.blake2b(s.encode(errors="surrogatepass"), digest_size=8).digest()) for s in items]
    values = np.array(hashes, np.uint64)[:, None]
    with np.errstate(over="ignore"):
        mixed = values * _MULTIPLIERS + _OFFSETS
        mixed ^= mixed >> np.uint64(29)
    result: NDArray[np.uint64] = mixed.min(axis=0)
    return result


_RANDOM = np.random.default_rng(20240229)
_MULTIPLIERS = _RANDOM.integers(1, _PRIME, HASHES, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _RANDOM.integers(0, _PRIME, HASHES, dtype=np.uint64)
