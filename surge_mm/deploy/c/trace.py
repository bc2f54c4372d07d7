"""Trace of a packed model: the operations that it calls for an image become nodes of a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from surge_mm.deploy.c.graph import Graph, Node
from surge_mm.deploy.epilogue import ROWS, Epilogue
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.deploy.packed_layers import PackedLayer
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d
from surge_mm.deploy.real_norms import NormPass
from surge_mm.deploy.signs import LayerOutput
from surge_mm.ops import Convolution
from surge_mm.utils.errors import UsageError

FUNCTIONS = ('sigmoid', 'silu', 'exp', 'hardsigmoid', 'hardswish')
"""Operators of one map, computed number by number."""
SAME = ('alias', 'clone', 'contiguous', 'detach', 'dropout', 'lift_fresh')
"""Operators that leave a map as it is."""
RESHAPES = ('_unsafe_view', 'as_strided', 'expand', 'flatten', 'reshape', 'squeeze', 'unsqueeze', 'view')


def trace(model: nn.Module, height: int, width: int) -> Graph:
    """Return the graph of a packed model.

    Args:
        model (nn.Module): A packed classifier, one-stage detector or module that takes images.
        height (int): Height of the image with which the model is run, in pixels.
        width (int): Its width.

    Raises:
        UsageError: if the model has an operation that C code cannot be written for.
    """
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    tracer = Tracer(model, image)
    with torch.no_grad(), tracer.leaves(), tracer:
        outputs = outputs_of(model, image)
    return Graph(tracer.nodes, {name: tracer.value(out) for name, out in outputs.items()})


class Tracer(TorchDispatchMode):
    """Record the operations on the maps of an image.

    Layers of packed models are nodes as a whole. All other operations are those of ATen.

    Args:
        model (nn.Module): The packed model.
        image (Tensor): ``(1, 3, H, W)``.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.names = {module: name for name, module in model.named_modules()}
        self._values: dict[int, int] = {id(image): 0}
        self._shapes: list[tuple[int, ...]] = [tuple(image.shape)]
        self._kept: list[Tensor] = [image]  # so that no other tensor gets their ids
        self._calls: list[nn.Module] = []

    def value(self, tensor: Any) -> int:
        """Return the map that a tensor is.

        Raises:
            UsageError: if it is none.
        """
        if id(tensor) not in self._values:
            raise self._unsupported('an output that is not computed from the image')
        return self._values[id(tensor)]

    def is_map(self, tensor: Any) -> bool:
        """Return whether a tensor is a map."""
        return id(tensor) in self._values

    def rename(self, tensor: Tensor, value: int) -> None:
        """Let a tensor be a map from now on."""
        self._values[id(tensor)] = value
        self._kept.append(tensor)

    def add(
        self,
        kind: str,
        inputs: list[Tensor],
        out: Tensor,
        name: str = '',
        shortcut: Tensor | None = None,
        steps: dict[str, np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        """Add a node whose output is the tensor ``out``."""
        reads = [self.value(x) for x in inputs]
        added = None if shortcut is None else self.value(shortcut)
        self._shapes.append(tuple(out.shape))
        value = len(self._shapes) - 1
        self.nodes.append(Node(kind, name or self._name(), reads, value, options, steps or {}, added))
        self.rename(out, value)

    def _name(self) -> str:
        return next((self.names[m] for m in reversed(self._calls) if self.names.get(m)), 'the model')

    def _unsupported(self, what: str, name: str = '') -> UsageError:
        return UsageError(
            f'{name or self._name()}: {what} has no form in C. The operators of ResNets, FPNs and one-stage heads '
            'have one; export the model as *.safetensors or *.onnx'
        )

    @contextlib.contextmanager
    def leaves(self) -> Iterator[None]:
        """Record packed layers as one node each, and follow which module is called."""
        run, compute, fuse = PackedLayer.run, Int8Conv2d.compute, NormPass.__call__

        def traced_run(
            layer: PackedLayer, x: Tensor, shortcut: Any = None, *_: Any, **__: Any
        ) -> LayerOutput:
            with self._paused():
                out = run(layer, x, shortcut)
            name = self.names[layer]
            if layer.offset is not None or any(layer.input_padding):
                what = 'weights of two values' if layer.offset is not None else layer.pad_mode
                raise self._unsupported(f'a binary layer with {what} in its filters or padding', name)
            options = {'weight': layer.weight_signs().numpy(), 'convolution': layer.convolution}
            options |= {'pad_value': layer.pad_value, 'shift': _numbers(layer.shift)}
            assert out.values is not None
            self.add('binary', [x], out.values, name, shortcut, steps_of(layer.epilogue), **options)
            return LayerOutput(out.values, None)

        def traced_compute(layer: Int8Conv2d, x: Tensor) -> Tensor:
            pool, layer.pool = layer.pool, None
            with self._paused():
                layer._prepared = None
                out = compute(layer, x)
            layer.pool, layer._prepared = pool, None
            name = self.names[layer]
            if any(layer.input_padding):
                raise self._unsupported(f'padding_mode={layer.padding_mode!r}', name)
            inverse, zero = layer.numbers.tolist()
            options = {'weight': layer.weight.numpy(), 'convolution': layer.convolution}
            options |= {'inverse': inverse, 'zero': int(zero)}
            self.add('int8', [x], out, name, None, steps_of(layer.epilogue), **options)
            return out if pool is None else pool(out)

        def traced_fuse(norm: NormPass, x: Tensor) -> Tensor:
            with self._paused():
                epilogue = Epilogue(norm.norm.num_features)
                epilogue.fold_norm(norm.norm)
                if norm.after.activation is not None:
                    epilogue.fold_activation(norm.after.activation)
                out = epilogue(x)
            self.add('pointwise', [x], out, self.names[norm.norm], None, steps_of(epilogue))
            pool = norm.after.pool
            return out if pool is None else type(pool).forward(pool, out)

        def entered(module: nn.Module, _: Any) -> None:
            if isinstance(module, ReducedConv2d) and not isinstance(module, Int8Conv2d):
                raise self._unsupported(f'a convolution in {module.dtype}', self.names[module])
            self._calls.append(module)

        def left(module: nn.Module, *_: Any) -> None:
            self._calls.pop()

        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(PackedLayer, 'run', traced_run))
            stack.enter_context(patch.object(Int8Conv2d, 'compute', traced_compute))
            stack.enter_context(patch.object(NormPass, '__call__', traced_fuse))
            stack.callback(register_module_forward_pre_hook(entered).remove)
            stack.callback(register_module_forward_hook(left).remove)
            yield

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        with torch.utils._python_dispatch._disable_current_modes():
            yield

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(zip([a.name for a in func._schema.arguments], args)) | (kwargs or {})
        given = {a.name: a.default_value for a in func._schema.arguments} | given
        out = func(*args, **(kwargs or {}))
        tensors = [t for v in given.values() for t in (v if isinstance(v, list) else [v])]
        if any(self.is_map(t) for t in tensors):
            name = func._schema.name.partition('::')[2]
            first = out[0] if isinstance(out, (tuple, list)) else out
            self._record(name.removesuffix('_'), given, first)
        return out

    def _record(self, name: str, given: dict[str, Any], out: Tensor) -> None:
        """Add the node of an operator of ATen.

        Args:
            name (str): Name of the operator.
            given (dict[str, Any]): Its arguments by name.
            out (Tensor): Its output.
        """
        x = given.get('input', given.get('self'))
        handler: Callable[..., None] | None = getattr(self, f'_{name.lstrip("_")}', None)
        if handler is not None:
            handler(given, x, out)
        elif name in FUNCTIONS:
            self.add('function', [x], out, function=name)
        elif name in SAME or (name == '_to_copy' and out.dtype == x.dtype):
            self.rename(out, self.value(x))
        elif name in RESHAPES and (out.shape == x.shape or x.numel() == max(x.shape) == max(out.shape)):
            self.rename(out, self.value(x))
        else:
            raise self._unsupported(f'the operator {name}')

    def _convolution(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        if given['transposed'] or not self.is_map(x):
            raise self._unsupported('a transposed convolution')
        (stride, (top, left), dilation) = (tuple(given[k]) for k in ('stride', 'padding', 'dilation'))
        convolution = Convolution(stride, (left, left, top, top), dilation, given['groups'])
        options = {'weight': _numbers(given['weight']), 'bias': _numbers(given['bias'])}
        self.add('float', [x], out, convolution=convolution, **options)

    def _addmm(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        weight = _numbers(given['mat2'].t().contiguous())[:, :, None, None]
        options = {'weight': weight, 'bias': _numbers(x), 'convolution': Convolution()}
        self.add('float', [given['mat1']], out, **options)

    def _mm(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        weight = _numbers(given['mat2'].t().contiguous())[:, :, None, None]
        self.add('float', [x], out, weight=weight, bias=None, convolution=Convolution())

    def _native_batch_norm(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        if given['training']:
            raise self._unsupported('a batch norm that uses statistics of the batch')
        norm = nn.BatchNorm2d(x.shape[1], given['eps'], affine=given['weight'] is not None).eval()
        norm.running_mean, norm.running_var = given['running_mean'], given['running_var']
        if norm.affine:
            norm.weight, norm.bias = (
                nn.Parameter(given[k], requires_grad=False) for k in ('weight', 'bias')
            )
        with self._paused():
            epilogue = Epilogue(x.shape[1])
            epilogue.fold_norm(norm)
        self.add('pointwise', [x], out, steps=steps_of(epilogue))

    def _step(self, x: Tensor, out: Tensor, **numbers: Any) -> None:
        """Add an epilogue of a number for all channels, or one for each channel, of each step."""
        steps = {}
        for step, value in numbers.items():
            values = np.float32(value) if not torch.is_tensor(value) else _numbers(value)
            if values.size not in (1, x.shape[1]) or (
                values.ndim > 1 and values.size != values.shape[-3 if values.ndim > 2 else -1]
            ):
                raise self._unsupported(f'a constant map of shape {tuple(values.shape)}')
            steps[step] = np.broadcast_to(values.reshape(-1), (x.shape[1],)).astype(np.float32)
        self.add('pointwise', [x], out, steps=steps)

    def _relu(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        self._step(x, out, low=0.0, high=np.inf)

    def _hardtanh(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        self._step(x, out, low=given['min_val'], high=given['max_val'])

    def _clamp(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        low, high = given['min'], given.get('max')
        self._step(x, out, low=-np.inf if low is None else low, high=np.inf if high is None else high)

    _clamp_min = _clamp

    def _leaky_relu(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        self._step(x, out, slope=given['negative_slope'])

    def _prelu_kernel(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        self._step(x, out, slope=given['weight'])

    def _add(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        other = given['other']
        if given['alpha'] != 1:
            raise self._unsupported('a sum with a factor')
        if not self.is_map(x):
            x, other = other, x
        if not self.is_map(other):
            self._step(x, out, a1=other)
        elif x.shape == other.shape:
            self.add('pointwise', [x], out, shortcut=other)
        else:
            raise self._unsupported('a sum of maps of different shapes')

    def _mul(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        other = given['other']
        if not self.is_map(x):
            x, other = other, x
        if not self.is_map(other):
            self._step(x, out, m1=other)
            return
        if x.shape[2:].numel() == 1:
            x, other = other, x
        if other.shape[2:].numel() != 1 or x.shape[1] != other.shape[1]:
            raise self._unsupported('a product of two maps')
        self.add('scale', [x, other], out)

    def _div(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        raise self._unsupported('a quotient')

    def _max_pool2d_with_indices(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        if tuple(given['dilation']) != (1, 1):
            raise self._unsupported('a max pool with dilation')
        self.add('max_pool', [x], out, **_window(given))

    _max_pool2d = _max_pool2d_with_indices

    def _avg_pool2d(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        counts_border = given['count_include_pad'] and any(given['padding'])
        if given['divisor_override'] is not None or counts_border:
            raise self._unsupported('an average pool that counts its border')
        self.add('average_pool', [x], out, **_window(given))

    def _mean(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        dims = {d % x.dim() for d in given['dim'] or ()}
        if x.dim() != 4 or dims != {2, 3}:
            raise self._unsupported(f'the mean over the dimensions {given["dim"]}')
        self.add('global_average', [x], out)

    def _adaptive_avg_pool2d(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        if tuple(out.shape[2:]) != (1, 1):
            raise self._unsupported(f'an adaptive average pool to {tuple(out.shape[2:])}')
        self.add('global_average', [x], out)

    def _upsample_nearest2d(self, given: dict[str, Any], x: Tensor, out: Tensor) -> None:
        factors = given.get('scale_factors') or [given.get('scales_h'), given.get('scales_w')]
        if factors[0] is not None:
            if factors[0] != factors[1] or factors[0] != int(factors[0]):
                raise self._unsupported(f'upsampling by {factors}')
            self.add('upsample', [x], out, factor=int(factors[0]))
            return
        same = [i for i, shape in enumerate(self._shapes) if shape[2:] == out.shape[2:]]
        if not same:
            raise self._unsupported('upsampling to a size that no map has')
        self.add('upsample', [x], out)
        self.nodes[-1].inputs.append(same[-1])

    def _cat(self, given: dict[str, Any], x: None, out: Tensor) -> None:
        tensors = given['tensors']
        if given['dim'] % out.dim() != 1:
            raise self._unsupported(f'concatenation along dimension {given["dim"]}')
        self.add('concatenate', tensors, out)


def _window(given: dict[str, Any]) -> dict[str, Any]:
    kernel, stride, padding = (
        tuple(given[name]) for name in ('kernel_size', 'stride', 'padding')
    )
    stride = stride or kernel
    pairs = [v * 2 if len(v) == 1 else v for v in (kernel, stride, padding)]
    names = ('kernel', 'stride', 'padding')
    return dict(zip(names, pairs, strict=True)) | {'ceil_mode': given['ceil_mode']}


def _numbers(values: Tensor | None) -> Any:
    return None if values is None else values.detach().cpu().float().contiguous().numpy().copy()


def steps_of(epilogue: Epilogue) -> dict[str, np.ndarray]:
    """Return the steps of an epilogue that are not left out.

    Args:
        epilogue (Epilogue): The epilogue of a packed layer.
    """
    return {name: _numbers(getattr(epilogue, name)) for name in ROWS if getattr(epilogue, name) is not None}
