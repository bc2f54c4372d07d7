r"""Activation binarizers: sign, and the surrogates for its derivative.

They compute :math:`Q_x(x) = \mathrm{sign}(x)`; RSign adds a learned shift to x first. The derivative of sign is zero
almost everywhere, so training uses a surrogate derivative, in which the binarizers differ::

    STESign                     ApproxSign
    1 |    ________             2 |       /\
      |   |        |              |      /  \
    0 |___|        |___         0 |_____/    \_____
         -1   0    1               -1    0    1

Three controls change the surrogate derivative of any of them: ``gain``, ``floor`` and ``window``, keys of the same
dict. :meth:`ActivationBinarizer.surrogate` has their formula.

A binarizer of your own is a class with a ``derivative``, in a module of yours; docs/own_methods.md has an example. Do
not override ``__call__``: values without a ``sign_form`` cannot be packed. CONTRIBUTING.md lists the steps for this
package.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from surge_mm.ops.binarizers.error_decay import ErrorDecay
from surge_mm.ops.binarizers.scheduled import Scheduled
from surge_mm.ops.gradient_scale import norm
from surge_mm.ops.registered import Registered, check_shape
from surge_mm.ops.signs import sign
from surge_mm.utils.argument_checks import Fraction, Within, checked, matches
from surge_mm.utils.suggestions import argument_names

A = TypeVar('A', bound='ActivationBinarizer')
PositiveFloat32 = Annotated[
    float, Within(torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max)
]


class SignForm(NamedTuple):
    """Values of an activation binarizer in signs: ``Q_x(x) = factor (sign(x - threshold) + level)``.

    Attributes:
        factor (Tensor, optional): 0-dimensional; None for 1.
        threshold (Tensor, optional): 0-dimensional; None for 0.
        level (int): 0 or 1. Defaults to 0.
    """

    factor: Tensor | None = None
    threshold: Tensor | None = None
    level: int = 0


class ActivationBinarizer(Registered):
    """Base class of the activation binarizers.

    Attributes:
        learned_shift (bool): Whether the layer adds a learned shift per input channel, which starts at 0, before this
            binarizer: ``Q_x(x + b)``. The input of the auxiliary branch is x itself.
        learned_scale (bool): Whether the values have a learned scale alpha, one number per layer: those of
            :class:`surge_mm.ops.Elastic`.
        surrogate_gain (float, optional): ``gain`` of :meth:`control`, as the next three. None for 1.
        surrogate_floor (float, optional): None for 0.
        surrogate_window (str, optional): None for the window of the binarizer.
        surrogate_k (float): Factor of the window ``'rms'``.
    """

    family = 'activation'
    controls = ('gain', 'floor', 'window', 'k')
    learned_shift: ClassVar[bool] = False
    learned_scale: ClassVar[bool] = False
    surrogate_gain: float | None = None
    surrogate_floor: float | None = None
    surrogate_window: str | None = None
    surrogate_k: float = 1.0

    @classmethod
    def build(cls: type[A], cfg: dict[str, Any]) -> A:
        """Build the binarizer ``cfg['type']``, with the other keys as its arguments, or as those of :meth:`control`.

        Args:
            cfg (dict): Such as ``dict(type='STESign', window='rms', k=2)``.

        Raises:
            ValueError: as :meth:`Registered.build` and :meth:`control`.
            TypeError: if neither has one of the arguments.
        """
        plain = cls.without_controls(cfg)
        binarizer = super().build(plain)
        try:
            binarizer.control(**{key: cfg[key] for key in cfg if key not in plain})
        except ValueError as error:
            raise ValueError(f'activation={cfg!r}: {error}') from error
        return binarizer

    @classmethod
    def without_controls(cls, cfg: Any) -> Any:
        """Return ``cfg`` without the keys of :meth:`control`, on which the values of a binarizer do not depend.

        Args:
            cfg (dict): As for :meth:`build`. Other values, and dicts of other classes, are returned as they are.
        """
        found = cls.find(cfg.get('type')) if isinstance(cfg, Mapping) else None
        if found is None:
            return cfg
        own = argument_names(found)
        return {key: value for key, value in cfg.items() if key in own or key not in cls.controls}

    @classmethod
    def for_inference(cls, cfg: Any) -> Any:
        """Return ``cfg`` with a built-in binarizer of the same values in place of one of the user.

        Args:
            cfg (dict): As for :meth:`build`. Other values, dicts of classes of this package, and those of classes whose
                values are no signs are returned as they are.
        """
        found = cls.find(cfg.get('type')) if isinstance(cfg, Mapping) else None
        if found is None or found.__module__.startswith('surge_mm.'):
            return cfg
        if found.__call__ is not ActivationBinarizer.__call__:
            return cfg
        return {'type': 'RSign' if found.learned_shift else 'STESign'}

    def control(
        self,
        gain: float | None = None,
        floor: Fraction | None = None,
        window: Literal['rms'] | None = None,
        k: float | None = None,
    ) -> None:
        """Change the surrogate derivative; :meth:`surrogate` has the formula. The values Q_x(x) stay.

        Args:
            gain (float, optional): Factor of the surrogate derivative, above 0. Defaults to None: as it is.
            floor (float, optional): Lower bound of the surrogate derivative before the gain, 0 to 1. Defaults to None:
                as it is.
            window (str, optional): ``'rms'`` for a window that follows the activations. Defaults to None: as it is.
            k (float, optional): Half the width of the window ``'rms'`` in units of rms(x), above 0. Defaults to None:
                as it is, at first 1.

        Raises:
            ValueError: if a value is out of range, or ``k`` is given without a window.
        """
        for name, value in (('gain', gain), ('k', k)):
            if value is not None and not matches(value, PositiveFloat32):
                raise ValueError(f'{name}={value!r} must be a finite number above 0 in float32')
        if floor is not None and not matches(floor, Fraction):
            raise ValueError(f'floor={floor!r} must be a number in 0 to 1')
        if window not in (None, 'rms'):
            raise ValueError(f"window={window!r} must be 'rms', or None for that of the binarizer")
        if k is not None and window is None and self.surrogate_window is None:
            raise ValueError(f"k={k!r} is the width of window='rms'; give both or neither")
        given = {'gain': gain, 'floor': floor, 'window': window, 'k': k}
        for name, control in given.items():
            if control is not None:
                setattr(self, f'surrogate_{name}', control)

    def __call__(self, x: Tensor) -> Tensor:
        """Return Q_x(x), of the shape of ``x``."""
        return sign(x)

    def values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        """Return Q_x(x) for a learned scale.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): Learned scale, 0-dimensional. None for binarizers without one.
        """
        return self(x)

    def whole_values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        """Return Q_x(x) without the factor alpha.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): As for :meth:`values`.
        """
        return self(x)

    def sign_form(self, alpha: Tensor | None) -> SignForm | None:
        """Return the values in signs, as packed layers compute them; None if they are no such values.

        Args:
            alpha (Tensor, optional): As for :meth:`values`.
        """
        return SignForm() if type(self).__call__ is ActivationBinarizer.__call__ else None

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """Return the surrogate for dQ_x/dx at each element of ``x``, without the controls.

        Args:
            x (Tensor): A part of the input of Q_x, in any shape: a large input is processed in flat chunks.

        Returns:
            Tensor: Of the shape and dtype of ``x``.
        """

    def surrogate(self, x: Tensor, radius: Tensor | None) -> Tensor:
        """Return the surrogate for dQ_x/dx at ``x``, with the controls.

        With d for :meth:`derivative`, and X for all of the mini-batch at the input of Q_x::

            gain max(d(x / r), floor)          r = k rms(X) for window='rms', else 1

        With STESign and ``window='rms'`` this is the straight-through estimator clipped at ``|x| <= k rms(X)``.

        Args:
            x (Tensor): X, or a part of it. Any shape; that of the result.
            radius (Tensor, optional): r, as :meth:`radius` returns it for X.

        Raises:
            UsageError: if :meth:`derivative` returns another shape.
        """
        derivative = self.derivative(x if radius is None else x / radius)
        check_shape(self, 'derivative', derivative, x)
        if self.surrogate_floor is not None:
            derivative = derivative.clamp(min=self.surrogate_floor)
        return derivative if self.surrogate_gain is None else derivative * self.surrogate_gain

    def radius(self, x: Tensor, alpha: Tensor | None = None) -> Tensor | None:
        """Return ``r = k rms(x)`` over all elements, 0-dimensional, for ``window='rms'``; else None.

        Under DDP, the mean square is that of each rank's own batch.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): As for :meth:`values`. Defaults to None.
        """
        if self.surrogate_window is None:
            return None
        rms = norm(x) / max(x.numel(), 1) ** 0.5
        return (self.surrogate_k * rms).clamp(min=torch.finfo(x.dtype).tiny)


class STESign(ActivationBinarizer):
    """Clipped straight-through estimator: ``dQ_x/dx = 1{|x| <= 1}``.

    Source: Courbariaux et al., Binarized Neural Networks, arXiv 1602.02830.
    """

    def derivative(self, x: Tensor) -> Tensor:
        return x.abs().le_(1)  # a comparison to bool takes 5 times as long on a CPU


class ApproxSign(ActivationBinarizer):
    """Derivative of a piecewise quadratic approximation of sign: ``dQ_x/dx = max(0, 2 - 2 |x|)``.

    Source: Liu et al., Bi-Real Net, arXiv 1808.00278.
    """

    def derivative(self, x: Tensor) -> Tensor:
        return x.abs().mul_(-2).add_(2).relu_()


class RSign(ApproxSign):
    """Sign with a learned threshold per channel: ``Q_x(x) = sign(x + b)``, ``dQ_x/dx = max(0, 2 - 2 |x + b|)``.

    Source: Liu et al., ReActNet, arXiv 2003.03488.
    """

    learned_shift = True


class EDE(ErrorDecay, ActivationBinarizer):
    """Error decay estimator: ``dQ_x/dx = k t (1 - tanh^2(t x))``, ``k = max(1 / t, 1)``, t growing log-linearly.

    It starts close to the straight-through estimator and ends close to the derivative of sign.
    Source: Qin et al., IR-Net, arXiv 1909.10788.

    Args:
        t_min (float): t at the first step. Defaults to 1e-2.
        t_max (float): t at the last step. Defaults to 10.
    """

    def derivative(self, x: Tensor) -> Tensor:
        return self.decayed(x)


class ReSTE(Scheduled, ActivationBinarizer):
    """Rectified straight-through estimator: the derivative of ``sign(x) |x|^(1/o)``, o growing linearly.

    ``dQ_x/dx = (1/o) |x|^((1-o)/o)``; 0 for ``|x| > t``; for ``|x| <= m``, where the power has no bound, the slope of
    the chord, ``m^(1/o) / m``. With o = 1 this is the straight-through estimator, clipped at t.
    Source: Wu et al., Estimator Meets Equilibrium Perspective, arXiv 2308.06689.

    Args:
        o_min (float): o at the first step. Defaults to 1.
        o_max (float): o at the last step. Defaults to 3.
        t (float): ``|x|`` above which the derivative is 0. Defaults to 1.5.
        m (float): ``|x|`` below which the slope of the chord is used. Defaults to 0.1.
    """

    @checked
    def __init__(
        self, o_min: float = 1.0, o_max: float = 3.0, t: float = 1.5, m: float = 0.1
    ) -> None:
        if not 1 <= o_min <= o_max < math.inf:
            raise ValueError(
                f'o_min={o_min!r} and o_max={o_max!r} must satisfy 1 <= o_min <= o_max < inf'
            )
        if not 0 < m < t:
            raise ValueError(f'm={m!r} and t={t!r} must satisfy 0 < m < t')
        self.o_min, self.o_max, self.t, self.m = o_min, o_max, t, m

    def derivative(self, x: Tensor) -> Tensor:
        o = self.o_min + (self.o_max - self.o_min) * self.progress_tensor
        exponent = (1 - o) / o
        distance = x.abs()
        power = distance.clamp(min=self.m).pow(exponent)
        return torch.where(distance <= self.m, power, power / o) * (distance <= self.t)
