import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

CLASSES = 5
CASES = given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0, 3.5]), st.sampled_from([0.25, 0.6])
)


def random_case(seed, lowest=0, highest=CLASSES):
    """Logits (8, CLASSES), targets within the bounds and class weights."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, CLASSES, generator=generator, dtype=torch.float64) * 3
    target = torch.randint(lowest, highest + 1, (8,), generator=generator)
    weight = torch.rand(CLASSES, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), target, weight


def sigmoid_formula(x, target, gamma, alpha):
    """-alpha_t (1 - p_t)^gamma log p_t, with p_t the probability of the correct decision."""
    one_hot = F.one_hot(target, CLASSES + 1)[:, :CLASSES].bool()
    log_p = F.logsigmoid(torch.where(one_hot, x, -x))
    alpha_t = torch.where(one_hot, alpha, 1 - alpha)
    return -alpha_t * (1 - log_p.exp()) ** gamma * log_p


def softmax_formula(x, target, gamma, alpha):
    log_p = -F.cross_entropy(x, target, reduction='none')
    return -alpha * (1 - log_p.exp()) ** gamma * log_p


@CASES
def test_sigmoid_focal_loss_and_its_gradient_follow_the_formula(seed, gamma, alpha):
    x, target, _ = random_case(seed)
    loss = sigmoid_focal_loss(x, target, gamma, alpha, None, 'none')
    expected = sigmoid_formula(x, target, gamma, alpha)
    assert torch.allclose(loss, expected)
    grads = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (loss, expected)]
    assert torch.allclose(*grads, atol=1e-7)


@CASES
def test_softmax_focal_loss_and_its_gradient_follow_the_formula(seed, gamma, alpha):
    x, target, _ = random_case(seed, highest=CLASSES - 1)
    loss = softmax_focal_loss(x, target, gamma, alpha, None, 'mean')
    expected = softmax_formula(x, target, gamma, alpha).mean()
    assert torch.allclose(loss, expected)
    grads = [torch.autograd.grad(y, x)[0] for y in (loss, expected)]
    assert torch.allclose(*grads, atol=1e-7)


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_gradient_is_the_derivative_under_class_weights(loss):
    x, target, weight = random_case(0, highest=CLASSES - 1)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, 2.0, 0.25, weight, 'sum'), x)


def test_class_weight_is_that_of_the_target_and_one_for_background():
    x, target, weight = random_case(1)
    target[0] = CLASSES
    factor = torch.tensor([1.0 if t == CLASSES else float(weight[t]) for t in target])
    expected = sigmoid_formula(x, target, 2.0, 0.25) * factor[:, None]
    assert torch.allclose(sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'none'), expected)


def test_softmax_focal_loss_ignores_negative_targets():
    x, target, weight = random_case(2, lowest=-1, highest=CLASSES - 1)
    target[0] = -1
    loss = softmax_focal_loss(x, target, 2.0, 0.25, weight, 'sum')
    (grad,) = torch.autograd.grad(loss, x)
    valid = target >= 0
    per_sample = softmax_formula(x[valid], target[valid], 2.0, 0.25) * weight[target[valid]]
    assert torch.allclose(loss, per_sample.sum())
    assert not grad[~valid].any() and grad[valid].any()


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_extreme_logits_give_finite_losses_and_gradients(loss, gamma):
    x = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    value = loss(x, torch.tensor([0, 0]), gamma, 0.25, None, 'sum')
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


@pytest.mark.parametrize('loss, largest', [(sigmoid_focal_loss, 5), (softmax_focal_loss, 4)])
def test_a_target_beyond_the_classes_is_named(loss, largest):
    with pytest.raises(
        ValueError, match=f'target contains 6, but with 5 classes it must be at most {largest}'
    ):
        loss(torch.zeros(2, CLASSES), torch.tensor([0, 6]), 2.0, 0.25, None, 'none')


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_no_samples_have_no_loss(loss):
    x = torch.zeros(0, CLASSES, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, 'sum')
    value.backward()
    assert value == 0 and x.grad.shape == x.shape
