"""The paper's formulas written the naive way, for autograd to differentiate: what the package is checked against."""

import torch


def surrogate_sign(x, surrogate):
    """sign(x) in value, with the derivative of a smooth ``primitive`` of the surrogate."""
    if surrogate == 'STESign':
        primitive = x.clamp(-1, 1)
    else:
        assert surrogate == 'ApproxSign'
        inside = x.clamp(-1, 1)
        primitive = 2 * inside - inside * inside.abs()
    value = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    return value + primitive - primitive.detach()


def binary_weight(w, name):
    value = torch.where(w >= 0, 1.0, -1.0).to(w.dtype)
    if name == 'Sign':
        primitive = w.clamp(-1, 1)
    else:
        assert name == 'ScaledSign'
        value = value * w.detach().abs().flatten(1).mean(1).view(-1, *[1] * (w.dim() - 1))
        primitive = w
    return value + primitive - primitive.detach()


def dual_path(f, x, w_b, w_a, lam, activation, weight, f_binary=None):
    """``f_b - down(lam f_a) + lam f_a`` of a product ``f(x, w)``; ``f_binary`` where that one pads otherwise."""
    out = (f_binary or f)(surrogate_sign(x, activation), binary_weight(w_b, weight))
    if w_a is None:
        return out
    branch = lam * f(x, w_a)
    return out - branch.detach() + branch


def surrogate_and_branch_gradients(f, x, w_b, w_a, g, activation, weight):
    """g_b and g_a at the input, and the branch's weight gradient before scaling, by autograd."""
    x = x.detach().requires_grad_()
    w_a = w_a.detach().requires_grad_()
    out_b = f(surrogate_sign(x, activation), binary_weight(w_b.detach(), weight))
    (g_b,) = torch.autograd.grad(out_b, x, g)
    g_a, grad_a = torch.autograd.grad(f(x, w_a), (x, w_a), g)
    return g_b, g_a, grad_a
