"""tools/profile_inference.py on packed files and configs; no time is judged."""

import json

import cv2
import numpy as np
import pytest
from helpers.packed_files import classifier_config, detector_config, packed_file
from helpers.packed_text_files import text_config, text_file
from helpers.tools import run_tool

QUICK = ['--rounds', '3', '--warmup', '1', '--json', 'figures.json', '--overwrite']
NETWORK = {'stem', 'binary layers', 'real layers'}
EVERYWHERE = NETWORK | {'pipeline', 'pre-processing', 'decoding', 'non-maximum suppression'}


def present(parts):
    """Return the parts that took some time."""
    return {name for name, part in parts.items() if sum(part.values()) > 0}


@pytest.fixture
def profile(tmp_path):
    """Return a function that runs the tool and returns its figures and its output."""

    def run(*words):
        done = run_tool('profile_inference', *words, *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        figures = json.loads((tmp_path / 'figures.json').read_text())
        parts = figures['parts']
        assert sum(sum(part.values()) for part in parts.values()) == pytest.approx(figures['whole'])
        return parts, figures, done.stdout

    return run


def test_the_parts_of_a_packed_detector_add_up_to_the_time_of_its_image(profile, tmp_path):
    cfg = detector_config()
    cfg.model.test_cfg.score_thr = 0.0
    packed_file(cfg, tmp_path / 'detector.safetensors')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    parts, figures, output = profile(
        'detector.safetensors', '--image', 'a.png', '--picture', 'profile.png'
    )
    assert present(parts) >= EVERYWHERE | {'rest'}
    assert len(parts['binary layers']) == 31 and 'bbox_head.conv_cls' in parts['real layers']
    assert list(parts['pipeline']) == ['Resize']
    assert figures['whole without timers'] > 0 and figures['inference_detector'] > 0
    assert 'one image of 40 x 50' in output and 'without timers' in output
    assert cv2.imread(str(tmp_path / 'profile.png')) is not None
    by_host, figures, _ = profile('detector.safetensors', '--shape', '32', '32', '--host')
    assert set(by_host['binary layers']) == set(parts['binary layers'])
    assert present(by_host) >= EVERYWHERE


def test_a_config_is_packed_or_with_float_has_the_same_layers_in_full_precision(profile, tmp_path):
    detector_config().dump(tmp_path / 'cfg.py')
    packed, _, _ = profile('cfg.py')
    real, _, _ = profile('cfg.py', '--float')
    assert len(real['binary layers']) == 23  # the levels share those of the head
    folded = 'bbox_head.cls_convs.0.0.bn'
    assert folded in real['norms and activations']
    assert folded not in packed['norms and activations']
    assert 'bbox_head.conv_cls' in real['real layers'].keys() & packed['real layers'].keys()
    int8, _, output = profile('cfg.py', '--real', 'int8')
    assert 'norms and activations' in present(packed) - present(int8)
    whole, binary = (
        sum(sum(int8[part].values()) for part in parts)
        for parts in (NETWORK | {'other operations'}, ('binary layers', 'other operations'))
    )
    assert f'{1 - binary / whole:.1%} of it real-valued' in output


def test_a_classifier_runs_by_its_host(profile, tmp_path):
    packed_file(classifier_config(), tmp_path / 'model.safetensors')
    parts, figures, _ = profile('model.safetensors', '--shape', '32', '32')
    assert present(parts) >= NETWORK and 'inference_detector' not in figures


def test_an_image_without_a_size_in_the_config_is_that_of_shape(profile, tmp_path):
    cfg = detector_config()
    (resize,) = (s for s in cfg.test_dataloader.dataset.pipeline if s.type == 'Resize')
    resize.scale_factor = 0.5
    del resize['scale']
    cfg.dump(tmp_path / 'cfg.py')
    for real in ('float32', 'int8'):
        _, _, output = profile('cfg.py', '--shape', '64', '96', '--real', real)
        assert 'one image of 64 x 96' in output
    done = run_tool('profile_inference', 'cfg.py', *QUICK, folder=tmp_path)
    assert done.returncode == 1 and 'add --shape HEIGHT WIDTH' in done.stderr


def test_a_classifier_of_texts_is_refused(tmp_path):
    text_config(tmp_path).dump(tmp_path / 'cfg.py')
    text_file(tmp_path)
    for name in ('cfg.py', 'text.safetensors'):
        done = run_tool('profile_inference', name, '--shape', '8', '8', folder=tmp_path)
        assert done.returncode == 1 and 'TextClassifier takes texts' in done.stderr


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['a.safetensors', '--float'], 'so it takes no float'),
        (['a.py', '--image', 'x.png', '--shape', '8', '8'], 'without --image'),
        (['a.py', '--picture', 'x.jpg'], "--picture 'x.jpg' must end in .png"),
        (['a.safetensors', '--real', 'int8'], '--real int8 is for a config'),
        (['a.py', '--rounds', '0'], '--rounds 0 must be at least 1'),
    ],
)
def test_wrong_arguments_are_errors(words, message, tmp_path):
    done = run_tool('profile_inference', *words, folder=tmp_path)
    assert done.returncode == 1 and message in done.stderr
