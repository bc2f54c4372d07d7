r"""The scale factor lambda of the auxiliary branch: fixed (DPGC), the Adaptive Gradient Scaler (AGS), or your own.

With g_b and g_a the surrogate gradient and the gradient of the branch, both at the layer's input::

    FixedScale      lam = value
    AdaptiveScale   lam = eta ||g_b|| / (||g_a|| + eps),        eps = 1e-8

The backward pass of :mod:`surge_mm.ops.dual_path` calls :func:`lambda_of`. The norms are taken over the whole
mini-batch, in the backward pass itself and without a host synchronization. Then ``||lam g_a|| = eta ||g_b||``, so eta
is the relative size of the correction, whatever the scale of the loss and of W_a.

A scale of your own is a subclass of :class:`GradientScale` with one method, ``scale(g_b, g_a) -> lam``.
docs/own_methods.md has an example.

Source: Surrogate Gradient Adaptation in Binary Neural Networks, arXiv 2605.10989.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from surge_mm.ops.chunking import in_chunks, is_transforming
from surge_mm.ops.registered import Registered
from surge_mm.utils.argument_checks import NonNegative, checked
from surge_mm.utils.errors import UsageError

EPS = 1e-8


class GradientScale(Registered):
    """Base class of the rules for lambda. A layer builds one of its own from ``compensator=dict(type=..., ...)``.

    Attributes:
        is_zero (bool): Whether the branch has no effect. It is then left out of the backward pass.
        preserve_norm (bool): Whether the gradient at the input keeps the norm of g_b, as in :class:`AdaptiveScale`.
        sync (bool): Whether the norms that are recorded are those over all ranks.
    """

    family = 'compensator'
    advice = ' compensator=None is the plain binary layer (STE).'
    is_zero: bool = False
    preserve_norm: bool = False
    sync: bool = False

    @abstractmethod
    def scale(self, g_b: Tensor, g_a: Tensor) -> Tensor | float:
        """Return lambda, in the backward pass and without a gradient.

        If lambda has several elements, the branch is that of the scaled input, ``f_a(lam x; W_a)``::

            dL/dx = g_b + lam g_a        dL/dW_a = (lam x) correlated with g

        If an element of lambda or the norm of g_a is not finite, the branch is left out of this pass, and the event is
        counted. The layer multiplies lambda by the warm-up of the hook.

        Args:
            g_b (Tensor): Surrogate gradient at the input of the layer, ``(N, C_in, H, W)`` or ``(..., C_in)``, float32
                or wider. Do not change it in place.
            g_a (Tensor): Gradient of the branch at the input, of the same shape and dtype.

        Returns:
            Tensor | float: A number, or a tensor that broadcasts to the shape of ``g_a``, such as ``(1, C_in, 1, 1)``.
                Elements may be negative.
        """


@checked
@dataclass(frozen=True)
class FixedScale(GradientScale):
    """The fixed scale factor of DPGC: ``lam = value``.

    Args:
        value (float): lambda, at least 0.

    Attributes:
        is_zero (bool): Whether the branch has no effect.

    Raises:
        UsageError: if ``value`` is no finite number of at least 0.
    """

    value: NonNegative
    is_zero: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'is_zero', self.value == 0)

    def scale(self, g_b: Tensor, g_a: Tensor) -> float:
        return self.value


@checked
@dataclass(frozen=True)
class AdaptiveScale(GradientScale):
    """The Adaptive Gradient Scaler: ``lam = eta ||g_b|| / (||g_a|| + eps)``.

    Args:
        eta (float): Relative size of the correction, at least 0.
        preserve_norm (bool): Correct the direction of the gradient and keep its length at the input of the layer:
            ``dL/dx = (g_b + lam g_a) ||g_b|| / ||g_b + lam g_a||``. Where shortcuts add to it, the gradient can still
            grow over the layers, or shrink. Defaults to False.
        sync (bool): Sum the squared norms over all ranks, in the group of :func:`set_sync_group`, so that lambda is
            that of the joined batch. Defaults to False: lambda is each rank's own.

    Attributes:
        is_zero (bool): Whether the branch has no effect. An attribute, since ``torch.compile`` (2.12) treats eta as a
            symbol within an autograd function and misjudges a comparison with 0 there.
        eps (float): 1e-8. An attribute, as ``torch.compile(dynamic=True)`` fails where it reads a global number there.

    Raises:
        UsageError: if ``eta`` is no finite number of at least 0, or a flag is no bool.
    """

    eta: NonNegative
    preserve_norm: bool = False
    sync: bool = False
    is_zero: bool = field(init=False, repr=False)
    eps: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'is_zero', self.eta == 0)
        object.__setattr__(self, 'eps', EPS)

    def scale(self, g_b: Tensor, g_a: Tensor) -> Tensor:
        return self.of_norms(norm(g_b, self.sync), norm(g_a, self.sync))

    def of_norms(self, norm_b: Tensor, norm_a: Tensor) -> Tensor:
        """Return lambda, 0-dimensional.

        Args:
            norm_b (Tensor): ``||g_b||``, 0-dimensional.
            norm_a (Tensor): ``||g_a||``, 0-dimensional.
        """
        return self.eta * norm_b / (norm_a + self.eps)


BUILT_IN = (FixedScale, AdaptiveScale)
"""The scales that the hook of AGS sets, and whose lambda is one number."""


def lambda_of(
    scale: GradientScale, g_b: Tensor, g_a: Tensor, norms: tuple[Tensor, Tensor]
) -> Tensor:
    """Return lambda of a layer, in float32 or wider: 0-dimensional, or with several elements if a rule of yours has.

    Args:
        scale (GradientScale): The rule for lambda.
        g_b (Tensor): Surrogate gradient at the input of the layer.
        g_a (Tensor): Gradient of the branch there, of the same shape.
        norms (tuple[Tensor, Tensor]): Their norms, 0-dimensional.

    Raises:
        UsageError: if lambda is no number and no tensor that broadcasts to the shape of ``g_a``, if it has one or two
            dimensions where ``g_a`` has four, or if the rule changed a gradient in place.
    """
    if type(scale) is AdaptiveScale:
        return scale.of_norms(*norms)
    wide = torch.promote_types(g_a.dtype, torch.float32)
    gradients = [g_b.to(wide), g_a.to(wide)]
    checks = not (torch.compiler.is_compiling() or is_transforming(g_a))
    before = [g._version for g in gradients] if checks else []
    lam = scale.scale(*gradients)
    if checks and before != [g._version for g in gradients]:
        raise UsageError(
            f'{type(scale).__name__}.scale changed g_b or g_a in place, and with it the gradient of the layer. Write '
            'the result to a new tensor, such as g_a * 2 in place of g_a.mul_(2)'
        )
    if isinstance(lam, (int, float)):
        return torch.full((), lam, dtype=wide, device=g_a.device)
    own, shape = (tuple(lam.shape) if isinstance(lam, Tensor) else None), tuple(g_a.shape)
    ends = zip(reversed(own or ()), reversed(shape), strict=False)
    ambiguous = own is not None and len(shape) == 4 and len(own) in (1, 2) and max(own) > 1
    if own is None or ambiguous or len(own) > len(shape) or not all(a in (1, b) for a, b in ends):
        got = f'{type(lam).__name__}' if own is None else f'a tensor of the shape {own}'
        axis = 1 if len(shape) == 4 else len(shape) - 1
        per_channel = tuple(size if i == axis else 1 for i, size in enumerate(shape))
        raise UsageError(
            f'{type(scale).__name__}.scale must return a number, or a tensor that broadcasts to the shape of the '
            f'gradients, {shape}, such as {per_channel} for one value per input channel; got {got}'
        )
    return lam.to(wide) if lam.numel() else lam.new_zeros((), dtype=wide)


_sync_group: Any = None  # not in AdaptiveScale: models are copied, process groups cannot be


def set_sync_group(group: Any) -> None:
    """Set the process group in which layers with ``sync`` sum their norms; None is the default group."""
    global _sync_group
    _sync_group = group


def norm(x: Tensor, sync: bool = False) -> Tensor:
    """Return ``||x||_2`` over all elements, accumulated in float32 or wider; 0-dimensional.

    Args:
        x (Tensor): Any shape.
        sync (bool): Return the norm for the joined batch of all ranks, whose loss is the mean of the ranks' losses.
            One process is its only rank. Defaults to False.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.dtype == wide or x.device.type != 'cpu' or is_transforming(x):
        local = torch.linalg.vector_norm(x, dtype=wide)
    else:  # vector_norm takes twice as long on a CPU where it widens
        parts = [torch.linalg.vector_norm(part.to(wide)) for (part,) in in_chunks(x)]
        local = torch.linalg.vector_norm(torch.stack(parts))
    if not sync:
        return local
    if is_transforming(x):
        raise NotImplementedError(
            'sync=True, norms over all ranks, is not supported under transforms of torch.func. Set sync=False'
        )
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return local
    squared = local.double().square()
    torch.distributed.all_reduce(squared, group=_sync_group)
    return (squared.sqrt() / torch.distributed.get_world_size(_sync_group)).to(wide)


def add_scaled(g_b: Tensor, lam: Tensor, g_a: Tensor) -> Tensor:
    """Return ``g_b + lam g_a``, computed in ``g_b`` if lam is 0-dimensional; may modify ``g_a`` in place.

    Args:
        g_b (Tensor): Any shape.
        lam (Tensor): A tensor that broadcasts to the shape of ``g_a``. Where it is 0, 0 is added, whatever ``g_a`` is
            there: 0 times infinity is NaN. Elsewhere ``g_a`` must have no NaN.
        g_a (Tensor): Of the shape of ``g_b``; may have a narrower dtype.
    """
    if _can_be_read(lam, g_b):
        value = lam.item()
        return g_b.add_(g_a, alpha=value) if value else g_b
    g = scaled(lam, g_a.to(g_b.dtype))
    return g_b + g if _is_out_of_place(lam, g_b) else g_b.add_(g)


def scaled(lam: Tensor, g: Tensor) -> Tensor:
    """Return ``lam g`` in the dtype of ``g``, computed in ``g`` if lam is 0-dimensional.

    Args:
        lam (Tensor): As for :func:`add_scaled`.
        g (Tensor): Any shape.
    """
    if _is_out_of_place(lam, g):
        return torch.where(lam != 0, g * lam, 0).to(g.dtype)
    if _can_be_read(lam, g):
        value = lam.item()
        return g.mul_(value) if value else g.zero_()
    return g.mul_(lam).nan_to_num_(0.0, math.inf, -math.inf)


def _is_out_of_place(lam: Tensor, g: Tensor) -> bool:
    """Return whether ``g`` cannot be changed in place: a transform of torch.func, or lam has several elements."""
    return is_transforming(g) or lam.dim() > 0


def _can_be_read(lam: Tensor, g: Tensor) -> bool:
    """Return whether lam is one number that can be read without waiting: on a CPU, and not compiled."""
    if torch.compiler.is_compiling() or _is_out_of_place(lam, g):
        return False
    return lam.device.type == 'cpu' and type(lam) is Tensor
