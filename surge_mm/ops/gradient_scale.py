"""The scale lam of the branch: fixed (DPGC), or by the Adaptive Gradient Scaler (AGS).

The formulas stand in :mod:`surge_mm.ops.dual_path`. Source: arXiv 2605.10989.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.ops.chunking import in_blocks

EPS = 1e-8
STATISTICS = ('lam', 'norm_b', 'norm_a', 'cos', 'clipped', 'non_finite')
"""What one backward pass under AGS writes, in this order. ``cos`` = cos(g_b, g_a) and ``clipped`` (the share of
activations whose surrogate derivative is 0) are written when asked for; ``non_finite`` counts."""


@dataclass(frozen=True)
class FixedScale:
    """DPGC with ``lam = scale``; false where that is 0."""

    scale: float

    def __bool__(self) -> bool:
        return self.scale != 0


_sync_group: Any = None  # not in AdaptiveScale, for models are copied and groups cannot be


def set_sync_group(group: Any) -> None:
    """Sum the norms of layers with ``sync`` in this process group; None is that of all ranks."""
    global _sync_group
    _sync_group = group


@dataclass(frozen=True)
class AdaptiveScale:
    """AGS: ``lam = eta ||g_b|| / (||g_a|| + eps)``; false where eta is 0.

    ``preserve_norm`` corrects the direction of the gradient and keeps its length, so that it does not grow from layer
    to layer: ``dL/dx = (g_b + lam g_a) ||g_b|| / ||g_b + lam g_a||``. With ``sync`` the squared norms are summed over
    all ranks, in the group that :func:`set_sync_group` was given, and lam is that of the joined batch.
    """

    eta: float
    preserve_norm: bool = False
    sync: bool = False

    def __bool__(self) -> bool:
        return self.eta != 0


def apply_fixed(
    scale: FixedScale, g_b: Tensor | None, g_a: Tensor | None, grad_a: Tensor | None
) -> Tensor | None:
    """Add ``lam g_a`` to ``g_b`` in place; returns ``lam grad_a``."""
    if g_b is not None and g_a is not None:
        for b, a in in_blocks(g_b, g_a):
            b.add_(a, alpha=scale.scale)
    return None if grad_a is None else grad_a.mul_(scale.scale)


def apply_adaptive(
    scale: AdaptiveScale,
    g_b: Tensor,
    g_a: Tensor,
    grad_a: Tensor | None,
    warmup: Tensor,
    statistics: Tensor,
    observe: bool,
) -> Tensor | None:
    """Add ``lam g_a`` to ``g_b`` in place; returns ``lam grad_a``; writes the statistics. Uses ``g_a`` up.

    ``warmup`` is a factor of eta; ``cos`` is written where ``observe`` asks for it.
    """
    norm_b, norm_a = norm(g_b, scale.sync), norm(g_a, scale.sync)
    lam = scale.eta * norm_b / (norm_a + EPS) * warmup
    finite = torch.isfinite(lam) & torch.isfinite(norm_a)
    # x of infinity gives W_a an infinite gradient, of which both norms know nothing where the surrogate hides it
    finite_a = finite if grad_a is None else finite & torch.isfinite(norm(grad_a, sync=False))
    lam = torch.where(finite, lam, 0)
    statistics[:3] = torch.stack((lam, norm_b, norm_a))
    statistics[5] += ~finite_a
    if observe:
        wide = norm_b.dtype
        cos = F.cosine_similarity(g_b.flatten().to(wide), g_a.flatten().to(wide), dim=0)
        statistics[3] = cos.nan_to_num(0, 0, 0)

    use = lam > 0
    for b, a in in_blocks(g_b, g_a):
        b.add_(torch.where(use, a.mul_(lam), 0))
    if scale.preserve_norm:
        length = norm(g_b, scale.sync)
        g_b.mul_(torch.where(use & (length > 0), norm_b / length, 1))
    if grad_a is not None:
        for (part,) in in_blocks(grad_a):
            part.copy_(torch.where(use & finite_a, part.mul_(lam), 0))
    return grad_a


def norm(x: Tensor, sync: bool) -> Tensor:
    """``||x||_2`` over all elements, accumulated in float32 or wider; 0-dimensional.

    With ``sync``: of the gradient for the joined batch, whose loss is the mean of the ranks' losses.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    local = torch.linalg.vector_norm(x, dtype=wide)
    if not sync:
        return local
    squared = local.double().square()
    torch.distributed.all_reduce(squared, group=_sync_group)
    return (squared.sqrt() / torch.distributed.get_world_size(_sync_group)).to(wide)
