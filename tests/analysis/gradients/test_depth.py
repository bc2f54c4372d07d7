"""The number of layers with a branch on the longest way, and the eta that follows from a growth."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.hook_runs import hook_runner
from helpers.samples import detection_batch
from helpers.tiny_run import differences, state, tiny_runner
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.checkpoint import checkpoint

import surge_mm
from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.analysis.gradients.depth import longest_way

CONFIGS = Path(__file__).parents[3] / 'configs'
AGS = 'surge_mm.AdaptiveGradientScalerHook'


def linear(**options):
    return SurgeLinear(4, 4, **options)


def depth_of(function):
    return longest_way(function(torch.randn(3, 4, requires_grad=True)).sum())


def test_layers_in_succession_add_up_and_plain_binary_layers_do_not_count():
    layers = [linear(), linear(compensator=None), nn.Linear(4, 4), linear(), nn.PReLU()]
    assert depth_of(nn.Sequential(*layers)) == 2


def test_the_longest_way_counts_not_the_sum_of_ways():
    long, short = [linear() for _ in range(3)], linear()
    assert depth_of(lambda x: nn.Sequential(*long)(x) + short(x)) == 3
    assert depth_of(lambda x: long[1](long[0](x) + x) + x) == 2


def test_a_head_over_levels_counts_once_and_a_layer_applied_again_counts_again():
    body, head = linear(), nn.Sequential(linear(), linear())
    assert depth_of(lambda x: sum(head(body(x * i)) for i in range(5))) == 3
    assert depth_of(lambda x: head(head(x))) == 4


def test_a_way_ends_where_the_gradient_is_stopped():
    first, second = linear(), linear()
    assert depth_of(lambda x: second(first(x).detach())) == 1


@pytest.mark.parametrize('with_cp', [False, True])
def test_the_backbone_of_depth_20_has_18_layers(with_cp):
    backbone = surge_mm.SurgeResNet(
        20, base_channels=4, num_stages=3, stem='cifar', out_indices=(2,), with_cp=with_cp
    )
    assert longest_way(backbone(torch.randn(2, 3, 8, 8))[0].sum()) == 18


def test_a_detector_has_the_layers_of_backbone_neck_and_one_head():
    cfg = Config.fromfile(CONFIGS / 'bccd' / 'surge_retinanet-1bit_r18-light_40e_bccd.py')
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    data = model.data_preprocessor(detection_batch(64), training=True)
    loss, _ = model.parse_losses(model.loss(data['inputs'], data['data_samples']))
    head = len(model.bbox_head.cls_convs[0])  # of one level
    assert longest_way(loss) == 16 + 1 + head


class Classifier(BaseModel):
    def __init__(self, depth=3, run=lambda layers, x: layers(x)):
        super().__init__()
        convs = [SurgeConv2d(3, 3, 3, padding=1, compensator={'scale': 0.7}) for _ in range(depth)]
        self.layers = nn.Sequential(*convs)
        self.run = run

    def forward(self, images, labels, mode='loss'):
        return {'loss': F.cross_entropy(self.run(self.layers, images).mean((2, 3)), labels)}


@pytest.mark.parametrize('depth', [1, 3, 6])
def test_growth_sets_eta_by_the_depth_of_the_model(tmp_path, depth):
    hook = {'type': AGS, 'growth': 1.3, 'custom_keys': {'layers.0': {'preserve_norm': True}}}
    run = hook_runner(tmp_path, Classifier(depth), hook)
    run.train()
    eta = math.log(1.3) / (0.35 * depth)
    assert [layer.scale.eta for layer in run.model.layers] == pytest.approx([eta] * depth)
    assert [layer.scale.preserve_norm for layer in run.model.layers] == [
        i == 0 for i in range(depth)
    ]


@pytest.mark.parametrize('depth, warns', [(1, True), (3, False)])
def test_an_eta_beyond_the_measured_rule_is_a_warning(tmp_path, depth, warns):
    hook_runner(tmp_path, Classifier(depth), {'type': AGS, 'growth': 1.3}).train()
    (file,) = tmp_path.glob('*/*.log')
    assert ('gives an eta above 0.3' in file.read_text()) == warns


def test_training_with_a_growth_is_that_with_its_eta_to_the_bit(tmp_path):
    """Counting leaves no trace: dropout, batch norms, the random generators."""
    growth = 1.2
    settings = {'growth': {'growth': growth}, 'eta': {'eta': math.log(growth) / (0.35 * 2)}}
    for name, how in settings.items():
        hooks = [{'type': AGS, 'warmup_iters': 9, **how}]
        tiny_runner(tmp_path / name, length=1, exact=False, hooks=hooks).train()
    files = [state(tmp_path / name / 'epoch_1.pth') for name in settings]
    assert differences(*files) == []


def test_a_growth_of_1_is_ste(tmp_path):
    run = hook_runner(tmp_path, Classifier(), {'type': AGS, 'growth': 1})
    run.train()
    assert {layer.scale.eta for layer in run.model.layers} == {0}


def test_the_layers_of_a_compiled_model_are_counted(tmp_path):
    torch._dynamo.reset()
    compiled = torch.compile(lambda layers, x: layers(x), backend='aot_eager')
    run = hook_runner(tmp_path, Classifier(run=compiled), {'type': AGS, 'growth': 1.3})
    run.train()
    assert run.model.layers[0].scale.eta == pytest.approx(math.log(1.3) / (0.35 * 3))


def again(layers, x):
    return checkpoint(layers, x.requires_grad_(), use_reentrant=True)


class OwnStep(Classifier):
    def train_step(self, data, optim_wrapper):
        loss = self(*self.data_preprocessor(data))['loss']
        optim_wrapper.backward(loss)
        optim_wrapper.step()
        return {'loss': loss}


@pytest.mark.parametrize(
    'model, message',
    [
        (
            lambda: Classifier(run=lambda layers, x: layers(x).detach() + x.requires_grad_()),
            'none is on a way',
        ),
        (lambda: Classifier(run=again), 'layers.0 is hidden .* use_reentrant=True'),
        (OwnStep, 'the model calls backward of the optimizer wrapper'),
    ],
    ids=['no way', 'reentrant checkpoint', 'own step'],
)
def test_a_depth_that_cannot_be_counted_is_an_error_before_the_first_step(tmp_path, model, message):
    run = hook_runner(tmp_path, model(), {'type': AGS, 'growth': 1.3})
    before = [p.clone() for p in run.model.parameters()]
    with pytest.raises(ValueError, match=rf'growth=1\.3: .*{message}.*Set eta in place of growth'):
        run.train()
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), before, strict=True))
