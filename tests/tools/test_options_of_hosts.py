"""Options that users of the hosts' tools type: --out, --show-dir and --tta of test.py, --auto-scale-lr of train.py."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tools import run_tool
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from surge_mm.datasets.digits import make_digits

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def detection(tmp_path_factory):
    """Make a folder with a config, a checkpoint, and two test images, of which one is the mirror image of the other."""
    folder = tmp_path_factory.mktemp('detection')
    make_digits(folder / 'data/digits', train=4, val=2, test=2, size=96)
    images = folder / 'data/digits/VOC2007/JPEGImages'
    first, second = sorted(images.iterdir())[-2:]
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    # PNG files in spite of their names, since JPEG is not symmetric
    Image.fromarray(pixels).save(first, 'PNG')
    Image.fromarray(pixels[:, ::-1]).save(second, 'PNG')
    (folder / 'mine.py').write_text(
        f'_base_ = {str(CONFIGS / "demo/surge_fcos-1bit_r18-light_10e_digits.py")!r}\n'
        'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
        'train_cfg = dict(max_epochs=1, val_interval=2)\n'
        'val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)\n'
        'test_dataloader = val_dataloader\n'
        'model = dict(test_cfg=dict(score_thr=0.0, max_per_img=20),\n'
        '             backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64]))\n'
    )
    cfg = Config.fromfile(folder / 'mine.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, folder / 'model.pth')
    return folder


def test_predictions_of_a_detector_are_dumped_drawn_and_equal_for_mirror_images_with_tta(detection):
    words = ['mine.py', 'model.pth', '--out', 'out/found.pkl', '--show-dir', 'pictures']
    done = run_tool('test', *words, '--tta', folder=detection)
    assert done.returncode == 0, done.stderr
    one, other = pickle.loads((detection / 'out/found.pkl').read_bytes())
    assert len(one['pred_instances']['scores']) > 20  # of one image
    torch.testing.assert_close(
        *(found['pred_instances']['scores'].sort().values for found in (one, other))
    )
    left, right = one['pred_instances']['bboxes'], other['pred_instances']['bboxes']
    torch.testing.assert_close(
        left[:, 0].sort().values, (96 - right[:, 2]).sort().values, atol=1e-2, rtol=0
    )
    drawn = sorted(path.name for path in (detection / 'pictures').iterdir())
    assert drawn == sorted(Path(found['img_path']).name for found in (one, other))


def test_a_learning_rate_is_scaled_by_the_batch_size_over_that_of_the_config(detection):
    done = run_tool('train', 'mine.py', '--auto-scale-lr', '--work-dir', 'scaled', folder=detection)
    assert done.returncode == 0, done.stderr
    assert Config.fromfile(detection / 'scaled/mine.py').auto_scale_lr.base_batch_size == 8
    log = next((detection / 'scaled').glob('*/*.log')).read_text()
    assert 'Scaling the original LR by 0.5' in log  # a batch size of 4


@pytest.fixture(scope='module')
def classification(tmp_path_factory):
    folder = tmp_path_factory.mktemp('classification')
    generator = np.random.default_rng(0)
    for name in ('a/0.png', 'b/1.png'):
        (folder / 'images' / name).parent.mkdir(parents=True)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / name)
    (folder / 'mine.py').write_text(
        f'_base_ = {str(CONFIGS / "cifar10_mini/ste_resnet20_12e_cifar10-mini.py")!r}\n'
        'model = dict(head=dict(num_classes=2))\n'
        'data_preprocessor = dict(_delete_=True, mean=[99] * 3, std=[50] * 3, to_rgb=True)\n'
        'test_dataloader = dict(\n'
        "    _delete_=True, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),\n"
        "    dataset=dict(type='CustomDataset', data_root='images',\n"
        "        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))\n"
    )
    cfg = Config.fromfile(folder / 'mine.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor}).eval()
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder, model


def test_tta_of_a_classifier_averages_the_scores_of_each_image_and_its_mirror_image(classification):
    folder, model = classification
    done = run_tool('test', 'mine.py', 'model.pth', '--tta', '--out', 'found.pkl', folder=folder)
    assert done.returncode == 0, done.stderr
    found = pickle.loads((folder / 'found.pkl').read_bytes())
    for sample in found:
        pixels = np.asarray(
            Image.open(
                sample['img_path']
                if Path(sample['img_path']).is_absolute()
                else folder / sample['img_path']
            )
        )
        image = torch.tensor(pixels).permute(2, 0, 1).float().sub(99).div(50)
        with torch.no_grad():
            scores = model(torch.stack([image, image.flip(2)])).softmax(1)
        torch.testing.assert_close(sample['pred_score'], scores.mean(0))


def test_pictures_of_a_classifier_are_drawn_for_every_image(classification):
    folder, _ = classification
    done = run_tool('test', 'mine.py', 'model.pth', '--show-dir', 'pictures', folder=folder)
    assert done.returncode == 0, done.stderr
    assert len(list((folder / 'pictures').iterdir())) == 2


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (
            ['test', 'mine.py', 'model.pth', '--out', 'found.json'],
            "--out 'found.json' must end in .pkl or .pickle",
        ),
        (['test', 'mine.py', 'model.pth', '--tta', '--show-dir', 'x'], 'leave out --show-dir'),
        (
            ['train', 'mine.py', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None'],
            '--auto-scale-lr needs',
        ),
        (
            [
                'test',
                'mine.py',
                'model.pth',
                '--show-dir',
                'x',
                '--cfg-options',
                'default_hooks.visualization=None',
            ],
            '--show-dir needs default_hooks.visualization',
        ),
    ],
)
def test_options_that_do_not_fit_are_named(classification, words, said):
    done = run_tool(*words, folder=classification[0])
    assert done.returncode == 1 and said in done.stderr
