"""Units: an operator acts on data in their own units, a field lives in model space.

    data = shift + scale·x,    a shift and a scale for each coordinate

A linear A of the data is A·diag(scale) of x, and measures y - A·shift. A nonlinear g(B·data) is g(B·diag(scale)·x + B·shift):
its inner part is linear again, the constant is added to u, and y stays as it is. The noise does not change in either case.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators.base import NoiseStd, Operator, Shape
from scorefield.shapes import PerSample, Sample


class InUnits(Operator):
    """An operator of data, as one of x in model space.

    Attributes:
        operator: of the data.
        scale, shift: of one sample, data = shift + scale·x.
        offset: B·shift, the constant part of u: `operator.inner` of the shift. A linear operator leaves it out.

    >>> from scorefield.operators import Matrix
    >>> wrapped = InUnits(Matrix([[1.0, 1.0]]), torch.tensor([2.0, 3.0]), torch.tensor([10.0, 20.0]))
    >>> wrapped(torch.ones(1, 2)), wrapped.offset
    (tensor([[5.]]), tensor([30.], dtype=torch.float64))
    """

    def __init__(self, operator: Operator, scale: Tensor, shift: Tensor) -> None:
        """Take an operator of data, and the scale and the shift of one sample, both of its shape.

        Raises:
            ScorefieldError: a scale and a shift of different shapes, not finite, or a scale <= 0.
        """
        self.operator, self.linear = operator, operator.linear
        self.scale, self.shift = (torch.as_tensor(each).detach().double() for each in (scale, shift))
        if self.scale.shape != self.shift.shape or not bool(
            (self.shift.isfinite() & self.scale.isfinite() & (self.scale > 0)).all()
        ):
            raise ScorefieldError(
                f"got a scale of shape {tuple(self.scale.shape)} and a shift of shape {tuple(self.shift.shape)}, expected "
                "finite numbers of one sample's shape with scales > 0: take both from one normaliser"
            )
        self.offset = operator.inner(self.shift.unsqueeze(0))[0]

    def __repr__(self) -> str:
        return f"{self.operator} in model space"

    def shape_out(self, shape: Shape) -> Shape:
        if shape != tuple(self.scale.shape):
            raise ScorefieldError(f"got samples of shape {shape} for {self}, expected {tuple(self.scale.shape)}: reshape them")
        return self.operator.shape_out(shape)

    def __call__(self, x: Sample) -> Tensor:
        scaled = self.scale.to(x) * x
        return self.operator(scaled) if self.linear else self.operator(scaled + self.shift.to(x))

    @property
    def inner(self) -> Operator:
        return self if self.linear else InUnits(self.operator.inner, self.scale, self.shift)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        self._needs_linear("an adjoint")
        return self.scale.to(y) * self.operator.adjoint(y, shape)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        one = self.scale.flatten()[0]
        if bool((self.scale == one).all()):
            return self.operator.pseudo_inverse(y, shape) / float(one)
        return super().pseudo_inverse(y, shape)

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        return self.operator.log_evidence(mean if self.linear else mean + self.offset.to(mean), variance, y, noise_std)


def in_model_space(operator: Operator, y: Tensor, scales: Tensor, shifts: Tensor) -> tuple[Operator, Tensor]:
    """Return an operator of data and its measurement as those of x in model space, data = shifts + scales·x.

    Args:
        operator: of the data, in their own units.
        y: what was measured, without a batch.
        scales: of one sample, its shape; see `Normaliser.scales`.
        shifts: of one sample, its shape; see `Normaliser.shifts`.

    Returns:
        The operator of x, and y, less the measurement of the shifts where the operator is linear. The noise stays as it is.

    >>> from scorefield.operators import Matrix
    >>> in_model_space(Matrix([[1.0, 1.0]]), torch.tensor([35.0]), torch.tensor([2.0, 3.0]), torch.tensor([10.0, 20.0]))[1]
    tensor([5.], dtype=torch.float64)
    """
    wrapped = InUnits(operator, scales, shifts)
    return wrapped, y.double() - wrapped.offset.to(y.device) if wrapped.linear else y
