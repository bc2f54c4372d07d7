"""A model, or a part of it, takes a checkpoint whole or not at all. MMEngine takes what fits, with warnings."""

from __future__ import annotations

from typing import Any

from torch import nn

from surge_mm.checkpoint.safe_loading import shape_of
from surge_mm.utils.errors import UsageError


def misfits(module: nn.Module, state_dict: dict[str, Any], prefix: str) -> list[str]:
    """What ``state_dict`` has of the module's own names, but of another shape or of none, in words."""
    # not its state_dict(), which leaves out branches that have not begun
    own = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    return [
        f'{prefix}{name} is {shape_of(state_dict[prefix + name])} there and {shape_of(value)} here'
        for name, value in own
        if prefix + name in state_dict and shape_of(state_dict[prefix + name]) != shape_of(value)
    ]


def require_whole_parts(model: nn.Module) -> None:
    """Have the parts of a model (backbone, neck, ...) refuse what fits in part when they are loaded alone, as their
    ``init_cfg`` does, and the model what does not fit at all: its head may be of other classes."""
    model.register_load_state_dict_pre_hook(_check_any)
    for part in model.children():
        part.register_load_state_dict_pre_hook(_check_part)


def _check_any(model: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    own = (*model.named_parameters(), *model.named_buffers())
    common = [name for name, _ in own if name in state_dict]
    if not prefix and len(misfits(model, state_dict, '')) >= len(common):
        raise UsageError(
            f'the checkpoint has no weight of {type(model).__name__}: it is of another model. {_found(state_dict)}'
        )


def _check_part(part: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    if prefix:  # loaded with the whole model
        return
    wrong = misfits(part, state_dict, '')
    wrong += [
        f'it lacks {name}.weight'
        for name, module in part.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and f'{name}.weight' not in state_dict
    ]
    if wrong:
        raise UsageError(
            f'the checkpoint does not fit {type(part).__name__} in {len(wrong)} places: {wrong[0]}. '
            f'{_found(state_dict)}'
        )


def _found(state_dict: dict[str, Any]) -> str:
    if any(key.startswith('backbone.') for key in state_dict):
        return (
            "Its names begin with 'backbone.': add prefix='backbone.' to init_cfg, or load it whole"
        )
    return 'Take the checkpoint of this network'
