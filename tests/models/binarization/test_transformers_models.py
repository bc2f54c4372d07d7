"""A binary model of transformers comes back binary from ``save_pretrained`` and ``from_pretrained``."""

import copy
import json
import sys

import pytest
import torch

import surge_mm
from surge_mm.layers import BinaryLayer
from surge_mm.ops import STESign

transformers = pytest.importorskip('transformers')
VIT = dict(hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2)


def vit(cls='ViTForImageClassification'):
    config = transformers.ViTConfig(image_size=32, patch_size=16, num_labels=5, **VIT)
    return getattr(transformers, cls)(config)


def resnet():
    shape = dict(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type='basic')
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(num_labels=5, **shape)
    )


def binary_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, BinaryLayer)]


def output(model):
    with torch.no_grad():
        images = torch.linspace(-2, 2, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
        out = model.eval()(images)
        return out.logits if 'logits' in out else out.last_hidden_state


@pytest.fixture(autouse=True)
def registered():
    surge_mm.register_transformers()


@pytest.mark.parametrize('make', [vit, resnet])
@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(binary=dict(compensator=None)),
        dict(binary=dict(activation=dict(type='RSign'), weight=dict(type='ReCU'))),
        dict(binary=dict(compensator=dict(eta=0.5, frozen=True), pad_value=1)),
        dict(binary_act_cfg=dict(type='PReLU')),
    ],
    ids=str,
)
def test_a_saved_model_comes_back_binary(make, arguments, tmp_path) -> None:
    model = make()
    surge_mm.binarize(model, **arguments)
    for path in (tmp_path / 'first', tmp_path / 'second'):
        names, state = binary_names(model), model.state_dict()
        model.save_pretrained(path)
        loaded, info = type(model).from_pretrained(path, output_loading_info=True)
        assert not any(info.values()), info
        assert binary_names(loaded) == names and names
        assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
        assert torch.equal(output(loaded), output(model))
        assert not hasattr(model.config, 'quantization_config')
        model = loaded
    surge_mm.set_progress(model, 0.5)
    model.train()(torch.randn(2, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
    for name, parameter in model.named_parameters():
        if 'pooler' not in name and parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name


def test_layers_that_were_kept_stay_in_full_precision(tmp_path) -> None:
    model = vit()
    first = next(name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear))
    model.get_submodule(first).requires_grad_(False)
    surge_mm.binarize(model)
    names = binary_names(model)
    assert names and first not in names
    model.save_pretrained(tmp_path)
    assert binary_names(type(model).from_pretrained(tmp_path)) == names


def test_a_part_that_was_binarized_alone_is_stored_with_the_model(tmp_path) -> None:
    model = vit()
    surge_mm.binarize(model.vit)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert binary_names(loaded) == binary_names(model)
    assert torch.equal(output(loaded), output(model))


def test_a_model_is_loaded_without_its_head_and_back(tmp_path) -> None:
    model = vit()
    surge_mm.binarize(model)
    model.save_pretrained(tmp_path / 'head')
    body = transformers.AutoModel.from_pretrained(tmp_path / 'head')
    assert [f'vit.{name}' for name in binary_names(body)] == binary_names(model)
    body.save_pretrained(tmp_path / 'body')
    again = type(model).from_pretrained(tmp_path / 'body')
    assert binary_names(again) == binary_names(model)
    assert torch.equal(output(again.vit), output(model.vit))


def test_models_in_full_precision_with_the_same_config_object_stay_so(tmp_path) -> None:
    model = vit()
    teacher = type(model)(model.config)
    surge_mm.binarize(model)
    model.save_pretrained(tmp_path / 'student')
    teacher.save_pretrained(tmp_path / 'teacher')
    surge_mm.to_float(model).save_pretrained(tmp_path / 'float')
    for name in ('teacher', 'float'):
        assert not binary_names(type(model).from_pretrained(tmp_path / name))


def test_a_process_that_did_not_register_warns(tmp_path, monkeypatch) -> None:
    from transformers.quantizers import auto

    model = vit()
    surge_mm.binarize(model, binary=dict(compensator=None))
    model.save_pretrained(tmp_path)
    monkeypatch.delitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, 'surge_mm')
    warned = []
    monkeypatch.setattr(auto.logger, 'warning', warned.append)
    type(model).from_pretrained(tmp_path)
    assert 'Unknown quantization type, got surge_mm' in warned[0]


def test_binarize_while_loading_is_an_error_that_names_binarize(tmp_path) -> None:
    from surge_mm.models.binarization.transformers_models import SurgeConfig

    model = vit()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'call surge_mm.binarize\(model\)'):
        type(model).from_pretrained(tmp_path, quantization_config=SurgeConfig({}, {}, {}))


def test_a_copy_of_a_loaded_model_is_binary(tmp_path) -> None:
    model = resnet()
    surge_mm.binarize(model)
    model.save_pretrained(tmp_path)
    loaded = copy.deepcopy(type(model).from_pretrained(tmp_path))
    assert torch.equal(output(loaded), output(model))


class OwnSign(STESign):
    """A surrogate gradient of the user."""


def test_classes_of_the_user_are_stored_by_name(tmp_path) -> None:
    model = resnet()
    surge_mm.binarize(model, binary=dict(activation=dict(type=OwnSign)))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    layers = [module for module in loaded.modules() if isinstance(module, BinaryLayer)]
    assert layers and {type(layer.activation) for layer in layers} == {OwnSign}


@pytest.mark.parametrize(
    'part, key, kind',
    [
        ('layers', 'activation', 'antigravity.Sign'),
        ('layers', 'compensator', 'antigravity.Scale'),
        ('activations', None, 'os.system'),
    ],
)
def test_a_config_from_elsewhere_runs_and_imports_nothing(part, key, kind, tmp_path) -> None:
    model = resnet()
    surge_mm.binarize(model)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    for settings in config['quantization_config'][part].values():
        (settings[key] if key else settings).update(type=kind, command='touch marker')
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"'{kind}'.* of config.json"):
        type(model).from_pretrained(tmp_path)
    assert 'antigravity' not in sys.modules
