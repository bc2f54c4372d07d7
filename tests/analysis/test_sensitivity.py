"""Calibration of a layer that alone becomes binary, against formulas written out."""

import mmcv.cnn
import torch
from mmengine.model import BaseModel
from torch import nn

from surge_mm.analysis.sensitivity import (
    binarize_alone,
    estimate_norms,
    group_by_block,
    training_loss,
)
from surge_mm.layers import BinaryLayer


class Net(BaseModel):
    """Two convolutions with a ReLU between them, then a batch norm and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def features(self, images):
        return self.second(self.relu(self.first(images)))

    def forward(self, inputs, mode='tensor'):
        out = self.fc(self.norm(self.features(inputs)).mean((2, 3)))
        return {'loss': out.square().mean()} if mode == 'loss' else out


def net_and_batches():
    batches = [{'inputs': torch.randn(4, 3, 8, 8) + 0.3} for _ in range(3)]
    return Net().eval(), batches


def test_scale_is_the_least_squares_fit_of_the_signs_to_the_output():
    net, batches = net_and_batches()
    alone = binarize_alone(net, [('second',)], batches)
    before = net.first(torch.cat([batch['inputs'] for batch in batches]))
    # behind the ReLU, the signs are those of its input: what a leaky ReLU passes on
    signs = torch.where(before > 0, 1.0, -1.0)
    plain = nn.functional.conv2d(signs, net.second.weight.sign(), padding=1)
    wanted = nn.functional.conv2d(before.relu(), net.second.weight, padding=1)
    for channel in range(4):
        x, y = plain[:, channel].reshape(-1, 1).double(), wanted[:, channel].reshape(-1, 1).double()
        (factor,) = torch.linalg.lstsq(x, y).solution
        got = alone.second.weight[channel].abs().mean() * alone.second.weight[channel].sign()
        torch.testing.assert_close(
            got, (factor * net.second.weight[channel].sign()).float(), rtol=1e-4, atol=1e-6
        )


def test_only_the_layer_becomes_binary_and_the_model_is_not_changed():
    net, batches = net_and_batches()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    alone = binarize_alone(net, [('second',), ('fc',)], batches)
    binary = [name for name, module in alone.named_modules() if isinstance(module, BinaryLayer)]
    assert binary == ['second', 'fc'] and type(alone.relu) is nn.ReLU
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert not any(isinstance(module, BinaryLayer) for module in net.modules())


def test_statistics_of_norms_are_the_means_over_the_batches():
    net, batches = net_and_batches()
    estimate_norms(net, batches)
    outputs = [net.features(batch['inputs']) for batch in batches]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    var = torch.stack([out.var((0, 2, 3)) for out in outputs]).mean(0)
    torch.testing.assert_close(net.norm.running_mean, mean)
    torch.testing.assert_close(net.norm.running_var, var)
    assert net.norm.momentum == 0.1 and not net.training


def test_loss_uses_the_running_statistics():
    net, batches = net_and_batches()
    net.norm.running_mean.fill_(2.0)
    wanted = sum(float(net(**batch, mode='loss')['loss'].detach()) for batch in batches) / 3
    assert abs(training_loss(net, batches) - wanted) < 1e-6
    assert not net.training and (net.norm.running_mean == 2).all()


def test_layers_of_one_parent_form_a_block_and_conv_modules_belong_to_the_module_above():
    model = nn.ModuleDict({'neck': nn.ModuleList([mmcv.cnn.ConvModule(1, 1, 3) for _ in 'ab'])})
    model['block'] = nn.ModuleDict({'a': nn.Conv2d(1, 1, 3), 'b': nn.Conv2d(1, 1, 3)})
    layers = [('neck.0.conv',), ('neck.1.conv',), ('block.a',), ('block.b', 'again')]
    assert group_by_block(model, layers) == {'neck': layers[:2], 'block': layers[2:]}
