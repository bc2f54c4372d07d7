"""The program of a detector for other CPUs and for WebAssembly, compiled by ziglang and run by QEMU and Node.js."""

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from compare_c import OF_BOX, box_differences
from helpers.c_kernels import emulator
from helpers.packed_files import NARROW_FCOS, config_of, trained_model

from surge_mm.deploy import Detector, pack
from surge_mm.deploy.c.companions import Companions
from surge_mm.deploy.c.compile import compile_program
from surge_mm.deploy.c.export import export_c
from surge_mm.deploy.predict.detector import Detections

TARGETS = ('aarch64-linux-musl', 'arm-linux-musleabihf', 'riscv64-linux-musl', 'wasm32-wasi')
CONFIG = 'cpu/ste_fcos-cpu-1bit_r18-s_10e_digits.py'
PICTURES = 100


@pytest.fixture(scope='module', params=['float32', 'int8'])
def exported(request, tmp_path_factory):
    """Return the files of an exported detector, pictures, the boxes of each, and the dtype of its real layers."""
    folder = tmp_path_factory.mktemp(request.param)
    cfg = config_of(CONFIG, NARROW_FCOS)
    model = trained_model(cfg)
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.05)
    images = [torch.randn(1, 3, 128, 128) for _ in range(2)]
    model = pack(model, request.param, images if request.param == 'int8' else None)
    model.cfg = cfg
    companions = Companions(folder / 'net.c', with_main=True)
    companions.write(export_c(model, companions.c_file))
    detector = Detector(model, score_thr=0.1)
    expected, rng = {}, np.random.default_rng(0)
    for number in range(PICTURES):
        image = rng.integers(0, 256, (*rng.integers(20, 200, 2), 3), dtype=np.uint8)
        image = cv2.GaussianBlur(image, None, 3)
        path = folder / f'{number}.ppm'
        cv2.imwrite(str(path), image)
        expected[str(path)] = detector(image)
    return companions, expected, request.param


@pytest.mark.parametrize('target', TARGETS)
def test_boxes_equal_those_of_the_packed_model(target, exported):
    pytest.importorskip('ziglang')
    start = emulator(target)
    if not shutil.which(start[0]):
        pytest.skip(f'no {start[0]}')
    companions, expected, real = exported
    program = companions.c_file.with_name('net_program')
    compile_program([companions.c_file, companions.main], program, target)
    command = [*start, str(program), '--score-thr', '0.1', *expected]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == PICTURES
    count, different = 0, []
    for line, (path, found) in zip(lines, expected.items(), strict=True):
        boxes = json.loads(line)['found']
        count += len(boxes)
        got = Detections(
            *(np.array([box[key] for box in boxes]) for key in ('bbox', 'score', 'label'))
        )
        # in any order: two scores may differ by less than the rounding of a sum
        if box_differences(found, got)[0] > OF_BOX:
            different.append(path)
    assert count > PICTURES
    # a rounding of a float32 layer may flip a sign
    assert len(different) <= (PICTURES // 10 if real == 'float32' else 0)
    print(
        f'{target}, {real}: {count} boxes, {PICTURES - len(different)} of {PICTURES} pictures equal'
    )
