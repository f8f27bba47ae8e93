"""Two modes: what the score knows of their weights, how long Langevin dynamics takes between them, how noise melts them.

The pair w1·N(-a, v) + w2·N(a, v) at noise level sigma is that of the variance w = v + sigma²: all of it has a closed form.
"""

import math

import numpy
import pytest
import torch
from helpers import doubles, each_case
from scipy import integrate
from torch import Tensor

from scorefield import Gaussian, GaussianMixture, LinearVE, Noiseless, SampleRng
from scorefield.levels import geometric, uniform
from scorefield.samplers import Langevin, Mala, simulate

PROCESS = LinearVE(1e-3, 50.0)  # t is sigma


def pair(a: float, v: float, left: float) -> GaussianMixture:
    return GaussianMixture([left, 1 - left], [[-a], [a]], [math.sqrt(v)] * 2, PROCESS)


def still(left: float, a: float, v: float = 1.0) -> GaussianMixture:
    return GaussianMixture([left, 1 - left], [[-a], [a]], [math.sqrt(v)] * 2, Noiseless())


def at(sigma: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), sigma, dtype=torch.float64)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("weights-move-the-boundary")
@each_case(left=[0.5, 0.8, 0.999], sigma=[0.1, 1.0, 7.0])
def test_the_weights_of_two_modes_move_the_place_where_the_score_turns_and_nothing_else(left: float, sigma: float) -> None:
    a, v = 3.0, 0.6
    w, x = v + sigma**2, torch.linspace(-8, 8, 101, dtype=torch.float64)[:, None]
    boundary = w / (2 * a) * math.log(left / (1 - left))
    expected = (a * torch.tanh(a * (x - boundary) / w) - x) / w
    numpy.testing.assert_allclose(pair(a, v, left)(x, at(sigma, x)).score, expected, rtol=1e-9, atol=1e-10)
    middle = doubles([boundary])
    numpy.testing.assert_allclose(pair(a, v, left).responsibilities(middle, at(sigma, middle)), [[0.5, 0.5]], rtol=1e-10)


@pytest.mark.theorem("fisher-of-weights")
def test_the_fisher_divergence_of_two_weightings_falls_like_the_density_between_the_modes() -> None:
    """The limit of far modes is met with a relative error that falls with the square of their distance."""

    def exact(a: float) -> float:
        x = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None] * 10 / a
        p, q = still(0.8, a), still(0.2, a)
        square = (p(x, at(0, x)).score - q(x, at(0, x)).score)[:, 0] ** 2
        return 0.5 * float(integrate.simpson((square * p.log_prob(x, at(0, x)).exp()).numpy(), x=x[:, 0].numpy()))

    def limit(a: float) -> float:
        def term(u: float) -> float:
            share = 0.8 / (0.8 + 0.2 * math.exp(u)) - 0.2 / (0.2 + 0.8 * math.exp(u))
            return (0.8 * math.exp(-u / 2) + 0.2 * math.exp(u / 2)) * share**2

        return a * math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi) * integrate.quad(term, -60, 60, epsrel=1e-12)[0]

    errors = [exact(a) / limit(a) - 1 for a in (5.0, 10.0, 20.0)]
    assert abs(errors[0]) < 0.2
    assert all(abs(near / far - 4) < 0.4 for near, far in zip(errors, errors[1:], strict=False)), errors


@pytest.mark.theorem("weights-at-every-level")
@each_case(sigma=[0.1, 1.0, 3.0, 20.0])
def test_the_mean_responsibility_of_a_mode_is_its_weight_at_every_noise_level(sigma: float) -> None:
    """At every level, melted modes included: the share of samples is counted by it."""
    field, wide = pair(3.0, 0.6, 0.8), 3.0 + 12 * math.sqrt(0.6 + sigma**2)
    x = torch.linspace(-wide, wide, 4001, dtype=torch.float64)[:, None]
    density, shares = field.log_prob(x, at(sigma, x)).exp(), field.responsibilities(x, at(sigma, x))
    found = integrate.simpson((density[:, None] * shares).numpy(), x=x[:, 0].numpy(), axis=0)
    numpy.testing.assert_allclose(found, [0.8, 0.2], rtol=1e-9)


# --- time -------------------------------------------------------------------------------------------------------------


def passage(field: GaussianMixture, a: float) -> float:
    """Mean time of dx = s·dt + sqrt(2)·dW from -a to a: the double integral of the density."""
    x = torch.linspace(-a - 8, a, 8001, dtype=torch.float64)[:, None]
    density = field.log_prob(x, at(0, x)).exp().numpy()
    below = integrate.cumulative_simpson(density, x=x[:, 0].numpy(), initial=0)
    inside = x[:, 0].numpy() >= -a
    return float(integrate.simpson((below / density)[inside], x=x[inside, 0].numpy()))


@pytest.mark.theorem("passage-time")
def test_langevin_shares_relax_in_the_mean_time_of_passage() -> None:
    """All samples start in the mode of 0.2. Their share in the other one is 0.8·(1 - exp(-t/T)) with 1/T = 1/T_LR + 1/T_RL."""
    n, a, tau = 3000, 2.25, 0.025
    times = [passage(still(left, a), a) for left in (0.8, 0.2)]  # mirrored, the way back is the way there
    relaxation = 1 / sum(1 / time for time in times)
    steps = round(relaxation / tau)
    rng = SampleRng(range(n))
    start = a + rng.normal((1,))
    *_, last = simulate(still(0.8, a), Langevin(tau=tau, steps=steps), doubles(0.0), start, rng=rng, denoise=False)
    left = float((last.x[:, 0] < 0).double().mean())

    def share(factor: float) -> float:
        first = float((start[:, 0] < 0).double().mean())
        return 0.8 + (first - 0.8) * math.exp(-tau * steps / (factor * relaxation))

    error = 5 * math.sqrt(0.25 / n)
    assert abs(left - share(1.0)) < error
    assert abs(left - share(1.4)) > error and abs(left - share(0.6)) > error


@pytest.mark.theorem("relaxation-of-a-pair")
def test_the_time_of_passage_between_far_modes_grows_like_the_exponential_of_half_the_squared_distance() -> None:
    """1/(1/T_LR + 1/T_RL) against pi·v/(2·a)·sqrt(2·pi·v·w1·w2)·exp(a²/(2·v)): the error falls with the squared distance."""
    errors = []
    for a in (8.0, 16.0):
        exact = 1 / sum(1 / passage(still(left, a), a) for left in (0.8, 0.2))
        errors.append(exact / (math.pi / (2 * a) * math.sqrt(2 * math.pi * 0.16) * math.exp(a**2 / 2)) - 1)
    assert abs(errors[0]) < 0.05 and abs(errors[0] / errors[1] - 4) < 0.4, errors


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("modes-merge")
@each_case(a=[1.0, 3.0])
def test_two_equal_modes_are_one_as_soon_as_their_variance_reaches_the_square_of_half_their_distance(a: float) -> None:
    """Zeros of the score: three below that level, one above; its slope between the modes changes sign there."""
    v = 0.3
    for share, zeros in ((0.99, 3), (1.01, 1)):
        w = share * a**2
        sigma, x = math.sqrt(w - v), torch.linspace(-2 * a, 2 * a, 4000, dtype=torch.float64)[:, None]
        score = pair(a, v, 0.5)(x, at(sigma, x)).score[:, 0]
        assert int((score.sign().diff() != 0).sum()) == zeros
        middle = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(pair(a, v, 0.5)(middle, at(sigma, middle)).score.sum(), middle)
        assert math.isclose(float(slope), (a**2 - w) / w**2, rel_tol=1e-9)


@pytest.mark.theorem("denoised-is-too-narrow")
def test_samples_of_one_noise_level_denoised_have_less_than_the_variance_of_the_data() -> None:
    """MALA at one level leaves v + sigma²; the loop's last step, the posterior mean, leaves v²/(v + sigma²)."""
    n, v, sigma = 20_000, 1.3, 0.9
    field, rng = Gaussian([2.0], [[v]], PROCESS), SampleRng(range(n))
    start = 2.0 + math.sqrt(v + sigma**2) * rng.normal((1,))
    *_, noisy, last = simulate(field, Mala(tau=0.8, steps=10), doubles(sigma), start, rng=rng)
    for x, variance in ((noisy.x, v + sigma**2), (last.x, v**2 / (v + sigma**2))):
        assert abs(float(((x - 2) ** 2).mean()) - variance) < 5 * variance * math.sqrt(2 / n)
    assert abs(v**2 / (v + sigma**2) - v) > 5 * v * math.sqrt(2 / n)


@pytest.mark.theorem("equal-steps-of-a-ladder")
def test_neighbours_of_a_geometric_ladder_are_equally_far_apart_and_those_of_an_even_one_are_not() -> None:
    """The divergence of the lower level from the upper one, for data that are one point, by Gauss-Hermite quadrature."""
    process, d = LinearVE(0.05, 8.0), 3
    point = GaussianMixture.empirical(torch.zeros(1, 1), process)
    nodes, weights = numpy.polynomial.hermite_e.hermegauss(10)

    def divergences(ladder: Tensor) -> list[float]:
        found = []
        for upper, lower in zip(ladder.tolist(), ladder.tolist()[1:], strict=False):
            x = lower * torch.tensor(nodes)[:, None]
            gain = point.log_prob(x, at(lower, x)) - point.log_prob(x, at(upper, x))
            found.append(d * float(torch.tensor(weights / weights.sum()) @ gain))
        return found

    gamma = (8.0 / 0.05) ** (1 / 9)
    numpy.testing.assert_allclose(divergences(geometric(process, 10)), d * (math.log(gamma) + (gamma**-2 - 1) / 2), rtol=1e-10)
    even = divergences(uniform(process, 10))
    assert even[-1] > 50 * even[0]
