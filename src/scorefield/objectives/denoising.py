"""Denoising score matching: regress the score on the gradient of the known noising density.

    x_t = alpha·x0 + sigma·noise,    grad log p(x_t | x0) = -(x_t - alpha·x0)/sigma² = -noise/sigma    (mind the minus)
    loss = 1/2·lambda(t)·‖s(x_t, t) + noise/sigma‖²

The target is an unbiased estimate of the score of the *smoothed* density at any sigma, so the minimum is grad log p_t, and
loss(s) - loss(grad log p_t) is lambda/2 times the Fisher divergence between them. With lambda = sigma² it equals
1/2·‖noise_hat - noise‖²: weighting that by sigma² once more would weight the score by sigma⁴.

The loss multiplied out is 1/2·‖s‖² + noise·s/sigma + ‖noise‖²/(2·sigma²). As sigma -> 0 the standard deviations of the last two
terms diverge like 1/sigma and 1/sigma², although the second matters only through the noise in s, and the third not at all. The
control variate c = noise·s(alpha·x0, t)/sigma + (‖noise‖² - d)/(2·sigma²) has mean zero for any s, and

    loss - lambda·c = lambda·[1/2·‖s(x_t, t)‖² + noise·(s(x_t, t) - s(alpha·x0, t))/sigma + d/(2·sigma²)]

has the same mean and a variance (of the bracket) that stays bounded, for two evaluations of the field instead of one.

Noise with a covariance: x_t = alpha·x0 + sigma·L·noise with C = L·Lᵀ, so S = sigma²·C, has

    grad log p(x_t | x0) = -S⁻¹·(x_t - alpha·x0) = -L⁻ᵀ·noise/sigma,      E[x0 | x_t] = (x_t + S·score)/alpha.

References: Vincent (2011), "A connection between score matching and denoising autoencoders". Song, Ermon (2019),
arXiv 1907.05600. Karras et al. (2022), arXiv 2206.00364. Control variate: Wang, Cheng, Li, Zhu, Zhang (2020), "A Wasserstein
minimum velocity approach to learning unnormalized models", arXiv 2002.07501; Song, Kingma (2021), "How to train your
energy-based models", arXiv 2101.03288.
"""

from __future__ import annotations

from dataclasses import field as default
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.levels import Levels, NoiseDistribution
from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.implicit import kinks
from scorefield.objectives.weightings import SigmaSquared, Weighting
from scorefield.process import Positive, Process
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample, Sample, flat, over, total


def check_denoiser(field: Field) -> None:
    """Refuse what cannot learn to denoise: a process that adds no noise, and an energy whose score jumps.

    Where a score jumps, the mean loss also changes as the jump moves, and autograd misses that part of the gradient.

    Raises:
        ScorefieldError: sigma = 0 at the largest time; an energy made of activations with a kink.
    """
    if float(field.process.sigma(torch.tensor(field.process.t_max, dtype=torch.float64))) == 0:
        raise ScorefieldError(
            "got a process without noise for denoising, expected noise to remove: set process=ve, or choose an objective that "
            "needs none (sliced or contrastive)"
        )
    kinked = kinks(field) if isinstance(field, EnergyField) else []
    if kinked:
        raise ScorefieldError(
            f"got an energy made with {', '.join(kinked)}, whose score jumps, so that autograd misses a part of the gradient, "
            "expected a smooth network: use SiLU or softplus, as the networks mlp and unet do"
        )


@register("objective", "denoising")
@dataclass(frozen=True, config=COMPONENT)
class Denoising(Objective):
    """Denoising score matching: one random noise level per example, or one from each of L equal parts of the distribution.

    Attributes:
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
        every_level: average over L times, one drawn from each of the L parts of equal probability, instead of drawing one: the
            same expectation, less variance, L times the cost. With the noise distribution `levels` these are its levels.
        levels: L; None for as many as the noise distribution has, 10 for one without levels.
        control_variate: subtract a term of mean zero that keeps the variance bounded as sigma -> 0, for twice the cost.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> field = Gaussian([0.0], [[1.0]], VE(0.1, 10.0))
    >>> Denoising()(field, field.sample(SampleRng(range(4))), rng=SampleRng(range(4), stream=1)).shape
    torch.Size([4])
    """

    noise_distribution: NoiseDistribution = default(default_factory=Levels)
    weighting: Weighting = default(default_factory=SigmaSquared)
    every_level: bool = False
    levels: Annotated[int, Bound(ge=1)] | None = None
    control_variate: bool = False

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        check_denoiser(field)

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    def prepare(self, field: Field) -> nn.Module | None:
        return self.weighting.prepare(field)

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        def times(u: Tensor) -> Tensor:
            return self.noise_distribution.quantile(field.process, u).to(x0.device)

        if not self.every_level:
            t = times(rng.even())  # a batch then holds every level in proportion, so that its mean varies less
            return Terms(self.at(field, x0, t, cond, rng=rng, learned=learned), t)
        parts = self.levels or self.noise_distribution.parts(field.process)
        drawn = (times((part + rng.uniform(())) / parts) for part in range(parts))
        losses = [self.at(field, x0, t, cond, rng=rng, learned=learned) for t in drawn]
        return Terms(torch.stack(losses).mean(dim=0), None)

    def at(
        self,
        field: Field,
        x0: Sample,
        t: PerSample,
        cond: Tensor | None = None,
        *,
        rng: SampleRng,
        learned: nn.Module | None = None,
    ) -> PerSample:
        """Return the losses at given times, `(batch,)`."""
        alpha, sigma = field.process.alpha(t), field.process.sigma(t)
        eps = rng.normal(x0.shape[1:]).to(x0)
        centre = over(alpha, x0) * x0
        score = field(centre + over(sigma, x0) * eps, t, cond).score
        # sqrt(lambda) inside the square: at sigma = 0.01 the bare square would be 10^4 larger before lambda shrinks it.
        root, size = self.weighting(field.process, t).sqrt(), flat(x0).shape[1]
        if self.control_variate:
            moved = score - field(centre, t, cond).score
            cross = total(over(root, x0) * moved * over(root / sigma, x0) * eps)
            loss = 0.5 * total((over(root, x0) * score) ** 2) + cross + 0.5 * size * (root / sigma).to(x0.dtype) ** 2
        else:
            loss = 0.5 * total((over(root, x0) * (score + eps / over(sigma, x0))) ** 2)
        return self.weighting.minimised(loss, field, t, size, learned)


@register("objective", "denoising-matrix")
@dataclass(frozen=True, config=COMPONENT)
class DenoisingMatrix(Objective):
    """Denoising score matching with noise of covariance S = sigma²·C; the field learns the score of data so noised.

    The process sets the size of the noise, C its shape: sensors of different accuracy (a diagonal), or neighbours with
    correlated errors (a matrix). The score is that of x_t = alpha·x0 + sigma·L·noise, so a prediction's `.score` is right, but
    its other views assume C = 1: use `denoised` here. For a known S choose a noise distribution of one `level`.

    Attributes:
        covariance: C, over the coordinates in the order of `flat`: one number, a variance per coordinate, or a `(d, d)` matrix.
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
        norm: of the error of the score: "noise" for 1/2·lambda·‖Lᵀ·error‖², "identity" for 1/2·lambda·‖error‖².

    Raises:
        ValueError: C is not symmetric positive definite.
        ScorefieldError: C is not of the samples' size.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], VE(0.1, 10.0))
    >>> objective = DenoisingMatrix(covariance=((1.0, 0.5), (0.5, 1.0)))
    >>> objective(field, field.sample(SampleRng(range(4))), rng=SampleRng(range(4), stream=1)).shape
    torch.Size([4])
    """

    covariance: tuple[Positive, ...] | tuple[tuple[float, ...], ...] = (1.0,)
    noise_distribution: NoiseDistribution = default(default_factory=Levels)
    weighting: Weighting = default(default_factory=SigmaSquared)
    norm: Literal["noise", "identity"] = "noise"

    @model_validator(mode="after")
    def _check(self) -> DenoisingMatrix:
        rows = [row for row in self.covariance if isinstance(row, tuple)]
        if not self.covariance:
            raise ValueError("got an empty covariance, expected at least one number: give a variance for each coordinate")
        if any(len(row) != len(self.covariance) for row in rows):
            raise ValueError("got rows of another length than their number, expected a square covariance: one number per pair")
        matrix = torch.tensor(self.covariance, dtype=torch.float64)
        if rows and (not torch.allclose(matrix, matrix.mT) or int(torch.linalg.cholesky_ex(matrix).info) != 0):
            raise ValueError("got a matrix that is not symmetric positive definite, expected a covariance: give one that is")
        return self

    @property
    def counts_known_cells(self) -> bool:
        return False  # the noise of a cell depends on that of others

    @cached_property
    def _root(self) -> Tensor:
        """L: standard deviations `(d,)` or `(1,)`, or the lower triangle `(d, d)`, float64."""
        matrix = torch.tensor(self.covariance, dtype=torch.float64)
        return matrix.sqrt() if matrix.ndim == 1 else torch.linalg.cholesky(matrix)

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        check_denoiser(field)

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    def prepare(self, field: Field) -> nn.Module | None:
        return self.weighting.prepare(field)

    def _times(self, rows: Tensor, how: Literal["L", "Lt", "L^-t"]) -> Tensor:
        """Return L·row, Lᵀ·row or L⁻ᵀ·row for every row, `(batch, d)`."""
        root = self._root.to(rows)
        if root.shape[-1] not in (1, rows.shape[1]):
            raise ScorefieldError(
                f"got a covariance over {root.shape[-1]} coordinates, expected {rows.shape[1]}: one per coordinate of a sample"
            )
        if root.ndim == 1:
            return rows / root if how == "L^-t" else rows * root
        if how == "L^-t":
            solved: Tensor = torch.linalg.solve_triangular(root.mT, rows.mT, upper=True)
            return solved.mT
        return rows @ (root.mT if how == "L" else root)

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        t = self.noise_distribution.quantile(field.process, rng.even()).to(x0.device)
        sigma, z = field.process.sigma(t), flat(rng.normal(x0.shape[1:]).to(x0))
        x_t = field.process.perturb(x0, t, self._times(z, "L").reshape(x0.shape))
        error = flat(field(x_t, t, cond).score) + self._times(z, "L^-t") / over(sigma, z)
        if self.norm == "noise":
            error = self._times(error, "Lt")
        loss = 0.5 * total((over(self.weighting(field.process, t).sqrt(), z) * error) ** 2)
        return Terms(self.weighting.minimised(loss, field, t, z.shape[1], learned), t)

    def denoised(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None) -> Sample:
        """Return E[x0 | x_t] = (x_t + sigma²·C·score)/alpha, `(batch, *shape)`, for a field trained with this objective."""
        alpha, sigma = field.process.alpha(t), field.process.sigma(t)
        pulled = self._times(self._times(flat(field(x, t, cond).score), "Lt"), "L").reshape(x.shape)
        return (x + over(sigma**2, x) * pulled) / over(alpha, x)
