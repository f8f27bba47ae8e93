"""Facts that a sampler declares, measured by what it does.

remembers    x is moved between steps; if the run with the state that was carried differs from the run with a fresh state at
             every step, the state depends on the x before
dwells       exact samples of a Gaussian at the upper of two levels, v = 1 + sigma²; after the steps on its level their
             variance is that of the upper level if the sampler dwells, and that of the lower one if it jumps
"""

from __future__ import annotations

import math
from typing import Any

import torch

from scorefield.exact import Gaussian, GaussianMixture
from scorefield.levels import geometric
from scorefield.process import VE
from scorefield.randomness import SampleRng
from scorefield.samplers.base import CountedField, Info, Sampler, Step, simulate
from scorefield.shapes import Sample

SAMPLES = 4000


class _Meddler(Sampler):
    """A sampler whose x is moved before every step, with the state that it carried or with a fresh one."""

    order, remembers, evaluations_per_step, ladder, levels = None, True, None, "geometric", 4

    def __init__(self, sampler: Sampler, fresh: bool) -> None:
        self.sampler, self.fresh = sampler, fresh

    @property
    def dwells(self) -> bool:
        return self.sampler.dwells

    @property
    def steps_on_last_level(self) -> bool:
        return self.sampler.steps_on_last_level

    @property
    def steps_per_level(self) -> int:
        return self.sampler.steps_per_level

    def start(self, field: CountedField, steps: list[Step]) -> Any:
        return steps, self.sampler.start(field, steps)

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        steps, carried = state
        state = self.sampler.start(field, steps) if self.fresh else carried
        x, state, info = self.sampler.step(field, x + 0.1, step, state, rng)
        return x, (steps, state), info


def remembers(sampler: Sampler) -> bool:
    """Return whether a sampler's state couples successive x, so that a change of x between steps matters."""
    field = GaussianMixture([0.7, 0.3], [[-1.0, 0.5], [1.5, 0.0]], [0.5, 0.8], VE(0.1, 5.0))
    short, ladder = sampler.within(4)[0], geometric(field.process, 5)
    ends = []
    for fresh in (False, True):
        *_, last = simulate(field, _Meddler(short, fresh), ladder, rng=SampleRng(range(5)))
        ends.append(last.x)
    return not torch.equal(*ends)


def dwells(sampler: Sampler) -> bool:
    """Return whether a sampler leaves its samples with the law of the level they are on, instead of that of the next level."""
    process = VE(0.7, 1.0)
    field, rng = Gaussian([0.0], [[1.0]], process), SampleRng(range(SAMPLES))
    high, low = 2.0, 1.49
    short = sampler.within(20)[0]
    start = math.sqrt(high) * rng.normal((1,))
    snapshots = simulate(field, short, geometric(process, 2), start, rng=rng, denoise=False)
    variance = next(float(snapshot.x.var()) for snapshot in snapshots if snapshot.step == short.steps_per_level)
    return math.log(variance) > 0.5 * (math.log(high) + math.log(low))
