"""RePaint: the measured coordinates are put back at every level, and every step is made several times.

    y_s <- y + lambda_s·noise,    z_t <- z_s + sqrt(lambda² - lambda_s²)·noise, and again          `Replacement(repeats=)`

It asks nothing of the field but its score, and y is taken as it is, as if it had been measured without noise: each draw has
exactly y where it was measured.

Reference: Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool (2022), "RePaint: inpainting using denoising diffusion
probabilistic models", arXiv 2201.09865.
"""

from __future__ import annotations

import math
from dataclasses import field as default
from typing import Annotated, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured, Method, Posterior
from scorefield.guidance.posterior.guided import unweighted
from scorefield.guidance.posterior.rows import row_sizes, weights
from scorefield.guidance.replacement import Replacement
from scorefield.levels import ladder_of
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Ancestral, Sampler, simulate


def known_of(measured: Measured, shape: tuple[int, ...]) -> Tensor:
    """Return what y says of the coordinates that were measured and NaN in the others, the shape of a sample.

    Raises:
        ScorefieldError: an operator that is anything but a choice of coordinates, each times a number (a change of units).
    """
    operator, y = measured.operator, measured.y.unsqueeze(0)
    weight = weights(row_sizes(measured, shape))  # then a row has about length 1, in any units of y
    # Then, and only then, are both Aᵀ·A and A·Aᵀ diagonal: they multiply each number by what they multiply 1 by
    of_x, of_y = (SampleRng([0], device=y.device).normal(size) for size in (shape, y.shape[1:]))
    by_x, by_y = (operator.adjoint(weight**2 * operator(v), shape) for v in (torch.ones_like(of_x), of_x))
    row, rows = (weight * operator(operator.adjoint(weight * v, shape)) for v in (torch.ones_like(of_y), of_y))
    if not torch.allclose(by_x * of_x, by_y, atol=1e-9) or not torch.allclose(row * of_y, rows, atol=1e-9):
        raise ScorefieldError(
            f"got {operator} for RePaint, which puts measured coordinates back, expected an operator that leaves some "
            "coordinates as they are and drops the others, as a mask does: use another method"
        )
    kept, squares = by_x[0] > 1e-6, operator.adjoint(operator(torch.ones_like(of_x)), shape)[0]
    return torch.where(kept, operator.adjoint(y, shape)[0] / torch.where(kept, squares, 1.0), math.nan)


@register("posterior", "repaint")
@dataclass(frozen=True, config=COMPONENT)
class Repaint(Method):
    """Replacement with repeated steps: of masks, without noise, and biased, but less with more repeats.

    On N(0, [[1, 0.8], [0.8, 1]]) with the first coordinate 1.5, the second gets the mean 1.16 and the variance 0.33 where 1.20
    and 0.36 are right; `Replacement` says how wrong one repeat is.

    Attributes:
        repeats: how often every step is made, >= 1; 1 is plain replacement.
        sampler: any sampler that does not remember.
        levels: of its ladder.
    """

    repeats: Annotated[int, Bound(ge=1)] = 10
    sampler: Sampler = default(default_factory=Ancestral)
    levels: Annotated[int, Bound(ge=2)] = 100
    linear_only: ClassVar[bool] = True

    def draw(
        self, field: Field, measured: Measured, *, rng: SampleRng, cond: Tensor | None = None, progress: Progress = silent
    ) -> Posterior:
        """Return one draw for each seed; raises `ScorefieldError` for an operator that does not choose coordinates."""
        known = known_of(measured, field.shape).to(rng.seeds.device).expand(len(rng), *field.shape)
        sampler = Replacement(self.sampler, known, self.repeats)
        for seen in simulate(field, sampler, ladder_of(field, self.sampler.ladder, self.levels), rng=rng, cond=cond):
            progress(seen.step / seen.steps, f"step {seen.step} of {seen.steps}")
        return unweighted(self, measured, torch.where(known.isnan(), seen.x, known), seen.evaluations)
