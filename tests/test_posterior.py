"""Posterior sampling by twisted particles: exact on Gaussian priors, right in the limit on others."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import each_case
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, Noiseless, RectifiedFlow, SampleRng
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.exact import Labelled
from scorefield.guidance import Autoguidance, ClassifierFree, Tempered, posterior_sample
from scorefield.guidance.posterior import Twisted
from scorefield.guidance.posterior.conjugate import Measurement
from scorefield.moments import Moments
from scorefield.operators import Absolute, Blur, Clip, Compose, Downsample, Mask, Matrix, Operator, Quantise

CORRELATED = 2.0  # draws of one filter are not independent: their means scatter by at most this much more
PROCESSES = {"ve": VE(0.01, 200.0), "vp": VP(), "flow": RectifiedFlow()}


def random(*shape: int, seed: int = 0) -> Tensor:
    return SampleRng([seed], stream=5).normal(shape)[0]


def covariance(d: int, seed: int = 1) -> Tensor:
    root = random(d, d, seed=seed)
    return root @ root.mT / d + 0.05 * torch.eye(d, dtype=torch.float64)


def dense(operator: Operator, shape: tuple[int, ...]) -> Tensor:
    d = math.prod(shape)
    return operator(torch.eye(d, dtype=torch.float64).reshape(d, *shape)).flatten(1).mT


def truth(mean: Tensor, s: Tensor, a: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x0 given y = A·x0 + noise, from the joint Gaussian."""
    gain = torch.linalg.solve(a @ s @ a.mT + torch.diag(noise**2), a @ s).mT
    return mean + gain @ (y - a @ mean), s - gain @ a @ s


def standard_errors(x: Tensor, mean: Tensor, cov: Tensor) -> tuple[float, float]:
    """The largest deviations of mean and covariance of independent Gaussian draws, in their standard errors."""
    n, variances = len(x), cov.diagonal()
    off_mean = (x.mean(dim=0) - mean).abs() / (variances / n).sqrt()
    off = (x - mean).mT @ (x - mean) / n - cov
    return float(off_mean.max()), float((off.abs() / ((cov**2 + variances[:, None] * variances) / n).sqrt()).max())


# --- Gaussian priors: exact with one particle, at any number of levels ------------------------------------------------

CASES = {
    "a vector, two rows": ((4,), Matrix(random(2, 4, seed=3)), 0.3),
    "a vector, more rows than numbers": ((3,), Matrix(random(5, 3, seed=4)), 0.5),
    "a mask without noise": ((5,), Mask([True, False, True, False, False]), 0.0),
    "noise of each number": ((4,), Matrix(random(3, 4, seed=5)), torch.tensor([0.1, 1.0, 0.5])),
    "a blurred image": ((1, 4, 4), Blur(0.8), 0.2),
    "a small image": ((1, 4, 4), Downsample(2), 0.1),
    "a blurred small image": ((1, 4, 4), Compose(Blur(0.8), Downsample(2)), 0.1),
}


# Every case with every process, every case with both numbers of levels, every process with both.
EACH_PAIR = [(case, process, (2, 7)[(i + j) % 2]) for i, case in enumerate(CASES) for j, process in enumerate(PROCESSES)]


@pytest.mark.theorem("twisted-weight")
@each_case(case__process__levels=EACH_PAIR)
def test_one_particle_is_exact_on_a_gaussian_prior_at_any_number_of_levels(process: str, levels: int, case: str) -> None:
    shape, operator, noise_std = CASES[case]
    d = math.prod(shape)
    mean, s, a = random(d, seed=7), covariance(d), dense(operator, shape)
    field = Gaussian(mean.reshape(shape), s, PROCESSES[process])
    noise = torch.as_tensor(noise_std).double().expand(len(a))
    y = a @ (mean + torch.linalg.cholesky(s) @ random(d, seed=8)) + noise * random(len(a), seed=9)
    n = 4000
    draws = posterior_sample(
        field, operator, y.reshape(operator.shape_out(shape)), noise_std,
        rng=SampleRng(range(n)), method=Twisted(particles=1, levels=levels, together=False),
    )  # fmt: skip
    mean_y, cov_y = truth(mean, s, a, y, noise.clamp(min=1e-6))
    spread = (
        cov_y + 1e-9 * s
    )  # what a mask without noise sees has no spread: compare it to rounding of the noise that stands in
    seen = cov_y.diagonal() > 1e-6
    x = draws.x.flatten(1)
    off_mean, off_cov = standard_errors(x[:, seen], mean_y[seen], spread[seen][:, seen])
    assert off_mean < 5 and off_cov < 5
    assert ((x[:, ~seen] - mean_y[~seen]).abs() < 1e-3).all()
    assert draws.evaluations == levels


@pytest.mark.theorem("twisted-weight")
@each_case(process=list(PROCESSES))
@each_case(case=list(CASES))
def test_every_weight_is_constant_on_a_gaussian_prior(process: str, case: str) -> None:
    shape, operator, noise_std = CASES[case]
    d = math.prod(shape)
    mean, a = random(d, seed=7), dense(operator, shape)
    field = Gaussian(mean.reshape(shape), covariance(d), PROCESSES[process])
    y = (a @ (mean + random(d, seed=8))).reshape(operator.shape_out(shape))
    draws = posterior_sample(field, operator, y, noise_std, rng=SampleRng(range(50)), method=Twisted(levels=5))
    assert float(draws.effective.min()) > 1 - 1e-6


def test_draws_of_different_classes_are_not_mixed() -> None:
    field = Labelled([0.5, 0.5], [Gaussian([c], [[1.0]], VE(0.01, 50.0)) for c in (-3.0, 3.0)])
    cond = torch.arange(2000) % 2
    draws = posterior_sample(field, Matrix([[1.0]]), torch.tensor([-3.0]), 1.0, rng=SampleRng(range(2000)), cond=cond).x[:, 0]
    for k, middle in enumerate((-3.0, 0.0)):  # halfway between the class and y, with half of its variance
        own = draws[cond == k]
        assert abs(float(own.mean()) - middle) < 5 * math.sqrt(0.5 / len(own)) * CORRELATED
        assert abs(float(own.var()) - 0.5) < 5 * math.sqrt(2 / len(own)) * 0.5 * CORRELATED


UNITS = {
    "thousands and thousandths, no noise": ([1e6, 1e-6], [1e3, 1e-3], 0.0),
    "thousands and thousandths, little noise": ([1e6, 1e-6], [1e3, 1e-3], [0.3, 1e-4]),
    "a row in another unit": ([1.0, 1.0], [1e6, 1.0], [1.0, 0.1]),
    "data in another unit": ([1e6, 1.0], [1.0, 1.0], [0.1, 1e-3]),
}


@pytest.mark.parametrize("case", UNITS)
def test_a_number_counts_in_whatever_units_it_is_measured(case: str) -> None:
    variances, rows, noise = (torch.tensor(v, dtype=torch.float64) for v in UNITS[case])
    field = Gaussian(torch.zeros(2), torch.diag(variances), VE(1e-3, 1e5))
    y = rows * variances.sqrt() * torch.tensor([0.5, 0.7])
    noise_std = noise.expand(2)
    n = 2000
    x = posterior_sample(field, Matrix(torch.diag(rows)), y, noise_std, rng=SampleRng(range(n))).x
    mean, cov = truth(torch.zeros(2, dtype=torch.float64), torch.diag(variances), torch.diag(rows), y, noise_std)
    least = 1e-5 * variances.sqrt()  # what a noise of 0 is raised to
    assert bool(((x.mean(dim=0) - mean).abs() < 5 * (cov.diagonal() / n).sqrt() + least).all())
    assert bool((x.std(dim=0) <= (cov.diagonal().sqrt() + least) * (1 + 5 / math.sqrt(2 * n))).all())
    assert bool((x.std(dim=0) + least >= cov.diagonal().sqrt() * (1 - 5 / math.sqrt(2 * n))).all())


def test_one_exact_number_takes_nothing_from_many_noisy_ones() -> None:
    d, n = 201, 2000
    s = torch.eye(d, dtype=torch.float64)
    s[1:, 1:] = 1 + 1e-4 * torch.eye(d - 1, dtype=torch.float64)  # one number, seen 200 times through noise of 20
    y = torch.full((d,), 2.0, dtype=torch.float64)
    noise = torch.full((d,), 20.0, dtype=torch.float64)
    noise[0] = 0.0
    field = Gaussian(torch.zeros(d), s, VE(1e-3, 500.0))
    x = posterior_sample(field, Matrix(torch.eye(d)), y, noise, rng=SampleRng(range(n)), method=Twisted(levels=10)).x
    mean, cov = truth(torch.zeros(d, dtype=torch.float64), s, torch.eye(d, dtype=torch.float64), y, noise)
    middle, variance = float(mean[1:].mean()), float(cov[1:, 1:].mean())
    found = x[:, 1:].mean(dim=1)
    assert abs(float(found.mean()) - middle) < 5 * math.sqrt(variance / n)
    assert abs(float(found.var()) / variance - 1) < 5 * math.sqrt(2 / n)


def test_ninety_percent_intervals_hold_ninety_percent_of_what_was_there() -> None:
    n, d = 10_000, 4
    s, a = covariance(d), random(2, d, seed=3)
    field = Gaussian(torch.zeros(d), s, VE(0.01, 50.0))
    inside = torch.zeros(d, dtype=torch.float64)
    worlds = 40
    for seed in range(worlds):
        y = a @ (torch.linalg.cholesky(s) @ random(d, seed=100 + seed)) + 0.3 * random(2, seed=200 + seed)
        rng = SampleRng(range(seed * n // worlds, (seed + 1) * n // worlds))
        x = posterior_sample(field, Matrix(a), y, 0.3, rng=rng, method=Twisted(levels=2, particles=1)).x
        mean, cov = truth(torch.zeros(d, dtype=torch.float64), s, a, y, torch.full((2,), 0.3, dtype=torch.float64))
        inside += ((x - mean).abs() < 1.6448536 * cov.diagonal().sqrt()).sum(dim=0)
    assert ((inside / n - 0.9).abs() < 5 * math.sqrt(0.09 / n)).all()


# --- other priors: right in the limit ---------------------------------------------------------------------------------


def mixture(process: VE | VP = VE(0.01, 100.0)) -> GaussianMixture:  # noqa: B008
    means = [[-4.0, 3.0, 0.0], [4.0, 3.0, 1.0], [0.0, -5.0, -1.0], [4.0, -4.0, 2.0]]
    return GaussianMixture([0.4, 0.1, 0.3, 0.2], means, [0.7, 1.0, 0.5, 1.0], process)


def mixture_given(field: GaussianMixture, a: Tensor, y: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Weights and means of the components given y: each is a Gaussian that meets its own evidence."""
    weights, means = [], []
    for weight, mean, std in zip(field.weights, field.means, field.stds, strict=True):
        r = std**2 * a @ a.mT + s**2 * torch.eye(len(a), dtype=torch.float64)
        off = y - a @ mean
        weights.append(weight.log() - 0.5 * (off @ torch.linalg.solve(r, off) + torch.logdet(r)))
        means.append(mean + std**2 * a.mT @ torch.linalg.solve(r, off))
    return torch.stack(weights).softmax(dim=0), torch.stack(means)


@pytest.mark.theorem("posterior-score", "mixture-posterior")
@pytest.mark.parametrize("process", PROCESSES)
def test_the_score_of_a_posterior_is_that_of_the_prior_and_the_slope_of_an_integral_over_clean_data(process: str) -> None:
    """In one dimension, where the posterior is a mixture of round components, too; the integral by the trapezoidal rule."""
    kind, a, y, s = (
        PROCESSES[process],
        torch.tensor([[1.3]], dtype=torch.float64),
        torch.tensor([0.4], dtype=torch.float64),
        0.8,
    )
    prior = GaussianMixture([0.3, 0.7], [[-2.0], [1.5]], [0.5, 0.8], kind)
    weights, means = mixture_given(prior, a, y, s)
    stds = (prior.stds**2 / (1 + (1.3 * prior.stds / s) ** 2)).sqrt()
    after = GaussianMixture(weights, means, stds, kind)
    clean = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    joint = GaussianMixture(prior.weights, prior.means, prior.stds, Noiseless()).log_prob(clean[:, None], torch.zeros(4001))
    explained = -0.5 * ((y - 1.3 * clean) / s) ** 2
    for level in (0.3, 1.0, 5.0):
        t = kind.time_of_sigma(torch.full((21,), level, dtype=torch.float64))
        x = (kind.alpha(t) * torch.linspace(-4, 4, 21, dtype=torch.float64)).unsqueeze(1).requires_grad_(True)
        noise = -0.5 * ((x - kind.alpha(t)[:, None] * clean) / kind.sigma(t)[:, None]) ** 2
        integral = (joint + noise + explained).logsumexp(dim=1) - (joint + noise).logsumexp(dim=1)
        (slope,) = torch.autograd.grad(integral.sum(), x)
        wanted = after(x.detach(), t).score - prior(x.detach(), t).score
        torch.testing.assert_close(slope, wanted, rtol=1e-6, atol=1e-8)
        guess = -0.5 * ((y - 1.3 * prior(x, t).denoised) / s).square()
        (other,) = torch.autograd.grad(guess.sum(), x)
        assert float((other - wanted).abs().max()) > 0.1 * float(wanted.abs().max())  # the likelihood of the mean is another


@pytest.mark.theorem("mixture-posterior", "twisted-weight")
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("process", ["vp"])
def test_modes_get_their_posterior_weights(process: str, together: bool) -> None:
    field, a, s = mixture(PROCESSES[process]), torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64), 0.5  # type: ignore[arg-type]
    y = torch.tensor([0.6], dtype=torch.float64)
    weights, means = mixture_given(field, a, y, s)
    # Independent filters, whose spread is the standard error; of draws that are one each, all run at once.
    method, size = Twisted(particles=4 if together else 8, together=together, levels=200), 100 if together else 800
    filters = (range(first, first + size) for first in range(0, 800, size))
    drawn = [posterior_sample(field, Matrix(a), y, s, rng=SampleRng(filter_), method=method).x for filter_ in filters]
    x = torch.cat(drawn)
    found = field.responsibilities(x, torch.full((len(x),), field.process.t_min))
    shares, centres = (values.unflatten(0, (8, 100)).mean(dim=1) for values in (found, x))
    for values, right in ((shares, weights), (centres, weights @ means)):
        error = values.std(dim=0) / math.sqrt(len(values))
        # The bias of the steps falls with their number: .042 with 30 levels, .016 with 60, .006 with 120, below .003 with 200.
        assert ((values.mean(dim=0) - right).abs() < 5 * error + 3e-3).all(), (values.mean(dim=0), right, error)


def histogram(x: Tensor, edges: Tensor) -> Tensor:
    return torch.histc(x, len(edges) - 1, float(edges[0]), float(edges[-1])) / len(x)


NONLINEAR = {
    "clipped": (Clip(-1.0, 1.0), 0.3, 0.4),
    "cut off": (Clip(-1.0, 1.0), 1.0, 0.1),
    "rounded": (Quantise(1.0), 1.0, 0.05),
    "without its sign": (Absolute(), 1.6, 0.3),
}


@pytest.mark.parametrize("case", NONLINEAR)
def test_nonlinear_measurements_give_what_quadrature_gives(case: str) -> None:
    operator, measured, s = NONLINEAR[case]
    field = GaussianMixture([0.35, 0.65], [[-1.5], [1.2]], [0.5, 0.8], VE(0.01, 50.0))
    y = torch.tensor([measured], dtype=torch.float64)
    n, edges = 8_000, torch.linspace(-5, 5, 41, dtype=torch.float64)
    x = posterior_sample(field, operator, y, s, rng=SampleRng(range(n // 4)), method=Twisted(levels=60, particles=4)).x[:, 0]
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)[:-1, None] + 1.25e-3
    zero = torch.zeros((), dtype=torch.float64)
    log_p = field.log_prob(grid, torch.zeros(len(grid))) + operator.log_evidence(operator.inner(grid), zero, y, s)
    right = log_p.softmax(dim=0).reshape(40, 100).sum(dim=1)
    noise = 0.5 * float((2 * right * (1 - right) / (math.pi * n / 4)).sqrt().sum())  # of the distance of exact draws
    assert 0.5 * float((histogram(x, edges) - right).abs().sum()) < 2 * noise


# --- the algebra ------------------------------------------------------------------------------------------------------


def parts(d: int = 12, rank: int = 4) -> Moments:
    vectors = torch.linalg.qr(random(d, rank, seed=11)).Q
    return Moments(random(d, seed=12), vectors, torch.tensor([9.0, 4.0, 2.0, 1.0][:rank]).double(), 0.3)


def test_functions_of_a_covariance_are_those_of_its_matrix() -> None:
    moments, x = parts(), random(5, 12, seed=13)
    u = moments.vectors
    s = u @ torch.diag(moments.variances - moments.rest) @ u.mT + moments.rest * torch.eye(12, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(s)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.mT
    assert torch.allclose(moments.map(torch.sqrt, x), x @ root, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [40, 3000])
def test_moments_of_data_are_their_mean_and_covariance(n: int) -> None:
    data = random(n, 20, seed=14) @ torch.diag(torch.linspace(3, 0.1, 20).double()) + 2
    moments = Moments.of_data(data, rank=20)
    cov = (data - data.mean(dim=0)).mT @ (data - data.mean(dim=0)) / n
    eye = torch.eye(20, dtype=torch.float64)
    assert torch.allclose(moments.map(lambda v: v, eye), cov, atol=1e-10) and torch.allclose(moments.mean, data.mean(dim=0))


def test_the_range_finder_finds_the_large_directions_and_the_mean_variance_of_the_rest() -> None:
    n, d, rank = 1100, 1200, 8
    factors = random(n, rank, seed=15) * torch.tensor([20.0, 15, 12, 10, 8, 7, 6, 5])
    data = factors @ torch.linalg.qr(random(d, rank, seed=16)).Q.mT + 0.1 * random(n, d, seed=17)
    moments = Moments.of_data(data, rank)
    exact = torch.linalg.svdvals(data - data.mean(dim=0)) ** 2 / n
    assert torch.allclose(moments.variances, exact[:rank], rtol=1e-6)
    assert moments.rest == pytest.approx(float(exact[rank:].sum()) / (d - rank), rel=1e-6)


def test_the_three_ways_to_solve_agree() -> None:
    moments, operator, shape = parts(16), Blur(1.0), (1, 4, 4)
    held = Measurement.of(moments, operator, shape)
    along, rest = moments.given(0.7)
    noise, r = torch.full((16,), 0.04, dtype=torch.float64), random(3, 16, seed=18)
    a = dense(operator, shape)
    c = moments.map(lambda v: v * 0.49 / (v + 0.49), torch.eye(16, dtype=torch.float64))
    right = torch.linalg.solve(a @ c @ a.mT + torch.diag(noise), r.mT).mT
    far = Measurement(moments, operator, shape, None)  # as if the matrix were too large to hold
    for measurement in (held, far):
        assert torch.allclose(measurement.level(along, rest, noise).solve(r), right, rtol=1e-9, atol=1e-9)
    turned, y, variance = held.whitened(r[0], noise.sqrt())
    level = turned.level(along, rest, variance)
    assert level.factor is None, "rows that are orthogonal and more than the rank are solved by Woodbury's identity"
    assert torch.allclose(level.gain(y[None]), (c @ a.mT @ right[0])[None], rtol=1e-9, atol=1e-9)


def test_a_draw_of_the_measurement_has_its_covariance() -> None:
    moments, shape = parts(16), (1, 4, 4)
    noise = torch.full((16,), 0.04, dtype=torch.float64)
    held = Measurement.of(moments, Blur(1.0), shape)
    a = dense(Blur(1.0), shape)
    along, rest = moments.given(0.7)
    right = a @ moments.map(lambda v: v * 0.49 / (v + 0.49), torch.eye(16, dtype=torch.float64)) @ a.mT + torch.diag(noise)
    for measurement in (held, Measurement(moments, Blur(1.0), shape, None)):
        rng = SampleRng(range(20_000))
        draws = measurement.level(along, rest, noise).draw(lambda size, rng=rng: rng.normal((size,)))
        assert max(standard_errors(draws, torch.zeros(16, dtype=torch.float64), right)) < 5
    turned, _, variance = held.whitened(noise, noise.sqrt())
    rng = SampleRng(range(20_000))
    level = turned.level(along, rest, variance)
    draws = level.draw(lambda size: rng.normal((size,)))
    inverse = level.solve(torch.eye(len(variance), dtype=torch.float64))
    zero = torch.zeros(len(variance), dtype=torch.float64)
    assert max(standard_errors(draws, zero, torch.linalg.inv(inverse))) < 5


def test_an_exact_nonlinear_measurement_leaves_the_rest_free() -> None:
    n, s = 4000, torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    field = Gaussian(torch.zeros(2), s, VE(1e-3, 50.0))
    x = posterior_sample(field, Clip(-1.0, 1.0), torch.tensor([0.2, 1.0]), 0.0, rng=SampleRng(range(n))).x
    assert float((x[:, 0] - 0.2).abs().max()) < 1e-3
    above = torch.linspace(1, 8, 200_001, dtype=torch.float64)  # x2 is N(0.16, 0.36) above the bound
    density = torch.exp(-((above - 0.16) ** 2) / 0.72)
    density = density / density.sum()
    mean = float(density @ above)
    std = math.sqrt(float(density @ (above - mean) ** 2))
    assert abs(float(x[:, 1].mean()) - mean) < 5 * std / math.sqrt(n) * CORRELATED
    assert abs(float(x[:, 1].std()) - std) < 5 * std / math.sqrt(n) * CORRELATED
    prior = Gaussian([0.5], [[4.0]], VE(1e-3, 50.0))
    draws = posterior_sample(prior, Absolute(), torch.tensor([1.5]), 0.0, rng=SampleRng(range(n))).x[:, 0]
    assert float((draws.abs() - 1.5).abs().max()) < 1e-3
    share = 1 / (1 + math.exp(-((1.5 + 0.5) ** 2 - (1.5 - 0.5) ** 2) / 8))
    assert abs(float((draws > 0).double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / n) * CORRELATED


def test_one_draw_has_the_particles_it_needs() -> None:
    prior = GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [1.0, 1.0], VE(0.01, 50.0))
    y, draws = torch.tensor([1.0]), 1000
    assert posterior_sample(prior, Matrix([[1.0]]), y, 1.0, rng=SampleRng([0])).particles == 64
    own = Twisted(particles=64, together=False)  # as many calls of one draw would be
    x = posterior_sample(prior, Matrix([[1.0]]), y, 1.0, rng=SampleRng(range(draws)), method=own).x
    left = 1 / (1 + math.exp(((1 + 3) ** 2 - (1 - 3) ** 2) / 4))  # y is N(-3, 2) or N(3, 2)
    mean, variance = (1 - left) * 2 - left, 0.5 + left * (1 - left) * 9
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / draws)


# --- what a person relies on ------------------------------------------------------------------------------------------


def test_a_draw_of_a_filter_of_its_own_does_not_depend_on_the_others() -> None:
    field, a, y = mixture(), random(1, 3, seed=3), torch.tensor([1.0])
    method = Twisted(particles=4, together=False, levels=20)
    many = posterior_sample(field, Matrix(a), y, 0.5, rng=SampleRng(range(9)), method=method)
    one = posterior_sample(field, Matrix(a), y, 0.5, rng=SampleRng([6]), method=method)
    assert torch.allclose(many.x[6], one.x[0], rtol=0, atol=1e-9) and float(many.effective[6]) == pytest.approx(
        float(one.effective)
    )


def test_what_was_measured_is_not_written_to() -> None:
    field, y = mixture(), torch.tensor([1.0, 2.0], dtype=torch.float64)
    before = y.clone()
    posterior_sample(field, Matrix(random(2, 3)), y, 0.5, rng=SampleRng(range(5)), method=Twisted(levels=3))
    assert torch.equal(y, before)


WRAPPED = {
    "autoguidance": lambda field: Autoguidance(field, field, 2.0),  # of equal fields: the field itself
    "classifier-free": lambda field: ClassifierFree(field, 2.0),  # likewise, for a field that has no classes
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_weights_are_constant_through_guidance_that_changes_nothing(wrap: str) -> None:
    field, a = Gaussian(random(4), covariance(4), VE(0.01, 200.0)), random(2, 4, seed=3)
    guided, rng = WRAPPED[wrap](field), SampleRng(range(50))
    cond = torch.zeros(50, dtype=torch.int64)
    method = Twisted(levels=5, particles=1)
    draws = posterior_sample(guided, Matrix(a), a @ random(4, seed=8), 0.3, rng=rng, method=method, cond=cond)
    assert float(draws.effective.min()) > 1 - 1e-6


def test_a_tempered_gaussian_has_its_own_exact_posterior() -> None:
    d, n = 3, 4000
    field = Tempered(Gaussian(torch.zeros(d), 2.0 * torch.eye(d), VE(0.01, 200.0)), 0.5)
    a, y = random(2, d, seed=3), torch.tensor([0.4, -0.3], dtype=torch.float64)
    draws = posterior_sample(field, Matrix(a), y, 0.3, rng=SampleRng(range(n)), method=Twisted(levels=5, particles=1))
    eye = torch.eye(d, dtype=torch.float64)
    right = truth(torch.zeros(d, dtype=torch.float64), eye, a, y, torch.full((2,), 0.3, dtype=torch.float64))
    assert max(standard_errors(draws.x, *right)) < 5 and float(draws.effective.min()) > 1 - 1e-6


class Broken:
    """A field that is NaN at every level below 1."""

    def __init__(self, field: GaussianMixture) -> None:
        self.field, self.process, self.shape = field, field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> object:
        return self.field(torch.where(self.process.sigma(t)[:, None] < 1, torch.nan, x), t)


def test_nan_stops_and_is_named() -> None:
    with pytest.raises(NotFinite, match=r"at t = .* while sampling a posterior"):
        posterior_sample(Broken(mixture()), Matrix(random(1, 3)), torch.zeros(1), 0.5, rng=SampleRng(range(3)))  # type: ignore[arg-type]


WRONG = {
    "no seeds": ({"rng": []}, "without seeds"),
    "another size": ({"y": torch.zeros(3)}, "shape \\(3,\\), expected \\(1,\\)"),
    "a batch": ({"y": torch.zeros(1, 1)}, "without a batch"),
    "nan": ({"y": torch.tensor([torch.nan])}, "NaN or infinity in the measurement"),
    "negative noise": ({"noise": -1.0}, "expected a number >= 0"),
    "noise of another size": ({"noise": torch.ones(2)}, "one for each number"),
    "unknown method": ({"method": "twistd"}, "did you mean 'twisted'"),
    "too many columns": ({"operator": Matrix([[1.0, 2.0]])}, "2 columns"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_refused_in_a_sentence(case: str) -> None:
    values, message = WRONG[case]
    given = {"operator": Matrix(random(1, 3)), "y": torch.zeros(1), "noise": 0.5, "rng": range(3), "method": "auto"} | values
    with pytest.raises(ScorefieldError, match=message):
        posterior_sample(
            mixture(), given["operator"], given["y"], given["noise"], rng=SampleRng(given["rng"]), method=given["method"]
        )  # fmt: skip
