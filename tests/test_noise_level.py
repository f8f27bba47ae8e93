"""The noise level of a measurement: the most likely one under Gaussian data, from the measurement alone."""

from __future__ import annotations

import math

import pytest
import torch

from scorefield import VE, Gaussian, SampleRng, ScorefieldError
from scorefield.exact import Labelled
from scorefield.guidance.noise_level import ROUNDS, _most_likely, noise_level, refined_noise_level
from scorefield.guidance.posterior import Twisted, posterior_sample
from scorefield.moments import Moments
from scorefield.operators import Blur, Identity, Mask, Matrix, Operator, dense
from scorefield.randomness import stream_of

SIDE = 10
SHAPE = (1, SIDE, SIDE)
D = math.prod(SHAPE)


def smooth() -> Moments:
    """Moments of images whose pixels are correlated over three pixels or so."""
    place = torch.cartesian_prod(torch.arange(float(SIDE)), torch.arange(float(SIDE))).double()
    distance = torch.cdist(place, place)
    return Moments.of_covariance(torch.linspace(-1, 1, D).double(), torch.exp(-0.5 * (distance / 2) ** 2))


def draws(moments: Moments, n: int) -> torch.Tensor:
    """Gaussian samples with these moments."""
    noise = SampleRng(range(n), stream=stream_of("test noise level")).normal((D,))
    return (moments.mean + moments.map(lambda v: v.clamp(min=0).sqrt(), noise)).reshape(n, *SHAPE)


OPERATORS: list[Operator] = [
    Identity(),
    Mask(torch.arange(D).reshape(SIDE, SIDE) < 60),
    Blur(1.0),
    Matrix(torch.eye(D)[:50].tolist()),
]


def test_around_data_that_do_not_vary_it_is_the_root_mean_square() -> None:
    y = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    mean = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    found = noise_level(Moments.isotropic(mean, 0.0), Identity(), y, (4,))
    assert found == pytest.approx(float((y - mean).square().mean().sqrt()), rel=1e-12)


def test_the_slope_of_the_likelihood_is_0_there() -> None:
    values = torch.logspace(-6, 1, 50, dtype=torch.float64)
    squares = (values + 0.04) * SampleRng([3]).normal((50,))[0].square()
    variance = _most_likely(values, squares) ** 2
    spread = values + variance
    each = (1 / spread - squares / spread**2) * variance
    assert abs(float(each.sum())) < 1e-9 * float(each.abs().sum())


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_on_gaussian_data_it_is_the_noise_within_five_standard_errors(operator: Operator) -> None:
    """The variance of an efficient estimate is 1/I, I = 1/2·sum (2s/(e + s²))² (Fisher), and its bias O(1/I)."""
    moments, n, s = smooth(), 20, 0.1
    clean = operator(draws(moments, n))
    noise = SampleRng(range(n), stream=stream_of("noise")).normal(tuple(clean.shape[1:]))
    found = torch.tensor([noise_level(moments, operator, y, SHAPE) for y in clean + s * noise], dtype=torch.float64)
    seen = dense(operator, SHAPE) @ moments.vectors
    e = torch.linalg.eigvalsh(seen * moments.variances @ seen.mT).clamp(min=0)
    information = float(((2 * s / (e + s**2)) ** 2).sum()) / 2
    assert abs(float(found.mean()) - s) < 5 / math.sqrt(information * n) + 1 / (information * s)
    assert 0.5 < float(found.var()) * information < 2


def test_an_intact_measurement_has_none() -> None:
    moments = smooth()
    for y in Blur(1.0)(draws(moments, 5)):
        assert noise_level(moments, Blur(1.0), y, SHAPE) < 1e-4


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_most_likely_noise_is_where_expectation_maximisation_stays(operator: Operator) -> None:
    """On a Gaussian field the draws are exact, and the likelihood of s is known: a round started there leads to it again."""
    moments, s, n = smooth(), 0.1, 400
    field = Gaussian(moments.mean.reshape(SHAPE), moments.map(lambda v: v, torch.eye(D).double()), VE(1e-3, 100.0))
    clean = operator(draws(moments, 1))[0]
    y = clean + s * SampleRng([5]).normal(tuple(clean.shape))[0]
    best = noise_level(moments, operator, y, SHAPE)
    exact = Twisted(particles=1, levels=2, together=False)
    found = posterior_sample(field, operator, y, best, rng=SampleRng(range(n)), method=exact)
    squares = found.residual.square()
    assert abs(float(squares.mean()) - 1) < 5 * float(squares.std()) / math.sqrt(n)
    refined = refined_noise_level(field, operator, y, rng=SampleRng(range(20)), method=exact)
    assert best * 0.9 < refined < best * 1.35  # it comes from above, and stops where a round changes it by 5 %


def test_what_one_kind_of_sample_cannot_be_is_noise() -> None:
    """Each of 8 classes varies along 12 directions of its own, and all together along 96 of 100: a covariance sees little."""
    s, n = 0.1, 4
    turn = torch.linalg.qr(SampleRng([3]).normal((D, D))[0]).Q
    own = [turn[:, 12 * k : 12 * k + 12] for k in range(8)]
    eye = torch.eye(D, dtype=torch.float64)
    classes = [Gaussian(torch.zeros(SHAPE), 25 * u @ u.mT + 1e-6 * eye, VE(1e-3, 200.0)) for u in own]
    field = Labelled([1.0] * 8, classes)
    ys = classes[0].sample(SampleRng(range(n))) + s * SampleRng(range(n), stream=1).normal(SHAPE)
    best = torch.tensor([noise_level(classes[0].moments, Identity(), y, SHAPE) for y in ys])  # which knows the class
    of_field = torch.tensor([refined_noise_level(field, Identity(), y, rng=SampleRng(range(2))) for y in ys])
    of_covariance = torch.tensor([noise_level(field.moments, Identity(), y, SHAPE) for y in ys])
    assert float((of_field / best - 1).abs().max()) < 0.05  # where a round of expectation maximisation settles
    assert float((of_covariance / best - 1).abs().max()) > 0.2


def test_no_round_goes_below_the_least_and_no_noise_needs_none() -> None:
    moments = smooth()
    field = Gaussian(moments.mean.reshape(SHAPE), moments.map(lambda v: v, torch.eye(D).double()), VE(1e-3, 100.0))
    y, calls = draws(moments, 1)[0], list[float]()
    found = refined_noise_level(
        field, Identity(), y, rng=SampleRng(range(2)), least=0.05, progress=lambda share, text: calls.append(share)
    )
    assert found == 0.05
    assert 1 <= len(calls) <= ROUNDS
    assert refined_noise_level(field, Identity(), y, rng=SampleRng([0]), least=1e6) == 1e6


def test_an_operator_that_is_not_linear_is_refused() -> None:
    class Absolute(Identity):
        linear = False

    with pytest.raises(ScorefieldError, match="not linear, for an estimate of the noise"):
        noise_level(smooth(), Absolute(), torch.zeros(SHAPE), SHAPE)
