"""A weight that is used outside its layer is found when the model runs, and nothing else is reported."""

import copy
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer

from surge_mm import SurgeLinear, binarize, to_float
from surge_mm.analysis.complexity import model_complexity
from surge_mm.deploy import pack
from surge_mm.utils.errors import UsageError

EVERY_LINEAR = [{'type': 'Linear', 'to': 'binary'}]


def binarized(model):
    binarize(model, EVERY_LINEAR, binary_act_cfg=None)
    return model


def compile_layer(model):
    model[0] = torch.compile(model[0], backend='eager', fullgraph=True)
    return model


def compile_forward(model):
    model.forward = torch.compile(model.forward, backend='eager', fullgraph=True)  # as MMEngine
    return model


class Holder(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.compute = compute

    def forward(self, x):
        return self.compute(x, self.first, self.second)


def by_attention(x, a, b):
    projections = (torch.ones(24, 8), torch.zeros(24), None, None, False, 0.0, b.weight, None)
    return F.multi_head_attention_forward(x, x, x, 8, 2, *projections)[0]


def by_operator(x, a, b):
    offset = torch.zeros(len(x), 2, 1, 1)
    images, weight = x[:, :, None, None], a.weight[:, :, None, None]
    return torch.ops.torchvision.deform_conv2d(
        images, weight, offset, offset[:, :1], torch.zeros(8), 1, 1, 0, 0, 1, 1, 1, 1, False
    )


USES = {
    'linear': lambda x, a, b: F.linear(x, a.weight),
    'transposed': lambda x, a, b: x @ a.weight.t(),
    'weight first': lambda x, a, b: a.weight @ x.t(),
    'einsum': lambda x, a, b: torch.einsum('bi,oi->bo', x, a.weight),
    'convolution': lambda x, a, b: F.conv2d(x[:, :, None, None], a.weight[:, :, None, None]),
    'data': lambda x, a, b: F.linear(x, a.weight.data),
    'cast and sliced': lambda x, a, b: F.linear(x.double(), a.weight.to(torch.float64)[:4]),
    'masked': lambda x, a, b: F.linear(x, torch.eye(8) * a.weight),
    'concatenated': lambda x, a, b: F.linear(x, torch.cat([a.weight, b.weight])),
    'tied embedding': lambda x, a, b: F.embedding(torch.arange(3), a.weight),
    'forward of the base class': lambda x, a, b: nn.Linear.forward(a, x),
    'attention': by_attention,
    'operator': by_operator,
}


@pytest.mark.parametrize('mode', ['train', 'eval', 'eval without gradients'])
@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_a_weight_that_is_used_outside_its_layer_is_an_error(use, mode):
    model = binarized(nn.Sequential(Holder(use))).train(mode == 'train')
    for _ in range(2):
        with (
            torch.set_grad_enabled(mode != 'eval without gradients'),
            pytest.raises(UsageError, match=r'0\.(first|second).*Holder computes with the latent'),
        ):
            model(torch.randn(5, 8))
    kept = nn.Sequential(nn.Linear(8, 8), Holder(use))
    binarize(kept, [{'inside': 'Holder', 'to': 'keep'}, *EVERY_LINEAR])  # as the error says
    kept(torch.randn(5, 8))


def average(x, a, b):
    with torch.no_grad():
        for source, target in zip(a.parameters(), b.parameters(), strict=True):
            target.lerp_(source, 0.1)
            target.data.mul_(0.9).add_(source.data, alpha=0.1)
            target.data = target.data * 0.9 + source.data * 0.1
            torch._foreach_lerp_([target], [source], 0.1)
    return b(a(x))


def regularized(x, a, b):
    orthogonality = (a.weight @ a.weight.t() - torch.eye(8)).square().sum()
    return b(a(x)).sum() + a.weight.norm() + orthogonality


INNOCENT = {
    'calls': lambda x, a, b: b(a(x)),
    'calls of forward': lambda x, a, b: b.forward(a.forward(x)),
    'dtype and device': lambda x, a, b: b(a(x.to(a.weight.dtype).to(b.weight.device))),
    'like': lambda x, a, b: b(a(x.to(a.weight)) @ torch.ones_like(b.weight)),
    'new': lambda x, a, b: b(a(x.type_as(b.weight))) @ a.weight.new_zeros(8, 8),
    'checkpointing': lambda x, a, b: b(checkpoint(a, x, use_reentrant=True)),
    'moving average': average,
    'regularized': regularized,
}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('compute', INNOCENT.values(), ids=INNOCENT)
def test_reads_that_do_not_compute_the_output_are_no_error(compute, training):
    model = binarized(Holder(compute)).train(training)
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        out = model(torch.randn(5, 8, requires_grad=True))
    assert not log.called
    out.sum().backward()
    assert model.first.weight.grad is not None


def test_a_penalty_by_a_product_of_the_weight_is_a_warning():
    model = binarized(Holder(lambda x, a, b: b(a(x)).sum() + (a.weight @ torch.ones(8)).norm()))
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        model(torch.randn(5, 8)).backward()
    (message,) = [call.args[1] for call in log.call_args_list]
    assert message.startswith('first: besides the layer, matmul computes with the latent weight')


def test_the_windows_of_torchvisions_swin_transformer_stay_real():
    def swin():
        return SwinTransformer([4, 4], 256, [1, 1], [2, 2], [4, 4], num_classes=2)

    with pytest.raises(UsageError, match=r'features\.1\.0\.attn\.qkv, which cannot be binary'):
        binarize(swin(), [{'name': '*.attn.*', 'to': 'binary'}])
    model = swin().eval()
    reports = binarize(model)
    binary = [report.name for report in reports if report.binary]
    assert len(binary) == 5 and not any('.attn.' in name for name in binary)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(image)
        assert torch.equal(pack(model)(image), expected)


def test_attention_of_an_unlisted_class_is_named_by_its_holder():
    class OwnAttention(ShiftedWindowAttention):
        pass

    model = nn.Sequential(OwnAttention(256, [4, 4], [0, 0], 8), nn.Linear(256, 256))
    binarize(model, [{'inside': 'OwnAttention', 'to': 'binary'}])
    message = (
        r"^0\.proj, 0\.qkv: OwnAttention computes .* put dict\(name='\*proj', inside='OwnAttention', to='keep'\), "
        r"dict\(name='\*qkv', "
    )
    with pytest.raises(UsageError, match=message):
        model(torch.randn(1, 8, 8, 256))


def test_operations_of_a_model_whose_weights_are_used_elsewhere_are_not_counted():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), SurgeLinear(8, 2)

        def forward(self, x):
            return F.linear(self.conv(x).mean((2, 3)), self.head.weight)

    with pytest.raises(UsageError, match='^head: Classifier computes with the latent weight'):
        model_complexity(Classifier(), 8, 8)


def test_a_layer_that_does_not_run_in_training_is_a_warning():
    model = binarized(Holder(lambda x, a, b: a(x)))
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        for _ in range(2):
            model(torch.randn(5, 8))
    messages = [call.args[1] for call in log.call_args_list]
    assert len(messages) == 1
    assert messages[0].startswith('second: did not run in the first forward pass of training')
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        model.eval()(torch.randn(5, 8))  # heads that only train do not run here
    assert not log.called


def test_the_check_ends_after_both_modes_and_replaces_nothing():
    model = binarized(Holder(INNOCENT['calls']))
    layers, copied = list(model.modules()), copy.deepcopy(model)
    for tested in (model, copied):
        tested(torch.randn(5, 8))
        assert tested._forward_hooks and tested._forward_pre_hooks
        tested.eval()(torch.randn(5, 8))
        assert not tested._forward_hooks and not tested._forward_pre_hooks
    assert all(a is b for a, b in zip(layers, model.modules(), strict=True))
    restored = to_float(binarized(Holder(INNOCENT['calls'])))
    assert not restored._forward_hooks and not restored._forward_pre_hooks


@pytest.mark.parametrize(
    'compile_a_part', [compile_layer, compile_forward], ids=['layer', 'forward']
)
def test_a_model_that_is_compiled_in_part_runs(compile_a_part):
    model = compile_a_part(binarized(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))))
    x = torch.randn(5, 8)
    model(x).sum().backward()
    assert not model._forward_hooks
    relu = torch.compile(torch.relu, backend='eager', fullgraph=True)
    model = binarized(
        Holder(lambda x, a, b: b(relu(a(x)) - 1))
    )  # a compiled function cannot be seen before
    model(x).sum().backward()


def test_a_pass_that_fails_leaves_no_check_behind():
    model = binarized(Holder(lambda x, a, b: b(a(x))))
    with pytest.raises(RuntimeError, match='shapes'):
        model(torch.randn(5, 7))
    assert torch.overrides._len_torch_function_stack() == 0
    model(torch.randn(5, 8))


def test_a_packed_layer_says_that_it_has_no_weight():
    packed = pack(SurgeLinear(8, 8))
    assert not hasattr(packed, 'weight')
    with pytest.raises(
        AttributeError, match="must keep it in full precision, by a rule with to='keep'"
    ):
        F.linear(torch.zeros(1, 8), packed.weight)
