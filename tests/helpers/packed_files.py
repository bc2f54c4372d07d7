"""Small models with their configs, to be packed into files, and what is done to such files."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from surge_mm.deploy import pack, save_packed
from surge_mm.deploy.packed_file.format import read_packed, write_packed
from surge_mm.launch.runner import build_model

CONFIGS = Path(__file__).parents[2] / 'configs'
NARROW_FCOS = {
    'model.backbone.base_channels': 8,
    'model.neck.in_channels': [16, 32, 64],
    'model.neck.out_channels': 16,
    'model.bbox_head.in_channels': 16,
    'model.bbox_head.feat_channels': 16,
}
NARROW_RETINANET = {
    **NARROW_FCOS,
    'model.rules': [{'name': 'neck.*', 'type': 'Conv2d', 'to': 'keep'}],
}
STUDENT = {
    'model.backbone.base_channels': 8,
    'model.head.in_channels': 64,
}


def detector_config(**changes):
    """Return the config of a narrow detector of the demo."""
    return config_of('demo/surge_fcos-1bit_r18-light_10e_digits.py', {**NARROW_FCOS, **changes})


def classifier_config(**changes):
    return config_of('cifar10_mini/surge_resnet20-prelu_12e_cifar10-mini.py', changes)


def config_of(name, changes):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(changes)
    return cfg


def trained_model(cfg):
    """Return the model with numbers as after training."""
    torch.manual_seed(3)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight)
    return model.eval()


def packed_file(cfg, path):
    """Write the packed model of a config and return the path."""
    save_packed(pack(trained_model(cfg)), path, cfg)
    return path


def changed(path, config=None, tensors=None, target=None):
    """Write the file anew, with a right checksum, after ``config`` and ``tensors`` were called on what it holds."""
    file = read_packed(path)
    content, state = copy.deepcopy(file.config), dict(file.tensors)
    for change, value in ((config, content), (tensors, state)):
        if change:
            change(value)
    target = target or path.with_name('changed.safetensors')
    write_packed(target, content, state)
    return target


def setting(key, value):
    """Return a change of a config that sets ``key``, whose parts are keys and indices."""
    *parts, last = key.split('.')

    def change(config):
        for part in parts:
            config = config[int(part) if isinstance(config, (list, tuple)) else part]
        config[int(last) if isinstance(config, list) else last] = value

    return change
