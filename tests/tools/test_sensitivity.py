"""Parts of tools/sensitivity.py; tests/tools/test_binarize.py runs the tool."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tools import TOOLS
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn
from torch.utils.data import Dataset

from surge_mm.utils.errors import LaunchError

TOOL = runpy.run_path(str(TOOLS / 'sensitivity.py'))


@DATASETS.register_module()
class RandomTexts(Dataset):
    """Texts whose tokens are drawn anew from NumPy's generator and PyTorch's, as augmented images are."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        ids = torch.rand(3) + np.random.rand()
        return {'inputs': {'ids': ids, 'mask': torch.ones(3)}, 'data_samples': index}


MODEL = SimpleNamespace(data_preprocessor=lambda batch, training: batch)
CFG = Config(
    {
        'train_dataloader': {
            'dataset': {'type': 'mmengine.RandomTexts'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'batch_size': 4,
            'num_workers': 0,
            'collate_fn': {'type': 'default_collate'},
        }
    }
)


def test_the_batches_are_the_same_at_each_call():
    one, other = (TOOL['first_batches'](MODEL, CFG, 4)[0] for _ in range(2))
    assert torch.equal(one['inputs']['ids'], other['inputs']['ids'])
    assert torch.equal(one['data_samples'], other['data_samples'])


def test_batches_of_texts_are_counted_by_their_samples():
    for least, batches in ((4, 1), (5, 2), (100, 3)):
        found = TOOL['first_batches'](MODEL, CFG, least)
        assert len(found) == batches and TOOL['number_of_samples'](found) == 4 * batches


@pytest.mark.parametrize('metric, order', [('glue/accuracy', 'ab'), ('glue/nll', 'ba')])
def test_a_cost_is_what_the_model_becomes_worse(monkeypatch, metric, order):
    values = {'': 0.5, 'a': 0.3, 'b': 0.6}  # as calibrated, and of the blocks

    class Values:
        def __init__(self, cfg):
            pass

        def names_of_metrics(self, model):
            return []

        def evaluate(self, model):
            return {metric: getattr(model, 'value', 0.9)}

    def alone(model, layers, batches):
        return SimpleNamespace(value=values[''.join(layers)])

    fakes = {
        'ValidationSet': Values,
        'binarize_alone': alone,
        'first_batches': lambda *_: [],
        'training_loss': lambda *_: 0.0,
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(TOOL['measure'].__globals__, name, fake)
    report = TOOL['measure'](CFG, nn.Linear(1, 1), {'a': ['a'], 'b': ['b']}, 4, metric)
    assert ''.join(row['name'] for row in report['costs']) == order
    worse = pytest.approx([0.2, -0.1] if order == 'ab' else [0.1, -0.2])
    assert [row['cost'] for row in report['costs']] == worse


def test_a_metric_that_is_not_known_must_be_chosen():
    choose = TOOL['choose_metric']
    assert choose(None, ['loss', 'glue/accuracy']) == 'glue/accuracy'
    assert choose('line/error', ['line/error']) == 'line/error'
    with pytest.raises(
        LaunchError, match='the config give line/error, loss, .*: add --metric with one'
    ):
        choose(None, ['line/error', 'loss'])
    with pytest.raises(LaunchError, match="--metric 'top1': .* give line/error. Choose one"):
        choose('top1', ['line/error'])
