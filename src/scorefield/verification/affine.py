"""Samplers without Monte Carlo: on Gaussian data every step is affine, so its law is pushed through exactly.

If the score is affine in x then a whole run is  x_end = A·x_start + B·z + c  with z all its noise laid end to end. `affine_map`
reads A, B and c off from outside, by starting at 0 and at the unit vectors and by feeding zeros and unit vectors as noise; mean
and covariance of the end are A·m + c and A·S·Aᵀ + B·Bᵀ. Halving the steps measures a sampler's order to three digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scorefield.exact import Gaussian
from scorefield.field import Field
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.samplers import Sampler, simulate

Script = Callable[[int, Tensor], None]


class Scripted(SampleRng):
    """Noise that is not random: draw number k is zeros changed in place by `script(k, draw)`, and draws are counted."""

    def __init__(self, rows: int, script: Script | None = None) -> None:
        super().__init__(range(rows))
        self.script = script

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        draw = torch.zeros(len(self), *shape, dtype=torch.float64)
        if self.script is not None:
            self.script(self.draws, draw)
        self.draws += 1
        return draw


def affine_map(field: Field, sampler: Sampler, ladder: Tensor, denoise: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return (A, B, c) of x_end = A·x_start + B·z + c where the score is affine, `(d, d)`, `(d, d·draws)` and `(d,)`."""
    (d,) = field.shape
    unit, zero = torch.eye(d, dtype=torch.float64), torch.zeros(1, d, dtype=torch.float64)
    silent = Scripted(1 + d)
    *_, last = simulate(field, sampler, ladder, torch.cat([zero, unit]), rng=silent, denoise=denoise)
    c = last.x[0]
    a, b = (last.x[1:] - c).mT, torch.zeros(d, 0, dtype=torch.float64)

    def script(k: int, draw: Tensor) -> None:
        draw[k * d : (k + 1) * d] = unit

    if rows := d * silent.draws:
        *_, last = simulate(field, sampler, ladder, zero.expand(rows, d), rng=Scripted(rows, script), denoise=denoise)
        b = (last.x - c).mT
    return a, b, c


def snapshots(field: Gaussian, t: float) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of x_t."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = field.process.alpha(time), field.process.sigma(time)
    return alpha * field.mean, alpha**2 * field.covariance + sigma**2 * torch.eye(len(field.mean), dtype=torch.float64)


def push(mean: Tensor, covariance: Tensor, run: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and covariance after an affine run."""
    a, b, c = run
    return a @ mean + c, a @ covariance @ a.mT + b @ b.mT


def measured_order(sampler: Sampler, process: Process, steps: Sequence[int]) -> tuple[float, float, float]:
    """Return (order, error of the mean, error of the covariance) of a jumping sampler on a Gaussian.

    Args:
        sampler: what is measured, at fixed steps.
        process: any; the middle of its range, from 0.7 to 0.3, is cut into equal steps of time.
        steps: two numbers of steps, the second larger; the errors are those of the second.

    Returns:
        The slope of log error against log step length; infinity where the error is rounding.
    """
    field = Gaussian([1.5, -0.5], [[1.5, 0.4], [0.4, 0.3]], process)
    low, high = (process.t_min + share * (process.t_max - process.t_min) for share in (0.3, 0.7))
    true_mean, true_covariance = snapshots(field, low)
    errors = []
    for count in steps:
        ladder = torch.linspace(high, low, count + 1, dtype=torch.float64)
        mean, covariance = push(*snapshots(field, high), affine_map(field, sampler.at_fixed_steps(), ladder))
        errors.append((float((mean - true_mean).abs().max()), float((covariance - true_covariance).abs().max())))
    first, last = sum(errors[0]), sum(errors[-1])
    order = math.inf if last < 1e-11 else math.log(first / last) / math.log(steps[-1] / steps[0])
    return order, *errors[-1]
