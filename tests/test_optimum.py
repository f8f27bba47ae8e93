"""The memorising optimum by products of matrices is the exact mixture in float64; a part of the points changes what it may."""

import math

import pytest
import torch
from helpers import each_case
from torch import Tensor

from scorefield import VE, VP, GaussianMixture, Process, SampleRng
from scorefield.levels import geometric
from scorefield.training.optimum import memorising_errors

LEVELS = 12


def images(n: int, d: int, seed: int = 0) -> Tensor:
    """Points about a few centres, some of them equal and some all but equal, as pictures of one object are."""
    rng = SampleRng(range(n), stream=seed)
    points = rng.normal((d,)) * 0.3 + SampleRng(range(n)).normal((d,))[torch.arange(n) % 7]
    points[5::50] = points[4::50]  # copies
    points[6::50] = points[4::50] + 1e-4
    return points.float()


def exact(points: Tensor, x0: Tensor, noise: Tensor, process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    """E[x0 | x_t] by the mixture in float64, and ‖sigma·score + noise‖²/d, one per example."""
    x0, noise, each = x0.double(), noise.double(), t.expand(len(x0))
    said = GaussianMixture.empirical(points, process)(process.perturb(x0, each, noise), each)
    return said.denoised, (process.sigma(t) * said.score + noise).square().mean(dim=1)


@each_case(process=[VE(0.002, 80.0), VP()])
@pytest.mark.parametrize("pieces", [300, 64])
def test_the_errors_are_those_of_the_exact_mixture_in_float64_at_every_level(process: Process, pieces: int) -> None:
    """To n·2^-24·max‖m‖ of the float32 product per example, and 1e-9 that the mixture itself keeps at its smallest sigma."""
    points = images(300, 20)
    x0, noise = points[:40], SampleRng(range(40), stream=1).normal((20,))
    times = geometric(process, LEVELS)
    found = memorising_errors(lambda: torch.split(points, pieces), x0, noise, process, times)
    assert found.shape == (LEVELS, 40)
    far = float(points.norm(dim=1).max())
    for t, errors in zip(times, found, strict=True):
        denoised, expected = exact(points, x0, noise, process, t)
        scale = float(process.alpha(t) / process.sigma(t)) / math.sqrt(20)
        moved = (denoised - x0.double()).norm(dim=1) > 1e-9 * far  # else all of the weight lies on x0
        rounding = scale * (300 * 2.0**-24 * far * moved + 1e-9 * far)
        assert bool(((errors.sqrt() - expected.sqrt()).abs() <= rounding).all()), float(t)


def test_leaving_components_out_changes_the_error_by_at_most_their_weight_times_the_diameter() -> None:
    """A part of 60 of 300 points: |sqrt(e_all) - sqrt(e)| <= (alpha/sigma)·r·R/sqrt(d), and log p as the docstring says."""
    process, points = VE(0.01, 30.0), images(300, 20)
    part, x0 = points[:60], points[:10]
    noise, times = SampleRng(range(10), stream=1).normal((20,)), geometric(VE(0.01, 30.0), LEVELS)
    whole, few = (memorising_errors(lambda p=p: [p], x0, noise, process, times) for p in (points, part))  # type: ignore[misc]
    diameter, fields = float(torch.cdist(points, points).max()), [GaussianMixture.empirical(p, process) for p in (points, part)]
    changed = list[float]()
    for t, all_, some in zip(times, whole, few, strict=True):
        x, each = process.perturb(x0.double(), t.expand(10), noise), t.expand(10)
        left_out = fields[0].responsibilities(x, each)[:, 60:].sum(dim=1)
        bound = float(process.alpha(t) / process.sigma(t)) * left_out * diameter / math.sqrt(20)
        difference = (all_.sqrt() - some.sqrt()).abs()
        assert bool((difference <= bound + 300 * 2.0**-24 * diameter * float(process.alpha(t) / process.sigma(t))).all())
        shift = math.log(60 / 300) - torch.log1p(-left_out)
        assert torch.allclose(fields[0].log_prob(x, each), fields[1].log_prob(x, each) + shift, rtol=0, atol=1e-6)
        changed.append(float((difference / bound.clamp(min=1e-300)).max()))
    assert max(changed) > 0.05  # the bound is no empty one


def test_an_example_at_zero_among_many_copies_of_itself_pulls_nowhere() -> None:
    points = torch.cat([torch.zeros(500, 3), torch.ones(1, 3)])
    process = VE(0.01, 10.0)
    loud, quiet = memorising_errors(lambda: [points], points[:1], torch.zeros(1, 3), process, geometric(process, 2))
    share = math.exp(-3 / 200) / (500 + math.exp(-3 / 200))  # of the one other point, at sigma = 10
    assert float(quiet) == 0.0 and abs(float(loud) - (share / 10) ** 2) < 1e-6 * (share / 10) ** 2
