"""Registries of the scope ``surge_mm``, children of MMEngine's root registries.

``type='surge_mm.SurgeResNet'`` resolves from the scopes of mmdet, mmpretrain and mmengine alike. The layers are
registered here. MMEngine imports the modules in ``locations``, and with them MMDetection and MMPretrain, when a name of
this scope is first looked up.
"""

from importlib import import_module
from typing import Any

from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as ROOT_RUNNERS
from mmengine.registry import WEIGHT_INITIALIZERS as ROOT_WEIGHT_INITIALIZERS
from mmengine.registry import Registry
from torch import nn

from surge_mm._names import MODELS as PUBLIC_MODELS
from surge_mm.layers import RPReLU, SurgeConv2d, SurgeLinear


class ModelRegistry(Registry):
    """Registry of models. A name of this package imports the module of that name alone, not all locations."""

    def get(self, key: str) -> Any:
        """Return the class of a name, or None.

        Args:
            key (str): The name, with or without a scope.
        """
        scope, name = self.split_scope_key(key)
        found = self.find(name) if scope in (None, self.scope) else None
        return super().get(key) if found is None else found

    def find(self, name: str) -> Any:
        """Return the class of this package that has a name; None if there is none.

        Args:
            name (str): The name, without a scope.
        """
        if name in PUBLIC_MODELS:
            import_module(PUBLIC_MODELS[name])
        return self.module_dict.get(name)


MODELS = ModelRegistry(
    'model',
    parent=ROOT_MODELS,
    scope='surge_mm',
    locations=[*dict.fromkeys(PUBLIC_MODELS.values()), 'surge_mm.deploy.packed_file.save_load'],
)
DATASETS = Registry(
    'dataset',
    parent=ROOT_DATASETS,
    scope='surge_mm',
    locations=['surge_mm.datasets.cifar', 'surge_mm.datasets.language.glue'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=ROOT_DATA_SAMPLERS,
    scope='surge_mm',
    locations=['surge_mm.datasets.language.length_batches'],
)
METRICS = Registry(
    'metric',
    parent=ROOT_METRICS,
    scope='surge_mm',
    locations=['surge_mm.datasets.language.metric'],
)
FUNCTIONS = Registry(
    'function', parent=ROOT_FUNCTIONS, scope='surge_mm', locations=['surge_mm.datasets.cifar']
)
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='surge_mm', locations=['surge_mm.hooks'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=ROOT_OPTIM_WRAPPERS,
    scope='surge_mm',
    locations=['surge_mm.runner.cpu_amp_optim_wrapper'],
)
RUNNERS = Registry(
    'runner', parent=ROOT_RUNNERS, scope='surge_mm', locations=['surge_mm.runner.safe_runner']
)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=ROOT_WEIGHT_INITIALIZERS,
    scope='surge_mm',
    locations=['surge_mm.models.hugging_face_init'],
)

for layer in (
    SurgeConv2d,
    SurgeLinear,
    RPReLU,
    nn.Hardtanh,
):  # mmcv registers PReLU, but not Hardtanh
    MODELS.register_module(module=layer)
