import json
import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from helpers.hook_runs import Classifier, hook_runner
from mmengine.model import BaseModel
from torch import nn

from surge_mm import AdaptiveGradientScalerHook, SurgeConv2d
from surge_mm.ops import AdaptiveScale, FixedScale, GradientScale


def runner(tmp_path, hook, model=None, interval=2, epochs=2):
    torch.manual_seed(0)
    return hook_runner(
        tmp_path,
        model or Classifier(compensator={'scale': 0.7}),
        hook,
        train_cfg={'by_epoch': True, 'max_epochs': epochs},
        default_hooks={'logger': {'type': 'LoggerHook', 'interval': interval}},
    )


def scalars(tmp_path):
    (path,) = tmp_path.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_wins_over_the_layers_own_scale(tmp_path):
    run = runner(tmp_path, {'type': 'surge_mm.AdaptiveGradientScalerHook', 'eta': 0.25})
    run.train()
    assert run.model.stem.scale == AdaptiveScale(0.25)
    assert run.model.head.scale == AdaptiveScale(0.25)


def test_a_tied_branch_is_scaled_too(tmp_path):
    hook = AdaptiveGradientScalerHook(eta=0.25)
    run = runner(tmp_path, hook, Classifier(compensator={'scale': 0.7, 'tied': True}))
    run.train()
    assert run.model.head.scale == AdaptiveScale(0.25)
    lam, norm_b, norm_a = run.model.head.ags_statistics[:3].tolist()
    assert lam == pytest.approx(0.25 * norm_b / norm_a, rel=1e-5) and lam > 0


def test_logs_lambda_cosine_and_clipped_share_at_the_loggers_interval(tmp_path):
    runner(tmp_path, AdaptiveGradientScalerHook(eta=0.25)).train()
    lines = scalars(tmp_path)
    assert [line['step'] for line in lines] == [2, 4, 6, 8, 10, 12]
    for line in lines:
        assert 0 < line['ags_lambda_min'] <= line['ags_lambda_mean'] <= line['ags_lambda_max']
        assert -1 <= line['ags_cos_mean'] <= 1 and line['ags_cos_mean'] != 0
        assert 0 < line['ags_clipped_share'] < 1
        assert line['ags_nonfinite_steps'] == 0


def test_layers_that_compute_no_lambda_are_not_reported(tmp_path):
    model = Classifier(compensator={'eta': 0.1})
    model.stem.requires_grad_(False)
    hook = AdaptiveGradientScalerHook(eta=0.25)
    run = runner(tmp_path, hook, model, interval=1)
    run.train()
    last = scalars(tmp_path)[-1]
    lam = run.model.head.ags_statistics[0].item()
    assert last['ags_lambda_min'] == last['ags_lambda_max'] == pytest.approx(lam)


def test_logged_lambda_is_eta_times_the_ratio_of_norms(tmp_path):
    run = runner(tmp_path, AdaptiveGradientScalerHook(eta=0.25), interval=1)
    run.train()
    layers = (run.model.stem, run.model.head)
    lams = [(0.25 * s[1] / s[2]).item() for s in (layer.ags_statistics for layer in layers)]
    assert scalars(tmp_path)[-1]['ags_lambda_mean'] == pytest.approx(sum(lams) / 2, rel=1e-5)


class MeanRatio(GradientScale):
    """Lambda of each input channel, from means of magnitudes."""

    def __init__(self, eta=0.5):
        self.eta, self.seen = eta, []

    def scale(self, g_b, g_a):
        others = [axis for axis in range(g_b.dim()) if axis != 1]
        lam = self.eta * g_b.abs().mean(others, True) / g_a.abs().mean(others, True)
        self.seen.append(lam)
        return lam


@pytest.mark.parametrize('eta', [0.1, 0.25])
def test_a_scale_of_ones_own_stays_and_is_logged(eta, tmp_path):
    model = Classifier(compensator={'type': MeanRatio})
    model.stem.scale = FixedScale(0.7)
    hook = AdaptiveGradientScalerHook(eta=eta, warmup_iters=5)
    run = runner(tmp_path, hook, model, interval=1)
    run.train()
    assert isinstance(model.head.scale, MeanRatio)
    assert model.stem.scale == AdaptiveScale(eta)
    least, mean, largest = (
        run.message_hub.get_scalar(f'train/ags_lambda_{name}').data[0]
        for name in ('min', 'mean', 'max')
    )
    seen = [lam * min(1, (i + 1) / 5) for i, lam in enumerate(model.head.scale.seen)]
    assert len(seen) == len(mean) == 12 and seen[0].shape == (1, 8)
    stem = 2 * torch.tensor(mean) - torch.stack(seen).mean((1, 2))
    for i, lam in enumerate(seen):
        bounds = [min(stem[i], lam.min()), max(stem[i], lam.max())]
        assert [least[i], largest[i]] == pytest.approx([float(b) for b in bounds], rel=1e-4)
    (file,) = tmp_path.glob('*/*.log')
    (text,) = (line for line in file.read_text().splitlines() if 'leaves the scales of 1' in line)
    assert text.endswith(': MeanRatio(eta=0.5)')
    assert ('WARNING' in text) == (eta == 0.25)


class SharedHead(BaseModel):
    """A head over three levels: one layer used three times, or one layer each with the same weights."""

    def __init__(self, shared):
        super().__init__()
        torch.manual_seed(1)
        head = SurgeConv2d(3, 3, 3, compensator={'eta': 0.1})
        self.heads = nn.ModuleList(head if shared else deepcopy(head) for _ in range(3))
        self.unused = SurgeConv2d(3, 3, 3, compensator={'eta': 0.1})

    def forward(self, images, labels, mode='loss'):
        levels = [images, 3 * images[:, :, ::2, ::2] - 1, images.abs() - 0.3]
        scores = [head(x).mean((2, 3)) for head, x in zip(self.heads, levels, strict=True)]
        return {'loss': sum(F.cross_entropy(s * 2**i, labels) for i, s in enumerate(scores))}


def test_a_layer_used_several_times_a_step_is_reported_by_the_mean_of_its_calls(tmp_path):
    lines = {}
    for shared in (True, False):
        folder = tmp_path / str(shared)
        folder.mkdir()
        hook = AdaptiveGradientScalerHook(eta=0.25)
        runner(folder, hook, SharedHead(shared), interval=1, epochs=1).train()
        lines[shared] = scalars(folder)
        assert [line['ags_calls'] for line in lines[shared]] == [3] * 6
    first, each = lines[True][0], lines[False][0]
    for name in ('ags_lambda_mean', 'ags_cos_mean', 'ags_clipped_share'):
        assert first[name] == pytest.approx(each[name], rel=1e-5)
    assert each['ags_lambda_min'] < 0.9 * each['ags_lambda_max']  # so the last call alone differs


def test_warmup_grows_eta_linearly(tmp_path):
    hook = AdaptiveGradientScalerHook(eta=0.2, warmup_iters=8)
    run = runner(tmp_path, hook)
    factors = []
    forward = run.model.stem.forward

    def spy(x):
        factors.append(run.model.stem.ags_warmup.item())
        return forward(x)

    run.model.stem.forward = spy
    run.train()
    assert factors == pytest.approx([min(n / 8, 1) for n in range(1, 13)])


def test_override_by_name_and_longest_key_wins(tmp_path):
    keys = {'e': {'eta': 0.01}, 'head': {'eta': 0.5, 'preserve_norm': True}}
    run = runner(tmp_path, AdaptiveGradientScalerHook(eta=0.25, custom_keys=keys), epochs=1)
    run.train()
    assert run.model.stem.scale == AdaptiveScale(0.01)
    assert run.model.head.scale == AdaptiveScale(0.5, preserve_norm=True)


def test_a_bound_of_the_growth_lowers_eta_of_all_layers_by_one_factor(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('surge_mm.hooks.adaptive_gradient_scaler_hook.warn', said.append)
    keys = {'head': {'eta': 0.6}}
    hook = AdaptiveGradientScalerHook(eta=0.2, custom_keys=keys, max_growth=1.2)
    run = runner(tmp_path, hook, epochs=1)
    run.train()
    stem, head = run.model.stem.scale.eta, run.model.head.scale.eta
    assert head == pytest.approx(3 * stem)
    assert math.exp(0.35 * (stem + head)) == pytest.approx(1.2)
    (warning,) = said
    assert f'the largest from 0.6 to {head:.4g}' in warning


def test_the_bound_of_the_growth_leaves_out_layers_that_keep_the_norm(tmp_path):
    keys = {'head': {'preserve_norm': True}}
    hook = AdaptiveGradientScalerHook(eta=0.6, custom_keys=keys, max_growth=1.2)
    run = runner(tmp_path, hook, epochs=1)
    run.train()
    assert run.model.head.scale == AdaptiveScale(0.6, preserve_norm=True)
    assert math.exp(0.35 * run.model.stem.scale.eta) == pytest.approx(1.2)


def test_below_the_bound_of_the_growth_eta_is_the_one_that_was_given(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('surge_mm.hooks.adaptive_gradient_scaler_hook.warn', said.append)
    run = runner(tmp_path, AdaptiveGradientScalerHook(eta=0.1, max_growth=1.08), epochs=1)
    run.train()  # e^(0.35 * 2 * 0.1) is 1.073
    assert run.model.stem.scale == run.model.head.scale == AdaptiveScale(0.1)
    assert not said


@pytest.mark.parametrize(
    'has_units, dtype', [(True, 'bfloat16'), (False, 'bfloat16'), (False, None)]
)
def test_a_branch_in_bfloat16_is_a_warning_on_a_cpu_without_units(
    has_units, dtype, tmp_path, monkeypatch
):
    said = []
    module = 'surge_mm.hooks.adaptive_gradient_scaler_hook'
    monkeypatch.setattr(f'{module}.warn', said.append)
    monkeypatch.setattr(f'{module}.has_bfloat16_units', lambda: has_units)
    model = Classifier(compensator={'eta': 0.1, 'dtype': dtype})
    runner(tmp_path, AdaptiveGradientScalerHook(), model, epochs=1).train()
    slow = dtype == 'bfloat16' and not has_units
    assert len(said) == slow
    assert not slow or 'the branch of 2 layers, such as stem, is in bfloat16' in said[0]


def test_steps_that_are_not_finite_are_counted(tmp_path):
    model = Classifier(compensator={'eta': 0.1})
    run = runner(tmp_path, AdaptiveGradientScalerHook(eta=0.25), model, interval=1, epochs=1)
    forward = run.model.head.forward
    calls = []

    def spoil_two_steps(x):
        calls.append(0)
        with torch.no_grad():
            run.model.head.aux_weight.fill_(float('inf') if len(calls) in (2, 4) else 0.1)
        return forward(x)

    run.model.head.forward = spoil_two_steps
    run.train()
    counts = [line['ags_nonfinite_steps'] for line in scalars(tmp_path)]
    assert counts == [0, 1, 1, 2, 2, 2]
    assert all(p.isfinite().all() for p in run.model.parameters())


def test_a_model_without_compensators_is_refused_before_training(tmp_path):
    run = runner(tmp_path, AdaptiveGradientScalerHook(), Classifier(compensator=None))
    with pytest.raises(ValueError, match='no compensated layer'):
        run.train()


def test_a_key_that_matches_nothing_lists_near_names(tmp_path):
    hook = AdaptiveGradientScalerHook(custom_keys={'heed': {'eta': 0.1}})
    with pytest.raises(ValueError, match="'heed' in its name; similar names: head"):
        runner(tmp_path, hook).train()


def test_a_key_that_matches_a_scale_of_ones_own_alone_is_refused(tmp_path):
    model = Classifier(compensator={'type': MeanRatio})
    model.stem.scale = FixedScale(0.7)
    hook = AdaptiveGradientScalerHook(custom_keys={'head': {'eta': 0.2}})
    with pytest.raises(ValueError, match="built-in scale has 'head' in its name; .*: stem"):
        runner(tmp_path, hook, model).train()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        ({'eta': -0.1}, 'eta=-0.1'),
        ({'eta': '0.1'}, "eta='0.1'"),
        ({'warmup_iters': -1}, 'warmup_iters=-1'),
        ({'sync': 'yes'}, "sync='yes'"),
        ({'max_growth': 0.9}, 'max_growth=0.9'),
        ({'max_growth': 2.0, 'preserve_norm': True}, 'max_growth=2.0 .*omit one of the two'),
        (
            {'custom_keys': {'stem': 0.1}},
            "custom_keys={'stem': 0.1} must be a dict, of which each value is a dict",
        ),
        ({'custom_keys': ['stem']}, r"custom_keys=\['stem'\] must be a dict"),
        (
            {'custom_keys': {'stem': {'scale': 0.1}}},
            "unknown 'scale'.* Known: eta, preserve_norm",
        ),
        ({'custom_keys': {'stem': {'eta': -1}}}, 'eta=-1'),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveGradientScalerHook(**kwargs)
