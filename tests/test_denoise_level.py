"""A known noise level: mean, standard deviation and draws of x0 given z = x0 + sigma·noise, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import double, each_case, within_five
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, Process, RectifiedFlow, SampleRng, ScorefieldError
from scorefield.denoising import Seen, completed, denoised_at, jacobian_diagonal, posterior_draws
from scorefield.denoising.level import lambda_range

PROCESSES = {"ve": VE(0.01, 10.0), "vp": VP(), "flow": RectifiedFlow()}
D = 12


def gaussian(process: Process, shape: tuple[int, ...] = (D,)) -> Gaussian:
    d = math.prod(shape)
    at = torch.arange(d, dtype=torch.float64)
    return Gaussian(torch.linspace(-1, 1, d).reshape(shape), 0.7 * 0.8 ** (at[:, None] - at).abs(), process)


def posterior(field: Gaussian, z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x0 given z, in closed form."""
    d = len(field.mean)
    gain = torch.linalg.solve(field.covariance + sigma**2 * torch.eye(d, dtype=torch.float64), field.covariance).T
    mean = field.mean + (z.reshape(len(z), d) - field.mean) @ gain.T
    return mean.reshape(z.shape), field.covariance - gain @ field.covariance


@pytest.mark.theorem("tweedie")
@each_case(process=PROCESSES, sigma=[0.05, 0.3, 1.0, 5.0])
def test_the_denoised_image_is_the_posterior_mean(process: Process, sigma: float) -> None:
    field = gaussian(process)
    z = field.sample(SampleRng(range(9))) + sigma * SampleRng(range(9), stream=1).normal((D,))
    found = denoised_at(field, z, torch.full((9,), sigma, dtype=torch.float64))
    torch.testing.assert_close(found, posterior(field, z, sigma)[0], rtol=1e-7, atol=1e-7)


@pytest.mark.theorem("least-error")
@each_case(process=PROCESSES, sigma=[0.2, 1.0])
def test_denoising_attains_the_minimum_mean_squared_error(process: Process, sigma: float) -> None:
    field = gaussian(process)
    eye = torch.eye(D, dtype=torch.float64)
    level = torch.full((D,), sigma, dtype=torch.float64)
    origin = denoised_at(field, field.mean.expand(D, D), level)
    matrix = (denoised_at(field, field.mean + eye, level) - origin).T  # it is affine in z
    off = matrix - eye
    error = off @ field.covariance @ off.T + sigma**2 * matrix @ matrix.T
    least = posterior(field, field.mean[None], sigma)[1]
    assert float(error.trace()) == pytest.approx(float(least.trace()), rel=1e-6)


@pytest.mark.theorem("posterior-covariance")
@each_case(process=PROCESSES, sigma=[0.1, 0.5, 2.0])
def test_the_standard_deviation_is_the_posterior_s(process: Process, sigma: float) -> None:
    field = gaussian(process)
    z, level = field.mean.expand(3, D), torch.full((3,), sigma, dtype=torch.float64)
    found = jacobian_diagonal(field, z, level, rng=SampleRng(range(3)))
    wanted = posterior(field, z, sigma)[1].diagonal().sqrt()
    torch.testing.assert_close(found.std(level), wanted.expand(3, D), rtol=1e-6, atol=1e-6)
    assert (float(found.standard_error.max()), found.negative, found.evaluations) == (0.0, 0, D)


@pytest.mark.theorem("posterior-covariance")
def test_the_standard_deviation_of_a_mixture_is_that_of_its_weighed_components() -> None:
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.0, 2.0], [1.0, 1.0, -1.0]], [0.4, 0.2], PROCESSES["ve"])
    sigma, z = 0.9, double([[0.1, 0.3, 0.5], [-0.5, 0.0, 1.0]])
    level = torch.full((2,), sigma, dtype=torch.float64)
    shares = field.responsibilities(z, field.process.time_of_sigma(level))
    gains = field.stds**2 / (field.stds**2 + sigma**2)
    means = field.means + gains[:, None] * (z[:, None] - field.means)
    mean = (shares[..., None] * means).sum(1)
    second = (shares[..., None] * (means**2 + (sigma**2 * gains)[:, None])).sum(1)
    found = jacobian_diagonal(field, z, level, rng=SampleRng(range(2))).std(level)
    torch.testing.assert_close(found, (second - mean**2).sqrt(), rtol=1e-6, atol=1e-6)


@pytest.mark.theorem("noise-evidence")
@each_case(process=PROCESSES, sigma=[0.2, 0.9, 4.0])
def test_the_denoiser_and_its_derivative_give_the_slope_of_the_log_density_by_the_noise_level(
    process: Process, sigma: float
) -> None:
    """|z - D|²/sigma² - (d - tr J), against differences of log p_sigma(z) in log sigma; x_t = alpha·z has volume alpha^d."""
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.0, 2.0], [1.0, 1.0, -1.0]], [0.4, 0.2], process)
    z, step = double([[0.1, 0.3, 0.5], [-0.5, 0.0, 1.0], [1.1, 1.4, -0.6]]), 1e-4

    def log_density(level: float) -> Tensor:
        t = process.time_of_sigma(torch.full((3,), level, dtype=torch.float64))
        alpha = process.alpha(t)
        return field.log_prob(alpha[:, None] * z, t) + 3 * alpha.log()

    slope = (log_density(sigma * math.exp(step)) - log_density(sigma * math.exp(-step))) / (2 * step)
    level = torch.full((3,), sigma, dtype=torch.float64)
    trace = jacobian_diagonal(field, z, level, rng=SampleRng(range(3))).diagonal.sum(dim=1)
    taken = (z - denoised_at(field, z, level)).square().sum(dim=1) / sigma**2
    torch.testing.assert_close(taken - (3 - trace), slope, rtol=1e-5, atol=1e-5)


def test_probing_is_unbiased_its_error_is_the_one_it_states_and_far_pixels_are_all_of_it() -> None:
    n, sigma, shape = 400, 0.7, (1, 40)
    field = gaussian(PROCESSES["ve"], shape)
    z, level = field.mean.reshape(shape).expand(n, *shape), torch.full((n,), sigma, dtype=torch.float64)
    wanted = (posterior(field, z[:1], sigma)[1].diagonal() / sigma**2).reshape(shape)
    spread = {}
    for stride in (2, 4, 8):
        found = jacobian_diagonal(field, z, level, rng=SampleRng(range(n)), stride=stride)
        assert within_five(found.diagonal[:, 0, 17] - wanted[0, 17])
        assert found.evaluations == 2 * stride
        spread[stride] = float((found.diagonal - wanted).square().mean().sqrt())
        assert float(found.standard_error.square().mean().sqrt()) == pytest.approx(spread[stride], rel=0.1)
    assert spread[8] < spread[4] / 2 < spread[2] / 4


@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 30), (1, 3, 4, 5), (11,)])
def test_exact_probing_finds_every_pixel_of_every_shape(shape: tuple[int, ...]) -> None:
    d = math.prod(shape)
    variances = torch.linspace(0.1, 3.0, d, dtype=torch.float64)
    field = Gaussian(torch.zeros(shape), torch.diag(variances), PROCESSES["ve"])
    found = jacobian_diagonal(field, torch.zeros(2, *shape), torch.ones(2), rng=SampleRng(range(2)))
    torch.testing.assert_close(found.diagonal[1].double(), (variances / (variances + 1)).reshape(shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_draws_have_the_posterior_s_mean_and_covariance_and_their_intervals_hold(name: str) -> None:
    field, sigma, n = gaussian(PROCESSES[name], (4,)), 0.6, 4000
    z = double([[0.2, -0.5, 0.9, 0.1]])
    mean, covariance = posterior(field, z, sigma)
    x = posterior_draws(field, z.expand(n, 4), sigma, rng=SampleRng(range(n)))
    off = x - mean
    assert float((off.mean(dim=0).abs() / (covariance.diagonal() / n).sqrt()).max()) < 5
    products = off[:, :, None] * off[:, None, :]
    errors = products.std(dim=0) / math.sqrt(n)
    assert float(((products.mean(dim=0) - covariance).abs() / errors).max()) < 5
    held = (off.abs() <= 1.6449 * covariance.diagonal().sqrt()).double().mean(dim=0)
    assert float((held - 0.9).abs().max()) < 5 * math.sqrt(0.09 / n)


def test_draws_from_between_two_modes_choose_them_as_often_as_the_posterior_does() -> None:
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1], PROCESSES["ve"])
    sigma, n, z = 0.8, 4000, double([[-0.2, 0.1]])
    share = float(field.responsibilities(z, field.process.time_of_sigma(double([sigma])))[0, 1])
    assert 0.3 < share < 0.9
    x = posterior_draws(field, z.expand(n, 2), sigma, rng=SampleRng(range(n)), levels=60)
    assert abs(float((x[:, 0] > 0).double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_the_shares_of_three_modes_have_the_bias_that_is_stated() -> None:
    means = [[-2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 0.0, -1.0]]
    field = GaussianMixture([0.15, 0.5, 0.35], means, [0.2, 0.1, 0.2], PROCESSES["ve"])
    sigma, n, z = 1.2, 60_000, double([[0.2, 0.6, 0.1, 0.3]])
    right = field.responsibilities(z, field.process.time_of_sigma(double([sigma])))[0]
    x = posterior_draws(field, z.expand(n, 4), sigma, rng=SampleRng(range(n)))
    nearest = (torch.cdist(x, field.means.to(x)) / field.stds.to(x)).argmin(dim=1)
    shares = torch.bincount(nearest, minlength=3).double() / n
    assert float((shares - right).abs().sum() / 2) < 0.003 + 2 * math.sqrt(0.16 / n)


def test_below_the_lowest_level_its_score_is_kept() -> None:
    field = gaussian(VE(0.2, 10.0))
    z = SampleRng(range(4)).normal((D,))
    lowest = lambda_range(field)[0]
    assert lowest == pytest.approx(0.2)
    score = (denoised_at(field, z, torch.full((4,), 0.2).double()) - z) / 0.2**2
    torch.testing.assert_close(
        denoised_at(field, z, torch.full((4,), 0.05).double()), z + 0.05**2 * score, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(denoised_at(field, z, torch.zeros(4).double()), z, rtol=0, atol=0)
    draws = posterior_draws(field, z[:1].expand(2000, D), 0.05, rng=SampleRng(range(2000)))
    assert float(draws.std(dim=0).mean()) == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 11.0, math.nan])
def test_a_noise_that_the_field_does_not_know_is_refused(sigma: float) -> None:
    with pytest.raises(ScorefieldError, match="expected noise above 0 and at most 10"):
        posterior_draws(gaussian(PROCESSES["ve"]), torch.zeros(1, D), sigma, rng=SampleRng([0]))


def test_what_is_missing_is_completed_as_the_posterior_says() -> None:
    """Half of a smooth signal is seen; the mean over chains of D is the posterior mean given that half."""
    shape, sigma, count = (1, 16), 0.5, 400
    field = gaussian(PROCESSES["ve"], shape)
    z = field.sample(SampleRng([3])) + sigma * SampleRng([3], stream=1).normal(shape)
    gone = torch.arange(16).reshape(1, 1, 16) % 2 == 1
    seen = Seen(torch.where(gone, -math.inf, z), torch.where(gone, math.inf, z), torch.zeros_like(z))
    chains = completed(field, seen, sigma, rng=SampleRng([0]), count=count)
    assert torch.equal(chains[:, ~gone[0]], z[0][~gone[0]].expand(count, 8))
    means = denoised_at(field, chains, torch.full((count,), sigma, dtype=torch.float64))[:, 0]
    kept = torch.arange(0, 16, 2)
    inverse = torch.linalg.inv(field.covariance[kept][:, kept] + sigma**2 * torch.eye(8, dtype=torch.float64))
    gain = field.covariance[:, kept] @ inverse
    mean = field.mean + gain @ (z[0, 0, kept] - field.mean[kept])
    std = (field.covariance - gain @ field.covariance[kept]).diagonal().sqrt()
    error = 5 * means.std(dim=0) / math.sqrt(count)
    assert bool(((means.mean(dim=0) - mean).abs() < error + 0.05 * std).all())  # a draw of x0 is an approximation
