"""Train a binary ResNet-18 of torchvision on handwritten digits, in a loop of PyTorch."""

import argparse

import torch
import torch.nn.functional as F
import torchvision
from digits import accuracy, batches
from torch import nn

import surge_mm


def main() -> nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=100)
    steps = parser.parse_args().steps

    model = torchvision.models.resnet18(num_classes=10)
    surge_mm.binarize(model)
    # after binarize, which adds parameters
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for images, labels in batches(steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    print(f'accuracy: {accuracy(model):.3f}')
    return model


if __name__ == '__main__':
    main()
