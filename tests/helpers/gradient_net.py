"""A small model with a head that is used twice, its data, and the values of its gradient report written out."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from surge_mm import SurgeLinear

IMAGES = 5
"""Of a batch. The halves have 2 and 3."""


@DATASETS.register_module()
class GradientPictures(Dataset):
    def __len__(self):
        return 2 * IMAGES

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(6, generator=generator, dtype=torch.float64), index % 3


@MODELS.register_module()
class GradientNet(BaseModel):
    """z = stem(x); y = first(z); loss of head(y) + head(y / 2 - 0.3 + z)."""

    def __init__(self, first=None, head=None, run=None):
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Linear(6, 4)
        settings = {'activation': {'type': 'STESign'}, 'bias': False}
        self.first = SurgeLinear(4, 4, compensator=first, **settings)
        self.head = SurgeLinear(4, 3, compensator=head, **settings)
        with torch.no_grad():
            for layer in (self.first, self.head):
                if layer.aux_weight is not None:
                    layer.aux_weight.mul_(1.7).add_(torch.randn(layer.weight.shape), alpha=0.3)
        self.run = run or (lambda layer, x: layer(x))
        self.double()

    def forward(self, images, labels, mode='loss'):
        z = self.stem(images)
        y = self.run(self.first, z)
        scores = self.head(y) + self.head(y / 2 - 0.3 + z)
        return {'loss': F.cross_entropy(scores, labels)}


def batch():
    """Return the first batch without shuffling, as ``default_collate`` makes it."""
    samples = [GradientPictures()[i] for i in range(IMAGES)]
    return [torch.stack([x for x, _ in samples]), torch.tensor([label for _, label in samples])]


def binary(w, x):
    alpha = w.abs().mean(1, keepdim=True)
    return torch.where(x >= 0, 1.0, -1.0).to(x) @ (alpha * torch.where(w >= 0, 1.0, -1.0)).T


@torch.no_grad()
def expected(net, images, labels, lam_of, probe=None):
    """Return the rows of the calls first, head 0, head 1 without noise, and dL/dW_b of both layers.

    Args:
        lam_of (Callable): lambda from ||g_b|| and ||g_a||, or None for a layer without branch, by name of the layer.
    """
    first, head = net.first, net.head
    z = net.stem(images)

    def loss(moved=(0, 0, 0)):
        y = binary(first.weight, z + moved[0])
        u_0, u_1 = y, y / 2 - 0.3 + z
        s = binary(head.weight, u_0 + moved[1]) + binary(head.weight, u_1 + moved[2])
        return -(s.log_softmax(1)[range(len(s)), labels]).mean(), (y, u_0, u_1), s

    _, (y, u_0, u_1), s = loss()
    g = (s.softmax(1) - F.one_hot(labels, 3)) / len(s)

    def call(name, layer, x, g):
        alpha = layer.weight.abs().mean(1, keepdim=True)
        g_b = g @ (alpha * layer.weight.sign()) * (x.abs() <= 1)
        row = {'layer': name, 'lambda': None, 'cos': None, 'clipped': None, 'weight_ratio': None}
        if lam_of[name] is None:
            return row, g_b, {'g_b': g_b}
        w_a = layer.aux_weight
        g_a = g @ w_a
        lam = lam_of[name](g_b.norm(), g_a.norm())
        row['lambda'] = float(lam)
        row['cos'] = float((g_b * g_a).sum() / g_b.norm() / g_a.norm())
        row['clipped'] = (x.abs() > 1).double().mean().item()
        row['weight_ratio'] = float(w_a.norm() / layer.weight.norm())
        return row, g_b + lam * g_a, {'g_b': g_b, 'g_a': g_a}

    row_1, d_1, ways_1 = call('head', head, u_1, g)
    row_0, d_0, ways_0 = call('head', head, u_0, g)
    g_y = d_0 + d_1 / 2
    row, d, ways = call('first', first, z, g_y)
    rows = [row, row_0, row_1]
    for number, (r, d_x) in enumerate(zip(rows, (d + d_1, g_y, d_1), strict=True)):
        r['call'] = int(number == 2)
        r['grad_norm'] = float(d_x.norm())
        r['growth'] = float(d_x.norm() / (g_y.norm() ** 2 + d_1.norm() ** 2).sqrt())
    if probe is not None:
        for number, (r, x, own) in enumerate(
            zip(rows, (z, u_0, u_1), (ways, ways_0, ways_1), strict=True)
        ):
            r['probe'] = {}
            for name, direction in own.items():
                unit, h = direction / direction.norm(), probe * x.norm()
                ends = []
                for sign in (1, -1):
                    moved = [0, 0, 0]
                    moved[number] = sign * h * unit
                    ends.append(loss(moved)[0])
                r['probe'][name] = {
                    'true': float((ends[0] - ends[1]) / (2 * h)),
                    'predicted': float(direction.norm()),
                }
            r['best_eta'] = None
            if 'g_a' in own:
                plane = torch.stack([d.flatten() / d.norm() for d in (own['g_b'], own['g_a'])])
                true = [r['probe'][name]['true'] for name in ('g_b', 'g_a')]
                slopes = torch.tensor(true, dtype=plane.dtype)
                # the shortest vector with these slopes is that of the plane
                parts = torch.linalg.solve(plane @ plane.T, slopes)
                r['best_eta'] = float(parts[1] / parts[0]) if parts[0] > 0 else None
    signs = [torch.where(x >= 0, 1.0, -1.0).to(x) for x in (z, u_0, u_1)]
    return rows, {'first': g_y.T @ signs[0], 'head': g.T @ signs[1] + g.T @ signs[2]}


def expected_report(net, lam_of, probe=None):
    """Return the rows for the first batch, with the noise of its halves."""
    net = deepcopy(net)
    images, labels = batch()
    rows, _ = expected(net, images, labels, lam_of, probe)
    half = IMAGES // 2
    one = expected(net, images[:half], labels[:half], lam_of)[1]
    two = expected(net, images[half:], labels[half:], lam_of)[1]
    for row in rows:
        g_1, g_2 = one[row['layer']], two[row['layer']]
        row['noise'] = float(2 * (g_1 - g_2).norm() / (g_1.norm() + g_2.norm()))
    return rows


def assert_equal(got, wanted):
    """Compare rows; ``probe`` only where it is wanted."""
    assert len(got) == len(wanted)
    for row, want in zip(got, wanted, strict=True):
        assert row.keys() == want.keys()
        for key, value in want.items():
            if key == 'probe':
                assert row[key].keys() == value.keys()
                for way, slopes in value.items():
                    assert_near(row[key][way], slopes)
            elif isinstance(value, float):
                assert_near({key: row[key]}, {key: value})
            else:
                assert row[key] == value, key


def assert_near(got, wanted):
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        recorded = key in ('lambda', 'cos', 'clipped')  # by the layer, in float32
        bound = 1e-7 if recorded else 1e-9
        assert abs(got[key] - value) <= bound * max(1, abs(value)), (key, got[key], value)
