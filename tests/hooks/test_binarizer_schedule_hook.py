from pathlib import Path

import mmpretrain
import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_run
from helpers.hook_runs import Classifier, hook_runner
from helpers.tiny_run import tiny_runner
from helpers.tools import run_tool
from mmengine.hooks import Hook
from mmengine.runner import load_checkpoint

EPOCHS = {'by_epoch': True, 'max_epochs': 2}


class Record(Hook):
    """Record the progress of the binarizers at each iteration; stop the run at ``stop``."""

    priority = 'LOWEST'

    def __init__(self, stop=None):
        self.stop = stop
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop:
            raise KeyboardInterrupt
        self.seen.append(
            (runner.model.stem.activation.progress, runner.model.head.weight_binarizer.progress)
        )


def runner(tmp_path, record=None, activation='EDE', weight='ReCU', **settings):
    model = Classifier(activation={'type': activation}, weight={'type': weight})
    hooks = [{'type': 'surge_mm.BinarizerScheduleHook'}, *([record] if record else [])]
    return hook_runner(tmp_path, model, *hooks, **{'train_cfg': EPOCHS, **settings})


@pytest.mark.parametrize('train_cfg', [EPOCHS, {'by_epoch': False, 'max_iters': 12}])
def test_progress_runs_from_0_at_the_first_iteration_to_1_at_the_last(tmp_path, train_cfg):
    record = Record()
    runner(tmp_path, record, train_cfg=train_cfg).train()
    steps = [i / 11 for i in range(12)]
    for seen in zip(
        *record.seen, strict=True
    ):  # of the activations' and of the weights' binarizers
        assert list(seen) == pytest.approx(steps)


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, Record(stop=8)).train()
    record = Record()
    runner(tmp_path, record, resume=True).train()
    assert [both[0] for both in record.seen] == pytest.approx([i / 11 for i in range(6, 12)])


def test_a_model_without_changing_binarizers_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no binarizer .* Remove the hook'):
        runner(tmp_path, activation='STESign', weight='Sign').train()


@pytest.mark.parametrize('ema', [False, True])
def test_a_checkpoint_holds_the_progress_for_gradients_in_evaluation(tmp_path, ema):
    """As saliency maps (MMPretrain's ``vis_cam.py``) take them, with another model than that of the run."""
    tiny_runner(tmp_path, length=2, ema=ema).train()
    images = torch.randn(4, 3, 8, 8)
    gradients = []
    for progress in (None, 5 / 11, 1):  # of iteration 6 of 12
        model = tiny_run.Classifier()
        file = str(tmp_path / 'epoch_1.pth')
        checkpoint = load_checkpoint(model, file)
        for layer in (model.conv, model.head):
            for binarizer in (layer.activation, layer.weight_binarizer):
                if progress is not None:
                    binarizer.follow(progress)
        x = images.clone().requires_grad_()
        F.cross_entropy(model.eval()(x, None, 'scores'), torch.arange(4) % 3).backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    assert checkpoint['state_dict'].keys() == model.state_dict().keys()
    assert len(checkpoint['state_dict']) == len([*model.parameters(), *model.buffers()]) - 4
    loaded, same, last = gradients
    assert all(torch.equal(a, b) for a, b in zip(loaded, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(loaded, last, strict=True))


def test_training_from_a_checkpoint_needs_a_schedule_of_its_own(tmp_path):
    tiny_runner(tmp_path, length=1).train()
    model = tiny_run.Classifier()
    load_checkpoint(model, str(tmp_path / 'epoch_1.pth'))
    loss = model.train()(torch.randn(4, 3, 8, 8), torch.arange(4) % 3)['loss']
    with pytest.raises(RuntimeError, match='its progress was never set'):
        loss.backward()


def test_the_schedule_of_the_learning_rate_is_drawn_by_mmpretrains_tool(tmp_path):
    """It runs the hooks of the config with a model of its own."""
    root = Path(__file__).parents[2]
    config = root / 'configs' / 'resnet' / 'recu_resnet20_600e_cifar10.py'
    hooks = [
        "{'type': 'surge_mm.BinarizerScheduleHook'}",
        "{'type': 'surge_mm.AdaptiveGradientScalerHook'}",
    ]
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {str(config)!r}\ntrain_cfg = dict(max_epochs=2)\ncustom_hooks = [{", ".join(hooks)}]\n'
    )
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/visualization/vis_scheduler'
    words = ['mine.py', '--dataset-size', '512', '--not-show', '--save-path', 'curve.png']
    done = run_tool(str(tool), *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'curve.png').is_file()
    assert 'the model has no compensated layer' in done.stdout + done.stderr
