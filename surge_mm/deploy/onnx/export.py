"""A trained model as an ONNX file of standard operators, for runtimes that know nothing of this package.

Its binary layers are those of :mod:`surge_mm.deploy.onnx.layers`; that the file is right is found by
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

from surge_mm.deploy.convert import strip
from surge_mm.deploy.onnx.layers import exported
from surge_mm.deploy.onnx.verify import INPUT, check_outputs
from surge_mm.deploy.packed_layers import PackedLayer
from surge_mm.layers import BinaryLayer
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError
from surge_mm.version import __version__

OPSET = 17
PREPROCESSING = {
    'pad_size_divisor': 'pad_size_divisor',
    '_channel_conversion': 'bgr_to_rgb',  # MMDetection
    'to_rgb': 'bgr_to_rgb',  # MMPretrain
}
"""What a file says of its input, beside mean and standard deviation."""


class Network(nn.Module):
    """A model of export layers as a function of images to its outputs, and then what each layer takes the signs of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.signed: list[Tensor] = []
        self.model = exported(model, self.signed)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.signed.clear()
        return (*outputs_of(self.model, images).values(), *self.signed)


def outputs_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The outputs of a model by their names in the file: ``scores``, ``features_0``, or those of the head's loss.

    Raises:
        UsageError: there is something among them that is no tensor.
    """
    out = model(images, mode='tensor') if hasattr(model, 'data_preprocessor') else model(images)
    loss = getattr(getattr(model, 'bbox_head', None), 'loss_by_feat', None)
    if loss is not None and not torch.is_tensor(out):  # it takes what the forward pass gives
        names = list(inspect.signature(loss).parameters)[: len(out)]
        if len(names) == len(out):
            kinds = zip(names, out, strict=True)
            return {name: one for kind, maps in kinds for name, one in _named(maps, kind)}
    return dict(_named(out, 'scores' if getattr(model, 'with_head', False) else 'features'))


def _named(outputs: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if torch.is_tensor(outputs):
        yield name, outputs
    elif isinstance(outputs, (list, tuple)):
        for i, one in enumerate(outputs):
            yield from _named(one, f'{name}_{i}')
    elif outputs is not None:
        raise UsageError(
            f'the output {name} is a {type(outputs).__name__}, and an ONNX file gives tensors: export a part of the '
            'model that gives tensors, such as model.backbone'
        )


def export_onnx(model: nn.Module, path: str | Path, size: tuple[int, int]) -> None:
    """Write ``model`` as an ONNX file, after ONNX Runtime was seen to compute what the model does.

    The input is ``images``, ``(N, 3, H, W)`` of float32 with any N, normalised as the model's data preprocessor does;
    its mean, standard deviation, channel order and pad divisor stand in the file's metadata, as JSON. The outputs are:

    - ``scores`` of a classifier, before the softmax;
    - ``features_0``, ... of a backbone;
    - the raw maps of a one-stage detector's head, by their names in its loss and their level, such as ``cls_scores_0``,
      before boxes are decoded and sifted, for which ONNX has no one way.

    Args:
        model (nn.Module): A classifier, a one-stage detector or a backbone with binary layers, not packed. It is left
            as it is.
        path (str or Path): The file. What is there is replaced when the new file is complete.
        size (tuple[int, int]): Height and width of an image, in pixels.

    Raises:
        UsageError: packages are missing; the model is packed, of two stages, or not for images of this size; it has
            what ONNX has no operator for; ONNX Runtime computes something else.
    """
    _check_packages()
    _check_model(model)
    original = strip(copy.deepcopy(model)).cpu().float()
    image = _image(original, size)
    try:
        with torch.no_grad():
            outputs = outputs_of(original, image)
            file = _traced(Network(original).eval(), image.repeat(2, 1, 1, 1), list(outputs))
        data, signed = _finished(file, original, outputs)
        check_outputs(data, original, image, outputs_of, signed)
    except UsageError:
        raise
    except Exception as error:  # of any layer of the hosts, of the exporter, or of ONNX Runtime
        raise UsageError(
            f'{type(model).__name__} for images of size={tuple(size)} cannot be an ONNX file of standard operators: '
            f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'
        ) from error
    write_atomically(path, data, 'make room there, or name another file')


def _image(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """An image of noise, normalised as those that the model is made for. ``(1, 3, H, W)``.

    Raises:
        UsageError: ``size`` is no size.
    """
    pair = isinstance(size, (tuple, list)) and len(size) == 2
    if not pair or not all(isinstance(one, int) and one > 0 for one in size):
        raise UsageError(
            f'size={size!r} must be the height and the width of an image, in pixels, such as (224, 224)'
        )
    generator = torch.Generator().manual_seed(0)
    facts = _normalisation(model)
    if not facts:
        return torch.randn(1, 3, *size, generator=generator)
    mean, std = (torch.tensor(facts[name]).reshape(1, -1, 1, 1) for name in ('mean', 'std'))
    return (255 * torch.rand(1, 3, *size, generator=generator) - mean) / std


def _normalisation(model: nn.Module) -> dict[str, list[float]]:
    preprocessor = getattr(model, 'data_preprocessor', None)
    values = {name: getattr(preprocessor, name, None) for name in ('mean', 'std')}
    return {name: one.flatten().tolist() for name, one in values.items() if torch.is_tensor(one)}


def _traced(network: Network, images: Tensor, names: list[str]) -> bytes:
    """The file as the exporter gives it: its outputs are those of ``names``, then what signs are taken of."""
    file = io.BytesIO()
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            file,  # type: ignore[arg-type]  # a file or a path
            dynamo=False,  # the other one makes floats of small layers' signs, and needs onnxscript
            opset_version=OPSET,
            do_constant_folding=False,  # it would make floats of the int8 signs
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: 'N'} for name in [INPUT, *names]},
        )
    return file.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter from printing its whole graph where it fails."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


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


def _finished(
    data: bytes, model: nn.Module, outputs: dict[str, Tensor]
) -> tuple[bytes, tuple[str, ...]]:
    """The file checked by ONNX, with what a user of it needs to know in its metadata.

    Returns:
        tuple[bytes, tuple[str, ...]]: The file, and the names of the tensors in it that signs are taken of.
    """
    import onnx

    proto = onnx.load_model_from_string(data)
    shown = proto.graph.output[len(outputs) :]
    same = {
        node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == 'Identity'
    }
    signed = tuple(same.get(one.name, one.name) for one in shown)
    extra = ({one.name for one in shown} & set(same)) - set(outputs)
    for node in [node for node in proto.graph.node if node.output[0] in extra]:
        proto.graph.node.remove(node)
    del proto.graph.output[:], proto.graph.value_info[:]
    for name, one in outputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(one.numpy().dtype)
        shape = ['N', *one.shape[1:]]
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    facts: dict[str, Any] = _normalisation(model)
    for attribute, name in PREPROCESSING.items():
        if hasattr(getattr(model, 'data_preprocessor', None), attribute):
            facts[name] = getattr(model.data_preprocessor, attribute)
    if classes := (getattr(model, 'dataset_meta', None) or {}).get('classes'):
        facts['classes'] = list(classes)
    props = {name: json.dumps(value) for name, value in facts.items()}
    props['surge_mm_version'] = __version__
    onnx.helper.set_model_props(proto, props)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(), signed
