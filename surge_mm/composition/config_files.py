"""Config files that variants are made of, and those that they are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from surge_mm.compat.config_prefix import MIM_ROOT
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.suggestions import did_you_mean


def base_configs(folder: str) -> dict[str, Path]:
    """Return the files of a folder of ``configs/_base_`` by name.

    Args:
        folder (str): ``'methods'`` or ``'recipes'``.
    """
    path = (MIM_ROOT / 'configs' / '_base_' / folder).resolve()
    return {file.stem: file for file in sorted(path.glob('*.py'))}


def find_recipe(names: Sequence[str]) -> Path:
    """Return the file of the recipe: a path, or a name in ``configs/_base_/recipes``.

    Args:
        names (Sequence[str]): the recipe alone.

    Raises:
        LaunchError: if there is more than one recipe, or no such file and no such recipe.
    """
    if len(names) > 1:
        raise LaunchError(f'--methods takes one recipe or config, got {len(names)}: {names}')
    name, known = names[0], base_configs('recipes')
    if Path(name).is_file():
        return Path(name)
    if name not in known:
        raise LaunchError(
            f'{name!r} is neither a file (looked from {Path.cwd()}) nor a recipe of configs/_base_/recipes'
            f'{did_you_mean(name, known)}'
        )
    return known[name]


def find_method(name: str) -> Path:
    """Return the file of a method: a name in ``configs/_base_/methods``, or a path.

    Args:
        name (str): the method.

    Raises:
        LaunchError: if there is no such method and no such file.
    """
    known = base_configs('methods')
    if name not in known and not Path(name).is_file():
        raise LaunchError(
            f'method {name!r} is neither a file (looked from {Path.cwd()}) nor a method of configs/_base_/methods'
            f'{did_you_mean(name, known)}'
        )
    return known.get(name, Path(name))


def find_configs(paths: Sequence[str]) -> dict[str, Path]:
    """Return config files by name.

    Args:
        paths (Sequence[str]): the files.

    Raises:
        LaunchError: if a file is missing, or two files have the same name.
    """
    for path in paths:
        if not Path(path).is_file():
            raise LaunchError(f'config {path!r}: there is no such file (looked from {Path.cwd()})')
    found = {Path(path).stem: Path(path) for path in paths}
    if len(found) < len(paths):
        raise LaunchError(f'configs must have different file names, got {paths}')
    return found


def remember_configs(
    configs: Mapping[str, Config], origins: Mapping[str, Path], work_dir: Path
) -> None:
    """Write the content of each config into the folder of its runs, and compare it with that of the runs so far.

    Args:
        configs (dict[str, Config]): config of each variant that is trained as it is, in text form.
        origins (dict[str, Path]): its file.
        work_dir (Path): folder of all runs.

    Raises:
        LaunchError: if a folder holds runs of another config.
    """
    texts = {}
    for variant, cfg in configs.items():
        file = work_dir / variant / f'{variant}.py'
        text = texts[file] = cfg.pretty_text
        if file.is_file() and file.read_text() != text:
            raise LaunchError(
                f'{str(file.parent)!r} holds runs of another config than {str(origins[variant])!r} is now: compare it '
                f'with {file.name!r} there. Use another --work-dir'
            )
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def write_configs(
    composed: Mapping[str, Config], origins: Mapping[str, Path], work_dir: Path
) -> dict[str, Path]:
    """Write the config of each variant into its folder.

    Args:
        composed (dict[str, Config]): config of each variant.
        origins (dict[str, Path]): recipe or config that each was made of. A leading method in its name is left out of
            the name written.
        work_dir (Path): folder of all runs.

    Returns:
        dict[str, Path]: file of each variant, WORK_DIR/VARIANT/VARIANT_RECIPE.py.

    Raises:
        LaunchError: if a folder holds runs of another config.
    """
    paths = {}
    for variant, cfg in composed.items():
        stem = origins[variant].stem
        first, _, rest = stem.partition('_')
        name = rest if rest and first in base_configs('methods') else stem
        path = paths[variant] = work_dir / variant / f'{variant}_{name}.py'
        others = [other for other in path.parent.glob('*.py') if other != path]
        if others or (path.is_file() and path.read_text() != cfg.pretty_text):
            raise LaunchError(
                f'{str(path.parent)!r} holds runs of another config, {(others or [path])[0].name!r}. Use another '
                '--work-dir'
            )
    for variant, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(composed[variant].pretty_text)
    return paths
