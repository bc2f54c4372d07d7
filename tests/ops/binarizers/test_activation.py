import pytest
import torch
from helpers.formula import PLAIN, surrogate_sign

from surge_mm.ops import ActivationBinarizer, Scheduled, sign


def test_sign_is_never_zero_and_follows_the_sign_bit():
    x = torch.tensor([0.0, -0.0, 3.0, -2.0, float('inf'), -float('inf')])
    assert sign(x).tolist() == [1, -1, 1, -1, 1, -1]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sign_keeps_dtype_and_shape(dtype):
    x = torch.randn(2, 3, 4, 4).to(dtype)
    assert sign(x).dtype == dtype
    assert sign(x).shape == x.shape
    assert sign(x.to(memory_format=torch.channels_last)).is_contiguous(
        memory_format=torch.channels_last
    )


def built(name, progress=0.0):
    binarizer = ActivationBinarizer.build({'type': name})
    if isinstance(binarizer, Scheduled):
        binarizer.follow(progress)
    return binarizer


@pytest.mark.parametrize('progress', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('name', PLAIN)
def test_value_and_derivative_equal_the_formula(name, progress):
    x = (torch.randn(500, dtype=torch.float64) * 1.5).requires_grad_()
    expected = surrogate_sign(x, name, progress)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)
    binarizer = built(name, progress)
    assert torch.equal(binarizer(x.detach()), expected.detach().round())
    torch.testing.assert_close(
        binarizer.derivative(x.detach()), expected_grad, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize('name', PLAIN)
def test_derivative_is_finite_at_zero_and_keeps_the_dtype(name):
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e30, 2.0], dtype=dtype)
        derivative = built(name, 1.0).derivative(x)
        assert derivative.dtype == dtype
        assert derivative.isfinite().all()
        assert (derivative >= 0).all()


def test_ede_runs_from_nearly_straight_through_to_nearly_the_derivative_of_sign():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(built('EDE', 0).derivative(x), torch.ones_like(x), rtol=0, atol=2e-4)
    last = built('EDE', 1).derivative(x)
    assert last[5] == 10  # t at 0, where k = 1
    assert (last[x.abs() > 0.5] < 2e-3).all()


def test_reste_runs_from_the_clipped_identity_to_the_cube_root():
    x = torch.tensor([0.2, 1.4, 1.6], dtype=torch.float64)
    assert built('ReSTE', 0).derivative(x).tolist() == [1, 1, 0]
    cube_root = (x[:2] ** (-2 / 3) / 3).tolist()
    assert built('ReSTE', 1).derivative(x).tolist() == pytest.approx([*cube_root, 0])


def test_a_scheduled_surrogate_without_a_schedule_is_refused_with_the_hook_named():
    with pytest.raises(RuntimeError, match='BinarizerScheduleHook'):
        ActivationBinarizer.build({'type': 'EDE'}).derivative(torch.zeros(3))


@pytest.mark.parametrize('progress', [-0.1, 1.1, float('nan')])
def test_progress_outside_of_the_run_is_refused(progress):
    with pytest.raises(ValueError, match='progress='):
        built('EDE').follow(progress)


@pytest.mark.parametrize(
    'cfg',
    [
        {'type': 'EDE', 't_min': 0},
        {'type': 'EDE', 't_min': 2, 't_max': 1},
        {'type': 'ReSTE', 'o_min': 0.5},
        {'type': 'ReSTE', 't': 0.05},
    ],
)
def test_an_argument_out_of_range_is_named(cfg):
    with pytest.raises(ValueError, match=list(cfg)[1]):
        ActivationBinarizer.build(cfg)


def test_unknown_binarizer_names_the_value_and_a_near_one():
    with pytest.raises(
        ValueError, match=r"activation: unknown type 'AproxSign'; did you mean 'ApproxSign'"
    ):
        ActivationBinarizer.build({'type': 'AproxSign'})


def test_a_weight_binarizer_is_not_built_as_an_activation():
    with pytest.raises(ValueError, match="unknown type 'ScaledSign'"):
        ActivationBinarizer.build({'type': 'ScaledSign'})


def test_an_argument_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match='slope'):
        ActivationBinarizer.build({'type': 'STESign', 'slope': 2})


def test_a_name_without_dict_is_refused_with_an_example():
    with pytest.raises(ValueError, match=r"activation='STESign' must be a dict"):
        ActivationBinarizer.build('STESign')


class SignModule(torch.nn.Module):
    def forward(self, x):
        return sign(x)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_traced_or_exported_sign_is_the_sign_of_every_number(dtype):
    tiny, huge = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    numbers = [0.0, -0.0, tiny, -tiny, tiny / 64, huge, -huge, float('inf'), -float('inf'), 0.3, -5]
    x = torch.tensor(numbers, dtype=dtype)
    expected = torch.copysign(torch.ones_like(x), x)
    assert torch.equal(sign(x), expected)
    assert torch.equal(torch.jit.trace(SignModule(), torch.ones_like(x))(x), expected)
    exported = torch.export.export(SignModule(), (torch.ones_like(x),)).module()
    assert torch.equal(exported(x), expected)
