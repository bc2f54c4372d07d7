"""Train a binary network with Hugging Face accelerate, on whatever devices ``accelerate launch`` gives."""

import argparse

import torch
import torch.nn.functional as F
import torchvision
from accelerate import Accelerator
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
    accelerator = Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, batches(steps))
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()

    model = accelerator.unwrap_model(model)
    accelerator.print(f'accuracy: {accuracy(model):.3f}')
    return model


if __name__ == '__main__':
    main()
