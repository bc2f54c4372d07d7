"""Operators of ATen as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from surge_mm.deploy.packing.epilogue import ROWS, Epilogue
from surge_mm.ops import Convolution

if TYPE_CHECKING:
    from surge_mm.deploy.c.trace import Tracer

Given = dict[str, Any]
"""Arguments of an operator by name."""


def _convolution(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    if given['transposed'] or not tracer.is_map(x):
        raise tracer.unsupported('a transposed convolution')
    (stride, (top, left), dilation) = (tuple(given[k]) for k in ('stride', 'padding', 'dilation'))
    convolution = Convolution(stride, (left, left, top, top), dilation, given['groups'])
    options = {'weight': numbers(given['weight']), 'bias': numbers(given['bias'])}
    tracer.add('float', [x], out, convolution=convolution, **options)


def _addmm(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    if given['beta'] != 1 or given['alpha'] != 1 or tracer.is_map(given['mat2']):
        raise tracer.unsupported('a product of two matrices')
    weight = numbers(given['mat2'].t().contiguous())[:, :, None, None]
    options = {'weight': weight, 'bias': numbers(x), 'convolution': Convolution()}
    tracer.add('float', [given['mat1']], out, **options)


def _mm(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    if tracer.is_map(given['mat2']):
        raise tracer.unsupported('a product of two maps')
    weight = numbers(given['mat2'].t().contiguous())[:, :, None, None]
    tracer.add('float', [x], out, weight=weight, bias=None, convolution=Convolution())


def _native_batch_norm(tracer: Tracer, given: Given, x: Any, outs: Sequence[Tensor]) -> None:
    if given['training']:
        raise tracer.unsupported('a batch norm that uses statistics of the batch')
    norm = nn.BatchNorm2d(x.shape[1], given['eps'], affine=given['weight'] is not None).eval()
    norm.running_mean, norm.running_var = given['running_mean'], given['running_var']
    if norm.affine:
        norm.weight, norm.bias = (
            nn.Parameter(given[k], requires_grad=False) for k in ('weight', 'bias')
        )
    with tracer.paused():
        epilogue = Epilogue(x.shape[1])
        epilogue.fold_norm(norm)
    tracer.add('pointwise', [x], outs[0], steps=steps_of(epilogue))


def _step(tracer: Tracer, x: Tensor, out: Tensor, **values: Any) -> None:
    """Add an epilogue of a number for all channels, or one for each channel, of each step."""
    steps = {}
    for step, value in values.items():
        shape = tuple(value.shape) if torch.is_tensor(value) else ()
        channels = shape[-3] if len(shape) > 2 else shape[-1] if shape else 1
        if channels not in (1, x.shape[1]) or np.prod(shape) != channels:
            raise tracer.unsupported(f'a constant map of shape {shape}')
        flat = numbers(torch.as_tensor(value)).reshape(-1)
        steps[step] = np.broadcast_to(flat, (x.shape[1],)).copy()
    tracer.add('pointwise', [x], out, steps=steps)


def _relu(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    _step(tracer, x, out, low=0.0, high=np.inf)


def _hardtanh(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    _step(tracer, x, out, low=given['min_val'], high=given['max_val'])


def _clamp(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    low, high = given['min'], given.get('max')
    _step(
        tracer, x, out, low=-np.inf if low is None else low, high=np.inf if high is None else high
    )


def _leaky_relu(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    _step(tracer, x, out, slope=given['negative_slope'])


def _prelu_kernel(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    _step(tracer, x, out, slope=given['weight'])


def _add(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    other = given['other']
    if given['alpha'] != 1:
        raise tracer.unsupported('a sum with a factor')
    if not tracer.is_map(x):
        x, other = other, x
    if not tracer.is_map(other):
        _step(tracer, x, out, a1=other)
    elif x.shape == other.shape:
        tracer.add('pointwise', [x], out, shortcut=other)
    else:
        raise tracer.unsupported('a sum of maps of different shapes')


def _mul(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    other = given['other']
    if not tracer.is_map(x):
        x, other = other, x
    if not tracer.is_map(other):
        _step(tracer, x, out, m1=other)
        return
    if x.shape[2:].numel() == 1:
        x, other = other, x
    if x.dim() != 4 or other.shape != (*x.shape[:2], 1, 1):
        raise tracer.unsupported('a product of two maps')
    tracer.add('scale', [x, other], out)


def _max_pool2d_with_indices(tracer: Tracer, given: Given, x: Any, outs: Sequence[Tensor]) -> None:
    _max_pool2d(tracer, given, x, outs[0])


def _max_pool2d(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    if tuple(given['dilation']) != (1, 1):
        raise tracer.unsupported('a max pool with dilation')
    tracer.add('max_pool', [x], out, **_window(given))


def _avg_pool2d(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    counts_border = given['count_include_pad'] and any(given['padding'])
    if given['divisor_override'] is not None or counts_border:
        raise tracer.unsupported('an average pool that counts its border')
    tracer.add('average_pool', [x], out, **_window(given))


def _mean(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    dims = {d % x.dim() for d in given['dim'] or ()}
    if x.dim() != 4 or dims != {2, 3}:
        raise tracer.unsupported(f'the mean over the dimensions {given["dim"]}')
    tracer.add('global_average', [x], out)


def _adaptive_avg_pool2d(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    if tuple(out.shape[2:]) != (1, 1):
        raise tracer.unsupported(f'an adaptive average pool to {tuple(out.shape[2:])}')
    tracer.add('global_average', [x], out)


def _upsample_nearest2d(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    factors = given.get('scale_factors') or [given.get('scales_h'), given.get('scales_w')]
    if factors[0] is not None:
        if factors[0] != factors[1] or factors[0] != int(factors[0]):
            raise tracer.unsupported(f'upsampling by {factors}')
        tracer.add('upsample', [x], out, factor=int(factors[0]))
        return
    same = [i for i, shape in enumerate(tracer.map_shapes) if shape[2:] == out.shape[2:]]
    if not same:
        raise tracer.unsupported('upsampling to a size that no map has')
    tracer.add('upsample', [x], out)
    tracer.nodes[-1].inputs.append(same[-1])


def _cat(tracer: Tracer, given: Given, x: Any, out: Tensor) -> None:
    tensors = given['tensors']
    if given['dim'] % out.dim() != 1:
        raise tracer.unsupported(f'concatenation along dimension {given["dim"]}')
    tracer.add('concatenate', tensors, out)


def _split(tracer: Tracer, given: Given, x: Any, outs: Sequence[Tensor]) -> None:
    if given['dim'] % x.dim() != 1:
        raise tracer.unsupported(f'a split along dimension {given["dim"]}')
    first = 0
    for out in outs:
        tracer.add('slice', [x], out, first=first, channels=out.shape[1])
        first += out.shape[1]


def _window(given: dict[str, Any]) -> dict[str, Any]:
    kernel, stride, padding = (tuple(given[name]) for name in ('kernel_size', 'stride', 'padding'))
    stride = stride or kernel
    pairs = [v * 2 if len(v) == 1 else v for v in (kernel, stride, padding)]
    names = ('kernel', 'stride', 'padding')
    return dict(zip(names, pairs, strict=True)) | {'ceil_mode': given['ceil_mode']}


def numbers(values: Tensor | None) -> Any:
    """Return a copy of a tensor as an array of float32; None for None."""
    return None if values is None else values.detach().cpu().float().contiguous().numpy().copy()


def steps_of(epilogue: Epilogue) -> dict[str, np.ndarray]:
    """Return the steps of an epilogue that are not left out.

    Args:
        epilogue (Epilogue): The epilogue of a packed layer.
    """
    return {
        name: numbers(getattr(epilogue, name))
        for name in ROWS
        if getattr(epilogue, name) is not None
    }


OPERATORS: dict[str, Callable[[Tracer, Given, Any, Any], None]] = {
    'convolution': _convolution,
    'addmm': _addmm,
    'mm': _mm,
    'native_batch_norm': _native_batch_norm,
    'relu': _relu,
    'hardtanh': _hardtanh,
    'clamp': _clamp,
    'leaky_relu': _leaky_relu,
    '_prelu_kernel': _prelu_kernel,
    'add': _add,
    'mul': _mul,
    'max_pool2d_with_indices': _max_pool2d_with_indices,
    'avg_pool2d': _avg_pool2d,
    'mean': _mean,
    '_adaptive_avg_pool2d': _adaptive_avg_pool2d,
    'upsample_nearest2d': _upsample_nearest2d,
    'cat': _cat,
    'clamp_min': _clamp,
    'max_pool2d': _max_pool2d,
    'split_with_sizes': _split,
    'split': _split,
}
"""How a node is made of each operator that has a form in C, beside those of :mod:`surge_mm.deploy.c.trace`."""
