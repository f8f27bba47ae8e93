"""Split Gibbs sampling: the prior and the likelihood each have a copy of x0, coupled with strength 1/rho².

    p(x, v) ∝ p(x)·exp(-‖x - v‖²/(2·rho²))·N(y; A·v, s²·I)

is drawn by turns from both conditionals, while rho decreases:

    v | x    x + rho·noise, moved by rho²·Aᵀ·(s²·I + rho²·A·Aᵀ)⁻¹·(y + s·noise - A·(x + rho·noise)): exact
    x | v    what was x if v is x with noise of level rho: the reverse diffusion from v at lambda = rho down, noise on the way

At a fixed rho the chain has x ~ p(x)·N(y; A·x, s²·I + rho²·A·Aᵀ): the posterior of a noisier measurement. In a turn x moves by
about rho where y says nothing, so what y leaves open is settled while rho is as large as its width, by the noisier measurement,
and it is not corrected later.

References: Vono, Dobigeon, Chainais (2019), "Split-and-augmented Gibbs sampler", arXiv 1804.05809. Coeurdoux, Dobigeon,
Chainais (2023), "Plug-and-play split Gibbs sampling", arXiv 2304.11134. Wu, Sun, Chen, Zhang, Yue, Bouman (2024), "Principled
probabilistic imaging using diffusion models as plug-and-play priors", arXiv 2405.18782.
"""

from __future__ import annotations

from collections import deque
from dataclasses import field as default
from typing import Annotated, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured, Method, Posterior
from scorefield.guidance.posterior.guided import explained, unweighted
from scorefield.guidance.posterior.rows import row_sizes
from scorefield.levels import data_scale
from scorefield.process import Positive
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Sampler, StochasticABM, simulate
from scorefield.shapes import Sample


def likely(measured: Measured, x: Sample, rho: float, sizes: Tensor, rng: SampleRng) -> Sample:
    """Return a draw of v given x, p(v | x) ∝ exp(-‖x - v‖²/(2·rho²))·N(y; A·v, s²·I), one for each row.

    A draw of N(x, rho²·I) with a measurement of its own is moved by what y has in excess of that measurement (Matheron's rule).
    `sizes` are `row_sizes` of A.
    """
    operator, shape = measured.operator, tuple(x.shape[1:])
    s = torch.as_tensor(measured.noise_std, dtype=x.dtype, device=x.device)
    v = x + rho * rng.normal(shape)
    lacks = measured.y.to(x) + s * rng.normal(measured.y.shape) - operator(v)
    return v + explained(measured, lacks, rho**2 * sizes.to(x), lambda rows: rho**2 * rows, shape) * rho**2


@register("posterior", "split-gibbs")
@dataclass(frozen=True, config=COMPONENT)
class SplitGibbs(Method):
    """Split Gibbs sampling with an annealed coupling: of any prior, and biased by how fast it is annealed.

    On N(0, [[1, 0.8], [0.8, 1]]) with the first coordinate measured as 1.5, noise 0.3, its means are 1.34 and 1.00 where 1.38
    and 1.10 are right, its variances 0.096 and 0.454 where 0.083 and 0.413 are. At a fixed rho (first = last), after many
    turns, its draws are from the posterior of the noise s²·I + rho²·A·Aᵀ.

    Attributes:
        turns: how often both copies are drawn.
        first: rho of the first turn, in standard deviations of the data.
        last: rho of the last, likewise; between them rho is geometric.
        sampler: one that adds noise on the way, which x | v needs: the probability flow would give one x for each v.
        levels: of each reverse diffusion.
    """

    turns: Annotated[int, Bound(ge=1)] = 50
    first: Positive = 10.0
    last: Positive = 0.1
    sampler: Sampler = default(default_factory=StochasticABM)
    levels: Annotated[int, Bound(ge=2)] = 20
    linear_only: ClassVar[bool] = True

    def draw(
        self, field: Field, measured: Measured, *, rng: SampleRng, cond: Tensor | None = None, progress: Progress = silent
    ) -> Posterior:
        """Return one draw for each seed: x of the last turn."""
        process, device = field.process, rng.seeds.device
        ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
        high, low = (process.sigma(ends) / process.alpha(ends)).tolist()
        if low >= high or self.last > self.first:
            raise ScorefieldError(
                f"got {self} on {process}, expected first >= last and a process with a range of noise levels: correct them"
            )
        scale = data_scale(field, 1e-12)
        rhos = torch.logspace(0, 1, self.turns, base=self.last / self.first, dtype=torch.float64) * self.first * scale
        x = field.data_mean.to(device, torch.float64) + field.data_std * rng.normal(field.shape)
        evaluations, sizes = 0, row_sizes(measured, field.shape)
        for turn, rho in enumerate(rhos.clamp(low * (1 + 1e-6), high).tolist()):
            v = likely(measured, x, rho, sizes, rng)
            times = process.time_of_sigma(torch.logspace(0, 1, self.levels, base=low / rho, dtype=torch.float64) * rho)
            start = float(process.alpha(times[:1])) * v
            last = deque(simulate(field, self.sampler, times, start, rng=rng, cond=cond), maxlen=1).pop()
            x, evaluations = last.x, evaluations + last.evaluations
            progress((turn + 1) / self.turns, f"turn {turn + 1} of {self.turns}")
        return unweighted(self, measured, x, evaluations)
