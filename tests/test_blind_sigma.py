"""Blind sigma: the noise at which a sample is most probable under an exact field, seen whole, in part, or clipped."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import double
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, SampleRng
from scorefield.denoising import Seen, cuts_of, estimate_sigma
from scorefield.denoising.cuts import MASKED, MASKED_BLOCK

SIDE, PROCESS = 16, VE(0.01, 10.0)


def discs(process: object = PROCESS) -> GaussianMixture:
    """Images in 0 to 1: 27 white discs on black, each with a little texture."""
    i, j = torch.meshgrid(*(torch.linspace(0, 1, SIDE, dtype=torch.float64),) * 2, indexing="ij")
    ends = (0.3, 0.5, 0.7)
    means = [((i - a) ** 2 + (j - b) ** 2 < size).double() for a in ends for b in ends for size in (0.03, 0.06, 0.1)]
    return GaussianMixture(torch.ones(27), torch.stack(means)[:, None], torch.full((27,), 0.02), process)  # type: ignore[arg-type]


def smooth() -> Gaussian:
    place = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    covariance = 0.08 * torch.exp(-((torch.cdist(place, place) / 6) ** 2))
    return Gaussian(torch.full((1, SIDE, SIDE), 0.5), covariance + 1e-6 * torch.eye(SIDE**2), PROCESS)


def noisy(field: Gaussian | GaussianMixture, sigma: float, n: int) -> Tensor:
    return field.sample(SampleRng(range(n))) + sigma * SampleRng(range(n), stream=3).normal((1, SIDE, SIDE))


def holes(y: Tensor) -> Tensor:
    return torch.where(SampleRng(range(len(y)), stream=9).uniform(tuple(y.shape[1:])) < 0.5, torch.nan, y)


def filled(y: Tensor, value: float) -> Tensor:
    y = y.clone()
    y[:, :, 4:11, 4:11] = value
    return y


def in_bytes(y: Tensor) -> Tensor:
    return (y.clamp(0, 1) * 255).round() / 255


def test_it_is_the_most_likely_one_of_a_gaussian() -> None:
    field = Gaussian(torch.zeros(300), torch.diag(torch.linspace(0, 2, 300).double()), PROCESS)
    z = field.sample(SampleRng(range(6))) + double([0.3, 0.5, 0.8, 1.0, 2.0, 4.0])[:, None] * SampleRng(range(6)).normal((300,))
    grid = torch.linspace(math.log(0.05), math.log(9.9), 20001, dtype=torch.float64).exp()
    variances = field.covariance.diagonal() + grid[:, None] ** 2
    likelihoods = [(-0.5 * (row**2 / variances + variances.log())).sum(1) for row in z]
    most_likely = torch.stack([grid[one.argmax()] for one in likelihoods])
    found = estimate_sigma(field, Seen.all_of(z), rng=SampleRng(range(6)))
    assert float((found.sigma / most_likely - 1).abs().max()) < 1e-3  # of the grid and of the search


@pytest.mark.theorem("noise-evidence")
@pytest.mark.parametrize("process", [PROCESS, VP()], ids=["ve", "vp"])
def test_it_is_the_most_likely_one_of_a_mixture_and_the_curve_is_the_log_density(process: object) -> None:
    field = discs(process)
    z = noisy(field, 0.4, 4)
    found = estimate_sigma(field, Seen.all_of(z), rng=SampleRng(range(4)), chains=64)

    def log_density(sigma: Tensor) -> Tensor:
        t = field.process.time_of_sigma(sigma)
        alpha = field.process.alpha(t)
        jacobian = SIDE**2 * alpha.log()
        return torch.stack([field.log_prob(a * z, s.expand(4)) + j for a, s, j in zip(alpha, t, jacobian, strict=True)], dim=1)

    grid = torch.linspace(0.3, 0.5, 801, dtype=torch.float64)
    most_likely = grid[log_density(grid).argmax(dim=1)]
    error = 5 * math.sqrt(2 * 27 / 64) / (2 * (SIDE**2 - 27))  # of the trace, whose square sum is at most the number of modes
    assert float((found.sigma / most_likely - 1).abs().max()) < error + 5e-4
    near = (found.levels > 0.2) & (found.levels < 1.0)
    curve = log_density(found.levels[near])
    gained = found.evidence[:, near] - found.evidence[:, near][:, :1]
    wanted = curve - curve[:, :1]
    assert float((gained - wanted).abs().max()) < 0.05 * float(wanted.abs().max())  # steps of 1.5


CASES = {
    "whole": lambda y: y,
    "half is missing": holes,
    "a grey block": lambda y: filled(y, 0.5),
    "clipped to bytes": in_bytes,
    "clipped, with a black block": lambda y: filled(in_bytes(y), 0.0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_neither_cuts_nor_masks_mislead_it(case: str, sigma: float) -> None:
    n = 16
    field = discs()
    found = estimate_sigma(field, cuts_of(CASES[case](noisy(field, sigma, n)), 0.0, 1.0), rng=SampleRng(range(n)))
    relative = found.sigma / sigma - 1
    error = float((found.standard_error / sigma).mean())
    assert abs(float(relative.median())) < 5 * 1.2533 * error / math.sqrt(n)  # of a median of n
    assert float(found.known.mean()) > 0.3


@pytest.mark.parametrize("case", ["whole", "half is missing", "a grey block", "clipped to bytes"])
def test_a_clean_image_has_next_to_none(case: str) -> None:
    field = discs()
    found = estimate_sigma(field, cuts_of(CASES[case](noisy(field, 0.0, 16)), 0.0, 1.0), rng=SampleRng(range(16)))
    assert float(found.sigma.median()) < 0.01
    assert float((found.sigma < 0.05).double().mean()) > 0.8  # a hole may hide which disc it is


@pytest.mark.theorem("noise-level-error")
def test_its_standard_error_is_how_far_it_strays() -> None:
    field, n = smooth(), 60
    found = estimate_sigma(field, Seen.all_of(noisy(field, 0.5, n)), rng=SampleRng(range(n)))
    strayed = (found.sigma - 0.5) / found.standard_error
    assert abs(float(strayed.mean())) < 5 / math.sqrt(n)
    assert abs(float(strayed.var()) - 1) < 5 * math.sqrt(2 / n)


def test_a_black_image_tells_nothing_and_comes_out_as_clean() -> None:
    found = estimate_sigma(discs(), cuts_of(torch.zeros(1, 1, SIDE, SIDE), 0.0, 1.0), rng=SampleRng([0]))
    assert (float(found.sigma), float(found.known)) == (0.0, 0.0)


def test_an_image_has_the_same_sigma_alone_and_among_others() -> None:
    field, y = discs(), in_bytes(noisy(discs(), 0.3, 3))
    together = estimate_sigma(field, cuts_of(y, 0.0, 1.0), rng=SampleRng(range(3)))
    alone = estimate_sigma(field, cuts_of(y[1:2], 0.0, 1.0), rng=SampleRng([1]))
    assert float(alone.sigma) == pytest.approx(float(together.sigma[1]), rel=0.05)  # their ladders begin apart


# --- what is seen ------------------------------------------------------------------------------------------------------


def test_legal_ends_are_cuts_unless_something_lies_beyond_them() -> None:
    row = torch.linspace(0.0, 1.0, 12).reshape(1, 1, 12).clone()
    assert cuts_of(row, 0.0, 1.0).known.sum() == 10
    row[..., 5] = -0.5
    seen = cuts_of(row, 0.0, 1.0)
    assert (seen.known.sum(), float(seen.high[..., -1])) == (11, math.inf)


def test_a_value_too_frequent_for_noise_is_a_fill_inside_and_a_cut_at_the_end() -> None:
    y = SampleRng([4]).normal((1, 30, 30))
    fill = filled(y, 0.37)
    seen = cuts_of(fill)
    assert torch.equal(~seen.known, fill == 0.37)
    assert bool(seen.guess[fill == 0.37].isnan().all())
    cut = y.clamp(-1, torch.inf)
    assert torch.equal(~cuts_of(cut).known, cut == -1)
    assert bool((cuts_of(cut).high[cut == -1] == -1).all())


def test_nothing_of_plain_noise_is_taken_for_a_cut_or_a_fill() -> None:
    for levels in (1e9, 255.0):  # real numbers and bytes
        y = (SampleRng(range(20)).normal((1, 28, 28)) * 0.3 * levels).round() / levels
        assert cuts_of(y).whole


def test_a_block_at_an_end_is_likely_masked_and_single_pixels_are_not() -> None:
    y = in_bytes(0.3 * SampleRng([1]).normal((1, 28, 28)))
    y[..., 3:9, 3:9] = 0.0
    masked = cuts_of(y, 0.0, 1.0).masked
    assert bool((masked[..., 3:9, 3:9] == MASKED_BLOCK).all())
    assert float((masked == MASKED).double().mean()) > 0.9


def test_draws_inside_an_interval_are_those_of_the_truncated_normal() -> None:
    n = 40000
    z = torch.zeros(n, 1)
    for low, high in ((-math.inf, 0.5), (0.5, math.inf), (-math.inf, -6.0), (6.0, math.inf), (-math.inf, math.inf)):
        seen = Seen(z + low, z + high, z)
        drawn = seen.draw(z.double(), torch.ones(n, 1, dtype=torch.float64), SampleRng(range(n)).uniform((1,)))
        assert bool(((drawn >= low) & (drawn <= high)).all())
        phi = [math.exp(-0.5 * end**2) / math.sqrt(2 * math.pi) if math.isfinite(end) else 0.0 for end in (low, high)]
        mass = float(torch.special.ndtr(double(high)) - torch.special.ndtr(double(low)))
        mass = mass or float(torch.special.ndtr(double(-low)))  # the far right tail
        mean = (phi[0] - phi[1]) / mass
        assert abs(float(drawn.mean()) - mean) < 5 * float(drawn.std()) / math.sqrt(n)
