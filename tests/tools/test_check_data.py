"""Images in training: broken ones, which tools/check_data.py lists, and boxes resized with theirs."""

import shutil

import pytest
import torch
from helpers.user_folder import main_of, make_user_folder
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from surge_mm.launch.cli import run as run_tool
from surge_mm.utils.errors import DatasetError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_user_folder(tmp_path_factory.mktemp('user'))


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_broken_in_mid_training_is_named(folder, monkeypatch, tmp_path, workers):
    """The start does not decode images; the last of the six batches of the first epoch has the broken one."""
    shutil.copytree(folder / 'data', tmp_path / 'data')
    victim = sorted((tmp_path / 'data/digits/VOC2007/JPEGImages').iterdir())[23]
    victim.write_bytes(victim.read_bytes()[:-200])
    options = [
        f'train_dataloader.num_workers={workers}',
        'train_dataloader.sampler.shuffle=False',
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=5',
    ]
    words = [folder / 'mine.py', '--cfg-options', *options]
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda: main_of('train', monkeypatch, tmp_path, *words))
    message = str(ended.value)
    assert message.startswith(f"error: image 'data/digits/VOC2007/JPEGImages/{victim.name}' cannot")
    assert 'tools/check_data.py' in message and '\n' not in message
    assert (tmp_path / 'work_dirs/mine/iter_5.pth').is_file()


def test_check_data_decodes_each_image_and_lists_the_unusable_ones(
    folder, monkeypatch, tmp_path, capsys
):
    shutil.copytree(folder / 'data', tmp_path / 'data')
    main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py')
    streams = capsys.readouterr()
    assert streams.out == '' and 'train_dataloader.dataset: 24 images' in streams.err
    images = sorted((tmp_path / 'data/digits/VOC2007/JPEGImages').iterdir())
    val = images[24]  # behind 24 train images
    for image in (*images[:6], val):
        image.write_bytes(image.read_bytes()[:-200])
    images[6].unlink()
    with pytest.raises(DatasetError, match='8 images cannot be used'):
        main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rpartition('/')[2] for line in lines] == [
        *(image.name for image in images[:7]),
        val.name,
    ]
    with pytest.raises(DatasetError, match='1 images cannot be used'):
        main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py', '--splits', 'val')


def test_boxes_of_the_digits_are_resized_with_the_image(folder, monkeypatch):
    monkeypatch.chdir(folder)
    cfg = Config.fromfile('mine.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]['data_samples']
    raw = torch.tensor([i['bbox'] for i in dataset.get_data_info(0)['instances']])
    assert sample.scale_factor == pytest.approx((128 / 96, 128 / 96))
    boxes = sample.gt_instances.bboxes.tensor
    torch.testing.assert_close(boxes, raw * 128 / 96)
