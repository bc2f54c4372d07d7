"""Images of a config on which the ranges of int8 layers are measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, FUNCTIONS
from torch.utils.data import ConcatDataset, DataLoader

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.preflight.leaves import find_leaves
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.registry_errors import explain

DEFAULT_COUNT = 64
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


class CalibrationSet:
    """Images of the training set, or of the validation or test set if the first is not there.

    They are spread over the set, and have the pipeline of the evaluation. The default scope must be that of ``cfg``.

    Args:
        cfg (Config): Config of the model.
        count (int, optional): Number of images. Defaults to 64, or to all if the set has fewer.

    Attributes:
        count (int): Number of images.
        source (str): Key of the data loader.

    Raises:
        LaunchError: if there is no data set, or it has fewer images than asked.
    """

    def __init__(self, cfg: Config, count: int | None = None) -> None:
        self.source, self._loader, self._dataset = _first_set(cfg)
        size = len(self._dataset)
        if count is not None and count > size:
            raise LaunchError(
                f'--images {count}: {self.source} of the config has {size} images. Ask for at most {size}'
            )
        self.count = min(count or DEFAULT_COUNT, size)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        """Yield batches of one image, for ``model.test_step``."""
        kind = (self._loader.get('collate_fn') or {}).get('type', 'pseudo_collate')
        collate = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
        indices = [[i * len(self._dataset) // self.count] for i in range(self.count)]
        yield from DataLoader(self._dataset, batch_sampler=indices, collate_fn=collate)


def _first_set(cfg: Config) -> tuple[str, Any, Any]:
    """Return the key and the config of the first loader whose data sets can be built, and these sets in one."""
    reasons = []
    for key in LOADERS:
        loader = cfg.get(key)
        if not loader:
            continue
        leaves = [dict(leaf) for _, leaf in find_leaves('dataset', loader.dataset)]
        for leaf in leaves:
            if 'pipeline' in leaf:
                leaf['pipeline'] = evaluation_pipeline(cfg)
        try:
            datasets = [DATASETS.build(leaf) for leaf in leaves]
            # one alone may read whole batches, which a ConcatDataset does not
            dataset = datasets[0] if len(datasets) == 1 else ConcatDataset(datasets)
        except Exception as error:  # files are missing, or a class refuses its arguments
            reasons.append(f'{key}: {explain(error)}')
            continue
        if len(dataset):
            return key, loader, dataset
        reasons.append(f'{key}: it has no image')
    found = '; '.join(reasons) or 'it has no data loader'
    raise LaunchError(
        f'--real int8 needs images of the config, on which the ranges of inputs are measured: {found}. Put the data '
        'there, or export without --real'
    )
