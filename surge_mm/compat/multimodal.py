"""Let MMPretrain be imported beside a current ``transformers``.

MMPretrain 1.2 imports its multimodal models whenever ``transformers`` is installed, and all of MMPretrain fails with
them if a name is missing: transformers 4.52 and later lack names that they import. MMPretrain has a switch,
``mmpretrain.utils.dependency.WITH_MULTIMODAL``, which must be set before its models are imported.
"""

import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.version import Version

FIRST_BROKEN = Version('4.52')


def disable_broken_multimodal(dependency: Any) -> None:
    """Disable the multimodal models of MMPretrain if the installed ``transformers`` is too new for them.

    Args:
        dependency (ModuleType): ``mmpretrain.utils.dependency``.
    """
    try:
        installed = Version(version('transformers'))
    except PackageNotFoundError:
        return
    if installed < FIRST_BROKEN:
        return
    if dependency.WITH_MULTIMODAL and os.environ.get('RANK', '0') == '0':
        warnings.warn(
            'the multimodal models of MMPretrain are disabled: they cannot be imported with transformers '
            f'{installed}. All other models are available. To use the multimodal ones, install '
            f'"transformers<{FIRST_BROKEN}"',
            stacklevel=2,
        )
    dependency.WITH_MULTIMODAL = False
