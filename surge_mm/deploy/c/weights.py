"""Weights in the order in which the C code reads them."""

from __future__ import annotations

import numpy as np


def binary_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    rows = weight.transpose(0, 2, 3, 1) > 0
    rows = np.pad(rows, [(0, 0)] * 3 + [(0, -rows.shape[3] % 32)])
    return np.packbits(rows, axis=-1, bitorder='little').view(np.uint32)


def int8_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


float_weights = int8_weights
