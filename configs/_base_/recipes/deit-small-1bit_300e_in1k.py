# Binarize attention projections and MLPs. Patch embedding and classifier stay in full precision.
_base_ = './deit-small_300e_in1k.py'

model = dict(type='surge_mm.Binarized', base_type='mmpretrain.ImageClassifier')
