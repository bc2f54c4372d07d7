"""Packed models as C code, compiled and called."""

import ctypes

import numpy as np
import torch
from helpers.c_code import compiled, pointer

from surge_mm.deploy.c.export import export_c


class Map(ctypes.Structure):
    _fields_ = [
        ('values', ctypes.POINTER(ctypes.c_float)),
        *((name, ctypes.c_int) for name in ('height', 'width', 'channels')),
    ]


class Box(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_float) for name in ('x1', 'y1', 'x2', 'y2', 'score')),
        ('label', ctypes.c_int),
    ]


class Network:
    """A compiled model with the prefix ``net``.

    Args:
        folder (Path): where it is written.
        model (nn.Module): the packed model.
        largest (tuple[int, int], optional): height and width of the largest image.
        flags (Sequence[str]): options of the compiler.
    """

    def __init__(self, folder, model, largest=None, flags=()):
        self.made = export_c(model, folder / 'net.c', largest)
        self.library = compiled(folder, self.made.source, flags=flags)
        self.memory = np.full(self.made.memory, 0xA5, np.uint8)
        self.context = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(self.made.memory)
        assert self.library.net_init(self.context, pointer(self.memory), size) == 0

    def __call__(self, image, outputs):
        """Return the maps ``(C, H, W)`` of an image ``(1, 3, H, W)``, or an error."""
        values = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        maps = (Map * outputs)()
        code = self.library.net_forward(self.context, pointer(values), *values.shape[:2], maps)
        if code:
            return code
        shapes = [(m.height, m.width, m.channels) for m in maps]
        arrays = [np.ctypeslib.as_array(m.values, s) for m, s in zip(maps, shapes, strict=True)]
        return [torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays]

    def detect(self, rgb, most):
        """Return boxes, scores and labels of a picture ``(H, W, 3)``, or an error."""
        found, (height, width, _) = (Box * most)(), rgb.shape
        call = self.library.net_detect
        n = call(self.context, pointer(rgb), width, height, 3 * width, found, most)
        if n < 0:
            return n
        numbers = np.array([[getattr(box, name) for name, _ in Box._fields_] for box in found[:n]])
        numbers = numbers.reshape(n, 6)
        return numbers[:, :4], numbers[:, 4], numbers[:, 5]
