"""Replacement of the real-valued convolutions of a packed model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import nn

from surge_mm.deploy.packing.followers import find_followers, followers_of
from surge_mm.deploy.packing.real_norms import fuse_norms, split_norms
from surge_mm.deploy.real_layers.bfloat16_conv import BFloat16Conv2d
from surge_mm.deploy.real_layers.calibration import measure_ranges
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d, unsupported_reason
from surge_mm.deploy.real_layers.quantization import Range
from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d
from surge_mm.layers import BinaryLayer
from surge_mm.layers.memory_format import has_hooks
from surge_mm.models.binarization.layer_candidates import forward_path
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import replace_modules

FLOAT32 = 'float32'
REAL = (FLOAT32, 'bfloat16', 'int8')
"""Dtypes of real-valued layers, as ``real`` of :func:`surge_mm.deploy.pack`."""
REAL_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
FORWARDS = {'torch.nn.modules.conv.Conv2d', 'mmcv.cnn.bricks.wrappers.Conv2d'}


def check_real(
    model: nn.Module, real: str, calibration: Iterable[Any] | None
) -> Iterable[Any] | None:
    """Check the arguments of :func:`surge_mm.deploy.pack`, before the model is changed.

    Args:
        model (nn.Module): The model.
        real (str): Dtype of the real-valued convolutions.
        calibration (Iterable, optional): Images.

    Returns:
        Iterable, optional: The images.

    Raises:
        UsageError: if ``real`` is unknown, images are missing or not needed, or the model takes no tensor alone.
    """
    if real not in REAL:
        raise UsageError(f'real={real!r} must be one of {", ".join(map(repr, REAL))}')
    if real == 'int8' and calibration is None:
        raise UsageError(
            "real='int8' needs images, on which the ranges of inputs are measured: pack(model, real='int8', "
            'calibration=images), a list of tensors (N, 3, H, W) or the batches of a data loader'
        )
    if real != 'int8' and calibration is not None:
        raise UsageError(f"calibration is for real='int8', and real={real!r} takes none: omit it")
    if calibration is None:
        return None
    batches = iter(calibration)
    for first in batches:
        if torch.is_tensor(first) and hasattr(model, 'roi_head'):
            raise UsageError(
                f'calibration holds tensors, and {type(model).__name__}, which has two stages, also reads the sizes of '
                'images: pass the batches of a data loader'
            )
        return chain((first,), batches)
    raise UsageError(
        "calibration has no images, and real='int8' needs some: pass a list of tensors (N, 3, H, W), or the batches of "
        'a data loader'
    )


def find_real(model: nn.Module, real: str) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    """Return the real-valued layers of a packed model that can be replaced, and the reasons why others cannot.

    Args:
        model (nn.Module): The packed model, in float32.
        real (str): Dtype, one of :data:`REAL`.

    Returns:
        tuple[dict[str, nn.Conv2d], dict[str, str]]: Convolutions by name; and the reasons by name. Both are empty for
        float32.
    """
    layers: dict[str, nn.Conv2d] = {}
    reasons: dict[str, str] = {}
    for name, layer in model.named_modules() if real != FLOAT32 else ():
        if isinstance(layer, REAL_LAYERS) and not isinstance(layer, BinaryLayer):
            if reason := _reason(layer, real):
                reasons[name] = reason
            else:
                layers[name] = layer  # type: ignore[assignment]
    return layers, reasons


def convert_real(
    model: nn.Module,
    layers: Mapping[str, nn.Conv2d],
    real: str,
    calibration: Iterable[Any] | None,
) -> dict[str, str]:
    """Replace convolutions of a packed model, in place.

    Args:
        model (nn.Module): The packed model, in float32.
        layers (Mapping[str, nn.Conv2d]): Convolutions that :func:`find_real` returned.
        real (str): Dtype, one of :data:`REAL`.
        calibration (Iterable, optional): Images, for int8.

    Returns:
        dict[str, str]: Names of the convolutions that stay as they are, each with the reason.
    """
    if real == 'int8' and layers:
        assert calibration is not None
        ranges = measure_ranges(model, layers, calibration)
        used = {name: layers[name] for name, found in ranges.items() if found is not None}
        for name, following in find_followers(model, used).items():
            _to_int8(model, layers[name], following, ranges[name])
        reason = 'the images for calibration gave it no input, or one that is not finite'
        return {name: reason for name, found in ranges.items() if found is None}
    replace_modules(model, {layer: BFloat16Conv2d(layer) for layer in layers.values()})
    return {}


def _to_int8(
    model: nn.Module, layer: nn.Conv2d, following: list[str], given: Range | None = None
) -> None:
    """Replace a convolution, and the modules that follow it, which become part of it."""
    packed = Int8Conv2d(layer, given, *followers_of(model, following))
    packed.folded = tuple(following)
    replace_modules(model, {layer: packed})
    for name in following:
        parent, _, own = name.rpartition('.')
        model.get_submodule(parent)._modules[own] = nn.Identity()


def stored_real(model: nn.Module) -> dict[str, Any]:
    """Return what the config of a packed file has on the real-valued convolutions: nothing, or their dtype and names.

    Args:
        model (nn.Module): The packed model.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, ReducedConv2d)}
    if not found:
        return {}
    layers = {name: list(layer.folded) for name, layer in found.items()}
    return {'real': {'dtype': next(iter(found.values())).dtype, 'layers': layers}}


def check_stored_real(stored: Any) -> None:
    """Check what a packed file has on the real-valued convolutions.

    Args:
        stored (Any): ``real`` of its config.

    Raises:
        UsageError: if it is not as :func:`stored_real` returns it.
    """
    layers = stored.get('layers') if isinstance(stored, dict) and len(stored) == 2 else None
    lists = list(layers.values()) if isinstance(layers, dict) else []
    valid = all(isinstance(names, list) for names in lists)
    valid = valid and all(isinstance(name, str) for names in lists for name in names)
    if not lists or not valid or stored.get('dtype') not in REAL[1:]:
        raise UsageError(
            f'real={stored!r:.200} must have a dtype of {", ".join(REAL[1:])} and lists of names by the names of layers'
        )


def restore_real(model: nn.Module, stored: Mapping[str, Any] | None) -> nn.Module:
    """Replace the convolutions of a packed model that a file names, in place. Their tensors are loaded later.

    Args:
        model (nn.Module): The packed model.
        stored (Mapping[str, Any], optional): ``real`` of the config of the file. None if it has none.

    Returns:
        nn.Module: The model.

    Raises:
        UsageError: if the model has no such convolution.
    """
    if stored is None:
        return model
    split_norms(model)
    dtype, modules = stored['dtype'], dict(model.named_modules())
    for name, following in stored['layers'].items():
        layer = modules.get(name)
        if isinstance(layer, ReducedConv2d) and (layer.dtype, list(layer.folded)) == (
            dtype,
            following,
        ):
            continue
        if not isinstance(layer, nn.Conv2d) or isinstance(layer, BinaryLayer):
            raise UsageError(
                f'{name!r:.200} is in {dtype} in the file, and no such convolution of the model'
            )
        if dtype == 'int8':
            _to_int8(model, layer, following)
        else:
            replace_modules(model, {layer: BFloat16Conv2d(layer)})
    fuse_norms(model)
    if packing := getattr(model, 'packing', None):  # the layers may be packed in parts of the model
        model.packing = replace(packing, real=dict.fromkeys(stored['layers'], dtype))
    return model


def _reason(layer: nn.Module, real: str) -> str:
    kind = type(layer).__name__
    if not isinstance(layer, nn.Conv2d):
        return f'it is a {kind}, not a Conv2d'
    if (
        forward_path(layer) not in FORWARDS
        or type(layer)._conv_forward is not nn.Conv2d._conv_forward
    ):
        return f'{kind} has a forward of its own'
    if 'weight' not in layer._parameters or has_hooks(layer):
        return 'it has hooks, or a weight that is computed'
    if layer.weight.dtype != torch.float32:
        return f'its weights are {layer.weight.dtype}, not float32'
    if layer.groups > 1 and layer.groups == layer.in_channels:
        return 'it is depthwise, which is faster in float32'
    return unsupported_reason(layer) if real == 'int8' else ''
