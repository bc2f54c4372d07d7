"""FCOS head with a norm for each level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmdet.models.dense_heads import FCOSHead
from mmdet.models.utils import multi_apply
from torch import Tensor, nn

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, checked


@MODELS.register_module()
class FCOSSepBNHead(FCOSHead):
    """MMDetection's ``FCOSHead`` with norms of its own for each level of the neck.

    The levels share the convolutions of the towers, as in ``RetinaSepBNHead`` and ``RTMDetSepBNHead`` of MMDetection,
    and the names of the parameters are formed alike: ``cls_convs.{level}.{i}.conv`` and ``cls_convs.{level}.{i}.bn``.
    A batch norm for each level is folded into a packed layer. A GroupNorm, which ``FCOSHead`` has by default, is not.

    Args:
        *args: Arguments of ``FCOSHead``. ``strides`` has one entry for each level.
        norm_cfg (dict, optional): Norm of the towers. None leaves it out. Defaults to ``dict(type='BN')``.
        narrow (bool): Predict by two 1x1 convolutions: ``conv_cls``, and ``conv_reg`` with 5 filters, of which the last
            predicts the centerness. Needs ``centerness_on_reg=True``. False for the three 3x3 convolutions of
            ``FCOSHead``. Defaults to False.
        **kwargs: Arguments of ``FCOSHead``.

    Shape: features ``(N, in_channels, H, W)`` of each level to the lists of ``FCOSHead``: class scores
    ``(N, num_classes, H, W)``, distances ``(N, 4, H, W)`` and centernesses ``(N, 1, H, W)``.

    Raises:
        ValueError: if ``narrow`` is set without ``centerness_on_reg``.
    """

    @checked
    def __init__(
        self,
        *args: Any,
        norm_cfg: Cfg | None = {'type': 'BN'},  # noqa: B006
        narrow: bool = False,
        **kwargs: Any,
    ) -> None:
        self.narrow = narrow
        super().__init__(*args, norm_cfg=norm_cfg, **kwargs)
        if narrow and not self.centerness_on_reg:
            raise ValueError(
                'narrow=True predicts distances and centerness by one convolution: set centerness_on_reg=True'
            )

    def _init_cls_convs(self) -> None:
        self.cls_convs = self._towers(super()._init_cls_convs, 'cls_convs')

    def _init_reg_convs(self) -> None:
        self.reg_convs = self._towers(super()._init_reg_convs, 'reg_convs')

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.narrow:
            self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 1)
            self.conv_reg = nn.Conv2d(self.feat_channels, 4 + 1, 1)
            del self.conv_centerness

    def _towers(self, build: Callable[[], None], name: str) -> nn.ModuleList:
        """Return a tower for each level, with the convolutions of the first one."""
        towers = []
        for _ in self.strides:
            build()  # sets the attribute
            towers.append(getattr(self, name))
        for tower in towers:
            for module, first in zip(tower, towers[0], strict=True):
                module.conv = first.conv
        return nn.ModuleList(towers)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the predictions for all levels.

        Args:
            x (tuple[Tensor]): Features of the levels, ``(N, in_channels, H, W)``.

        Returns:
            tuple[list[Tensor], list[Tensor], list[Tensor]]: Class scores, distances and centernesses of each level.
        """
        towers = self.cls_convs, self.reg_convs
        return multi_apply(self.forward_single, x, self.scales, self.strides, *towers)

    def forward_single(
        self,
        x: Tensor,
        scale: nn.Module,
        stride: int,
        cls_convs: nn.ModuleList,
        reg_convs: nn.ModuleList,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the predictions for one level.

        Args:
            x (Tensor): Features, ``(N, in_channels, H, W)``.
            scale (Scale): Learned factor of the distances of the level.
            stride (int): Stride of the level in pixels, the unit of the distances if ``norm_on_bbox`` is set.
            cls_convs (ModuleList): Tower of the class scores.
            reg_convs (ModuleList): Tower of the distances.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Class scores, distances and centernesses.
        """
        cls_feat = reg_feat = x
        for layer in cls_convs:
            cls_feat = layer(cls_feat)
        for layer in reg_convs:
            reg_feat = layer(reg_feat)
        distances = self.conv_reg(reg_feat)
        if self.narrow:
            distances, centerness = distances.split((4, 1), dim=1)
        else:
            centerness = self.conv_centerness(reg_feat if self.centerness_on_reg else cls_feat)
        distances = scale(distances).float()  # exp may overflow in float16
        if not self.norm_on_bbox:
            distances = distances.exp()
        else:
            distances = distances.clamp(min=0)
            if not self.training:
                distances = distances * stride
        return self.conv_cls(cls_feat), distances, centerness
