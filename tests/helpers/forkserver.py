"""Processes forked from one that has imported the package and its hosts, which saves the seconds of the imports."""

import torch.multiprocessing as mp

# A fork of a process in which PyTorch has computed gradients in threads, as other tests do, cannot compute any.
mp.set_forkserver_preload(['surge_mm', 'mmdet.models', 'mmdet.datasets', 'mmdet.evaluation'])
FORKSERVER = mp.get_context('forkserver')
