"""Packed layers in a process that compiles them for another CPU."""

import os
import sys

import torch

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d, instruction_set


def run_packed(settings, folder):
    """Compare packed layers with the binary ones; write the instruction set and the messages into ``folder``.

    Args:
        settings (dict[str, str]): variables of Numba, which must not have been imported yet.
        folder (Path): folder of the compiled loops, and of the files ``instructions`` and ``messages``.
    """
    assert 'numba' not in sys.modules
    os.environ.update(settings, NUMBA_CACHE_DIR=str(folder))
    messages = os.open(folder / 'messages', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(messages, 1)
    os.dup2(messages, 2)
    torch.set_num_threads(1)
    for channels, filters, kernel, stride in ((70, 24, 3, 1), (64, 40, 3, 2), (64, 16, 1, 1)):
        layer = SurgeConv2d(channels, filters, kernel, stride, padding=1).eval()
        x = torch.randn(2, channels, 9, 8)
        with torch.no_grad():
            assert torch.equal(PackedConv2d(layer)(x), layer(x))
    (folder / 'instructions').write_text(instruction_set())
