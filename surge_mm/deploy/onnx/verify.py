"""Whether ONNX Runtime computes what a model does.

Real layers round in their own way in each runtime. Where a number is within a rounding of 0, the sign behind it may be
the other one, and what follows from one such sign can be as far away as another image's outputs: the outputs alone say
little of a deep binary network. So the model computes with the signs that ONNX Runtime took. Then what each binary
layer takes the signs of, and the outputs, must be equal but for rounding.
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
"""What is rounding, relative to the largest number of a tensor. Networks of this package stay below 1e-5."""


def check_outputs(
    data: bytes,
    model: nn.Module,
    image: Tensor,
    outputs_of: Callable[[nn.Module, Tensor], dict[str, Tensor]],
    signed: tuple[str, ...],
) -> None:
    """Refuse a file that ONNX Runtime runs to other outputs.

    Args:
        data (bytes): The file.
        model (nn.Module): What it was made of, in evaluation mode. It is of no use afterwards.
        image (Tensor): The input, ``(N, 3, H, W)``; an N other than that of the trace shows that N is free.
        outputs_of (callable): From the model and the input to the outputs, by their names.
        signed (tuple[str, ...]): For each call of a binary layer, in their order, the name of the tensor in the file
            that it takes the signs of.

    Raises:
        UsageError: they differ by more than rounding, or are not finite.
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
    """The names of the outputs, and the tensors by name, of one run that shows those of ``signed`` too."""
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(data)
    names = [one.name for one in proto.graph.output]
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
    """Before a layer of the model: compare its input, and give it one that has the signs of ONNX Runtime's."""
    shift = torch.zeros(()) if layer.activation_shift is None else layer.activation_shift
    theirs = next(inputs)
    _compare(f'the input of {name}', own[0] + shift, theirs)
    return (torch.where(theirs >= 0, 1.0, -1.0) * (1 + 2 * shift.abs()),)


def _compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    if not ours.isfinite().all():
        raise UsageError(
            f'{name}: the model itself computes numbers there that are not finite, so there is nothing to compare; is '
            'its checkpoint loaded?'
        )
    if ours.shape != theirs.shape:
        raise UsageError(
            f'ONNX Runtime computes something else than the model: {name} has the shape {tuple(theirs.shape)}, not '
            f'{tuple(ours.shape)}. Nothing was written'
        )
    distance, largest = (ours - theirs).abs(), float(ours.abs().max())
    wrong = ~(distance <= TOLERANCE * largest)  # NaN too
    if wrong.any():
        raise UsageError(
            f'ONNX Runtime computes something else than the model: of the numbers of {name}, {int(wrong.sum())} of '
            f'{wrong.numel()} differ, by up to {float(distance.max()):.2g} where the largest is {largest:.2g}. Nothing '
            'was written'
        )
