"""The Feynman-Kac sampler draws from the tilted density: on Gaussians in closed form, on mixtures against quadrature.

Each call holds twenty filters, one for each value of `cond`, which do not know of each other. Their spread is the honest
standard error, whatever the resampling does: a mean over them is compared within five of it.
"""

import math
from typing import Any

import pytest
import torch
from helpers import OfScore
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, LinearVE, NotFinite, RectifiedFlow, SampleRng, ScorefieldError
from scorefield.exact import Labelled
from scorefield.guidance import Autoguidance, Classified, ClassifierFree, Extrapolated, Tilted, feynman_kac
from scorefield.levels import ladder_of
from scorefield.samplers import Ancestral, simulate

FILTERS, PARTICLES = 20, 500
PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "rectified-flow": RectifiedFlow()}


def drawn(guided: Extrapolated, cond: Tensor | None = None, **more: Any) -> Tilted:
    rng = SampleRng(range(FILTERS * PARTICLES), stream=11)
    return feynman_kac(guided, rng=rng, cond=torch.arange(len(rng)) // PARTICLES if cond is None else cond, **more)


def by_filter(values: Tensor) -> tuple[float, float]:
    """The mean over filters, and its standard error."""
    means = values.reshape(FILTERS, PARTICLES).mean(dim=1)
    return float(means.mean()), float(means.std()) / math.sqrt(FILTERS)


def gaussians(g: float, process: Any) -> Autoguidance:
    return Autoguidance(Gaussian([0.0], [[1.0]], process), Gaussian([0.0], [[2.0]], process), g)


# --- Gaussians --------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("feynman-kac", "guided-variance")
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("g", [0.5, 2.0])
def test_the_variance_is_2_over_1_plus_g_whatever_the_process(g: float, process: Any) -> None:
    found, error = by_filter(drawn(gaussians(g, process)).x.square())
    assert abs(found - 2 / (1 + g)) < 5 * error
    biased = (2 - 2 ** (2 - 2 * g)) / (2 * g - 1) if g != 0.5 else 2 * math.log(2)
    assert g == 0.5 or abs(found - biased) > 5 * error  # of the same SDE without the weights


@pytest.mark.theorem("feynman-kac")
def test_means_and_correlations_are_those_of_the_product_of_powers() -> None:
    """precision (1 - g)·P + g·P_c, and that times the mean likewise: in two dimensions, with different means."""
    process, g = VE(0.01, 50.0), 1.8
    better = Gaussian([1.0, -0.5], [[0.6, 0.3], [0.3, 0.5]], process)
    worse = Gaussian([0.2, 0.4], [[2.0, -0.4], [-0.4, 1.5]], process)
    precisions = [torch.linalg.inv(one.covariance) for one in (worse, better)]
    precision = (1 - g) * precisions[0] + g * precisions[1]
    covariance = torch.linalg.inv(precision)
    mean = covariance @ ((1 - g) * precisions[0] @ worse.mean + g * precisions[1] @ better.mean)
    x = drawn(Autoguidance(better, worse, g)).x
    for i in range(2):
        found, error = by_filter(x[:, i])
        assert abs(found - float(mean[i])) < 5 * error
        for j in range(i + 1):
            found, error = by_filter((x[:, i] - mean[i]) * (x[:, j] - mean[j]))
            assert abs(found - float(covariance[i, j])) < 5 * error


def test_a_start_that_is_not_far_above_the_data_is_weighed_right() -> None:
    """From sigma = 2 the start N(mean, data_std² + 4) is far from the tilted density; its weight is exact on Gaussians."""
    process = VE(0.01, 2.0)
    guided = Autoguidance(Gaussian([1.5], [[0.5]], process), Gaussian([0.0], [[2.0]], process), 2.0)
    variance = 1 / (2 / 0.5 - 1 / 2.0)
    x = drawn(guided).x
    for values, wanted in ((x, variance * 2 * 1.5 / 0.5), ((x - variance * 6) ** 2, variance)):
        found, error = by_filter(values)
        assert abs(found - wanted) < 5 * error


def test_at_strength_one_and_zero_nothing_is_weighed_but_the_start() -> None:
    for g, variance in ((1.0, 1.0), (0.0, 2.0)):
        found = drawn(gaussians(g, VE(0.01, 50.0)))
        assert float(found.effective.min()) > 1 - 1e-3  # of the start, N(0, 2 + T) for N(0, 1 + T)
        value, error = by_filter(found.x.square())
        assert abs(value - variance) < 5 * error


# --- mixtures ---------------------------------------------------------------------------------------------------------


def classes(process: Any) -> Labelled:
    """Two classes on the line with two modes each; one mode of the first is under one of the second."""
    first = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.7], process)
    second = GaussianMixture([0.3, 0.7], [[1.5], [5.0]], [0.5, 0.5], process)
    return Labelled([0.4, 0.6], [first, second])


def truth(field: Labelled, g: float) -> tuple[Tensor, Tensor]:
    """Points and shares of the tilted density of the first class at t_min, by quadrature, each point denoised at the end."""
    grid = torch.linspace(-12, 14, 20_001, dtype=torch.float64).reshape(-1, 1)
    t = torch.full((len(grid),), field.process.t_min, dtype=torch.float64)
    first = torch.zeros(len(grid), dtype=torch.int64)
    log_q = (1 - g) * field.log_prob(grid, t) + g * field.log_prob(grid, t, first)
    return ClassifierFree(field, g)(grid, t, first).denoised[:, 0], log_q.softmax(dim=0)


@pytest.mark.theorem("tilted-equation")
@pytest.mark.parametrize("g", [0.5, 3.0])
def test_the_product_of_powers_follows_the_heat_equation_but_for_the_rate_of_the_weights(g: float) -> None:
    """dq/dv over q by automatic differentiation in v and in z, with sigma² = v, against what each part says."""
    field = classes(LinearVE(0.01, 50.0))
    z = torch.linspace(-4, 6, 41, dtype=torch.float64).reshape(-1, 1).requires_grad_(True)
    for level in (0.05, 0.7, 9.0):
        v, cond = torch.full((41,), level, dtype=torch.float64, requires_grad=True), torch.zeros(41, dtype=torch.int64)
        log_q = (1 - g) * field.log_prob(z, v.sqrt()) + g * field.log_prob(z, v.sqrt(), cond)
        by_v, by_z = torch.autograd.grad(log_q.sum(), (v, z), create_graph=True)
        (curvature,) = torch.autograd.grad(by_z.sum(), z)
        worse, better = ClassifierFree(field, g).scores(z, v.sqrt(), cond)
        wanted = 0.5 * (curvature + by_z**2 - g * (g - 1) * (better - worse) ** 2)[:, 0]
        torch.testing.assert_close(by_v, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.theorem("feynman-kac")
@pytest.mark.parametrize("g", [0.5, 2.0])
def test_on_a_mixture_shares_and_moments_are_those_of_quadrature(g: float) -> None:
    field = classes(VE(0.01, 50.0))
    only_first = torch.zeros(FILTERS * PARTICLES, dtype=torch.int64)
    numbers = torch.arange(FILTERS * PARTICLES) // PARTICLES

    class First(ClassifierFree):
        """The first class, whatever the filter's number."""

        def scores(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().scores(x, t, only_first[: len(x)])

    found = drawn(First(field, g), numbers)
    points, shares = truth(field, g)
    x = found.x[:, 0]
    for of in (lambda y: (y < 0).double(), lambda y: y, lambda y: y**2):
        value, error = by_filter(of(x))
        assert abs(value - float(shares @ of(points))) < 5 * error
    assert g != 2.0 or float(found.effective.min()) < 0.5  # so there was resampling


def test_without_the_weights_the_share_of_a_mode_is_wrong() -> None:
    field, g, n = classes(VE(0.01, 50.0)), 4.0, 3000
    points, shares = truth(field, g)
    guided = ClassifierFree(field, g)
    cond = torch.zeros(n, dtype=torch.int64)
    *_, last = simulate(guided, Ancestral(), ladder_of(guided, "log-cauchy", 100), rng=SampleRng(range(n)), cond=cond)
    left = (last.x < 0).double()
    assert abs(float(left.mean()) - float(shares @ (points < 0).double())) > 5 * float(left.std()) / math.sqrt(n)


def test_classifier_guidance_with_the_exact_classifier_has_the_same_tilted_density() -> None:
    field, (x, t) = classes(VP()), (torch.linspace(-4, 6, 50, dtype=torch.float64).reshape(-1, 1), torch.full((50,), 0.3))
    cond = torch.zeros(50, dtype=torch.int64)
    mine, own = (
        guided.scores(x, t.double(), cond) for guided in (Classified(field, field.classify, 3.0), ClassifierFree(field, 3.0))
    )
    for one, other in zip(mine, own, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# --- filters ----------------------------------------------------------------------------------------------------------


def test_a_filter_does_not_know_the_others_of_its_call_and_its_draws_know_each_other() -> None:
    field, cond = ClassifierFree(classes(VE(0.01, 50.0)), 4.0), torch.arange(200) % 2
    both = feynman_kac(field, rng=SampleRng(range(200)), cond=cond, levels=20)
    own = cond == 1
    alone = feynman_kac(field, rng=SampleRng(range(200))[own], cond=cond[own], levels=20)
    torch.testing.assert_close(alone.x, both.x[own], rtol=1e-9, atol=1e-9)
    assert float((alone.effective - both.effective[own]).abs().max()) < 1e-9
    assert both.effective[own].unique().numel() == 1
    few = feynman_kac(field, rng=SampleRng(range(200))[own][:50], cond=cond[own][:50], levels=20)
    assert not torch.equal(few.x, alone.x[:50])


def test_evaluations_are_counted_and_the_same_seeds_give_the_same_draws() -> None:
    guided = gaussians(2.0, VE(0.01, 50.0))
    one, again = (feynman_kac(guided, rng=SampleRng(range(30)), levels=10) for _ in range(2))
    assert torch.equal(one.x, again.x)
    asked = OfScore(guided.better, lambda x, t: guided.better(x, t).score)
    counted = feynman_kac(Autoguidance(asked, guided.worse, 2.0), rng=SampleRng(range(30)), levels=10)
    assert torch.equal(counted.x, one.x)
    assert counted.evaluations == 2 * len(asked.asked) == 2 * (3 + 2 * 9)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused() -> None:
    field, rng = classes(VE(0.01, 50.0)), SampleRng(range(4))
    with pytest.raises(ScorefieldError, match=r"guided from 0\.1 to 1 only, whose samples have no density"):
        feynman_kac(ClassifierFree(field, 2.0, (0.1, 1.0)), rng=rng, cond=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ScorefieldError, match="got levels = 1, expected at least 2"):
        feynman_kac(gaussians(2.0, VP()), rng=rng, levels=1)
    with pytest.raises(ScorefieldError, match="got an rng without seeds"):
        feynman_kac(gaussians(2.0, VP()), rng=SampleRng([]))
    with pytest.raises(ScorefieldError, match="expected one row for each"):
        feynman_kac(ClassifierFree(field, 2.0), rng=rng, cond=torch.zeros(3, dtype=torch.int64))


def test_a_field_that_is_no_number_is_named() -> None:
    broken = OfScore(gaussians(2.0, VE(0.01, 50.0)), lambda x, t: torch.where(t[:, None] < 0.5, torch.nan, -x))
    with pytest.raises(NotFinite, match="got NaN or infinity from the fields at t = "):
        feynman_kac(Autoguidance(broken, gaussians(2.0, broken.process), 2.0), rng=SampleRng(range(4)))
