"""Do not merge binary branches of MMPretrain's RepVGG and MobileOne into one layer."""

from functools import wraps
from typing import Any


def keep_binary_branches(backbones: Any) -> None:
    """Make ``switch_to_deploy`` of a block an error where one of its branches is binary.

    MMPretrain builds a layer by the ``conv_cfg`` of the branches, and sets its weight to the sum of theirs. Of binary
    layers, these are the latent weights, whose sum has other signs.

    Args:
        backbones (ModuleType): ``mmpretrain.models.backbones``.
    """
    for block in (backbones.repvgg.RepVGGBlock, backbones.mobileone.MobileOneBlock):
        block.switch_to_deploy = _checked(block.switch_to_deploy)


def _checked(merge: Any) -> Any:
    @wraps(merge)
    def switch_to_deploy(self: Any) -> None:
        kinds = [type(m).__name__ for m in self.modules() if hasattr(m, 'weight_binarizer')]
        if kinds and not self.deploy:
            raise RuntimeError(
                f'switch_to_deploy: branches of {kinds[0]} cannot be merged into one layer, since a sum of binary '
                'weights is not binary. The model is unchanged. Do not call switch_to_deploy: surge_mm.deploy.pack '
                'packs the branches as they are'
            )
        merge(self)

    return switch_to_deploy
