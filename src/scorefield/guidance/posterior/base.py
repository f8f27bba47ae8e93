"""Posterior sampling: draws of x0 given a measurement y = H(x0) + noise, noise ~ N(0, s²·I), and a field as the prior.

    p(x0 | y) ∝ p(x0)·p(y | x0)

`posterior_sample` is the one function. A method is a registered component with one function, `draw`. The default, `Twisted`,
keeps the weights that make it exact in the limit of many particles. The others are what is in wide use, each with what is known
about its bias; those that change the score are fields, so that every sampler works on them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.guidance.particles import filters_of
from scorefield.operators import Operator, log_likelihood
from scorefield.operators.base import NoiseStd
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.registry import find
from scorefield.shapes import PerSample, Sample, check_rows, total

CROWD, FEWEST = 64, 4  # particles of a filter of few numbers, and of one of many, at least, where nothing is said


@dataclass(frozen=True, eq=False)
class Measured:
    """A measurement y = H(x0) + noise of one sample.

    Attributes:
        operator: H.
        y: what was measured, `operator.shape_out(shape)`, float64; nothing writes to it.
        noise_std: s >= 0, the standard deviation of the noise: a number, or one for each number of y.
    """

    operator: Operator
    y: Tensor
    noise_std: NoiseStd

    def log_likelihood(self, x: Sample) -> PerSample:
        """Return log p(y | x0 = x), `(batch,)`."""
        return log_likelihood(self.operator, x, self.y, self.noise_std)

    def residual(self, x: Sample) -> PerSample:
        """Return the root mean square of (H(x) - y)/s, `(batch,)`: about 1 for the x0 that was measured; s = 0 as it is."""
        s = torch.as_tensor(self.noise_std, dtype=x.dtype, device=x.device)
        off = (self.operator(x) - self.y.to(x)) / torch.where(s > 0, s, 1.0)
        return (total(off**2) / self.y.numel()).sqrt()


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws from a posterior, and how far they can be trusted.

    Attributes:
        x: the draws, `(n, *shape)`, float64, equally likely.
        effective: effective number of particles, as a share: the smallest over the levels of 1/(K·sum w²), in (0, 1], of the
            filter of each draw, `(n,)`. Of a method without weights, and of a filter of one particle, NaN.
        evaluations: of the field, for each particle.
        particles: for each draw.
        residual: root mean square of (H(x) - y)/s of every draw, `(n,)`. Its square is 1 on average over measurements where the
            prior and s are right.
        method: its name in the registry.
    """

    x: Tensor
    effective: Tensor
    evaluations: int
    particles: int
    residual: Tensor
    method: str


class Method(ABC):
    """A method of posterior sampling, a registered component ("posterior").

    Attributes:
        linear_only: whether it refuses nonlinear operators.
        keeps_weights: whether it is exact in the limit of many particles.
    """

    linear_only: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = False

    @abstractmethod
    def draw(
        self, field: Field, measured: Measured, *, rng: SampleRng, cond: Tensor | None = None, progress: Progress = silent
    ) -> Posterior:
        """Return one draw for each seed."""


def measured_of(field: Field, operator: Operator, y: Tensor, noise_std: NoiseStd) -> Measured:
    """Return a checked measurement, in float64.

    Raises:
        ScorefieldError: a y of another shape than the operator gives, NaN in it, or a noise that is negative or not finite.
    """
    y = torch.as_tensor(y).detach().to(torch.float64, copy=True)
    wanted = operator.shape_out(field.shape)
    if tuple(y.shape) != wanted:
        raise ScorefieldError(
            f"got a measurement of shape {tuple(y.shape)}, expected {wanted}, what {operator} makes of samples of shape "
            f"{field.shape}: give one measurement without a batch"
        )
    if not bool(y.isfinite().all()):
        raise ScorefieldError("got NaN or infinity in the measurement, expected finite numbers: leave such out with a mask")
    s = torch.as_tensor(noise_std, dtype=torch.float64)
    if not bool((s.isfinite() & (s >= 0)).all()) or (s.ndim and s.shape != y.shape):
        raise ScorefieldError(
            f"got noise_std = {noise_std}, expected a number >= 0, or one for each number of the measurement: correct it"
        )
    return Measured(operator, y, s if s.ndim else float(s))


def posterior_sample(
    field: Field,
    operator: Operator,
    y: Tensor,
    noise_std: NoiseStd,
    *,
    rng: SampleRng,
    method: Method | str = "auto",
    cond: Tensor | None = None,
    progress: Progress = silent,
) -> Posterior:
    """Draw x0 given a measurement y = H(x0) + noise.

        x0 ~ p(x0 | y) ∝ p(x0)·N(y; H(x0), s²·I)

    Args:
        field: the prior, any field.
        operator: H, in the units of the field.
        y: the measurement, `operator.shape_out(field.shape)`.
        noise_std: s >= 0, a number or one for each number of y.
        rng: one seed for each draw.
        method: how; "auto" for `Twisted`, or a name in the registry. Where there are 64 draws or more, and half as many as a
            sample has numbers, auto takes one filter of all; else a filter for each draw, of 64 particles for few numbers, and
            of 4 for a thousand and more. A few particles do not find all modes, which their effective number cannot tell.
        cond: conditioning of each draw, or None.
        progress: called after every level.

    Returns:
        The `Posterior`.

    Raises:
        ScorefieldError: no seeds, a measurement that does not suit the operator, an operator that does not suit the method.
        NotFinite: a field that gives NaN, with the level named.

    References: Wu et al. (2023), "Practical and asymptotically exact conditional sampling in diffusion models", arXiv
    2306.17775. Cardoso et al. (2023), "Monte Carlo guided diffusion for Bayesian linear inverse problems", arXiv 2308.07983.
    Trippe et al. (2023), arXiv 2206.04119.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> from scorefield.operators import Matrix
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
    >>> draws = posterior_sample(field, Matrix([[1.0, 0.0]]), torch.tensor([1.5]), 0.1, rng=SampleRng(range(1000)))
    >>> [round(float(v), 1) for v in draws.x.mean(dim=0)]
    [1.5, 1.2]
    """
    if not len(rng):
        raise ScorefieldError("got an rng without seeds, expected one for each draw: for example SampleRng(range(64))")
    check_rows(len(rng), cond=cond)
    if method == "auto":
        fewest, numbers = min(len(rows) for rows in filters_of(len(rng), cond)), math.prod(field.shape)
        many = fewest >= max(CROWD, numbers / 2)
        own = {"together": False, "particles": min(CROWD, max(FEWEST, FEWEST * 1024 // numbers))}
        method = find("posterior", "twisted")(**({} if many else own))
    elif isinstance(method, str):
        method = find("posterior", method)()
    assert isinstance(method, Method)
    if method.linear_only and not operator.linear:
        raise ScorefieldError(
            f"got {operator}, which is not linear, for {method}, expected a linear operator: use method='auto'"
        )
    return method.draw(field, measured_of(field, operator, y, noise_std), rng=rng, cond=cond, progress=progress)
