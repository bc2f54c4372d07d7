"""Leave out what takes most of the time of a short run of MMEngine, and has no effect on its results."""

import functools
from types import SimpleNamespace

import mmengine.config.config
import mmengine.config.utils
import mmengine.runner.loops


def quicken() -> None:
    """Change MMEngine in this process.

    Configs are not formatted as text, which a run does five times; the text is still Python with the same values. The
    files that list the configs of a host are read once. Loops over iterations do not sleep for two seconds after each
    epoch.
    """
    mmengine.config.config.FormatCode = lambda text, **style: (text, True)
    if not hasattr(mmengine.config.utils.load, 'cache_info'):
        mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
    mmengine.runner.loops.time = SimpleNamespace(sleep=lambda seconds: None)
