"""Hostile checkpoints.

A checkpoint is a pickle, which can run code when it is loaded. surge_mm replaces MMEngine's loader. This covers
`tools/train.py --resume` and `load_from`, `tools/test.py`, `init_cfg=dict(type='Pretrained', ...)`, the functions of
MMEngine and of the hosts, and URLs (which MMEngine 0.10 loads without PyTorch's protection). Guaranteed: **no code of a
checkpoint runs**, neither from its pickle nor from a config stored in it, and a rejected file is reported by one line
with its name, **before a weight of the model changes**.

Each attack is also loaded without protection, to check that it works. An audit hook of the interpreter reports
commands, compiled code, deleted files and connections while a file is loaded.

Limits:

- A **config file is a Python program** and runs when it is loaded. Read a config from an unknown source before you use
  it. The hosts' `DetInferencer(weights=...)` without a config runs the config in the checkpoint: pass `model=`.
- **Memory is not bounded.** A zip archive may not unpack to more bytes than the file has, but a pickle can allocate
  memory in other ways. Load files from unknown sources under a limit of the operating system (`ulimit -v`).
- PyTorch checks since 2.10 that a storage has the size that the pickle declares. Earlier versions can read beyond the
  storage of a manipulated file: use a current PyTorch for files from unknown sources.
- Checkpoints at `s3://`, `petrel://` and `pavi://` addresses have PyTorch's own protection only.
- The format of PyTorch before 1.6 has no checksums: a flipped bit in a weight is not detected (a truncated file is).
"""

import numpy as np
import pytest
import torch
from helpers import hostile_checkpoints as hostile
from helpers.hostile_runs import (
    WAYS,
    Classifier,
    assert_damage_is_found,
    assert_programs_are_harmless,
    assert_rejected,
    copies,
    small_run,
    spoil,
)
from mmengine.runner import load_checkpoint

from surge_mm import ReActNetA, SurgeResNet, SurgeVGGSmall
from surge_mm.checkpoint.checked import read_checked
from surge_mm.checkpoint.safe_loading import load_from_file
from surge_mm.utils.errors import CheckpointError, UsageError

NETWORKS = (
    lambda: SurgeResNet(18, base_channels=4),
    lambda: SurgeResNet(50, base_channels=4),
    lambda: SurgeVGGSmall(base_channels=4),
    lambda: ReActNetA(base_channels=4),
)


def places(state, value):
    """Yield the checkpoint of a run with ``value`` in one place after another."""
    yield {**state, 'meta': {**state['meta'], 'dataset_meta': value}}
    yield {**state, 'state_dict': {**state['state_dict'], 'x.weight': value}}
    yield {**state, 'optimizer': {**state['optimizer'], 'state': {0: {'momentum_buffer': value}}}}
    yield {**state, 'message_hub': {**state['message_hub'], 'log_scalars': {'loss': value}}}
    yield {**state, 'param_schedulers': [{'last_step': value}]}
    yield {**state, 'ema_state_dict': [value]}
    yield value


def rejected(model, path):
    before = copies(model)
    with hostile.canary() as heard, pytest.raises(CheckpointError, match=path.name):
        load_checkpoint(model, str(path))
    assert not heard
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_pickles_that_run_code(tmp_path, record):
    model, cases = Classifier(), 0
    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    state = hostile.run_state(model)
    for attack in hostile.RUN_CODE.values():
        for checkpoint in places(state, attack(f'touch {marker}')):
            for legacy in (False, True):
                path.write_bytes(hostile.saved(checkpoint, legacy))
                rejected(model, path)
                cases += 1
        assert not marker.exists()
        with hostile.canary() as heard:
            try:
                torch.load(path, weights_only=False)
            except (TypeError, AttributeError):
                assert heard, 'the attack must work without protection'
        assert marker.exists(), 'the attack must work without protection'
        marker.unlink()
    record(
        'pickles that run code, in every part of a checkpoint, of both formats',
        cases,
        'rejected, nothing ran, weights unchanged',
    )


def test_random_programs(tmp_path, record):
    seeds = range(2_500)
    count = assert_programs_are_harmless(tmp_path, seeds)
    record(
        'random pickles of allowed and forbidden names, and mutations of a real one',
        2 * len(seeds),
        f'nothing ran; {count:,} rejected',
    )


def test_other_files(tmp_path, record):
    model, path = Classifier(), tmp_path / 'file.pth'
    kinds = hostile.foreign_files(hostile.saved(hostile.run_state(model)))
    for data in kinds.values():
        path.write_bytes(data)
        with hostile.little_memory(2**28):
            rejected(model, path)
    record(f'other files: {", ".join(kinds)}', len(kinds), 'rejected')


def test_damage(tmp_path, record):
    raw = hostile.saved(hostile.run_state(Classifier()))
    seeds = range(800)
    found = assert_damage_is_found(tmp_path, raw, seeds)
    counted = ', '.join(f'{kind} {count}' for kind, count in sorted(found.items()))
    record(
        'random damage: truncated, bits flipped, blocks zeroed, added or removed',
        len(seeds),
        f'rejected ({counted}), or loaded with unchanged weights',
    )


def test_truncated_legacy_format(tmp_path, record):
    model, path = Classifier(), tmp_path / 'old.pth'
    raw = hostile.saved(hostile.run_state(model), legacy=True)
    path.write_bytes(raw)
    load_from_file(str(path))
    places = np.random.default_rng(0).integers(0, len(raw), 300)
    for place in places:
        path.write_bytes(raw[:place])
        rejected(model, path)
    record('the format before PyTorch 1.6, truncated at random places', len(places), 'rejected')


def test_mismatched_weights(tmp_path, record):
    cases, path = 0, tmp_path / 'weights.pth'
    for build in NETWORKS:
        model = build()
        convs = [name for name, value in model.named_parameters() if value.ndim == 4]
        for first in (convs[1], convs[-1]):
            for fault, state in hostile.mismatched_weights(model.state_dict(), first).items():
                path.write_bytes(hostile.saved(state))
                model.init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
                before = copies(model)
                model._is_init = False
                with pytest.raises(UsageError):
                    model.init_weights()
                with pytest.raises(UsageError, match='weights.pth'):
                    read_checked(model, str(path))
                assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items()), fault
                cases += 1
    record(
        '`Pretrained` of the backbones: other shapes, other kinds of tensors, missing halves',
        cases,
        'rejected, weights unchanged',
    )


def test_networks_for_each_other(tmp_path, record):
    cases, path = 0, tmp_path / 'other.pth'
    for one in NETWORKS:
        for other in NETWORKS:
            if one is other:
                continue
            model = one()
            torch.save({'state_dict': other().state_dict()}, path)
            model.init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
            before = copies(model)
            with pytest.raises(UsageError, match='does not match'):
                model.init_weights()
            assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
            cases += 1
    record('checkpoints of another architecture', cases, 'rejected, weights unchanged')


def test_the_tools(tmp_path, record):
    cases = 0
    attacks = ['code', 'code through getattr', 'another shape', 'truncated']
    with small_run(tmp_path):
        for attack in attacks:
            path = spoil(tmp_path, attack)
            for way in WAYS:
                if (attack, way) != ('another shape', 'load_from'):  # a new run loads what matches
                    assert_rejected(tmp_path, path, way)
                    cases += 1
        assert_rejected(tmp_path, spoil(tmp_path, 'weights alone'), '--resume')
        cases += 1
    record(
        '`tools/train.py --resume`, `load_from` and `tools/test.py`, with a manipulated checkpoint',
        cases,
        'one line with the name of the file, no training',
    )
