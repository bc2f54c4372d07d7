"""Trial run of a packed model on one image or text, and comparison with the model of the checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.model import BaseModel, BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from surge_mm.utils.errors import UsageError, describe_error
from surge_mm.utils.modules import takes_texts, vocabulary_size

DEPTH = 2
"""Levels of the model below its root whose outputs are compared: backbone, neck and heads, and their parts."""


TOKENS = 8
"""Number of tokens of a text."""


def trial_input_name(model: nn.Module, size: tuple[int, int]) -> str:
    """Return the name of the input of :func:`outputs_on_image`, such as ``'an image of 224x224'``.

    Args:
        model (nn.Module): As for :func:`outputs_on_image`.
        size (tuple[int, int]): As for :func:`outputs_on_image`.
    """
    if takes_texts(model):
        return f'a text of {TOKENS} tokens'
    return f'an image of {size[0]}x{size[1]}'


@torch.inference_mode()
def outputs_on_image(model: nn.Module, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return what a model predicts for an image of noise, or for a text of random tokens, and the outputs of its parts.

    Args:
        model (nn.Module): A model of MMDetection or MMPretrain, any module that takes images, or a
            :class:`surge_mm.TextClassifier`.
        size (tuple[int, int]): Height and width of the image, in pixels.

    Returns:
        dict[str, Tensor]: Tensors by the name of the module and their place in its output.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), generator=generator)
    found: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def keep(name: str, output: Any) -> None:
        calls[name] = calls.get(name, -1) + 1
        found.update(_tensors(output, f'{name} (call {calls[name]})'))

    handles = [
        part.register_forward_hook(lambda module, args, out, name=name: keep(name, out))
        for name, part in model.named_modules()
        if name and name.count('.') < DEPTH and isinstance(part, BaseModule)
    ]
    try:
        if takes_texts(model):
            keep('prediction', _read_text(model, generator))
        elif isinstance(model, BaseModel):
            batch = {'inputs': [image.byte()], 'data_samples': [_sample(model, size)]}
            keep('prediction', model.test_step(batch))
        else:
            keep('output', model(image[None].float() / 255))
    finally:
        for handle in handles:
            handle.remove()
    return found


def largest_difference(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two results of :func:`outputs_on_image`.

    Args:
        expected (Mapping[str, Tensor]): Outputs of the model of the checkpoint.
        got (Mapping[str, Tensor]): Outputs of the packed model. Names that only one of the two has are left out, but
            predictions have to be in both.

    Returns:
        float: The difference relative to the largest finite number of the tensor; infinity where shapes or predictions
        differ, or numbers that are not finite.
    """
    largest = 0.0
    for name in expected.keys() | got.keys():
        if name not in expected or name not in got:
            if name.startswith(('prediction', 'output')):
                return float('inf')
            continue
        one, other = expected[name].double(), got[name].double()
        if one.shape != other.shape:
            return float('inf')
        finite = one.isfinite()
        if not torch.equal(finite, other.isfinite()) or not torch.equal(
            one[~finite].nan_to_num(), other[~finite].nan_to_num()
        ):
            return float('inf')
        one, other = one[finite], other[finite]
        if not torch.equal(one, other):
            difference = float((one - other).abs().max() / one.abs().max())
            largest = max(largest, difference)
    return largest


def run_and_compare(
    model: nn.Module, reference: Mapping[str, Tensor], size: tuple[int, int]
) -> float:
    """Run a packed model on the image, and return the largest difference to the outputs of its checkpoint.

    Args:
        model (nn.Module): The packed model.
        reference (Mapping[str, Tensor]): Outputs of the model of the checkpoint, by :func:`outputs_on_image`.
        size (tuple[int, int]): Height and width of the image, in pixels.

    Raises:
        UsageError: if the packed model does not run.
    """
    try:
        return largest_difference(reference, outputs_on_image(model, size))
    except Exception as error:  # of any layer of the hosts
        raise UsageError(
            f'the packed model does not run on {trial_input_name(model, size)}, on which the trained model runs: '
            f'{describe_error(error)}. Keep the layer that this is about in full precision, by a rule '
            "dict(name='...', to='keep')"
        ) from error


def _read_text(model: Any, generator: torch.Generator) -> Any:
    ids = torch.randint(vocabulary_size(model.bert), (TOKENS,), generator=generator)
    inputs = {'input_ids': [ids], 'token_type_ids': [torch.zeros_like(ids)]}
    return model.test_step({'inputs': inputs})


def _sample(model: nn.Module, size: tuple[int, int]) -> BaseDataElement:
    from mmdet.models import BaseDetector
    from mmdet.structures import DetDataSample
    from mmpretrain.structures import DataSample

    cls = DetDataSample if isinstance(model, BaseDetector) else DataSample
    if 'mmseg' in sys.modules:
        from mmseg.models import BaseSegmentor
        from mmseg.structures import SegDataSample

        cls = SegDataSample if isinstance(model, BaseSegmentor) else cls
    metainfo = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0), 'img_id': 0}
    return cls(metainfo=metainfo)


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if torch.is_tensor(value):
        yield name, value.clone()
    elif isinstance(value, (Mapping, BaseDataElement)):
        for key, inner in value.items():
            yield from _tensors(inner, f'{name}.{key}')
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _tensors(inner, f'{name}.{i}')
