"""The focal loss on logits, as ``mmcv._ext`` serves it.

With p the probability that the model gives to the right answer::

    FL(p) = -alpha (1 - p)^gamma log p

``gamma`` turns down the loss of what is already right, so that the many easy backgrounds of a dense
detector do not drown the few objects. The logarithm's argument is kept above the smallest normal
float32, as in mmcv. Half precision is computed in float32.

Every function fills its output in place. ``weight`` (C,) holds a factor per class of the *target*,
and is empty when there is none. A target equal to C means background, whose factor is 1.

Source: T.-Y. Lin et al., "Focal loss for dense object detection", 2017.
"""

import torch
from torch import Tensor

from surge_mm.compat.mmcv_ops.precision import wide

_TINY = torch.finfo(torch.float32).tiny


def _check_target(target: Tensor, classes: int, largest: int) -> None:
    if target.numel() and int(target.max()) > largest:
        raise ValueError(
            f'target holds {int(target.max())}, but with {classes} classes at most {largest} fits'
        )


def _weight_of(target: Tensor, weight: Tensor) -> Tensor | float:
    """The factor of each sample, (N, 1), or 1 without class weights."""
    if weight.numel() == 0:
        return 1.0
    with_background = torch.cat([wide(weight), weight.new_ones(1)])
    return with_background[target.clamp(min=0)][:, None]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """One loss per class, each a yes-or-no question: logits (N, C), target (N,) -> (N, C).

    With ``p = sigmoid(x)``: the class of the target loses ``-alpha (1 - p)^gamma log p``, every
    other class ``-(1 - alpha) p^gamma log(1 - p)``.
    """
    classes = input.shape[1]
    _check_target(target, classes, largest=classes)
    p = wide(input).sigmoid()
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
    """Derivative of the sigmoid focal loss by the logits, (N, C).

    ``-alpha (1 - p)^gamma (1 - p - gamma p log p)`` for the class of the target, and
    ``-(1 - alpha) p^gamma (gamma (1 - p) log(1 - p) - p)`` for the others.
    """
    classes = input.shape[1]
    p = wide(input).sigmoid()
    q = 1 - p
    positive = target[:, None] == torch.arange(classes, device=target.device)
    grad = torch.where(
        positive,
        -alpha * q**gamma * (q - gamma * p * p.clamp(min=_TINY).log()),
        -(1 - alpha) * p**gamma * (gamma * q * q.clamp(min=_TINY).log() - p),
    )
    grad_input.copy_(grad * _weight_of(target, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """One loss per sample: probabilities (N, C), target (N,) -> (N,).

    ``-alpha (1 - p)^gamma log p`` with p the probability of the target; a negative target loses 0.
    """
    classes = softmax.shape[1]
    _check_target(target, classes, largest=classes - 1)
    p = wide(softmax).gather(1, target.clamp(min=0)[:, None])
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=_TINY).log()
    loss = loss * _weight_of(target, weight) * (target >= 0)[:, None]
    output.copy_(loss[:, 0])


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of the softmax focal loss by the logits, (N, C).

    Through ``dp/dx_c = p ([c = target] - softmax_c)`` it is ``b ([c = target] - softmax_c)`` with
    ``b = alpha (gamma (1 - p)^(gamma - 1) p log p - (1 - p)^gamma)``, which ``buff`` (N,) receives.
    """
    probabilities = wide(softmax)
    index = target.clamp(min=0)[:, None]
    p = probabilities.gather(1, index)
    q = (1 - p).clamp(min=_TINY)
    b = alpha * (gamma * q ** (gamma - 1) * p * p.clamp(min=_TINY).log() - q**gamma)
    b = b * _weight_of(target, weight) * (target >= 0)[:, None]
    buff.copy_(b[:, 0])
    hit = torch.zeros_like(probabilities).scatter_(1, index, 1.0)
    grad_input.copy_(b * (hit - probabilities))
