"""Data on curves and where data are few: the score beside a curve, what implicit matching finds there, how few data err."""

import math
from typing import Any

import numpy
import pytest
import torch
from helpers import OfScore, doubles, each_case, within_five
from scipy import integrate, optimize, special, stats
from torch import Tensor

from scorefield import Gaussian, GaussianMixture, LinearVE, Noiseless, SampleRng
from scorefield.objectives.implicit import Implicit

PROCESS = LinearVE(1e-3, 20.0)  # t is sigma


def at(sigma: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), sigma, dtype=torch.float64)


# --- the score beside a curve -----------------------------------------------------------------------------------------


@pytest.mark.theorem("score-across-a-flat")
@each_case(sigma=[0.01, 0.3, 3.0])
def test_across_a_flat_the_score_is_minus_the_distance_over_the_variance_of_the_noise(sigma: float) -> None:
    """A plane in four dimensions, turned: along it the score is that of N(0, v + sigma²), across it that of the noise."""
    axes, _ = torch.linalg.qr(SampleRng(range(4)).normal((4,)))
    along, v = axes[:, :2] @ axes[:, :2].mT, 1.7
    x = 3 * SampleRng(range(20), stream=1).normal((4,))
    score = Gaussian(torch.zeros(4), v * along, PROCESS)(x, at(sigma, x)).score
    numpy.testing.assert_allclose(score @ along, -x @ along / (v + sigma**2), rtol=1e-9, atol=1e-9 / sigma**2)
    numpy.testing.assert_allclose(score - score @ along, -(x - x @ along) / sigma**2, rtol=1e-9, atol=1e-9 / sigma**2)


def circle(n: int, radius: float) -> Tensor:
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.theorem("circle-score")
@each_case(sigma=[0.05, 0.3, 2.0])
def test_the_score_of_a_noised_circle_is_a_ratio_of_bessel_functions(sigma: float) -> None:
    """400 points are the circle itself: at two spacings of noise, the error is exp(-8·pi²)."""
    radius, field = 1.5, GaussianMixture.empirical(circle(400, 1.5), PROCESS)
    r = torch.linspace(0.2, 4, 30, dtype=torch.float64)
    angle = torch.linspace(0, 5, 30, dtype=torch.float64)
    outwards = torch.stack([angle.cos(), angle.sin()], dim=1)
    z = r.numpy() * radius / sigma**2
    expected = (radius * special.ive(1, z) / special.ive(0, z) - r.numpy()) / sigma**2
    score = field(r[:, None] * outwards, at(sigma, r)).score
    numpy.testing.assert_allclose((score * outwards).sum(1), expected, rtol=1e-9, atol=1e-9 / sigma**2)
    across = score[:, 0] * outwards[:, 1] - score[:, 1] * outwards[:, 0]
    numpy.testing.assert_allclose(across, 0 * r, atol=1e-9 / sigma**2)


@pytest.mark.theorem("score-off-a-curve")
def test_off_a_curve_the_score_times_the_noise_variance_points_to_the_nearest_point_up_to_that_variance() -> None:
    """Data evenly in u on (u, sin 2u): the error falls with sigma², and the denoised point is the nearest one."""
    u = torch.linspace(-2, 2, 40_001, dtype=torch.float64)
    field = GaussianMixture.empirical(torch.stack([u, (2 * u).sin()], dim=1), PROCESS)
    x = doubles([0.1, -0.2], [0.7, 1.4], [1.2, 0.4], [-0.9, -0.8])
    nearest = []
    for a, b in x.tolist():
        distance = lambda s, a=a, b=b: math.hypot(s - a, math.sin(2 * s) - b)  # noqa: E731
        begin = min(numpy.linspace(-2, 2, 401), key=distance)
        s = optimize.minimize_scalar(
            distance, bounds=(begin - 0.02, begin + 0.02), method="bounded", options={"xatol": 1e-12}
        ).x
        nearest.append([s, math.sin(2 * s)])
    errors = []
    for sigma in (0.02, 0.01, 0.005):
        prediction = field(x, at(sigma, x))
        numpy.testing.assert_allclose(prediction.denoised - x, sigma**2 * prediction.score, atol=1e-10)
        errors.append((prediction.denoised - doubles(*nearest)).norm(dim=1))
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert bool(((coarse / fine - 4).abs() < 0.15).all())


# --- implicit matching on a manifold ----------------------------------------------------------------------------------


def steep(like: Any, k: float, nearest: Any) -> OfScore:
    return OfScore(like, lambda x, t: k * (nearest(x) - x))


def implicit(field: Any, x0: Tensor) -> Tensor:
    with torch.enable_grad():
        return Implicit()(field, x0, rng=SampleRng(range(len(x0)), stream=1)).detach()


@pytest.mark.theorem("implicit-on-a-manifold")
@each_case(k=[1.0, 1e4])
def test_on_a_manifold_a_pull_of_strength_k_has_the_implicit_loss_minus_k_times_the_codimension(k: float) -> None:
    """A circle in the plane (codimension 1) and in space (2), a sphere (1) and a point (3): without noise, without a bound."""
    ring = circle(50, 1.5)
    lifted = torch.cat([ring, torch.zeros(50, 1)], dim=1)
    ball = torch.nn.functional.normalize(SampleRng(range(50)).normal((3,)), dim=1)

    def of_circle(x: Tensor) -> Tensor:
        flat = torch.cat([x[:, :2], 0 * x[:, 2:]], dim=1)
        return 1.5 * flat / flat.norm(dim=1, keepdim=True)

    cases = [(ring, of_circle, 1), (lifted, of_circle, 2), (ball, lambda x: x / x.norm(dim=1, keepdim=True), 1)]
    cases.append((torch.zeros(5, 3, dtype=torch.float64), torch.zeros_like, 3))
    for data, nearest, codimension in cases:
        still = GaussianMixture.empirical(data, Noiseless())
        numpy.testing.assert_allclose(implicit(steep(still, k, nearest), data), -k * codimension, rtol=1e-9)


@pytest.mark.theorem("implicit-on-a-flat")
def test_noise_bounds_the_implicit_loss_on_a_flat_and_its_best_pull_is_one_over_the_variance_of_the_noise() -> None:
    """A line in space: J(k) = 2·(sigma²·k²/2 - k), which is smallest at 1/sigma², where the pull is the true score's."""
    n, sigma = 20_000, 0.3
    line = torch.diag(doubles(1.7, 0.0, 0.0))
    field = Gaussian(torch.zeros(3), line, LinearVE(sigma, sigma * (1 + 1e-9)))
    x0 = field.sample(SampleRng(range(n)))

    def nearest(x: Tensor) -> Tensor:
        return x * doubles(1.0, 0.0, 0.0)

    for k in (0.5 / sigma**2, 1 / sigma**2, 2 / sigma**2):
        loss = implicit(steep(field, k, nearest), x0)
        assert within_five(loss, 2 * (sigma**2 * k**2 / 2 - k))
        assert not within_five(loss, -2 * k)
    best = implicit(field, x0)  # the true score: along the line it gains another half of its mean square
    assert within_five(best, -1 / sigma**2 - 0.5 / (1.7 + sigma**2))


# --- few data ---------------------------------------------------------------------------------------------------------


def few_data_variance(x: float, sigma: float, n: int) -> float:
    """E[k²·(g - s)²]/(n·p_sigma(x)²) for data from N(0, 1), by quadrature."""
    score, density = -x / (1 + sigma**2), stats.norm.pdf(x, 0, math.sqrt(1 + sigma**2))

    def term(y: float) -> float:
        return stats.norm.pdf(y) * (stats.norm.pdf(x, y, sigma) * ((y - x) / sigma**2 - score)) ** 2

    return integrate.quad(term, x - 12 * sigma, x + 12 * sigma, points=[x], epsabs=0, epsrel=1e-10)[0] / (n * density**2)


@pytest.mark.theorem("few-data-variance")
def test_the_best_score_of_few_data_errs_by_one_over_twice_the_noise_variance_times_its_number_of_neighbours() -> None:
    """400 data sets of 500 points: the field of each against the score of N(0, 1 + sigma²); then the limit of little noise."""
    n, sets, sigma = 500, 400, 0.4
    x = doubles([0.0], [1.5])
    fields = [GaussianMixture.empirical(SampleRng(range(n), stream=k).normal((1,)), PROCESS) for k in range(sets)]
    errors = torch.stack([field(x, at(sigma, x)).score + x / (1 + sigma**2) for field in fields])[..., 0] ** 2
    for column, place in zip(errors.mT, x[:, 0].tolist(), strict=True):
        assert within_five(column, few_data_variance(place, sigma, n))
        assert not within_five(column, 1.5 * few_data_variance(place, sigma, n))
    for place in (0.0, 1.5):
        off = []
        for s in (0.04, 0.02):
            neighbours = n * stats.norm.pdf(place) * 2 * math.sqrt(math.pi) * s
            off.append(few_data_variance(place, s, n) * 2 * s**2 * neighbours - 1)
        assert abs(off[0] / off[1] - 4) < 0.05


@pytest.mark.theorem("price-of-noise")
@each_case(v=[0.5, 2.0], sigma=[0.1, 1.0, 5.0])
def test_the_score_of_noised_data_is_another_densitys_by_a_known_divergence(v: float, sigma: float) -> None:
    """Of N(0, v): 1/2·E(s_sigma - s)² = sigma⁴/(2·v·(v + sigma²)²), by Gauss-Hermite quadrature of both fields."""
    nodes, weights = numpy.polynomial.hermite_e.hermegauss(20)
    x = math.sqrt(v) * torch.tensor(nodes)[:, None]
    noised, clean = (Gaussian([0.0], [[v]], process)(x, at(sigma, x)).score for process in (PROCESS, Noiseless()))
    divergence = 0.5 * float(torch.tensor(weights / weights.sum()) @ (noised - clean)[:, 0] ** 2)
    assert math.isclose(divergence, sigma**4 / (2 * v * (v + sigma**2) ** 2), rel_tol=1e-11)
