"""Export of a trained model to an ONNX file of standard operators, for any runtime.

Binary layers become those of :mod:`surge_mm.deploy.onnx.layers`. The file is compared with the model by
:mod:`surge_mm.deploy.onnx.verify`.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.deploy.onnx.layers import exported
from surge_mm.deploy.onnx.verify import INPUT, SIGNED, check_outputs
from surge_mm.deploy.packing.convert import strip
from surge_mm.layers import BinaryLayer
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError, describe_error
from surge_mm.utils.modules import is_packed, raw_outputs
from surge_mm.utils.packages import require_packages
from surge_mm.version import __version__

OPSET = 17
PREPROCESSING = {
    'pad_size_divisor': 'pad_size_divisor',
    '_channel_conversion': 'bgr_to_rgb',  # MMDetection
    'to_rgb': 'bgr_to_rgb',  # MMPretrain
}
"""Attributes of a data preprocessor that the metadata of a file has beside mean and standard deviation."""


class Network(nn.Module):
    """A model with export layers. It returns its outputs, and then the tensor whose signs each layer takes.

    Args:
        model (nn.Module): The model, whose binary layers are replaced in a copy.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.signed: list[Tensor] = []
        self.model = exported(model, self.signed)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the model and the tensors whose signs are taken.

        Args:
            images (Tensor): ``(N, 3, H, W)``.
        """
        self.signed.clear()
        return (*outputs_of(self.model, images).values(), *self.signed)


def outputs_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a model by their names in the file: ``scores``, ``features_0``, or as in the head's loss.

    Args:
        model (nn.Module): The model.
        images (Tensor): ``(N, 3, H, W)``.

    Raises:
        UsageError: if an output is not a tensor.
    """
    out = raw_outputs(model, images)
    loss = getattr(getattr(model, 'bbox_head', None), 'loss_by_feat', None)
    if loss is not None and not torch.is_tensor(out):  # its arguments are the outputs of the head
        names = list(inspect.signature(loss).parameters)[: len(out)]
        if len(names) == len(out):
            levels = [_named(maps, name) for name, maps in zip(names, out, strict=True)]
            return {name: output for named in levels for name, output in named}
    return dict(_named(out, 'scores' if getattr(model, 'with_head', False) else 'features'))


def _named(outputs: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if torch.is_tensor(outputs):
        yield name, outputs
    elif isinstance(outputs, (list, tuple)):
        for i, output in enumerate(outputs):
            yield from _named(output, f'{name}_{i}')
    elif outputs is not None:
        raise UsageError(
            f'the output {name} is a {type(outputs).__name__}, and an ONNX file has tensors: export a part of the '
            'model whose outputs are tensors, such as model.backbone'
        )


def export_onnx(model: nn.Module, path: str | Path, size: tuple[int, int]) -> int:
    """Write a model as an ONNX file, after comparing its outputs in ONNX Runtime with those of the model.

    The input is ``images``, ``(N, 3, H, W)``, float32, for any N, normalized as by the model's data preprocessor. Its
    mean, standard deviation, channel order and pad divisor are in the metadata of the file, as JSON. The outputs are:

    - of a classifier: ``scores``, before the softmax;
    - of a backbone: ``features_0``, ``features_1``, ...;
    - of a one-stage detector: the raw maps of its head, named as in its loss and by their level, such as
      ``cls_scores_0``. Decoding and non-maximum suppression are not part of the file.

    Args:
        model (nn.Module): A classifier, a one-stage detector or a backbone with binary layers, not packed. It is not
            changed.
        path (str | Path): The file. An existing file is replaced when the new one is complete.
        size (tuple[int, int]): Height and width of an image, in pixels.

    Returns:
        int: Bytes of the file.

    Raises:
        UsageError: if packages are missing, the model is packed, has two stages, does not take images of this size or
            has an operator that ONNX lacks, or if ONNX Runtime computes other outputs.
    """
    require_packages('onnx', 'onnx', 'onnxruntime')
    _check_model(model)
    original = strip(copy.deepcopy(model)).cpu().float()
    try:
        image = _image(original, size)
        with torch.no_grad():
            outputs = outputs_of(original, image)
            network = Network(original).eval()
            calls = len(network(image)) - len(outputs)
            names = [*outputs, *(f'{SIGNED}{i}' for i in range(calls))]
            file = _traced(network, image.repeat(2, 1, 1, 1), names)
        data = _finished(file, original, outputs)
        check_outputs(file, original, image, outputs_of)
    except UsageError:
        raise
    except Exception as error:  # of any layer of the hosts, of the exporter, or of ONNX Runtime
        raise UsageError(
            f'{type(model).__name__} for images of size={size} cannot be an ONNX file of standard operators: '
            f'{describe_error(error).partition(chr(10))[0]}. Export a part of it that takes images alone, such as '
            'model.backbone'
        ) from error
    write_atomically(path, data, 'make room there, or name another file')
    return len(data)


def _image(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return an image of noise, ``(1, 3, H, W)``, normalized as by the data preprocessor of the model."""
    generator = torch.Generator().manual_seed(0)
    metadata = _normalization(model)
    if not metadata:
        return torch.randn(1, 3, *size, generator=generator)
    mean, std = (torch.tensor(metadata[name]).reshape(1, -1, 1, 1) for name in ('mean', 'std'))
    return (255 * torch.rand(1, 3, *size, generator=generator) - mean) / std


def _normalization(model: nn.Module) -> dict[str, list[float]]:
    preprocessor = getattr(model, 'data_preprocessor', None)
    values = {name: getattr(preprocessor, name, None) for name in ('mean', 'std')}
    return {
        name: value.flatten().tolist() for name, value in values.items() if torch.is_tensor(value)
    }


def _traced(network: Network, images: Tensor, names: list[str]) -> bytes:
    """Return the file of PyTorch's exporter: its outputs are named ``names``."""
    file = io.BytesIO()
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            file,  # type: ignore[arg-type]  # a file or a path
            dynamo=False,  # the other exporter makes the signs of small layers float32, and needs onnxscript
            opset_version=OPSET,
            do_constant_folding=False,  # it would make the int8 signs float32
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: 'N'} for name in [INPUT, *names]},
        )
    return file.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from printing its whole graph when it fails."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def _check_model(model: nn.Module) -> None:
    from mmdet.models import BaseDetector

    if is_packed(model):
        raise UsageError(
            f'{type(model).__name__} is packed, and ONNX has no operator for packed layers: export the model from its '
            'checkpoint'
        )
    if not any(isinstance(module, BinaryLayer) for module in model.modules()):
        raise UsageError(f'{type(model).__name__} has no binary layer; export it with torch.onnx')
    if isinstance(model, BaseDetector) and not hasattr(model, 'bbox_head'):
        raise UsageError(
            f'{type(model).__name__} has several stages, with boxes between them, and cannot be an ONNX file of '
            'standard operators. Export its backbone, model.backbone, or a one-stage detector'
        )


def _finished(data: bytes, model: nn.Module, outputs: dict[str, Tensor]) -> bytes:
    """Set outputs and metadata of a file, and check it by ONNX."""
    import onnx

    proto = onnx.load_model_from_string(data)
    signed = {output.name for output in proto.graph.output} - set(outputs)
    for node in list(proto.graph.node):
        if node.op_type == 'Identity' and node.output[0] in signed:
            proto.graph.node.remove(node)
    del proto.graph.output[:], proto.graph.value_info[:]
    for name, output in outputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(output.numpy().dtype)
        shape = ['N', *output.shape[1:]]
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    metadata: dict[str, Any] = _normalization(model)
    for attribute, name in PREPROCESSING.items():
        if hasattr(getattr(model, 'data_preprocessor', None), attribute):
            metadata[name] = getattr(model.data_preprocessor, attribute)
    if classes := (getattr(model, 'dataset_meta', None) or {}).get('classes'):
        metadata['classes'] = list(classes)
    props = {name: json.dumps(value) for name, value in metadata.items()}
    props['surge_mm_version'] = __version__
    onnx.helper.set_model_props(proto, props)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
