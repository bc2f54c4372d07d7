"""A network with every kind of layer that rules name."""

import mmcv.cnn
import torch
from torch import nn

from surge_mm.layers import BinaryLayer


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, (3, 3), padding=1, padding_mode='reflect')
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Network(nn.Module):
    """Every kind of layer that rules speak of."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 16, 1)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.tower = mmcv.cnn.ConvModule(16, 16, 3, padding=1, norm_cfg={'type': 'BN'})
        self.bbox_head = nn.ModuleDict(
            {
                'tower': mmcv.cnn.ConvModule(16, 16, 3, padding=1),
                'retina_cls': nn.Conv2d(16, 18, 3, padding=1),
            }
        )
        self.names = nn.Embedding(7, 300)
        self.wide = nn.Linear(300, 256)
        self.narrow = nn.Linear(256, 5)

    def forward(self, x):
        x = self.point(self.depthwise(self.block(self.first(x))))
        x = self.tower(self.up(x))
        x = self.bbox_head['retina_cls'](self.bbox_head['tower'](x))
        words = self.names(torch.arange(7))
        return x.mean() + self.narrow(self.wide(words)).sum()


def binary_names(model):
    return {name for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
