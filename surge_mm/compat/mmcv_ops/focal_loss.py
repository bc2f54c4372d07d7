"""Focal loss on logits, as in ``mmcv._ext``.

With p the probability that the model assigns to the correct answer::

    FL(p) = -alpha (1 - p)^gamma log p

``gamma`` reduces the loss of samples that are already correct, so that the many easy background samples of a dense
detector do not dominate. The argument of the logarithm is at least the smallest normal float32, as in mmcv. Half
precision is computed in float32.

All functions write their result into an argument. ``weight`` (C,) has a factor for each class of the *target*, and is
empty without class weights. A target equal to C means background, whose factor is 1.

Source: T.-Y. Lin et al., "Focal loss for dense object detection", 2017.
"""

import torch
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision

_TINY = torch.finfo(torch.float32).tiny


def _weight_of(target: Tensor, weight: Tensor) -> Tensor | float:
    """Return the factor of each sample, (N, 1), or 1 without class weights."""
    if weight.numel() == 0:
        return 1.0
    with_background = torch.cat([to_full_precision(weight), weight.new_ones(1)])
    return with_background[target.clamp(min=0)][:, None]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the loss of each class, a binary decision each.

    With ``p = sigmoid(x)``, the loss of the class of the target is ``-alpha (1 - p)^gamma log p``, and that of every
    other class is ``-(1 - alpha) p^gamma log(1 - p)``.

    Args:
        input (Tensor): logits, shape (N, C).
        target (Tensor): classes, shape (N,).
        weight (Tensor): class weights, shape (C,) or empty.
        output (Tensor): filled with the loss, shape (N, C).
        gamma, alpha (float): see the formula.

    Raises:
        ValueError: if a target is larger than C.
    """
    classes = input.shape[1]
    if target.numel() and int(target.max()) > classes:
        raise ValueError(
            f'target contains {int(target.max())}, but with {classes} classes it must be at most {classes}'
        )
    p = to_full_precision(input).sigmoid()
    q = 1 - p
    positive = target[:, None] == torch.arange(classes, device=target.device)
    loss = torch.where(
        positive,
        -alpha * q**gamma * p.clamp(min=_TINY).log(),
        -(1 - alpha) * p**gamma * q.clamp(min=_TINY).log(),
    )
    output.copy_(loss * _weight_of(target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the derivative of the sigmoid focal loss with respect to the logits.

    It is ``-alpha (1 - p)^gamma (1 - p - gamma p log p)`` for the class of the target, and
    ``-(1 - alpha) p^gamma (gamma (1 - p) log(1 - p) - p)`` for the others.

    Args:
        input (Tensor): logits, shape (N, C).
        target (Tensor): classes, shape (N,).
        weight (Tensor): class weights, shape (C,) or empty.
        grad_input (Tensor): filled with the derivative, shape (N, C).
        gamma, alpha (float): see the formula.
    """
    classes = input.shape[1]
    p = to_full_precision(input).sigmoid()
    q = 1 - p
    positive = target[:, None] == torch.arange(classes, device=target.device)
    grad = torch.where(
        positive,
        -alpha * q**gamma * (q - gamma * p * p.clamp(min=_TINY).log()),
        -(1 - alpha) * p**gamma * (gamma * q * q.clamp(min=_TINY).log() - p),
    )
    grad_input.copy_(grad * _weight_of(target, weight))
