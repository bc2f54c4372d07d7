"""Follow the first binary layer of a small ResNet-20 in the first iterations of training, for each form of W_a.

python benchmarks/branch_stability.py data/cifar10 --eta 0.3

Width 8, PReLU, the first training images of CIFAR-10 averaged to 8 x 8 pixels, batches of 64, SGD with momentum 0.9,
weight decay 5e-4 and a learning rate that grows to 0.1 over 156 iterations. Printed is, of the first binary layer, the
norm of W_a (of W_b for a tied branch), cos(g_b, g_a) and the root mean square of its input. 200 iterations take about
30 seconds on one CPU core.
"""

import argparse

import torch
from torch import nn

import surge_mm
from surge_mm.datasets.cifar import CIFAR10Tensor
from surge_mm.layers import BinaryLayer
from surge_mm.ops import Statistics

FORMS = {'free': {}, 'tied': {'tied': True}, 'frozen': {'frozen': True}}
WARMUP = 156


def follow(data: CIFAR10Tensor, compensator: dict, act: str, iterations: int, seed: int) -> None:
    """Train a network and print a line every 20 iterations, until its loss is not finite.

    Args:
        data (CIFAR10Tensor): Training images of 8 x 8 pixels.
        compensator (dict): Setting of the binary layers.
        act (str): Activation between the layers.
        iterations (int): Number of iterations.
        seed (int): Seed of weights and batches.
    """
    images = data.images.float()
    images = (images - images.mean((0, 2, 3), True)) / images.std((0, 2, 3), keepdim=True)
    torch.manual_seed(seed)
    backbone = surge_mm.SurgeResNet(
        20,
        base_channels=8,
        num_stages=3,
        stem='cifar',
        shortcut='pad',
        out_indices=(2,),
        act_cfg={'type': act},
        conv_cfg={'type': 'surge_mm.SurgeConv2d', 'compensator': compensator},
    )
    model = nn.Sequential(backbone, head := nn.Linear(32, 10)).train()
    first: BinaryLayer = backbone.layer1[0].conv1
    inputs: list[torch.Tensor] = []
    first.register_forward_pre_hook(lambda layer, args: inputs.append(args[0].detach()))
    first.observe = True
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for iteration in range(iterations):
        optimizer.param_groups[0]['lr'] = 0.1 * min(1, (iteration + 1) / WARMUP)
        batch = torch.randint(len(images), (64,))
        scores = head(backbone(images[batch])[0].mean((2, 3)))
        loss = nn.functional.cross_entropy(scores, data.labels[batch])
        optimizer.zero_grad()
        Statistics(*first.ags_statistics.unbind()).calls.zero_()
        loss.backward()
        if iteration % 20 == 0 or not loss.isfinite():
            w_a = first.weight if first.aux_weight is None else first.aux_weight
            cos = Statistics(*first.ags_statistics).cos
            rms = inputs[-1].square().mean().sqrt()
            layer = f'||W_a|| {w_a.norm():.2f}, cos {cos:.2f}, rms(x) {rms:.2f}'
            print(f'  iteration {iteration:3}: loss {loss:.2f}, {layer}', flush=True)
        if not loss.isfinite():
            return
        inputs.clear()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', help='folder with cifar-10-batches-py')
    parser.add_argument('--eta', type=float, default=0.3)
    parser.add_argument('--act', default='PReLU', help='PReLU or Hardtanh; default PReLU')
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
    parser.add_argument('--iterations', type=int, default=200)
    parser.add_argument('--seeds', type=int, nargs='+', default=[3])
    args = parser.parse_args()
    data = CIFAR10Tensor(args.data, device='cpu', size=8, indices=10000)
    data.full_init()
    for form in args.forms:
        for seed in args.seeds:
            print(f'{form}, eta {args.eta}, {args.act}, seed {seed}')
            follow(data, {'eta': args.eta, **FORMS[form]}, args.act, args.iterations, seed)


if __name__ == '__main__':
    main()
