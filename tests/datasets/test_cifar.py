"""CIFAR10Tensor on files of the official layout with random pixels, whose checksums stand in for the official ones."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from surge_mm.datasets.cifar import CIFAR10Tensor
from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.launch.runner import begin, build_runner
from surge_mm.utils.errors import DatasetError

CONFIGS = Path(__file__).parents[2] / 'configs'
PER_FILE = 20


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / 'cifar' / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name):
        entry = {
            'data': rng.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8),
            'labels': rng.integers(0, 10, PER_FILE).tolist(),
        }
        content = pickle.dumps(entry, protocol=2)
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    monkeypatch.setattr(
        CIFAR10Tensor, 'train_list', [write(f'data_batch_{i}') for i in range(1, 6)]
    )
    monkeypatch.setattr(CIFAR10Tensor, 'test_list', [write('test_batch')])
    return folder.parent


def entries(root, names):
    return [
        pickle.loads((root / 'cifar-10-batches-py' / name).read_bytes(), encoding='latin1')
        for name in names
    ]


def test_a_batch_holds_the_images_and_labels_of_its_indices(root):
    dataset = CIFAR10Tensor(str(root), device='cpu')
    assert len(dataset) == 5 * PER_FILE
    batch = dataset.__getitems__([3, 25, 99])
    first, second, *_, last = entries(root, [f'data_batch_{i}' for i in range(1, 6)])
    for got, (entry, row) in zip(
        batch['inputs'], [(first, 3), (second, 5), (last, 19)], strict=True
    ):
        assert got.dtype == torch.uint8
        assert got.flatten().tolist() == entry['data'][row].tolist()
    labels = [sample.gt_label.item() for sample in batch['data_samples']]
    assert labels == [first['labels'][3], second['labels'][5], last['labels'][19]]


def test_the_test_split_and_a_part_of_it(root):
    assert len(CIFAR10Tensor(str(root), split='test', device='cpu')) == PER_FILE
    part = CIFAR10Tensor(str(root), split='test', device='cpu', indices=7)
    assert len(part) == len(part.samples) == 7


def test_a_range_of_images(root):
    whole = CIFAR10Tensor(str(root), device='cpu')
    part = CIFAR10Tensor(str(root), device='cpu', indices=range(30, 50))
    whole.full_init()
    assert len(part) == 20
    assert torch.equal(part.images, whole.images[30:50])
    assert torch.equal(part.labels, whole.labels[30:50])


@pytest.mark.parametrize('indices, first', [(range(90, 110), 100), ([3, -1], -1), (101, 100)])
def test_images_that_do_not_exist_are_refused(root, indices, first):
    with pytest.raises(DatasetError, match=f'indices must be from 0 to 99.*has image {first}'):
        len(CIFAR10Tensor(str(root), device='cpu', indices=indices))


def test_small_images_are_means_over_blocks(root):
    full = CIFAR10Tensor(str(root), split='test', device='cpu').images.double()
    small = CIFAR10Tensor(str(root), split='test', device='cpu', size=16).images
    assert small.shape == (PER_FILE, 3, 16, 16)
    expected = (
        full[..., ::2, ::2] + full[..., 1::2, ::2] + full[..., ::2, 1::2] + full[..., 1::2, 1::2]
    ) / 4
    assert (small.double() - expected).abs().max() <= 0.5


def test_mmengine_loads_whole_batches(root):
    loader = Runner.build_dataloader(
        {
            'batch_size': 32,
            'num_workers': 0,
            'dataset': {'type': 'surge_mm.CIFAR10Tensor', 'data_root': str(root), 'device': 'cpu'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'collate_fn': {'type': 'surge_mm.whole_batch'},
        },
        seed=0,
    )
    batches = list(loader)
    assert [len(batch['inputs']) for batch in batches] == [32, 32, 32, 4]
    seen = torch.cat([batch['inputs'] for batch in batches]).flatten(1).sum(1)
    assert sorted(seen.tolist()) == sorted(loader.dataset.images.flatten(1).sum(1).tolist())


@pytest.fixture
def config(root, tmp_path):
    cfg = Config.fromfile(CONFIGS / 'cifar10_mini' / 'ste_resnet20_12e_cifar10-mini.py')
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path / 'work'),
            'train_cfg.max_epochs': 1,
            'train_dataloader.dataset.indices': 64,
            'train_dataloader.batch_size': 32,
            'model.backbone.base_channels': 4,
            'model.head.in_channels': 16,
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
    return cfg


def test_a_config_trains_and_validates(config):
    runner = build_runner(config)
    with begin(runner):
        runner.train()
    assert runner.iter == 2
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100


def test_images_for_the_calibration_are_batches_of_one(config):
    init_default_scope(config.default_scope)
    batches = list(CalibrationSet(config, count=4))
    images = CIFAR10Tensor(config.train_dataloader.dataset.data_root, size=16, indices=64).images
    assert torch.equal(torch.cat([batch['inputs'] for batch in batches]), images[::16])


def test_missing_and_damaged_files_are_named(root):
    folder = root / 'cifar-10-batches-py'
    (folder / 'data_batch_2').unlink()
    (folder / 'data_batch_5').write_bytes(b'half a file')
    with pytest.raises(DatasetError) as error:
        len(DATASETS.build({'type': 'surge_mm.CIFAR10Tensor', 'data_root': str(root)}))
    message = str(error.value)
    missing, changed = folder / 'data_batch_2', folder / 'data_batch_5'
    assert message.startswith(
        f'missing: {missing}; MD5 is not that of the official file: {changed}. '
    )
    assert 'cifar-10-python.tar.gz' in message
    assert 'data_batch_1' not in message


@pytest.mark.parametrize(
    'options, message', [({'size': 24}, 'size=24'), ({'pipeline': [1]}, 'BatchAugmentPreprocessor')]
)
def test_bad_arguments_are_named(root, options, message):
    with pytest.raises(ValueError, match=message):
        CIFAR10Tensor(str(root), **options)
