"""Composition: what one operator leaves, the next one measures."""

from __future__ import annotations

import itertools

from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators.base import NoiseStd, Operator, Shape
from scorefield.operators.identity import Identity
from scorefield.shapes import PerSample, Sample


class Compose(Operator):
    """y = H_n(... H_2(H_1(x))): the first of the operators is applied first, and only the last may be nonlinear.

    >>> from scorefield.operators import Blur, Downsample
    >>> Compose(Blur(1.0), Downsample(2)).shape_out((1, 8, 8))
    (1, 4, 4)
    """

    def __init__(self, *operators: Operator) -> None:
        """Take the operators in the order in which they act.

        Raises:
            ScorefieldError: none, or a nonlinear one that is not the last.
        """
        parts: list[Operator] = []
        for each in operators:
            parts.extend(each.operators if isinstance(each, Compose) else (each,))
        self.operators: tuple[Operator, ...] = tuple(parts)
        if not self.operators:
            raise ScorefieldError("got no operators to compose, expected at least one: for example Compose(Blur(1.0))")
        for each in self.operators[:-1]:
            if not each.linear:
                raise ScorefieldError(f"got {each}, which is not linear, before another operator, expected it last: move it")
        self.linear, self.rounds = self.operators[-1].linear, self.operators[-1].rounds

    def __repr__(self) -> str:
        return " then ".join(map(repr, self.operators))

    def shape_out(self, shape: Shape) -> Shape:
        return self._shapes(shape)[-1]

    def __call__(self, x: Sample) -> Tensor:
        return self.operators[-1](self._before(x))

    def noisy(self, x: Sample, noise: Tensor | float) -> Tensor:
        return self.operators[-1].noisy(self._before(x), noise)

    def unrounded(self, x: Sample) -> Tensor:
        return self.operators[-1].unrounded(self._before(x))

    def holds_noise(self, y: Tensor) -> Tensor:
        return self.operators[-1].holds_noise(y)

    @property
    def inner(self) -> Operator:
        return self if self.linear else Compose(*self.operators[:-1], self.operators[-1].inner)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        self._needs_linear("an adjoint")
        for operator, before in zip(reversed(self.operators), reversed(self._shapes(shape)[:-1]), strict=True):
            y = operator.adjoint(y, before)
        return y

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.operators[0].pseudo_inverse(y, shape) if len(self.operators) == 1 else super().pseudo_inverse(y, shape)

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        return self.operators[-1].log_evidence(mean, variance, y, noise_std)

    def shapes_of_file(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shapes of a file of what the last operator measures."""
        return self.operators[-1].shapes_of_file(self._shapes(shape)[-2])

    def measurement_of(self, data: Tensor, shape: Shape) -> Tensor:
        """Return the y that a person's file holds: what the last operator makes of it, where it was not applied yet."""
        return self.operators[-1].measurement_of(data, self._shapes(shape)[-2])

    def _before(self, x: Sample) -> Tensor:
        """Return what the last operator is given."""
        for operator in self.operators[:-1]:
            x = operator(x)
        return x

    def _shapes(self, shape: Shape) -> list[Shape]:
        """Return the shape before every operator, and that of y."""
        return list(itertools.accumulate(self.operators, lambda before, operator: operator.shape_out(before), initial=shape))


def compose(*operators: Operator) -> Operator:
    """Return the composition of operators, without those that do nothing: one operator alone is itself.

    >>> compose(Identity(), Identity())
    Identity()
    """
    acting = [each for each in operators if not isinstance(each, Identity)]
    return Compose(*acting) if len(acting) > 1 else acting[0] if acting else Identity()
