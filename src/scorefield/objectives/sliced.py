"""Sliced score matching: the trace of implicit matching, estimated along random directions v with E[vvᵀ] = I.

    plain               lambda·E_v[vᵀ·grad s·v + 1/2·(vᵀs)²]
    variance-reduced    lambda·E_v[vᵀ·grad s·v] + lambda/2·‖s‖²
    finite difference   lambda·E_v[vᵀ(s₊ - s₋)/(2·step) + 1/2·‖(s₊ + s₋)/2‖²]                         with s± = s(x ± step·v)
                        lambda·E_v[(2·E - E₊ - E₋)/step² + 1/2·((E₊ - E₋)/(2·step))²]        of an energy, E± = E(x ± step·v)

E[vᵀAv] = tr(A·E[vvᵀ]) = tr A, so all have the mean of the implicit loss. Along one v, integration by parts makes the excess of
the plain form 1/2·E(vᵀe)² with e = s - grad log p, whose mean over v is 1/2·‖e‖² again: the Fisher divergence, exactly, for
all directions with E[vvᵀ] = I, of any lengths. Directions of unit length have E[vvᵀ] = I/d. The plain form is then the
same problem divided by d; the reduced form would weigh the trace by 1/d and the norm by 1, whose minimum is s/d, so it refuses.

A projection costs one backward pass by x and its own derivative, for any d; the variance is proportional to 1/projections.
Rademacher directions have the least variance of those with independent entries: the diagonal of grad s then adds none.

Finite differences need no derivative by x. Their error is O(step²), since odd terms cancel: an energy takes three evaluations
(two along the direction), a score two. The mean of s₊ and s₋ takes the place of s, and its norm that of the reduced form's.

References: Song, Garg, Shi, Ermon (2019), "Sliced score matching: a scalable approach to density and score estimation",
arXiv 1905.07088. Pang, Xu, Li, Song, Ermon, Zhu (2020), "Efficient learning of generative models via finite-difference score
matching", arXiv 2007.03317. Hutchinson (1989), "A stochastic estimator of the trace of the influence matrix".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field as default
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.levels import NoiseDistribution, Uniform
from scorefield.objectives.implicit import ByParts, pull
from scorefield.objectives.weightings import Unweighted, Weighting
from scorefield.process import Positive
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample, Sample, flat, over, total

Projection = Literal["rademacher", "gaussian", "sphere", "unit"]
SEPARATE = ("rademacher", "gaussian")  # whose entries do not depend on how many there are


def directions(x: Sample, projection: Projection, projections: int, rng: SampleRng) -> Iterator[Sample]:
    """Yield random directions in the shape of x, one draw each; E[vvᵀ] = I, but I/d for "unit".

    Args:
        x: samples, `(batch, *shape)`.
        projection: "rademacher" (entries ±1), "gaussian", "sphere" (length sqrt(d)) or "unit" (length 1).
        projections: number of directions, >= 1.
        rng: one seed per example.
    """
    for _ in range(projections):
        if projection == "rademacher":
            yield rng.sign(x.shape[1:]).to(x)
            continue
        v = rng.normal(x.shape[1:])
        if projection != "gaussian":
            length = flat(x).shape[1] ** 0.5 if projection == "sphere" else 1.0
            v = v * over(length / total(v**2).sqrt(), v)
        yield v.to(x)


@register("objective", "sliced")
@dataclass(frozen=True, config=COMPONENT)
class Sliced(ByParts):
    """Sliced score matching, variance-reduced or plain, with automatic derivatives.

    Attributes:
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
        projection: law of the directions; "unit" for the plain form only, whose loss is then divided by d.
        projections: directions an example.
        reduced: take 1/2·‖s‖² for E_v[1/2·(vᵀs)²], which it equals: the same mean at no more cost, and less variance,
            unless components of the score are strongly correlated.

    Raises:
        ScorefieldError: unit vectors in the reduced form; by `check`, what integration by parts cannot learn from.

    >>> from scorefield import Gaussian, SampleRng, Noiseless
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], Noiseless())
    >>> Sliced()(field, torch.tensor([[1.0, 1.0]]), rng=SampleRng([0])).tolist()  # v·v = 2 for entries ±1: the exact trace
    [-1.0]
    """

    noise_distribution: NoiseDistribution = default(default_factory=Uniform)
    weighting: Weighting = default(default_factory=Unweighted)
    projection: Projection = "rademacher"
    projections: Annotated[int, Bound(ge=1)] = 1
    reduced: bool = True

    @model_validator(mode="after")
    def _check(self) -> Sliced:
        if self.reduced and self.projection == "unit":
            raise ScorefieldError(
                "got unit vectors for the variance-reduced form, expected directions with E[vvᵀ] = I, as 1/2·‖s‖² is the mean "
                "of 1/2·(vᵀs)² for those alone: choose the projection sphere or reduced = false"
            )
        return self

    @property
    def counts_known_cells(self) -> bool:
        return self.projection in SEPARATE

    def at(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None, *, rng: SampleRng) -> PerSample:
        return self.along(field, x, t, directions(x, self.projection, self.projections, rng), cond)

    def along(self, field: Field, x: Sample, t: PerSample, vectors: Iterator[Sample], cond: Tensor | None = None) -> PerSample:
        """Return the mean of the losses along given directions, each `(batch, *shape)`, without the weight, `(batch,)`."""
        keep, x = torch.is_grad_enabled(), x.detach().requires_grad_(True)
        with torch.enable_grad():
            score = field(x, t, cond).score
            losses = []
            for v in vectors:
                curved = total(pull(v, score, x, keep=keep) * v)
                losses.append(curved if self.reduced else curved + 0.5 * total(v * score) ** 2)
            loss = torch.stack(losses).mean(dim=0)
            loss = loss + 0.5 * total(score**2) if self.reduced else loss
        return loss if keep else loss.detach()


@register("objective", "finite-difference")
@dataclass(frozen=True, config=COMPONENT)
class FiniteDifference(ByParts):
    """Finite-difference sliced score matching: no derivative by x at all, for an error of O(step²).

    Attributes:
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
        step: distance of the evaluations along v; far below the finest structure of p_t over sqrt(d), the length of v, and
            large enough for the network's digits, of which an energy loses those of step² and a score those of step.
        projection: law of the directions.
        projections: directions an example.

    Raises:
        ScorefieldError: by `check`, what integration by parts cannot learn from.

    >>> from scorefield import Gaussian, SampleRng, Noiseless
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], Noiseless())
    >>> x0 = torch.tensor([[1.0, 1.0]]).double()
    >>> loss, limit = (o(field, x0, rng=SampleRng([0])) for o in (FiniteDifference(), Sliced(reduced=False)))
    >>> bool((loss - limit).abs() < 1e-9)  # an energy has the plain form, and a quadratic one no error
    True
    """

    divergence: ClassVar[Literal["fisher", "fisher + O(step^2)", "none"]] = "fisher + O(step^2)"
    bends: ClassVar[bool] = True  # differences over a finite step include bends, also as they move

    noise_distribution: NoiseDistribution = default(default_factory=Uniform)
    weighting: Weighting = default(default_factory=Unweighted)
    step: Positive = 0.05
    projection: Literal["rademacher", "gaussian", "sphere"] = "rademacher"
    projections: Annotated[int, Bound(ge=1)] = 1

    @property
    def counts_known_cells(self) -> bool:
        return self.projection in SEPARATE

    def at(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None, *, rng: SampleRng) -> PerSample:
        along = self._energy if isinstance(field, EnergyField) else self._score
        drawn = directions(x, self.projection, self.projections, rng)
        return torch.stack([along(field, x, t, v, cond) for v in drawn]).mean(dim=0)  # type: ignore[arg-type]

    def _energy(self, field: EnergyField, x: Sample, t: PerSample, v: Sample, cond: Tensor | None) -> PerSample:
        before, here, after = (field.energy(x + shift * v, t, cond) for shift in (-self.step, 0.0, self.step))
        return (2 * here - before - after) / self.step**2 + 0.5 * ((after - before) / (2 * self.step)) ** 2

    def _score(self, field: Field, x: Sample, t: PerSample, v: Sample, cond: Tensor | None) -> PerSample:
        before, after = (field(x + shift * v, t, cond).score for shift in (-self.step, self.step))
        return total(v * (after - before)) / (2 * self.step) + total((after + before) ** 2) / 8
