"""The kernel Stein discrepancy: zero for draws of the density, its closed form for others, and what it does not see."""

import math
from typing import Any

import numpy
import pytest
import torch
from helpers import double, each_case
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, NotFinite, RectifiedFlow, SampleRng, ScorefieldError
from scorefield.guidance.posterior import Measured, posterior_sample, stein
from scorefield.guidance.posterior.stein import answer_discrepancy, median_distance, stein_discrepancy
from scorefield.metrics.base import Estimate
from scorefield.operators import Mask, Matrix

COVARIANCE = double([[1.0, 0.8], [0.8, 1.0]])


def sees(found: Estimate) -> bool:
    return found.value > 5 * found.standard_error


def agrees(found: Estimate, truth: float = 0.0) -> bool:
    return abs(found.value - truth) < 5 * found.standard_error


def stein_kernel(x: Tensor, y: Tensor, c: float) -> Tensor:
    """h(x, y) of N(0, 1) in one dimension, by automatic differentiation of the kernel."""
    x, y = (v.clone().requires_grad_(True) for v in (x, y))
    k = (1 + (x - y) ** 2 / c**2) ** -0.5
    (by_x,) = torch.autograd.grad(k.sum(), x, create_graph=True)
    (by_y,) = torch.autograd.grad(k.sum(), y, create_graph=True)
    (both,) = torch.autograd.grad(by_x.sum(), y)
    return (x * y * k - x * by_y - y * by_x + both).detach() * c**2


# --- draws of the density, and of others ------------------------------------------------------------------------------


@pytest.mark.theorem("stein-discrepancy")
@each_case(d=[1, 2, 10], scale=[None, 0.3, 5.0])
def test_draws_of_the_density_have_a_discrepancy_of_zero(d: int, scale: Any) -> None:
    x = SampleRng(range(1500), stream=d).normal((d,))
    assert agrees(stein_discrepancy(x, -x, scale))
    assert agrees(stein_discrepancy(x.reshape(-1, 1, d) * 3 + 5, -x.reshape(-1, 1, d) / 3, scale))


@pytest.mark.theorem("stein-discrepancy")
@each_case(mean=[0.3, 1.0], std=[1.0], scale=[0.7, 2.0])
def test_the_discrepancy_of_two_gaussians_is_that_of_quadrature(mean: float, std: float, scale: float) -> None:
    x = torch.linspace(mean - 8, mean + 8, 1201, dtype=torch.float64)
    weight = torch.exp(-0.5 * (x - mean) ** 2)
    weight = weight / weight.sum()  # the trapezoid rule, which has every digit for a Gaussian
    pairs = stein_kernel(*(v.flatten() for v in torch.meshgrid(x, x, indexing="ij")), scale)
    truth = float(weight @ pairs.reshape(1201, 1201) @ weight)
    draws = mean + std * SampleRng(range(3000)).normal((1,))
    found = stein_discrepancy(draws, -draws, scale)
    assert agrees(found, truth) and sees(found)


@pytest.mark.theorem("stein-discrepancy")
def test_every_pair_counts_once_in_each_order_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 0.5 + SampleRng(range(50)).normal((1,))
    first, second = torch.meshgrid(x[:, 0], x[:, 0], indexing="ij")
    h = stein_kernel(first.flatten(), second.flatten(), 0.8).reshape(50, 50).fill_diagonal_(0.0)
    for block in (7, 50, 512):
        monkeypatch.setattr(stein, "BLOCK", block)
        found = stein_discrepancy(x, -x, 0.8)
        numpy.testing.assert_allclose(found.value, float(h.sum()) / (50 * 49), rtol=1e-10)
        drop = [float(h[keep][:, keep].sum()) / (49 * 48) for keep in (torch.arange(50) != i for i in range(50))]
        jackknife = math.sqrt(49 / 50 * sum((d - sum(drop) / 50) ** 2 for d in drop))
        numpy.testing.assert_allclose(found.standard_error, jackknife, rtol=1e-10)


@each_case(fault={"mean": (0.3, 1.0), "too narrow": (0.0, 0.8), "too wide": (0.0, 1.3)}, d=[1, 5])
def test_a_wrong_mean_and_a_wrong_width_are_seen(fault: Any, d: int) -> None:
    shift, width = fault
    x = shift + width * SampleRng(range(2000)).normal((d,))
    assert sees(stein_discrepancy(x, -x))


def test_the_discrepancy_has_no_unit() -> None:
    x = 0.3 + SampleRng(range(500)).normal((3,))
    one, other = stein_discrepancy(x, -x), stein_discrepancy(1000 * x + 7, -x / 1000)
    numpy.testing.assert_allclose((one.value, one.standard_error), (other.value, other.standard_error), rtol=1e-9)


def test_the_standard_error_is_that_of_fresh_draws() -> None:
    """Of draws of another density the jackknife is right; of the density's own it is up to sqrt(2) too large."""
    for shift, most in ((0.7, 1.0), (0.0, math.sqrt(2))):
        found = [
            stein_discrepancy(x, -x, 1.0)
            for x in (shift + SampleRng(range(100), stream=one).normal((1,)) for one in range(300))
        ]
        scatter = double([one.value for one in found]).std()
        stated = double([one.standard_error for one in found]).square().mean().sqrt()
        chance = 5 / math.sqrt(2 * 300) + 0.1  # of the scatter, and of 100 draws for a limit
        assert 1 - chance < float(stated / scatter) < most * (1 + chance), shift


def test_the_shares_of_far_modes_are_not_seen() -> None:
    n, times = 2000, torch.zeros(2000, dtype=torch.float64)
    side = torch.where(SampleRng(range(n), stream=3).uniform((1,)) < 0.5, -5.0, 5.0)
    x = side + SampleRng(range(n)).normal((1,))
    even, uneven = (
        stein_discrepancy(x, GaussianMixture(shares, [[-5.0], [5.0]], [1.0, 1.0], VE(1e-6, 10.0))(x, times).score)
        for shares in ([0.5, 0.5], [0.8, 0.2])
    )
    assert not sees(uneven) and abs(even.value - uneven.value) < 1e-5 * even.standard_error
    assert even.value == pytest.approx(0.003, abs=5e-4) and even.standard_error == pytest.approx(0.02, abs=5e-3)


def test_the_scale_is_the_median_distance() -> None:
    x = double([[0.0], [1.0], [10.0]])
    assert median_distance(x) == 9.0
    assert stein_discrepancy(x, -x) == stein_discrepancy(x, -x, 9.0) != stein_discrepancy(x, -x, 8.0)
    assert median_distance(torch.zeros(4, 2, dtype=torch.float64)) == 1.0


@each_case(
    case={
        "two draws": ((2, 1), (2, 1), None, "at least 3 draws"),
        "other scores": ((4, 1), (4, 2), None, "expected one score for each"),
        "no scale": ((4, 1), (4, 1), 0.0, "expected a positive number"),
    }
)
def test_what_has_no_discrepancy_is_refused(case: Any) -> None:
    x, score, scale, message = case
    with pytest.raises(ScorefieldError, match=message):
        stein_discrepancy(torch.zeros(x), torch.zeros(score), scale)


def test_draws_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NotFinite, match="leave them out"):
        stein_discrepancy(double([[0.0], [math.nan], [1.0]]), torch.zeros(3, 1))


# --- of an answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [VE(0.01, 20.0), VP(), RectifiedFlow()], ids=["ve", "vp", "flow"])
@each_case(s=[0.02, 0.3, 0.8])
def test_exact_draws_of_a_posterior_have_a_discrepancy_of_zero_and_those_of_the_prior_have_not(process: Any, s: float) -> None:
    prior, y = Gaussian([0.0, 0.0], COVARIANCE, process), double([1.5])
    gain = COVARIANCE[:, :1] / (1 + s**2)
    before = prior.sample(SampleRng(range(1000)))
    noise = s * SampleRng(range(1000), stream=1).normal((1,))
    after = before + (y + noise - before[:, :1]) @ gain.mT  # conditioning a joint draw of x0 and its measurement
    measured = Measured(Mask([True, False]), y, s)
    assert agrees(answer_discrepancy(prior, measured, after))
    assert sees(answer_discrepancy(prior, measured, before))


def test_the_biased_methods_are_seen_and_the_exact_ones_are_not() -> None:
    prior, s = Gaussian([0.0, 0.0], COVARIANCE, VE(0.01, 20.0)), 0.3
    measured = Measured(Matrix([[1.0, 0.0]]), double([1.5]), s)

    def found(name: str) -> Estimate:
        draws = posterior_sample(prior, measured.operator, measured.y, s, rng=SampleRng(range(1000)), method=name)
        return answer_discrepancy(prior, measured, draws.x)

    assert agrees(found("mmps")) and agrees(found("twisted"))
    assert sees(found("diffpir"))


def test_the_discrepancy_of_an_answer_needs_a_linear_operator() -> None:
    class Square(Matrix):
        linear = False  # type: ignore[misc]

    prior = Gaussian([0.0, 0.0], COVARIANCE, VE(0.01, 20.0))
    with pytest.raises(ScorefieldError, match="which is not linear"):
        answer_discrepancy(prior, Measured(Square([[1.0, 0.0]]), double([1.0]), 0.1), torch.zeros(4, 2, dtype=torch.float64))
