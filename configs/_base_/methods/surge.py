# SURGE (arXiv 2605.10989): DPGC with the Adaptive Gradient Scaler.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(eta=0.1))
custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1)]
