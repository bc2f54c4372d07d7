"""The steps from a picture to the input of a network in C, compiled."""

import ctypes

import numpy as np
from helpers.c_code import compiled, guarded, pointer

from surge_mm.deploy.c.images import c_input

WRAPPER = """
int sizes_of(int width, int height, surge_sizes *out) { return surge_input_sizes(&input, width, height, out); }
void prepare(const surge_sizes *sizes, const uint8_t *pixels, int stride, float *out, void *workspace)
{
    surge_rows rows;
    surge_start_rows(&rows, &input, sizes, pixels, stride, workspace);
    for (int y = 0; y < sizes->padded.height; y++) surge_next_row(&rows, out + 3 * y * sizes->padded.width);
}
"""


class Sizes(ctypes.Structure):
    _fields_ = [
        (f'{of}_{side}', ctypes.c_int)
        for of in ('picture', 'resized', 'image', 'padded', 'corner', 'cropped')
        for side in ('width', 'height')
    ]


class InC:
    """The compiled steps.

    Args:
        folder (Path): where they are compiled.
        steps (InputSteps): the steps.
        define (str): text before the code.
    """

    def __init__(self, folder, steps, define=''):
        self.steps = steps
        self.library = compiled(
            folder, define, 'layers.h', *steps.sources, c_input(steps, 'input'), WRAPPER
        )

    def __call__(self, bgr):
        """Return the input of the network of an image, and its sizes; or None if it has none."""
        sizes = Sizes()
        height, width = bgr.shape[:2]
        if not self.library.sizes_of(width, height, ctypes.byref(sizes)):
            return None
        # rows end with other bytes
        rows = np.full((height, 3 * width + 5), 77, np.uint8)
        rows[:, : 3 * width] = bgr[..., ::-1].reshape(height, -1)
        pixels, _ = guarded(rows.size)
        pixels[:] = rows.reshape(-1)
        workspace, untouched = guarded(self.steps.workspace)
        shape = (sizes.padded_height, sizes.padded_width, 3)
        out, no_more = guarded(4 * int(np.prod(shape)))
        self.library.prepare(
            ctypes.byref(sizes),
            pointer(pixels),
            rows.shape[1],
            pointer(out),
            pointer(workspace),
        )
        untouched()
        no_more()
        return out.view(np.float32).reshape(shape), sizes


def picture(size, seed=0):
    """Return a picture ``(H, W, 3)`` of a size (W, H): random numbers, or 0 and 255 where the width is even."""
    width, height = size
    rng = np.random.default_rng(seed)
    choices = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return choices if width % 2 else np.where(choices > 127, 255, 0).astype(np.uint8)
