"""Train a binary ResNet of Hugging Face transformers on handwritten digits, in a loop of PyTorch."""

import argparse

import torch
from digits import accuracy, batches
from torch import nn
from transformers import AutoModelForImageClassification, ResNetConfig

import surge_mm


def main() -> nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=100)
    steps = parser.parse_args().steps

    config = ResNetConfig(
        hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], layer_type='basic', num_labels=10
    )
    model = AutoModelForImageClassification.from_config(config)
    surge_mm.binarize(model)
    # after binarize, which adds parameters
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for images, labels in batches(steps):
        loss = model(images, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    print(f'accuracy: {accuracy(model, lambda images: model(images).logits):.3f}')
    return model


if __name__ == '__main__':
    main()
