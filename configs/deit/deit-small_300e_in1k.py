_base_ = '../_base_/recipes/deit-small_300e_in1k.py'
