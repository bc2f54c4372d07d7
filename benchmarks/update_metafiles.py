"""Write configs/*/metafile.yml and model-index.yml from the config files and benchmarks/results.yml.

python benchmarks/update_metafiles.py

A config is listed under the collection of its method. It has results only if they are in results.yml.
"""

import re
import statistics
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
DATA = {
    'coco': 'COCO',
    'voc0712': 'Pascal VOC 2007 and 2012',
    'in1k': 'ImageNet-1k',
    'cifar10': 'CIFAR-10',
    'cifar10-mini': 'CIFAR-10, 20,000 images of 16x16 pixels',
    'digits': 'Handwritten digits',
    'bccd': 'BCCD',
    'cola': 'GLUE CoLA',
    'sst2': 'GLUE SST-2',
    'mrpc': 'GLUE MRPC',
    'stsb': 'GLUE STS-B',
    'qqp': 'GLUE QQP',
    'mnli': 'GLUE MNLI',
    'qnli': 'GLUE QNLI',
    'rte': 'GLUE RTE',
    'sst2-20k': 'GLUE SST-2, 20,000 rows of the training file',
    'sst2-mini': 'GLUE SST-2, without 5,000 rows of the training file',
}
COLLECTIONS = {
    'fp': 'Full precision',
    'ste': 'STE',
    'surge': 'SURGE',
    'surge-lite': 'SURGE',
    'surge-reactnet': 'SURGE',
    'xnor': 'XNOR-Net',
    'bireal': 'Bi-Real Net',
    'irnet': 'IR-Net',
    'reactnet': 'ReActNet',
    'rsign': 'ReActNet',
    'reste': 'ReSTE',
    'recu': 'ReCU',
    'recu-rsign': 'ReCU',
    'adabin': 'AdaBin',
    'bibert': 'BiBERT',
    'bit': 'BiT',
    'bit-2bit': 'BiT',
    'surge-bit': 'SURGE',
    'ste-embedding': 'STE',
    'surge-embedding': 'SURGE',
}
TASKS = {'Top 1 Accuracy': 'Image Classification', 'Accuracy': 'Text Classification'}
"""Task of the metrics that are not those of detection."""


def main() -> None:
    for path, text in metafiles().items():
        path.write_text(text, encoding='utf-8')


def metafiles() -> dict[Path, str]:
    """Return the metafile of each config folder and the model index, by path."""
    results = yaml.safe_load((ROOT / 'benchmarks' / 'results.yml').read_text(encoding='utf-8'))
    folders: dict[Path, list[Path]] = {}
    for config in sorted(CONFIGS.glob('*/*.py')):
        folders.setdefault(config.parent, []).append(config)
    del folders[CONFIGS / '_base_']
    files = {
        folder / 'metafile.yml': dump({'Models': [entry(config, results) for config in configs]})
        for folder, configs in folders.items()
    }
    paths = [CONFIGS / 'metafile.yml', *files]
    index = {'Import': [path.relative_to(ROOT).as_posix() for path in paths]}
    return files | {ROOT / 'model-index.yml': dump(index)}


def entry(config: Path, results: dict[str, dict[str, list[float]]]) -> dict:
    """Return the entry of one config.

    Args:
        config (Path): config file, below the folder ``configs``.
        results (dict[str, dict[str, list[float]]]): values of each metric over seeds, by FOLDER/NAME of the config.

    Returns:
        dict: entry for the key ``Models`` of a metafile.
    """
    method = config.stem.partition('_')[0]
    method = method if method in COLLECTIONS else 'fp'
    *_, schedule, data = config.stem.split('_')
    epochs = 12 if schedule == '1x' else int(re.match(r'\d+', schedule)[0])
    model = {
        'Name': config.stem,
        'In Collection': COLLECTIONS[method],
        'Config': config.relative_to(ROOT).as_posix(),
        'Metadata': {'Training Data': DATA[data], 'Epochs': epochs},
    }
    measured = results.get(f'{config.parent.name}/{config.stem}')
    if measured is not None:
        (first, *_) = measured
        task = TASKS.get(first, 'Object Detection')
        digits = 1 if task == 'Object Detection' else 2
        (model['Metadata']['Seeds'],) = {len(values) for values in measured.values()}
        means = {name: round(statistics.mean(values), digits) for name, values in measured.items()}
        model['Results'] = [{'Task': task, 'Dataset': DATA[data], 'Metrics': means}]
    return model


def dump(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


if __name__ == '__main__':
    main()
