"""Export of a packed model to one C file and its header, which need no library but that of C."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from surge_mm.deploy.c.assemble import CFile, Task, c_file
from surge_mm.deploy.c.classify import classifier_steps
from surge_mm.deploy.c.epilogues import fuse
from surge_mm.deploy.c.graph import Graph
from surge_mm.deploy.c.heads import head_of
from surge_mm.deploy.c.images import input_steps
from surge_mm.deploy.c.trace import trace
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError, describe_error
from surge_mm.utils.modules import is_packed

SUFFIX = '.c'
OTHER_SIZE = (32, 64)
"""Pixels by which the image of a second trace is larger than that of the first."""


def export_c(
    model: nn.Module, path: str | os.PathLike, largest: tuple[int, int] | None = None
) -> CFile:
    """Write a packed model as a C file, and a header with the same name beside it.

    Of a detector of MMDetection with its config in ``model.cfg``, the C file has the steps from a picture to boxes, of
    a classifier of MMPretrain those from a picture to scores. Of other models it has the network alone.

    Args:
        model (nn.Module): A packed classifier, one-stage detector or module that takes images.
        path (str | os.PathLike): The file, ``*.c``. Its stem is the prefix of all names in the header.
        largest (tuple[int, int], optional): Height and width of the largest image. Defaults to that of the test
            pipeline of a detector, which may be two if the pipeline keeps the ratio of an image.

    Returns:
        CFile: The texts, and the sizes of the model in C.

    Raises:
        UsageError: if the stem is no name in C, the model has an operation that has no form in C, or the largest image
            does not fit the network or is not given. Nothing is written then.
        WriteError: if a file cannot be written.
    """
    path = Path(path)
    check_name(path)
    _check_model(model)
    steps, sizes = None, [] if largest is None else [largest]
    is_detector = 'BaseDetector' in base_class_names(model) and hasattr(model, 'cfg')
    if (
        'ImageClassifier' in base_class_names(model)
        and hasattr(model, 'cfg')
        and largest is not None
    ):
        steps = classifier_steps(model, largest)
    if is_detector:
        steps = input_steps(model, None if largest is None else largest[::-1])
        if largest is not None:
            steps = steps._replace(largest=(_padded(model, largest),))
    if steps:
        sizes = list(dict.fromkeys((height, width) for width, height in steps.largest))
    if not sizes:
        raise UsageError(
            f'{type(model).__name__} has no test pipeline: give the largest image, (height, width)'
        )
    graph = graph_of(model, sizes[0])
    head = head_of(model, len(graph.outputs)) if is_detector else None
    task = Task(steps, head) if steps else None
    classes = tuple((getattr(model, 'dataset_meta', None) or {}).get('classes') or ())
    made = c_file(graph, path.stem, sizes, classes, task)
    write_atomically(path.with_suffix('.h'), made.header.encode())
    write_atomically(path, made.source.encode())
    return made


def check_name(path: Path) -> None:
    """Check that the stem of a path can be the prefix of names in C.

    Args:
        path (Path): Path of the C file.

    Raises:
        UsageError: if it cannot.
    """
    if not re.fullmatch('(?!surge)[A-Za-z][A-Za-z0-9_]*', path.stem):
        raise UsageError(
            f'{path.stem!r} of {str(path)!r} cannot be the first part of names in C, and the functions in the file are '
            'named after it: use letters, digits and underscores, as in detector.c, and another word than surge'
        )


def check_largest(model: nn.Module, largest: tuple[int, int]) -> None:
    """Check that the pictures which the test pipeline has resized fit into the largest image.

    Args:
        model (nn.Module): A packed detector with ``cfg``.
        largest (tuple[int, int]): Height and width of the largest image.

    Raises:
        UsageError: if none fits.
    """
    steps, (height, width) = input_steps(model, largest[::-1]), largest
    fits = any(w <= width and h <= height for w, h in steps.largest)
    if steps.resize in ('SURGE_EXACT', 'SURGE_KEEP_RATIO') and not fits:
        w, h = steps.size
        raise UsageError(
            f'the largest image of {height}x{width} is smaller than that to which the test pipeline resizes all '
            f'pictures, {h}x{w}. Leave out --shape, or change scale of Resize in the test pipeline'
        )


def _padded(model: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of an image (height, width) that the data preprocessor pads."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in size)
    return width, height


def graph_of(model: nn.Module, size: tuple[int, int]) -> Graph:
    """Return the graph of a packed model, with few passes over its maps.

    Args:
        model (nn.Module): The model.
        size (tuple[int, int]): Height and width of an image.

    Raises:
        UsageError: if the model has an operation that has no form in C, or runs for images of one size alone.
    """
    graph = _traced(
        model,
        size,
        'Choose a size that its strides divide, and a model that takes nothing but images',
    )
    other = (size[0] + OTHER_SIZE[0], size[1] + OTHER_SIZE[1])
    again = _traced(
        model, other, f'It runs for {size[0]}x{size[1]}, and C code is for images of any size'
    )
    shapes = graph.shapes(*other)
    for one, two in zip(graph.nodes, again.nodes, strict=True):
        if one.kind != two.kind or shapes[one.output] != again.traced[two.output]:
            raise UsageError(
                f'{one.name}: for an image of {other} it makes a map of {tuple(again.traced[two.output])}, where '
                f'{tuple(shapes[one.output])} was computed from its operation for {size}. Export the model to ONNX'
            )
    fuse(graph)
    return graph


def _traced(model: nn.Module, size: tuple[int, int], advice: str) -> Graph:
    try:
        return trace(model, *size)
    except UsageError:
        raise
    except Exception as error:  # of any layer of the hosts
        raise UsageError(
            f'{type(model).__name__} does not run on an image of {size[0]}x{size[1]} alone: {describe_error(error)}. '
            f'{advice}'
        ) from error


def _check_model(model: nn.Module) -> None:
    if not is_packed(model):
        raise UsageError(
            f'{type(model).__name__} has no packed layer: call surge_mm.deploy.pack(model) first'
        )
    if 'BaseDetector' in base_class_names(model) and not hasattr(model, 'bbox_head'):
        raise UsageError(
            f'{type(model).__name__} has several stages, with boxes between them, and has no form in C. Export a '
            'one-stage detector, or the backbone: model.backbone'
        )
