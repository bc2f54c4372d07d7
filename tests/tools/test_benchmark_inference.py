"""tools/benchmark_inference.py on configs, checkpoints and packed files; no time is judged."""

import argparse
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.glue_runs import SIZES
from helpers.packed_files import classifier_config, packed_file, trained_model
from helpers.packed_text_files import BACKBONE, text_config, text_file
from helpers.tools import run_tool
from mmengine.config import Config

from surge_mm import SurgeBert
from surge_mm.utils.modules import is_packed

ROOT = Path(__file__).parents[2]
QUICK = ['--rounds', '2', '--warmup', '0', '--json', 'figures.json', '--overwrite']


@pytest.fixture
def benchmark(tmp_path):
    """Return a function that runs the tool and returns its figures and its output."""

    def run(*words):
        done = run_tool('benchmark_inference', *words, *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / 'figures.json').read_text()), done.stdout

    return run


def test_a_detector_of_a_config_is_measured_on_each_number_of_threads(benchmark):
    config = ROOT / 'configs/demo/surge_fcos-1bit_r18-light_10e_digits.py'
    figures, output = benchmark(config, '--shape', '64', '96', '--threads', '1', '2')
    assert figures['shape'] == [64, 96]
    for count in ('1', '2'):
        assert list(figures['seconds'][count]) == ['float', 'packed']
        for seconds in figures['seconds'][count].values():
            assert len(seconds) == 2 and min(seconds) > 0
    assert 'one image of 64 x 96' in output and 'CPU, ms' in output


def test_a_detector_is_measured_from_an_image_to_its_boxes(benchmark, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    words = []
    for name in ('ste_fcos-1bit', 'fcos'):
        path = ROOT / f'configs/demo/{name}_r18-light_10e_digits.py'
        state = trained_model(Config.fromfile(path)).state_dict()
        torch.save({'state_dict': state}, tmp_path / f'{name}.pth')
        words += [path, f'{name}.pth', '--full-precision']
    figures, output = benchmark(*words[:-1], '--image', 'image.png', '--threads', '1')
    assert figures['image'] == 'image.png' and figures['shape'] == [50, 70]
    assert list(figures['seconds']['1']) == ['float', 'packed']
    assert 'boxes of image.png' in output


def test_an_image_of_a_model_that_finds_no_boxes_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.png'), np.zeros((32, 32, 3), np.uint8))
    classifier_config().dump(tmp_path / 'cfg.py')
    torch.save({'state_dict': trained_model(classifier_config()).state_dict()}, tmp_path / 'a.pth')
    words = ['cfg.py', 'a.pth', '--full-precision', 'cfg.py', 'a.pth', '--image', 'image.png']
    done = run_tool('benchmark_inference', *words, folder=tmp_path)
    assert done.returncode == 1
    assert 'ImageClassifier is no detector of MMDetection' in done.stderr


def test_a_classifier_is_measured_with_its_checkpoint(benchmark, tmp_path):
    cfg = classifier_config()
    cfg.dump(tmp_path / 'cfg.py')
    torch.save({'state_dict': trained_model(cfg).state_dict()}, tmp_path / 'model.pth')
    figures, _ = benchmark('cfg.py', 'model.pth', '--shape', '32', '32', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']


def test_a_packed_file_needs_no_config(benchmark, tmp_path):
    packed_file(classifier_config(), tmp_path / 'model.safetensors')
    figures, _ = benchmark('model.safetensors', '--shape', '32', '32', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']


def test_a_two_stage_detector_runs_from_its_config(benchmark):
    config = ROOT / 'configs/faster_rcnn/ste_faster-rcnn-1bit_r18_fpn_12e_voc0712.py'
    figures, _ = benchmark(config, '--shape', '64', '64', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']


def test_a_classifier_of_texts_is_measured_against_the_full_precision_encoder(benchmark, tmp_path):
    text_config(tmp_path).dump(tmp_path / 'text.py')
    figures, output = benchmark('text.py', '--length', '5', '--threads', '1')
    assert figures['length'] == 5 and list(figures['seconds']['1']) == ['float', 'packed']
    assert 'one text of 5 tokens' in output
    text_file(tmp_path)
    figures, _ = benchmark('text.safetensors', '--threads', '1')
    assert figures['length'] == 16  # the maximum length in the file
    tool = runpy.run_path(str(ROOT / 'tools/benchmark_inference.py'))
    absent = dict.fromkeys(('shape', 'length', 'image', 'images', 'full_precision'))
    config = str(tmp_path / 'text.safetensors')
    args = argparse.Namespace(config=config, allow=[], against=[], real='float32', **absent)
    models, *_ = tool['load_models'](args)
    packed, real = models['packed'], models['float']
    assert is_packed(packed) and packed.num_classes == real.num_classes
    expected = SurgeBert(**{k: BACKBONE[k] for k in SIZES}, activation='relu', linear_cfg=None)
    assert [(n, type(m)) for n, m in real.bert.named_modules()] == [
        (n, type(m)) for n, m in expected.named_modules()
    ]


def test_a_rejected_argument_gives_one_line_and_exit_status_1(tmp_path):
    done = run_tool('benchmark_inference', 'cfg.py', '--shape', '0', '9', folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, 'error: --shape 0 9 must be at least 1\n')
