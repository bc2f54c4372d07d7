from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import dual_path
from hypothesis import given
from hypothesis import strategies as st
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import DefaultScope
from torch import nn

from surge_mm.layers import SurgeConv2d
from surge_mm.ops import chunking


@st.composite
def geometries(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [max(1, m) + draw(st.integers(0, 4)) for m in least]
    return {
        'in_channels': groups * draw(st.integers(1, 3)),
        'out_channels': groups * draw(st.integers(1, 3)),
        'kernel_size': kernel,
        'stride': stride,
        'padding': padding,
        'dilation': dilation,
        'groups': groups,
        'bias': draw(st.booleans()),
    }, (draw(st.integers(1, 3)), size)


@given(
    geometries(),
    st.sampled_from([None, 0.03, 1.0]),
    st.sampled_from([0, 1, -1]),
    st.sampled_from(['STESign', 'ApproxSign']),
    st.sampled_from(['Sign', 'ScaledSign']),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.sampled_from([5, chunking.CHUNK]),
    st.integers(0, 2**31),
)
def test_gradients_match_autograd_of_the_formula(
    geometry, lam, pad_value, activation, weight, layout, block, seed
):
    arguments, (batch, size) = geometry
    torch.manual_seed(seed)
    conv = SurgeConv2d(
        **arguments,
        activation={'type': activation},
        weight={'type': weight},
        compensator=None if lam is None else {'scale': lam, 'init': 'kaiming'},
        pad_value=pad_value,
        dtype=torch.float64,
    )
    x = torch.randn(batch, arguments['in_channels'], *size, dtype=torch.float64) * 1.3
    leaves = [
        None if t is None else t.detach().clone().requires_grad_()
        for t in (x, conv.weight, conv.aux_weight, conv.bias)
    ]
    rows, columns = arguments['padding']
    options = (arguments['stride'], 0, arguments['dilation'], arguments['groups'])

    def padded(value):
        pads = (columns, columns, rows, rows)
        return lambda x, w: F.conv2d(F.pad(x, pads, value=value), w, None, *options)

    expected = dual_path(
        padded(0), *leaves[:3], lam, activation, weight, f_binary=padded(pad_value)
    )
    if conv.bias is not None:
        expected = expected + leaves[3].view(-1, 1, 1)
    g = torch.randn_like(expected)
    expected.backward(g)

    mine = x.clone(memory_format=layout).requires_grad_()
    out = conv(mine)
    with mock.patch.object(chunking, 'CHUNK', block):
        out.backward(g)
    close = {'rtol': 1e-10, 'atol': 1e-10}
    torch.testing.assert_close(out, expected, **close)
    for got, leaf in zip((mine, conv.weight, conv.aux_weight, conv.bias), leaves, strict=True):
        if leaf is not None:
            torch.testing.assert_close(got.grad, leaf.grad, **close)


def twins(compensator, **kwargs):
    """Return a layer with a compensator and one without, of the same weights."""
    torch.manual_seed(0)
    plain = SurgeConv2d(8, 6, 3, padding=1, compensator=None, **kwargs)
    torch.manual_seed(0)
    return plain, SurgeConv2d(8, 6, 3, padding=1, compensator=compensator, **kwargs)


@pytest.mark.parametrize('init', ['copy', 'kaiming'])
def test_forward_is_bit_identical_with_and_without_compensator(init):
    plain, compensated = twins({'eta': 0.1, 'init': init})
    x = torch.randn(4, 8, 9, 9)
    assert torch.equal(plain(x), compensated(x))


def test_the_draw_of_auxiliary_weights_leaves_the_generator_as_it_was():
    torch.manual_seed(0)
    SurgeConv2d(8, 6, 3, compensator=None)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = SurgeConv2d(8, 6, 3, compensator={'eta': 0.1, 'init': 'kaiming'})
    assert torch.equal(torch.rand(3), expected)
    second = SurgeConv2d(8, 6, 3, compensator={'eta': 0.1, 'init': 'kaiming'})
    assert not torch.equal(first.aux_weight, second.aux_weight)


def saved_storages(layer, x):
    """Bytes of the distinct storages that the layer keeps for backward, parameters not counted."""
    parameters = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(kept.values())


@pytest.mark.parametrize('pad_value', [0, 1])
@pytest.mark.parametrize('compensator', [None, {'scale': 0.1}, {'eta': 0.1}])
def test_bytes_saved_for_backward_are_those_of_the_input_once(compensator, pad_value):
    x = torch.randn(4, 8, 9, 9, requires_grad=True)
    layer = SurgeConv2d(8, 6, 3, padding=1, compensator=compensator, pad_value=pad_value)
    warmup = 0 if compensator is None else 4  # one number
    assert saved_storages(layer, x) == x.numel() * x.element_size() + warmup
    assert saved_storages(nn.Conv2d(8, 6, 3, padding=1), x) == x.numel() * x.element_size()


def test_asymmetric_same_padding_matches_the_formula():
    conv = SurgeConv2d(
        2, 3, (2, 4), padding='same', compensator={'scale': 0.5}, dtype=torch.float64
    )
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    leaf = x.detach().clone().requires_grad_()
    out = conv(x)
    expected = dual_path(
        lambda x, w: F.conv2d(x, w, None, padding='same'),
        *(leaf, conv.weight.detach(), conv.weight.detach(), 0.5, 'ApproxSign', 'ScaledSign'),
    ) + conv.bias.detach().view(-1, 1, 1)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, leaf.grad)


@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular'])
def test_other_padding_modes_see_signs_of_the_padded_input(mode):
    conv = SurgeConv2d(2, 3, 3, padding=1, padding_mode=mode)
    x = torch.randn(2, 2, 5, 6)
    signs = torch.where(x >= 0, 1.0, -1.0)
    reference = nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)
    reference.weight.data = conv.weight_binarizer(conv.weight.data)
    reference.bias.data = conv.bias.data
    torch.testing.assert_close(conv(x), reference(signs))


def test_image_without_batch_axis():
    conv = SurgeConv2d(2, 3, 3)
    x = torch.randn(2, 5, 6)
    assert torch.equal(conv(x), conv(x.unsqueeze(0))[0])


def test_channels_last_stays_and_changes_no_value():
    _, conv = twins({'eta': 0.1})
    x = torch.randn(4, 8, 9, 9)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        mine = x.clone(memory_format=memory_format).requires_grad_()
        conv.zero_grad()
        out = conv.to(memory_format=memory_format)(mine)
        out.square().mean().backward()
        assert out.is_contiguous(memory_format=memory_format)
        results.append((out, mine.grad, conv.weight.grad, conv.aux_weight.grad))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_builds_by_name_in_both_hosts():
    cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': {'scale': 0.1}}
    for scope in ('mmdet', 'mmpretrain'):
        with DefaultScope.overwrite_default_scope(scope):
            assert isinstance(build_conv_layer(cfg, 3, 4, 3), SurgeConv2d)
            module = ConvModule(3, 4, 3, padding=1, conv_cfg=cfg, norm_cfg={'type': 'BN'})
    assert isinstance(module.conv, SurgeConv2d)
    assert module(torch.randn(2, 3, 5, 5)).shape == (2, 4, 5, 5)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'compensator': {'eta': -0.1}}, 'eta=-0.1 must be a number of at least 0'),
        ({'compensator': {'scale': float('nan')}}, "'scale': nan}: .*at least 0"),
        ({'compensator': {'eta': 0.1, 'scale': 0.1}}, 'not both'),
        ({'compensator': {}}, 'neither'),
        ({'compensator': {'eta': 0.1, 'start': 'copy'}}, "unknown 'start'"),
        ({'compensator': {'eta': 0.1, 'init': 'zeros'}}, "init='zeros'"),
        ({'compensator': {'scale': 0.1, 'preserve_norm': True}}, 'preserve_norm belongs to eta'),
        ({'compensator': {'eta': 0.1, 'preserve_norm': 'yes'}}, "preserve_norm='yes'"),
        ({'compensator': {'eta': 0.1, 'tied': 2}}, r'SurgeConv2d\(3, 4, .*tied=2 must be True or'),
        ({'compensator': {'eta': 0.1, 'tied': True, 'init': 'copy'}}, 'drop init or tied'),
        ({'compensator': {'eta': 0.1, 'frozen': 'yes'}}, "frozen='yes' must be True or False"),
        ({'compensator': {'eta': 0.1, 'frozen': True, 'tied': True}}, 'drop frozen, or init and'),
        ({'compensator': {'eta': 0.1, 'frozen': True, 'init': 'copy'}}, 'drop frozen, or init and'),
        ({'compensator': {'eta': 0.1, 'dtype': 'float16'}}, "dtype='float16' must be 'bfloat16'"),
        ({'compensator': {'eta': 0.1, 'dtype': torch.bfloat16}}, r"dtype=torch.bfloat16 must be '"),
        ({'compensator': 0.1}, 'must be a dict'),
        ({'pad_value': 2}, 'pad_value=2 must be 0, 1 or -1'),
        ({'pad_value': True}, 'pad_value=True must be'),
        ({'activation': {}}, 'activation={} must be a dict with a type'),
        ({'pad_value': 1, 'padding_mode': 'reflect', 'padding': 1}, 'drop one'),
        ({'activation': {'type': 'Stesign'}}, "did you mean 'STESign'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SurgeConv2d(3, 4, 3, **kwargs)


def test_a_host_that_would_compute_with_the_latent_weight_is_refused():
    module = ConvModule(
        2,
        4,
        3,
        conv_cfg={'type': 'surge_mm.SurgeConv2d'},
        norm_cfg={'type': 'BN'},
        efficient_conv_bn_eval=True,
    ).eval()
    with pytest.raises(RuntimeError, match='efficient_conv_bn_eval=False'):
        module(torch.randn(1, 2, 5, 5))


def test_evaluation_is_exact_where_the_backend_transforms_the_convolution():
    """NNPACK, which PyTorch takes for large batches without oneDNN, computes by a transform that is not exact."""
    layer = SurgeConv2d(64, 64, 3, padding=1, bias=False).eval()
    x = torch.randn(32, 64, 16, 16)
    with torch.no_grad():
        expected = layer(x)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(layer(x), expected)
            assert torch.equal(torch.cat([layer(part) for part in x.split(8)]), expected)


@pytest.mark.parametrize('weight', ['ScaledSign', 'AdaBin', 'Real'])
def test_a_trace_holds_the_operators_of_the_inference_form(weight):
    layer = SurgeConv2d(4, 6, 3, padding=1, weight={'type': weight}).eval()
    x = torch.randn(2, 4, 8, 8)
    traced = torch.jit.trace(layer, x)  # with gradients enabled, as a caller may have them
    with torch.no_grad():
        torch.testing.assert_close(traced(x), layer(x))
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert 'aten::_convolution' in kinds
    assert not any('PythonOp' in kind for kind in kinds)


def test_mmengine_counts_the_operations_of_a_binary_layer():
    from mmengine.analysis import get_model_complexity_info

    real = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False))
    binary = nn.Sequential(SurgeConv2d.from_float(real[0]))
    flops = [get_model_complexity_info(m.eval(), (3, 32, 32))['flops'] for m in (real, binary)]
    assert flops[0] <= flops[1] <= 1.2 * flops[0]


def test_the_exporter_of_pytorch_writes_a_layer_that_onnx_runtime_computes_alike(tmp_path):
    pytest.importorskip('onnx')
    onnxruntime = pytest.importorskip('onnxruntime')
    layer = SurgeConv2d(4, 6, 3, padding=1).eval()
    x = torch.randn(2, 4, 8, 8)
    x[0, 0, 0, :4] = torch.tensor([0.0, -0.0, 0.0, -0.0])
    file = tmp_path / 'layer.onnx'
    torch.onnx.export(layer, (x,), file, dynamo=False)  # as MMDeploy does
    session = onnxruntime.InferenceSession(file.read_bytes())
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(out), layer(x), rtol=1e-5, atol=1e-5)
