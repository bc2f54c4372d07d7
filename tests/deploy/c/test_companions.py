"""What is written beside a C file finds the boxes of the packed model, without surge_mm."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from helpers.c_code import COMPILER
from helpers.packed_files import detector_config, trained_model

from surge_mm.deploy import Detector, pack
from surge_mm.deploy.c.companions import Companions
from surge_mm.deploy.c.compile import compile_shared
from surge_mm.deploy.c.export import export_c

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')

SIZES = [(96, 128), (33, 50), (200, 70), (128, 128)]
FIND = """
import importlib.util
import sys
sys.path += sys.argv[1:3]
assert not any(importlib.util.find_spec(name) for name in ('surge_mm', 'torch', 'cv2'))
import numpy as np
from net_numpy import Detector
detector = Detector(score_thr=0.02)
assert detector.classes == ('0', '1', 'a "b"', *'3456789')
reader = Detector(score_thr=0.02, channel_order='rgb', threads=2)
for number in range(4):
    image = np.load(f'{sys.argv[2]}/{number}.npy')
    found = detector(image)
    assert all((a == b).all() for a, b in zip(found, reader(image[..., ::-1])))
    np.savez(f'{sys.argv[2]}/{number}.npz', **found._asdict())
for wrong in (image[..., 0], image.astype(float), image[:0], image.tolist()):
    try:
        detector(wrong)
    except ValueError as error:
        continue
    raise AssertionError(wrong)
for arguments, words in (({'threads': 0}, 'must be 1 to 64'), ({'threads': 65}, 'must be 1 to 64'),
                         ({'threads': 2, 'library': sys.argv[3]}, 'compile it with -DSURGE_THREADS')):
    try:
        Detector(**arguments)
    except ValueError as error:
        assert words in str(error), error
        continue
    raise AssertionError(arguments)
"""
WITHOUT_THREADS = """
#include <stddef.h>
int net_init(void *context, void *memory, size_t bytes) { return !context || !memory || !bytes; }
const char *const net_classes[11] = {"", "", "", "", "", "", "", "", "", "", NULL};
"""


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Return a folder with an exported detector and pictures, and the boxes of each picture."""
    folder = tmp_path_factory.mktemp('companions')
    cfg = detector_config()
    model = trained_model(cfg)
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.05)
    model = pack(model)
    model.cfg = cfg
    model.dataset_meta = {'classes': ('0', '1', 'a "b"')}
    companions = Companions(folder / 'net.so', with_main=True, threads=True)
    companions.write(export_c(model, companions.c_file))
    assert all(file.exists() for file in companions.files)
    detector = Detector(model, score_thr=0.02)
    expected = []
    for number, size in enumerate(SIZES):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        image = cv2.GaussianBlur(image, None, 3)
        np.save(folder / f'{number}.npy', image)
        cv2.imwrite(str(folder / f'{number}.bmp'), image)
        expected.append(detector(image))
    assert all(len(found.scores) > 3 for found in expected)
    return folder, expected


def compare(boxes, scores, labels, expected):
    assert list(labels) == expected.labels.tolist()
    np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(boxes, expected.boxes, rtol=0, atol=0.01)


def test_class_of_python_needs_numpy_alone(exported, tmp_path):
    folder, expected = exported
    site = os.path.dirname(os.path.dirname(np.__file__))
    for name in ('numpy', 'numpy.libs'):
        if os.path.exists(f'{site}/{name}'):
            (tmp_path / name).symlink_to(f'{site}/{name}')
    (tmp_path / 'other.c').write_text(WITHOUT_THREADS)
    compile_shared(tmp_path / 'other.c', tmp_path / 'other.so')
    code = [
        sys.executable,
        '-I',
        '-S',
        '-c',
        FIND,
        str(tmp_path),
        str(folder),
        str(tmp_path / 'other.so'),
    ]
    subprocess.run(code, check=True)
    for number, found in enumerate(expected):
        compare(*np.load(folder / f'{number}.npz').values(), found)


@pytest.mark.parametrize('threads', ['1', '2'])
def test_program_prints_the_boxes(exported, threads):
    folder, expected = exported
    pictures = [str(folder / f'{number}.bmp') for number in range(len(SIZES))]
    command = [str(folder / 'net'), '--score-thr', '0.02', '--threads', threads, *pictures]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line, found in zip(lines, expected, strict=True):
        boxes = json.loads(line)['found']
        compare(*([box[key] for box in boxes] for key in ('bbox', 'score', 'label')), found)


@pytest.mark.parametrize('threads', ['0', '65', '-1', 'x'])
def test_a_wrong_number_of_threads_prints_the_usage(exported, threads):
    folder, _ = exported
    command = [str(folder / 'net'), '--threads', threads, str(folder / '0.bmp')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and '[--threads 1]' in done.stderr and not done.stdout
