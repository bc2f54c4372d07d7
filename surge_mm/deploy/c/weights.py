"""Weights in the order in which the C code reads them, and the workspaces of its convolutions."""

from __future__ import annotations

import numpy as np

from surge_mm.deploy.c.graph import Node, Shape


def binary_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return the signs of a weight as words of 32 bits, 1 for +1.

    Args:
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``, +1 and -1.
        groups (int): Groups of the convolution.

    Returns:
        np.ndarray: ``(C_out, kH, kW, ceil(C_in / groups / 32))``, uint32.
    """
    rows = weight.transpose(0, 2, 3, 1) > 0
    rows = np.pad(rows, [(0, 0)] * 3 + [(0, -rows.shape[3] % 32)])
    return np.packbits(rows, axis=-1, bitorder='little').view(np.uint32)


def int8_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return a weight as ``(C_out, kH, kW, C_in / groups)``, of its own dtype.

    Args:
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``.
        groups (int): Groups of the convolution.
    """
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


float_weights = int8_weights


def workspace_bytes(node: Node, shape: Shape) -> int:
    """Return the bytes of the workspace of an operation; 0 if it needs none.

    Args:
        node (Node): The operation.
        shape (Shape): Shape of its input.
    """
    if node.kind == 'binary':
        groups = node.options['convolution'].groups
        return 4 * shape.height * shape.width * groups * -(-shape.channels // groups // 32)
    return shape.height * shape.width * shape.channels if node.kind == 'int8' else 0
