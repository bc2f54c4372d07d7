"""MMDetection's SSD head with a fix for prediction."""

from mmdet.models import SSDHead as HostSSDHead

from surge_mm.registry import MODELS


@MODELS.register_module()
class SSDHead(HostSSDHead):
    """MMDetection's ``SSDHead`` with the attribute ``loss_cls`` that its ``predict`` reads.

    MMDetection 3.3 does not set this attribute, so that prediction fails: open-mmlab/mmdetection, issue 11063. The loss
    of the head does not use it.
    """

    loss_cls = None
