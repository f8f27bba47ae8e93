"""Operators: what was done to a clean x0 before it was measured, y = H(x0) + noise, noise ~ N(0, s²·I).

A linear operator A knows its adjoint Aᵀ, <Ax, y> = <x, Aᵀy>, its pseudo-inverse Aᵀ(AAᵀ)⁺, and the shapes in and out. That is
all that posterior sampling needs. The adjoint of a leaf is found by automatic differentiation where it is not written down: the
gradient of <Ax, y> in x is Aᵀy, exactly.

A nonlinear operator is H(x) = g(B·x): a linear part B, the identity by default, and a function g that works on each number of
u = B·x alone. What a sampler asks of it is the evidence of y where u is known up to a Gaussian,

    log_evidence = sum_i log of the integral of p(y_i | u) N(u; mean_i, variance_i) du

which is N(y; mean, variance + s²) where g is the identity.

The axes of a sample are (channels, *places): an image (channels, height, width), a signal (channels, length). A vector (d,)
is a signal of one channel. An operator follows the dtype and the device of x, treats every row of the batch alone, and never
writes to x or y.

A new operator is one small class in a file of this folder: `shape_out` and `__call__`, and for the command `of_text`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators.axes import Shape as Shape
from scorefield.shapes import PerSample, Sample, flat, over, total

NoiseStd = float | Tensor  # s: a number, or one for each number of y, the shape of y without the batch


class Operator(ABC):
    """A measurement of a sample: `operator(x)` is what would be measured without noise.

    Attributes:
        linear: whether it is a matrix A.
        rounds: whether it rounds after the noise was added; else the noise comes last.
    """

    linear: bool = True
    rounds: bool = False

    @abstractmethod
    def shape_out(self, shape: Shape) -> Shape:
        """Return the shape of one measurement of a sample of `shape`; raises `ScorefieldError` for one that does not suit."""

    @abstractmethod
    def __call__(self, x: Sample) -> Tensor:
        """Return the measurements of samples, `(batch, *shape)` -> `(batch, *shape_out(shape))`, in the dtype of x."""

    def noisy(self, x: Sample, noise: Tensor | float) -> Tensor:
        """Return what is measured of samples with this noise, which comes last, or is rounded with the rest."""
        return self(x) + noise

    def unrounded(self, x: Sample) -> Tensor:
        """Return what would be measured without noise and without rounding: `operator(x)`, unless it rounds."""
        return self(x)

    def holds_noise(self, y: Tensor) -> Tensor:
        """Return which numbers of measurements have noise in them, bool: all, unless something cut them to a bound."""
        return torch.ones_like(y, dtype=torch.bool)

    @property
    def inner(self) -> Operator:
        """The linear part B of H = g(B·x); a linear operator itself."""
        return self

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        """Return Aᵀy, `(batch, *shape)`, of measurements `(batch, *shape_out(shape))`."""
        self._needs_linear("an adjoint")
        tracked = torch.is_grad_enabled() and y.requires_grad  # then Aᵀy itself can be differentiated in y
        with torch.enable_grad():
            x = torch.zeros(len(y), *shape, dtype=y.dtype, device=y.device, requires_grad=True)
            (gradient,) = torch.autograd.grad(self(x), x, y, create_graph=tracked)
        return gradient

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        """Return A⁺y, the smallest x of those with the least |Ax - y|, `(batch, *shape)`, by conjugate gradients."""
        self._needs_linear("a pseudo-inverse")
        # The normal equations have a solution for every y, and steps that start at 0 stay in the range of Aᵀ. Where A is almost
        # singular they would go on for what cannot be seen in y.
        return conjugate_gradients(lambda x: self.adjoint(self(x), shape), self.adjoint(y, shape), most=500)

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        """Return log of the integral of p(y | u) N(u; mean, variance) du, summed over the numbers of y, `(batch,)`.

        Args:
            mean: of u = B·x, `(batch, *shape_out)`.
            variance: of u, >= 0, broadcasts with the mean.
            y: measurements, broadcasts with the mean.
            noise_std: s >= 0.

        Where variance and s are 0, it is the limit of s -> 0: -inf where any such y differs from u, and inf, of a density at a
        point, where all of them are equal. A nonlinear operator may have a very large number in the place of either.
        """
        spread = variance + torch.as_tensor(noise_std, dtype=mean.dtype, device=mean.device) ** 2
        sure = spread <= 0
        spread = torch.where(sure, 1.0, spread)
        each = -0.5 * ((y - mean) ** 2 / spread + spread.log() + math.log(2 * math.pi))
        limit = torch.where(y == mean, math.inf, (y - mean).detach().abs() * -math.inf)  # NaN stays NaN
        each = torch.where(sure, limit, each).expand_as(mean)
        impossible = (each == -math.inf).flatten(1).any(dim=1)
        return torch.where(impossible, -math.inf, total(torch.where(each == -math.inf, 0.0, each)))

    def shapes_of_file(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shapes that a person's file of a measurement may have, as `measurement_of` takes it, the likeliest first.

        A picture of the measurement is one; of numbers in a row the file is the whole sample, too. The file of a small image
        is never taken for a sample that is to be made small.
        """
        out = self.shape_out(shape)
        return (out,) if len(out) == len(shape) else (out, shape)

    def measurement_of(self, data: Tensor, shape: Shape) -> Tensor:
        """Return the y that a person's file holds, `shape_out(shape)`.

        The file has the measurement itself, or a sample of which the measured part is taken: a blurred image is a measurement
        as it is, and of an image with a hole, of its own full size, the kept pixels are one.

        Args:
            data: the numbers of the file, without a batch.
            shape: of one sample.

        Raises:
            ScorefieldError: data of neither shape.
        """
        wanted = self.shape_out(shape)
        if tuple(data.shape) == wanted:
            return data
        if tuple(data.shape) == shape:
            return self(data.unsqueeze(0))[0]
        raise ScorefieldError(
            f"got data of shape {tuple(data.shape)}, expected {wanted}, what {self} makes of a sample of shape {shape}, or "
            "such a sample: resize it"
        )

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return the operator that a person writes as NAME:text in a command; raises `ScorefieldError` for a wrong text.

        An operator that takes a text opens the docstring of this function with its forms, which the command shows: "Return
        `blur:SIGMA`, or `blur:FILE` with a kernel."

        Args:
            text: what follows the name and its colon, or nothing.
            seed: of what is random in the operator itself.
        """
        if text:
            raise ScorefieldError(
                f"got {text!r} after the name of an operator that takes nothing, expected no more: leave it out"
            )
        return cls()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _needs_linear(self, what: str) -> None:
        if not self.linear:
            raise ScorefieldError(f"got {self}, which is not linear, for {what}, expected a linear operator: use its `inner`")


def log_likelihood(operator: Operator, x: Sample, y: Tensor, noise_std: NoiseStd) -> PerSample:
    """Return log p(y | x0 = x), `(batch,)`: for a linear operator log N(y; Ax, s²·I).

    Where s is 0, -inf for a y that differs from Ax, and inf for one that is equal: see `Operator.log_evidence`.

    >>> from scorefield.operators import Identity
    >>> log_likelihood(Identity(), torch.tensor([[1.0], [2.0]]), torch.tensor([1.0]), 0.0)
    tensor([inf, -inf])
    """
    u = operator.inner(x)
    return operator.log_evidence(u, torch.zeros((), dtype=u.dtype, device=u.device), y, noise_std)


def dense(operator: Operator, shape: Shape, *, at_most: int = 256, device: torch.device | str = "cpu") -> Tensor:
    """Return the matrix A of a linear operator, `(m, d)`, float64.

    Args:
        operator: a linear operator.
        shape: of one sample, d numbers.
        at_most: how many columns are made at a time.
        device: where.

    >>> from scorefield.operators import Mask
    >>> dense(Mask([False, True]), (2,))
    tensor([[0., 1.]], dtype=torch.float64)
    """
    operator._needs_linear("a matrix")
    d = math.prod(shape)
    columns = []
    for first in range(0, d, at_most):
        count = min(at_most, d - first)
        units = torch.zeros(count, d, dtype=torch.float64, device=device)
        units[:, first : first + count].fill_diagonal_(1.0)
        columns.append(flat(operator(units.reshape(count, *shape))))
    return torch.cat(columns).mT.contiguous()


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    start: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-12,
    most: int = 2000,
) -> Tensor:
    """Solve M·v = y for a symmetric positive semi-definite M and every row of y, each on its own.

    Args:
        matrix: v -> M·v, rows to rows.
        y: right-hand sides, `(batch, *shape)`, in the range of M.
        start: an approximate inverse, symmetric positive definite (preconditioner).
        tolerance: of |M·v - y|/|y|.
        most: steps.

    Returns:
        v, as y. A row that is done does not change any more, so a solution does not depend on the others.

    Reference: Hestenes, Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """
    inverse = start or (lambda r: r)
    v, r = torch.zeros_like(y), y.clone()
    z = inverse(r)
    p, rz, goal = z, total(r * z), max(tolerance, torch.finfo(y.dtype).eps) ** 2 * total(y * y)
    for _ in range(most):
        open_ = total(r * r) > goal
        if not bool(open_.any()):
            break
        mp = matrix(p)
        curve = total(p * mp)
        step = torch.where(open_ & (curve > 0), rz / curve.clamp(min=1e-300), 0.0)
        v, r = v + over(step, v) * p, r - over(step, v) * mp
        z = inverse(r)
        new = total(r * z)
        p, rz = z + over(new / rz.clamp(min=1e-300), z) * p, new
    return v
