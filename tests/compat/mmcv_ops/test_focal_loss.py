import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import sigmoid_focal_loss

CLASSES = 5
CASES = given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0, 3.5]), st.sampled_from([0.25, 0.6])
)


def random_case(seed):
    """Logits (8, CLASSES), targets and class weights."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, CLASSES, generator=generator, dtype=torch.float64) * 3
    target = torch.randint(CLASSES + 1, (8,), generator=generator)
    weight = torch.rand(CLASSES, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), target, weight


def sigmoid_formula(x, target, gamma, alpha):
    """-alpha_t (1 - p_t)^gamma log p_t, with p_t the probability of the correct decision."""
    one_hot = F.one_hot(target, CLASSES + 1)[:, :CLASSES].bool()
    log_p = F.logsigmoid(torch.where(one_hot, x, -x))
    alpha_t = torch.where(one_hot, alpha, 1 - alpha)
    return -alpha_t * (1 - log_p.exp()) ** gamma * log_p


@CASES
def test_sigmoid_focal_loss_and_its_gradient_follow_the_formula(seed, gamma, alpha):
    x, target, _ = random_case(seed)
    loss = sigmoid_focal_loss(x, target, gamma, alpha, None, 'none')
    expected = sigmoid_formula(x, target, gamma, alpha)
    assert torch.allclose(loss, expected)
    grads = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (loss, expected)]
    assert torch.allclose(*grads, atol=1e-7)


def test_gradient_is_the_derivative_under_class_weights():
    x, target, weight = random_case(0)
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'sum'), x
    )


def test_class_weight_is_that_of_the_target_and_one_for_background():
    x, target, weight = random_case(1)
    target[0] = CLASSES
    factor = torch.tensor([1.0 if t == CLASSES else float(weight[t]) for t in target])
    expected = sigmoid_formula(x, target, 2.0, 0.25) * factor[:, None]
    assert torch.allclose(sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'none'), expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_extreme_logits_give_finite_losses_and_gradients(gamma):
    x = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    value = sigmoid_focal_loss(x, torch.tensor([0, 0]), gamma, 0.25, None, 'sum')
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(x.grad).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_result_in_float32(dtype):
    x, target, _ = random_case(3)
    x = x.detach().to(dtype)
    loss = sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none')
    assert torch.equal(
        loss, sigmoid_focal_loss(x.float(), target, 2.0, 0.25, None, 'none').to(dtype)
    )


def test_a_target_beyond_the_classes_is_named():
    with pytest.raises(
        ValueError, match='target contains 6, but with 5 classes it must be at most 5'
    ):
        sigmoid_focal_loss(torch.zeros(2, CLASSES), torch.tensor([0, 6]), 2.0, 0.25, None, 'none')


def test_no_samples_have_no_loss():
    x = torch.zeros(0, CLASSES, requires_grad=True)
    value = sigmoid_focal_loss(x, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, 'sum')
    value.backward()
    assert value == 0 and x.grad.shape == x.shape
