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
from surge_mm.utils.errors import UsageError

INPUT = 'images'
TOLERANCE = 1e-4
"""Largest difference due to rounding, relative to the largest number of a tensor. Models here stay below 1e-5."""


def check_outputs(
    data: bytes,
    model: nn.Module,
    image: Tensor,
    outputs_of: Callable[[nn.Module, Tensor], dict[str, Tensor]],
    signed: tuple[str, ...],
) -> None:
    """Check that ONNX Runtime computes the outputs of the model.

    Args:
        data (bytes): The file.
        model (nn.Module): The model that was exported, in evaluation mode. It cannot be used afterwards.
        image (Tensor): Input, ``(N, 3, H, W)``, with another N than that of the trace.
        outputs_of (Callable): Function of the model and the input that returns the outputs by name.
        signed (tuple[str, ...]): The name, in the file, of the tensor whose signs are taken, for each call of a binary
            layer in their order.

    Raises:
        UsageError: if tensors differ by more than rounding, or are not finite.
    """
    names, tensors = _run(data, image, signed)
    inputs = iter([tensors[name] for name in signed])
    for name, layer in model.named_modules():
        if isinstance(layer, BinaryLayer):
            layer.register_forward_pre_hook(partial(_force, name or 'the layer', inputs))
    with torch.no_grad():
        expected = outputs_of(model, image)
    for name in names:
        _compare(name, expected[name], tensors[name])


def _run(
    data: bytes, image: Tensor, signed: tuple[str, ...]
) -> tuple[list[str], dict[str, Tensor]]:
    """Run the file. Return the names of its outputs, and the tensors of these and of ``signed`` by name."""
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(data)
    names = [output.name for output in proto.graph.output]
    shown = [name for name in dict.fromkeys(signed) if name not in (INPUT, *names)]
    for name in shown:
        kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
        proto.graph.output.append(onnx.helper.make_value_info(name, kind))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=['CPUExecutionProvider']
    )
    tensors = map(torch.from_numpy, session.run([*names, *shown], {INPUT: image.numpy()}))
    return names, {INPUT: image, **dict(zip([*names, *shown], tensors, strict=True))}


def _force(name: str, inputs: Iterator[Tensor], layer: BinaryLayer, own: Any) -> tuple[Tensor]:
    """Compare the input of a layer with that of ONNX Runtime, and replace it by one with the signs of the latter."""
    shift = torch.zeros(()) if layer.activation_shift is None else layer.activation_shift
    theirs = next(inputs)
    _compare(f'the input of {name}', own[0] + shift, theirs)
    return (torch.where(theirs >= 0, 1.0, -1.0) * (1 + 2 * shift.abs()),)


def _compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    if not ours.isfinite().all():
        raise UsageError(
            f'{name}: the numbers that the model itself computes are not finite, so they cannot be compared. Is its '
            'checkpoint loaded?'
        )
    if ours.shape != theirs.shape:
        raise UsageError(
            f'ONNX Runtime computes another output than the model: {name} has the shape {tuple(theirs.shape)}, not '
            f'{tuple(ours.shape)}. Nothing was written'
        )
    distance, largest = (ours - theirs).abs(), float(ours.abs().max())
    wrong = ~(distance <= TOLERANCE * largest)  # NaN too
    if wrong.any():
        raise UsageError(
            f'ONNX Runtime computes another output than the model: of the numbers of {name}, {int(wrong.sum())} of '
            f'{wrong.numel()} differ, by up to {float(distance.max()):.2g} where the largest is {largest:.2g}. Nothing '
            'was written'
        )
