"""Variants of an ablation: methods of ``configs/_base_/methods`` over a recipe, or configs, with other settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from surge_mm.analysis.methods import apply_method
from surge_mm.launch.cli import parse_settings
from surge_mm.launch.config import with_names
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


def parse_variant(words: list[str]) -> Variant:
    """Return the variant of the words behind ``--variant``.

    Raises:
        LaunchError: if they are no name, base and settings ``KEY=VALUE``.
    """
    if len(words) < 2 or not re.fullmatch(r'\w[\w.+-]*', words[0]) or '=' in words[1]:
        raise LaunchError(
            f'--variant {" ".join(words)} must be NAME METHOD KEY=VALUE ..., with a name of letters, digits and -+._'
        )
    name, base, *texts = words
    return Variant(name, base, parse_settings(texts, f'--variant {" ".join(words)}'))


def check_names(names: list[str]) -> None:
    """Check that the names of the variants differ.

    Raises:
        LaunchError: if two are equal.
    """
    if len(set(names)) < len(names):
        raise LaunchError(f'variants must have different names, got {names}')


def read_config(path: Path) -> Config:
    """Read a config or a method.

    Raises:
        LaunchError: if it cannot be read.
    """
    try:
        cfg = with_names(Config.fromfile(path))
    except Exception as error:  # a config is code of its author
        kind = type(error).__name__
        raise LaunchError(f'config {str(path)!r} cannot be read: {kind}: {error}') from error
    if cfg.default_scope is None:  # a method has none
        cfg.pop('default_scope')
    return cfg


def changed(path: Path, variant: Variant, *others: Config) -> Config:
    """Return a config or method with the settings of a variant.

    Args:
        path (Path): config or method.
        variant (Variant): its settings.
        *others (Config): configs that the settings may refer to besides.

    Returns:
        Config: the changed config.

    Raises:
        LaunchError: if a key is unknown or does not fit.
    """
    cfg = read_config(path)
    for key in variant.settings:
        known = [name for one in (cfg, *others) for name in one]
        if key.partition('.')[0] not in known:
            hint = did_you_mean(key.partition('.')[0], known)
            raise LaunchError(f'--variant {variant.name}: unknown key {key!r}{hint}')
    try:
        cfg.merge_from_dict(variant.settings)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise LaunchError(
            f'--variant {variant.name}: {variant.settings} does not fit {path.name}: {error}'
        ) from error
    return cfg


def compose(
    recipe: Path,
    methods: list[str],
    variants: Sequence[Variant] = (),
    *,
    known: Mapping[str, Path],
) -> dict[str, Config]:
    """Apply each method to the recipe.

    Args:
        recipe (Path): config file.
        methods (list[str]): names of known methods, or paths.
        variants (Sequence[Variant]): methods with other settings. Defaults to none.
        known (Mapping[str, Path]): file of each method of ``configs/_base_/methods`` by name.

    Returns:
        dict[str, Config]: composed config of each method and variant.

    Raises:
        LaunchError: if a method is unknown or repeated, or the recipe cannot be read or has no binary layers.
    """
    for method in [*methods, *(one.base for one in variants)]:
        if method not in known and not Path(method).is_file():
            raise LaunchError(
                f'method {method!r} is neither a file (looked from {Path.cwd()}) nor a method of configs/_base_/methods'
                f'{did_you_mean(method, known)}'
            )
    every = [*(Variant(Path(method).stem, method, {}) for method in methods), *variants]
    check_names([one.name for one in every])
    cfg = read_config(recipe)
    composed = {}
    for one in every:
        method = changed(known.get(one.base, Path(one.base)), one, cfg)
        check_eta(method, one)
        composed[one.name] = apply_method(cfg, method)
    return composed


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
