"""NaN and infinity.

NaN and infinity are written into the output of a layer, into the gradient there, or into the loss, at a random step and
in a random layer. The models are a binary ResNet-18 classifier and a narrow form of the demo's detector, both with
SURGE and AGS. In every case the weights, the running statistics and the state of the optimizer must be finite at the
end, and so must later losses. The log of `surge_mm.NonFiniteGuardHook` (in all configs of this package) must name the
layer or the loss. A gradient that is not finite at the output of a compensated layer sets its lambda to 0 in that step,
which is counted. PReLUs are excluded: a gradient may bypass their weight, and then the layer before is named.

Further cases are layers whose g_a is exactly zero, whose input is constant, or whose batch is empty, in float32, in
bfloat16 and under autocast, and layers whose output gradient is not finite. There, lambda and dL/dW_a must be 0, and
the count must increase by one.
"""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.faults import BAD, Inject, not_finite, random_fault
from helpers.samples import detection_sample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from surge_mm import SurgeConv2d, SurgeLinear, SurgeResNet
from surge_mm.layers import BinaryLayer

CONFIGS = Path(__file__).parents[2] / 'configs'
STEPS = 6


class Pictures(Dataset):
    def __len__(self):
        return 4 * STEPS

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 32, 32, generator=generator), index % 3


class Objects(Pictures):
    def __getitem__(self, index):
        image, sample = detection_sample(img_id=index)
        return {'inputs': image, 'data_samples': sample}


class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}}
        self.backbone = SurgeResNet(18, base_channels=8, stem='light', conv_cfg=cfg)
        self.head = nn.Linear(64, 3)

    def forward(self, images, labels, mode='loss'):
        scores = self.head(self.backbone(images)[-1].mean((2, 3)))
        return {'loss_cls': F.cross_entropy(scores, labels)}


def detector():
    cfg = Config.fromfile(CONFIGS / 'demo/surge_fcos-1bit_r18-light_10e_digits.py').model
    cfg.backbone.base_channels = 8
    cfg.neck.update(in_channels=[16, 32, 64], out_channels=16)
    cfg.bbox_head.update(in_channels=16, feat_channels=16)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    model.init_weights()
    return model


SUBJECTS = {
    'classifier': (Classifier, Pictures, {'type': 'default_collate'}),
    'detector': (detector, Objects, pseudo_collate),
}


class Watch(Hook):
    """The losses, and the lambda of one layer, of each step."""

    priority = 'LOWEST'

    def __init__(self, layer):
        self.layer, self.losses, self.lam = layer, [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))
        layer = runner.model.get_submodule(self.layer)
        self.lam.append(layer.ags_statistics[0].item() if isinstance(layer, BinaryLayer) else None)


def train(model, subject, fault, work_dir):
    inject, watch = Inject(fault), Watch(fault.layer)
    _, data, collate = SUBJECTS[subject]
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader={
            'dataset': data(),
            'batch_size': 4,
            'collate_fn': collate,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        },
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}},
        default_hooks={
            'checkpoint': None,
            'logger': {'type': 'LoggerHook', 'interval': 1},
            'guard': {'type': 'surge_mm.NonFiniteGuardHook'},
        },
        custom_hooks=[
            {'type': 'surge_mm.AdaptiveGradientScalerHook', 'eta': 0.1},
            inject,
            watch,
        ],
        default_scope='mmengine',
        randomness={'seed': 0},
        experiment_name=work_dir.name,
        log_level='ERROR',
    )
    runner.train()
    return runner, inject, watch


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('subject', SUBJECTS)
def test_a_fault_anywhere_costs_one_step_and_is_named(subject, tmp_path, monkeypatch, record):
    said = []
    monkeypatch.setattr('surge_mm.hooks.non_finite_guard_hook.warn', said.append)
    rng = random.Random(subject)
    cases, zero_lambda = 50, 0
    kinds = {}
    for case in range(cases):
        torch.manual_seed(case)
        model = SUBJECTS[subject][0]()
        layers = [
            name
            for name, module in model.named_modules()
            if next(module.parameters(False), None) is not None and not isinstance(module, nn.PReLU)
        ]
        fault = random_fault(rng, layers, STEPS)
        said.clear()
        runner, inject, watch = train(model, subject, fault, tmp_path / str(case))
        assert inject.happened, fault
        assert not not_finite(runner.model, runner.optim_wrapper.optimizer), fault
        assert torch.tensor(watch.losses[fault.at + 1 :]).isfinite().all(), fault
        named = {
            'activation': f'the output of {fault.layer}',
            'gradient': 'the gradient of ',  # the last one in the order of the model that has it
            'loss': 'the loss loss_',
        }[fault.kind]
        assert len(said) == 1 and f'iteration {fault.at + 1} is not finite' in said[0], fault
        assert named in said[0], (fault, said)
        if fault.kind == 'gradient' and watch.lam[0] is not None:
            assert watch.lam[fault.at] == 0
            count = runner.message_hub.get_scalar('train/ags_nonfinite_steps').current()
            assert count == 1, fault
            zero_lambda += 1
        kinds[fault.kind] = kinds.get(fault.kind, 0) + 1
    many = ', '.join(f'{count} in {kind}s' for kind, count in sorted(kinds.items()))
    many = many.replace('losss', 'losses').replace('activations', 'outputs')
    record(
        f'NaN or infinity in a step of the {subject}',
        cases,
        f'{many}: weights finite; outputs and losses named, and the last gradient that is not '
        f'finite; lambda 0 in the {zero_lambda} with a compensated layer',
    )


DTYPES = {
    'float32': (torch.float32, False),
    'bfloat16': (torch.bfloat16, False),
    'bfloat16 by autocast': (torch.float32, True),
}


def odd_layer(kind, dtype):
    compensator = {'eta': 0.1}
    if kind == 'conv':
        return SurgeConv2d(4, 6, 3, padding=1, compensator=compensator).to(dtype), (2, 4, 5, 5)
    return SurgeLinear(4, 6, compensator=compensator).to(dtype), (3, 4)


def step(layer, x, spoil=None, autocast=False):
    """One step of SGD on the layer; returns dL/dx."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out = layer(x)
    g = torch.randn_like(out)
    if spoil is not None:
        g.view(-1)[g.numel() // 2] = spoil
    out.backward(g)
    return x.grad


@pytest.mark.parametrize('name', DTYPES)
def test_odd_layers_stay_finite(name, record):
    dtype, autocast = DTYPES[name]
    cases = 0
    for kind in ('conv', 'linear'):
        for odd in ('g_a of 0', 'constant input', 'empty batch', *BAD):
            for seed in range(10):
                torch.manual_seed(seed)
                layer, shape = odd_layer(kind, dtype)
                x = torch.randn(shape, dtype=dtype)
                if odd == 'constant input':
                    x = torch.full(shape, 0.5, dtype=dtype)
                if odd == 'empty batch':
                    x = x[:0]
                layer(x)  # the branch takes its copy of the weights
                if odd == 'g_a of 0':
                    layer.aux_weight.data.zero_()
                bad = odd if isinstance(odd, float) else None
                grad_x = step(layer, x, bad, autocast)
                lam, *_, count = layer.ags_statistics.tolist()
                if bad is None:
                    for tensor in (grad_x, *(p.grad for p in layer.parameters())):
                        assert torch.isfinite(tensor).all(), (kind, odd, seed)
                    assert count == 0 and torch.isfinite(torch.tensor(lam))
                    assert (lam == 0) == (odd == 'empty batch')
                else:
                    assert lam == 0 and count == 1
                    assert not layer.aux_weight.grad.any()
                    assert not torch.isfinite(grad_x).all()  # for a GradScaler to see
                cases += 1
    record(f'odd layers in {name}', cases, 'gradients finite, or lambda 0 and counted')
