"""A whole config of a run of one second, and the same with one key or one type misspelt; the options of the tools."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from helpers.bad_configs import misspellings
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS
from torch import nn
from torch.utils.data import Dataset

from surge_mm.launch.cli import Parser
from surge_mm.launch.runner import begin, build_runner
from surge_mm.preflight.config_keys import check_names
from surge_mm.registry import DATASETS, MODELS
from surge_mm.utils.errors import LaunchError

_FOLDER = Path(__file__).parents[2] / 'tools'
TOOLS = sorted(tool.stem for tool in _FOLDER.glob('*.py'))
NUMBERS = itertools.count()


@MODELS.register_module()
class Line(BaseModel):
    """A minimal model that MMEngine trains."""

    def __init__(self, bias: bool = True, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.slope = nn.Linear(1, 1, bias=bias)

    def forward(self, x: torch.Tensor, y: torch.Tensor, mode: str = 'tensor') -> Any:
        error = (self.slope(x) - y).square().mean()
        return {'loss': error} if mode == 'loss' else [error]


@DATASETS.register_module()
class Points(Dataset):
    def __init__(self, number: int = 4) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((1,), float(index)), torch.full((1,), 2.0 * index)


@METRICS.register_module()
class MeanError(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(error) for error in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'error': sum(results) / len(results)}


LOADER = {
    'batch_size': 2,
    'num_workers': 0,
    'persistent_workers': False,
    'drop_last': False,
    'dataset': {'type': 'surge_mm.Points', 'number': 4},
    'sampler': {'type': 'DefaultSampler', 'shuffle': True},
    'collate_fn': {'type': 'default_collate'},
}
WHOLE: dict[str, Any] = {
    'default_scope': 'mmpretrain',
    'model': {'type': 'surge_mm.Line', 'bias': True},
    'train_dataloader': LOADER,
    'val_dataloader': LOADER,
    'train_cfg': {'by_epoch': True, 'max_epochs': 1, 'val_interval': 1, 'val_begin': 1},
    'val_cfg': {'type': 'ValLoop', 'fp16': False},
    'val_evaluator': {'type': 'mmengine.MeanError', 'prefix': 'line', 'collect_device': 'cpu'},
    'optim_wrapper': {
        'type': 'OptimWrapper',
        'accumulative_counts': 1,
        'clip_grad': {'type': 'norm', 'max_norm': 10, 'norm_type': 2},
        'paramwise_cfg': {
            'norm_decay_mult': 0.0,
            'bias_lr_mult': 2.0,
            'custom_keys': {'slope': {'lr_mult': 0.1, 'decay_mult': 1.0}},
        },
        'optimizer': {
            'type': 'SGD',
            'lr': 0.01,
            'momentum': 0.9,
            'weight_decay': 1e-4,
            'nesterov': True,
        },
    },
    'param_scheduler': [
        {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'begin': 0, 'end': 2},
        {'type': 'MultiStepLR', 'milestones': [1], 'gamma': 0.1, 'by_epoch': True},
        {'type': 'CosineAnnealingLR', 'T_max': 1, 'eta_min': 0.0, 'convert_to_iter_based': True},
    ],
    'default_hooks': {
        'runtime_info': {'type': 'RuntimeInfoHook'},
        'timer': {'type': 'IterTimerHook'},
        'sampler_seed': {'type': 'DistSamplerSeedHook'},
        'logger': {'type': 'LoggerHook', 'interval': 1, 'log_metric_by_epoch': True},
        'param_scheduler': {'type': 'ParamSchedulerHook'},
        'checkpoint': {
            'type': 'surge_mm.SafeCheckpointHook',
            'interval': 1,
            'by_epoch': True,
            'max_keep_ckpts': 1,
            'save_last': True,
        },
    },
    'custom_hooks': [{'type': 'EMAHook', 'ema_type': 'ExponentialMovingAverage', 'momentum': 0.1}],
    'env_cfg': {
        'cudnn_benchmark': False,
        'mp_cfg': {'mp_start_method': 'fork', 'opencv_num_threads': 0},
        'dist_cfg': {},
        'resource_limit': 4096,
    },
    'visualizer': {
        'type': 'Visualizer',
        'vis_backends': [{'type': 'LocalVisBackend', 'save_dir': None}],
    },
    'log_processor': {'type': 'LogProcessor', 'window_size': 10, 'by_epoch': True},
    'log_level': 'WARNING',
    'load_from': None,
    'resume': False,
    'launcher': 'none',
    'randomness': {'seed': 0, 'deterministic': False, 'diff_rank_seed': False},
    'auto_scale_lr': {'enable': False, 'base_batch_size': 2},
}
Path_ = tuple[Any, ...]
FREE = {('optim_wrapper', 'paramwise_cfg', 'custom_keys')}
"""Dicts whose keys are names of the user."""


def places(node: Any = WHOLE, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every key of the config, by its path, with its value."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        if isinstance(key, str) and path not in FREE:
            yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def with_key(path: Path_, key: str) -> dict[str, Any]:
    """Return the config with the last key of ``path`` spelled as ``key``."""
    whole = copy.deepcopy(WHOLE)
    holder = _holder(whole, path)
    holder[key] = holder.pop(path[-1])
    return whole


def with_value(path: Path_, value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(WHOLE)
    _holder(whole, path)[path[-1]] = value
    return whole


def _holder(whole: Any, path: Path_) -> Any:
    for key in path[:-1]:
        whole = whole[key]
    return whole


def refusal(whole: dict[str, Any], folder: Path) -> str | None:
    """Return the message of the error that such a config ends with, or None if it trains to the end.

    Misspelt arguments of ``clip_grad`` reach PyTorch in the first step, whose error is a TypeError.
    """
    number = next(NUMBERS)
    cfg = Config(whole)
    cfg.work_dir, cfg.experiment_name = str(folder / str(number)), f'bad_run_{number}'
    try:
        check_names(cfg)
        runner = build_runner(cfg)
        with begin(runner):
            runner.train()
    except (LaunchError, TypeError) as error:
        return str(error)
    return None


def suggests(said: str | None, key: str) -> bool:
    return re.search(rf"did you mean '([\w.]+\.)?{key}'", said or '') is not None


class _Parser(Exception):
    pass


def parser_of(tool: str, monkeypatch: Any) -> Parser:
    """Return the parser that the tool's main creates."""
    spec = importlib.util.spec_from_file_location(tool, _FOLDER / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def stop(self: Parser, *_: Any) -> None:
        raise _Parser(self)

    with monkeypatch.context() as patch:
        patch.setattr(sys, 'argv', [tool])
        patch.setattr(Parser, 'parse_args', stop)
        try:
            module.main()
        except _Parser as caught:
            return caught.args[0]
    raise AssertionError(f'{tool} does not parse its arguments')


def options_of(parser: Parser) -> list[argparse.Action]:
    return [a for a in parser._actions if a.help != argparse.SUPPRESS and a.option_strings]


def misspelt_options(parser: Parser, number: int, seed: int) -> Iterator[tuple[Any, str, str]]:
    """Yield a function that parses a command with one more option, the option that is meant, and misspellings of it."""
    words: list[str] = []
    for action in parser._actions:
        if action.required:
            value = next(iter(action.choices or ['x']))
            words += [*action.option_strings[:1], value]

    def parse(wrong: str) -> None:
        parser.parse_args([*words, wrong, '1'])

    for action in options_of(parser):
        option = action.option_strings[-1]
        for wrong in misspellings(option[2:].replace('-', '_'), number, seed):
            spelt = '--' + wrong.replace('_', '-')
            # argparse takes the beginning of an option for the option
            if not any(other.startswith(spelt) for other in parser._option_string_actions):
                yield parse, option, spelt
