"""MMDetection's head of SSD, able to predict."""

from mmdet.models import SSDHead as HostSSDHead

from surge_mm.registry import MODELS


@MODELS.register_module()
class SSDHead(HostSSDHead):
    """MMDetection's ``SSDHead``, whose prediction in version 3.3 asks for a ``loss_cls`` that it never makes.

    Its loss is computed without one. Source of the defect: open-mmlab/mmdetection, issue 11063.
    """

    loss_cls = None
