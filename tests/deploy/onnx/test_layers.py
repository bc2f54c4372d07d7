"""Binary layers in ONNX's operators, run by ONNX Runtime, against the layers of training."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import surge_mm
from surge_mm.deploy.onnx.export import export_onnx

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')
SHIFT, TWO, REAL = {'type': 'RSign'}, {'type': 'AdaBin'}, {'type': 'Real'}
BINARIZERS = ['Sign', 'ScaledSign', 'XNOR', 'ReAct', 'Libra', 'ReCU', 'AdaBin']
WINDOWS = {
    'one pixel around': {'padding': 1},
    'stride, two rows around': {'padding': (2, 1), 'stride': (2, 1)},
    'same, dilated': {'padding': 'same', 'dilation': (1, 2)},
    'same, an even kernel': {'padding': 'same', 'kernel_size': 4, 'weight': TWO},
    'groups': {'padding': 1, 'groups': 3, 'weight': TWO},
    'shifted': {'padding': (0, 2), 'kernel_size': (2, 3), 'activation': SHIFT, 'weight': TWO},
}
AROUND = {
    **{f'of {value}': {'pad_value': value} for value in (0, 1, -1)},
    **{mode: {'padding_mode': mode} for mode in ('reflect', 'replicate', 'circular')},
}


def both(layer, tmp_path, shape=(9, 8)):
    """Return the output of the layer, and its ONNX file."""
    torch.manual_seed(0)
    layer.eval()
    with torch.no_grad():
        for module in layer.modules():
            for learned in ('activation_shift', 'weight_gain', 'bias'):
                if getattr(module, learned, None) is not None:
                    getattr(module, learned).normal_()
        x = torch.randn(4, 3, *shape)
        expected = layer(x).numpy()
    export_onnx(layer, tmp_path / 'layer.onnx', shape)
    session = onnxruntime.InferenceSession(
        str(tmp_path / 'layer.onnx'), providers=['CPUExecutionProvider']
    )
    return expected, session.run(None, {'images': x.numpy()})[0]


@pytest.mark.parametrize('around', AROUND)
@pytest.mark.parametrize('window', WINDOWS)
def test_every_padding_and_geometry_gives_equal_outputs(window, around, tmp_path):
    settings = {'kernel_size': 3, **WINDOWS[window], **AROUND[around]}
    np.testing.assert_array_equal(*both(surge_mm.SurgeConv2d(3, 6, **settings), tmp_path))


@pytest.mark.parametrize('weight', BINARIZERS)
def test_every_binarizer_gives_equal_outputs_from_int8_signs(weight, tmp_path):
    layer = surge_mm.SurgeConv2d(3, 6, 3, padding=1, weight={'type': weight})
    np.testing.assert_array_equal(*both(layer, tmp_path))
    (signs,) = [
        onnx.numpy_helper.to_array(one)
        for one in onnx.load(tmp_path / 'layer.onnx').graph.initializer
        if one.data_type == onnx.TensorProto.INT8
    ]
    assert signs.shape == (6, 3, 3, 3)
    assert set(np.unique(signs)) == {-1, 1}


def test_real_weights_give_the_outputs_up_to_rounding(tmp_path):
    layer = surge_mm.SurgeConv2d(3, 6, 3, padding=1, weight=REAL)
    np.testing.assert_allclose(*both(layer, tmp_path), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('settings', [{}, {'activation': SHIFT, 'weight': TWO}])
@pytest.mark.parametrize('flat', [True, False])
def test_a_linear_layer_gives_equal_outputs(settings, flat, tmp_path):
    layer = surge_mm.SurgeLinear(3 * 9 * 8 if flat else 8, 5, **settings)
    model = nn.Sequential(nn.Flatten(), layer) if flat else nn.Sequential(layer)
    np.testing.assert_array_equal(*both(model, tmp_path))
