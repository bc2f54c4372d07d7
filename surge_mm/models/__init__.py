"""Networks whose structure suits binary layers."""

from .backbones import ReActNetA, SurgeResNet, SurgeVGGSmall

__all__ = ['ReActNetA', 'SurgeResNet', 'SurgeVGGSmall']
