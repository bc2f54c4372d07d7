"""tools/detect.py on a folder of images."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tools import run_tool
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from surge_mm.deploy import pack, save_packed

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / 'configs/demo/ste_fcos_r18-light_10e_digits.py'
CLASSIFIER = ROOT / 'configs/cifar10_mini/ste_resnet20_12e_cifar10-mini.py'


def packed(config, folder, scope):
    cfg = Config.fromfile(config)
    if scope == 'mmdet':
        cfg.model.test_cfg.score_thr = 0.0  # of an untrained head
    with DefaultScope.overwrite_default_scope(scope):
        preprocessor = (
            {'data_preprocessor': cfg.data_preprocessor} if 'data_preprocessor' in cfg else {}
        )
        model = pack(MODELS.build({**preprocessor, **cfg.model}))
    save_packed(model, cfg, folder / 'model.safetensors')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Make a folder with a packed detector, two images and two files that are not images."""
    folder = tmp_path_factory.mktemp('detect')
    packed(DETECTOR, folder, 'mmdet')
    (folder / 'images').mkdir()
    generator = np.random.default_rng(0)
    for name, size in (('a.jpg', (128, 128)), ('b c.PNG', (90, 140))):
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / name)
    (folder / 'images/broken.jpg').write_bytes(b'no image')
    (folder / 'images/notes.txt').write_text('no image either')
    return folder


def detect(folder, *words):
    return run_tool('detect', *words, folder=folder)


def test_a_folder_is_drawn_and_timed_and_nothing_is_overwritten(folder):
    words = ['model.safetensors', 'images', '--out', 'found', '--threads', '1', '--score-thr', '0']
    done = detect(folder, *words)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (folder / 'found').iterdir()) == ['a.jpg.png', 'b c.PNG.png']
    assert Image.open(folder / 'found/b c.PNG.png').size == (140, 90)
    drawn = np.asarray(Image.open(folder / 'found/a.jpg.png').convert('RGB')).astype(int)
    assert np.abs(drawn - np.asarray(Image.open(folder / 'images/a.jpg')).astype(int)).max() > 50
    assert 'skipped, not a readable image: images/broken.jpg' in done.stdout
    assert 'ms an image, of 2' in done.stdout and 'threads: 1' in done.stdout
    again = detect(folder, *words)
    assert again.returncode == 1
    assert "'found/a.jpg.png' exists already" in again.stderr and '--overwrite' in again.stderr
    assert detect(folder, *words, '--overwrite').returncode == 0


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['model.safetensors', 'images/notes.txt'], 'none of 1 images can be read'),
        (['images/a.jpg', 'images'], 'it is no packed model'),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(folder, words, said):
    done = detect(folder, *words, '--out', 'other')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: ') and said in done.stderr
    assert not (folder / 'other').exists()


def test_a_classifier_is_refused(folder, tmp_path):
    packed(CLASSIFIER, tmp_path, 'mmpretrain')
    done = detect(folder, str(tmp_path / 'model.safetensors'), 'images', '--out', 'other')
    assert done.returncode == 1
    assert 'contains a ImageClassifier, which is not a detector' in done.stderr
