"""Measure by how much a correction makes the gradient grow on its way to the stem.

python benchmarks/gradient_growth.py --act PReLU

The networks have initial weights, width 16 and a shortcut around every convolution; 32 images of 16 x 16 pixels and
their labels are random. Printed is the norm of the gradient at the output of the stem, divided by that of STE
(ApproxSign) with the same weights, images and labels: mean over the seeds. The rate is ln(growth) / (eta L), for L
binary layers.
"""

import argparse
import math
from typing import Any

import torch
from torch import nn

import surge_mm

LAYERS = {20: 18, 34: 32}
"""Binary layers on the way from the loss to the stem, by depth."""
SETTINGS: dict[str, dict[str, Any]] = {
    **{f'eta {eta}': {'compensator': {'eta': eta}} for eta in (0.03, 0.1, 0.3, 1)},
    **{
        f'eta {eta}, preserve_norm': {'compensator': {'eta': eta, 'preserve_norm': True}}
        for eta in (0.1, 0.3, 1, 3, 10)
    },
    **{f'gain {gain}': {'activation': {'gain': gain}} for gain in (1.03, 1.08, 1.15)},
    **{f'floor {floor}': {'activation': {'floor': floor}} for floor in (0.1, 0.2)},
    'STESign': {'activation': {'type': 'STESign'}},
    **{
        f'STESign, window rms, k {k}': {'activation': {'type': 'STESign', 'window': 'rms', 'k': k}}
        for k in (1, 2, 3)
    },
}


def stem_gradient(depth: int, act: str, settings: dict[str, Any], seed: int) -> float:
    """Return the norm of the gradient at the output of the stem.

    Args:
        depth (int): 20 or 34.
        act (str): Activation between the layers, such as ``'PReLU'``.
        settings (dict): ``compensator``, or keys of ``activation``, of the binary layers.
        seed (int): Seed of weights, images and labels.
    """
    torch.manual_seed(seed)
    stages = 3 if depth == 20 else 4
    layers = {
        'type': 'surge_mm.SurgeConv2d',
        'activation': {'type': 'ApproxSign', **settings.get('activation', {})},
        'compensator': settings.get('compensator'),
    }
    backbone = surge_mm.SurgeResNet(
        depth,
        base_channels=16,
        num_stages=stages,
        stem='cifar',
        shortcut='pad',
        out_indices=(stages - 1,),
        act_cfg={'type': act},
        conv_cfg=layers,
    )
    head = nn.Linear(16 * 2 ** (stages - 1), 10)
    images, labels = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))
    stem: list[torch.Tensor] = []
    backbone.layer1[0].register_forward_pre_hook(lambda module, inputs: stem.append(inputs[0]))
    scores = head(backbone(images)[0].mean((2, 3)))
    loss = nn.functional.cross_entropy(scores, labels)
    return torch.autograd.grad(loss, stem[0])[0].norm().item()


def growth(depth: int, act: str, settings: dict[str, Any], seeds: list[int]) -> float:
    """Return the mean over the seeds of the gradient at the stem, divided by that of STE.

    Args:
        depth (int): As for :func:`stem_gradient`, and so for the others.
        act (str): Activation.
        settings (dict): Settings of the binary layers.
        seeds (list[int]): Seeds.
    """
    ratios = [
        stem_gradient(depth, act, settings, s) / stem_gradient(depth, act, {}, s) for s in seeds
    ]
    return sum(ratios) / len(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--act', default='PReLU', help='PReLU or Hardtanh; default PReLU')
    parser.add_argument('--depths', type=int, nargs='+', choices=LAYERS, default=[20, 34])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    args = parser.parse_args()
    for name, settings in SETTINGS.items():
        line = f'{name:28}'
        for depth in args.depths:
            value = growth(depth, args.act, settings, args.seeds)
            line += f'  depth {depth}: {value:.3g}'
            if 'compensator' in settings:
                eta = settings['compensator']['eta']
                line += f' (rate {math.log(value) / (eta * LAYERS[depth]):.2f})'
        print(line, flush=True)


if __name__ == '__main__':
    main()
