"""Check that the installed packages work together; an error names the fault and the command that repairs it.

Only pip's records are read, which takes milliseconds, before anything large is imported. Then torchvision's compiled
operators are loaded, because they replace those of mmcv.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, PathFinder
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec

# Module -> the distributions that install it: the official one, its variants, the maintained fork.
PROVIDERS = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
    'pkg_resources': ('setuptools',),
}
OLDEST = {'torch': '2.6', 'mmengine': '0.10.7', 'mmdet': '3.3.0', 'mmpretrain': '1.2.0'}
TORCH_PAIR = 'pip install torch==2.12.0 torchvision==0.27.0'
INSTALL = {
    'torch': TORCH_PAIR,
    'torchvision': TORCH_PAIR,
    'mmengine': 'pip install "mmengine>=0.10.7,<1"',
    'mmcv': 'pip install mmcv-lite==2.1.0',
    'mmdet': 'pip install "mmdet>=3.3.0,<3.4"',
    'mmpretrain': 'pip install "mmpretrain>=1.2.0,<1.3"',
    'pkg_resources': 'pip install "setuptools<82"',
}


# A module and the one whose requirements name the versions that it accepts.
PAIRS = (('mmcv', 'mmdet'), ('torch', 'torchvision'))


class StackError(ImportError):
    """The installed packages do not work together. The message names the command that repairs them."""


def check_stack() -> None:
    """Check the packages that this Python would import.

    Raises:
        StackError: if a package is missing, too old or does not work with another.
    """
    fault = find_fault(sys.path)
    if not fault and (reason := why_torchvision_fails()):
        fault = (
            f'torchvision cannot load its compiled operators with this torch ({reason}). '
            f'Run: {TORCH_PAIR} --force-reinstall'
        )
    if fault:
        raise StackError(fault)


def find_fault(path: Sequence[str]) -> str:
    """Return the first fault of the packages installed in ``path``.

    Args:
        path (Sequence[str]): folders as in ``sys.path``.

    Returns:
        str: the fault and the command that repairs it; ``''`` if there is none.
    """
    found = {module: _installed(module, path) for module in PROVIDERS}
    for module, dists in found.items():
        fault = _find_fault_of_one(module, dists, path)
        if fault:
            return f'{fault}. Run: {INSTALL[module]}'
    for module, user in PAIRS:
        if found[module] and found[user]:
            used = found[module][0]
            required = _required(found[user][0], PROVIDERS[module])
            if not _accepts(required, used.version):
                return (
                    f'{_names(found[user][:1])} does not accept {_names([used])}: it requires {required}. '
                    f'Run: pip uninstall -y {used.name} && {INSTALL[module]}'
                )
    return ''


def why_torchvision_fails() -> str:
    """Load the compiled operators of torchvision and return why that fails; ``''`` if it does not."""
    try:
        if not operators_load():
            from torchvision.extension import _assert_has_ops

            _assert_has_ops()
    except (ImportError, OSError, RuntimeError) as error:
        return str(error).partition('\n')[0] or type(error).__name__
    return ''


def operators_load() -> bool:
    """Load the compiled operators of torchvision without its Python part, whose import takes 1 s more.

    Returns:
        bool: whether ``torch.ops.torchvision`` has them. If not, ``import torchvision`` has the reason.
    """
    import torch

    spec = find_spec('torchvision')
    for folder in (spec and spec.submodule_search_locations) or ():
        library = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec('_C')
        try:
            if library and library.origin:
                torch.ops.load_library(library.origin)
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, 'nms')


def _find_fault_of_one(module: str, dists: list[Distribution], path: Sequence[str]) -> str:
    importable = PathFinder.find_spec(module, path)
    if not dists:
        # a folder on PYTHONPATH has no record, so its version cannot be checked
        return '' if importable else f'surge_mm needs {module}, which is not installed'
    if len({dist.locate_file(module) for dist in dists}) < len(dists):
        names = ' '.join(dist.name for dist in dists)
        return (
            f'{_names(dists)} are installed over each other in one folder {module}/. '
            f'Remove both: pip uninstall -y {names}'
        )
    if module == 'pkg_resources' and not importable:
        return f'{_names(dists)} no longer has pkg_resources, which MMEngine uses'
    oldest = OLDEST.get(module)
    if oldest and not _accepts(f'>={oldest}', dists[0].version):
        return f'surge_mm needs {module} {oldest} or later, not {dists[0].version}'
    return ''


def _installed(module: str, path: Sequence[str]) -> list[Distribution]:
    """Return the distributions that provide a module, in the order of ``path``, one of each name."""
    order = {folder: place for place, folder in enumerate(path)}
    dists = [
        next(iter(distributions(name=name, path=list(path))), None) for name in PROVIDERS[module]
    ]
    return sorted(
        (dist for dist in dists if dist),
        key=lambda dist: order.get(str(dist.locate_file('')), len(order)),
    )


def _required(dist: Distribution, names: tuple[str, ...]) -> str:
    """Return the versions of another distribution that ``dist`` requires; ``''`` if it requires none."""
    from packaging.requirements import Requirement

    for line in dist.requires or ():
        requirement = Requirement(line)
        if requirement.name in names and requirement.specifier:
            return str(requirement.specifier)
    return ''


def _accepts(specifier: str, version: str) -> bool:
    # imported here: packaging is one of the packages that may be missing
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def _names(dists: list[Distribution]) -> str:
    return ' and '.join(f'{dist.name} {dist.version}' for dist in dists)
