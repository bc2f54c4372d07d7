"""Train a binary model of timm on handwritten digits, in a loop of PyTorch."""

import argparse

import timm
import torch
import torch.nn.functional as F
from digits import accuracy, batches
from torch import nn

import surge_mm


def main() -> nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='resnet18')
    parser.add_argument('--pretrained', action='store_true', help='start from the weights of timm')
    parser.add_argument('--steps', type=int, default=100)
    args = parser.parse_args()

    model = timm.create_model(args.model, pretrained=args.pretrained, num_classes=10)
    for report in surge_mm.binarize(model):
        print(report.name, 'binary' if report.binary else 'kept', report.rule)
    # after binarize, which adds parameters
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for images, labels in batches(args.steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    print(f'accuracy: {accuracy(model):.3f}')
    return model


if __name__ == '__main__':
    main()
