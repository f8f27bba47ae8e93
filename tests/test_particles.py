"""Particles: systematic resampling is unbiased, takes each its share to within one, and never one without weight."""

import math

import pytest
import torch

from scorefield import SampleRng
from scorefield.guidance.particles import effective, systematic

RNG = SampleRng(range(1000), stream=5)
LOG_W = 2 * RNG.normal((7,))
W = LOG_W.softmax(dim=1)


def counts(taken: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(taken, taken.shape[-1]).sum(dim=-2)


def test_every_particle_is_taken_its_share_rounded_down_or_up() -> None:
    taken = counts(systematic(LOG_W, RNG.uniform()))
    assert bool((taken >= (7 * W - 1e-9).floor()).all()) and bool((taken <= (7 * W + 1e-9).ceil()).all())
    assert bool((taken.sum(dim=1) == 7).all())


def test_the_mean_number_of_times_is_the_weight() -> None:
    """Over u, evenly spread: the mean of a step function over n even points is within its K jumps of the integral."""
    n = 10_000
    u = (torch.arange(n).double() + 0.5) / n
    mean = counts(systematic(LOG_W[:1].expand(n, -1), u)).double().mean(dim=0)
    assert float((mean - 7 * W[0]).abs().max()) <= 2 / n


def test_a_particle_without_weight_is_never_taken() -> None:
    for u in (0.0, 0.5, 1 - 2**-53):
        at = torch.tensor(u, dtype=torch.float64)
        nothing_first = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf], dtype=torch.float64)
        assert set(systematic(nothing_first, at).tolist()) <= {1, 3}


def test_equal_weights_take_everyone_once_and_a_constant_changes_nothing() -> None:
    u = torch.tensor(0.3, dtype=torch.float64)
    assert systematic(torch.zeros(5, dtype=torch.float64), u).tolist() == [0, 1, 2, 3, 4]
    assert bool((systematic(LOG_W, u.expand(1000)) == systematic(LOG_W - 1000, u.expand(1000))).all())


@pytest.mark.theorem("effective-particles")
def test_the_effective_number_runs_from_one_to_all() -> None:
    assert float(effective(torch.zeros(6))) == 6.0
    assert float(effective(torch.tensor([0.0, -torch.inf, -torch.inf]))) == 1.0
    assert bool(((effective(LOG_W) >= 1) & (effective(LOG_W) <= 7)).all())


@pytest.mark.theorem("effective-particles")
def test_a_weighted_mean_scatters_as_one_of_the_effective_number_of_equal_ones() -> None:
    n, log_w = 20_000, LOG_W[:3]
    means = SampleRng(range(n), stream=6).normal((7,)) @ log_w.softmax(dim=1).mT
    ratios = means.square().mean(dim=0) * effective(log_w)
    assert bool(((ratios - 1).abs() < 5 * math.sqrt(2 / n)).all())
    assert bool((effective(log_w) < 6).all())
