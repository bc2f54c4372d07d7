"""What ``import surge_mm`` loads, and what works with PyTorch alone."""

import subprocess
import sys
import textwrap

import pytest

import surge_mm

WITHOUT_HOSTS = """
import sys

HIDDEN = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'torchvision', 'numpy', 'cv2', 'PIL', 'scipy', 'sklearn',
          'matplotlib', 'rich', 'packaging', 'numba', 'llvmlite', 'safetensors', 'pycocotools', 'yaml'}


class Filter:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in HIDDEN:
            return None
        return self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Filter(finder) for finder in sys.meta_path]
"""


def run(code):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True
    )


def test_importing_the_package_loads_no_host_and_registers_all_that_it_has():
    result = run("""
        import sys
        import surge_mm
        heavy = {'mmdet', 'mmpretrain', 'numba', 'matplotlib', 'torchvision', 'torch._dynamo', 'mmengine.model'}
        print(sorted(heavy & set(sys.modules)))
        import torch
        from mmcv.ops import nms  # by the operators of torchvision, before and after its import
        boxes, scores = torch.tensor([[0., 0, 8, 8], [0, 0, 8, 7], [20, 20, 24, 24]]), torch.tensor([.5, .9, .7])
        found = nms(boxes, scores, 0.5)[1].tolist()
        traced = torch.jit.trace(lambda *given: nms(*given, 0.5)[1], (boxes, scores))  # imports it
        assert 'torchvision' in sys.modules and traced(boxes, scores).tolist() == found
        import torchvision
        print(found, torchvision.ops.nms(boxes, scores, 0.5).tolist())
        from mmengine.registry import HOOKS
        from mmengine.registry import MODELS as ROOT_MODELS
        from surge_mm._names import MODELS
        names = ['SurgeConv2d', 'SurgeLinear', 'RPReLU', *MODELS]
        print([name for name in names if ROOT_MODELS.get(f'surge_mm.{name}') is None])
        print(HOOKS.get('surge_mm.AdaptiveGradientScalerHook').__name__, len(names) > 12)
    """)
    assert result.stdout.splitlines()[:2] == ['[]', '[1, 2] [1, 2]'], result.stderr
    assert result.stdout.splitlines()[2:] == ['[]', 'AdaptiveGradientScalerHook True'], (
        result.stderr
    )


def test_sub_packages_and_public_names_are_attributes():
    for name in surge_mm.__all__:
        assert getattr(surge_mm, name) is not None
        assert name in dir(surge_mm)
    assert callable(surge_mm.deploy.load_packed)
    with pytest.raises(AttributeError, match="'surge_mm' has no attribute 'SurgeConv3d'"):
        surge_mm.SurgeConv3d  # noqa: B018


def test_layers_and_binarize_train_and_pack_with_torch_alone():
    result = run(
        WITHOUT_HOSTS
        + """
import torch
from torch import nn
import surge_mm
from surge_mm.layers import SurgeConv2d, SurgeLinear
from surge_mm.ops import sign

model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.PReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
reports = surge_mm.binarize(model, [dict(name='2', to=dict(weight=dict(type='ReCU')))])
print(sum(report.binary for report in reports), 'binary layers')
for layer in model:
    if isinstance(layer, SurgeConv2d) and layer.weight_gain is not None:
        layer.weight_binarizer.follow(0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x, y = torch.randn(16, 3, 12, 12), torch.randint(0, 5, (16,))
losses = []
for _ in range(10):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
model.eval().to(memory_format=torch.channels_last)
with torch.no_grad():
    trained = model(x)
    assert torch.equal(surge_mm.deploy.pack(model)(x), trained)
try:
    surge_mm.deploy.save_packed(model, 'model.safetensors')
except ValueError as error:
    assert 'safetensors and numpy must be installed' in str(error), error
print(sorted(set(sys.modules) & HIDDEN))
try:
    surge_mm.SurgeResNet
except ImportError as error:
    print(error)
"""
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert lines[:2] == ['2 binary layers', '[]']
    assert lines[2].startswith('surge_mm.SurgeResNet needs ')
    assert 'pip install "surge_mm[lite]"' in lines[2]
