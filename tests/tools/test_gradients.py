"""tools/gradients.py as a user runs it, against values written out in float64."""

import json
import re

import pytest
import torch
from helpers.gradient_net import GradientNet, assert_equal, expected_report
from helpers.tools import run_tool

CONFIG = """
default_scope = 'mmpretrain'
model = dict(type='mmengine.GradientNet', first=dict(eta=0.1), head=dict(eta=0.1))
train_dataloader = dict(batch_size=5, dataset=dict(type='mmengine.GradientPictures'), num_workers=0,
    collate_fn=dict(type='default_collate'), sampler=dict(type='DefaultSampler', shuffle=False))
train_cfg = dict(by_epoch=True, max_epochs=10)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(ags=dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.4, warmup_iters=8))
"""


def checkpoint(path, shift, iteration):
    """Save a network with other weights, as in training."""
    net = GradientNet({'eta': 0.1}, {'eta': 0.1})
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=shift)
    torch.save({'state_dict': net.state_dict(), 'meta': {'iter': iteration}}, path)
    return net


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'mine.py').write_text(CONFIG)
    return tmp_path


def adaptive(eta):
    return lambda norm_b, norm_a: eta * norm_b / (norm_a + 1e-8)


def test_each_checkpoint_has_the_values_of_the_formulas_and_the_eta_of_the_hook(folder):
    """The hook has eta 0.4 with warm-up over 8 iterations: 0.2 in iteration 4, 0.4 at the end."""
    nets = [checkpoint(folder / f'{i}.pth', shift, i) for i, shift in ((3, 0.2), (20, 0.4))]
    words = ('mine.py', '3.pth', '20.pth', '--work-dir', 'out', '--probe', 0.3)
    done = run_tool('gradients', *words, folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((folder / 'out/gradients.json').read_text())
    assert content['probe'] == 0.3
    assert [(r['checkpoint'], r['iter']) for r in content['reports']] == [
        ('3.pth', 3),
        ('20.pth', 20),
    ]
    for report, net, eta in zip(content['reports'], nets, (0.2, 0.4), strict=True):
        lam_of = {'first': adaptive(eta), 'head': adaptive(eta)}
        assert_equal(report['calls'], expected_report(net, lam_of, probe=0.3))
    last = content['reports'][-1]['calls'][2]
    assert last['layer'] == 'head' and last['call'] == 1
    for number in (last['lambda'], last['noise'], last['probe']['g_b']['predicted']):
        assert number > 0
    slope = last['probe']['g_b']['true'] / last['probe']['g_b']['predicted']
    ratios = [report['calls'][2]['weight_ratio'] for report in content['reports']]
    assert ratios[0] != ratios[1]
    values = last['cos'], slope, last['best_eta']
    assert re.search('head 1 .*' + '.*'.join(f'{value:.3g}' for value in values), done.stdout)
    assert (folder / 'out/gradients.png').read_bytes().startswith(b'\x89PNG')


def test_reports_of_the_hook_are_drawn_before_those_of_checkpoints(folder):
    checkpoint(folder / '20.pth', 0.2, 20)
    first = run_tool('gradients', 'mine.py', '20.pth', '--work-dir', 'one', folder=folder)
    assert first.returncode == 0, first.stderr[-3000:]
    words = ('mine.py', '--work-dir', 'two', '--reports', 'one/gradients.json')
    again = run_tool('gradients', *words, folder=folder)
    assert again.returncode == 0, again.stderr[-3000:]
    reports = [
        json.loads((folder / f'{n}/gradients.json').read_text())['reports'] for n in ('one', 'two')
    ]
    assert reports[0] == reports[1] and 'probe' not in reports[0][0]['calls'][0]
    pictures = [(folder / f'{name}/gradients.png').read_bytes() for name in ('one', 'two')]
    assert pictures[0] == pictures[1]


def test_reports_are_in_the_order_of_their_iterations(folder):
    for i in (1, 2, 10):
        checkpoint(folder / f'epoch_{i}.pth', 0.1 * i, i)
    words = ('mine.py', 'epoch_10.pth', 'epoch_1.pth', '--work-dir')
    first = run_tool('gradients', *words, 'one', folder=folder)
    words = ('mine.py', 'epoch_2.pth', '--reports', 'one/gradients.json', '--work-dir')
    joined = run_tool('gradients', *words, 'two', folder=folder)
    for done, name, iterations in ((first, 'one', [1, 10]), (joined, 'two', [1, 2, 10])):
        assert done.returncode == 0, done.stderr[-3000:]
        reports = json.loads((folder / name / 'gradients.json').read_text())['reports']
        assert [report['iter'] for report in reports] == iterations
        assert 'iteration 10' in done.stdout


@pytest.mark.parametrize(
    'words, message',
    [
        (['mine.py', 'no.pth'], "checkpoint 'no.pth': there is no such file"),
        (['mine.py', 'other.pth'], "'other.pth' does not match the model of the config in 1 of"),
        (
            ['plain.py', 'good.pth'],
            "config 'plain.py': the model has no layer with a branch. Add comp",
        ),
        (['no_data.py', 'good.pth'], "config 'no_data.py' has no train_dataloader"),
        (
            ['mine.py', 'good.pth', '--probe', '0'],
            'probe=0.0 must be a finite number above 0',
        ),
        (['mine.py'], 'checkpoint: give at least one, or --reports'),
        (['mine.py', '--reports', 'mine.py'], "--reports 'mine.py' must be a gradients.json"),
    ],
)
def test_bad_input_is_an_error_before_time_is_spent(folder, words, message):
    (folder / 'plain.py').write_text(
        "_base_ = './mine.py'\nmodel = dict(first=None, head=None)\ndefault_hooks = dict(ags=None)\n"
    )
    (folder / 'no_data.py').write_text("_base_ = './mine.py'\ntrain_dataloader = None\n")
    weights = checkpoint(folder / 'good.pth', 0.0, 0).state_dict()
    torch.save({'state_dict': weights | {'head.weight': torch.zeros(5, 4)}}, folder / 'other.pth')
    done = run_tool('gradients', *words, '--work-dir', 'bad', folder=folder)
    assert done.returncode == 1, done.stdout[-1000:] + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert message in last, last
    assert not (folder / 'bad').exists()
