# DeiT-small (arXiv 2012.12877) with the recipe of MMPretrain.
_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

custom_imports = dict(imports=['surge_mm'], allow_failed_imports=False)
