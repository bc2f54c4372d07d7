"""All changes that surge_mm makes to PyTorch and to the OpenMMLab packages.

:data:`PATCHES` lists them. ``import surge_mm`` applies them by :func:`install_patches`, for the whole process; modules
that are not imported yet are patched when they are. They let the official releases of MMEngine, MMCV, MMDetection and
MMPretrain run on a current PyTorch, without a compiler, and without running code from checkpoints.

One change is temporary and not in the list: while :mod:`surge_mm.deploy.onnx.export` runs the exporter of PyTorch, it
replaces ``torch._C._jit_onnx_log``, which would print the whole graph of a model that cannot be exported. Another is
made only where Hugging Face transformers is used: :mod:`surge_mm.models.binarization.transformers_models`.
"""

from collections.abc import Callable
from typing import NamedTuple

from surge_mm.compat.checkpoint_loader import allow_mmengine_checkpoints, replace_checkpoint_loader
from surge_mm.compat.config_prefix import register_configs
from surge_mm.compat.image_loading import name_unreadable_images
from surge_mm.compat.mmcv_ops.extension import install_mmcv_ops
from surge_mm.compat.multimodal import disable_broken_multimodal
from surge_mm.compat.short_warm_up import lengthen_short_warm_ups
from surge_mm.compat.when_imported import when_imported


class Patch(NamedTuple):
    """One change of a package.

    Attributes:
        target (str): what is changed.
        reason (str): why it is changed.
        install (Callable): applies the change. A function of the module if there is one.
        module (str): the module that is changed when it is imported. ``''`` for a change that does not wait for an
            import. Defaults to ``''``.
    """

    target: str
    reason: str
    install: Callable[..., object]
    module: str = ''


PATCHES = (
    Patch(
        'mmcv._ext; mmcv.cnn.bricks.transformer.MultiScaleDeformableAttention',
        'mmcv-lite has no compiled operators: torchvision computes them',
        install_mmcv_ops,
    ),
    Patch(
        'torch.serialization.add_safe_globals',
        'MMEngine cannot resume under weights_only=True: the training log in its checkpoints is not a safe global',
        allow_mmengine_checkpoints,
    ),
    Patch(
        "CheckpointLoader scheme '' and load_url",
        'MMEngine runs code from checkpoints: pickles loaded from URLs, and meta.config on resume',
        replace_checkpoint_loader,
        'mmengine.runner.checkpoint',
    ),
    Patch(
        'mmengine.config: utils.MODULE2PACKAGE and Config._get_cfg_path',
        'MMEngine does not find configs of a package in an editable install by a prefix such as surge_mm::',
        register_configs,
    ),
    Patch(
        'WITH_MULTIMODAL',
        'MMPretrain 1.2 cannot be imported beside transformers 4.52 or later',
        disable_broken_multimodal,
        'mmpretrain.utils.dependency',
    ),
    Patch(
        'LoadImageFromFile.transform',
        'errors of OpenCV and Pillow do not name the file, so a broken image ends a training without a trace',
        name_unreadable_images,
        'mmcv.transforms.loading',
    ),
    Patch(
        'LinearParamScheduler.build_iter_from_epoch',
        'a warm-up of a part of an epoch is an error, or never ends, where that part is less than two batches',
        lengthen_short_warm_ups,
        'mmengine.optim.scheduler.param_scheduler',
    ),
)
"""The changes, in the order of their installation."""


def install_patches() -> None:
    """Apply all :data:`PATCHES`. A second call changes nothing."""
    for patch in PATCHES:
        if patch.module:
            when_imported(patch.module, patch.install)
        else:
            patch.install()
