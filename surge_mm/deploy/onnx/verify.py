"""Comparison of an ONNX file in ONNX Runtime with its model.

Real layers round differently in each runtime. Where a number is 0 but for rounding, its sign may differ, and after one
such sign the outputs of a deep binary network can differ as much as those of another image. So the model computes with
the signs that ONNX Runtime took. Then the inputs of all binary layers, and the outputs, must be equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.layers import BinaryLayer
from surge_mm.ops import sign
from surge_mm.utils.errors import UsageError

INPUT = 'images'
SIGNED = 'signed_'
"""Names of the tensors whose signs binary layers take, before a number for each call in their order."""
TOLERANCE = 1e-4
"""Largest difference due to rounding, relative to the largest number of a tensor. Models here stay below 1e-5."""


def check_outputs(
    data: bytes,
    model: nn.Module,
    image: Tensor,
    outputs_of: Callable[[nn.Module, Tensor], dict[str, Tensor]],
) -> None:
    """Check that ONNX Runtime computes the outputs of the model.

    Args:
        data (bytes): The file, whose outputs are those of the model and then the tensors :data:`SIGNED`.
        model (nn.Module): The model that was exported, in evaluation mode. It cannot be used afterwards.
        image (Tensor): Input, ``(N, 3, H, W)``, with another N than that of the trace.
        outputs_of (Callable): Function of the model and the input that returns the outputs by name.

    Raises:
        UsageError: if tensors differ by more than rounding, or are not finite.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    arrays = session.run(None, {INPUT: image.numpy()})
    names = [output.name for output in session.get_outputs()]
    tensors = dict(zip(names, map(torch.from_numpy, arrays), strict=True))
    inputs = iter([tensors[name] for name in names if name.startswith(SIGNED)])
    for name, layer in model.named_modules():
        if isinstance(layer, BinaryLayer):
            layer.register_forward_pre_hook(partial(_force, name or 'the layer', inputs))
    with torch.no_grad():
        expected = outputs_of(model, image)
    for name, ours in expected.items():
        _compare(name, ours, tensors[name])


def _force(name: str, inputs: Iterator[Tensor], layer: BinaryLayer, own: Any) -> tuple[Tensor]:
    """Compare the input of a layer with that of ONNX Runtime, and replace it by one with the signs of the latter."""
    shift = torch.zeros(()) if layer.activation_shift is None else layer.activation_shift
    theirs = next(inputs)
    _compare(f'the input of {name}', own[0] + shift, theirs)
    return (sign(theirs) * (1 + 2 * shift.abs()),)


def _compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    if not ours.isfinite().all():
        raise UsageError(
            f'{name}: the numbers that the model itself computes are not finite, so they cannot be compared. Is its '
            'checkpoint loaded?'
        )
    try:
        largest = float(ours.abs().max())
        torch.testing.assert_close(theirs, ours, rtol=0, atol=TOLERANCE * largest)
    except AssertionError as error:
        raise UsageError(
            f'ONNX Runtime computes another output than the model, and nothing was written. {name}, the largest number '
            f'of which is {largest:.2g}: {" ".join(str(error).split())}'
        ) from None
