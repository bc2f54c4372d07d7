"""Networks whose structure suits binary layers."""

from .backbones import SurgeResNet

__all__ = ['SurgeResNet']
