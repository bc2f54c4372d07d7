"""Rendering of the images of the demo set: digits in light ink on a darker, textured background."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

DIGITS_PER_IMAGE = (3, 7)
DIGIT_PIXELS = (20, 52)
# Opacity above which a pixel is part of the box.
VISIBLE = 0.35
# Largest overlap of two boxes as a fraction of the smaller one. Ink never overlaps.
BOX_OVERLAP = 0.15


class Digit(NamedTuple):
    """A digit in an image.

    Attributes:
        label (int): the digit.
        x1, y1 (int): left and upper edge of its box in pixels.
        x2, y2 (int): right and lower edge, exclusive.
    """

    label: int
    x1: int
    y1: int
    x2: int
    y2: int


def draw_image(
    scans: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[Digit]]:
    """Draw one image of random scans.

    Args:
        scans (np.ndarray): scans to choose from, shape (N, 8, 8), opacity in [0, 1].
        labels (np.ndarray): their digits, shape (N,).
        size (int): width and height in pixels.
        rng (np.random.Generator): random generator.

    Returns:
        tuple[np.ndarray, list[Digit]]: the image, shape (size, size, 3), uint8, RGB, and its digits.
    """
    image = _background(size, rng)
    count = int(rng.integers(*DIGITS_PER_IMAGE, endpoint=True))
    while True:
        opacities, digits = _place(scans, labels, size, count, rng)
        if len(digits) == count:
            break
    for alpha in opacities:
        ink = (rng.uniform(170, 255, size=3) + rng.uniform(205, 255)) / 2
        image += alpha[..., None] * (ink - image)
    image += rng.normal(0, 3, size=image.shape)
    return image.clip(0, 255).round().astype(np.uint8), digits


def _place(
    scans: np.ndarray, labels: np.ndarray, size: int, count: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[Digit]]:
    """Place up to ``count`` digits, large ones first; return their opacities and boxes."""
    opacities: list[np.ndarray] = []
    digits: list[Digit] = []
    taken = np.zeros((size, size), dtype=bool)
    for pixels in sorted(rng.integers(*DIGIT_PIXELS, endpoint=True, size=count), reverse=True):
        index = rng.integers(len(scans))
        stamp = _stamp(scans[index], pixels)
        ys, xs = np.nonzero(stamp > VISIBLE)
        for _ in range(50):
            x, y = rng.integers(0, size - pixels, endpoint=True, size=2)
            digit = Digit(
                int(labels[index]),
                int(x + xs.min()),
                int(y + ys.min()),
                int(x + xs.max() + 1),
                int(y + ys.max() + 1),
            )
            place = np.s_[y : y + pixels, x : x + pixels]
            if (taken[place] & (stamp > 0)).any() or any(
                _overlap(digit, other) > BOX_OVERLAP for other in digits
            ):
                continue
            taken[place] |= stamp > 0
            alpha = np.zeros((size, size), dtype=np.float32)
            alpha[place] = stamp
            opacities.append(alpha)
            digits.append(digit)
            break
    return opacities, digits


def _stamp(scan: np.ndarray, pixels: int) -> np.ndarray:
    """Enlarge a scan, (8, 8) -> (pixels, pixels), to strokes with smooth, narrow edges."""
    padded = np.pad(scan.astype(np.float32), 1)
    target = round(padded.shape[0] * pixels / 8)
    large = cv2.resize(padded, (target, target), interpolation=cv2.INTER_CUBIC)
    edge = (target - pixels) // 2
    large = large[edge : edge + pixels, edge : edge + pixels]
    t = ((large - 0.3) / 0.4).clip(0, 1)
    return t * t * (3 - 2 * t)


def _overlap(a: Digit, b: Digit) -> float:
    """Return the intersection of two boxes as a fraction of the smaller one."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((d.x2 - d.x1) * (d.y2 - d.y1) for d in (a, b))
    return width * height / smaller


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a textured background, shape (size, size, 3), float32, darker than any ink."""
    texture = _TEXTURES[rng.integers(len(_TEXTURES))](size, rng)
    texture = (texture - texture.min()) / (np.ptp(texture) + 1e-6)
    dark = rng.uniform(10, 70, size=3)
    light = dark + rng.uniform(10, 60, size=3)
    return (dark + texture[..., None] * (light - dark)).astype(np.float32)


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    texture: np.ndarray = np.zeros((size, size), dtype=np.float32)
    for cells in (3, 6, 12, 24):
        noise = rng.normal(size=(cells, cells)).astype(np.float32) / cells
        texture += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return texture


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle) + y * np.sin(angle) + 60 * _clouds(size, rng) * rng.uniform(0, 0.5)
    return np.sin(2 * np.pi / period * along) + 2 * _clouds(size, rng)


def _weave(size: int, rng: np.random.Generator) -> np.ndarray:
    period = rng.uniform(6, 16)
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    return np.maximum(np.sin(x), np.sin(y)) + 2 * _clouds(size, rng)


def _paper(size: int, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(size=(size, size)).astype(np.float32)
    return cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.8, 2)) + _clouds(size, rng)


_TEXTURES: tuple[Callable[[int, np.random.Generator], np.ndarray], ...] = (
    _clouds,
    _stripes,
    _weave,
    _paper,
)
