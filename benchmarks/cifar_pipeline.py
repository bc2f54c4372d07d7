"""Measure how many augmented CIFAR images a second the batch pipeline loads, against MMPretrain's pipeline.

python benchmarks/cifar_pipeline.py data/cifar10

Both read the official files, crop (padding 4), flip and normalize batches of 256. MMPretrain's pipeline processes one
image at a time in two workers. They take turns; the medians of the rounds and their ratio are printed.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.progress import track

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported

from mmpretrain.registry import MODELS  # isort: skip

MEAN, STD = [125.307, 122.961, 113.8575], [62.9932, 62.0887, 66.7049]


def batched(root: str) -> tuple:
    dataset = {'type': 'surge_mm.CIFAR10Tensor', 'data_root': root}
    loader = {'num_workers': 0, 'collate_fn': {'type': 'surge_mm.whole_batch'}}
    preprocessor = {'type': 'surge_mm.BatchAugmentPreprocessor', 'mean': MEAN, 'std': STD}
    return dataset, loader, preprocessor


def image_by_image(root: str) -> tuple:
    pipeline = [
        {'type': 'RandomCrop', 'crop_size': 32, 'padding': 4},
        {'type': 'RandomFlip', 'prob': 0.5, 'direction': 'horizontal'},
        {'type': 'PackInputs'},
    ]
    dataset = {
        'type': 'CIFAR10',
        'data_root': root,
        'split': 'train',
        'download': False,
        'pipeline': pipeline,
    }
    loader = {'num_workers': 2, 'persistent_workers': True}
    return dataset, loader, {'type': 'ClsDataPreprocessor', 'mean': MEAN, 'std': STD}


def batches(dataset: dict, loader: dict, preprocessor: dict) -> Iterator[int]:
    """Yield the sizes of batches without end, each preprocessed for the network."""
    built = Runner.build_dataloader(
        {
            'batch_size': 256,
            'dataset': dataset,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            **loader,
        },
        seed=0,
    )
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    prepare = MODELS.build(preprocessor).to(device)
    while True:
        for batch in built:
            yield len(prepare(batch, training=True)['inputs'])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('data_root', help='folder that holds cifar-10-batches-py')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--batches', type=int, default=60, help='batches in a round')
    args = parser.parse_args()
    init_default_scope('mmpretrain')

    sources = {
        'surge_mm, whole batches': batches(*batched(args.data_root)),
        'MMPretrain, image by image': batches(*image_by_image(args.data_root)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for source in sources.values():
        next(source)  # the first batch includes reading the files and starting the workers
    for _ in track(range(args.rounds), 'rounds'):
        for name, source in sources.items():
            start = time.perf_counter()
            images = sum(next(source) for _ in range(args.batches))
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rates[name].append(images / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        low, high = min(rates[name]), max(rates[name])
        print(f'{name}: {median:,.0f} images a second ({low:,.0f} to {high:,.0f})')
    ours, theirs = medians.values()
    print(f'ratio: {ours / theirs:.1f}')


if __name__ == '__main__':
    main()
