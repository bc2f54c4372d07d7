"""Norms, activations and max pools that follow a real-valued convolution, and are computed with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.utils import _pair

from surge_mm.deploy.packing.epilogue import can_fold_activation, can_fold_norm
from surge_mm.deploy.packing.unfused import is_conv_module, is_sequence
from surge_mm.models.binarization.layer_candidates import class_path
from surge_mm.utils.errors import UsageError

CHAINS = {
    'surge_mm.models.backbones.surge_resnet.SurgeResNet': (('conv1', 'bn1', 'act1', 'maxpool'),),
    'surge_mm.deploy.packing.packed_blocks.PackedBottleneck': (
        ('conv1', 'bn1', 'act1'),
        ('conv3', 'bn3'),
    ),
}
"""Modules that classes of this package call one after another."""
SHORTCUT = 'surge_mm.models.backbones.residual_blocks.Shortcut'
"""A sequence after a pool."""


def find_followers(model: nn.Module, layers: dict[str, nn.Conv2d]) -> dict[str, list[str]]:
    """Return the names of the batch norm, activation and max pool that directly follow each convolution.

    A convolution that is used in several places has none.

    Args:
        model (nn.Module): The packed model.
        layers (dict[str, nn.Conv2d]): Convolutions by name.

    Returns:
        dict[str, list[str]]: For each convolution, at most one of each, in this order.
    """
    uses = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    found: dict[str, list[str]] = {name: [] for name in layers}
    for prefix, parent in model.named_modules():
        for chain in chains(parent):
            names = [f'{prefix}.{name}'.lstrip('.') for name in chain]
            for i, name in enumerate(names):
                if name in layers and uses[id(layers[name])] == 1:
                    # the last layer of a sequence within has followers in the outer chain alone
                    following = foldable(model, names[i + 1 : i + 4])
                    found[name] = max(found[name], following, key=len)
    return found


def chains(parent: nn.Module) -> Iterator[list[str]]:
    """Yield names of modules that a module calls one after another. A sequence within is its modules.

    Args:
        parent (nn.Module): The module.
    """
    found: list[list[str]] = [list(chain) for chain in CHAINS.get(class_path(parent), ())]
    if is_sequence(parent) or class_path(parent) == SHORTCUT:
        found = [list(parent._modules)]
    elif is_conv_module(parent):
        names = {'conv': 'conv', 'norm': parent.norm_name, 'act': 'activate'}
        order: tuple[str, ...] = parent.order  # type: ignore[assignment]
        found = [[names[part] for part in order if names[part] in parent._modules]]  # type: ignore
    for chain in found:
        yield [inner for name in chain for inner in _flat(name, parent.get_submodule(name))]


def _flat(name: str, module: nn.Module) -> list[str]:
    if type(module) is not nn.Sequential:
        return [name]
    return [f'{name}.{inner}' for inner in module._modules]


class Followers(NamedTuple):
    """Modules that become part of a convolution.

    Attributes:
        norm (_BatchNorm, optional): The batch norm.
        activation (nn.Module, optional): The activation.
        pool (nn.MaxPool2d, optional): The max pool.
    """

    norm: _BatchNorm | None = None
    activation: nn.Module | None = None
    pool: nn.MaxPool2d | None = None


def _kind(module: nn.Module) -> str:
    """Return the field of :class:`Followers` for a module, or an empty string."""
    if can_fold_norm(module):
        return 'norm'
    if can_fold_activation(module):
        return 'activation'
    if type(module) is nn.MaxPool2d and not (module.ceil_mode or module.return_indices):
        return 'pool' if _pair(module.dilation) == (1, 1) else ''
    return ''


def foldable(model: nn.Module, names: list[str]) -> list[str]:
    """Return the names up to the first module that cannot be folded behind those before it.

    Args:
        model (nn.Module): The packed model.
        names (list[str]): Names of modules that are called one after another.
    """
    order, found = list(Followers._fields), []
    for name in names:
        kind = _kind(model.get_submodule(name))
        if kind not in order:
            break
        order = order[order.index(kind) + 1 :]
        found.append(name)
    return found


def followers_of(model: nn.Module, names: list[str]) -> Followers:
    """Return the modules of a list of :func:`find_followers`.

    Args:
        model (nn.Module): The packed model.
        names (list[str]): Their names.

    Raises:
        UsageError: if the model has no such modules that can be folded.
    """
    try:
        valid = foldable(model, names) == names
    except AttributeError:  # no module of that name
        valid = False
    if not valid:
        raise UsageError(f'{names!r:.200} are no norm, activation and pool that can be folded')
    modules = [model.get_submodule(name) for name in names]
    return Followers(**{_kind(module): module for module in modules})  # type: ignore[arg-type]
