"""Workloads in other engines: in INT8, and a chain of binary layers in OpenVINO, the only other x86 engine of such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark_cases.inference import CHAIN, Workload, build, random_image
from surge_mm.deploy.onnx.int8_engines import ENGINES, compile_openvino
from surge_mm.deploy.packing.binary_weights import parts_of
from surge_mm.models import to_float

BINARY = 'OpenVINO binary'


def rival_names(what: str, engines: list[str]) -> list[str]:
    """Return the names of the variants of other engines.

    Args:
        what (str): The kind of workload.
        engines (list[str]): Keys of :data:`surge_mm.deploy.onnx.int8_engines.ENGINES`.
    """
    names = [ENGINES[engine].title for engine in engines]
    return names + [BINARY] * (what == CHAIN and 'openvino' in engines)


class RivalCase:
    """One workload in another engine, ready to run, with the weights of :class:`.inference.BenchmarkCase`.

    Args:
        name (str): One of :func:`rival_names`.
        workload (Workload): The network and the size of the image.

    Attributes:
        x (Tensor): Its input, ``(1, C, H, W)``.
    """

    bytes = None
    """The size of a file is not compared."""

    def __init__(self, name: str, workload: Workload) -> None:
        torch.manual_seed(0)
        model, self.x = build(workload), random_image(workload)
        if name == BINARY:
            assert isinstance(model, nn.Sequential)
            self._chain, self._runners = BinaryChain(model), {}
            return
        engine = next(engine for engine in ENGINES.values() if engine.title == name)
        self.run = engine(to_float(model).eval(), [self.x]).prepare(self.x)  # type: ignore[method-assign]

    def run(self) -> list[Any]:
        """Run the network on the image and return its outputs."""
        count = torch.get_num_threads()
        if count not in self._runners:
            self._runners[count] = self._chain.compile(tuple(self.x.shape), count)
        return self._runners[count](self.x.numpy())


class BinaryChain:
    """Binary convolutions with batch norms as ``FakeQuantize`` with two levels and ``BinaryConvolution`` of OpenVINO.

    A batch norm is the threshold of the signs behind it, and two operations behind the last convolution.

    Args:
        chain (nn.Sequential): Pairs of ``SurgeConv2d`` and a batch norm with positive weights.
    """

    def __init__(self, chain: nn.Sequential) -> None:
        self.layers = list(zip(list(chain)[::2], list(chain)[1::2], strict=True))
        self._owners: list[Any] = []  # of the memory of constants, which OpenVINO does not copy

    @torch.no_grad()
    def compile(self, shape: tuple[int, ...], threads: int) -> Callable[[Any], list[Any]]:
        """Return a function of an array that returns arrays.

        Args:
            shape (tuple[int]): Shape of the input.
            threads (int): Number of threads.
        """
        import openvino
        from openvino import opset1 as ops

        x = ops.parameter(list(shape), np.float32)
        y, threshold = x, np.zeros((1, 1, 1, 1), np.float32)
        zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
        for conv, norm in self.layers:
            weight, scale = parts_of(conv)[:2]
            assert scale is not None and norm.running_var is not None
            bits = np.packbits(weight.flatten().numpy() > 0, bitorder='little')
            self._owners.append(bits)
            tensor = openvino.Tensor(bits, openvino.Shape(list(weight.shape)), openvino.Type.u1)
            constant = openvino.op.Constant(tensor)
            y = ops.fake_quantize(y, threshold, threshold, zero, one, 2)
            ones = [1, 1]
            y = ops.binary_convolution(
                y,
                constant,
                ones,
                conv.padding,
                conv.padding,
                ones,
                'xnor-popcount',
                0.0,
                'explicit',
            )
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            shift = norm.bias - norm.running_mean * factor
            factor = factor * scale.flatten()
            threshold = _of_channels(-shift / factor)
        out = ops.add(ops.multiply(y, _of_channels(factor)), _of_channels(shift))
        return compile_openvino(openvino.Core(), openvino.Model([out], [x], 'chain'), threads)


def _of_channels(values: Tensor) -> Any:
    return values.detach().float().numpy().reshape(1, -1, 1, 1)
