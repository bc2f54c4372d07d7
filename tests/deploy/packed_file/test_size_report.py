"""Bytes of a packed file, counted by hand."""

from helpers.packed_files import classifier_config, trained_model

from surge_mm.analysis.complexity import model_size
from surge_mm.deploy import pack, save_packed
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.packed_file.size_report import sizes_of
from surge_mm.layers import BinaryLayer


def test_the_parts_of_a_file_are_those_counted_by_hand(tmp_path):
    cfg = classifier_config()
    model = trained_model(cfg)
    binary = [m.weight for m in model.modules() if isinstance(m, BinaryLayer)]
    weights = sum(weight.numel() for weight in binary)
    plain = cfg.copy()
    plain.model.backbone.conv_cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': None}
    state = trained_model(plain).state_dict()
    in_float = model_size(model).float_bytes
    assert in_float == sum(value.numel() * value.element_size() for value in state.values())

    save_packed(pack(model), tmp_path / 'a.safetensors', cfg)
    sizes = sizes_of(read_packed(tmp_path / 'a.safetensors'), model, in_float)
    assert sizes['total'] == (in_float, (tmp_path / 'a.safetensors').stat().st_size)
    assert [sum(column) for column in zip(*sizes.values(), strict=True)] == [
        2 * total for total in sizes['total']
    ]
    # filters of 16 x 9 weights and more: no bits are left over
    assert sizes['binary weights'] == (4 * weights, weights // 8)
    # scale, two of the batch norm and the slope of the PReLU, a filter
    _, after = sizes['numbers per filter: scales, norms, activations']
    assert after == 4 * 4 * sum(map(len, binary))
    real = {
        name: value
        for name, value in state.items()
        if name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.act1', 'head'))
    }
    assert sizes['real layers'] == (sum(value.nbytes for value in real.values()),) * 2
