"""Let MMEngine find the configs of this package by the prefix ``surge_mm::``.

``_base_ = 'surge_mm::demo/x.py'`` and ``mmengine.hub.get_config('surge_mm::demo/x.py')`` work as soon as ``surge_mm``
is imported, in a checkout and in an installed wheel. The folder ``surge_mm/.mim`` contains ``configs``, ``tools`` and
``model-index.yml``: links to the files of the repository in a checkout, copies in a wheel.
"""

from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

MIM_ROOT = Path(__file__).parents[1] / '.mim'

_find_in_host = Config._get_cfg_path


def register_configs() -> None:
    """Add the prefix ``surge_mm::`` to those of MMEngine.

    MMEngine looks up the folder of a package in pip's records, which do not list that of an editable install. For a
    name that is not in the records, MMEngine uses the folder of the module of that name: hence the entry in
    ``MODULE2PACKAGE``, a module beside ``.mim``.

    MMEngine also marks a config inherited from another package with the scope of that package, in which
    ``type='FPN'`` would not be found. The configs of surge_mm are written in the scope of their host, so
    ``Config._get_cfg_path`` is replaced to leave them unmarked.
    """
    MODULE2PACKAGE['surge_mm'] = 'surge_mm.version'
    Config._get_cfg_path = staticmethod(_find_config)


def _find_config(cfg_path: str, filename: str) -> tuple[str, str | None]:
    scope, _, name = cfg_path.partition('::')
    if scope != 'surge_mm':
        return _find_in_host(cfg_path, filename)
    path = MIM_ROOT / 'configs' / name
    if not path.is_file():
        raise FileNotFoundError(f'{filename}: _base_ {cfg_path!r}: the file {path} does not exist')
    return str(path), None
