"""Adaptive probability flow: every sample takes its own steps, as long as a tolerance allows.

Measured from a Gaussian of the data's mean m and standard deviation s, which has variance s² + lambda² at level lambda =
sigma/alpha,

    w = (x/alpha - m)/r    lambda = s·sinh u    r = s·cosh u    dw/du = noise_hat - tanh(u)·w

which is zero for data that are that Gaussian: the solver works only where the data differ from it, in coordinates of unit size.
It is `runge_kutta.solve`, Dormand and Prince's method of orders 5 and 4. Every sample has its own steps, so the rest of the
batch never matters.

References: Song et al. (2021), arXiv 2011.13456, section 4.3 (black-box solvers). Dormand, Prince (1980).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import runge_kutta
from scorefield.errors import ScorefieldError
from scorefield.levels import data_scale
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import NOTHING, CountedField, Info, Sampler, Step
from scorefield.shapes import Sample, over


@register("sampler", "adaptive")
@dataclass(frozen=True, config=COMPONENT)
class Adaptive(Sampler):
    """Adaptive Runge-Kutta of order 5 on the probability flow; evaluations are those of the slowest sample.

    Attributes:
        tolerance: of every step's error, relative to unit size; infinity takes one step a level.
    """

    tolerance: Annotated[float, Bound(gt=0)] = 1e-3
    order: ClassVar[int | None] = 5
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = None
    ladder: ClassVar[str] = "geometric"
    levels: ClassVar[int] = 2

    def at_fixed_steps(self) -> Sampler:
        return replace(self, tolerance=math.inf)

    def within(self, steps: int) -> tuple[Sampler, int]:
        if steps < 2:
            raise ScorefieldError(f"got {steps} steps, expected at least 2 for an adaptive sampler: ask for more")
        return self, steps

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        mean, above, below = field.data_mean(x), step.sigma / step.alpha, step.sigma_s / step.alpha_s
        spread = data_scale(field.field, 1e-8 * below)
        start, end = math.asinh(above / spread), math.asinh(below / spread)

        def slope(u: Tensor, w: Tensor, rows: Tensor) -> Tensor:
            t = field.process.time_of_sigma(spread * u.sinh())
            at = over(field.process.alpha(t), w) * (mean + over(spread * u.cosh(), w) * w)
            return field.at(at, t, rows).noise - over(u.tanh(), w) * w

        r, r_s = (spread**2 + above**2) ** 0.5, (spread**2 + below**2) ** 0.5
        w = (x / step.alpha - mean) / r
        if math.isinf(self.tolerance):
            u, rows = torch.full((len(w),), start, dtype=w.dtype, device=w.device), torch.arange(len(w), device=w.device)
            w, _, _ = runge_kutta.step(slope, u, w, torch.full_like(u, end - start), slope(u, w, rows), rows)
        else:
            w = runge_kutta.solve(slope, w, start, end, rtol=self.tolerance, atol=self.tolerance).y
        return step.alpha_s * (mean + r_s * w), state, NOTHING
