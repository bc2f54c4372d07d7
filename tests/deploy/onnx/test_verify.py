"""What the check of an ONNX file lets pass, and what it does not."""

import pytest
import torch
from torch import nn

import surge_mm
from surge_mm.deploy.onnx import export as deploy_onnx
from surge_mm.deploy.onnx.export import Network, export_onnx, outputs_of
from surge_mm.deploy.onnx.verify import check_outputs
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


class Plus(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number))

    def forward(self, x):
        return x + self.number


def after(number):
    torch.manual_seed(0)
    layers = [surge_mm.SurgeConv2d(3, 3, 1), surge_mm.SurgeConv2d(3, 3, 1)]
    return nn.Sequential(Plus(number), *layers).eval().requires_grad_(False)


def checked(number, other):
    """Check the file of a model that adds ``number`` to an image with zeros against one that adds ``other``."""
    image = torch.randn(1, 3, 9, 8)
    image[:, :, 2:5] = 0
    outputs = outputs_of(after(number), image)
    with torch.no_grad():
        names = [*outputs, 'signed_0', 'signed_1']
        file = deploy_onnx._traced(Network(after(number)), image.repeat(2, 1, 1, 1), names)
    far = (outputs['features'] - outputs_of(after(other), image)['features']).norm()
    check_outputs(file, after(other), image, outputs_of)
    return float(far / outputs['features'].norm())


def test_signs_of_numbers_that_are_0_but_for_rounding_may_differ():
    assert checked(1e-7, -1e-7) > 0.1


def test_signs_of_other_numbers_may_not_differ():
    with pytest.raises(UsageError, match='the input of 1, .* Mismatched elements: 216 / 216'):
        checked(1e-2, -1e-2)


def change_scale(layer):
    layer.scale[3] *= 1.001


def change_weight(layer):
    layer.weight[0, 0, 1, 1] *= -1


def change_border(layer):
    layer.pad_value = 1.0


@pytest.mark.parametrize('position', [2, 4])
@pytest.mark.parametrize('change', [change_scale, change_weight, change_border])
def test_a_small_error_of_one_layer_is_found_and_nothing_written(
    change, position, tmp_path, monkeypatch
):
    """Inside, where batch norm and signs come behind it, and at the end."""
    torch.manual_seed(0)
    inner = [surge_mm.SurgeConv2d(8, 8, 3, padding=1, stride=2) for _ in range(2)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), inner[0], nn.PReLU(), inner[1])

    def changed(model, signed):
        network = exported(model, signed)
        change(network[position])
        return network

    exported = deploy_onnx.exported
    export_onnx(model.eval(), tmp_path / 'right.onnx', (32, 32))
    monkeypatch.setattr(deploy_onnx, 'exported', changed)
    with pytest.raises(UsageError, match='computes another output than the model'):
        export_onnx(model, tmp_path / 'wrong.onnx', (32, 32))
    assert [path.name for path in tmp_path.iterdir()] == ['right.onnx']


def test_a_model_that_depends_on_the_number_of_images_is_detected(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = surge_mm.SurgeConv2d(3, 3, 3)

        def forward(self, x):
            return self.layer(x) + float(len(x))

    with pytest.raises(UsageError, match='computes another output than the model'):
        export_onnx(Counts().eval(), tmp_path / 'a.onnx', (9, 8))
    assert not list(tmp_path.iterdir())
