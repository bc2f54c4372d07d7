"""What the tools share: reading a config, building what it says, and starting ranks.

A refusal is a :class:`surge_mm.utils.errors.LaunchError`: one sentence that names the argument, its value and the way
out.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, RUNNERS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from torch import nn

from surge_mm.launch.distributed import TIMEOUT, lost_a_rank
from surge_mm.preflight.config_keys import check_names
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import LaunchError, UsageError
from surge_mm.utils.registry_errors import explain, near_name

HOSTS = ('mmdet', 'mmpretrain')


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` with the common arguments applied.

    Raises:
        LaunchError: the file is missing, unreadable or not for MMDetection or MMPretrain.
    """
    path = Path(args.config)
    if not path.is_file():
        raise LaunchError(
            f'config {args.config!r}: there is no such file (looked from {Path.cwd()})'
        )
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:  # a config is code of its author
        kind = type(error).__name__
        raise LaunchError(f'config {args.config!r} cannot be read: {kind}: {error}') from error
    if args.cfg_options:
        _merge(cfg, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    try:
        check_names(cfg)
        _check_host(cfg)
    except LaunchError as error:
        raise LaunchError(f'config {args.config!r}: {error}') from error
    if Path(cfg.work_dir).is_file():
        raise LaunchError(f'work_dir {cfg.work_dir!r} is a file; name a folder with --work-dir')
    return cfg


def _merge(cfg: Config, settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise LaunchError(
                f'--cfg-options {key}={value!r} does not fit the config: {error}'
            ) from error


def _check_host(cfg: Config) -> None:
    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise LaunchError(
            f'default_scope={scope!r}, but surge_mm works with {" and ".join(HOSTS)}; inherit from '
            "one of their configs, e.g. _base_ = 'mmdet::_base_/default_runtime.py'"
        )
    model_type = (cfg.get('model') or {}).get('type')
    if model_type is None:
        raise LaunchError('it has no model.type; it is not a config to train or test')
    if not isinstance(model_type, str):
        return
    with (
        DefaultScope.overwrite_default_scope(scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        if _find(registry, model_type):
            return
        other = HOSTS[1 - HOSTS.index(scope)]
        way_out = f'it belongs to {other}: set default_scope={other!r}'
        if not _find(registry, f'{other}.{model_type}'):
            way_out = f'neither host has it{near_name(model_type, registry)}'
    raise LaunchError(f'{scope} has no model {model_type!r}; {way_out}')


def _find(registry: Any, name: str) -> bool:
    try:
        return registry.get(name) is not None
    except (KeyError, RuntimeError, ImportError):
        return False


def check_data(cfg: Config, splits: tuple[str, ...]) -> None:
    """Look through the data that the config names; print what a user should know of it.

    Raises:
        DatasetError: something is missing or damaged.
    """
    notes = check_datasets(cfg, splits)
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        encoding = sys.stdout.encoding or 'utf-8'
        for note in notes:  # names of images and classes may have letters that the terminal has not
            text = f'data: {note}'.encode(encoding, 'backslashreplace').decode(encoding)
            print(text, flush=True)


def prepare_ranks(cfg: Config) -> None:
    """Start the process group by gloo where there is no GPU, which MMEngine itself cannot do.

    With a GPU, or for a single process, everything is left to MMEngine (nccl). A rank that waits longer than
    ``env_cfg.dist_cfg.timeout`` seconds for the others, MMEngine's key, ends with an error. Defaults to 600.

    Raises:
        LaunchError: the launcher's environment is missing, or the timeout is no number of seconds.
    """
    if cfg.launcher == 'none':
        return
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', TIMEOUT)
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, (int, float))
        or not 0 < timeout < float('inf')
    ):
        raise LaunchError(
            f'env_cfg.dist_cfg.timeout={timeout!r} must be a number of seconds above 0, such as {TIMEOUT}'
        )
    if torch.cuda.is_available():
        return
    if cfg.launcher == 'mpi':
        raise LaunchError('--launcher mpi needs a GPU; without one use tools/dist_train.sh')
    if cfg.launcher == 'slurm':
        _read_slurm_environment()
    missing = [
        name
        for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
        if name not in os.environ
    ]
    if missing:
        raise LaunchError(
            f'--launcher {cfg.launcher}: {", ".join(missing)} not set; start the tool through tools/dist_train.sh or '
            'torchrun'
        )
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }


def _read_slurm_environment() -> None:
    names = {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'}
    missing = [name for name in (*names.values(), 'SLURM_NODELIST') if name not in os.environ]
    if missing:
        raise LaunchError(
            f'--launcher slurm: {", ".join(missing)} not set; start the tool through tools/slurm_train.sh'
        )
    for name, source in names.items():
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]


class _Begun(Hook):
    """Knows whether the Runner has built, initialised and loaded all that it needs to begin."""

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.begun = False

    def before_train(self, runner: Runner) -> None:
        self.begun = True

    before_test = before_train


@contextmanager
def _building(cfg: Config, hook: _Begun | None = None) -> Iterator[None]:
    """What goes wrong in the block, as long as ``hook`` knows of no beginning, concerns the config.

    Raises:
        LaunchError: a part of the config names what no registry has, or has values that its class refuses.
    """
    try:
        yield
    except LaunchError:
        raise
    except Exception as error:
        lost = isinstance(error, RuntimeError) and lost_a_rank(error)
        if lost or (hook is not None and hook.begun):
            raise
        raise LaunchError(f'config {cfg.filename!r}: {explain(error)}') from error


def build_runner(cfg: Config) -> Runner:
    """The Runner of the config.

    Raises:
        LaunchError: as :func:`begin`.
    """
    with _building(cfg):
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def begin(runner: Runner) -> AbstractContextManager[None]:
    """The block in which the runner trains or tests, and builds data loaders, optimizer, schedules and metrics first.

    Raises:
        LaunchError: a part of the config names what no registry has, or has values that its class refuses.
    """
    hook = _Begun()
    runner.register_hook(hook, hook.priority)
    return _building(runner.cfg, hook)


def build_model(cfg: Config) -> nn.Module:
    """The model of the config alone, with its data preprocessor as the Runner gives it.

    Raises:
        LaunchError: as :func:`begin`.
    """
    model = copy.deepcopy(cfg.model)  # detectors write into their settings
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    init_default_scope(cfg.default_scope)
    with _building(cfg):
        return MODELS.build(model)


def remember_settings(file: Path, settings: list[str]) -> None:
    """Refuse to go on in a folder with other settings than those that it was begun with.

    Raises:
        LaunchError: ``file`` holds others.
    """
    if file.is_file() and (before := json.loads(file.read_text())) != settings:
        raise LaunchError(
            f'{str(file.parent)!r} was begun with the settings {before}, not {settings}. Take those again, or another '
            '--work-dir'
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise LaunchError(f'--work-dir {str(file.parent)!r} is no folder: {error}') from error
    file.write_text(json.dumps(settings) + '\n')


def run(
    main: Callable[[], None],
    advice: str = 'the same command with --resume goes on from the last checkpoint',
) -> None:
    """Run a tool: refusals become one line on stderr and exit status 1, Ctrl-C gives ``advice`` and 130.

    SIGTERM gives ``advice`` before it ends the process, and so does the loss of another rank: the reason stands in
    that rank's output, not in this one's traceback.
    """

    def terminate(number: int, _: Any) -> None:
        os.write(2, f'ended by SIGTERM; {advice}\n'.encode())
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, terminate)
    # A forked worker that is ended before it waits for a lock would keep a handler of Python's waiting for ever, and
    # who joins it, as VOC evaluation does, waits too.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    try:
        main()
    except UsageError as error:
        sys.exit(f'error: {error}')
    except RuntimeError as error:
        if not lost_a_rank(error):
            raise
        sys.exit(
            f'error: rank {os.environ.get("RANK", 0)} lost touch with another rank, which was killed, failed or did '
            'not answer in time (env_cfg.dist_cfg.timeout seconds); if it said why, that stands above; '
            f'{advice} (PyTorch: {str(error).splitlines()[0]})'
        )
    except KeyboardInterrupt:
        print(f'\ninterrupted; {advice}', file=sys.stderr)
        sys.exit(130)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
