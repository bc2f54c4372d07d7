import pytest
import torch
from formula import surrogate_sign

from surge_mm.ops import ActivationBinarizer, sign


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


@pytest.mark.parametrize('name', ['STESign', 'ApproxSign'])
def test_derivative_is_that_of_the_published_primitive(name):
    x = (torch.randn(500, dtype=torch.float64) * 1.5).requires_grad_()
    (expected,) = torch.autograd.grad(surrogate_sign(x, name).sum(), x)
    derivative = ActivationBinarizer.build({'type': name}).derivative(x.detach())
    torch.testing.assert_close(derivative, expected, rtol=0, atol=1e-12)


def test_unknown_binarizer_names_the_value_and_a_near_one():
    with pytest.raises(
        ValueError, match=r"activation: unknown binariser 'AproxSign'; did you mean 'ApproxSign'"
    ):
        ActivationBinarizer.build({'type': 'AproxSign'})


def test_a_weight_binarizer_is_not_built_as_an_activation():
    with pytest.raises(ValueError, match="unknown binariser 'ScaledSign'"):
        ActivationBinarizer.build({'type': 'ScaledSign'})


def test_an_argument_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match='slope'):
        ActivationBinarizer.build({'type': 'STESign', 'slope': 2})


def test_a_name_without_dict_is_refused_with_an_example():
    with pytest.raises(ValueError, match=r"activation='STESign' must be a dict"):
        ActivationBinarizer.build('STESign')
