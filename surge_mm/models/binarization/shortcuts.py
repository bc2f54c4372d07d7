"""Shortcuts round binary convolutions of a host's modules.

A shortcut has no parameter::

    out = activation(norm(conv(x)) + pool(x))

``pool`` is the average pooling of :func:`.shortcut.pool_shortcut`; for stride 1 it is the identity.

Source: Liu et al., Bi-Real Net, arXiv 1808.00278.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from surge_mm.models.binarization.layer_candidates import base_class_names, class_path
from surge_mm.ops.shortcut import pool_shortcut

NORMS = (_NormBase, nn.GroupNorm)
S = TypeVar('S', bound='ShortcutSequential')
CONV_MODULE = 'mmcv.cnn.bricks.conv_module.ConvModule'
SHORTCUT_CONV_MODULE = 'surge_mm.models.binarization.shortcut_conv_module.ShortcutConvModule'
NEEDS = (
    'it needs a convolution with as many output as input channels, one stride for both axes and a padding in numbers '
    'that keeps the size, in a ConvModule (convolution, norm, activation) or nn.Sequential'
)
"""What a shortcut needs, for messages."""


class ShortcutSequential(nn.Sequential):
    """``nn.Sequential`` with a shortcut round convolutions and the norms behind them.

    Attributes:
        shortcuts (dict[str, int]): Names of the convolutions that have one, with their strides.
    """

    shortcuts: dict[str, int]

    def __getitem__(self, idx: Any) -> Any:
        part: Any = super().__getitem__(idx)
        if isinstance(idx, slice):
            part._number_shortcuts(self._strides()[idx])
        return part

    def __delitem__(self, idx: Any) -> None:
        strides = self._strides()
        super().__delitem__(idx)
        del strides[idx]
        self._number_shortcuts(strides)

    def insert(self: S, index: int, module: nn.Module) -> S:
        """Insert a module, as :meth:`torch.nn.Sequential.insert` does.

        Args:
            index (int): Place of the module.
            module (nn.Module): The module.
        """
        strides = self._strides()
        super().insert(index, module)
        strides.insert(index, None)
        self._number_shortcuts(strides)
        return self

    def _strides(self) -> list[int | None]:
        return [self.shortcuts.get(name) for name in self._modules]

    def _number_shortcuts(self, strides: list[int | None]) -> None:
        named = zip(self._modules, strides, strict=True)
        self.shortcuts = {name: stride for name, stride in named if stride is not None}

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last module.

        Args:
            x (Tensor): ``(N, C, H, W)``.
        """
        children = list(self._modules.items())
        shortcut = None
        for i, (name, module) in enumerate(children):
            if name in self.shortcuts:
                shortcut = pool_shortcut(x, self.shortcuts[name])
            x = module(x)
            before_norm = i + 1 < len(children) and isinstance(children[i + 1][1], NORMS)
            if shortcut is not None and not before_norm:
                x, shortcut = x + shortcut, None
        return x


def can_have_shortcut(conv: nn.Module) -> bool:
    """Return whether a convolution has as many output as input channels, and an output of 1 / stride of the input.

    Args:
        conv (nn.Module): A binary or full-precision layer.
    """
    if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str):
        return False
    same_size = all(
        2 * padding == dilation * (kernel - 1)
        for padding, dilation, kernel in zip(
            conv.padding, conv.dilation, conv.kernel_size, strict=True
        )
    )
    return same_size and conv.in_channels == conv.out_channels and len(set(conv.stride)) == 1


def find_places(model: nn.Module, layers: Collection[nn.Module]) -> dict[nn.Module, dict[str, int]]:
    """Find the modules that can give convolutions a shortcut.

    They are MMCV's ``ConvModule`` with the order convolution, norm, activation, and ``nn.Sequential``. Modules of a
    subclass are left alone, because their forward may differ, and so are the sequences of MMCV's VGG, which calls
    their parts one by one. Modules to which :func:`add_shortcuts` gave shortcuts before are found like the others.

    Args:
        model (nn.Module): The model.
        layers (Collection[nn.Module]): The convolutions that shall have a shortcut.

    Returns:
        dict[nn.Module, dict[str, int]]: For each module the names of its convolutions that can have a shortcut, with
        their strides.
    """
    called_one_by_one = {
        child
        for module in model.modules()
        if base_class_names(module) & {'VGG'} and hasattr(module, 'range_sub_modules')
        for child in module.children()
    }
    places = {}
    for module in model.modules():
        if class_path(module) in (CONV_MODULE, SHORTCUT_CONV_MODULE):
            known = module.order == ('conv', 'norm', 'act') and not module.with_explicit_padding
        else:
            plain = type(module) in (nn.Sequential, ShortcutSequential)
            known = plain and module not in called_one_by_one
        strides = {
            name: int(child.stride[0])  # type: ignore[index]
            for name, child in module.named_children()
            if known and child in layers and can_have_shortcut(child)
        }
        if strides:
            places[module] = strides
    return places


def add_shortcuts(places: Mapping[nn.Module, dict[str, int]]) -> None:
    """Change the class of modules, in place, to the one that adds shortcuts. Parameters and their names stay.

    Args:
        places (dict[nn.Module, dict[str, int]]): Result of :func:`find_places`.
    """
    for module, strides in places.items():
        if class_path(module) in (CONV_MODULE, SHORTCUT_CONV_MODULE):
            from surge_mm.models.binarization.shortcut_conv_module import ShortcutConvModule

            module.__class__ = ShortcutConvModule
        else:
            module.__class__ = ShortcutSequential
            module.shortcuts = {**vars(module).get('shortcuts', {}), **strides}  # type: ignore[assignment]


def remove_shortcuts(model: nn.Module, layers: Collection[nn.Module]) -> None:
    """Remove the shortcuts of some convolutions, and give modules without any their original class, in place.

    Args:
        model (nn.Module): The model.
        layers (Collection[nn.Module]): The convolutions; those without a shortcut are left alone.
    """
    for module in model.modules():
        if class_path(module) == SHORTCUT_CONV_MODULE and module.conv in layers:
            (module.__class__,) = type(module).__bases__
        elif isinstance(module, ShortcutSequential):
            names = {name for name, child in module.named_children() if child in layers}
            module.shortcuts = {k: v for k, v in module.shortcuts.items() if k not in names}
            if not module.shortcuts:
                module.__class__ = nn.Sequential  # type: ignore[assignment]
                del module.shortcuts


def layers_with_shortcuts(model: nn.Module) -> set[nn.Module]:
    """Return the convolutions of a model to which :func:`add_shortcuts` gave a shortcut.

    Args:
        model (nn.Module): The model.
    """
    found: set[nn.Module] = set()
    for module in model.modules():
        if 'ShortcutConvModule' in base_class_names(module):
            found.add(module.conv)  # type: ignore[arg-type]
        elif isinstance(module, ShortcutSequential):
            found.update(module.get_submodule(name) for name in module.shortcuts)
    return found
