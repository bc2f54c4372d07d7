"""A trained model as an ONNX file of standard operators, for runtimes that know nothing of this package.

A sign is ``Where(x >= 0, 1, -1)``: of -0.0 it is +1, where the trained network takes the sign bit and has -1; behind a
batch norm such a number is as good as never met. Signs of weights are int8 constants, which a ``Cast`` makes floats of.
Sums of signs are scaled afterwards, so they are exact, as everywhere in this package; a ``Round`` between, which
changes none, keeps runtimes from moving the scale into the weights: where a sum is 0, the next sign would be left to
chance.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.atomic_files import write_atomically
from surge_mm.errors import UsageError
from surge_mm.layers import BinaryLayer, SurgeLinear
from surge_mm.version import __version__

from .layers import PackedLayer
from .packing import strip
from .parts import is_sign, parts_of, window_of

OPSET = 17
INPUT = 'images'
TOLERANCE = 0.1
"""Of an output's distance: a wrong network is about its whole size away, one with a few flipped signs hundredths."""
PREPROCESSING = {
    'pad_size_divisor': 'pad_size_divisor',
    '_channel_conversion': 'bgr_to_rgb',  # MMDetection
    'to_rgb': 'bgr_to_rgb',  # MMPretrain
}
"""What a file says of its input, beside mean and standard deviation."""


class ExportLayer(nn.Module):
    """A binary layer in operators that ONNX has; of signs, ``weight`` is int8."""

    weight: Tensor
    scale: Tensor | None
    shift: Tensor | None
    offset: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: BinaryLayer) -> None:
        super().__init__()
        self.linear = isinstance(layer, SurgeLinear)
        self.window, self.around = window_of(layer)
        self.pad_value = float(getattr(layer, 'pad_value', 0))
        self.mode = str(getattr(layer, 'padding_mode', 'zeros'))
        weight, scale, offset = parts_of(layer)
        self.register_buffer('weight', weight.reshape(self.window.shape(len(weight))))
        numbers = {
            'shift': layer.activation_shift,
            'scale': scale,
            'offset': offset,
            'bias': layer.bias,
        }
        for name, values in numbers.items():
            column = None if values is None else values.detach().reshape(-1, 1, 1)
            self.register_buffer(name, column)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
            out = self._convolution(rows).permute(0, 2, 3, 1)
            return out.reshape(*x.shape[:-1], out.shape[-1])
        return self._convolution(x)

    def _convolution(self, x: Tensor) -> Tensor:
        if any(self.around):
            x = F.pad(x, self.around, mode=self.mode)
        if self.shift is not None:
            x = x + self.shift
        q_x = torch.where(x >= 0, 1.0, -1.0)
        if any(self.window.padding):
            q_x = F.pad(q_x, self.window.padding, value=self.pad_value)
        stride, dilation, groups = self.window.stride, self.window.dilation, self.window.groups
        weight = self.weight.to(torch.float32)
        y = F.conv2d(q_x, weight, None, stride, 0, dilation, groups)
        if self.scale is not None:
            y = torch.round(y) * self.scale
        if self.offset is not None:
            ones = torch.ones_like(weight[:groups])
            windows = F.conv2d(q_x, ones, None, stride, 0, dilation, groups)
            if groups > 1:
                windows = windows.repeat_interleave(len(weight) // groups, 1)
            y = y + torch.round(windows) * self.offset
        return y if self.bias is None else y + self.bias


class Network(nn.Module):
    """A model as a function of images to a flat tuple of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.takes_mode = hasattr(model, 'data_preprocessor')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        out = self.model(images, mode='tensor') if self.takes_mode else self.model(images)
        return tuple(_flat(out))


def _flat(outputs: Any) -> list[Tensor]:
    if torch.is_tensor(outputs):
        return [outputs]
    return [tensor for one in outputs if one is not None for tensor in _flat(one)]


def export_onnx(model: nn.Module, path: str | Path, size: tuple[int, int]) -> None:
    """Write ``model`` as an ONNX file, after ONNX Runtime was seen to compute what the model does.

    The input is ``images``, ``(N, 3, H, W)`` of float32 with any N, normalised as the model's data preprocessor does;
    its mean, standard deviation and channel order stand in the file's metadata, as JSON. The outputs are the scores of
    a classifier, the feature maps of a backbone, and the raw maps of a one-stage detector's head, level by level,
    before boxes are decoded and sifted, for which ONNX has no one way.

    Args:
        model (nn.Module): A classifier, a one-stage detector or a backbone with binary layers, not packed. It is left
            as it is.
        path (str or Path): The file. What is there is replaced when the new file is complete.
        size (tuple[int, int]): Height and width of an image, in pixels.

    Raises:
        UsageError: packages are missing, the model is packed or of two stages, or ONNX Runtime computes something else.
    """
    _check_packages()
    _check_model(model)
    network = Network(_exported(model)).eval()
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Network(strip(copy.deepcopy(model)))(image)
    names = [f'output_{i}' for i in range(len(expected))]
    if len(names) == 1:
        names = ['scores' if hasattr(model, 'head') else 'features']
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (image,),
            file,  # type: ignore[arg-type]  # a file or a path
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,  # it would make floats of the int8 signs
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: 'N'} for name in [INPUT, *names]},
        )
    data = _finished(file.getvalue(), model)
    _compare(data, image, expected)
    write_atomically(path, data, 'make room there, or name another file')


def _check_packages() -> None:
    missing = []
    for name in ('onnx', 'onnxruntime'):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UsageError(
            f'for an ONNX file {" and ".join(missing)} must be installed: pip install "surge_mm[onnx]"'
        )


def _check_model(model: nn.Module) -> None:
    from mmdet.models import BaseDetector

    if any(isinstance(module, PackedLayer) for module in model.modules()):
        raise UsageError(
            f'{type(model).__name__} is packed, and ONNX has no operator for packed layers: export the model from its '
            'checkpoint'
        )
    if not any(isinstance(module, BinaryLayer) for module in model.modules()):
        raise UsageError(f'{type(model).__name__} has no binary layer; export it with torch.onnx')
    if isinstance(model, BaseDetector) and not hasattr(model, 'bbox_head'):
        raise UsageError(
            f'{type(model).__name__} is of several stages, which meet in boxes, not in maps, and cannot be an '
            'ONNX file of standard operators. Export its backbone, model.backbone, or a one-stage detector'
        )


def _exported(model: nn.Module) -> nn.Module:
    """A copy for inference whose binary layers are :class:`ExportLayer`."""
    model = strip(copy.deepcopy(model))
    if isinstance(model, BinaryLayer):
        return ExportLayer(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BinaryLayer):
            if not is_sign(layer.activation):
                raise UsageError(f'{name}: its activation {layer.activation} is not the sign')
            parent, _, own = name.rpartition('.')
            setattr(model.get_submodule(parent), own, ExportLayer(layer))
    return model


def _finished(data: bytes, model: nn.Module) -> bytes:
    """The file checked by ONNX, with what a user of it needs to know in its metadata."""
    import onnx

    proto = onnx.load_model_from_string(data)
    onnx.checker.check_model(proto, full_check=True)
    facts: dict[str, Any] = {}
    preprocessor = getattr(model, 'data_preprocessor', None)
    if getattr(preprocessor, '_enable_normalize', False):
        facts = {name: getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std')}
    for attribute, name in PREPROCESSING.items():
        if hasattr(preprocessor, attribute):
            facts[name] = getattr(preprocessor, attribute)
    if classes := (getattr(model, 'dataset_meta', None) or {}).get('classes'):
        facts['classes'] = list(classes)
    props = {name: json.dumps(value) for name, value in facts.items()}
    props['surge_mm_version'] = __version__
    onnx.helper.set_model_props(proto, props)
    return proto.SerializeToString()


def _compare(data: bytes, image: Tensor, expected: tuple[Tensor, ...]) -> None:
    """Refuse a file that ONNX Runtime runs to other outputs.

    Real layers round in their own way there, and where a number is within a rounding of 0, the sign behind it may be
    the other one. What counts is the distance of each output relative to its size, weighted by its number of elements.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    outputs = session.run(None, {INPUT: image.numpy()})
    distances, elements = [], []
    for name, ours, theirs in zip(
        [o.name for o in session.get_outputs()], expected, outputs, strict=True
    ):
        wanted = ours.numpy()
        if wanted.shape != theirs.shape:
            raise UsageError(
                f'ONNX Runtime gives {name} the shape {theirs.shape}, and the model {wanted.shape}'
            )
        size = max(float(np.linalg.norm(wanted)), 1e-12)
        distances.append(float(np.linalg.norm(wanted - theirs)) / size)
        elements.append(wanted.size)
    distance = float(np.average(distances, weights=elements))
    if not distance < TOLERANCE:
        raise UsageError(
            f'what ONNX Runtime computes is {distance:.2g} of its size away from what the model does, more than '
            f'{TOLERANCE}: nothing was written'
        )
