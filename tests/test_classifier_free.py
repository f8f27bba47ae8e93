"""Guided fields: what they are is Bayes' rule, and what each kind of sampler makes of them is known on Gaussians.

With sigma² = t, p(x | c) = N(0, 1) and p(x) = N(0, 2), every guided score is linear, so every step is affine and the variance
of the samples is pushed through a whole run without Monte Carlo.
"""

import math
from typing import Any

import pytest
import torch
from helpers import each_case
from torch import Tensor

from scorefield import VE, VP, Gaussian, LinearVE, Prediction, RectifiedFlow, SampleRng, ScorefieldError, geometric, registry
from scorefield.exact import Labelled
from scorefield.field import EnergyField, ScoreModel
from scorefield.guidance import Autoguidance, ClassifierFree, Extrapolated
from scorefield.levels import ladder_of
from scorefield.nets.mlp import MLP
from scorefield.prediction import EDM
from scorefield.samplers import Ancestral, Heun, Langevin, Sampler, simulate
from scorefield.verification.affine import affine_map

PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "rectified-flow": RectifiedFlow()}
each_process = each_case(process=PROCESSES)
each_sampler = each_case(sampler={name: kind().within(6)[0] for name, kind in registry.every("sampler").items()})
each_strength = each_case(g=[0.0, 0.5, 1.5, 3.0])


def labelled(process: Any) -> Labelled:
    """Three classes on the plane, of different spreads and shares."""
    covariances = [[[1.0, 0.3], [0.3, 0.5]], [[0.2, 0.0], [0.0, 0.2]], [[2.0, -0.5], [-0.5, 1.0]]]
    means = [[-2.0, 0.0], [1.0, 1.5], [2.0, -1.0]]
    return Labelled([0.5, 0.3, 0.2], [Gaussian(m, c, process) for m, c in zip(means, covariances, strict=True)])


def points(process: Any, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy samples at times over the whole range, with classes."""
    rng = SampleRng(range(count), stream=3)
    t = process.t_min + rng.uniform() * (process.t_max - process.t_min)
    return process.perturb(labelled(process).sample(rng), t, rng.normal((2,))), t, torch.arange(count) % 3


# --- what a guided field is -------------------------------------------------------------------------------------------


@pytest.mark.theorem("classifier-free-guidance")
@each_process
@each_strength
def test_the_score_is_that_of_the_class_and_g_minus_one_times_the_slope_of_its_probability(process: Any, g: float) -> None:
    """By Bayes' rule, with the slope of log p_t(c | x) by automatic differentiation of the densities."""
    field = labelled(process)
    x, t, cond = points(process)
    inner = x.clone().requires_grad_(True)
    log_class = field.log_prob(inner, t, cond) - field.log_prob(inner, t)
    (slope,) = torch.autograd.grad(log_class.sum(), inner)
    wanted = field(x, t, cond).score + (g - 1) * slope
    torch.testing.assert_close(ClassifierFree(field, g)(x, t, cond).score, wanted, rtol=1e-9, atol=1e-9)


@each_process
def test_without_a_class_an_exact_field_of_classes_is_that_of_all_of_them(process: Any) -> None:
    """Its score is the slope of its own log-density, with a class and without; so it is a truth for others."""
    field = labelled(process)
    x, t, cond = points(process)
    for which in (None, cond):
        inner = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(field.log_prob(inner, t, which).sum(), inner)
        torch.testing.assert_close(field(x, t, which).score, slope, rtol=1e-9, atol=1e-9)


@each_strength
def test_the_energy_has_the_guided_score_as_its_slope_inside_the_interval_and_outside(g: float) -> None:
    field = ClassifierFree(labelled(PROCESSES["ve"]), g, interval=(0.1, 1.0))
    x, t, cond = points(field.process)
    assert isinstance(field, EnergyField)
    inner = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(field.energy(inner, t, cond).sum(), inner)
    torch.testing.assert_close(field(x, t, cond).score, -slope, rtol=1e-9, atol=1e-9)


class Asked:
    """A field that counts the rows it was asked about, with a class and without."""

    def __init__(self, field: Any) -> None:
        self.field, self.process, self.shape = field, field.process, field.shape
        self.data_mean, self.data_std, self.rows = field.data_mean, field.data_std, {True: 0, False: 0}

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        self.rows[cond is not None] += len(x)
        prediction: Prediction = self.field(x, t, cond)
        return prediction


def test_outside_the_interval_a_row_is_the_conditional_field_and_asks_it_once() -> None:
    asked = Asked(labelled(VE(0.01, 50.0)))
    field, (x, t, cond) = ClassifierFree(asked, 2.0, interval=(0.1, 1.0)), points(asked.process)
    level = asked.process.sigma(t)
    inside = (level >= 0.1) & (level <= 1.0)
    assert 0 < int(inside.sum()) < len(x)
    got, own = field(x, t, cond).score, asked.field(x, t, cond).score
    assert asked.rows == {True: len(x), False: int(inside.sum())}
    assert torch.equal(got[~inside], own[~inside])
    torch.testing.assert_close(got[inside], ClassifierFree(asked.field, 2.0)(x, t, cond).score[inside], rtol=1e-12, atol=1e-12)
    assert not isinstance(field, EnergyField)  # for this field knows no energy


def test_the_interval_is_of_sigma_over_alpha_whatever_the_process() -> None:
    for process in PROCESSES.values():
        ratios = torch.tensor([0.09, 0.11, 0.9, 1.1], dtype=torch.float64)
        guided = ClassifierFree(labelled(process), 2.0, (0.1, 1.0)).guided(process.time_of_sigma(ratios))
        assert guided.tolist() == [False, True, True, False]


def test_strength_zero_is_the_unconditional_field_and_autoguidance_keeps_the_class_of_both() -> None:
    field = labelled(VP())
    x, t, cond = points(VP())
    torch.testing.assert_close(ClassifierFree(field, 0.0)(x, t, cond).score, field(x, t).score, rtol=1e-12, atol=1e-12)
    bad = Labelled([1.0, 1.0, 1.0], [Gaussian(one.mean, 2 * one.covariance, VP()) for one in field.fields])
    wanted = bad(x, t, cond).score + 1.7 * (field(x, t, cond).score - bad(x, t, cond).score)
    torch.testing.assert_close(Autoguidance(field, bad, 1.7)(x, t, cond).score, wanted, rtol=1e-12, atol=1e-12)


# --- every sampler with every guidance --------------------------------------------------------------------------------


def run(field: Any, sampler: Any, n: int = 4) -> Tensor:
    ladder = ladder_of(field, sampler.ladder, 1 if sampler.ladder == "lowest" else 6)
    start = field.data_mean + SampleRng(range(n), stream=9).normal(field.shape) * 5
    *_, last = simulate(field, sampler, ladder, start, rng=SampleRng(range(n)), cond=torch.arange(n) % 3)
    return last.x


@each_sampler
def test_at_strength_one_every_sampler_gives_the_bytes_of_the_conditional_field(sampler: Any) -> None:
    field = labelled(VE(0.01, 50.0))
    own = run(field, sampler)
    assert torch.equal(run(ClassifierFree(field, 1.0), sampler), own)
    assert torch.equal(run(Autoguidance(field, labelled(field.process), 1.0, (0.1, 1.0)), sampler), own)
    assert torch.equal(run(ClassifierFree(field, 2.0, (100.0, 200.0)), sampler), own)  # levels that nothing visits


@each_sampler
def test_every_sampler_draws_from_guided_fields_and_a_sample_is_the_same_in_any_batch(sampler: Any) -> None:
    field = ClassifierFree(Autoguidance(labelled(VE(0.01, 50.0)), labelled(VE(0.01, 50.0)), 1.5), 2.0, (0.1, 5.0))
    drawn = run(field, sampler)
    assert bool(drawn.isfinite().all())
    torch.testing.assert_close(run(field, sampler, 2), drawn[:2], rtol=1e-9, atol=1e-9)
    assert float((drawn - run(field.better, sampler)).abs().max()) > 1e-3 or sampler.ladder == "lowest"


# --- what it makes of Gaussians, without Monte Carlo ------------------------------------------------------------------

TOP = 20.0  # sigma; T = TOP²


def pair(g: float, low: float = 1e-3) -> Extrapolated:
    process = LinearVE(low, TOP)
    return Autoguidance(Gaussian([0.0], [[1.0]], process), Gaussian([0.0], [[2.0]], process), g)


def variance(field: Extrapolated, sampler: Sampler, levels: int, start: float) -> float:
    """Push the variance of the start through a run."""
    a, b, _ = affine_map(field, sampler, geometric(field.process, levels))
    return float(a**2 * start + b @ b.mT)


def limits(field: Extrapolated, sampler: Sampler, start: float) -> tuple[float, float]:
    """The variance for infinitely many levels by Richardson extrapolation, twice; the second is at least four times nearer."""
    assert sampler.order is not None
    found = [variance(field, sampler, levels, start) for levels in (71, 141, 281)]
    first, second = (fine + (fine - coarse) / (2**sampler.order - 1) for coarse, fine in zip(found, found[1:], strict=False))
    return first, second


@pytest.mark.theorem("guided-variance")
@pytest.mark.parametrize("g", [0.0, 0.5, 3.0])
def test_the_flow_ends_with_v_times_2_to_the_1_minus_g_over_what_noise_makes_of_both(g: float) -> None:
    """V·2^(1 - g)/((2 + T)^(1 - g)·(1 + T)^g) but for the last level, and from V = T on towards 2^(1 - g)."""
    top, low, start = TOP**2, 1e-6, 1.7 * TOP**2
    wanted = start * 2 ** (1 - g) / ((2 + top) ** (1 - g) * (1 + top) ** g)
    first, second = limits(pair(g), Heun(), start)
    assert second == pytest.approx(wanted, abs=abs(second - first) + 2 * (1 + g) * low * wanted)
    assert abs(second - first) < 1e-3 * wanted  # so it is not for want of precision
    assert wanted / 1.7 == pytest.approx(2 ** (1 - g), rel=3 * (1 + g) / top)


@pytest.mark.theorem("guided-variance")
@pytest.mark.parametrize(("g", "limit"), [(0.0, 2.0), (0.5, 2 * math.log(2)), (3.0, 0.3875)])
def test_the_reverse_sde_ends_with_2_minus_2_to_the_2_minus_2g_over_2g_minus_1(g: float, limit: float) -> None:
    """At g = 1/2 with its limit, 2·log 2. A start that is off by a share 1/T is forgotten as T^(1 - 2g), or 1/T for small g."""
    if g != 0.5:
        assert limit == pytest.approx((2 - 2 ** (2 - 2 * g)) / (2 * g - 1), abs=1e-6)
    first, second = limits(pair(g), Ancestral(), TOP**2 + 1.5)
    left = 2 * TOP ** -max(2, 4 * g - 2) + 1e-5
    assert second == pytest.approx(limit, abs=abs(second - first) + left * limit)
    assert abs(second - first) < 1e-2 * limit


@pytest.mark.theorem("guided-variance")
@pytest.mark.parametrize("g", [0.5, 2.0, 3.0])
def test_langevin_at_the_last_level_keeps_the_tilted_variance_but_for_its_own_known_bias(g: float) -> None:
    """2/(1 + g) without noise; plain steps on N(0, v) keep v/(1 - tau/(2·v))."""
    field = pair(g)
    v, tau = 2 / (1 + g), 0.05
    t = torch.tensor([1e-3], dtype=torch.float64)
    assert float(field(torch.ones(1, 1, dtype=torch.float64), t).score) == pytest.approx(-1 / v, rel=1e-5)
    a, b, _ = affine_map(field, Langevin(tau=tau, steps=1), t)
    assert float(b @ b.mT / (1 - a**2)) == pytest.approx(v / (1 - tau / (2 * v)), rel=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [-1.0, math.nan, math.inf])
def test_a_strength_that_is_no_number_from_zero_is_refused(g: float) -> None:
    with pytest.raises(ScorefieldError, match=r"got a guidance of .*, expected a number >= 0, where 1 is no guidance"):
        ClassifierFree(labelled(VP()), g)


@pytest.mark.parametrize("interval", [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_an_interval_that_holds_no_level_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ScorefieldError, match="expected noise levels low < high, at least 0"):
        ClassifierFree(labelled(VP()), 2.0, interval)


def test_guidance_without_classes_is_refused() -> None:
    x, t, _ = points(VP())
    with pytest.raises(ScorefieldError, match="got no classes for a guidance of 2, expected one for each sample"):
        ClassifierFree(labelled(VP()), 2.0)(x, t)


def test_a_field_that_knows_nothing_without_a_class_is_refused_and_at_strength_one_is_itself() -> None:
    model = ScoreModel(MLP((2,), width=8, depth=1, classes=3), EDM(1.0), VP(), (2,), unconditional=False)
    with pytest.raises(ScorefieldError, match=r"trained with the class of every example \(training.labels=1\)"):
        ClassifierFree(model, 2.0)
    x, t, cond = points(VP())
    assert torch.equal(ClassifierFree(model, 1.0)(x, t, cond).score, model(x, t, cond).score)


def test_a_worse_field_of_another_process_or_shape_is_refused() -> None:
    for other in (labelled(VE(0.01, 50.0)), Gaussian([0.0], [[1.0]], VP())):
        with pytest.raises(ScorefieldError, match="take two fields of the same data and process"):
            Autoguidance(labelled(VP()), other, 2.0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [1.0, math.nan, 1.0]])
def test_shares_of_classes_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(ScorefieldError, match="expected one positive number for each"):
        Labelled(weights, labelled(VP()).fields)
