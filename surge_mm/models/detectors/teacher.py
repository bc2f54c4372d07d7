"""Loading the teacher of a detector, and checks that it can teach the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn
from surge_mm.utils.registry_errors import explain


def load_teacher(config: str, checkpoint: str) -> tuple[nn.Module, list[str] | None]:
    """Build a full-precision detector and load its weights.

    Args:
        config (str): Path of its config.
        checkpoint (str): Path or address of its checkpoint.

    Returns:
        tuple[nn.Module, list[str] | None]: The detector, in evaluation mode and without gradients, and the names of
        its classes if the checkpoint has them.

    Raises:
        UsageError: if a file does not exist, the config cannot be built, or the checkpoint does not fit it.
    """
    if not Path(config).is_file():
        raise UsageError(
            f'teacher: config={config!r}: there is no such file (current directory {Path.cwd()})'
        )
    try:
        cfg = Config.fromfile(config)
        if cfg.get('data_preprocessor') and cfg.get('model'):  # the Runner merges it so
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmdet'):
            teacher = MODELS.build(cfg.model) if cfg.get('model') else None
    except Exception as error:  # classes of the hosts raise anything for wrong arguments
        raise UsageError(f'teacher: config={config!r}: {explain(error)}') from error
    if teacher is None:
        raise UsageError(f'teacher: config={config!r} has no model')
    require_detector('teacher', teacher)
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except FileNotFoundError as error:
        raise UsageError(f'teacher: {error}') from error
    weights = {k.removeprefix('module.'): v for k, v in loaded.get('state_dict', loaded).items()}
    try:
        keys = teacher.load_state_dict(weights, strict=False)
        missing = [key for key in keys.missing_keys if not key.endswith('num_batches_tracked')]
        problem = f'{missing[0]!r} and {len(missing) - 1} more are missing in it' if missing else ''
    except UsageError as error:  # of a backbone of this package
        problem = str(error)
    except RuntimeError as error:  # wrong shapes
        problem = str(error).splitlines()[1].strip()
    if problem:
        raise UsageError(
            f'teacher: checkpoint={checkpoint!r} does not fit config={config!r}: {problem}. Use the config with which '
            'it was trained'
        )
    if keys.unexpected_keys:
        warn(
            f'teacher: checkpoint={checkpoint!r} has {len(keys.unexpected_keys)} tensors that config={config!r} has no '
            f'place for, such as {keys.unexpected_keys[0]!r}. Check that it was trained with this config'
        )
    meta = loaded.get('meta') or {}
    classes = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    teacher.requires_grad_(False).eval()
    return teacher, list(classes) if classes else None


def require_detector(name: str, model: nn.Module) -> None:
    """Raise an error if a model is no single-stage or two-stage detector with a neck.

    Args:
        name (str): What the model is, for the error message.
        model (nn.Module): The model.

    Raises:
        UsageError: if it is none.
    """
    if not isinstance(model, (SingleStageDetector, TwoStageDetector)):
        raise UsageError(
            f'{name}: {type(model).__name__} must be a SingleStageDetector or TwoStageDetector of MMDetection: its '
            'outputs cannot be compared with those of another detector'
        )
    if not model.with_neck:
        raise UsageError(
            f'{name}: {type(model).__name__} has no neck, whose outputs distillation compares'
        )


def check_teacher(student: Any, teacher: Any) -> None:
    """Check that a teacher can teach a student, as far as their parts tell without an image.

    Args:
        student (BaseDetector): The student.
        teacher (BaseDetector): The teacher.

    Raises:
        UsageError: if number of classes or normalization of images differ.
    """
    pairs = {
        'number of classes': (_num_classes(teacher), _num_classes(student)),
        'data_preprocessor (mean, std, channels reversed)': (
            _normalization(teacher),
            _normalization(student),
        ),
    }
    for what, (theirs, own) in pairs.items():
        if theirs != own:
            raise UsageError(
                f'teacher: its {what} is {theirs}, that of the model is {own}. They must be equal, as both see the '
                'same images'
            )


def check_class_names(theirs: list[str] | None) -> None:
    """Check that the classes of the teacher have the names of those of the training set.

    Args:
        theirs (list[str], optional): Names of the classes of the teacher. None if they are unknown.

    Raises:
        UsageError: if the names or their order differ.
    """
    own = (MessageHub.get_current_instance().get_info('dataset_meta') or {}).get('classes')
    if theirs and own and list(theirs) != list(own):
        raise UsageError(
            f'teacher: its classes are {list(theirs)}, those of the training set are {list(own)}. They must be equal, '
            'in the same order'
        )


def _num_classes(model: Any) -> int | None:
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    return getattr(head[0] if isinstance(head, nn.ModuleList) else head, 'num_classes', None)


def _normalization(model: Any) -> tuple[Any, ...]:
    preprocessor = model.data_preprocessor
    numbers = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    lists = (x if x is None else [round(v, 4) for v in x.flatten().tolist()] for x in numbers)
    return (*lists, getattr(preprocessor, '_channel_conversion', False))
