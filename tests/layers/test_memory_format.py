"""Models whose own code assumes contiguous tensors, in channels_last: packed, and in training."""

import copy
import threading
from types import SimpleNamespace

import pytest
import torch
from mmcv.cnn import ConvWS2d
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.data import Dataset

import surge_mm
from surge_mm import ChannelsLastHook
from surge_mm.deploy import pack
from surge_mm.layers.memory_format import to_channels_last

RULES = [
    {'name': 'backbone.features.4.conv', 'to': 'binary'},
    {'name': 'backbone.*', 'to': 'keep'},
]


def vgg():
    """Return a classifier whose backbone flattens its maps by ``view``."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            {
                'type': 'surge_mm.Binarized',
                'base_type': 'mmpretrain.ImageClassifier',
                'backbone': {
                    'type': 'VGG',
                    'depth': 11,
                    'num_classes': 5,
                    'act_cfg': {'type': 'PReLU'},
                },
                'head': {'type': 'ClsHead', 'loss': {'type': 'CrossEntropyLoss'}},
                'rules': RULES,
            }
        )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    return model.eval()


@torch.no_grad()
def test_a_packed_vgg_with_a_classifier_gives_the_scores_of_the_binary_one():
    model, x = vgg(), torch.randn(2, 3, 224, 224)
    packed = pack(copy.deepcopy(model))
    expected = model(x, mode='tensor')
    # the first pass, a later one, a copy, and the backbone by itself
    for module in (packed, packed, copy.deepcopy(packed)):
        torch.testing.assert_close(module(x, mode='tensor'), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(packed.backbone(x)[0], expected, rtol=1e-4, atol=1e-4)


class Pictures(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(index))
        return {'inputs': image}


class Standardized(nn.Sequential):
    """Weight standardization as in mmcv, and a flattening ``view``."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(ConvWS2d(3, 4, 3, stride=8), surge_mm.SurgeConv2d(4, 4, 3), nn.ReLU())
        self.last = nn.Linear(4 * 6 * 6, 2)

    def forward(self, x):
        for layer in list(self)[:-1]:
            x = layer(x)
        return self.last(x.view(len(x), -1))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Standardized()

    def train_step(self, data, optim_wrapper):
        loss = self(torch.stack(data['inputs'])).square().mean()
        optim_wrapper.update_params(loss)
        return {'loss': loss}

    def forward(self, x):
        return self.net(x)


def test_the_hook_trains_a_vgg_with_a_classifier():
    model = vgg().train()
    other = copy.deepcopy(model)
    ChannelsLastHook().before_run(SimpleNamespace(model=other))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    x = torch.randn(2, 3, 224, 224)
    for _ in range(2):
        losses = [m(x, samples, mode='loss')['loss'] for m in (model, other)]
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    losses[1].backward()
    assert all(p.grad is not None for p in other.parameters())


def test_the_hook_trains_code_that_views_weights_and_activations(tmp_path):
    runs = []
    for hooks in ([], [{'type': 'surge_mm.ChannelsLastHook'}]):
        runner = Runner(
            model=Small(),
            work_dir=str(tmp_path),
            experiment_name=f'small{len(hooks)}',
            train_dataloader={
                'dataset': Pictures(),
                'batch_size': 2,
                'collate_fn': pseudo_collate,
                'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            },
            train_cfg={'by_epoch': True, 'max_epochs': 1},
            optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
            default_hooks={'checkpoint': None},
            custom_hooks=hooks,
            randomness={'seed': 0},
            log_level='ERROR',
        )
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
        runs.append(torch.tensor(losses))
    assert len(runs[0]) == 2
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


def test_a_view_that_fails_for_another_reason_still_fails():
    class Wrong(nn.Module):
        def forward(self, x):
            return x.view(7, -1)

    model = to_channels_last(Wrong())
    for _ in range(2):
        with pytest.raises(RuntimeError, match='is invalid for input of size'):
            model(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize('order', [0, 1])
def test_no_mode_stays_after_a_pass_of_a_binarized_model(order):
    """The check of the first passes is a function mode as well. One that stays slows all later computations down."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    steps = [
        lambda: surge_mm.binarize(model, [{'name': '1', 'to': 'binary'}]),
        lambda: to_channels_last(model),
    ]
    for step in steps if order else reversed(steps):
        step()
    for mode in (True, False):
        model.train(mode)(torch.randn(1, 3, 9, 9))
        assert not _get_current_function_mode_stack()
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 4, 9, 9))
    assert not _get_current_function_mode_stack()


class Flattening(nn.Module):
    """Features of 1x1 are a view in any memory format, larger ones are not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.binary = nn.Conv2d(3, 16, 3, 4, 1), surge_mm.SurgeConv2d(16, 16, 3, 4, 1)

    def forward(self, x):
        return self.binary(self.first(x)).view(len(x), -1)


@torch.no_grad()
def test_a_view_copies_also_if_the_first_input_was_too_small_to_need_it():
    model = Flattening().eval()
    packed = pack(copy.deepcopy(model))
    for pixels in (16, 64, 16, 96):
        x = torch.randn(2, 3, pixels, pixels)
        assert packed(x).shape == (2, 16 * (pixels // 16) ** 2)
        torch.testing.assert_close(packed(x), model(x))


@torch.no_grad()
def test_a_view_copies_also_while_another_thread_runs_the_model():
    packed = pack(Flattening().eval())
    x, entered, left, outputs = torch.randn(2, 3, 64, 64), threading.Event(), threading.Event(), []

    def wait(module, args):
        if threading.current_thread().name == 'first' and not outputs:
            entered.set()
            left.wait(60)

    packed.first.register_forward_pre_hook(wait)

    def run():
        with torch.no_grad():
            outputs.append(packed(x))

    first = threading.Thread(target=run, name='first')
    first.start()
    assert entered.wait(60)
    run()  # from beginning to end within the pass of the first thread
    left.set()
    first.join()
    assert len(outputs) == 2 and torch.equal(*outputs)
    assert torch.equal(packed(x), outputs[0])
