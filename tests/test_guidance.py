"""Guidance by temperature: exact where it can be, and where it cannot, off by what is known in closed form.

A tempered field is exact on isotropic Gaussian data at every time, and on any data without noise. For a narrow mode in wide
data the samples' variance is known for every kind of sampler, because the tempered score is linear in x there.
"""

import math
from typing import Any

import pytest
import torch
from helpers import each_case

from scorefield import (
    VE,
    VP,
    Cosine,
    Gaussian,
    GaussianMixture,
    LinearVE,
    Noiseless,
    Process,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    geometric,
)
from scorefield.field import EnergyField
from scorefield.guidance import Tempered
from scorefield.levels import ladder_of
from scorefield.samplers import ABM, Adaptive, Ancestral, Langevin, simulate

PROCESSES = {
    "ve": VE(0.01, 50.0),
    "vp": VP(),
    "cosine": Cosine(),
    "rectified-flow": RectifiedFlow(),
    "karras": LinearVE(0.01, 50.0),
}
each_process = each_case(process=PROCESSES)
each_temperature = each_case(temperature=[0.1, 0.8, 3.0])
each_shape = each_case(shape=[(2,), (1, 2, 3)])


def points(count: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def times_of(process: Process) -> torch.Tensor:
    return torch.linspace(process.t_min, process.t_max, 7, dtype=torch.float64)


def isotropic(shape: tuple[int, ...], variance: float, process: Process) -> Gaussian:
    mean = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape) - 0.7
    return Gaussian(mean, variance * torch.eye(mean.numel(), dtype=torch.float64), process)


# --- where temperature is exact ---------------------------------------------------------------------------------------


@pytest.mark.theorem("temperature")
@each_process
@each_temperature
@each_shape
def test_on_an_isotropic_gaussian_it_is_the_gaussian_of_t_times_the_variance(
    process: Process, temperature: float, shape: tuple[int, ...]
) -> None:
    t, x = times_of(process), points(7, shape)
    got = Tempered(isotropic(shape, 2.3, process), temperature)
    wanted = isotropic(shape, temperature * 2.3, process)
    assert got.data_std == pytest.approx(wanted.data_std, rel=1e-14)
    assert torch.equal(got.data_mean, wanted.data_mean)
    torch.testing.assert_close(got(x, t).score, wanted(x, t).score, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got(x, t).noise, wanted(x, t).noise, rtol=1e-12, atol=1e-12)
    y = points(7, shape, seed=1)  # energies are known up to a constant of t
    torch.testing.assert_close(
        got.energy(x, t) - got.energy(y, t), wanted.energy(x, t) - wanted.energy(y, t), rtol=1e-10, atol=1e-10
    )
    assert float((isotropic(shape, 2.3, process)(x, t).score / temperature - wanted(x, t).score).abs().max()) > 1e-3  # not this


@pytest.mark.theorem("temperature")
@each_temperature
def test_without_noise_it_is_the_score_of_the_density_to_the_power_of_one_over_t(temperature: float) -> None:
    """The score of p^(1/T) by automatic differentiation of log p / T."""
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [2.0, 0.0]], [0.6, 1.1], Noiseless())
    x, t = points(50, (2,)).requires_grad_(True), torch.zeros(50, dtype=torch.float64)
    (wanted,) = torch.autograd.grad((field.log_prob(x, t) / temperature).sum(), x)
    torch.testing.assert_close(Tempered(field, temperature)(x.detach(), t).score, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.theorem("temperature")
def test_as_the_noise_goes_the_score_goes_to_the_score_over_t_with_its_square() -> None:
    """k = (v + s²)/(T·v + s²), so k·T - 1 = s²·(T - 1)/(T·v + s²): a tenth of the noise is a hundredth of the difference."""
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [2.0, 0.0]], [0.6, 1.1], LinearVE(1e-4, 10.0))
    cold, x = Tempered(field, 0.25), points(5, (2,))
    ratios = []
    for level in (1e-2, 1e-3):
        t = torch.full((5,), level, dtype=torch.float64)
        ratio = 0.25 * cold(x, t).score / field(x, t).score - 1
        torch.testing.assert_close(ratio, ratio[:1, :1].expand(5, 2), rtol=1e-6, atol=1e-12)  # one number for the whole batch
        ratios.append(float(ratio[0, 0]))
    assert ratios[0] < 0
    assert ratios[0] / ratios[1] == pytest.approx(100, rel=1e-2)


@each_process
def test_where_noise_drowns_the_data_no_temperature_is_felt(process: Process) -> None:
    field = isotropic((2,), 1e-4, process)
    t = torch.tensor([process.t_max], dtype=torch.float64)
    assert float(Tempered(field, 0.1).factor(t)) == pytest.approx(1, rel=1e-3)


def test_the_energy_has_the_score_as_its_slope_and_a_field_without_one_gets_none() -> None:
    field = Tempered(GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [2.0, 0.0]], [0.6, 1.1], VP()), 0.6)
    assert isinstance(field, EnergyField)
    t, x = times_of(VP()), points(7, (2,)).requires_grad_(True)
    (slope,) = torch.autograd.grad(field.energy(x, t).sum(), x)
    torch.testing.assert_close(field(x.detach(), t).score, -slope, rtol=1e-10, atol=1e-10)

    class Plain:
        def __init__(self, inner: Any) -> None:
            self.inner, self.process, self.shape = inner, inner.process, inner.shape
            self.data_mean, self.data_std = inner.data_mean, inner.data_std

        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Any:
            return self.inner(x, t, cond)

    assert not isinstance(Tempered(Plain(field), 0.6), EnergyField)


def test_temperature_one_changes_nothing_and_two_temperatures_multiply_without_noise() -> None:
    field = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [2.0, 0.0]], [0.6, 1.1], VP())
    t, x = times_of(VP()), points(7, (2,))
    torch.testing.assert_close(Tempered(field, 1.0)(x, t).score, field(x, t).score, rtol=1e-14, atol=1e-14)
    gaussian = isotropic((2,), 2.0, VP())  # and for a Gaussian with noise too
    twice, once = Tempered(Tempered(gaussian, 0.5), 0.4), Tempered(gaussian, 0.2)
    torch.testing.assert_close(twice(x, t).score, once(x, t).score, rtol=1e-12, atol=1e-12)


def test_a_single_point_stays_one_at_every_temperature() -> None:
    field = GaussianMixture([1.0], [[2.0, -1.0]], [0.0], LinearVE(0.01, 10.0))
    t = torch.tensor([0.01, 1.0, 10.0], dtype=torch.float64)
    denoised = Tempered(field, 0.3)(points(3, (2,)), t).denoised
    torch.testing.assert_close(denoised, torch.tensor([[2.0, -1.0]], dtype=torch.float64).expand(3, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_no_positive_number_is_refused(temperature: float) -> None:
    with pytest.raises(ScorefieldError, match="expected a positive number"):
        Tempered(isotropic((2,), 1.0, VP()), temperature)


# --- where it is not, by how much -------------------------------------------------------------------------------------

NARROW, WIDE = 0.05, 50.0


def mode(temperature: float, process: Process) -> Tempered:
    """A mode of standard deviation NARROW in data whose standard deviation is WIDE."""
    field = Gaussian([0.0], [[NARROW**2]], process)
    field.data_std = WIDE
    return Tempered(field, temperature)


@pytest.mark.theorem("tempered-variance")
@pytest.mark.parametrize("temperature", [0.5, 0.8])
def test_the_probability_flow_makes_a_narrow_mode_too_narrow(temperature: float) -> None:
    """d log|z| / d lambda² = k/(2·(s² + lambda²)) with k = (v + lambda²)/(T·v + lambda²), by partial fractions."""
    process = LinearVE(0.001, 5.0)
    start = torch.tensor([[1.0]], dtype=torch.float64)
    *_, last = simulate(
        mode(temperature, process), Adaptive(1e-10), geometric(process, 2), start, rng=SampleRng([0]), denoise=False
    )
    s2, tv, high, low = NARROW**2, temperature * WIDE**2, 25.0, 1e-6
    share = (WIDE**2 - s2) / (tv - s2)
    shrink = ((s2 + low) / (s2 + high)) ** (share / 2) * ((tv + low) / (tv + high)) ** ((1 - share) / 2)
    assert float(last.x) == pytest.approx(shrink, rel=1e-6)
    right = math.sqrt((temperature * s2 + low) / (temperature * s2 + high))
    assert shrink < 0.5 * right  # a Gaussian of variance T·s² would have asked for this


@pytest.mark.theorem("tempered-variance")
@pytest.mark.parametrize("temperature", [0.5, 0.8])
def test_the_reverse_sde_gives_a_narrow_mode_the_variance_t_over_two_minus_t(temperature: float) -> None:
    """By pushing the variance through the affine steps: a start at 0 and a unit of noise a step, one step at a time."""
    process = LinearVE(0.001, 5.0)

    class Probe(SampleRng):
        """Row r gets a unit of noise at draw r, and no other."""

        def normal(self, shape: Any = ()) -> torch.Tensor:
            draw = torch.zeros(len(self), *shape, dtype=torch.float64)
            draw[self.draws] = 1
            self.draws += 1
            return draw

    def variance(levels: int) -> float:
        zero = torch.zeros(levels, 1, dtype=torch.float64)
        ladder = geometric(process, levels)
        *_, last = simulate(mode(temperature, process), Ancestral(), ladder, zero, rng=Probe(range(levels)), denoise=False)
        return float((last.x**2).sum()) / NARROW**2

    coarse, fine = variance(1000), variance(2000)
    limit = 2 * fine - coarse  # the method has order 1 in law
    # What is left of t_min, of the start at t_max, of WIDE, and of the steps.
    left = 2e-6 / NARROW**2 + (NARROW / 5) ** (4 / temperature - 2) + (NARROW / WIDE) ** 2 + (fine / coarse - 1) ** 2
    assert limit == pytest.approx(temperature / (2 - temperature), rel=left)
    assert abs(limit / temperature - 1) > 50 * left  # the wanted variance is not it


@pytest.mark.theorem("tempered-variance")
@pytest.mark.parametrize("temperature", [0.5, 0.8])
def test_langevin_gives_a_narrow_mode_the_variance_t_with_its_own_known_bias(temperature: float) -> None:
    """On N(0, v) unadjusted steps have the stationary variance v/(1 - tau/(2·v)), here with v = T·s² + sigma² or nearly."""
    process = LinearVE(0.001, 5.0)
    field, t = mode(temperature, process), torch.tensor([0.001], dtype=torch.float64)
    v = -1 / float(field(torch.ones(1, 1, dtype=torch.float64), t).score)  # the score is -x/v
    assert v == pytest.approx(temperature * NARROW**2, rel=2e-3)
    n, tau = 20_000, 0.2 * v
    start = math.sqrt(v) * SampleRng(range(n), stream=1).normal((1,))
    sampler = Langevin(tau=tau, steps=40)
    *_, last = simulate(field, sampler, ladder_of(field, "lowest", 1), start, rng=SampleRng(range(n)), denoise=False)
    wanted = v / (1 - tau / (2 * v))
    assert abs(float(last.x.square().mean()) - wanted) < 5 * wanted * math.sqrt(2 / n)


def test_the_weights_of_two_modes_move_towards_the_wanted_ones_and_stop_short() -> None:
    """In one dimension the flow keeps order, so the weight of the left mode is a quantile of the start: no Monte Carlo."""
    field = GaussianMixture([0.8, 0.2], [[-5.0], [5.0]], [1.0, 1.0], VE(0.01, 100.0))
    n, weights = 2001, []
    for temperature in (1.0, 0.8, 0.5):
        cold = Tempered(field, temperature)
        alpha, spread = field.process.prior(1.0, cold.data_std)
        quantiles = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).reshape(-1, 1)
        start = alpha * field.data_mean + spread * quantiles
        *_, last = simulate(cold, ABM(), ladder_of(cold, "log-cauchy", 100), start, rng=SampleRng(range(n)))
        assert bool((last.x.diff(dim=0) > 0).all())
        weights.append(float((last.x < 0).double().mean()))
    assert weights[0] == pytest.approx(0.8, abs=2 / n)
    assert weights[1] == pytest.approx(0.816, abs=2e-3)
    assert weights[2] == pytest.approx(0.8435, abs=2e-3)
    assert weights[2] < 0.8**2 / (0.8**2 + 0.2**2) - 0.09  # p² would have 0.941


def test_samples_start_from_the_spread_of_the_tempered_data() -> None:
    field = isotropic((2,), 4.0, LinearVE(0.01, 3.0))
    first = next(iter(simulate(Tempered(field, 0.25), ABM(), geometric(field.process, 3), rng=SampleRng(range(5)))))
    white = (first.x - field.data_mean) / math.sqrt(0.25 * 4.0 + 9.0)
    torch.testing.assert_close(white, SampleRng(range(5)).normal((2,)), rtol=1e-12, atol=1e-12)
