"""Safe checkpoints, exact resumption and the guard in recipes of a host, by one line."""

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS

from surge_mm import ExactResumeHook, NonFiniteGuardHook, SafeCheckpointHook, SafeRunner

RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'


def build(tmp_path, *lines):
    text = [f'_base_ = [{RTMDET!r}]', "custom_imports = dict(imports=['surge_mm'])", *lines]
    (tmp_path / 'mine.py').write_text('\n'.join(text))
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.work_dir, cfg.model.backbone.init_cfg = str(tmp_path), None
    cfg.launcher = 'none'
    return RUNNERS.build(cfg)  # as MMDetection's tools/train.py does


def names(runner):
    return [type(hook).__name__ for hook in runner.hooks]


def test_one_line_adds_the_hooks_and_keeps_those_of_the_recipe(tmp_path):
    runner = build(tmp_path, "runner_type = 'surge_mm.SafeRunner'")
    assert type(runner) is SafeRunner
    plain = build(tmp_path)
    added = {'ExactResumeHook', 'NonFiniteGuardHook', 'SafeCheckpointHook'}
    assert {'EMAHook', 'PipelineSwitchHook', 'CheckpointHook'} <= set(names(plain))
    assert sorted(names(runner)) == sorted({*names(plain), *added} - {'CheckpointHook'})
    (saving,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert (saving.interval, saving.max_keep_ckpts) == (10, 3)  # those of the recipe
    by_hand = build(
        tmp_path,
        'default_hooks = dict(',
        "    checkpoint=dict(type='surge_mm.SafeCheckpointHook'),",
        "    exact_resume=dict(type='surge_mm.ExactResumeHook'),",
        "    guard=dict(type='surge_mm.NonFiniteGuardHook'),",
        ')',
    )
    assert names(runner) == names(by_hand)


@pytest.mark.parametrize('default_hooks', ['None', "dict(logger=dict(type='LoggerHook'))"])
def test_without_settings_of_checkpoints_one_is_saved_after_each_epoch_as_by_the_runner(
    default_hooks, tmp_path
):
    lines = f'default_hooks = dict(_delete_=True, **({default_hooks} or {{}}))'
    intervals = []
    for line in ('', "runner_type = 'surge_mm.SafeRunner'"):
        hooks = build(tmp_path, line, lines).hooks
        (saving,) = (hook for hook in hooks if isinstance(hook, CheckpointHook))
        intervals.append((saving.interval, saving.by_epoch))
    assert intervals == [(1, True), (1, True)]


def test_hooks_that_the_config_has_are_not_added_again(tmp_path):
    runner = build(
        tmp_path,
        "runner_type = 'surge_mm.SafeRunner'",
        'default_hooks = dict(',
        "    checkpoint=dict(type='surge_mm.SafeCheckpointHook', interval=7),",
        "    mine=dict(type='surge_mm.NonFiniteGuardHook', patience=7),",
        ')',
        "custom_hooks = [*_base_.custom_hooks, dict(type='surge_mm.ExactResumeHook')]",
    )
    for kind in (ExactResumeHook, NonFiniteGuardHook, SafeCheckpointHook, CheckpointHook):
        assert len([hook for hook in runner.hooks if isinstance(hook, kind)]) == 1
    (guard,) = (hook for hook in runner.hooks if isinstance(hook, NonFiniteGuardHook))
    assert guard.patience == 7


def test_a_checkpoint_hook_that_the_config_leaves_out_stays_out(tmp_path):
    runner = build(
        tmp_path,
        "runner_type = 'surge_mm.SafeRunner'",
        'default_hooks = dict(checkpoint=None)',
    )
    assert not [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
