"""Losses that compare a text classifier with its teacher.

``_s`` denotes the student, ``_t`` the teacher, and ``mask`` (bool, ``(B, L)``) is True for the tokens that are no
padding. Padding contributes nothing to any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.utils.dtypes import at_least_float32


def logit_loss(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """Return the cross entropy with the class distribution of the teacher, or the mean squared error of one output.

    Args:
        logits_s (Tensor): Logits of the student, ``(B, C)``.
        logits_t (Tensor): Logits of the teacher, ``(B, C)``.

    Returns:
        Tensor: The mean of ``-sum_c p_t(c) log p_s(c)``, a scalar; for C = 1, that of the squared difference.
    """
    logits_s, logits_t = at_least_float32(logits_s), at_least_float32(logits_t)
    if logits_s.shape[1] == 1:
        return F.mse_loss(logits_s, logits_t)
    return F.cross_entropy(logits_s, logits_t.softmax(1))


def hidden_loss(states_s: Sequence[Tensor], states_t: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return the mean squared error of the hidden states over tokens and features, summed over the layers.

    Source: Liu et al., BiT, arXiv 2205.13016.

    Args:
        states_s (Sequence[Tensor]): Hidden states of the student, ``(B, L, D)`` for each layer.
        states_t (Sequence[Tensor]): Hidden states of the teacher, of the same shapes.
        mask (Tensor): Tokens, ``(B, L)``.

    Returns:
        Tensor: The loss, a scalar.
    """
    kept = mask[:, :, None]
    count = mask.sum() * states_s[0].shape[-1]
    total = sum(
        ((at_least_float32(x_s) - at_least_float32(x_t)).square() * kept).sum()
        for x_s, x_t in zip(states_s, states_t, strict=True)
    )
    return total / count


def direction_loss(states_s: Sequence[Tensor], states_t: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return the distance of the directions of the hidden states, summed over the layers.

    With the hidden states of a sentence as one vector X, a layer has the mean over the sentences of::

        || X_s / ||X_s|| - X_t / ||X_t|| ||

    Source: Qin et al., BiBERT, arXiv 2203.06390, section 3.3.

    Args:
        states_s (Sequence[Tensor]): Hidden states of the student, ``(B, L, D)`` for each layer.
        states_t (Sequence[Tensor]): Hidden states of the teacher, of the same shapes.
        mask (Tensor): Tokens, ``(B, L)``.

    Returns:
        Tensor: The loss, a scalar.
    """
    kept = mask[:, :, None]
    return _distance([x * kept for x in states_s], [x * kept for x in states_t], 1)


def relation_loss(
    projections_s: Sequence[Tensor], projections_t: Sequence[Tensor], mask: Tensor
) -> Tensor:
    """Return the distance of the directions of the relations between tokens, summed over queries, keys and values.

    The relations of a head are the matrix ``X X^T`` of its queries, keys or values X. As one vector R, it has the mean
    over sentences and heads of::

        || R_s / ||R_s|| - R_t / ||R_t|| ||

    Source: Qin et al., BiBERT, arXiv 2203.06390, section 3.3. Its code normalizes the tensor of the whole batch; this
    is the form of the paper, a matrix at a time.

    Args:
        projections_s (Sequence[Tensor]): Queries, keys and values of all layers of the student, ``(B, H, L, d)`` each.
        projections_t (Sequence[Tensor]): Those of the teacher, of the same ``(B, H, L)``.
        mask (Tensor): Tokens, ``(B, L)``.

    Returns:
        Tensor: The loss, a scalar.
    """
    kept = mask[:, None, :, None]
    relations_s = [_relations(x * kept) for x in projections_s]
    relations_t = [_relations(x * kept) for x in projections_t]
    return _distance(relations_s, relations_t, 2)


def _relations(x: Tensor) -> Tensor:
    x = at_least_float32(x)
    with torch.autocast(x.device.type, enabled=False):  # which would round the factors again
        return x @ x.transpose(-1, -2)


def _distance(tensors_s: Sequence[Tensor], tensors_t: Sequence[Tensor], dim: int) -> Tensor:
    """Return the mean distance of unit vectors, of the dimensions from ``dim`` on, summed over the tensors."""
    distances = []
    for pair in zip(tensors_s, tensors_t, strict=True):
        unit_s, unit_t = (F.normalize(at_least_float32(x).flatten(dim), dim=-1) for x in pair)
        distances.append(torch.linalg.vector_norm(unit_s - unit_t, dim=-1).mean())
    return torch.stack(distances).sum()
