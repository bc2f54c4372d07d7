"""An exported C file, compiled and called through ctypes, or as a program that may run on an emulated CPU."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from surge_mm.deploy.c.assemble import TEAM, CFile, c_file
from surge_mm.deploy.c.companions import Companions
from surge_mm.deploy.c.compile import compile_program, compile_shared
from surge_mm.deploy.c.export import export_c, graph_of
from surge_mm.deploy.c.graph import Graph, Node
from surge_mm.deploy.c.trace import Tracer
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.deploy.predict.detector import Detections

NAME = 'net'


class Map(ctypes.Structure):
    """A map of the header."""

    _fields_ = [
        ('values', ctypes.POINTER(ctypes.c_float)),
        *((name, ctypes.c_int) for name in ('height', 'width', 'channels')),
    ]


BOX = np.dtype([('box', np.float32, 4), ('score', np.float32), ('label', np.int32)])


class Library:
    """A C file as a library.

    Args:
        folder (Path): Folder with ``net.c``, in which it is compiled unless it was.
        made (CFile): The C file.
        maps (int): Number of maps that the network returns.
        threads (int, optional): Number of threads of a library that is compiled with ``SURGE_THREADS``. Defaults to
            None, for one that is not.

    Attributes:
        made (CFile): As given.
        number_of_maps (int): As ``maps``.
    """

    def __init__(self, folder: Path, made: CFile, maps: int, threads: int | None = None) -> None:
        self.made, self.number_of_maps = made, maps
        path = folder / (f'{NAME}_threads.so' if threads else f'{NAME}.so')
        if not path.exists():
            with nothing_preloaded():
                compile_shared(folder / f'{NAME}.c', path, threads=threads is not None)
        self._library = ctypes.CDLL(str(path))
        self._memory = np.zeros(made.memory, np.uint8)
        self._context = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(made.memory)
        self._checked(self._library.net_init(self._context, _pointer(self._memory), size))
        if threads:
            self._of_threads = np.zeros(TEAM + (threads - 1) * made.workspace, np.uint8)
            start, size = self._library.net_start_threads, ctypes.c_size_t(self._of_threads.nbytes)
            self._checked(start(self._context, threads, _pointer(self._of_threads), size))
            stop, memory = self._library.net_stop_threads, (self._memory, self._of_threads)
            weakref.finalize(self, lambda context, _: stop(context), self._context, memory)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return the maps ``(1, C, H, W)`` of a normalized image ``(1, 3, H, W)``."""
        maps = self.prepared(image)()
        shapes = [(m.height, m.width, m.channels) for m in maps]
        arrays = [np.ctypeslib.as_array(m.values, s) for m, s in zip(maps, shapes, strict=True)]
        return [torch.from_numpy(a.copy()).permute(2, 0, 1)[None] for a in arrays]

    def prepared(self, image: Tensor) -> Callable[[], Sequence[Map]]:
        """Return a function that computes the maps of an image, in the memory of the context."""
        values = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        maps = (Map * self.number_of_maps)()
        arguments = self._context, _pointer(values), *values.shape[:2], maps

        def forward() -> Sequence[Map]:
            self._checked(self._library.net_forward(*arguments))
            return maps

        return forward

    def detect(self, bgr: np.ndarray) -> Detections:
        """Return the boxes of a picture ``(H, W, 3)``, uint8, BGR."""
        rgb, found = np.ascontiguousarray(bgr[..., ::-1]), np.zeros(self.made.boxes, BOX)
        height, width = rgb.shape[:2]
        size = width, height, 3 * width
        detect = self._library.net_detect
        n = detect(self._context, _pointer(rgb), *size, _pointer(found), len(found))
        found = found[: self._checked(n)]
        return Detections(found['box'], found['score'], found['label'].astype(np.int64))

    def classify(self, bgr: np.ndarray) -> np.ndarray:
        """Return the scores of a picture ``(H, W, 3)``, uint8, BGR."""
        rgb, scores = np.ascontiguousarray(bgr[..., ::-1]), np.zeros(self.made.classes, np.float32)
        height, width = rgb.shape[:2]
        size = width, height, 3 * width
        self._checked(
            self._library.net_classify(self._context, _pointer(rgb), *size, _pointer(scores))
        )
        return scores

    def _checked(self, code: int) -> int:
        if code < 0:
            raise RuntimeError(f'the C file returned the error {code}')
        return code


def exported(model: nn.Module, folder: Path, largest: tuple[int, int] | None) -> Library:
    """Return a packed model as a library.

    Args:
        model (nn.Module): The packed model, a detector or classifier with ``cfg``.
        folder (Path): Folder for its files.
        largest (tuple[int, int], optional): As of :func:`surge_mm.deploy.c.export.export_c`.
    """
    made = export_c(model, folder / f'{NAME}.c', largest)
    with torch.no_grad():
        maps = len(outputs_of(model, torch.zeros(1, 3, *made.largest[0])))
    return Library(folder, made, maps)


def detect_emulated(
    folder: Path, made: CFile, target: str, emulator: str, pictures: Sequence[np.ndarray]
) -> list[Detections]:
    """Return the boxes of pictures by the program of the C file in a folder, on an emulated CPU.

    Args:
        folder (Path): Folder with ``net.c``.
        made (CFile): The C file.
        target (str): System and CPU, such as ``'aarch64-linux-musl'``.
        emulator (str): Program that emulates them.
        pictures (Sequence[np.ndarray]): ``(H, W, 3)``, uint8, BGR.
    """
    companions = Companions(folder / f'{NAME}.c', with_main=True)
    companions.write(made)
    assert companions.main is not None
    program = folder / f'{NAME}_{target}'
    compile_program([companions.c_file, companions.main], program, target)
    paths = [str(folder / f'{number}.ppm') for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(path, picture)
    command = [emulator, str(program), '--score-thr', '0', *paths]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [_detections(json.loads(line)['found']) for line in printed.splitlines()]


def _detections(found: list[dict[str, Any]]) -> Detections:
    boxes, scores, labels = ([box[key] for box in found] for key in ('bbox', 'score', 'label'))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels)
    )


class Flip(NamedTuple):
    """Signs that differ between a C file and its packed model, in the first layer with such.

    Attributes:
        layer (str): The binary layer whose input has the signs.
        count (int): Number of them.
        distance (float): Largest distance of their numbers from the sign's change, by the largest number of the map.
        error (float): Largest difference of the numbers of the map, by the largest number.
    """

    layer: str
    count: int
    distance: float
    error: float


class Probe:
    """A C file that also returns the inputs of all binary layers.

    Args:
        model (nn.Module): The packed model.
        folder (Path): Folder for its files.
        size (tuple[int, int]): Height and width of the largest image.
    """

    def __init__(self, model: nn.Module, folder: Path, size: tuple[int, int]) -> None:
        self.model = model
        self.graph: Graph = graph_of(model, size)
        self.layers: list[Node] = [node for node in self.graph.nodes if node.kind == 'binary']
        self.graph.outputs = {str(i): node.inputs[0] for i, node in enumerate(self.layers)}
        made = c_file(self.graph, NAME, [size])
        (folder / f'{NAME}.h').write_text(made.header)
        (folder / f'{NAME}.c').write_text(made.source)
        self.library = Library(folder, made, len(self.layers))

    @torch.no_grad()
    def first_flip(self, image: Tensor) -> Flip | None:
        """Return the first layer whose input has other signs in C. None if there is none.

        Args:
            image (Tensor): ``(1, 3, H, W)``, normalized.
        """
        tracer = Tracer(self.model, image)
        with tracer.leaves(), tracer:
            outputs_of(self.model, image)
        expected = tracer.maps()
        for node, found in zip(self.layers, self.library.maps(image), strict=True):
            x, shift = expected[node.inputs[0]], node.options['shift']
            added = torch.zeros(1) if shift is None else torch.from_numpy(shift)
            values, in_c = x + added[:, None, None], found + added[:, None, None]
            flipped = torch.signbit(values) != torch.signbit(in_c)
            if flipped.any():
                largest, error = x.abs().max(), (x - found).abs().max()
                distance = values[flipped].abs().max()
                count = int(flipped.sum())
                return Flip(node.name, count, float(distance / largest), float(error / largest))
        return None


@contextlib.contextmanager
def nothing_preloaded() -> Iterator[None]:
    """Start processes without LD_PRELOAD: gcc crashes with a library that imitates a lesser CPU."""
    preloaded = os.environ.pop('LD_PRELOAD', None)
    try:
        yield
    finally:
        if preloaded is not None:
            os.environ['LD_PRELOAD'] = preloaded


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
