"""The eight-bit grid: weights as whole numbers and a step per output, which any processor multiplies without overflow.

A released model's big matrices lie on it from the start, so that the eight-bit variant computes with the very weights
that were calibrated and evaluated.
"""

import numpy as np
from numpy.typing import NDArray

PAIR = 32767 / 255
"""What two neighbouring weights of one sign may add up to: processors without a dot product of bytes add two products
in sixteen bits, and saturate."""

SMALLEST = 64
"""Inputs or outputs below which a matrix stays in floats: the heads, whose time is nothing."""

Ints = NDArray[np.int8]
Floats = NDArray[np.float32]


def quantize_columns(weight: Floats) -> tuple[Ints, Floats]:
    """weight [inputs, outputs] -> int8 of that shape and a step per output, such that no pair overflows."""
    padded = np.concatenate([weight, np.zeros((weight.shape[0] % 2, weight.shape[1]), np.float32)])
    steps = np.abs(weight).max(axis=0) / 127.0
    for sign in (1.0, -1.0):
        pairs = np.maximum(sign * padded, 0.0).reshape(-1, 2, weight.shape[1]).sum(axis=1).max(axis=0)
        # Each of the two may be rounded up by a half.
        steps = np.maximum(steps, pairs / (PAIR - 1.0))
    steps = np.where(steps > 0, steps, 1.0).astype(np.float32)
    return np.rint(weight / steps).astype(np.int8), steps
