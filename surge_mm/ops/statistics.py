"""What the backward pass of a binary layer records of its two gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Statistics(NamedTuple):
    """What backward passes record, each a 0-dimensional tensor.

    A pass that does not observe records its own values. Passes that observe record their mean, over the number
    ``calls`` of passes since ``calls`` was set to 0: a layer may be used several times in a step.

    Attributes:
        lam (Tensor): lambda, the mean of its elements if it has several; 0 where a norm was not finite.
        norm_b (Tensor): ``||g_b||``.
        norm_a (Tensor): ``||g_a||``.
        cos (Tensor): ``cos(g_b, g_a)``, updated in passes that observe.
        clipped (Tensor): Share of the activations whose surrogate derivative is 0, updated in passes that observe.
        lam_min (Tensor): Least element of lambda.
        lam_max (Tensor): Largest element of lambda.
        calls (Tensor): Number of passes recorded; 1 after a pass that does not observe.
        non_finite (Tensor): Number of passes so far in which lambda was 0, or the gradient of W_a
            was left out, because a value was not finite.
    """

    lam: Tensor
    norm_b: Tensor
    norm_a: Tensor
    cos: Tensor
    clipped: Tensor
    lam_min: Tensor
    lam_max: Tensor
    calls: Tensor
    non_finite: Tensor


def record_pass(
    statistics: Tensor,
    lam: Tensor,
    gradients: tuple[Tensor, Tensor],
    norms: tuple[Tensor, Tensor],
    clipped: Tensor | None,
    dropped: Tensor,
    observes: bool,
) -> None:
    """Write a backward pass into the statistics of a layer.

    Args:
        statistics (Tensor): The vector of the fields of :class:`Statistics`, updated in place.
        lam (Tensor): lambda; may have several elements.
        gradients (tuple[Tensor, Tensor]): g_b and g_a.
        norms (tuple[Tensor, Tensor]): Their norms, 0-dimensional.
        clipped (Tensor, optional): Share of the activations whose surrogate derivative is 0, of a pass that observes.
        dropped (Tensor): Whether the branch was left out, because a norm was not finite.
        observes (bool): Whether to record cosine and clipped share, and the mean over passes.
    """
    before = Statistics(*statistics.unbind())
    least, largest = (lam, lam) if lam.dim() == 0 else (lam.amin(), lam.amax())
    values = {
        'lam': lam.mean(),
        'lam_min': least,
        'lam_max': largest,
        'norm_b': norms[0],
        'norm_a': norms[1],
    }
    calls = torch.ones_like(before.calls)
    if observes:
        assert clipped is not None
        values |= {'cos': _cosine(*gradients), 'clipped': clipped}
        calls = before.calls + 1
        for name, value in values.items():
            total = torch.where(calls > 1, getattr(before, name) * before.calls, 0) + value
            values[name] = total / calls
    after = before._replace(calls=calls, non_finite=before.non_finite + dropped, **values)
    statistics.copy_(torch.stack([value.to(statistics.dtype) for value in after]))


def _cosine(g_b: Tensor, g_a: Tensor) -> Tensor:
    wide = torch.promote_types(g_b.dtype, torch.float32)
    cos = F.cosine_similarity(g_b.flatten().to(wide), g_a.flatten().to(wide), dim=0)
    return cos.nan_to_num(0, 0, 0)
