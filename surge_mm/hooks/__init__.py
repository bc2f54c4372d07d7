"""Training policies as MMEngine hooks."""

from .adaptive_gradient_scaler_hook import AdaptiveGradientScalerHook

__all__ = ['AdaptiveGradientScalerHook']
