"""Let MMPretrain be imported beside a current ``transformers``.

MMPretrain 1.2 imports its multimodal models whenever ``transformers`` is installed, and all of MMPretrain fails with
them if a name is missing: transformers 4.52 and later lack names that they import. MMPretrain has a switch,
``mmpretrain.utils.dependency.WITH_MULTIMODAL``, which must be set before its models are imported.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from packaging.version import Version

SWITCH_MODULE = 'mmpretrain.utils.dependency'
FIRST_BROKEN = Version('4.52')


def disable_broken_multimodal() -> None:
    """Disable the multimodal models of MMPretrain if the installed ``transformers`` is too new for them."""
    try:
        installed = Version(version('transformers'))
    except PackageNotFoundError:
        return
    package = find_spec('mmpretrain')
    if installed < FIRST_BROKEN or package is None or package.origin is None:
        return
    if SWITCH_MODULE not in sys.modules:  # load it alone: importing MMPretrain takes seconds
        file = Path(package.origin).with_name('utils') / 'dependency.py'
        spec = spec_from_file_location(SWITCH_MODULE, file)
        assert spec is not None and spec.loader is not None
        sys.modules[SWITCH_MODULE] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[SWITCH_MODULE])
    switch = sys.modules[SWITCH_MODULE]
    if switch.WITH_MULTIMODAL and os.environ.get('RANK', '0') == '0':
        warnings.warn(
            'the multimodal models of MMPretrain are disabled: they cannot be imported with transformers '
            f'{installed}. All other models are available. To use the multimodal ones, install '
            f'"transformers<{FIRST_BROKEN}"',
            stacklevel=2,
        )
    switch.WITH_MULTIMODAL = False  # type: ignore[attr-defined]
