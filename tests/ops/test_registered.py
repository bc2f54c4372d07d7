"""Binarizers and scales of one's own: their names, and what is said of a wrong class."""

import sys
from types import ModuleType

import pytest
import torch

from surge_mm import SurgeConv2d
from surge_mm.ops import ActivationBinarizer, ApproxSign, GradientScale, STESign, WeightBinarizer

SOURCE = """
import torch
from surge_mm.ops import ActivationBinarizer, GradientScale, TwoValues, WeightBinarizer

class TanhSign(ActivationBinarizer):
    def derivative(self, x):
        return 1 - torch.tanh(x).square()

class MaxSign(WeightBinarizer):
    def two_values(self, w):
        return TwoValues(w, w.abs().flatten(1).amax(1).view(-1, 1, 1, 1))
    def gradient(self, w, grad_q):
        return grad_q

class Half(GradientScale):
    def __init__(self, eta=0.5):
        self.eta = eta
    def scale(self, g_b, g_a):
        return self.eta
"""


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    for family in (ActivationBinarizer, GradientScale, WeightBinarizer):
        monkeypatch.setattr(family, 'known', dict(family.known))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a package that is not imported yet, with the classes of SOURCE in one of its modules."""
    (tmp_path / 'bnn_lab').mkdir()
    (tmp_path / 'bnn_lab' / '__init__.py').write_text('from bnn_lab import methods\n')
    (tmp_path / 'bnn_lab' / 'methods.py').write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ('bnn_lab', 'bnn_lab.methods'):
        sys.modules.pop(name, None)


def define(source, module='other_lab'):
    names = ModuleType(module).__dict__
    exec(source, names)
    return names


SETTINGS = ('activation', 'TanhSign'), ('weight', 'MaxSign'), ('compensator', 'Half')


@pytest.mark.parametrize('prefix', ['bnn_lab', 'bnn_lab.methods'])
def test_the_name_behind_its_package_or_module_is_imported_and_built(package, prefix):
    settings = {key: {'type': f'{prefix}.{name}'} for key, name in SETTINGS}
    layer = SurgeConv2d(3, 4, 3, **settings)
    layer(torch.randn(1, 3, 5, 5)).sum().backward()
    built = (layer.activation, layer.weight_binarizer, layer.scale)
    assert [f'{type(b).__module__}.{type(b).__name__}' for b in built] == [
        f'bnn_lab.methods.{name}' for _, name in SETTINGS
    ]


@pytest.mark.parametrize('key, name', SETTINGS)
def test_the_class_itself_and_its_bare_name_are_built(key, name):
    cls = define(SOURCE)[name]
    for kind in (cls, name):
        layer = SurgeConv2d(3, 4, 3, **{key: {'type': kind}})
        assert cls in {type(b) for b in (layer.activation, layer.weight_binarizer, layer.scale)}


def test_arguments_and_keys_of_the_branch_go_to_their_places():
    define(SOURCE)
    layer = SurgeConv2d(3, 4, 3, compensator={'type': 'Half', 'eta': 0.2, 'init': 'kaiming'})
    assert layer.scale.eta == 0.2 and repr(layer.scale) == 'Half(eta=0.2)'
    assert not torch.equal(layer.weight, layer.aux_weight)
    with pytest.raises(TypeError, match="Half has no argument 'etaa'; did you mean 'eta'"):
        SurgeConv2d(3, 4, 3, compensator={'type': 'Half', 'etaa': 0.2})


@pytest.mark.parametrize('key, name', SETTINGS)
def test_a_name_of_another_package_is_unknown(key, name):
    define(SOURCE)
    with pytest.raises(
        ValueError, match=f"{key}: unknown .* 'third_lab.{name}' .*third_lab.*{name}"
    ):
        SurgeConv2d(3, 4, 3, **{key: {'type': f'third_lab.{name}'}})


def test_an_unknown_name_says_how_to_add_a_class():
    with pytest.raises(
        ValueError, match=r'derives from surge_mm.ops.GradientScale; import its module'
    ):
        SurgeConv2d(3, 4, 3, compensator={'type': 'ChanelAGS'})


def test_a_module_with_an_error_shows_it(package):
    (package / 'bnn_lab' / 'methods.py').write_text('import gone_lab')
    with pytest.raises(ValueError, match="No module named 'gone_lab'"):
        SurgeConv2d(3, 4, 3, compensator={'type': 'bnn_lab.Half'})


@pytest.mark.parametrize('entry', ['', 'elsewhere', 'here'])
def test_pythonpath_is_named_only_if_the_current_folder_is_not_searched(
    entry, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = {'elsewhere': [], '': [''], 'here': [str(tmp_path)]}[entry]
    kept = [path for path in sys.path if path]
    monkeypatch.setattr(sys, 'path', [*found, *kept])
    with pytest.raises(ValueError, match="No module named 'gone_lab'") as error:
        SurgeConv2d(3, 4, 3, compensator={'type': 'gone_lab.Half'})
    assert ('PYTHONPATH=.' in str(error.value)) == (entry == 'elsewhere')


@pytest.mark.parametrize(
    'base, name, taken_by',
    [
        (ActivationBinarizer, 'STESign', 'surge_mm.ops.binarizers.activation.STESign'),
        (WeightBinarizer, 'Sign', 'surge_mm.ops.binarizers.weight.Sign'),
        (GradientScale, 'AdaptiveScale', 'surge_mm.ops.gradient_scale.AdaptiveScale'),
    ],
)
def test_a_name_that_another_class_has_is_refused_and_that_class_stays(base, name, taken_by):
    before = base.known[name]
    with pytest.raises(
        ValueError, match=f'the name {name!r} of my_lab.{name} is taken by {taken_by}'
    ):
        type(name, (base,), {'__module__': 'my_lab'})
    assert base.known[name] is before


def test_the_same_class_may_be_defined_again_as_in_a_notebook():
    first, second = (define(SOURCE)['TanhSign'] for _ in range(2))
    assert first is not second and ActivationBinarizer.find('TanhSign') is second


@pytest.mark.parametrize(
    'key, base, method',
    [
        ('activation', ActivationBinarizer, 'derivative'),
        ('weight', WeightBinarizer, 'gradient'),
        ('compensator', GradientScale, 'scale'),
    ],
)
def test_a_class_that_lacks_its_method_is_named(key, base, method):
    empty = type('Empty', (base,), {'__module__': 'my_lab'})
    with pytest.raises(ValueError, match=f'my_lab.Empty lacks {method}. Define'):
        SurgeConv2d(3, 4, 3, **{key: {'type': empty}})


def test_a_class_of_no_or_another_family_is_refused():
    for kind in (torch.nn.ReLU, STESign):
        with pytest.raises(ValueError, match='must be a subclass of surge_mm.ops.*GradientScale'):
            SurgeConv2d(3, 4, 3, compensator={'type': kind})


@pytest.mark.parametrize(
    'value, got',
    [(torch.ones(3), r'\(3,\)'), (1.0, 'float'), (torch.ones(1, 3, 1, 1), r'\(1, 3, 1, 1\)')],
    ids=str,
)
def test_a_derivative_of_a_wrong_shape_is_named(value, got):
    wrong = type('Wrong', (ApproxSign,), {'derivative': lambda self, x: value})
    layer = SurgeConv2d(3, 4, 3, activation={'type': wrong})
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    with pytest.raises(ValueError, match=rf'Wrong.derivative must .* \(2, 3, 5, 5\), got {got}'):
        layer(x).sum().backward()


def test_weights_and_their_gradient_of_a_wrong_shape_are_named():
    wrong = type(
        'Wrong',
        (WeightBinarizer,),
        {'__call__': lambda self, w: w, 'gradient': lambda self, w, g: g.mean()},
    )
    layer = SurgeConv2d(3, 4, 3, weight={'type': wrong})
    with pytest.raises(ValueError, match=r'Wrong.gradient must .* \(4, 3, 3, 3\), got \(\)'):
        layer(torch.randn(2, 3, 5, 5)).sum().backward()
    wrong.__call__ = lambda self, w: w[:1]
    with pytest.raises(
        ValueError, match=r'Wrong.__call__ must .* \(4, 3, 3, 3\), got \(1, 3, 3, 3\)'
    ):
        layer(torch.randn(2, 3, 5, 5))
