"""The registered model ``surge_mm.Binarized``: any registered model, binarized by rules.

In a config, the keys of the model stay where they are. ``base_type`` names its class, and the arguments of
:func:`.binarize` are added::

    model = dict(
        type='surge_mm.Binarized',
        base_type='mmdet.FasterRCNN',
        rules=[dict(name='neck.*', to='keep')],
        backbone=..., neck=..., rpn_head=..., roi_head=...)

The result is an instance of ``base_type``. Its state dict has the keys of the original model, plus those that binary
layers add: ``aux_weight``, ``activation_shift``, ``activation_scale`` and ``weight_gain``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS as ROOT
from torch import nn

from surge_mm.checkpoint.matching import require_whole_parts
from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.binarize import binarize
from surge_mm.models.binarization.relu_replacement import DEFAULT_ACT_CFG
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import check_keywords, checked
from surge_mm.utils.logging import warn
from surge_mm.utils.suggestions import argument_names


@MODELS.register_module()
@checked
def Binarized(  # noqa: N802  configs call it as they call the class of a model
    base_type: str | type,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] = {},  # noqa: B006
    binary_act_cfg: Mapping[str, Any] | None = DEFAULT_ACT_CFG,
    structure_only: bool = False,
    shortcuts: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Build the model ``base_type`` and binarize it.

    Args:
        base_type (str or type): Class of the model, such as ``'mmdet.FasterRCNN'``.
        rules (Sequence[dict], optional): See :func:`.binarize`.
        binary (dict): See :func:`.binarize`.
        binary_act_cfg (dict, optional): See :func:`.binarize`.
        structure_only (bool): See :func:`.binarize`.
        shortcuts (bool): See :func:`.binarize`.
        **kwargs: Arguments of ``base_type``.

    Returns:
        nn.Module: The binarized model, of class ``base_type``.

    Raises:
        UsageError: see :func:`.binarize`.
    """
    check_argument_names('Binarized', base_type, kwargs, argument_names(Binarized))
    model = ROOT.build({'type': base_type, **kwargs})
    binarize(model, rules, binary, binary_act_cfg, structure_only, shortcuts)
    require_whole_parts(model)
    for name, part in model.named_modules():
        if getattr(part, 'norm_eval', False) and any(
            isinstance(module, BinaryLayer) for module in part.modules()
        ):
            warn(
                f'{name or base_type} has norm_eval=True: its batch norms keep the statistics of the full-precision '
                'network, which differ from those of the binary network. Set norm_eval=False',
            )
    return model


def check_argument_names(
    owner: str, base_type: str | type, names: Iterable[str], own: Sequence[str]
) -> None:
    """Check the names of arguments, which are those of a function or those of the model that it builds.

    Args:
        owner (str): Name of the function, for the error message.
        base_type (str or type): Class of the model. If it is not registered, nothing is checked.
        names (Iterable[str]): The names that were given.
        own (Sequence[str]): Names of the arguments of the function.

    Raises:
        UsageError: if a name is neither.
    """
    with ROOT.switch_scope_and_registry(None) as registry:
        base = registry.get(base_type) if isinstance(base_type, str) else base_type
    if base is not None:  # else MMEngine raises an error with the name
        check_keywords(owner, [name for name in names if name not in own], base, also=own)
