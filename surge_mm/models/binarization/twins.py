"""Search of a model for twins: modules whose weights are a moving average of those of another module of the model.

A twin computes with the latent weights of its source, so both must be binary in the same places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from surge_mm.models.binarization.layer_candidates import CONTAINERS, base_class_names
from surge_mm.utils.logging import warn

TWINS = {'SemiBaseDetector': ('teacher', 'student'), 'CAE': ('teacher', 'backbone')}
"""Attributes of a twin and its source, for classes of the hosts."""
AVERAGED = 'BaseAveragedModel'
"""Base class of MMEngine's moving averages. Its attribute ``module`` is a copy of a module of the model."""


def find_twins(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return the modules of all twins in a model, each with the module that it follows.

    Args:
        model (nn.Module): Model to search.
    """
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for module in model.modules():
        names = base_class_names(module)
        for twin_and_source in (TWINS[name] for name in names & TWINS.keys()):
            twin, source = (module.get_submodule(name) for name in twin_and_source)
            pairs.append((twin, source))
        if AVERAGED in names:
            pairs.extend(_sources(module.module, model))  # type: ignore[arg-type]
        # MMPretrain's models of images and text: (source, twin)
        pairs.extend((twin, source) for source, twin in getattr(module, 'model_pairs', ()))
    follows: dict[nn.Module, nn.Module] = {}
    for twin, source in pairs:
        modules = dict(source.named_modules())
        follows |= {m: modules[name] for name, m in twin.named_modules() if name in modules}
    return follows


def refresh_averages(model: nn.Module) -> None:
    """Let each of MMEngine's moving averages in a model average the parameters that binary layers have added."""
    for module in model.modules():
        if AVERAGED in base_class_names(module):
            inner: nn.Module = module.module  # type: ignore[assignment]
            averaged = inner.state_dict() if module.update_buffers else inner.named_parameters()
            vars(module)['avg_parameters'] = dict(averaged)


def warn_of_frozen_copies(
    model: nn.Module, selected: Collection[nn.Module], twins: Collection[nn.Module]
) -> None:
    """Warn of each frozen child of a model that stays real beside a child of the same structure that becomes binary.

    A teacher that was trained before is right so. One that follows the weights of the other child is not.

    Args:
        model (nn.Module): Model whose layers are not replaced yet.
        selected (Collection[nn.Module]): Layers that become binary.
        twins (Collection[nn.Module]): Modules of known twins.
    """
    binary = {name: m for name, m in model.named_children() if not _is_disjoint(m, selected)}
    for name, child in model.named_children():
        if name in binary or child in twins or _trains(child):
            continue
        for source, module in binary.items():
            if _structure(module) == _structure(child):
                warn(
                    f'{name} is frozen and stays in full precision, and {source}, of the same structure, becomes '
                    f'binary. If the weights of {name} follow those of {source}, as in a mean teacher, make both '
                    f"binary, by rules with name='{name}.*' and to='binary' for the same layers"
                )


def _is_disjoint(module: nn.Module, selected: Collection[nn.Module]) -> bool:
    return not any(inner in selected for inner in module.modules())


def _sources(twin: nn.Module, model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each part of a twin with the trained module of the same structure."""
    for module in model.modules():
        if module is not twin and _trains(module) and _structure(module) == _structure(twin):
            yield twin, module
            return
    if isinstance(twin, CONTAINERS):
        for child in twin.children():
            yield from _sources(child, model)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _structure(module: nn.Module) -> tuple[type, list[tuple[str, tuple[int, ...]]]]:
    return type(module), [(name, tuple(p.shape)) for name, p in module.named_parameters()]
