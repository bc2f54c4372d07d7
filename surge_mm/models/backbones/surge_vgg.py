"""VGG-Small, the network without shortcuts in comparisons on CIFAR-10."""

from __future__ import annotations

from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.models.backbones.residual_blocks import build_activation
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Positive, checked


@MODELS.register_module()
class SurgeVGGSmall(SurgeBackbone):
    """VGG-Small for CIFAR: six 3x3 convolutions, of which all but the first are binary, without shortcuts.

    The convolutions have 128, 128, 256, 256, 512 and 512 output channels by default. Each is followed by a norm and an
    activation; every second one has 2x2 max pooling before its norm. The output is flattened, for a linear classifier.

    Source: Zhang et al., LQ-Nets, arXiv 1807.10029, in the form in which IR-Net and ReCU compare.

    Args:
        in_channels (int): Number of channels of the image. Defaults to 3.
        base_channels (int): Number of output channels of the first two convolutions. Defaults to 128.
        conv_cfg (dict, optional): Binary convolutions. None builds the full-precision network of the same structure.
            Defaults to ``dict(type='surge_mm.SurgeConv2d')``.
        norm_cfg (dict): Normalization. Defaults to ``dict(type='BN')``.
        act_cfg (dict): Activation. Defaults to ``dict(type='Hardtanh')``.
        init_cfg (dict or list[dict], optional): MMEngine's weight initialization. None selects Kaiming for
            convolutions. Defaults to None.

    Shape: ``(N, in_channels, H, W)`` to a tuple of one ``(N, 4 base_channels (H / 8) (W / 8))``: 8192 for CIFAR.

    Raises:
        UsageError: if an argument is out of range. On loading a state dict: if it is that of another network or width.
    """

    inner = r'features\.\d+\.weight'

    @checked
    def __init__(
        self,
        in_channels: Positive = 3,
        base_channels: Positive = 128,
        conv_cfg: Cfg | None = {'type': 'surge_mm.SurgeConv2d'},  # noqa: B006
        norm_cfg: Cfg = {'type': 'BN'},  # noqa: B006
        act_cfg: Cfg = {'type': 'Hardtanh'},  # noqa: B006
        init_cfg: Cfg | list[Cfg] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = {'type': 'Kaiming', 'layer': 'Conv2d'}
        super().__init__(init_cfg)
        layers: list[nn.Module] = []
        channels = in_channels
        for i in range(6):
            width = base_channels * 2 ** (i // 2)
            cfg = conv_cfg if i else None
            layers.append(build_conv_layer(cfg, channels, width, 3, padding=1, bias=False))
            if i % 2:
                layers.append(nn.MaxPool2d(2))
            layers.append(build_norm_layer(norm_cfg, width)[1])
            layers.append(build_activation(act_cfg, width))
            channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.features(x).flatten(1),)
