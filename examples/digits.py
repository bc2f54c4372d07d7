"""Data of the examples: the digits of scikit-learn, 1,797 scans of handwritten digits, and accuracy on them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset


def batches(steps: int) -> DataLoader:
    """Return a loader of ``steps`` batches of 64 images, ``(64, 3, 32, 32)``, with their labels."""
    train_set = TensorDataset(*_digits(slice(0, 1437)))
    return DataLoader(
        train_set, batch_size=64, sampler=RandomSampler(train_set, num_samples=64 * steps)
    )


def accuracy(model: nn.Module, logits: Callable[[Tensor], Tensor] | None = None) -> float:
    """Return the accuracy of a model on 360 test images; ``logits`` is called instead of the model if it is given."""
    model.eval()
    images, labels = _digits(slice(1437, None))
    with torch.no_grad():
        predicted = (logits or model)(images.to(next(model.parameters()).device)).argmax(1)
    return (predicted.cpu() == labels).float().mean().item()


def _digits(part: slice) -> tuple[Tensor, Tensor]:
    scans = load_digits()
    images = torch.tensor(scans.images[part, None] / 16, dtype=torch.float32)
    return F.interpolate(images, size=32).expand(-1, 3, -1, -1), torch.tensor(scans.target[part])
