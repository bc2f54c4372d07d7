"""Models with a teacher: how it is loaded, checked and hidden.

In a config, ``teacher=dict(config=..., checkpoint=...)`` has the paths of its config and of its checkpoint.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import Tensor, nn

from surge_mm.checkpoint.checked import load_checked
from surge_mm.checkpoint.hugging_face import read_folder
from surge_mm.registry import WEIGHT_INITIALIZERS
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import default_scope, find_config, model_config
from surge_mm.utils.logging import log
from surge_mm.utils.registry_errors import explain


class Student:
    """Mixin that precedes the class of a model which is trained with a teacher.

    The teacher is loaded and checked when the weights are initialized, or on first use. It has no gradient and stays in
    evaluation mode. It moves with the student, and is hidden otherwise: it is not in ``state_dict()``,
    ``parameters()`` and ``modules()``.
    """

    _teacher: list[nn.Module]
    """The teacher; empty before it is loaded, and after :func:`surge_mm.deploy.strip`. A list hides its modules."""
    _trained_on: Mapping[str, Any]
    """What its checkpoint states of the training set: ``classes`` and others."""

    def _set_teacher(self, owner: str, teacher: Mapping[str, Any], init: str | None = None) -> None:
        """Set config and checkpoint of the teacher.

        Args:
            owner (str): Name of the class in the config, for the error message.
            teacher (Mapping[str, str]): ``config`` and ``checkpoint``.
            init (str, optional): ``'teacher'`` to initialize the student by the tensors of the teacher that have the
                same name and shape. Defaults to None.

        Raises:
            UsageError: if ``teacher`` does not have exactly its two keys.
        """
        if set(teacher) != {'config', 'checkpoint'} or not all(
            isinstance(value, str) for value in teacher.values()
        ):
            raise UsageError(
                f'{owner}: teacher={dict(teacher)!r:.200} must be dict(config=..., checkpoint=...), the paths of the '
                'config and of the checkpoint of the teacher'
            )
        self._teacher = []
        self._trained_on = {}
        self._teacher_files = dict(teacher)
        self._starts_from_teacher = init is not None

    @abstractmethod
    def _check_teacher(self, teacher: Any) -> None:
        """Raise an error if a model, without its weights, cannot teach this one."""

    @property
    def teacher(self) -> nn.Module:
        """The full-precision model. It is loaded and checked on first use."""
        return self._load_teacher()

    def _load_teacher(self) -> Any:  # in a property, nn.Module would hide an AttributeError
        if not self._teacher:
            teacher, self._trained_on = load_teacher(
                **self._teacher_files, check=self._check_teacher
            )
            self._teacher.append(teacher.to(next(self.parameters())))  # type: ignore[attr-defined]
        return self._teacher[0]

    def init_weights(self) -> None:
        """Initialize the student, and load the teacher."""
        super().init_weights()  # type: ignore[misc]
        weights = self._load_teacher().state_dict()
        if self._starts_from_teacher:
            own = self.state_dict()  # type: ignore[attr-defined]
            common = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
            # its own for the others: backbones of this package refuse a state dict without some of their convolutions
            kept = {k: v for k, v in own.items() if k.endswith('.weight')}
            self.load_state_dict({**kept, **common}, strict=False)  # type: ignore[attr-defined]
            log(f'{len(common)} of {len(own)} tensors are initialized by those of the teacher')

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for teacher in self._teacher:
            teacher._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[misc]

    def _check_training_set(self, keys: Iterable[str] = ('classes',)) -> None:
        """Check that the teacher was trained on the classes of the training set of this run, in the same order.

        Args:
            keys (Iterable[str]): Metadata of the data set to compare, where both have it. Defaults to the classes.

        Raises:
            UsageError: if they differ.
        """
        own = MessageHub.get_current_instance().get_info('dataset_meta') or {}
        for key in keys:
            both = [
                list(value) if isinstance(value, (list, tuple)) else value
                for value in (self._trained_on.get(key), own.get(key))
            ]
            if None not in both and both[0] != both[1]:
                raise UsageError(
                    f'teacher: it was trained with {key}={both[0]!r}, the training set has {both[1]!r}. Both must be '
                    'equal, classes in the same order'
                )


def check_equal(own: Mapping[str, Any], theirs: Mapping[str, Any], *, advice: str) -> None:
    """Check that properties of the teacher are those of the student.

    Args:
        own (dict[str, Any]): Properties of the student by name.
        theirs (dict[str, Any]): The same of the teacher.
        advice (str): End of the error message: what to do.

    Raises:
        UsageError: if one differs.
    """
    for what, value in own.items():
        if theirs[what] != value:
            raise UsageError(
                f'teacher: its {what} is {theirs[what]!s:.300}, that of the model is {value!s:.300}. {advice}'
            )


def check_images(student: Any, teacher: Any, classes: Callable[[Any], int | None]) -> None:
    """Check that a teacher of images has the classes and the normalization of its student.

    Args:
        student (BaseModel): The student.
        teacher (BaseModel): The teacher.
        classes (Callable): Returns the number of classes of a model.

    Raises:
        UsageError: if they differ.
    """
    properties = (
        {
            'number of classes': classes(model),
            'data_preprocessor (mean, std, channels reversed)': _normalization(model),
        }
        for model in (student, teacher)
    )
    check_equal(*properties, advice='They must be equal, as both see the same images')


def _normalization(model: Any) -> tuple[Any, ...]:
    preprocessor = model.data_preprocessor
    numbers = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    lists = (x if x is None else [round(v, 4) for v in x.flatten().tolist()] for x in numbers)
    reverses = (getattr(preprocessor, name, False) for name in ('_channel_conversion', 'to_rgb'))
    return (*lists, any(reverses))


def load_teacher(
    config: str, checkpoint: str, check: Callable[[nn.Module], None]
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Build a teacher, check it and load its weights.

    Args:
        config (str): Path of its config, or its name with the prefix of a host, such as
            ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'``.
        checkpoint (str): Path or address of its checkpoint, or a folder that Hugging Face transformers has saved.
        check (Callable): Called with the model before its weights are loaded; raises an error if it cannot teach.

    Returns:
        tuple[nn.Module, Mapping]: The model, in evaluation mode and without gradients, and the metadata of its training
            set, such as ``classes``, if the checkpoint has it; of a folder, ``labels``, the names of its labels.

    Raises:
        UsageError: if a file does not exist, the config cannot be built, or the checkpoint does not fit it.
    """
    teacher = build_teacher(config)
    check(teacher)
    if Path(checkpoint).expanduser().is_dir():
        trained_on = _load_folder(teacher, checkpoint)
        return teacher.requires_grad_(False).eval(), trained_on
    try:
        loaded = load_checked(teacher, checkpoint)
    except UsageError as error:
        raise UsageError(f'teacher: config={config!r}: {error}') from error
    meta = loaded.get('meta') or {}
    trained_on = meta.get('dataset_meta') or meta  # before MMEngine, CLASSES were in meta
    trained_on = {str(key).lower(): value for key, value in trained_on.items()}
    return teacher.requires_grad_(False).eval(), trained_on


def build_teacher(config: str) -> nn.Module:
    """Build a teacher, without its weights.

    Args:
        config (str): As for :func:`load_teacher`.

    Raises:
        UsageError: if the config does not exist or cannot be built.
    """
    try:
        path = Path(find_config(config))
    except UsageError as error:
        raise UsageError(f'teacher: {error}') from error
    if not path.is_file():
        raise UsageError(
            f'teacher: config={config!r}: there is no such file (current directory {Path.cwd()})'
        )
    try:
        cfg = Config.fromfile(path)
        with default_scope(cfg.get('default_scope')):
            teacher = MODELS.build(model_config(cfg)) if cfg.get('model') else None
    except Exception as error:  # classes of the hosts raise anything for wrong arguments
        raise UsageError(f'teacher: config={config!r}: {explain(error)}') from error
    if teacher is None:
        raise UsageError(f'teacher: config={config!r} has no model')
    return teacher


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
