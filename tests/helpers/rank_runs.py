"""Runs of the tools by several gloo ranks on one machine, with narrow detectors."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from helpers.forkserver import FORKSERVER
from helpers.narrow import config
from helpers.quick_runs import quicken

from surge_mm.launch.cli import run

ROOT = Path(__file__).parents[2]
KEEP_RANK = """import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KeepRank(Hook):
    def after_train(self, runner):
        losses = torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])
        kept = losses, list(runner.model.parameters())
        torch.save(kept, f'{runner.work_dir}/rank{get_rank()}.pt')
"""


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def be_rank(rank, world_size, port):
    """Give this process the environment of a launcher."""
    torch.set_num_threads(1)
    names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')
    values = (rank, rank, world_size, port)
    os.environ.update(zip(names, map(str, values), strict=True), MASTER_ADDR='127.0.0.1')


def write_config(folder, family, digits, steps, settings):
    """Write a config of a narrow detector that saves each step, and at the end the state of each rank."""
    cfg = config(family, digits, folder / 'run')
    (folder / 'keep_rank.py').write_text(KEEP_RANK)
    cfg.custom_imports = {'imports': ['surge_mm', 'keep_rank']}
    cfg.custom_hooks = [{'type': 'surge_mm.AdaptiveGradientScalerHook'}, {'type': 'KeepRank'}]
    cfg.train_cfg = {'by_epoch': False, 'max_iters': steps, 'val_interval': steps}
    cfg.train_dataloader.sampler.shuffle = False  # rank r of n takes the images r, r + n, ...
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.filter_cfg = {}
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=2)
    cfg.merge_from_dict(settings)
    path = folder / f'{family}.py'
    cfg.dump(path)
    return path


def take_boxes(annotations, world_size, ranks):
    """Take away the boxes of the images that these ranks get."""
    content = json.loads(annotations.read_text())
    ids = {image['id'] for i, image in enumerate(content['images']) if i % world_size in ranks}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] not in ids]
    annotations.write_text(json.dumps(content))


def _run(rank, world_size, port, tool, folder, arguments):
    quicken()
    be_rank(rank, world_size, port)
    sys.stdout = sys.stderr = (folder / f'rank{rank}.txt').open('w', buffering=1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(tool, ROOT / f'tools/{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv = [f'{tool}.py', *map(str, arguments), '--launcher', 'pytorch']
    run(module.main)


class Ranks:
    """A tool in several processes, without torchrun, which would end the others when a rank is lost.

    The output of a rank is in ``folder/rankN.txt``.
    """

    def __init__(self, world_size, folder, *arguments, tool='train'):
        self.folder, port = folder, free_port()
        self.processes = [
            FORKSERVER.Process(target=_run, args=(rank, world_size, port, tool, folder, arguments))
            for rank in range(world_size)
        ]
        for process in self.processes:
            process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()

    def signal(self, rank, number):
        os.kill(self.processes[rank].pid, number)

    def wait(self, *but, seconds=120):
        """Return the exit status of all ranks except some, None for those that still run after the time."""
        end = time.monotonic() + seconds
        waited = [p for rank, p in enumerate(self.processes) if rank not in but]
        for process in waited:
            process.join(max(0, end - time.monotonic()))
        return [process.exitcode for process in waited]

    def said(self, rank):
        return (self.folder / f'rank{rank}.txt').read_text()


def launch(world_size, folder, *arguments):
    """``tools/dist_train.sh`` as a user starts it; its output is in ``folder/launched.txt``."""
    environment = {'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, 'PORT': str(free_port())}
    environment['PYTHONPATH'] = f'{folder}{os.pathsep}{ROOT}'
    config_file, *others = map(str, arguments)
    with (folder / 'launched.txt').open('w') as out:
        return subprocess.Popen(
            [str(ROOT / 'tools/dist_train.sh'), config_file, str(world_size), *others],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=out,
            stderr=out,
        )


def wait_for(path):
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f'{path} does not appear'
        time.sleep(0.01)


def kept(folder, world_size):
    """Return the losses of all ranks, after checking that their parameters are equal to the bit."""
    losses, parameters = zip(
        *(torch.load(folder / f'run/rank{rank}.pt') for rank in range(world_size)), strict=True
    )
    for others in parameters[1:]:
        assert all(torch.equal(p, q) for p, q in zip(parameters[0], others, strict=True))
    return torch.stack(losses)
