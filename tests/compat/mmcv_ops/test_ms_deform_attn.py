"""Multi-scale deformable attention as mmcv calls it on a GPU."""

import importlib

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

SHAPES = torch.tensor([[4, 6], [2, 3]])
STARTS = torch.tensor([0, 24])


def random_case(dtype=torch.float64):
    """Two samples, two heads of 3 channels, 5 queries, 2 levels, 3 points each; some outside of the maps."""
    torch.manual_seed(0)
    value = torch.randn(2, 30, 2, 3, dtype=dtype, requires_grad=True)
    locations = torch.rand(2, 5, 2, 2, 3, 2, dtype=dtype).mul(1.4).sub(0.2).requires_grad_()
    weights = torch.rand(2, 5, 2, 2, 3, dtype=dtype).requires_grad_()
    return value, locations, weights


def operator(value, locations, weights):
    return MultiScaleDeformableAttnFunction.apply(value, SHAPES, STARTS, locations, weights, 64)


def plain_attention(value, locations, weights):
    """Return the weighted sum of bilinear samples, in loops. The centers of pixels are at (i + 1/2) / size."""
    bs, _, heads, channels = value.shape
    out = torch.zeros(bs, locations.shape[1], heads, channels, dtype=value.dtype)
    for b, q, head, level, point in torch.cartesian_prod(
        *(torch.arange(n) for n in weights.shape)
    ).tolist():
        height, width = SHAPES[level].tolist()
        x, y = (locations[b, q, head, level, point] * torch.tensor([width, height]) - 0.5).tolist()
        for j in (int(y // 1), int(y // 1) + 1):
            for i in (int(x // 1), int(x // 1) + 1):
                if 0 <= j < height and 0 <= i < width:
                    pixel = value[b, STARTS[level] + j * width + i, head]
                    share = (1 - abs(y - j)) * (1 - abs(x - i))
                    out[b, q, head] += weights[b, q, head, level, point] * share * pixel
    return out.flatten(2)


def test_the_operator_follows_the_formula():
    case = [t.detach() for t in random_case()]
    torch.testing.assert_close(operator(*case), plain_attention(*case))


def test_gradients_are_the_derivatives():
    assert torch.autograd.gradcheck(operator, random_case())


def test_half_precision_is_computed():
    exact = operator(*random_case())
    case = [t.detach().to(torch.bfloat16).requires_grad_() for t in random_case()]
    out = operator(*case)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert (out - exact).norm() < 0.05 * exact.norm()
    assert all(t.grad.dtype == torch.bfloat16 and t.grad.abs().sum() > 0 for t in case)


def test_a_module_trains_where_mmcv_takes_its_tensors_for_those_of_a_gpu(monkeypatch):
    """There mmcv calls ``ms_deform_attn_forward`` and ``_backward`` of ``mmcv._ext``."""
    torch.manual_seed(0)
    module = MultiScaleDeformableAttention(8, num_heads=2, num_levels=2, num_points=3, dropout=0)
    module.init_weights()
    queries = torch.randn(5, 2, 8)
    value = torch.randn(30, 2, 8)

    def gradients():
        module.zero_grad()
        out = module(
            queries,
            value=value,
            reference_points=torch.full((2, 5, 2, 2), 0.4),
            spatial_shapes=SHAPES,
            level_start_index=STARTS,
        )
        out.square().sum().backward()
        return {name: p.grad.clone() for name, p in module.named_parameters()}

    expected = gradients()
    calls = []
    extension = importlib.import_module('mmcv._ext')
    for name in ('ms_deform_attn_forward', 'ms_deform_attn_backward'):
        served = getattr(extension, name)
        monkeypatch.setattr(
            extension,
            name,
            lambda *args, served=served, **kwargs: (
                calls.append(served.__name__) or served(*args, **kwargs)
            ),
        )
    monkeypatch.setattr(multi_scale_deform_attn, 'IS_CUDA_AVAILABLE', True)
    monkeypatch.setattr(torch.Tensor, 'is_cuda', True)
    got = gradients()
    assert calls == ['ms_deform_attn_forward', 'ms_deform_attn_backward']
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu_it_has_the_values_of_the_cpu():
    case = random_case()
    expected = operator(*case)
    expected.sum().backward()
    on_gpu = [t.detach().cuda().requires_grad_() for t in case]
    shapes, starts = SHAPES.cuda(), STARTS.cuda()
    value, locations, weights = on_gpu
    out = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    out.sum().backward()
    torch.testing.assert_close(out.cpu(), expected)
    for mine, theirs in zip(on_gpu, case, strict=True):
        torch.testing.assert_close(mine.grad.cpu(), theirs.grad)
