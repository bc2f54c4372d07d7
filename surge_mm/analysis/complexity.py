"""Operations and size of a model, layer by layer, with binary layers counted apart.

Operations are counted as in papers on binary networks: multiply-adds of convolutions and linear layers. Those of real
numbers are FLOPs. Those of signs with signs are BOPs, of which one instruction computes 64::

    OPs = FLOPs + BOPs / 64

Source: Liu et al., Bi-Real Net, arXiv 1808.00278, section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import module_tracker
from torch.utils.flop_counter import FlopCounterMode

from surge_mm.analysis.forward import input_name, network_forward, random_input
from surge_mm.layers import BinaryEmbedding, BinaryLayer
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.models.binarization.shortcuts import layers_with_shortcuts
from surge_mm.models.binarization.weight_use import WeightUse
from surge_mm.ops import Real
from surge_mm.utils.errors import UsageError, describe_error

BOPS_PER_OP = 64
WITH_WEIGHT = (BinaryLayer, BinaryEmbedding)
"""Modules whose weight may be binary."""
ACTIVATION_PRODUCTS = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Matrix products of two activations, as in attention. Of the layers, only linear ones may be computed by them."""
DEFORMABLE = {'DeformConv2d', 'ModulatedDeformConv2d'}
"""Base classes of deformable convolutions in MMCV and torchvision, whose operators PyTorch's counter does not have."""


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a model in bits, without auxiliary weights.

    Attributes:
        binary (int): signs of binary weights, one bit each.
        real (int): all other numbers that inference needs, 32 bits each: real weights, biases, norms, and the scales
            (and shifts) of binary filters.
        float (int): parameters of the same network with real layers, 32 bits each.
        buffers (int): persistent buffers, such as the statistics of norms. Part of no other size, as in papers.
    """

    binary: int
    real: int
    float: int
    buffers: int

    @property
    def total(self) -> int:
        """Bits of the parameters of the binary network."""
        return self.binary + self.real

    @property
    def float_bytes(self) -> int:
        """Bytes of parameters and buffers of the same network with real layers."""
        return (self.float + self.buffers) // 8


@dataclass(frozen=True)
class LayerComplexity:
    """Operations and size of one layer that has a weight matrix.

    Attributes:
        name (str): dotted name.
        type (str): name of its class.
        shape (tuple[int, ...]): shape of its weight.
        binary (bool): whether its weights and inputs are signs.
        rule (str): the rule of :func:`surge_mm.binarize` that decided about it; empty if none did.
        shortcut (bool): whether :func:`surge_mm.binarize` gave it a shortcut.
        bits (int): bits of its parameters in a trained network, without auxiliary weights.
        flops (int): multiply-adds of real numbers for one image.
        bops (int): multiply-adds of signs for one image.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    binary: bool
    rule: str
    shortcut: bool
    bits: int
    flops: int
    bops: int


@dataclass(frozen=True)
class ModelComplexity:
    """Operations of a model for one image, and its size.

    Attributes:
        layers (list[LayerComplexity]): layers with a weight matrix, in the order of the model.
        size (ModelSize): size of all parameters.
        other (int): multiply-adds outside of these layers, such as those of attention. Not part of ``ops``.
    """

    layers: list[LayerComplexity]
    size: ModelSize
    other: int

    @property
    def flops(self) -> int:
        """Multiply-adds of real numbers."""
        return sum(layer.flops for layer in self.layers)

    @property
    def bops(self) -> int:
        """Multiply-adds of signs."""
        return sum(layer.bops for layer in self.layers)

    @property
    def ops(self) -> float:
        """FLOPs + BOPs / 64."""
        return self.flops + self.bops / BOPS_PER_OP

    @property
    def float_ops(self) -> int:
        """FLOPs of the same network in full precision."""
        return self.flops + self.bops

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON, with sizes in MB (10^6 bytes)."""
        return {
            'ops': self.ops,
            'float_ops': self.float_ops,
            'flops': self.flops,
            'bops': self.bops,
            'other_multiply_adds': self.other,
            'size_mb': self.size.total / 8e6,
            'float_size_mb': self.size.float / 8e6,
            'layers': [asdict(layer) for layer in self.layers],
        }


def model_size(model: nn.Module) -> ModelSize:
    """Count the bits of a model. Shared parameters and buffers count once.

    Args:
        model (nn.Module): the model, with or without binary layers.

    Returns:
        ModelSize: the sizes in bits.
    """
    binary_weights, scales = 0, 0
    auxiliary: set[int] = set()
    buffers: dict[int, Tensor] = {}
    for module in model.modules():
        persistent = module._buffers.keys() - module._non_persistent_buffers_set
        buffers |= {id(b): b for name in persistent if (b := module._buffers[name]) is not None}
        if isinstance(module, BinaryLayer):
            auxiliary.add(id(module.aux_weight))
        if isinstance(module, WITH_WEIGHT) and _has_binary_weights(module):
            binary_weights += module.weight.numel()
            scales += module.weight_binarizer.numbers_per_filter * module.weight.shape[0]
    numbers = sum(p.numel() for p in model.parameters() if id(p) not in auxiliary)
    return ModelSize(
        binary=binary_weights,
        real=32 * (numbers - binary_weights + scales),
        float=32 * numbers,
        buffers=8 * sum(buffer.nbytes for buffer in buffers.values()),
    )


def model_complexity(model: nn.Module, *size: int) -> ModelComplexity:
    """Run a model once on an image of noise, or on a text of random tokens, and count its operations.

    PyTorch's own counter counts the multiply-adds. A deformable convolution has those of the plain one with the same
    output; the layer that predicts its offsets is counted apart. A two-stage detector is counted with the proposals
    that its RPN predicts for noise; a trained RPN may predict fewer.

    Args:
        model (nn.Module): a detector of MMDetection, a classifier of MMPretrain, a :class:`surge_mm.TextClassifier`, or
            any module that takes images. The training mode of each module is restored.
        *size (int): height and width of the image in pixels; or the number of tokens of the text alone.

    Returns:
        ModelComplexity: operations and size of each layer, and the totals.

    Raises:
        UsageError: if the model does not run on an input of this size, or computes with the weight of a binary layer
            instead of calling the layer.
    """
    counter = FlopCounterMode(display=False)
    # the counter also follows the backward pass, and fails at a view of a parameter, which has no gradient here
    forward_alone = patch.object(module_tracker, 'register_multi_grad_hook')
    modes = {module: module.training for module in model.modules()}
    # a product with a weight that requires no gradient may be counted as one of two activations
    frozen = [
        p
        for p in model.parameters()
        if p.is_floating_point() and not (p.requires_grad or p.is_inference())
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    deformable: Counter[nn.Module] = Counter()

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        deformable[layer] += output.numel() * _weight_matrix(layer)[0].numel()

    hooks = [m.register_forward_hook(count) for m in modes if DEFORMABLE & base_class_names(m)]
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(True)
    # attention as matrix products, which the counter counts on every device
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            forward_alone,
            sdpa_kernel(SDPBackend.MATH),
            counter,
            WeightUse(model) as use,
        ):
            network_forward(model, random_input(model, size))()
        use.require_own()
        use.warn_of_unused('the network that is counted')
    except UsageError:
        raise
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f'{type(model).__name__} does not run on one {input_name(size)}: {describe_error(error)}. Choose another '
            'size'
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
        for parameter in frozen:
            parameter.requires_grad_(False)

    counts = {
        name.partition('.')[2]: by_operator
        for name, by_operator in counter.get_flop_counts().items()
        if name != 'Global'
    }
    rules = {report.name: report.rule for report in layer_reports(model)}
    shortcuts = layers_with_shortcuts(model)
    layers = []
    weighted = _weighted_layers(model)
    own_counts, own_bits = _without_inner(weighted, counts)
    for names, layer in weighted:
        # PyTorch may compute a linear layer as a batch of products, if its input is not contiguous
        apart = () if isinstance(layer, nn.Linear) else ACTIVATION_PRODUCTS
        # the counter counts a multiply-add as two
        operations = sum(n for op, n in own_counts[layer].items() if op not in apart) // 2
        operations += deformable[layer]
        binary = _has_binary_weights(layer)
        layers.append(
            LayerComplexity(
                name=names[0],
                type=type(layer).__name__,
                shape=tuple(_weight_matrix(layer).shape),
                binary=binary,
                rule=rules.get(names[0], ''),
                shortcut=layer in shortcuts,
                bits=own_bits[layer],
                flops=0 if binary else operations,
                bops=operations if binary else 0,
            )
        )
    counted = sum(layer.flops + layer.bops for layer in layers)
    whole = counter.get_total_flops() // 2 + deformable.total()
    return ModelComplexity(layers, model_size(model), whole - counted)


def _has_binary_weights(layer: nn.Module) -> bool:
    return isinstance(layer, WITH_WEIGHT) and not isinstance(layer.weight_binarizer, Real)


def _weighted_layers(model: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """Return each layer that has a weight matrix once, with all its names: heads may share layers between levels."""
    found: dict[int, tuple[list[str], nn.Module]] = {}
    inside_attention: set[int] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.MultiheadAttention):  # uses the weights of its parts directly
            inside_attention.update(id(inner) for inner in module.modules() if inner is not module)
        if id(module) not in inside_attention and _weight_matrix(module).ndim >= 2:
            found.setdefault(id(module), ([], module))[0].append(name)
    return list(found.values())


def _without_inner(
    weighted: list[tuple[list[str], nn.Module]], counts: Mapping[str, Mapping[Any, int]]
) -> tuple[dict[nn.Module, Counter[Any]], dict[nn.Module, int]]:
    """Return the counts by operator and the bits of each layer, without those of the weighted layers inside it."""
    own_counts: dict[nn.Module, Counter[Any]] = {}
    own_bits: dict[nn.Module, int] = {}
    for names, layer in reversed(weighted):  # the inner ones first
        inner = [module for module in layer.modules() if module in own_bits]
        own_counts[layer] = Counter()
        for name in names:
            own_counts[layer].update(counts.get(name, {}))
        for module in inner:
            own_counts[layer].subtract(own_counts[module])
        own_bits[layer] = model_size(layer).total - sum(own_bits[module] for module in inner)
    return own_counts, own_bits


def _weight_matrix(module: nn.Module) -> Tensor:
    """Return the weight of a layer, the first matrix of an attention, or a scalar if there is neither."""
    for name in ('weight', 'in_proj_weight', 'q_proj_weight'):
        weight = getattr(module, name, None)  # spectral_norm and weight_norm make it an attribute
        if isinstance(weight, Tensor) and name not in module._buffers:
            return weight
    return torch.zeros(())
