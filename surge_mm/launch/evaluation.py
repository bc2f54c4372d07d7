"""Options of an evaluation: predictions in a file, pictures, test-time augmentation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from surge_mm.preflight.leaves import find_leaves
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.suggestions import argument_names

PICKLES = ('.pkl', '.pickle')
TTA_MODELS: dict[str, dict[str, Any]] = {
    'mmdet': {
        'type': 'DetTTAModel',
        'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 100},
    },
    'mmpretrain': {'type': 'AverageClsScoreTTA'},
}
"""Models for test-time augmentation where the config has none, as in the tools of the hosts."""
MASK_HEADS = {'mask_head', 'panoptic_head'}
"""What MMDetection calls the parts of its detectors that predict masks, wherever they are in a detector."""


def dump_predictions(runner: Runner, path: str) -> None:
    """Let the test of a runner write all predictions to a pickle file, in the form of the host.

    Args:
        runner (Runner): the runner, before its test.
        path (str): the file.

    Raises:
        LaunchError: if the evaluator takes one metric for each data set alone.
    """
    metric = DumpResults
    if runner.cfg.default_scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults, MultiDatasetsEvaluator

        metric = DumpDetResults  # encodes masks
        if isinstance(runner.test_evaluator, MultiDatasetsEvaluator):
            raise LaunchError(
                f'--out {path!r}: MultiDatasetsEvaluator has one metric for each data set, and none for all '
                'predictions. Leave out --out, or test each data set alone'
            )
    runner.test_evaluator.metrics.append(metric(out_file_path=path))


def show_in(cfg: Config, folder: str) -> None:
    """Let the test draw its predictions into a folder.

    Args:
        cfg (Config): config of a run, changed in place.
        folder (str): the folder.

    Raises:
        LaunchError: if the config has no hook that draws.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        raise LaunchError('--show-dir needs default_hooks.visualization, which the config lacks')
    with HOOKS.switch_scope_and_registry(cfg.default_scope) as registry:
        cls = registry.get(hook['type']) if isinstance(hook['type'], str) else hook['type']
    known = argument_names(cls)
    path = str(Path(folder).resolve())  # MMDetection puts a relative one into the work dir
    hook.update({key: True for key in ('draw', 'enable') if key in known})
    hook['interval'] = 1
    names = [key for key in ('test_out_dir', 'out_dir') if key in known]
    if names:
        hook[names[0]] = path
    elif cfg.get('visualizer'):
        cfg.visualizer['save_dir'] = path


def augment_test(cfg: Config) -> None:
    """Let the test average predictions for augmented images: by the config, or for each image and its mirror image.

    Args:
        cfg (Config): config of a run, changed in place. Its ``tta_model`` and ``tta_pipeline`` are used where it has
            them.

    Raises:
        LaunchError: if the config has none of them and its host has no default, or the test set has no pipeline.
    """
    model = cfg.get('tta_model') or TTA_MODELS.get(cfg.default_scope)
    leaves = [leaf for _, leaf in find_leaves('dataset', cfg.test_dataloader.dataset)]
    steps = [cfg.get('tta_pipeline') or _flipped(leaf) for leaf in leaves]
    hook = (cfg.get('default_hooks') or {}).get('visualization') or {}
    if cfg.default_scope == 'mmpretrain' and hook.get('enable'):
        raise LaunchError(
            '--tta: the hook of MMPretrain cannot draw augmented images; leave out --show-dir'
        )
    if not model or not all(steps):
        raise LaunchError(
            '--tta needs tta_model and tta_pipeline in the config: neither has a default for '
            f'default_scope={cfg.default_scope!r} and this test set'
        )
    cfg.model = ConfigDict({**model, 'module': cfg.model})
    for leaf, own in zip(leaves, steps, strict=True):
        leaf.pipeline = own


def check_merged(model: nn.Module) -> None:
    """Check that MMDetection's merging of augmented predictions, which is that of boxes, suits the model.

    Args:
        model (nn.Module): the model of the runner, with or without test-time augmentation.

    Raises:
        LaunchError: if it is a ``DetTTAModel`` of a detector with masks.
    """
    for module in model.modules():
        if type(module).__name__ != 'DetTTAModel':
            continue
        detector: Any = module.module
        if MASK_HEADS & {name.rpartition('.')[2] for name, _ in detector.named_modules()}:
            raise LaunchError(
                f'--tta: DetTTAModel of MMDetection merges boxes, but {type(detector).__name__} also predicts '
                'masks. Leave out --tta, or add a tta_model to the config that merges masks'
            )


def _flipped(dataset: ConfigDict) -> list[Any]:
    """Return the pipeline of a dataset with each image as it is and flipped; an empty list if it has none."""
    steps = copy.deepcopy(dataset.get('pipeline') or [])
    if steps:
        pack = steps[-1]
        if 'meta_keys' in pack:
            pack['meta_keys'] = (*pack['meta_keys'], 'flip', 'flip_direction')
        # the merged sample has the ground truth of the first view
        flips = [{'type': 'RandomFlip', 'prob': prob} for prob in (0.0, 1.0)]
        steps[-1] = ConfigDict(type='TestTimeAug', transforms=[flips, [pack]])
    return steps
