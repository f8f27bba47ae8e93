"""The noise level of a measurement: the most likely one under Gaussian data, from the measurement alone."""

from __future__ import annotations

import math

import pytest
import torch

from scorefield import SampleRng, ScorefieldError
from scorefield.guidance.noise_level import _most_likely, noise_level
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


def test_an_operator_that_is_not_linear_is_refused() -> None:
    class Absolute(Identity):
        linear = False

    with pytest.raises(ScorefieldError, match="not linear, for an estimate of the noise"):
        noise_level(smooth(), Absolute(), torch.zeros(SHAPE), SHAPE)
