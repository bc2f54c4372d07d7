# DeiT-small (arXiv 2012.12877) with binary attention projections and MLPs; patches and classifier stay.
_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

custom_imports = dict(imports=['surge_mm'], allow_failed_imports=False)
model = dict(type='surge_mm.Binarized', base_type='mmpretrain.ImageClassifier')
