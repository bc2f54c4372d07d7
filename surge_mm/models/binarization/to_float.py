"""The way back from a binarized model to full precision."""

from __future__ import annotations

from torch import nn

from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.weight_use import forget_check
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import is_packed, replace_modules


def to_float(model: nn.Module) -> nn.Module:
    """Replace all binary layers by full-precision layers with the same parameters, and restore the original ReLUs.

    What binary layers add to the parameters is dropped. Shortcuts are kept; :func:`surge_mm.binarize` adds others or
    removes them.

    Args:
        model (nn.Module): Model to convert. It is changed in place.

    Returns:
        nn.Module: ``model``, or the new layer if ``model`` itself is a binary layer.

    Raises:
        UsageError: if the model is packed.
    """
    check_not_packed(model)
    replacements: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        vars(module).pop('_surge_rule', None)
        forget_check(module)
        if isinstance(module, BinaryLayer):
            replacements[module] = module.to_float()  # type: ignore[operator]
        elif hasattr(module, '_surge_replaced'):
            (replacements[module],) = module._surge_replaced  # type: ignore[misc]
    return replace_modules(model, replacements)


def check_not_packed(model: nn.Module) -> None:
    """Raise an error if layers of a model are packed.

    Args:
        model (nn.Module): The model.

    Raises:
        UsageError: if one is.
    """
    if is_packed(model):
        raise UsageError(
            f'{type(model).__name__} is packed: its layers have signs in place of latent weights. Build the model '
            'again and load the state dict of the trained one, or pack a copy: pack(copy.deepcopy(model))'
        )
