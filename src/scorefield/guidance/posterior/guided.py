"""Guided fields: a field whose score has a term for the measurement, so that every sampler draws from it.

    grad log p_t(x | y) = grad log p_t(x) + grad log p(y | x_t),    p(y | x_t) = integral of p(y | x0) p(x0 | x_t) dx0

The last integral is not known. In z = x/alpha, with lambda = sigma/alpha, D(z) = E[x0 | z] and J its Jacobian, the mean of
p(x0 | z) is D and its covariance lambda²·J, exactly. Methods differ in the C that they take for the covariance, and in what
they take for the gradient of D:

    p(y | z) about N(y; A·D, s²·I + A·C·Aᵀ),    rise = grad_z log p(y | z) about Jᵀ·Aᵀ·(s²·I + A·C·Aᵀ)⁻¹·(y - A·D)

    DPS         a step of fixed length along Jᵀ·Aᵀ·(y - A·D)
    PiGDM       C = a stated covariance of the data, given z as if they were Gaussian
    TMPD        A·C·Aᵀ = the row sums of lambda²·A·J·Aᵀ, on a diagonal
    MMPS        C = lambda²·J
    DiffPIR     C = lambda²·I, and I in place of J

For a Gaussian prior, J does not depend on z, and MMPS is exact at every level. For every other one the variance changes with
z, its gradient is left out by all of them, and p(x0 | z) is not Gaussian: where the data have separate modes, all of them give
the modes wrong weights, and no number of levels corrects that. The default of `posterior_sample` keeps the weights that do.

Measured with each method's defaults, the first of two coordinates being measured. On N(0, [[1, 0.8], [0.8, 1]]), y = 1.5 and
s = 0.3, mean and variance of both; of 0.7·N(-(2, 1), 0.49·I) + 0.3·N((2, 1), 0.49·I), y = 0.3 and s = 1, the share of the
second mode:

                    mean             variance         share
    the posterior   1.376   1.101    0.083   0.413    0.490
    MMPS, TMPD      1.376   1.100    0.082   0.412    0.450 ± 0.003
    PiGDM           1.344   1.045    0.091   0.434    0.487 ± 0.003
    DiffPIR         1.350   0.691    0.073   0.544    0.447 ± 0.003
    DPS             1.420   1.041    0.065   0.514    0.672 ± 0.005        ± 0.01 of a mean
    split Gibbs     1.336   1.003    0.096   0.454    0.416 ± 0.009        ± 0.01
    RePaint         1.500   1.157    0.000   0.330    0.780 ± 0.009        ± 0.01; it takes y as exact

A guided field is written in z and lambda alone, so that it is the same for every process.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured, Method, Posterior
from scorefield.guidance.posterior.rows import row_sizes, weights
from scorefield.levels import data_scale, ladder_of
from scorefield.operators.base import conjugate_gradients
from scorefield.prediction import Prediction
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.registry import name_of
from scorefield.samplers import Sampler, simulate
from scorefield.shapes import PerSample, Sample, over

LEAST = 1e-8  # of the variance of a number of A·x0 given z: the least variance of its noise
STEPS = 200  # of conjugate gradients at a level: what they do not reach is hardly measured
Product = Callable[[Tensor], Tensor]  # rows to rows, each its own


class Guided(ABC):
    """A field given a measurement: the score of another, and an approximation of grad log p(y | x_t).

    Its predictions carry no gradient.

    Attributes:
        differentiates: whether it takes the gradient of the denoiser, which costs a backward pass for each product with Jᵀ.
    """

    differentiates: ClassVar[bool] = True

    def __init__(self, field: Field, measured: Measured) -> None:
        """Wrap a field; its process, its shape and its prior for the start are kept."""
        self.field, self.measured = field, measured
        self.process, self.shape = field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    @abstractmethod
    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        """Return the approximation of grad_z log p(y | z), `(batch, *shape)`.

        Args:
            denoised: D(z).
            lam: lambda = sigma/alpha.
            transposed: w -> Jᵀ·w.
        """

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        alpha, lam = self.process.alpha(t.double()), self.process.sigma(t.double()) / self.process.alpha(t.double())
        with torch.set_grad_enabled(self.differentiates):
            inner = x.detach().requires_grad_(self.differentiates)
            prediction = self.field(inner, t, cond)
            denoised = prediction.denoised

            def transposed(w: Tensor) -> Tensor:
                (product,) = torch.autograd.grad(denoised, inner, w, retain_graph=True)
                return over(alpha, product) * product  # dD/dz = alpha·dD/dx

            rise = self.rise(denoised.detach(), lam, transposed).detach()
        return Prediction.of_score(self.process, x, t.double(), prediction.score.detach() + rise / over(alpha, x))

    @cached_property
    def sizes(self) -> Tensor:
        """The size of each number of y, |a_i|² of the rows of A, the shape of y."""
        return row_sizes(self.measured, self.shape)

    def size(self, lam: PerSample, residual: Tensor) -> Tensor:
        """Return about the variance of each number of A·x0 given z, as the residual: that of isotropic Gaussian data."""
        scale = data_scale(self.field, 1e-12)
        return over(lam**2 * scale**2 / (lam**2 + scale**2), residual) * self.sizes.to(residual)

    def explained(self, residual: Tensor, lam: PerSample, covariance: Product, most: int = STEPS) -> Sample:
        """Return Aᵀ·(s²·I + A·C·Aᵀ)⁻¹·residual, by at most `most` steps of conjugate gradients."""
        return explained(self.measured, residual, self.size(lam, residual), covariance, self.shape, most)

    def residual(self, denoised: Sample) -> Tensor:
        """Return y - H(D), `(batch, *shape of y)`."""
        return self.measured.y.to(denoised) - self.measured.operator(denoised)


def explained(
    measured: Measured, residual: Tensor, size: Tensor, covariance: Product, shape: tuple[int, ...], most: int = STEPS
) -> Sample:
    """Return Aᵀ·(s²·I + A·C·Aᵀ)⁻¹·residual, `(batch, *shape)`, by conjugate gradients.

    With N the variances of the noise and W = (N + size)^(-1/2), both diagonal, the system that is solved is

        W·(N + A·C·Aᵀ)·W·u = W·residual,    the answer is Aᵀ·W·u

    in which every number of y counts in units of its own.

    Args:
        measured: gives A and s.
        residual: `(batch, *shape of y)`.
        size: of the diagonal of A·C·Aᵀ, about; broadcasts with the residual. A variance s² far below it is raised to `LEAST` of
            it: what the same A cannot have measured, two readings of one number that differ, would else have no solution. A
            number without size and noise is left out.
        covariance: w -> C·w.
        shape: of a sample.
        most: steps.
    """
    operator = measured.operator
    s = torch.as_tensor(measured.noise_std, dtype=residual.dtype, device=residual.device)
    noise = torch.maximum(s**2, LEAST * size)
    weight = weights(noise + size)

    def matrix(v: Tensor) -> Tensor:
        return weight**2 * noise * v + weight * operator(covariance(operator.adjoint(weight * v, shape)))

    return operator.adjoint(weight * conjugate_gradients(matrix, weight * residual, most=most), shape)


class GuidedMethod(Method):
    """A method that is a guided field and a sampler.

    Attributes:
        sampler: any sampler.
        levels: of its own ladder.
    """

    sampler: Sampler
    levels: int

    @abstractmethod
    def guided(self, field: Field, measured: Measured) -> Guided:
        """Return the guided field."""

    def draw(
        self, field: Field, measured: Measured, *, rng: SampleRng, cond: Tensor | None = None, progress: Progress = silent
    ) -> Posterior:
        """Return one draw for each seed: the end of `simulate` on the guided field."""
        field = self.guided(field, measured)
        ladder = ladder_of(field, self.sampler.ladder, self.levels)
        for seen in simulate(field, self.sampler, ladder, rng=rng, cond=cond):
            progress(seen.step / seen.steps, f"step {seen.step} of {seen.steps}")
        return unweighted(self, measured, seen.x, seen.evaluations)


def unweighted(method: Method, measured: Measured, x: Tensor, evaluations: int) -> Posterior:
    """Return draws without weights, one particle each, as a `Posterior`."""
    unknown = torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
    return Posterior(x, unknown, evaluations, 1, measured.residual(x), name_of("posterior", method))
