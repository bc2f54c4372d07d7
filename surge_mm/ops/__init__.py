"""The mathematics of SURGE: tensors in, tensors out. Needs PyTorch alone."""

from surge_mm.ops.activation_path import ActivationPath
from surge_mm.ops.binarizers.activation import (
    EDE,
    ActivationBinarizer,
    ApproxSign,
    ReSTE,
    RSign,
    STESign,
)
from surge_mm.ops.binarizers.elastic import Elastic, ElasticBinary, ElasticSign, Step
from surge_mm.ops.binarizers.scheduled import Scheduled
from surge_mm.ops.binarizers.standardized_weight import AdaBin, Libra, ReCU
from surge_mm.ops.binarizers.weight import (
    XNOR,
    BiBERT,
    BiT,
    ReAct,
    Real,
    ScaledSign,
    Sign,
    TwoValues,
    WeightBinarizer,
)
from surge_mm.ops.dual_path import DualPath, EagerDualPath
from surge_mm.ops.dual_path_spec import DualPathSpec, read_constants
from surge_mm.ops.gradient_scale import (
    AdaptiveScale,
    FixedScale,
    GradientScale,
    set_sync_group,
)
from surge_mm.ops.inference import LayerInSigns, in_signs, infer
from surge_mm.ops.linear_maps import Convolution, LinearMap
from surge_mm.ops.signs import sign
from surge_mm.ops.statistics import Statistics

__all__ = [
    'EDE',
    'XNOR',
    'ActivationBinarizer',
    'ActivationPath',
    'AdaBin',
    'AdaptiveScale',
    'ApproxSign',
    'BiBERT',
    'BiT',
    'Convolution',
    'DualPath',
    'DualPathSpec',
    'EagerDualPath',
    'Elastic',
    'ElasticBinary',
    'ElasticSign',
    'FixedScale',
    'GradientScale',
    'LayerInSigns',
    'Libra',
    'LinearMap',
    'RSign',
    'ReAct',
    'ReCU',
    'ReSTE',
    'Real',
    'STESign',
    'ScaledSign',
    'Scheduled',
    'Sign',
    'Statistics',
    'Step',
    'TwoValues',
    'WeightBinarizer',
    'in_signs',
    'infer',
    'read_constants',
    'set_sync_group',
    'sign',
]
