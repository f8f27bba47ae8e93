"""The bench: two mixtures whose samples are drawn exactly, and what a perfect sampler would score on them.

    ring      8 components on a circle of radius 5 in the plane, standard deviation 0.5, weights 1 to 8
    spread    8 components in 32 dimensions, means N(0, 3²), standard deviations 0.3 to 1.5, weights 1 to 8

A sampler is judged by the sliced Wasserstein-2 distance of its samples to exact ones, in units of the *floor*: the same
distance between two exact sets, averaged over pairs. Most of the floor is chance in the weights, so a single figure says
little and several sets are averaged. The weights themselves are judged in standard errors of their binomial.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.exact import GaussianMixture
from scorefield.levels import ladder_of
from scorefield.metrics.two_sample import directions, mmd, sliced_wasserstein
from scorefield.process import VE, Process
from scorefield.randomness import SampleRng, stream_of
from scorefield.samplers import Sampler, simulate

BUDGETS = (10, 20, 50, 100, 1000)


def ring(process: Process) -> GaussianMixture:
    """Return the 2-D mixture."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixture(torch.arange(1, 9), 5 * torch.stack([angle.cos(), angle.sin()], dim=1), [0.5] * 8, process)


def spread(process: Process) -> GaussianMixture:
    """Return the 32-D mixture with unequal weights and unequal widths."""
    means = 3 * SampleRng(range(8), stream=stream_of("spread")).normal((32,))
    return GaussianMixture(torch.arange(1, 9), means, torch.linspace(0.3, 1.5, 8), process)


@dataclass(frozen=True)
class Score:
    """How a sampler did with a number of evaluations.

    Attributes:
        evaluations: made, at most those asked for.
        distance: sliced Wasserstein-2, averaged over the sets.
        ratio: the same over the floor.
        error: standard error of the ratio, over sets and pairs of the floor.
        weights: the largest deviation of a mode's weight, in standard errors of all samples together.
        variation: total variation between the weights and the true ones.
        mmd: MMD² of the first 2,000 samples to exact ones.
    """

    evaluations: int
    distance: float
    ratio: float
    error: float
    weights: float
    variation: float
    mmd: float

    def to_dict(self) -> dict[str, float]:
        """Return it as plain values."""
        return asdict(self)


def within_evaluations(sampler: Sampler, budget: int) -> tuple[Sampler, int]:
    """Return a sampler and a number of levels that make at most `budget` evaluations, the final denoising included."""
    if not sampler.dwells and sampler.evaluations_per_step is not None:
        return sampler, max(2, (budget - 1) // sampler.evaluations_per_step + 1)
    field, steps = GaussianMixture([1.0], [[0.0]], [1.0], VE()), budget
    for _ in range(20):
        chosen, levels = sampler.within(max(steps, 2))
        *_, last = simulate(field, chosen, ladder_of(field, sampler.ladder, levels), rng=SampleRng([0]))
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
        return self.field.sample(SampleRng(range(self.samples), stream=stream_of("exact", index)))

    @cached_property
    def directions(self) -> Tensor:
        return directions(self.field.means.shape[1])

    @cached_property
    def references(self) -> list[Tensor]:
        """Two exact sets for every set of samples."""
        return [self.exact(1000 + i) for i in range(2 * self.sets)]

    @cached_property
    def pairs(self) -> Tensor:
        """The distances of 24 pairs of exact sets."""
        pairs = ((self.exact(2 * i), self.exact(2 * i + 1)) for i in range(24))
        return torch.tensor([sliced_wasserstein(a, b, self.directions) for a, b in pairs], dtype=torch.float64)

    @property
    def floor(self) -> float:
        """The distance of two exact sets, averaged over the pairs."""
        return float(self.pairs.mean())

    @cached_property
    def mmd_floor(self) -> float:
        """The root mean square of MMD² between exact sets."""
        pairs = [mmd(self.exact(2 * i)[:2000], self.exact(2 * i + 1)[:2000], self.field.data_std) for i in range(4)]
        return math.sqrt(sum(value**2 for value in pairs) / 4)

    def score(self, sampler: Sampler, levels: int, sets: int | None = None, ladder: Tensor | None = None) -> Score:
        """Draw `sets` sets (None: all) and compare them; `ladder` None takes the sampler's own with `levels` levels."""
        times = ladder_of(self.field, sampler.ladder, levels) if ladder is None else ladder
        count = sets or self.sets
        distances, counts, first = [], torch.zeros(len(self.field.weights), dtype=torch.float64), self.exact(0)
        low = torch.full((self.samples,), self.field.process.t_min, dtype=torch.float64)
        for index in range(count):
            rng = SampleRng(range(self.samples), stream=stream_of("bench", index))
            last = deque(simulate(self.field, sampler, times, rng=rng), maxlen=1).pop()  # a thousand states are 5 GB
            counts += self.field.responsibilities(last.x, low).argmax(dim=1).bincount(minlength=len(counts))
            both = self.references[2 * index : 2 * index + 2]
            distances.append(sum(sliced_wasserstein(last.x, reference, self.directions) for reference in both) / 2)
            first = last.x if index == 0 else first
        n, w = self.samples * count, self.field.weights
        error = (counts / n - w) / (w * (1 - w) / n).sqrt()
        each = torch.tensor(distances, dtype=torch.float64)
        ratio = float(each.mean()) / self.floor
        # one set has no spread of its own: that of a pair of exact sets stands in
        spread = float(each.std() / each.mean()) if count > 2 else float(self.pairs.std()) / self.floor
        relative = math.hypot(spread / math.sqrt(count), float(self.pairs.std()) / self.floor / math.sqrt(len(self.pairs)))
        two = mmd(first[:2000], self.references[0][:2000], self.field.data_std)
        variation = 0.5 * float((counts / n - w).abs().sum())
        return Score(last.evaluations, float(each.mean()), ratio, ratio * relative, float(error.abs().max()), variation, two)
