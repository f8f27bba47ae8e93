"""Exact fields: their density, score, posterior mean and samples agree with each other and with the SDE that noises them."""

import math
from typing import Any

import numpy
import pytest
import torch
from helpers import double, each_case
from scipy import stats

from scorefield import (
    VE,
    VP,
    Cosine,
    EnergyField,
    Field,
    Gaussian,
    GaussianMixture,
    LinearVE,
    Process,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    SubVP,
    Tabulated,
)
from scorefield.shapes import over

PROCESSES = {
    "ve": VE(0.05, 8.0),
    "vp": VP(),
    "sub-vp": SubVP(),
    "cosine": Cosine(),
    "rectified-flow": RectifiedFlow(),
    "karras": LinearVE(0.05, 8.0),
    "tabulated": Tabulated.linear(1000),
}
each_process = each_case(process=PROCESSES)
COVARIANCE = [[2.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]]


def fields_on(process: Process) -> dict[str, Any]:
    """A vector Gaussian, a vector mixture, an image mixture and an empirical field."""
    generator = torch.Generator().manual_seed(3)
    return {
        "gaussian": Gaussian([1.0, -2.0, 0.5], COVARIANCE, process),
        "mixture": GaussianMixture([0.5, 1.2, 0.3], [[-2.0, 0.0], [1.0, 1.0], [2.0, -1.5]], [0.4, 0.7, 1.1], process),
        "image": GaussianMixture(
            [1, 2], torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=generator), [0.5, 0.2], process
        ),
        "empirical": GaussianMixture.empirical(torch.randn(5, 2, dtype=torch.float64, generator=generator), process),
    }


NAMES = list(fields_on(VE()))
each_name = pytest.mark.parametrize("name", NAMES)


def times_of(process: Process, n: int) -> torch.Tensor:
    return process.t_min + torch.linspace(0.05, 0.95, n, dtype=torch.float64) * (process.t_max - process.t_min)


def points_of(field: Any, t: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Noisy data at the given times: points where the density lives."""
    rng = SampleRng(range(len(t)), stream=seed)
    return field.process.perturb(field.sample(rng), t, rng.normal(field.shape))


# --- density, score, posterior mean -----------------------------------------------------------------------------------


@pytest.mark.theorem("score")
@each_process
@each_name
def test_the_score_is_the_gradient_of_the_log_density(name: str, process: Process) -> None:
    field = fields_on(process)[name]
    t = times_of(process, 8)
    x = points_of(field, t).requires_grad_(True)
    (gradient,) = torch.autograd.grad(field.log_prob(x, t).sum(), x)
    score = field(x.detach(), t).score
    # both sum terms as large as |x|/sigma², which cancel
    size = (1 + x.detach().abs().amax(dim=tuple(range(1, x.ndim)))) / process.sigma(t) ** 2
    assert bool(((gradient - score).abs() <= 400 * 2.3e-16 * over(size, x)).all())


@pytest.mark.theorem("score-of-energy")
@each_name
def test_the_energy_is_minus_the_log_density(name: str) -> None:
    field = fields_on(VP())[name]
    t = times_of(VP(), 6)
    x = points_of(field, t)
    assert torch.equal(field.energy(x, t), -field.log_prob(x, t))
    assert isinstance(field, Field)
    assert isinstance(field, EnergyField)


@each_process
@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_the_log_density_is_that_of_scipy(name: str, process: Process) -> None:
    """Each component is N(alpha·m, alpha²·S + sigma²·I), by scipy's multivariate normal."""
    field, t = fields_on(process)[name], times_of(process, 5)
    x = points_of(field, t)
    if name == "gaussian":
        parts = [(1.0, [1.0, -2.0, 0.5], numpy.array(COVARIANCE))]
    else:
        parts = [
            (0.25, [-2.0, 0.0], 0.16 * numpy.eye(2)),
            (0.6, [1.0, 1.0], 0.49 * numpy.eye(2)),
            (0.15, [2.0, -1.5], 1.21 * numpy.eye(2)),
        ]
    for i in range(5):
        a, s = float(process.alpha(t[i])), float(process.sigma(t[i]))
        density = sum(
            w * stats.multivariate_normal.pdf(x[i], a * numpy.array(m), a**2 * c + s**2 * numpy.eye(len(m)))
            for w, m, c in parts
        )
        assert math.isclose(float(field.log_prob(x[i : i + 1], t[i : i + 1])), math.log(density), rel_tol=1e-11, abs_tol=1e-11)


LINE = {
    "gaussian": (lambda x0: stats.norm.pdf(x0, 0.7, 1.5), lambda p: Gaussian([0.7], [[2.25]], p)),
    "mixture": (
        lambda x0: 0.8 * stats.norm.pdf(x0, -2, 0.5) + 0.2 * stats.norm.pdf(x0, 1.5, 0.3),
        lambda p: GaussianMixture([0.8, 0.2], [[-2.0], [1.5]], [0.5, 0.3], p),
    ),
}


def quadrature(half: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Nodes and weights on [-half, half]: 400 panels of 20 Gauss-Legendre points."""
    nodes, weights = numpy.polynomial.legendre.leggauss(20)
    middles = half * ((2 * numpy.arange(400) + 1) / 400 - 1)
    return (middles[:, None] + half / 400 * nodes).ravel(), numpy.tile(half / 400 * weights, 400)


@pytest.mark.theorem("tweedie")
@each_process
@pytest.mark.parametrize(("prior", "build"), LINE.values(), ids=LINE)
def test_the_posterior_mean_is_bayes_rule_by_quadrature(prior: Any, build: Any, process: Process) -> None:
    """E[x0 | x] = ∫ x0 p(x0) p(x | x0) dx0 / ∫ p(x0) p(x | x0) dx0, and the denominator is p_t(x)."""
    field, t = build(process), times_of(process, 4)
    x0, weights = quadrature(13.0)  # eight standard deviations of the wider prior
    for time, point in zip(t, points_of(field, t), strict=True):
        mass = weights * prior(x0) * stats.norm.pdf(float(point), float(process.alpha(time)) * x0, float(process.sigma(time)))
        assert math.isclose(
            float(field(point[None], time[None]).denoised), mass @ x0 / mass.sum(), rel_tol=1e-11, abs_tol=1e-11
        )
        assert math.isclose(float(field.log_prob(point[None], time[None])), math.log(mass.sum()), rel_tol=1e-11, abs_tol=1e-11)


@pytest.mark.theorem("score-is-a-mean")
@each_process
@pytest.mark.parametrize(("prior", "build"), LINE.values(), ids=LINE)
def test_the_score_is_the_mean_of_the_noising_densities_scores_given_x(prior: Any, build: Any, process: Process) -> None:
    """grad log p_t(x) = E[-(x - alpha·x0)/sigma² | x], the mean by quadrature over x0."""
    field, t = build(process), times_of(process, 4)
    x0, weights = quadrature(13.0)
    for time, point in zip(t, points_of(field, t), strict=True):
        alpha, sigma, x = float(process.alpha(time)), float(process.sigma(time)), float(point)
        mass = weights * prior(x0) * stats.norm.pdf(x, alpha * x0, sigma)
        mean = mass @ (-(x - alpha * x0) / sigma**2) / mass.sum()
        size = 1e-11 * (1 + abs(x)) / sigma**2  # of the terms, which cancel
        assert math.isclose(float(field(point[None], time[None]).score), mean, rel_tol=1e-10, abs_tol=size)


@each_process
@pytest.mark.parametrize(("prior", "build"), LINE.values(), ids=LINE)
def test_the_density_integrates_to_one(prior: Any, build: Any, process: Process) -> None:
    field = build(process)
    for time in times_of(process, 3):
        x, weights = quadrature(13 * float(process.alpha(time)) + 9 * float(process.sigma(time)))
        density = field.log_prob(torch.tensor(x)[:, None], time.expand(len(x))).exp().numpy()
        assert math.isclose(weights @ density, 1, rel_tol=1e-12)


@each_process
def test_a_mixture_of_one_component_is_a_gaussian(process: Process) -> None:
    one = GaussianMixture([3.0], [[1.0, -1.0]], [0.6], process)
    two = Gaussian([1.0, -1.0], [[0.36, 0.0], [0.0, 0.36]], process)
    t = times_of(process, 6)
    x = points_of(two, t)
    size = (1 + x.abs().amax(1)) ** 2 / process.sigma(t) ** 2
    assert bool(((one.log_prob(x, t) - two.log_prob(x, t)).abs() <= 100 * 2.3e-16 * size).all())
    assert bool(((one(x, t).score - two(x, t).score).abs() <= 100 * 2.3e-16 * size[:, None]).all())
    numpy.testing.assert_allclose(one.data_mean, two.data_mean)
    assert math.isclose(one.data_std, two.data_std)


@pytest.mark.theorem("fokker-planck-linear")
@each_process
@pytest.mark.parametrize("name", ["gaussian", "mixture", "image", "empirical"])
def test_the_fokker_planck_residual_of_the_density_is_zero(name: str, process: Process) -> None:
    """d/dt p = -div(f·x·p) + g²/2·lap p, divided by p and written on l = log p:

    d/dt l = -f·d - f·x·grad l + g²/2·(lap l + |grad l|²).
    Every derivative of l is automatic; f and g² are the process's.
    """
    field = fields_on(process)[name]
    t = times_of(process, 5).requires_grad_(True)
    x = points_of(field, t.detach()).requires_grad_(True)
    log_p = field.log_prob(x, t)
    rate, gradient = torch.autograd.grad(log_p.sum(), [t, x], create_graph=True)
    rows = gradient.flatten(1)
    second = [torch.autograd.grad(rows[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i] for i in range(rows.shape[1])]
    rate, rows, flat_x = rate.detach(), rows.detach(), x.detach().flatten(1)
    f, half_g2 = process.drift(t), process.diffusion(t) ** 2 / 2
    terms = [f * rows.shape[1], f * (flat_x * rows).sum(1), -half_g2 * sum(second), -half_g2 * (rows**2).sum(1), rate]
    size = sum(term.abs() for term in terms)
    # A log-density is a difference of squares as large as |x|²/sigma²: its derivatives carry that many digits less.
    lost = 1 + (flat_x**2).sum(1) / process.sigma(t.detach()) ** 2
    assert bool((sum(terms).abs() <= 100 * 2.3e-16 * size * lost).all())
    assert bool((rate.abs() > 1e-6 * size).any())  # the statement is not 0 = 0


@pytest.mark.theorem("kl-rate")
@each_process
def test_noise_brings_two_densities_together_at_the_rate_of_their_squared_difference_of_scores(process: Process) -> None:
    """d/dt KL(p_t ‖ q_t) = -g²/2·E_p|s_p - s_q|²: sums over a fine grid, the slope by two central differences, extrapolated.

    The sums of smooth functions that vanish at both ends have no error beyond rounding.
    """
    p = GaussianMixture([0.8, 0.2], [[-1.5], [1.0]], [0.5, 0.7], process)
    q = GaussianMixture([0.4, 0.6], [[-1.0], [1.2]], [0.6, 0.8], process)
    low, high = process.t_min, process.t_max
    discrete = process.discrete
    t = math.floor(low + 0.4 * (high - low)) + 0.5 if discrete else low + 0.4 * (high - low)  # inside a step of a chain
    h = 0.2 if discrete else 0.01 * (high - low)
    reach = 6 + 9 * float(process.sigma(double([t + h])))
    x = torch.linspace(-reach, reach, 4001, dtype=torch.float64)[:, None]

    def mean_of_p(t: float, value: Any) -> float:
        times = torch.full((len(x),), t, dtype=torch.float64)
        return float((p.log_prob(x, times).exp() * value(times)).sum() * (x[1, 0] - x[0, 0]))

    def divergence(t: float) -> float:
        return mean_of_p(t, lambda times: p.log_prob(x, times) - q.log_prob(x, times))

    coarse, fine = ((divergence(t + step) - divergence(t - step)) / (2 * step) for step in (h, h / 2))
    apart = mean_of_p(t, lambda times: (p(x, times).score - q(x, times).score)[:, 0] ** 2)
    rate = -0.5 * float(process.diffusion(double([t]))) ** 2 * apart
    assert abs(rate) > 1e-3 / (high - low)
    # The error of the finer difference is a third of its distance from the coarser one; extrapolation leaves h² of that.
    assert abs((4 * fine - coarse) / 3 - rate) < 0.1 * abs(fine - coarse) + 1e-9 * abs(rate)
    assert abs(fine - coarse) < 0.01 * abs(rate)


@pytest.mark.theorem("consistency")
@each_process
def test_the_flow_map_of_a_gaussian_does_not_change_along_a_path_and_its_end_moves_with_the_velocity(process: Process) -> None:
    """d/dt X(x_t, t, s) = 0 by the chain rule, and dX/ds is the velocity at X, with X in closed form and v of the field."""
    field = fields_on(process)["gaussian"]
    values, vectors = torch.linalg.eigh(double(COVARIANCE))
    mean = double([1.0, -2.0, 0.5])

    def there(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v_t, v_s = (process.alpha(u) ** 2 * values + process.sigma(u) ** 2 for u in (t, s))
        scaled = (x - process.alpha(t) * mean) @ vectors * (v_s / v_t).sqrt()
        return process.alpha(s) * mean + scaled @ vectors.mT

    s, t = times_of(process, 4)[[1, 3]]
    x = points_of(field, t[None])
    velocity = field(x, t[None]).velocity
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    end, change = torch.autograd.functional.jvp(there, (x, t, s), (velocity, one, zero))
    assert bool((change.abs() < 1e-11 * (1 + velocity.abs().max())).all())
    _, moved = torch.autograd.functional.jvp(there, (x, t, s), (torch.zeros_like(x), zero, one))
    torch.testing.assert_close(moved, field(end, s[None]).velocity, rtol=1e-9, atol=1e-11)


# --- the empirical field ----------------------------------------------------------------------------------------------


@pytest.mark.theorem("sigma-max")
@pytest.mark.parametrize("sigma", [0.4, 1.0, 4.0])
def test_a_noisy_point_is_taken_for_another_with_at_most_half_the_overlap_of_the_two(sigma: float) -> None:
    """E r_j over N(x_i, sigma²) <= exp(-d²/(8·sigma²))/2, close to it where d << sigma; in the plane, by a fine grid."""
    points = double([[0.0, 0.0], [1.5, 2.0], [-1.0, 0.5]])
    side = sigma * torch.linspace(-9, 9, 361, dtype=torch.float64)
    x, cell = torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2
    density = torch.exp(-(x**2).sum(1) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    t = torch.full((len(x),), sigma, dtype=torch.float64)
    for chosen in ([0, 1], [0, 1, 2]):
        field = GaussianMixture.empirical(points[chosen], LinearVE(0.01, 10.0))
        pulls = (density[:, None] * field.responsibilities(x, t)).sum(0) * cell
        bounds = 0.5 * torch.exp(-(points[chosen] ** 2).sum(1) / (8 * sigma**2))
        assert bool((pulls[1:] <= bounds[1:]).all())
        if len(chosen) == 2:  # the pull of two is the bound times E sech(d·z/(2·sigma)) with z ~ N(0, 1)
            z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
            factor = (torch.exp(-(z**2) / 2) / torch.cosh(2.5 * z / (2 * sigma))).sum() * 0.009 / math.sqrt(2 * math.pi)
            assert math.isclose(float(pulls[1]), float(bounds[1] * factor), rel_tol=1e-9)


@each_process
def test_the_empirical_posterior_mean_is_the_data_weighted_by_how_likely_they_made_x(process: Process) -> None:
    data = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    field, t = GaussianMixture.empirical(data, process), times_of(process, 6)
    x = points_of(field, t)
    for i in range(len(t)):
        a, s = float(process.alpha(t[i])), float(process.sigma(t[i]))
        logits = [-sum((float(u) - a * float(v)) ** 2 for u, v in zip(x[i], point, strict=True)) / (2 * s**2) for point in data]
        weights = numpy.exp(numpy.array(logits) - max(logits))
        expected = (weights / weights.sum()) @ data.numpy()
        lost = 100 * 2.3e-16 * (1 + float((x[i] ** 2).sum())) / s**2 / a
        numpy.testing.assert_allclose(field(x[i : i + 1], t[i : i + 1]).denoised[0], expected, rtol=0, atol=lost)


def test_with_little_noise_the_empirical_field_returns_the_nearest_training_point() -> None:
    """Perfect memorisation: points 1 apart at sigma = 0.05 leave exp(-0.5/0.05²) = 1e-87 to all others."""
    data = double([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    field = GaussianMixture.empirical(data, VE(0.05, 8.0))
    x = double([[0.1, -0.05], [0.9, 0.02], [0.03, 1.1]])
    assert bool(((field(x, double([0.0, 0.0, 0.0])).denoised - data).abs() <= 400 * 2.3e-16 / 0.05**2).all())


@pytest.mark.theorem("mixture-score")
def test_responsibilities_are_bayes_rule() -> None:
    field = fields_on(VE(0.05, 8.0))["mixture"]
    x, t = double([[0.3, 0.2]]), double([0.6])
    s = float(field.process.sigma(t))
    parts = [(0.25, [-2.0, 0.0], 0.4), (0.6, [1.0, 1.0], 0.7), (0.15, [2.0, -1.5], 1.1)]
    joint = numpy.array([w * stats.multivariate_normal.pdf([0.3, 0.2], m, d**2 + s**2) for w, m, d in parts])
    numpy.testing.assert_allclose(field.responsibilities(x, t)[0], joint / joint.sum(), rtol=1e-12)


# --- samples and moments ----------------------------------------------------------------------------------------------

N = 50_000


@each_name
def test_samples_have_the_declared_mean_and_spread(name: str) -> None:
    """Each coordinate's mean within 5 standard errors, and the mean squared distance from data_mean equal to d·data_std²."""
    field = fields_on(VE())[name]
    rows = field.sample(SampleRng(range(N))).flatten(1)
    centre = field.data_mean.flatten()
    assert bool(((rows.mean(0) - centre).abs() < 5 * rows.std(0) / math.sqrt(N)).all())
    square = ((rows - centre) ** 2).mean(dim=1)
    assert abs(float(square.mean()) - field.data_std**2) < 5 * float(square.std()) / math.sqrt(N)
    assert field.data_mean.shape == field.shape


def test_gaussian_samples_have_the_declared_covariance() -> None:
    rows = fields_on(VE())["gaussian"].sample(SampleRng(range(N))) - double([1.0, -2.0, 0.5])
    products = rows[:, :, None] * rows[:, None, :]
    assert bool(((products.mean(0) - double(COVARIANCE)).abs() < 5 * products.std(0) / math.sqrt(N)).all())


@pytest.mark.theorem("typical-set")
@pytest.mark.parametrize("process", [VE(0.05, 8.0), VP()], ids=["ve", "vp"])
def test_the_log_density_of_gaussian_draws_is_half_of_d_below_the_top_with_the_variance_of_half_of_d(process: Process) -> None:
    d, n = 30, 4000
    root = SampleRng(range(d), stream=4).normal((d,))
    field = Gaussian(torch.arange(d), root @ root.mT, process)
    rng, t = SampleRng(range(n)), times_of(process, 1).expand(n)
    x = process.perturb(field.sample(rng), t, rng.normal((d,)))
    top = field.log_prob((process.alpha(t[:1]) * field.mean).reshape(1, d), t[:1])
    below = top - field.log_prob(x, t)
    error = math.sqrt(d / 2 / n)
    assert abs(float(below.mean()) - d / 2) < 5 * error
    assert abs(float(below.var()) - d / 2) < 5 * float((below - below.mean()).square().std()) / math.sqrt(n)


@pytest.mark.theorem("mean-of-two")
def test_half_way_between_two_points_a_gaussian_log_density_gains_an_eighth_of_their_distance() -> None:
    """Whose square, in units of the covariance, is 2d on average between two draws."""
    n, field = 4000, fields_on(VE(0.05, 8.0))["gaussian"]
    x, y = (field.sample(SampleRng(range(n), stream=stream)) for stream in (1, 2))
    t = torch.full((n,), field.process.t_min, dtype=torch.float64)
    gain = field.log_prob((x + y) / 2, t) - (field.log_prob(x, t) + field.log_prob(y, t)) / 2
    noised = double(COVARIANCE) + 0.05**2 * torch.eye(3, dtype=torch.float64)
    wanted = ((x - y) * torch.linalg.solve(noised, (x - y).mT).mT).sum(dim=1) / 8
    torch.testing.assert_close(gain, wanted, rtol=1e-9, atol=1e-9)
    expected = float(torch.linalg.solve(noised, double(COVARIANCE)).trace()) / 4  # d/4 but for the noise of the last level
    assert abs(float(gain.mean()) - expected) < 5 * float(gain.std()) / math.sqrt(n)
    assert expected == pytest.approx(3 / 4, rel=0.01)


def test_mixture_samples_have_the_declared_weights_and_widths() -> None:
    field = GaussianMixture([4, 1], [[-50.0], [50.0]], [1.0, 3.0], VE())
    rows = field.sample(SampleRng(range(N)))[:, 0]
    left = rows < 0
    assert abs(float(left.double().mean()) - 0.8) < 5 * math.sqrt(0.8 * 0.2 / N)
    assert stats.kstest(rows[left].numpy(), stats.norm(-50, 1).cdf).pvalue > 5.7e-7
    assert stats.kstest(rows[~left].numpy(), stats.norm(50, 3).cdf).pvalue > 5.7e-7


def test_data_mean_and_std_of_two_points_are_those_of_a_coin() -> None:
    """Points (-3, 0) and (3, 0) with weights 0.8 and 0.2: mean -1.8; variances 5.76 and 0, so 2.88 a coordinate."""
    field = GaussianMixture([0.8, 0.2], [[-3.0, 0.0], [3.0, 0.0]], [0.0, 0.0], VE())
    numpy.testing.assert_allclose(field.data_mean, [-1.8, 0.0], atol=1e-15)
    assert math.isclose(field.data_std**2, 2.88, rel_tol=1e-14)
    wide = GaussianMixture([0.8, 0.2], [[-3.0, 0.0], [3.0, 0.0]], [2.0, 1.0], VE())
    assert math.isclose(wide.data_std**2, 2.88 + 0.8 * 4 + 0.2 * 1, rel_tol=1e-14)


# --- shapes and extremes ----------------------------------------------------------------------------------------------


@each_process
def test_an_image_field_is_the_vector_field_of_its_pixels(process: Process) -> None:
    means = torch.randn(3, 2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    image = GaussianMixture([1, 2, 3], means, [0.5, 0.2, 0.9], process)
    vector = GaussianMixture([1, 2, 3], means.flatten(1), [0.5, 0.2, 0.9], process)
    t = times_of(process, 4)
    x = points_of(image, t)
    for view in ("score", "denoised", "noise", "velocity"):
        assert torch.equal(getattr(image(x, t), view).flatten(1), getattr(vector(x.flatten(1), t), view)), view
    assert torch.equal(image.log_prob(x, t), vector.log_prob(x.flatten(1), t))
    assert torch.equal(image.sample(SampleRng(range(9))).flatten(1), vector.sample(SampleRng(range(9))))


def test_an_image_gaussian_is_the_vector_gaussian_of_its_pixels() -> None:
    root = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mean, covariance = torch.arange(6, dtype=torch.float64), root @ root.T
    image, vector = Gaussian(mean.reshape(1, 2, 3), covariance, VP()), Gaussian(mean, covariance, VP())
    t = times_of(VP(), 4)
    x = points_of(image, t)
    assert torch.equal(image(x, t).score.flatten(1), vector(x.flatten(1), t).score)
    assert torch.equal(image.sample(SampleRng(range(9))).flatten(1), vector.sample(SampleRng(range(9))))


@each_process
@each_name
def test_far_from_all_data_and_at_the_least_noise_everything_is_finite_and_points_back(name: str, process: Process) -> None:
    field = fields_on(process)[name]
    for far in (1e3, 1e6):
        x = torch.full((2, *field.shape), far, dtype=torch.float64)
        t = double([process.t_min, process.t_max])
        prediction = field(x, t)
        for view in (prediction.score, prediction.denoised, prediction.noise, prediction.velocity, field.log_prob(x, t)):
            assert bool(torch.isfinite(view).all())
        if name != "gaussian":  # a correlated Gaussian pulls along its axes, not along every coordinate
            assert bool((prediction.score < 0).all())


def test_far_away_the_score_is_that_of_the_nearest_component() -> None:
    """At x = 1000 the right component has exp(-2000) times the density of the left one: the score is its line."""
    field = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0], LinearVE(0.01, 10.0))
    score = float(field(double([[1000.0]]), double([0.01])).score)
    assert math.isclose(score, -(1000 - 1) / (1 + 1e-4), rel_tol=1e-13)


def test_single_precision_points_are_computed_in_double_precision() -> None:
    field, t = fields_on(VE(0.05, 8.0))["mixture"], double([0.1, 0.5])
    x = points_of(field, t).float()
    score = field(x, t.float()).score
    assert score.dtype == torch.float32
    assert torch.equal(score, field(x.double(), t.float().double()).score.float())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "means", "stds", "sentence"),
    [
        ([1.0], [[0.0], [1.0]], [1.0, 1.0], "got weights"),
        ([1.0, 1.0], [0.0, 1.0], [1.0, 1.0], "got weights"),
        ([1.0, -1.0], [[0.0], [1.0]], [1.0, 1.0], "got a weight <= 0"),
        ([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0], "got a weight <= 0"),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0, -1.0], "std < 0"),
        ([1.0, math.nan], [[0.0], [1.0]], [1.0, 1.0], "got"),
        ([1.0, 1.0], [[0.0], [math.nan]], [1.0, 1.0], "got"),
    ],
)
def test_a_mixture_without_meaning_is_refused(weights: Any, means: Any, stds: Any, sentence: str) -> None:
    with pytest.raises(ScorefieldError, match=sentence):
        GaussianMixture(weights, means, stds, VE())


@pytest.mark.parametrize(
    ("covariance", "sentence"),
    [
        ([[1.0]], r"got a covariance of shape \(1, 1\), expected \(2, 2\)"),
        ([[1.0, 0.5], [0.1, 1.0]], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "not symmetric positive semi-definite"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(covariance: Any, sentence: str) -> None:
    with pytest.raises(ScorefieldError, match=sentence):
        Gaussian([0.0, 0.0], covariance, VE())


def test_a_singular_covariance_is_welcome_for_noise_fills_the_rest() -> None:
    """On the line x = y with variance 2 along it, sigma = 0.5: score (1, -1) across is -(x - y)/(2 sigma²)·(1, -1)."""
    field = Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]], LinearVE(0.01, 10.0))
    score = field(double([[1.0, -1.0]]), double([0.5])).score[0]
    numpy.testing.assert_allclose(score, [-4.0, 4.0], rtol=1e-13)
