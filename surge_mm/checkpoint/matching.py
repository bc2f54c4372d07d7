"""Compare the tensors of a checkpoint with those of a model.

MMEngine loads the weights that match and warns about the others. Here a checkpoint that does not match is an error,
raised before a weight is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn


def find_mismatches(
    expected: Mapping[str, Tensor],
    state_dict: Mapping[str, Any],
    *,
    prefix: str = '',
    required: Collection[str] = (),
    unexpected: Iterable[str] = (),
    compare_dtypes: bool = False,
) -> list[str]:
    """Describe the tensors of a state dict that do not match a model.

    A tensor matches if it has the same shape, is dense and on a device with data. An expected tensor may be missing
    unless it is required; other tensors may be present unless they are unexpected.

    Args:
        expected (Mapping[str, Tensor]): the tensors of the model by name.
        state_dict (Mapping[str, Any]): the tensors of the checkpoint by name.
        prefix (str): what precedes the names of ``expected`` in ``state_dict``. Defaults to ''.
        required (Collection[str]): names of ``expected`` that must not be missing. Defaults to ().
        unexpected (Iterable[str]): names, without prefix, that must not be in ``state_dict``. Defaults to ().
        compare_dtypes (bool): whether the dtypes must be equal too. Defaults to False.

    Returns:
        list[str]: a description of each mismatch, in the order of ``expected``, then of ``unexpected``.
    """

    def describe(value: Any) -> str:
        return describe_tensor(value, with_dtype=compare_dtypes)

    names = [name for name in expected if prefix + name in state_dict or name in required]
    names += [name for name in unexpected if prefix + name in state_dict]
    pairs = {name: (state_dict.get(prefix + name), expected.get(name)) for name in names}
    return [
        f'{prefix + name!r:.200} is {describe(theirs)} in the checkpoint and {describe(own)} in the model'
        for name, (theirs, own) in pairs.items()
        if describe(theirs) != describe(own)
    ]


def describe_tensor(value: Any, with_dtype: bool = False) -> str:
    """Describe a value of a state dict for an error message.

    Args:
        value (Any): a tensor, another value, or None where there is none.
        with_dtype (bool): whether to add the dtype. Defaults to False.

    Returns:
        str: such as ``'(64, 3, 7, 7)'``, ``'missing'`` or ``'of type float'``.
    """
    if value is None:
        return 'missing'
    if not isinstance(value, Tensor):
        return f'of type {type(value).__name__}'
    text = str(tuple(value.shape))
    if with_dtype:
        text += f' of {value.dtype}'.replace('torch.', '')
    if value.layout != torch.strided or value.is_quantized:
        text += ', not dense'
    return text + ', without data' if value.is_meta else text


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by name, shared ones under each of their names.

    Unlike ``state_dict()``, the result contains the auxiliary weights that are not saved before training begins.
    """
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def require_whole_parts(model: nn.Module) -> None:
    """Make loading fail where a checkpoint does not match.

    A part of the model (backbone, neck, ...) that is loaded alone, as by its ``init_cfg``, needs a checkpoint with all
    its convolutions and linear layers, in the right shapes. Left out are those that were added to a block which the
    checkpoint has, as plugins and the offsets of a deformable convolution are: they keep their values, with a warning.
    The whole model needs one matching tensor, since the checkpoint may have a head for other classes.

    Args:
        model (nn.Module): the model. Hooks are registered on it and on its children.
    """
    model.register_load_state_dict_pre_hook(_check_model)
    for part in model.children():
        part.register_load_state_dict_pre_hook(_check_part)


def _check_model(model: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    if prefix:  # the model is a part of another one
        return
    own = named_tensors(model)
    common = [name for name in own if name in state_dict]
    if len(find_mismatches(own, state_dict)) >= len(common):
        raise UsageError(
            f'the checkpoint has no weight of {type(model).__name__}: it is of another model. {_advice(state_dict)}'
        )


def _check_part(part: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    if prefix:  # loaded with the whole model
        return
    required = {
        f'{name}.weight'
        for name, module in part.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    added = _added(part, required, state_dict)
    if added:
        warn(
            f'{type(part).__name__}: the checkpoint does not have {len(added)} of its {len(required)} layers, which '
            f'keep their initial values: {", ".join(sorted(added))[:500]}'
        )
    mismatches = find_mismatches(named_tensors(part), state_dict, required=required - added)
    if mismatches:
        raise UsageError(
            f'the checkpoint does not match {type(part).__name__} in {len(mismatches)} tensors, first: '
            f'{mismatches[0]}. {_advice(state_dict)}'
        )


def _added(part: nn.Module, required: set[str], state_dict: dict[str, Any]) -> set[str]:
    """Return the missing weights that are in blocks which the checkpoint has.

    A block is the first module on the way that contains others and is no list of modules. The checkpoint must have more
    of the part's weights than it lacks, and no tensor of the block that the part has not.
    """
    missing = {name for name in required if name not in state_dict}
    if 2 * len(missing) >= len(required):
        return set()
    own, added = named_tensors(part), set()
    for name in missing:
        path = name.split('.')[:-1]
        ends = (
            i for i in range(1, len(path)) if not _is_list(part.get_submodule('.'.join(path[:i])))
        )
        block = '.'.join(path[: next(ends, 0)]) + '.'
        theirs = [other for other in state_dict if other.startswith(block)]
        if theirs and all(other in own for other in theirs):
            added.add(name)
    return added


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def _advice(state_dict: dict[str, Any]) -> str:
    if any(key.startswith('backbone.') for key in state_dict):
        return "Its names begin with 'backbone.': add prefix='backbone.' to init_cfg, or load it into the whole model"
    return 'Use a checkpoint of this network'
