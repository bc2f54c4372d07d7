"""Process groups of several ranks: start without a GPU, slurm, equal epochs, lost ranks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.runner import EpochBasedTrainLoop, Runner

from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import LaunchError

TIMEOUT = 600
"""Default timeout in seconds, as PyTorch has for nccl. PyTorch's default for gloo is 1800."""

SYNC_BATCH_NORMS = ('SyncBN', 'SyncBatchNorm', 'MMSyncBN')

RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
"""Environment variable of the rank, by launcher."""


def is_first_rank(cfg: Config) -> bool:
    """Return whether this process is rank 0 of the launcher of a config, before there is a process group."""
    return os.environ.get(RANKS.get(cfg.get('launcher', 'none'), ''), '0') == '0'


def prepare_ranks(cfg: Config) -> None:
    """Start the process group with gloo on machines without a GPU.

    With a GPU, or for a single process, MMEngine starts it (nccl). A rank that waits longer than
    ``env_cfg.dist_cfg.timeout`` seconds for the others ends with an error. Defaults to 600.

    Args:
        cfg (Config): config of a run. Without a GPU, ``model_wrapper_cfg`` is set.

    Raises:
        LaunchError: if environment variables of the launcher are missing, or the launcher needs a GPU.
    """
    if cfg.launcher == 'none':
        return
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', TIMEOUT)
    if torch.cuda.is_available():
        return
    if cfg.launcher == 'mpi':
        raise LaunchError('--launcher mpi needs a GPU; without one use tools/dist_train.sh')
    if cfg.launcher == 'slurm':
        _read_slurm_environment()
    try:
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    except (TypeError, ValueError) as error:
        raise LaunchError(
            f'--launcher {cfg.launcher}: {error}. Start the tool with tools/dist_train.sh or torchrun'
        ) from error
    except RuntimeError as error:
        explain_start(error, cfg)
        raise
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }


def explain_start(error: Exception, cfg: Config) -> None:
    """Raise a LaunchError with the way out, if an error of PyTorch has one that its message does not name.

    Args:
        error (Exception): an error at the start of several ranks.
        cfg (Config): config of the run.

    Raises:
        LaunchError: if the port is in use, or the model has synchronized batch norms and there is no GPU.
    """
    if 'EADDRINUSE' in str(error):
        raise LaunchError(
            f'port {os.environ.get("MASTER_PORT")}, where the ranks meet, is in use by another process: set '
            'MASTER_PORT (PORT for tools/dist_train.sh) to a free port, the same for all ranks'
        ) from error
    if 'SyncBatchNorm layers only work with GPU' in str(error):
        settings = ['sync_bn=None'] if cfg.get('sync_bn') else []
        settings += _plain_batch_norms('model', cfg.model)
        raise LaunchError(
            'synchronized batch norms work on GPUs alone, and there is none. Use those of each rank: '
            + (f'--cfg-options {" ".join(settings)}' if settings else "norm_cfg=dict(type='BN')")
        ) from error


def _plain_batch_norms(path: str, part: Any) -> Iterator[str]:
    """Yield the settings, as of ``--cfg-options``, that replace synchronized batch norms in a config."""
    if isinstance(part, Mapping) and class_name(part.get('type')) in SYNC_BATCH_NORMS:
        yield f'{path}.type=BN'
    if isinstance(part, (Mapping, list, tuple)):
        for key, value in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _plain_batch_norms(f'{path}.{key}', value)


def _read_slurm_environment() -> None:
    names = {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'}
    missing = [name for name in (*names.values(), 'SLURM_NODELIST') if name not in os.environ]
    if missing:
        raise LaunchError(
            f'--launcher slurm: {", ".join(missing)} not set; start the tool with tools/slurm_train.sh'
        )
    for name, source in names.items():
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def check_batches(runner: Runner) -> None:
    """Check that an epoch has batches, and the same number of them on all ranks.

    Otherwise a rank that ends its epoch early averages its next gradients with the last ones of the others.

    Args:
        runner (Runner): the runner, before training.

    Raises:
        LaunchError: if there are no batches, or the numbers of batches differ.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    batches = all_gather_object(len(runner.train_dataloader))
    if min(batches) == 0:
        raise LaunchError(
            'train_dataloader has no batch: its dataset is empty, or smaller than a batch with drop_last=True. '
            'Is every image filtered by filter_cfg of the dataset?'
        )
    if len(set(batches)) > 1:
        raise LaunchError(
            f'train_dataloader has {min(batches)} batches an epoch on rank {batches.index(min(batches))} and '
            f'{max(batches)} on rank {batches.index(max(batches))}, but all ranks must have equally many: set '
            "train_dataloader.sampler.round_up=True, MMEngine's default"
        )


def lost_a_rank(error: RuntimeError) -> bool:
    """Return whether an error means that another rank does not answer.

    Gloo's errors have no class of their own, but their text has the name of the source file. Failed checks of gloo
    (ranks that send different things) are other errors.
    """
    text = str(error)
    of_gloo = '/gloo/transport/' in text and 'enforce fail' not in text
    return of_gloo or isinstance(error, torch.distributed.DistError)
