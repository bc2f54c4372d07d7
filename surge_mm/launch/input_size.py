"""Options for the input on which a tool runs a model: an image, or the size of noise or of a text."""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from mmengine.config import Config
from torch import nn

from surge_mm.datasets.evaluation_set import image_size, text_length
from surge_mm.launch.cli import add_shape, check_least
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.files import file_defect
from surge_mm.utils.modules import takes_texts


def add_input_size(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--shape`` and ``--length``."""
    add_shape(parser)
    parser.add_argument(
        '--length',
        type=int,
        metavar='TOKENS',
        help='of a text classifier: number of tokens of the text; default: max_length of the test set',
    )


def check_input_size(args: argparse.Namespace) -> None:
    """Check the values of the options, before a model is built.

    Raises:
        LaunchError: if one is below 1, or both are given.
    """
    check_least(args, 1, 'shape', 'length')
    if args.shape and args.length is not None:
        raise LaunchError('--shape is for images and --length for texts: leave one of them out')


def input_size(args: argparse.Namespace, model: nn.Module, cfg: Config) -> tuple[int, ...]:
    """Return height and width of an image, or the number of tokens of a text.

    Args:
        args (argparse.Namespace): Arguments of the tool, with ``shape`` and ``length``.
        model (nn.Module): The model.
        cfg (Config): Its config, whose test set has the default.

    Raises:
        LaunchError: if an option does not concern the model, or the config has no default.
    """
    if takes_texts(model):
        if args.shape:
            raise LaunchError(
                f'--shape is for images, but {type(model).__name__} takes texts: use --length'
            )
        return (args.length or text_length(model, cfg),)
    if args.length is not None:
        raise LaunchError(
            f'--length is for texts, but {type(model).__name__} takes images: use --shape'
        )
    return tuple(args.shape or image_size(cfg))


def read_image(path: str) -> np.ndarray:
    """Return the image of the option ``--image``, (H, W, 3), uint8, BGR.

    Args:
        path (str): Its file.

    Raises:
        LaunchError: if it is not there, or is no image.
    """
    image = cv2.imread(path)
    if image is None:
        defect = file_defect(path) or 'is not a readable image'
        raise LaunchError(f'--image {path!r}: it {defect}')
    return image
