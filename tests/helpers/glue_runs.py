"""Runs of seconds with the configs of GLUE: narrow models, and sentences that are made."""

import logging
import random
from pathlib import Path

from helpers.glue_files import TOKENS, write_sst2, write_vocabulary
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from surge_mm.composition.methods import apply_method
from surge_mm.launch.resume import newest_checkpoint

BASE = Path(__file__).parents[2] / 'configs' / '_base_'
SIZES = {
    'vocab_size': len(TOKENS),
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
    'max_position_embeddings': 64,
}


def write_data(folder):
    """Write SST-2 with 48 rows to train on and 16 to evaluate, and a vocabulary."""
    write_sst2(folder, 48)
    write_sst2(folder, 16, 'dev')
    write_vocabulary(folder)


def run_config(folder, recipe, method, work_dir, epochs=1, **settings):
    """Return a recipe with a method, on the data of :func:`write_data`, with a narrow model.

    Args:
        folder (Path): folder of the data.
        recipe (str): name of the recipe.
        method (str): name of the method.
        work_dir (Path): work dir of the run.
        epochs (int): number of epochs of 6 batches. Defaults to 1.
        **settings: further keys of the config.
    """
    read = [
        Config.fromfile(BASE / f'{kind}.py') for kind in (f'recipes/{recipe}', f'methods/{method}')
    ]
    cfg = apply_method(*read)
    cfg.model.backbone.update(SIZES, init_cfg=None)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(data_root=str(folder), vocab=str(folder / 'vocab.txt'), holdout_rows=8)
        if dataset.split in ('fit', 'holdout'):
            dataset.split = 'train' if split == 'train' else 'dev'
    cfg.train_dataloader.batch_size = 8
    cfg.train_cfg.max_epochs = epochs
    cfg.param_scheduler = []
    cfg.visualizer.pop('vis_backends', None)
    cfg.work_dir = str(work_dir)
    cfg.log_level = logging.ERROR
    cfg.merge_from_dict(settings)
    return cfg


def train(cfg, hooks=()):
    """Train a config from its newest checkpoint, and return the runner."""
    start = newest_checkpoint(Path(cfg.work_dir)) if Path(cfg.work_dir).is_dir() else None
    cfg.load_from, cfg.resume = start and str(start), start is not None
    cfg.experiment_name = f'text_{random.SystemRandom().random()}'
    cfg.launcher = 'none'
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook, 'LOWEST')
    runner.train()
    return runner
