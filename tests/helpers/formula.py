"""The papers' formulas written the naive way, for autograd to differentiate: what the package is checked against.

A surrogate is given by its primitive, a function whose derivative it is; a value by ``value + p - p.detach()``.
"""

import math

import torch

from surge_mm.ops import ActivationBinarizer

PLAIN = sorted(name for name, kind in ActivationBinarizer.known.items() if not kind.learned_scale)
SCHEDULED = ('EDE', 'ReSTE', 'Libra', 'ReCU', 'AdaBin')


def hard_sign(x):
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def with_gradient_of(value, primitive):
    return value.detach() + primitive - primitive.detach()


def ede_primitive(x, progress):
    """``k tanh(t x)``, log10 t from -2 to 1."""
    t = 10 ** (-2 + 3 * progress)
    return max(1 / t, 1) * torch.tanh(t * x)


def reste_primitive(x, progress, t=1.5, m=0.1):
    """``sign(x) |x|^(1/o)``, a chord through 0 below m, constant beyond t."""
    o = 1 + 2 * progress
    distance = x.abs()
    chord = distance * m ** (1 / o) / m
    power = distance.clamp(min=m, max=t) ** (1 / o)
    return hard_sign(x).detach() * torch.where(distance <= m, chord, power)


def surrogate_sign(x, surrogate, progress=None):
    """sign(x) in value, with the surrogate as its derivative."""
    inside = x.clamp(-1, 1)
    primitives = {
        'STESign': lambda: inside,
        'Step': lambda: inside,
        'ApproxSign': lambda: 2 * inside - inside * inside.abs(),
        'RSign': lambda: 2 * inside - inside * inside.abs(),
        'EDE': lambda: ede_primitive(x, progress),
        'ReSTE': lambda: reste_primitive(x, progress),
    }
    value = (x > 0).to(x.dtype) if surrogate == 'Step' else hard_sign(x)
    return with_gradient_of(value, primitives[surrogate]())


def elastic(z, alpha, name, bits=1):
    """Return the values of an elastic binarizer, with the gradients of z and alpha by autograd.

    alpha is used with its gradient divided by ``sqrt(n Q)``.
    """
    low, high = {'ElasticSign': (-bits, 1), 'ElasticBinary': (0, 2**bits - 1)}[name]
    slow = alpha / (z.numel() * high) ** 0.5
    step = slow + (alpha - slow).detach()
    through_z = torch.minimum(torch.maximum(z, low * alpha.detach()), high * alpha.detach())
    u = z.detach() / step
    if (name, bits) == ('ElasticSign', 1):
        value = step * hard_sign(u).detach()
    else:
        clipped = u.clamp(low, high)
        value = step * with_gradient_of((clipped + 1e-12).round(), clipped)
    return value + through_z - through_z.detach()


def binary_weight(w, name, progress=None):
    """Q_W(w) without a learned gain, filter after filter."""
    return torch.stack([_binary_filter(w, f, name, progress) for f in w])


def _binary_filter(w, f, name, progress):
    alpha = f.detach().abs().mean()
    if name == 'Real':
        return f
    if name == 'Sign':
        return with_gradient_of(hard_sign(f), f.clamp(-1, 1))
    if name == 'ScaledSign':
        return with_gradient_of(alpha * hard_sign(f), f)
    if name == 'XNOR':
        return with_gradient_of(alpha * hard_sign(f), f / f.numel() + alpha * f.clamp(-1, 1))
    if name == 'ReAct':
        return with_gradient_of(alpha * hard_sign(f), f.clamp(-1, 1))
    if name == 'BiBERT':
        return with_gradient_of(alpha * hard_sign(f - f.mean()), f.clamp(-1, 1))
    if name == 'BiT':
        return with_gradient_of(w.detach().abs().mean() * hard_sign(f - w.mean()), f)
    if name == 'Libra':
        z = (f - f.mean()) / f.std()
        log = torch.log2(z.detach().abs().mean()) if f.numel() > 2 else torch.tensor(-0.5).to(f)
        s = 2 ** torch.round(log)
        return s * with_gradient_of(hard_sign(z), ede_primitive(z, progress))
    if name == 'ReCU':
        tau = 0.85 + 0.14 * (math.e**progress - 1) / (math.e - 1)
        everything = torch.stack([_recu_z(other) for other in w.detach()])
        q = -everything.abs().mean() * math.log(2 - 2 * tau)
        clamped = _recu_z(f).clamp(-q, q)
        return with_gradient_of(hard_sign(clamped), clamped)
    assert name == 'AdaBin'
    mean, alpha = f.mean(), f.std(correction=0)
    z = (f - mean) / alpha
    return alpha * with_gradient_of(hard_sign(z), ede_primitive(z, progress)) + mean


def _recu_z(f):
    centred = f - f.mean()
    return centred / ((centred.var() + 1e-5).sqrt() / (2 * math.sqrt(2)))


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
