"""What a model computes and stores, layer by layer: operations and bits, binary ones apart.

Operations are counted as papers on binary networks do: multiply-adds of convolutions and linear layers, real ones as
FLOPs, those of signs with signs as BOPs, of which 64 fit one instruction::

    OPs = FLOPs + BOPs / 64

Source: Liu et al., Bi-Real Net, arXiv 1808.00278, section 5.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from surge_mm.analysis.forward import network_forward
from surge_mm.analysis.size import Size, size_in_bits
from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.binarize import layer_reports
from surge_mm.ops import Real
from surge_mm.utils.errors import UsageError

BOPS_PER_OP = 64
BATCHED = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)


@dataclass(frozen=True)
class LayerCost:
    """One layer with a matrix of weights.

    Attributes:
        name (str): Its dotted name.
        type (str): Its class.
        shape (tuple[int, ...]): Of its weight.
        binary (bool): Whether its weights and inputs are signs.
        rule (str): Which rule decided about it; empty where none was asked.
        bits (int): Of its parameters in a trained network, auxiliary weights left out.
        flops (int): Multiply-adds with real numbers.
        bops (int): Multiply-adds of signs.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    binary: bool
    rule: str
    bits: int
    flops: int
    bops: int


@dataclass(frozen=True)
class Costs:
    """A model's layers and totals for one image.

    Attributes:
        layers (list[LayerCost]): In the order of the model.
        size (Size): Of all parameters, in bits.
        other (int): Multiply-adds outside of these layers, as of attention; not part of ``ops``.
    """

    layers: list[LayerCost]
    size: Size
    other: int

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers)

    @property
    def bops(self) -> int:
        return sum(layer.bops for layer in self.layers)

    @property
    def ops(self) -> float:
        """FLOPs + BOPs / 64."""
        return self.flops + self.bops / BOPS_PER_OP

    def as_dict(self) -> dict[str, Any]:
        """For other programs; sizes in MB (10^6 bytes)."""
        return {
            'ops': self.ops,
            'flops': self.flops,
            'bops': self.bops,
            'other_multiply_adds': self.other,
            'size_mb': self.size.total / 8e6,
            'float_size_mb': self.size.float / 8e6,
            'layers': [asdict(layer) for layer in self.layers],
        }


def count_costs(model: nn.Module, height: int, width: int) -> Costs:
    """Run the model once on one image and count.

    Multiply-adds come from PyTorch's own counter. A two-stage detector is counted with the proposals that its RPN makes
    of noise; with a trained RPN there may be fewer.

    Args:
        model (nn.Module): A detector of MMDetection, a classifier of MMPretrain, or any module of images. Its training
            modes are restored.
        height, width (int): Of the image, in pixels.

    Returns:
        Costs: The layers and the totals.

    Raises:
        UsageError: the model does not run on such an image.
    """
    weight = next(model.parameters())
    image = torch.randn(1, 3, height, width, device=weight.device, dtype=weight.dtype)
    counter = FlopCounterMode(display=False)
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    # attention as products of matrices, which the counter knows on every device
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            network_forward(model, image)()
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f'{type(model).__name__} does not run on one image of {height} x {width} pixels, so it cannot be counted: '
            f'{error}'
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training

    counts = {  # a multiply-add is two there; products of activations are not of a layer
        name.partition('.')[2]: sum(n for op, n in by_operator.items() if op not in BATCHED) // 2
        for name, by_operator in counter.get_flop_counts().items()
        if name != 'Global'
    }
    rules = {report.name: report.rule for report in layer_reports(model)}
    layers = []
    for names, layer in _weighted_layers(model):
        binary = isinstance(layer, BinaryLayer) and not isinstance(layer.weight_binarizer, Real)
        operations = sum(counts.get(name, 0) for name in names)
        layers.append(
            LayerCost(
                name=names[0],
                type=type(layer).__name__,
                shape=tuple(_matrix(layer).shape),
                binary=binary,
                rule=rules.get(names[0], ''),
                bits=size_in_bits(layer).total,
                flops=0 if binary else operations,
                bops=operations if binary else 0,
            )
        )
    counted = sum(layer.flops + layer.bops for layer in layers)
    return Costs(layers, size_in_bits(model), counter.get_total_flops() // 2 - counted)


def _weighted_layers(model: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """The layers with a matrix of weights, each once, with all their names: some heads share theirs between levels."""
    found: dict[int, tuple[list[str], nn.Module]] = {}
    inside_attention: set[int] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.MultiheadAttention):  # computes with its parts' weights itself
            inside_attention.update(id(inner) for inner in module.modules() if inner is not module)
        if id(module) not in inside_attention and _matrix(module).ndim >= 2:
            found.setdefault(id(module), ([], module))[0].append(name)
    return list(found.values())


def _matrix(module: nn.Module) -> Tensor:
    """The weights of a layer, of an attention the first of its matrices; a scalar where there are none."""
    for name in ('weight', 'in_proj_weight', 'q_proj_weight'):
        weight = module._parameters.get(name)
        if weight is not None:
            return weight
    return torch.zeros(())
