"""Hostile checkpoints.

A checkpoint from a stranger is read as an attack. MMEngine's own loader is replaced by one that looks through the file
first, so the same holds for `tools/train.py --resume` and `load_from`, for `tools/test.py`, for
`init_cfg=dict(type='Pretrained', ...)`, for MMEngine's and the hosts' own functions, and for URLs (which MMEngine 0.10
loads without PyTorch's protection). Guaranteed: **no code of a checkpoint runs**, not its pickle's and not the config
that it may bring along; **it costs no more memory than its size suggests**; and what is refused is refused in one line
that names the file, **before a single weight of the model has changed**.

Each attack here is checked to be a real one: with the protection off it does run, where its kind is to run code. A
hook of the interpreter listens for commands, code, deleted files and connections while a file is loaded.

What it does not protect from: a **config file is a Python program** and runs when it is read: look at a stranger's
before you use it. The hosts' `DetInferencer(weights=...)` without a config runs the one in the checkpoint: give it
`model=`. Checkpoints at `s3://`, `petrel://` and `pavi://` addresses have PyTorch's own protection alone. Weights may
be bad in themselves: numbers that detect nothing. The format of PyTorch before 1.6 has no checksums, so a bit flipped
in its numbers is not noticed (a file cut off is).
"""

import time

import numpy as np
import pytest
import torch
from helpers import hostile_checkpoints as hostile
from helpers.hostile_runs import (
    WAYS,
    Classifier,
    assert_damage_is_found,
    assert_programs_are_harmless,
    assert_refused,
    copies,
    small_run,
    spoil,
)
from mmengine.runner import load_checkpoint

from surge_mm import ReActNetA, SurgeResNet, SurgeVGGSmall
from surge_mm.checkpoint.safe_loading import load_from_file
from surge_mm.launch.resume import check_fits
from surge_mm.utils.errors import CheckpointError, UsageError

NETWORKS = (
    lambda: SurgeResNet(18, base_channels=4),
    lambda: SurgeResNet(50, base_channels=4),
    lambda: SurgeVGGSmall(base_channels=4),
    lambda: ReActNetA(base_channels=4),
)


def places(state, value):
    """The checkpoint of a run with ``value`` in one place of it after the other."""
    yield {**state, 'meta': {**state['meta'], 'dataset_meta': value}}
    yield {**state, 'state_dict': {**state['state_dict'], 'x.weight': value}}
    yield {**state, 'optimizer': {**state['optimizer'], 'state': {0: {'momentum_buffer': value}}}}
    yield {**state, 'message_hub': {**state['message_hub'], 'log_scalars': {'loss': value}}}
    yield {**state, 'param_schedulers': [{'last_step': value}]}
    yield {**state, 'ema_state_dict': [value]}
    yield value


def refused(model, path):
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
                refused(model, path)
                cases += 1
        assert not marker.exists()
        with hostile.canary() as heard:
            try:
                torch.load(path, weights_only=False)
            except (TypeError, AttributeError):
                assert heard, 'the attack must be a real one'
        assert marker.exists(), 'the attack must be a real one'
        marker.unlink()
    record(
        'pickles that run code, in every part of a checkpoint, of both formats',
        cases,
        'refused, nothing ran, weights untouched',
    )


def test_random_programs(tmp_path, record):
    seeds = range(2_500)
    rejected = assert_programs_are_harmless(tmp_path, seeds)
    record(
        'random pickle programs over the allowed names and forbidden ones, and mutations of a real one, each with our '
        "check and by PyTorch's list alone",
        4 * len(seeds),
        f'nothing ran; of {2 * len(seeds):,} with the check {rejected:,} were refused, the others did no harm',
    )


def test_bombs(tmp_path, record):
    model, cases, slowest = Classifier(), 0, 0.0
    path = tmp_path / 'bomb.pth'
    state = hostile.run_state(model)
    for bomb in hostile.BOMBS.values():
        for checkpoint in places(state, bomb()):
            for legacy in (False, True):
                path.write_bytes(hostile.saved(checkpoint, legacy))
                begun = time.monotonic()
                with hostile.little_memory(2**28):
                    refused(model, path)
                slowest = max(slowest, time.monotonic() - begun)
                cases += 1
    raw = hostile.saved(state)
    for factor in (0, 2, 3, 50, 1000):
        path.write_bytes(hostile.claims(raw, factor))
        refused(model, path)
        cases += 1
    assert slowest < 10
    record(
        'bombs: calls, encodings, shapes and nested values that unfold to gigabytes or take for ever; storages that '
        'claim another size',
        cases,
        f'refused with 256 MB to spare, in {slowest:.1f} s at most',
    )


def test_archives(tmp_path, record):
    model, path = Classifier(), tmp_path / 'archive.pth'
    kinds = hostile.archives(hostile.saved(hostile.run_state(model)))
    for data in kinds.values():
        path.write_bytes(data)
        with hostile.little_memory(2**28):
            refused(model, path)
    record(f'files of another kind: {", ".join(kinds)}', len(kinds), 'refused')


def test_damage(tmp_path, record):
    raw = hostile.saved(hostile.run_state(Classifier()))
    seeds = range(800)
    found = assert_damage_is_found(tmp_path, raw, seeds)
    counted = ', '.join(f'{kind} {count}' for kind, count in sorted(found.items()))
    record(
        'damage by chance: cut off, bits flipped, blocks zeroed, added or taken out',
        len(seeds),
        f'refused ({counted}), or loaded with the very same weights',
    )


def test_old_format_cut_off(tmp_path, record):
    model, path = Classifier(), tmp_path / 'old.pth'
    raw = hostile.saved(hostile.run_state(model), legacy=True)
    path.write_bytes(raw)
    load_from_file(str(path))
    places = np.random.default_rng(0).integers(0, len(raw), 300)
    for place in places:
        path.write_bytes(raw[:place])
        refused(model, path)
    record('the format before PyTorch 1.6, cut off at random places', len(places), 'refused')


def test_weights_that_fit_in_part(tmp_path, record):
    cases, path = 0, tmp_path / 'weights.pth'
    for build in NETWORKS:
        model = build()
        convs = [name for name, value in model.named_parameters() if value.ndim == 4]
        for first in (convs[1], convs[-1]):
            for fault, state in hostile.weights(model.state_dict(), first).items():
                path.write_bytes(hostile.saved(state))
                model.init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
                before = copies(model)
                model._is_init = False
                with pytest.raises(UsageError):
                    model.init_weights()
                with pytest.raises(UsageError, match='weights.pth'):
                    check_fits(model, str(path))
                assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items()), fault
                cases += 1
    record(
        "our backbones' `Pretrained`: wrong shapes, kinds of tensors, missing halves, forged versions and attributes",
        cases,
        'refused, weights untouched',
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
            with pytest.raises(UsageError, match='does not fit'):
                model.init_weights()
            assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
            cases += 1
    record('checkpoints of another architecture', cases, 'refused, weights untouched')


def test_the_tools(tmp_path, record):
    cases = 0
    attacks = ['code', 'code through getattr', 'bomb', 'another shape', 'cut off']
    with small_run(tmp_path):
        for attack in attacks:
            path = spoil(tmp_path, attack)
            for way in WAYS:
                if (attack, way) != ('another shape', 'load_from'):  # a new run takes what fits
                    assert_refused(tmp_path, path, way)
                    cases += 1
        for attack in ('weights alone', 'optimizer of another'):
            assert_refused(tmp_path, spoil(tmp_path, attack), '--resume')
            cases += 1
    record(
        '`tools/train.py --resume`, `load_from` and `tools/test.py`, with a real checkpoint that was tampered with',
        cases,
        'one line with the name of the file, nothing trained',
    )
