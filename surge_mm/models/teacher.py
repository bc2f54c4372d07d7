"""A teacher that is no part of its student's state dict, and the loading of one from config and checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from surge_mm.checkpoint.hugging_face import read_folder
from surge_mm.registry import WEIGHT_INITIALIZERS
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn
from surge_mm.utils.registry_errors import explain


class Teacher:
    """Mixin that precedes the class of a model. Its teacher moves with the model, and is hidden otherwise.

    The teacher is not in ``state_dict()``, ``parameters()`` and ``modules()``. It keeps its mode when the student
    changes between training and evaluation.
    """

    _teacher: list[nn.Module]
    """The teacher; empty before it is loaded, and after :func:`surge_mm.deploy.strip`. A list hides its modules."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for teacher in self._teacher:
            teacher._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[misc]


def check_teacher_files(owner: str, teacher: Any) -> None:
    """Check that the argument ``teacher`` names a config and a checkpoint.

    Args:
        owner (str): Name of the model that has the argument.
        teacher (Mapping[str, str]): The argument.

    Raises:
        UsageError: if it has other keys.
    """
    if set(teacher) != {'config', 'checkpoint'}:
        raise UsageError(
            f'{owner}: teacher={dict(teacher)!r} must be dict(config=..., checkpoint=...), the paths of the config and '
            'of the checkpoint of the teacher'
        )


def load_teacher(
    config: str, checkpoint: str, require: Callable[[str, nn.Module], None]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a teacher and load its weights.

    Args:
        config (str): Path of its config.
        checkpoint (str): Path or address of its checkpoint, or a folder that Hugging Face transformers has saved.
        require (Callable): Called with ``'teacher'`` and the model; raises an error if it cannot be a teacher.

    Returns:
        tuple[nn.Module, dict]: The model, in evaluation mode and without gradients, and ``meta`` of the checkpoint; of
            a folder, ``labels``, the names of its labels.

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
    require('teacher', teacher)
    if Path(checkpoint).expanduser().is_dir():
        meta = _load_folder(teacher, checkpoint)
        return teacher.requires_grad_(False).eval(), meta
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
    teacher.requires_grad_(False).eval()
    return teacher, loaded.get('meta') or {}


def _load_folder(teacher: nn.Module, folder: str) -> dict[str, Any]:
    """Load a folder of Hugging Face, which must have a classifier, and return the names of its labels as ``labels``."""
    try:
        saved = read_folder(folder)
        if 'classifier.weight' not in saved.tensors:
            raise UsageError(
                f'{folder!r} has no classifier. A teacher is a model that was trained on the task, such as '
                'BertForSequenceClassification'
            )
        WEIGHT_INITIALIZERS.build({'type': 'surge_mm.HuggingFaceInit', 'folder': folder})(teacher)
    except UsageError as error:
        raise UsageError(f'teacher: checkpoint: {error}') from error
    return {'labels': saved.config.get('id2label') or {}}
