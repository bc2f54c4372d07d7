"""What makes the official OpenMMLab releases run on a current PyTorch without a compiler.

- ``install_mmcv_ops``: the operators that mmcv-lite lacks, served by torchvision.
- ``allow_mmengine_checkpoints``: resuming while ``torch.load`` refuses to run a checkpoint's code.
"""

from surge_mm.checkpoint.safe_globals import allow_mmengine_checkpoints
from surge_mm.compat.mmcv_ops.extension import install_mmcv_ops

__all__ = ['allow_mmengine_checkpoints', 'install_mmcv_ops']
