import torch
from torch import nn

from surge_mm import ReActNetA, RPReLU, SurgeConv2d


def test_structure_is_the_published_one():
    model = ReActNetA()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    binary = [m for m in convolutions if isinstance(m, SurgeConv2d)]
    assert len(model.blocks) == 13
    assert len(convolutions) - len(binary) == 1  # the first
    # five blocks double the channels by two 1x1 convolutions
    assert len(binary) == 13 + 13 + 5
    assert all(m.in_channels == m.out_channels for m in binary)
    assert sum(isinstance(m, RPReLU) for m in model.modules()) == 26
    (out,) = model.eval()(torch.randn(1, 3, 64, 64))
    assert out.shape == (1, 1024, 2, 2)


def test_binary_operations_are_those_of_the_paper():
    """4.82e9 binary and 0.12e8 real multiply-adds at 224x224 (table 1 of arXiv 2003.03488)."""
    counts = {True: 0, False: 0}

    def count(module, inputs, output):
        size = module.weight[0].numel() * output.shape[-1] * output.shape[-2] * output.shape[1]
        counts[isinstance(module, SurgeConv2d)] += size

    model = ReActNetA().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.randn(1, 3, 224, 224))
    classifier = 1024 * 1000
    assert round(counts[True] / 1e9, 2) == 4.82
    assert round((counts[False] + classifier) / 1e8, 2) == 0.12


def test_every_parameter_gets_a_gradient():
    model = ReActNetA(base_channels=4)
    model(torch.randn(4, 3, 64, 64))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
