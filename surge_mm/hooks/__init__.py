"""Training policies as MMEngine hooks."""

from .adaptive_gradient_scaler_hook import AdaptiveGradientScalerHook
from .binarizer_schedule_hook import BinarizerScheduleHook
from .channels_last_hook import ChannelsLastHook

__all__ = ['AdaptiveGradientScalerHook', 'BinarizerScheduleHook', 'ChannelsLastHook']
