import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from surge_mm import SurgeConv2d, SurgeLinear


class Pictures(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 8, 8, generator=generator), index % 3


class Classifier(BaseModel):
    def __init__(self, activation='EDE', weight='ReCU'):
        super().__init__()
        binarizers = {'activation': {'type': activation}, 'weight': {'type': weight}}
        self.stem = SurgeConv2d(3, 8, 3, padding=1, **binarizers)
        self.norm = nn.BatchNorm2d(8)
        self.head = SurgeLinear(8, 3, **binarizers)

    def forward(self, images, labels, mode='loss'):
        x = self.norm(self.stem(images)).mean((2, 3))
        return {'loss': F.cross_entropy(self.head(x), labels)}


class Record(Hook):
    """Record the progress of the binarizers at each iteration; stop the run at ``stop``."""

    priority = 'LOWEST'

    def __init__(self, stop=None):
        self.stop = stop
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop:
            raise KeyboardInterrupt
        self.seen.append(
            (runner.model.stem.activation.progress, runner.model.head.weight_binarizer.progress)
        )


def runner(tmp_path, train_cfg, record=None, model=None, resume=False):
    return Runner(
        model=model or Classifier(),
        work_dir=str(tmp_path),
        train_dataloader={
            'dataset': Pictures(),
            'batch_size': 4,
            'collate_fn': {'type': 'default_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        },
        train_cfg=train_cfg,
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        custom_hooks=[{'type': 'surge_mm.BinarizerScheduleHook'}, *([record] if record else [])],
        default_scope='mmengine',
        experiment_name=f'{tmp_path.name}_{resume}',
        resume=resume,
    )


@pytest.mark.parametrize(
    'train_cfg', [{'by_epoch': True, 'max_epochs': 2}, {'by_epoch': False, 'max_iters': 12}]
)
def test_progress_runs_from_0_at_the_first_iteration_to_1_at_the_last(tmp_path, train_cfg):
    record = Record()
    runner(tmp_path, train_cfg, record).train()
    steps = [i / 11 for i in range(12)]
    for seen in zip(
        *record.seen, strict=True
    ):  # of the activations' and of the weights' binarizers
        assert list(seen) == pytest.approx(steps)


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    epochs = {'by_epoch': True, 'max_epochs': 2}
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, epochs, Record(stop=8)).train()
    record = Record()
    runner(tmp_path, epochs, record, resume=True).train()
    assert [both[0] for both in record.seen] == pytest.approx([i / 11 for i in range(6, 12)])


def test_a_model_without_changing_binarizers_is_refused(tmp_path):
    model = Classifier('STESign', 'Sign')
    with pytest.raises(ValueError, match='no binarizer .* Remove the hook'):
        runner(tmp_path, {'by_epoch': True, 'max_epochs': 1}, model=model).train()
