"""Importing surge_mm applies every patch of the hosts, once, or lets the import of a host apply it."""

import subprocess
import sys

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner.checkpoint import CheckpointLoader

from surge_mm.checkpoint.safe_globals import SAFE_GLOBALS
from surge_mm.checkpoint.safe_loading import load_from_file, load_from_url
from surge_mm.compat import PATCHES, install_patches
from surge_mm.compat.config_prefix import MIM_ROOT


def patched_state():
    return {
        'mmcv._ext': sys.modules['mmcv._ext'],
        'safe globals': set(map(str, torch.serialization.get_safe_globals())),
        'file loader': CheckpointLoader._schemes[''],
        'url loader': mmengine_checkpoint.load_url,
        'config packages': dict(MODULE2PACKAGE),
        'config finder': Config._get_cfg_path,
        'import hooks': list(sys.meta_path),
    }


def test_a_second_installation_changes_nothing():
    before = patched_state()
    install_patches()
    assert patched_state() == before


def test_checkpoints_are_loaded_by_surge_mm():
    assert CheckpointLoader._schemes[''] is load_from_file
    assert mmengine_checkpoint.load_url is load_from_url
    allowed = map(str, torch.serialization.get_safe_globals())
    assert set(map(str, SAFE_GLOBALS)) <= set(allowed)


def test_configs_are_found_by_the_prefix():
    path, scope = Config._get_cfg_path('surge_mm::_base_/default_runtime.py', 'mine.py')
    assert path == str(MIM_ROOT / 'configs/_base_/default_runtime.py') and scope is None
    path, scope = Config._get_cfg_path('mmdet::_base_/default_runtime.py', 'mine.py')
    assert path.endswith('mmdet/.mim/configs/_base_/default_runtime.py') and scope == 'mmdet'


def test_each_patch_has_a_target_and_a_reason():
    assert len({patch.install for patch in PATCHES}) == len(PATCHES)
    assert all(patch.target and patch.reason for patch in PATCHES)


PROGRAM = """if True:
    import sys
    import mmengine.runner  # its modules are patched after their import
    import surge_mm
    modules = {patch.module for patch in surge_mm.compat.PATCHES if patch.module}
    print(sorted(modules - {*sys.modules}))
    import mmpretrain.utils
    print(sorted(modules - {*sys.modules}))
    from mmcv.transforms import LoadImageFromFile
    from mmengine.optim.scheduler import LinearLR
    from mmengine.runner import CheckpointLoader, checkpoint
    functions = (
        LoadImageFromFile.transform,
        LinearLR.build_iter_from_epoch,
        CheckpointLoader._schemes[''],
        checkpoint.load_url,
    )
    print([function.__code__.co_filename.count('surge_mm') for function in functions])
    print(checkpoint.__spec__.origin == checkpoint.__file__, LoadImageFromFile.transform.__doc__.count('load image'))
"""


def test_modules_are_patched_whether_they_are_imported_before_or_after():
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "['mmpretrain.utils.dependency']",
        '[]',
        '[1, 1, 1, 1]',
        'True 1',
    ], done.stderr
