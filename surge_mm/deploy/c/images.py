"""Test pipeline and data preprocessor as a struct of ``sources/resize.c``; those of a detector."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from surge_mm.deploy.predict.image_input import ImageInput
from surge_mm.utils.errors import UsageError

Size = tuple[int, int]
WORKSPACE = {'bilinear.c': 23, 'pillow.c': 35}
"""Bytes of workspace for each column of the resized picture, by the source of the resizing."""


class InputSteps(NamedTuple):
    """Steps from the pixels of a picture to the input of the network. Sizes are (width, height).

    Attributes:
        resize (str): A name of ``sources/resize.c``, such as ``'SURGE_KEEP_RATIO'``.
        size (Size): Of the resized picture, the box into which it is fitted, or the length of the resized edge, twice.
            (0, 0) without resizing.
        pad (Size): Least size after ``Pad``, or (0, 0).
        pad_square (bool): Whether ``Pad`` makes a square.
        pad_divisor (int): Divisor of ``Pad``.
        pad_value (tuple[int, ...]): Value of ``Pad`` for each channel of the network.
        divisor (int): Divisor of the data preprocessor.
        border (float): Value of its border.
        is_rgb (bool): Whether the network takes RGB, not BGR.
        table (np.ndarray): ``(256, 3)``, float32, the normalized value of each number in each channel.
        largest (tuple[Size, ...]): The input of the network fits into one of these sizes.
        crop (Size): Largest size after ``CenterCrop``. Defaults to (0, 0), without it.
        resizer (str): Source of the resizing, that of OpenCV or of Pillow. Defaults to ``'bilinear.c'``.
    """

    resize: str
    size: Size
    pad: Size
    pad_square: bool
    pad_divisor: int
    pad_value: tuple[int, ...]
    divisor: int
    border: float
    is_rgb: bool
    table: np.ndarray
    largest: tuple[Size, ...]
    crop: Size = (0, 0)
    resizer: str = 'bilinear.c'

    @property
    def workspace(self) -> int:
        """Bytes of workspace of ``surge_start_rows``."""
        return WORKSPACE[self.resizer] * max(width for width, _ in self.largest)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the steps in C."""
        return 'resize.c', self.resizer, 'prepare.c'


def input_steps(model: Any, largest: Size | None = None) -> InputSteps:
    """Return the steps of the test pipeline and of the data preprocessor.

    Args:
        model (nn.Module): Detector of MMDetection with ``cfg``.
        largest (Size, optional): Largest (width, height) of a picture, for a test pipeline that does not resize.
            Defaults to None.

    Raises:
        UsageError: if a step, or an option of one, has no form in C.
    """
    images = ImageInput(model)
    if not images.is_plain:
        raise UsageError(
            f'the test pipeline of {type(model).__name__} or its data preprocessor has no form in C. It must consist '
            'of LoadImageFromFile, Resize, Pad and PackDetInputs, with DetDataPreprocessor. Export to a packed file'
        )
    preprocessor = images.preprocessor
    is_rgb = bool(preprocessor._channel_conversion)
    resize, size, bounded = 'SURGE_AS_IS', (0, 0), largest
    pad, pad_square, pad_divisor = (0, 0), False, 1
    pad_value: tuple[int, ...] = (0, 0, 0)
    names = [type(step).__name__ for step in images.sizes]
    if names not in (
        [],
        ['Resize'],
        ['FixScaleResize'],
        ['Pad'],
        ['Resize', 'Pad'],
        ['FixScaleResize', 'Pad'],
    ):
        raise UsageError(
            f'the steps {", ".join(names)} of the test pipeline have no form in C: at most one Resize, and one Pad '
            'behind it, have'
        )
    for name, step in zip(names, images.sizes, strict=True):
        if name == 'Pad':
            pad_square, pad_divisor = bool(step.pad_to_square), step.size_divisor or 1
            pad = tuple(step.size) if step.size else (0, 0)
            pad_value = _pad_value(step, is_rgb)
        else:
            resize, size = _resize(name, step)
            bounded = size
    if bounded is None:
        raise UsageError(
            'the test pipeline does not resize the images, so the largest size is not known: give it by --shape'
        )
    either = (bounded,) if resize in ('SURGE_AS_IS', 'SURGE_EXACT') else (bounded, bounded[::-1])
    steps = InputSteps(
        resize,
        size,
        pad,
        pad_square,
        pad_divisor,
        pad_value,
        preprocessor.pad_size_divisor,
        float(preprocessor.pad_value),
        is_rgb,
        images.table.reshape(256, 3),
        (),
    )
    return steps._replace(largest=tuple(_padded(steps, one) for one in either))


def _resize(name: str, step: Any) -> tuple[str, Size]:
    if step.interpolation != 'bilinear' or step.backend not in (None, 'cv2'):
        raise UsageError(
            f'{name} with interpolation={step.interpolation!r} and backend={step.backend!r} has no form in C, which '
            "has 'bilinear' of 'cv2'"
        )
    if not step.scale:
        raise UsageError(
            f'{name} with scale_factor={step.scale_factor!r} has no form in C, since its images have no largest size. '
            'Set scale=(WIDTH, HEIGHT) in the test pipeline'
        )
    if not step.keep_ratio:
        return 'SURGE_EXACT', tuple(step.scale)
    return ('SURGE_KEEP_RATIO' if name == 'Resize' else 'SURGE_KEEP_RATIO_DOWN'), tuple(step.scale)


def _pad_value(step: Any, is_rgb: bool) -> tuple[int, ...]:
    if step.padding_mode != 'constant':
        raise UsageError(
            f"Pad with padding_mode={step.padding_mode!r} has no form in C: use 'constant'"
        )
    value = step.pad_val.get('img', 0)
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    if len(values) != 3 or any(one != int(one) or not 0 <= one <= 255 for one in values):
        raise UsageError(f'Pad with pad_val={value!r} has no form in C: use integers of 0 to 255')
    return tuple(map(int, values[::-1] if is_rgb else values))


def _padded(steps: InputSteps, size: Size) -> Size:
    """Return the size of the input of the network for a resized picture."""
    if steps.pad_square:
        size = (max(size),) * 2
    size = max(size[0], steps.pad[0]), max(size[1], steps.pad[1])
    for divisor in (steps.pad_divisor, steps.divisor):
        size = tuple(-(-side // divisor) * divisor for side in size)  # type: ignore[assignment]
    return size


def c_input(steps: InputSteps, name: str) -> str:
    """Return the declaration of a ``surge_input``.

    Args:
        steps (InputSteps): The steps.
        name (str): Name of the variable.
    """
    numbers = (float(value).hex() for value in steps.table.reshape(-1))
    largest = steps.largest * 2
    fields = (
        steps.resize,
        _braces(steps.size),
        _braces(steps.crop),
        _braces(steps.pad),
        str(int(steps.pad_square)),
        str(steps.pad_divisor),
        _braces(steps.pad_value),
        str(steps.divisor),
        f'{steps.border.hex()}f',
        '{0, 1, 2}' if steps.is_rgb else '{2, 1, 0}',
        f'{name}_table',
        f'{{{_braces(largest[0])}, {_braces(largest[1])}}}',
    )
    table = ', '.join(f'{number}f' for number in numbers)
    return (
        f'static const float {name}_table[768] = {{{table}}};\n'
        f'static const surge_input {name} = {{{", ".join(fields)}}};\n'
    )


def _braces(numbers: tuple[int, ...]) -> str:
    return '{' + ', '.join(map(str, numbers)) + '}'
