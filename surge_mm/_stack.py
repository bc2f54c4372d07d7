"""Check that the installed packages work together; an error names the fault and the command that repairs it.

Only pip's records are read (milliseconds) before anything large is imported. Then torchvision's compiled operators are
loaded, because they replace those of mmcv.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions

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


class StackError(ImportError):
    """The installed packages do not work together. The message names the command that repairs them."""


def check_stack() -> None:
    """Check the packages that this Python would import.

    Raises:
        StackError: if a package is missing, too old or does not work with another.
    """
    fault = find_fault(sys.path, why_torchvision_fails)
    if fault:
        raise StackError(fault)


def find_fault(path: Sequence[str], probe_torchvision: Callable[[], str]) -> str:
    """Return the first fault of the packages installed in ``path``.

    Args:
        path (Sequence[str]): folders as in ``sys.path``.
        probe_torchvision (Callable): returns why torchvision's operators do not load, or ``''`` if they do. Called
            last, if the records show no fault.

    Returns:
        str: the fault and the command that repairs it; ``''`` if there is none.
    """
    found = {module: _installed(module, path) for module in PROVIDERS}
    for module, dists in found.items():
        fault = _find_fault_of_one(module, dists, path)
        if fault:
            return fault
    fault = _find_mmcv_fault(found) or _find_torch_pair_fault(found)
    if fault:
        return fault
    reason = probe_torchvision()
    if reason:
        return (
            f'{_names(found["torchvision"])} cannot load its compiled operators with '
            f'{_names(found["torch"])} ({reason}). Run: {TORCH_PAIR} --force-reinstall'
        )
    return ''


def why_torchvision_fails() -> str:
    """Import torchvision and return why its compiled operators do not load; ``''`` if they do."""
    try:
        from torchvision.extension import _assert_has_ops

        _assert_has_ops()
    except (ImportError, OSError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return ''


def _find_fault_of_one(module: str, dists: list[Distribution], path: Sequence[str]) -> str:
    if not dists:
        # a folder on PYTHONPATH has no record, so its version cannot be checked
        if PathFinder.find_spec(module, path):
            return ''
        if module == 'mmcv':
            return (
                f'mmcv is not installed. Run: {INSTALL["mmcv"]} (no compiler needed; a full mmcv '
                'that your mmdet accepts works too)'
            )
        return f'surge_mm needs {module}, which is not installed. Run: {INSTALL[module]}'
    if len({dist.locate_file(module) for dist in dists}) < len(dists):
        names = ' '.join(dist.name for dist in dists)
        return (
            f'{_names(dists)} are installed over each other in one folder {module}/. '
            f'Run: pip uninstall -y {names} && {INSTALL[module]}'
        )
    if module == 'pkg_resources' and not PathFinder.find_spec(module, path):
        return (
            f'{_names(dists)} no longer has pkg_resources, which MMEngine uses. '
            f'Run: {INSTALL[module]}'
        )
    oldest = OLDEST.get(module)
    if oldest and not _accepts(f'>={oldest}', dists[0].version):
        return (
            f'surge_mm needs {module} {oldest} or later, not {dists[0].version}. '
            f'Run: {INSTALL[module]}'
        )
    return ''


def _find_mmcv_fault(found: dict[str, list[Distribution]]) -> str:
    """Compare mmcv with the versions that mmdet accepts according to its optional requirements."""
    if not found['mmcv'] or not found['mmdet']:
        return ''
    mmcv, mmdet = found['mmcv'][0], found['mmdet'][0]
    if mmcv.name == 'onedl-mmcv' and mmdet.name == 'mmdet':
        return (
            f'{_names([mmcv])} does not go with the official {_names([mmdet])}. Run: pip uninstall '
            f'-y onedl-mmcv && {INSTALL["mmcv"]} (or take onedl-mmdetection and onedl-mmpretrain)'
        )
    required = _required(mmdet, ('mmcv', 'onedl-mmcv'))
    if not _accepts(required, mmcv.version):
        return (
            f'{_names([mmdet])} does not accept {_names([mmcv])}: it requires {required}. '
            f'Run: pip uninstall -y {mmcv.name} && {INSTALL["mmcv"]}'
        )
    return ''


def _find_torch_pair_fault(found: dict[str, list[Distribution]]) -> str:
    """Compare torch with the version that torchvision was compiled for according to its requirements."""
    if not found['torch'] or not found['torchvision']:
        return ''
    torch, torchvision = found['torch'][0], found['torchvision'][0]
    required = _required(torchvision, ('torch',))
    if not _accepts(required, torch.version):
        return (
            f'{_names([torchvision])} was compiled for torch{required}, not {torch.version}. '
            f'Run: {TORCH_PAIR}'
        )
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
