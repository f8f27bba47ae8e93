"""The bench: two mixtures whose samples are drawn exactly, and what a perfect sampler would score on them.

    ring      8 components on a circle of radius 5 in the plane, standard deviation 0.5, weights 1 to 8
    spread    8 components in 32 dimensions, means N(0, 3²), standard deviations 0.3 to 1.5, weights 1 to 8

A sampler is judged by the sliced Wasserstein-2 distance of its samples to exact ones, in units of the *floor*: the same
distance between two exact sets, averaged over pairs. Most of the floor is luck in the weights, so a single figure means little
and several sets are averaged. The weights themselves are judged in standard errors of their binomial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.exact import GaussianMixture
from scorefield.levels import ladder_of
from scorefield.metrics.two_sample import directions, mmd, sliced_wasserstein
from scorefield.process import VE, Process
from scorefield.randomness import Noise, stream_of
from scorefield.samplers import Moment, Sampler, simulate

BUDGETS = (10, 20, 50, 100, 1000)


def ring(process: Process) -> GaussianMixture:
    """Return the 2-D mixture."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixture(torch.arange(1, 9), 5 * torch.stack([angle.cos(), angle.sin()], dim=1), [0.5] * 8, process)


def spread(process: Process) -> GaussianMixture:
    """Return the 32-D mixture with unequal weights and unequal widths."""
    means = 3 * Noise(range(8), stream=stream_of("spread")).normal((32,))
    return GaussianMixture(torch.arange(1, 9), means, torch.linspace(0.3, 1.5, 8), process)


@dataclass(frozen=True)
class Score:
    """How a sampler did with a number of evaluations.

    Attributes:
        evaluations: made, at most those asked for.
        distance: sliced Wasserstein-2, averaged over the sets.
        ratio: the same over the floor.
        weights: the largest deviation of a mode's weight, in standard errors of all samples together.
        variation: total variation between the weights and the true ones.
        mmd: MMD² of the first 2,000 samples to exact ones.
    """

    evaluations: int
    distance: float
    ratio: float
    weights: float
    variation: float
    mmd: float


def within_evaluations(sampler: Sampler, budget: int) -> tuple[Sampler, int]:
    """Return a sampler and a number of levels that make at most `budget` evaluations, the final denoising included."""
    if sampler.order is not None and sampler.evaluations_per_step is not None:
        return sampler, max(2, (budget - 1) // sampler.evaluations_per_step + 1)
    field, steps = GaussianMixture([1.0], [[0.0]], [1.0], VE()), budget
    for _ in range(20):
        chosen, levels = sampler.within(max(steps, 2))
        *_, last = simulate(field, chosen, ladder_of(field, sampler.ladder, levels), noise=Noise([0]))
        if last.evaluations <= budget or steps <= 2:
            break
        steps = min(steps - 1, steps * budget // last.evaluations)
    return chosen, levels


@dataclass(frozen=True)
class Bench:
    """A mixture with exact reference sets.

    Attributes:
        name: of the mixture.
        field: the mixture.
        samples: in a set.
        sets: how many sets are drawn and averaged.
    """

    name: str
    field: GaussianMixture
    samples: int
    sets: int

    def exact(self, index: int) -> Tensor:
        """Return exact samples number `index`."""
        return self.field.sample(Noise(range(self.samples), stream=stream_of("exact", index)))

    @cached_property
    def directions(self) -> Tensor:
        return directions(self.field.means.shape[1])

    @cached_property
    def references(self) -> list[Tensor]:
        """Two exact sets for every set of samples."""
        return [self.exact(1000 + i) for i in range(2 * self.sets)]

    @cached_property
    def floor(self) -> float:
        """The distance of two exact sets, averaged over twelve pairs."""
        pairs = ((self.exact(2 * i), self.exact(2 * i + 1)) for i in range(12))
        return sum(sliced_wasserstein(a, b, self.directions) for a, b in pairs) / 12

    @cached_property
    def mmd_floor(self) -> float:
        """The root mean square of MMD² between exact sets."""
        pairs = [mmd(self.exact(2 * i)[:2000], self.exact(2 * i + 1)[:2000], self.field.data_std) for i in range(4)]
        return math.sqrt(sum(value**2 for value in pairs) / 4)

    def score(
        self, sampler: Sampler, ladder: Tensor | None, levels: int, watch: Callable[[Moment], None] = lambda moment: None
    ) -> Score:
        """Draw the sets and compare; `ladder` None takes the sampler's own with `levels` levels."""
        times = ladder_of(self.field, sampler.ladder, levels) if ladder is None else ladder
        distances, counts, drawn = [], torch.zeros(len(self.field.weights), dtype=torch.float64), []
        low = torch.full((self.samples,), self.field.process.t_min, dtype=torch.float64)
        for index in range(self.sets):
            noise = Noise(range(self.samples), stream=stream_of("bench", index))
            for moment in simulate(self.field, sampler, times, noise=noise):
                watch(moment)
            drawn.append(moment.x)
            counts += self.field.responsibilities(moment.x, low).argmax(dim=1).bincount(minlength=len(counts))
            for reference in self.references[2 * index : 2 * index + 2]:
                distances.append(sliced_wasserstein(moment.x, reference, self.directions))
        n, w = self.samples * self.sets, self.field.weights
        error = (counts / n - w) / (w * (1 - w) / n).sqrt()
        mean = sum(distances) / len(distances)
        two = mmd(drawn[0][:2000], self.references[0][:2000], self.field.data_std)
        variation = 0.5 * float((counts / n - w).abs().sum())
        return Score(moment.evaluations, mean, mean / self.floor, float(error.abs().max()), variation, two)
