"""Export of a packed model to one C file and its header, which need no library but that of C."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.deploy.c.emit import Constants, network
from surge_mm.deploy.c.fuse import fuse
from surge_mm.deploy.c.graph import Graph
from surge_mm.deploy.c.kernels import kernels
from surge_mm.deploy.c.plan import ALIGNMENT, make_plan
from surge_mm.deploy.c.trace import trace
from surge_mm.deploy.c.weights import workspace_bytes
from surge_mm.deploy.packed_layers import PackedLayer
from surge_mm.models.binarization.layer_candidates import class_names
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError, describe_error

SUFFIX = '.c'
SOURCES = ('layers.h', 'steps.c')
OTHER_SIZE = (32, 64)
"""Pixels by which the image of a second trace is larger than that of the first."""


class CFile(NamedTuple):
    """A model in C.

    Attributes:
        source (str): Text of the C file.
        header (str): Text of the header.
        memory (int): Bytes of memory that it needs to run.
        constants (int): Bytes of its weights and other constants.
    """

    source: str
    header: str
    memory: int
    constants: int


def export_c(model: nn.Module, path: str | os.PathLike, largest: list[tuple[int, int]]) -> CFile:
    """Write a packed model as a C file, and a header with the same name beside it.

    Args:
        model (nn.Module): A packed classifier, one-stage detector or module that takes images.
        path (str | os.PathLike): The file, ``*.c``. Its stem is the prefix of all names in the header.
        largest (list[tuple[int, int]]): Heights and widths of the largest images. An image must fit into one of them.

    Returns:
        CFile: The texts, and the sizes of the model in C.

    Raises:
        UsageError: if the stem is no name in C, the model has an operation that has no form in C, or an image of one of
            the sizes does not fit the network. Nothing is written then.
        WriteError: if a file cannot be written.
    """
    path = Path(path)
    check_name(path)
    classes = tuple((getattr(model, 'dataset_meta', None) or {}).get('classes') or ())
    made = c_file(graph_of(model, largest[0]), path.stem, largest, classes)
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
    if not re.fullmatch('[A-Za-z][A-Za-z0-9_]*', path.stem):
        raise UsageError(
            f'{path.stem!r} of {str(path)!r} is no identifier of C, and the functions in the file are named after it: '
            'use letters, digits and underscores, as in detector.c'
        )


def largest_inputs(model: Any, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return heights and widths of the largest images after the padding of the data preprocessor.

    They are two if the test pipeline keeps the ratio of an image, whose longer side may be either one.

    Args:
        model (nn.Module): The model, with its config in ``cfg``.
        shape (tuple[int, int]): Height and width of the largest image before it is padded.
    """
    divisor = getattr(getattr(model, 'data_preprocessor', None), 'pad_size_divisor', 1)
    height, width = (-(-size // divisor) * divisor for size in shape)
    steps = evaluation_pipeline(model.cfg)
    keeps_ratio = any(step.get('keep_ratio', step['type'] == 'FixScaleResize') for step in steps)
    return list(dict.fromkeys([(height, width), *[(width, height)] * keeps_ratio]))


def graph_of(model: nn.Module, size: tuple[int, int]) -> Graph:
    """Return the graph of a packed model, with few passes over its maps.

    Args:
        model (nn.Module): The model.
        size (tuple[int, int]): Height and width of an image.

    Raises:
        UsageError: if the model has an operation that has no form in C, or runs for images of one size alone.
    """
    _check_model(model)
    try:
        graph = trace(model, *size)
    except UsageError:
        raise
    except Exception as error:  # of any layer of the hosts
        raise UsageError(
            f'{type(model).__name__} does not run on an image of {size} alone: {describe_error(error)}'
        ) from error
    other = (size[0] + OTHER_SIZE[0], size[1] + OTHER_SIZE[1])
    try:
        again = trace(model, *other)
    except UsageError:
        raise
    except Exception as error:  # of any layer of the hosts
        raise UsageError(
            f'{type(model).__name__} runs for images of {size}, but not for {other}: {describe_error(error)}'
        ) from error
    shapes = graph.shapes(*other)
    for one, two in zip(graph.nodes, again.nodes, strict=True):
        if one.kind != two.kind or shapes[one.output] != again.traced[two.output]:
            raise UsageError(
                f'{one.name}: for an image of {other} it makes a map of {tuple(again.traced[two.output])}, where '
                f'{tuple(shapes[one.output])} was computed from its operation for {size}. Export the model to ONNX'
            )
    fuse(graph)
    return graph


def _check_model(model: nn.Module) -> None:
    if not any(isinstance(module, PackedLayer) for module in model.modules()):
        raise UsageError(
            f'{type(model).__name__} has no packed layer: call surge_mm.deploy.pack(model) first'
        )
    if 'BaseDetector' in class_names(model) and not hasattr(model, 'bbox_head'):
        raise UsageError(
            f'{type(model).__name__} has several stages, with boxes between them, and has no form in C. Export a '
            'one-stage detector, or the backbone: model.backbone'
        )


def c_file(
    graph: Graph, name: str, largest: list[tuple[int, int]], classes: tuple[str, ...] = ()
) -> CFile:
    """Return the C code of a network.

    Args:
        graph (Graph): The network.
        name (str): Prefix of all names in the header.
        largest (list[tuple[int, int]]): Heights and widths of the largest images.
        classes (tuple[str, ...]): Names of the classes. Defaults to none.
    """
    workspaces: dict[int, int] = {}
    for size in largest:
        shapes = graph.shapes(*size)
        for node in graph.nodes:
            needed = workspace_bytes(node, shapes[node.inputs[0]])
            workspaces[node.output] = max(needed, workspaces.get(node.output, 0))
    plan = make_plan(graph, largest, workspaces)
    constants = Constants()
    body = network(graph, plan, constants, name)
    memory = plan.bytes + ALIGNMENT - 1
    values = {
        'name': name,
        'NAME': name.upper(),
        'memory': str(memory),
        'maps': str(len(graph.outputs)),
        'fits': ' || '.join(f'(height <= {h} && width <= {w})' for h, w in largest),
        'n_classes': str(len(classes)),
        'classes': ''.join(f'{c_string(text)}, ' for text in classes),
    }
    folder = files('surge_mm.deploy.c') / 'sources'
    texts = {part: (folder / part).read_text() for part in (*SOURCES, 'api.h', 'api.c')}
    header, api = (_filled(texts[part], values) for part in ('api.h', 'api.c'))
    parts = [f'#include "{name}.h"\n', *(texts[part] for part in SOURCES)]
    parts.append(kernels({node.kind for node in graph.nodes}))
    parts += ['\n'.join(constants.lines), '', body, '', api]
    return CFile('\n'.join(parts), header, memory, constants.bytes)


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f'@{key}@', value)
    return text


def c_string(text: str) -> str:
    """Return a string literal of C, in ASCII."""
    plain = (32 <= byte < 127 and chr(byte) not in '"\\?' for byte in text.encode())
    pairs = zip(text.encode(), plain, strict=True)
    return f'"{"".join(chr(byte) if keep else f"{chr(92)}{byte:03o}" for byte, keep in pairs)}"'
