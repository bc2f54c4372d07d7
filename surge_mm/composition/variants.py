"""Variants of an ablation: a config, or a recipe with a method, with other settings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from surge_mm.composition.config_files import find_method
from surge_mm.composition.methods import apply_method
from surge_mm.launch.config import read_config, with_names
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.suggestions import did_you_mean


class Variant(NamedTuple):
    """A method or config with other settings.

    Attributes:
        name (str): name of the variant.
        base (str): method, or name of one of the configs.
        settings (dict): value of each key that is set.
    """

    name: str
    base: str
    settings: dict[str, Any]


def compose(
    recipe: Path, methods: Sequence[str], variants: Sequence[Variant] = ()
) -> dict[str, Config]:
    """Apply each method to the recipe.

    Args:
        recipe (Path): config file.
        methods (Sequence[str]): names of files in ``configs/_base_/methods``, or paths.
        variants (Sequence[Variant]): methods with other settings. Defaults to none.

    Returns:
        dict[str, Config]: composed config of each method and variant.

    Raises:
        LaunchError: if a method is unknown or repeated, or the recipe cannot be read or has no binary layers.
    """
    every = [*(Variant(Path(method).stem, method, {}) for method in methods), *variants]
    files = {one.base: find_method(one.base) for one in every}
    check_names([one.name for one in every])
    cfg = with_names(read_config(recipe))
    composed = {}
    for one in every:
        method = changed(with_names(read_config(files[one.base])), one, cfg)
        check_eta(method, one)
        composed[one.name] = apply_method(cfg, method)
    return composed


def check_names(names: Sequence[str]) -> None:
    """Check that the names of variants differ.

    Args:
        names (Sequence[str]): the names.

    Raises:
        LaunchError: if two are equal.
    """
    if len(set(names)) < len(names):
        raise LaunchError(f'variants must have different names, got {names}')


def changed(cfg: Config, variant: Variant, *others: Config) -> Config:
    """Return a config or method with the settings of a variant.

    Args:
        cfg (Config): config or method, read from a file.
        variant (Variant): its settings.
        *others (Config): configs that the settings may refer to besides.

    Returns:
        Config: the changed config.

    Raises:
        LaunchError: if a key is unknown or does not fit.
    """
    cfg = copy.deepcopy(cfg)
    for key in variant.settings:
        known = [name for one in (cfg, *others) for name in one]
        if key.partition('.')[0] not in known:
            hint = did_you_mean(key.partition('.')[0], known)
            raise LaunchError(f'--variant {variant.name}: unknown key {key!r}{hint}')
    try:
        cfg.merge_from_dict(variant.settings)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise LaunchError(
            f'--variant {variant.name}: {variant.settings} does not fit {Path(cfg.filename).name}: {error}'
        ) from error
    return cfg


def check_eta(method: Config, variant: Variant) -> None:
    """Check that the hook of AGS does not replace the eta that a variant sets in the layers.

    Args:
        method (Config): method with the settings of the variant.
        variant (Variant): the variant.

    Raises:
        LaunchError: if it does.
    """
    layers, part = (
        (method.bert.linear_cfg, 'bert.linear_cfg')
        if 'bert' in method
        else (method.conv_cfg, 'conv_cfg')
    )
    key = f'{part}.compensator.eta'
    if key not in variant.settings or 'type' in layers.compensator:  # the hook leaves it
        return
    for i, hook in enumerate(method.get('custom_hooks', [])):
        eta = hook.get('eta', variant.settings[key])
        if eta != variant.settings[key]:
            raise LaunchError(
                f'--variant {variant.name}: {key} has no effect, since the hook custom_hooks.{i} sets eta={eta} in all '
                f'layers. Set custom_hooks.{i}.eta'
            )
