"""A detector of ``configs/cpu`` as a program for a Cortex-M7, compiled by GCC and run by QEMU."""

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.packed_files import CONFIGS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from surge_mm.deploy import Detector, pack
from surge_mm.deploy.c.export import export_c
from surge_mm.launch.runner import build_model

HERE = Path(__file__).parent
CONFIG = 'cpu/ste_fcos-cpu-1bit_r18-s_10e_digits.py'
CPU = '-mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard'
FLAGS = '-O2 -std=c99 -Wall -Wextra -Werror -Wdouble-promotion -DSURGE_NO_DOUBLE'
LINK = '-nostartfiles -Wl,--gc-sections'
MOST_MEMORY, MOST_FLASH = 225_000, 1_000_000
SIZES = [(96, 96), (128, 128), (96, 72), (50, 120), (33, 31), (128, 7)]  # (width, height)

pytestmark = pytest.mark.skipif(
    not (shutil.which('arm-none-eabi-gcc') and shutil.which('qemu-system-arm')),
    reason='no arm-none-eabi-gcc or no qemu-system-arm',
)


def model_of(real, side):
    """Return a packed detector with random weights for images of ``side`` pixels."""
    cfg = Config.fromfile(CONFIGS / CONFIG)
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (side, side)
    init_default_scope(cfg.default_scope)
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.05)
    images = [torch.randn(1, 3, side, side) for _ in range(2)]
    model = pack(model, real, images if real == 'int8' else None)
    model.cfg = cfg
    return model


@pytest.mark.parametrize('side', [96, 128])
@pytest.mark.parametrize('real', ['float32', 'int8'])
def test_boxes_on_a_cortex_m7_equal_those_of_the_packed_model(real, side, tmp_path):
    model = model_of(real, side)
    made = export_c(model, tmp_path / 'net.c')
    files = f'{HERE}/firmware.c net.c -T {HERE}/mps2.ld -I. -o net.elf -lm'
    run(f'arm-none-eabi-gcc {CPU} {FLAGS} {LINK} {files}', tmp_path)
    text, data, bss = map(
        int, run('arm-none-eabi-size net.elf', tmp_path).splitlines()[1].split()[:3]
    )
    assert made.plain_memory <= MOST_MEMORY and text + data <= MOST_FLASH
    symbols = run('arm-none-eabi-nm net.elf', tmp_path)
    assert not re.findall(r' (__aeabi_d\w+|\w*malloc\w*|\w*printf\w*)$', symbols, re.M)

    images = []
    for number, (width, height) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        images.append(cv2.GaussianBlur(noise, None, 3))
    with (tmp_path / 'pictures.bin').open('wb') as file:
        for image in images:
            size = np.array(image.shape[1::-1], np.int32)
            file.write(size.tobytes() + image[..., ::-1].tobytes())
    board = 'qemu-system-arm -M mps2-an500 -nographic -monitor none -serial none -semihosting'
    *lines, stack = run(f'{board} -kernel net.elf', tmp_path).splitlines()

    detector, count = Detector(model), 0
    for line, image in zip(lines, images, strict=True):
        words = np.array([int(word, 16) for word in line.split()], np.uint32).reshape(-1, 6)
        expected = detector(image)
        count += len(words)
        assert words[:, 5].tolist() == expected.labels.tolist()
        np.testing.assert_allclose(words[:, 4:5].view(np.float32)[:, 0], expected.scores, atol=1e-4)
        boxes = np.ascontiguousarray(words[:, :4]).view(np.float32)
        np.testing.assert_allclose(boxes, expected.boxes, rtol=0, atol=0.01)
    assert count > 100
    sizes = f'flash {text + data:,} bytes, arena {made.plain_memory:,}, stack {int(stack, 16):,}'
    print(
        f'{CONFIG}, {side}x{side}, {real}: {sizes}; {count} boxes of {len(images)} pictures equal'
    )


def run(command, folder):
    both = {
        'stdout': subprocess.PIPE,
        'stderr': subprocess.STDOUT,
    }  # the board prints to the latter
    done = subprocess.run(command.split(), cwd=folder, text=True, timeout=300, **both)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
