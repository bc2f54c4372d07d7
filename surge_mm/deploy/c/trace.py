"""Trace of a packed model: the operations that it calls for an image become nodes of a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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

from surge_mm.deploy.c.graph import Graph, Node, Shape
from surge_mm.deploy.c.operators import OPERATORS, numbers, steps_of
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.deploy.packing.epilogue import Epilogue
from surge_mm.deploy.packing.packed_layers import PackedLayer
from surge_mm.deploy.packing.real_norms import NormPass
from surge_mm.deploy.packing.signs import LayerOutput
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d
from surge_mm.utils.errors import UsageError

FUNCTIONS = ('sigmoid', 'silu', 'exp', 'hardsigmoid', 'hardswish')
"""Operators of one map, computed number by number."""
SAME = ('alias', 'clone', 'contiguous', 'detach', 'dropout', 'lift_fresh')
"""Operators that leave a map as it is."""
RESHAPES = (
    '_unsafe_view',
    'as_strided',
    'expand',
    'flatten',
    'reshape',
    'squeeze',
    'unsqueeze',
    'view',
)


def trace(model: nn.Module, height: int, width: int) -> Graph:
    """Return the graph of a packed model.

    Args:
        model (nn.Module): A packed classifier, one-stage detector or module that takes images.
        height (int): Height of the image with which the model is run, in pixels.
        width (int): Its width.

    Raises:
        UsageError: if the model has an operation that C code cannot be written for.
    """
    # in inference mode, operators such as conv2d are not divided into those of ATen
    with torch.inference_mode(False), torch.no_grad():
        image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        tracer = Tracer(model, image)
        with tracer.leaves(), tracer:
            outputs = outputs_of(model, image)
    named = {name: tracer.value(out) for name, out in outputs.items()}
    return Graph(tracer.nodes, named, traced=tracer.shapes())


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
        self.map_shapes: list[tuple[int, ...]] = [tuple(image.shape)]
        self._kept: list[Tensor] = [image]  # so that no other tensor gets their ids
        self._calls: list[nn.Module] = []

    def value(self, tensor: Any) -> int:
        """Return the map that a tensor is.

        Raises:
            UsageError: if it is none.
        """
        if id(tensor) not in self._values:
            raise self.unsupported('an output that is not computed from the image')
        return self._values[id(tensor)]

    def shapes(self) -> dict[int, Shape]:
        """Return the shapes of all maps."""
        padded = [(*shape, 1, 1)[:4] for shape in self.map_shapes]
        return {i: Shape(shape[2], shape[3], shape[1]) for i, shape in enumerate(padded)}

    def maps(self) -> dict[int, Tensor]:
        """Return the tensors of all maps, without those that an operator has overwritten."""
        return {self._values[id(tensor)]: tensor for tensor in reversed(self._kept)}

    def is_map(self, tensor: Any) -> bool:
        """Return whether a tensor is a map."""
        return id(tensor) in self._values

    def rename(self, tensor: Tensor, value: int) -> None:
        """Let a tensor be a map from now on.

        Args:
            tensor (Tensor): The tensor.
            value (int): The map.
        """
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
        """Add a node.

        Args:
            kind (str): Its kind.
            inputs (list[Tensor]): Maps that it reads.
            out (Tensor): Its output, which is a map from now on.
            name (str): Name of its module. Defaults to that of the module that is being called.
            shortcut (Tensor, optional): Map that is added in the epilogue.
            steps (dict[str, np.ndarray], optional): Steps of the epilogue.
            **options (Any): Numbers of this kind.
        """
        reads = [self.value(x) for x in inputs]
        added = None if shortcut is None else self.value(shortcut)
        self.map_shapes.append(tuple(out.shape))
        value = len(self.map_shapes) - 1
        self.nodes.append(
            Node(kind, name or self._name(), reads, value, options, steps or {}, added)
        )
        self.rename(out, value)

    def _name(self) -> str:
        return next(
            (self.names[m] for m in reversed(self._calls) if self.names.get(m)), 'the model'
        )

    def unsupported(self, what: str, name: str = '') -> UsageError:
        """Return the error for an operation that has no form in C.

        Args:
            what (str): The operation.
            name (str): Name of its module. Defaults to that of the module that is being called.
        """
        return UsageError(
            f'{name or self._name()}: {what} has no form in C. The operators of ResNets, FPNs and one-stage heads '
            'have one; export the model as *.safetensors or *.onnx'
        )

    @contextlib.contextmanager
    def leaves(self) -> Iterator[None]:
        """Record packed layers as one node each, and follow which module is called."""
        run, compute = PackedLayer.run, Int8Conv2d.compute

        def traced_run(
            layer: PackedLayer, x: Tensor, shortcut: Any = None, *_: Any, **__: Any
        ) -> LayerOutput:
            with self.paused():
                out = run(layer, x, shortcut)
            name = self.names[layer]
            if layer.offset is not None or any(layer.input_padding):
                what = 'weights of two values' if layer.offset is not None else layer.pad_mode
                raise self.unsupported(
                    f'a binary layer with {what} in its filters or padding', name
                )
            options = {'weight': layer.weight_signs().numpy(), 'convolution': layer.convolution}
            options |= {'pad_value': layer.pad_value, 'shift': numbers(layer.shift)}
            assert out.values is not None
            self.add('binary', [x], out.values, name, shortcut, steps_of(layer.epilogue), **options)
            return LayerOutput(out.values, None)

        def traced_compute(layer: Int8Conv2d, x: Tensor) -> Tensor:
            pool, layer.pool = layer.pool, None
            with self.paused():
                layer.drop_prepared()
                out = compute(layer, x)
            layer.pool = pool
            layer.drop_prepared()
            name = self.names[layer]
            if any(layer.input_padding):
                raise self.unsupported(f'padding_mode={layer.padding_mode!r}', name)
            inverse, zero = layer.numbers.tolist()
            options = {'weight': layer.weight.numpy(), 'convolution': layer.convolution}
            options |= {'inverse': inverse, 'zero': int(zero)}
            self.add('int8', [x], out, name, None, steps_of(layer.epilogue), **options)
            return out if pool is None else pool(out)

        def traced_fuse(norm: NormPass, x: Tensor) -> Tensor:
            with self.paused():
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
                raise self.unsupported(f'a convolution in {module.dtype}', self.names[module])
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
    def paused(self) -> Iterator[None]:
        with torch.utils._python_dispatch._disable_current_modes():
            yield

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {a.name: a.default_value for a in func._schema.arguments} | (kwargs or {})
        given |= zip(given, args, strict=False)
        out = func(*args, **(kwargs or {}))
        tensors = [t for v in given.values() for t in (v if isinstance(v, list) else [v])]
        if any(self.is_map(t) for t in tensors):
            name = func._schema.name.partition('::')[2]
            self._record(name.removesuffix('_'), given, out)
        return out

    def _record(self, name: str, given: dict[str, Any], out: Any) -> None:
        """Add the node of an operator of ATen.

        Args:
            name (str): Name of the operator.
            given (dict[str, Any]): Its arguments by name.
            out (Tensor | Sequence[Tensor]): Its output.
        """
        x: Any = given.get('input', given.get('self'))
        operator = OPERATORS.get(name)
        if operator is not None:
            operator(self, given, x, out)
        elif name in FUNCTIONS:
            self.add('function', [x], out, function=name)
        elif name in SAME or self._is_same(name, x, out):
            self.rename(out, self.value(x))
        else:
            raise self.unsupported(f'the operator {name}')

    @staticmethod
    def _is_same(name: str, x: Tensor, out: Tensor) -> bool:
        """Return whether an operator leaves the numbers of a map in their order."""
        if name == '_to_copy':
            return out.dtype == x.dtype
        of_one_pixel = x.numel() == max(x.shape) == max(out.shape)
        return name in RESHAPES and (out.shape == x.shape or of_one_pixel)
