"""CIFAR-10 as one tensor on the training device; a batch costs one indexing operation."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmpretrain.datasets import CIFAR10
from mmpretrain.datasets.utils import check_integrity
from mmpretrain.structures import DataSample

from surge_mm.registry import DATASETS, FUNCTIONS
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.errors import DatasetError


@FUNCTIONS.register_module()
def whole_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch unchanged, as the ``collate_fn`` of a dataset that returns whole batches."""
    return batch


@DATASETS.register_module()
class CIFAR10Tensor(CIFAR10):
    """The official CIFAR-10 ("python version") as one uint8 tensor.

    Its data loader needs ``num_workers=0`` and ``collate_fn=dict(type='surge_mm.whole_batch')``, and the model
    ``data_preprocessor=dict(type='surge_mm.BatchAugmentPreprocessor', ...)``.

    Args:
        data_root (str): folder of ``cifar-10-batches-py``. Nothing is downloaded.
        split (str): ``'train'`` (50,000 images) or ``'test'`` (10,000). Defaults to 'train'.
        device (str): device of the images; ``'auto'`` is the current GPU, or the CPU if there is none. Defaults to
            'auto'.
        size (int): width and height of the images: 32, or 16 or 8 by averaging blocks of pixels. Defaults to 32.
        indices (int or Sequence[int], optional): number of images to load, the first of the files, or their numbers,
            such as ``range(30000, 40000)``. Defaults to None, all of them.
        **kwargs: arguments of MMPretrain's CIFAR10, except a pipeline.

    Raises:
        DatasetError: if a file is missing, its MD5 is not the official one, or an image of ``indices`` does not
            exist.
        ValueError: if ``size`` is invalid, or there is a pipeline.
    """

    @checked
    def __init__(
        self,
        data_root: str,
        split: Literal['train', 'test'] = 'train',
        device: str = 'auto',
        size: int = 32,
        indices: Positive | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('pipeline'):
            raise ValueError(
                f'pipeline={kwargs["pipeline"]!r}: CIFAR10Tensor has no pipeline; augment batches with '
                "data_preprocessor=dict(type='surge_mm.BatchAugmentPreprocessor')"
            )
        if size not in (8, 16, 32):
            raise ValueError(f'size={size!r} must be 8, 16 or 32')
        self._fully_initialized = False
        self.device, self.size = device, size
        self.part = list(indices) if isinstance(indices, Sequence) else indices
        super().__init__(data_root=data_root, split=split, download=False, **kwargs)

    def full_init(self) -> None:
        """Load the images unless they are loaded already."""
        if self._fully_initialized:
            return
        folder = Path(self.data_prefix['root']) / self.base_folder
        files = self.train_list if self.split == 'train' else self.test_list
        wrong = [folder / name for name, md5 in files if not check_integrity(folder / name, md5)]
        defects = {
            'missing': [str(file) for file in wrong if not file.exists()],
            'MD5 is not that of the official file': [str(file) for file in wrong if file.exists()],
        }
        if wrong:
            text = '; '.join(f'{kind}: {", ".join(of)}' for kind, of in defects.items() if of)
            raise DatasetError(
                f'{text}. Unpack {self.url} into data_root={self.data_root!r}. To load fewer images of these files, '
                'set indices'
            )
        # safe to unpickle: the MD5 sums are those of the official files
        entries = [
            pickle.loads((folder / name).read_bytes(), encoding='latin1') for name, _ in files
        ]
        pixels = np.concatenate([entry['data'] for entry in entries]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([entry['labels'] for entry in entries])
        numbers = self.part if isinstance(self.part, list) else range(self.part or len(labels))
        if wrong := [number for number in numbers if not 0 <= number < len(labels)]:
            raise DatasetError(
                f'indices must be from 0 to {len(labels) - 1}, the images of split={self.split!r}, or their number, '
                f'at most {len(labels)}: it has image {wrong[0]}'
            )
        part = self.part if isinstance(self.part, list) else slice(self.part)
        images, labels = torch.from_numpy(pixels[part]), torch.from_numpy(labels[part])
        if self.size != 32:
            blocks = images.unflatten(3, (self.size, -1)).unflatten(2, (self.size, -1)).float()
            images = blocks.mean((3, 5)).round().byte()
        device = self.device
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.samples = [DataSample().set_gt_label(label) for label in self.labels.unsqueeze(1)]
        self._fully_initialized = True

    def __len__(self) -> int:
        self.full_init()
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'inputs': self.images[index], 'data_samples': self.samples[index]}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch: ``inputs``, shape (N, 3, size, size), uint8, and a list of ``data_samples``."""
        chosen = torch.tensor(indices)
        if self.images.is_cuda:  # a copy from pinned memory does not wait for the steps before it
            chosen = chosen.pin_memory().to(self.images.device, non_blocking=True)
        return {
            'inputs': self.images[chosen],
            'data_samples': [self.samples[index] for index in indices],
        }
