"""Where MMEngine finds the configs of this package, in a checkout and in a wheel alike.

``_base_ = 'surge_mm::demo/x.py'`` and ``mmengine.hub.get_config('surge_mm::demo/x.py')`` work as
soon as ``surge_mm`` is imported. The folder ``surge_mm/.mim`` holds ``configs``, ``tools`` and
``model-index.yml``: links to the live files in a checkout, copies in a wheel.
"""

from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

MIM_ROOT = Path(__file__).parents[1] / '.mim'


def register_configs() -> None:
    """Teaches MMEngine the prefix ``surge_mm::``.

    MMEngine asks pip's records where a package is, which do not know the place of an editable
    install. For a name that they do not list it looks for a module of that name instead, and finds
    this one. And it marks what it inherits from another package with that package's scope, in
    which ``type='FPN'`` would be looked for in vain: our configs are written in the scope of their
    host, so they stay unmarked.
    """
    MODULE2PACKAGE['surge_mm'] = 'surge_mm.version'  # a module beside .mim
    find_in_host = Config._get_cfg_path

    def find(cfg_path: str, filename: str) -> tuple[str, str | None]:
        scope, _, name = cfg_path.partition('::')
        if scope != 'surge_mm':
            return find_in_host(cfg_path, filename)
        path = MIM_ROOT / 'configs' / name
        if not path.is_file():
            raise FileNotFoundError(f'{filename}: _base_ {cfg_path!r}: there is no file {path}')
        return str(path), None

    Config._get_cfg_path = staticmethod(find)
