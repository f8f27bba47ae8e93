"""Metropolis' test: densities that a Langevin step of any size leaves as they are, and what the test costs and reports.

Closed forms: a Gaussian's energy is a quadratic, so its acceptance can be written down; detailed balance is checked point by
point; Stokes' theorem gives the line integral around a triangle.
"""

import math
from dataclasses import fields, replace
from typing import Any

import numpy
import pytest
import torch
from helpers import doubles, each_case
from scipy import integrate, stats

from scorefield import (
    VE,
    VP,
    Cosine,
    Gaussian,
    GaussianMixture,
    LinearVE,
    NotFinite,
    Prediction,
    Process,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    geometric,
)
from scorefield.process import Noiseless
from scorefield.samplers import Annealed, Consistent, Langevin, Sampler, simulate
from scorefield.samplers.base import CountedField, Step, steps_of
from scorefield.samplers.metropolis import AnnealedMala, Chain, Mala, curl, line_integral, metropolis_step, optimal_step

PROCESSES = {
    "ve": VE(0.05, 8.0),
    "vp": VP(),
    "cosine": Cosine(),
    "rectified-flow": RectifiedFlow(),
    "karras": LinearVE(0.05, 8.0),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
NEAR = VE(0.1, 1.0)  # sigma² = 0.01 at t = 0
LOWEST = torch.zeros(1, dtype=torch.float64)


def at(t: float, batch: int) -> torch.Tensor:
    return torch.full((batch,), t, dtype=torch.float64)


class Scripted(SampleRng):
    """A generator whose draws are given: the z of every normal one, the u of every uniform one."""

    def __init__(self, z: torch.Tensor, u: float = 0.5) -> None:
        super().__init__(range(len(z)))
        self.z, self.u = z, u

    def normal(self, shape: Any = ()) -> torch.Tensor:
        return self.z

    def uniform(self, shape: Any = ()) -> torch.Tensor:
        return torch.full((len(self), *shape), self.u, dtype=torch.float64)


class ScoreOnly:
    """A field without an energy: another field's score, with a rotation added, s + spin·(x with its first two axes turned)."""

    def __init__(self, field: Any, spin: float = 0.0) -> None:
        self.field, self.spin = field, spin
        self.process, self.shape = field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        turned = torch.zeros_like(x).flatten(1)
        if self.spin:
            rows = x.flatten(1)
            turned[:, 0], turned[:, 1] = -rows[:, 1], rows[:, 0]
        return Prediction.of_score(self.process, x, t, self.field(x, t, cond).score + self.spin * turned.reshape(x.shape))


MIXTURE = GaussianMixture([0.7, 0.3], [[-1.0], [1.5]], [0.5, 0.9], NEAR)
PLANE = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], NEAR)


def last_of(field: Any, sampler: Sampler, start: torch.Tensor, stream: int = 1) -> Any:
    rng = SampleRng(range(len(start)), stream=stream)
    *_, last = simulate(field, sampler, LOWEST, start, rng=rng, denoise=False)
    return last


def exact_at(field: Any, t: float, n: int) -> torch.Tensor:
    """n exact draws of x_t."""
    rng = SampleRng(range(n))
    return field.process.perturb(field.sample(rng), at(t, n), rng.normal(field.shape))


# --- no bias ----------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("langevin-bias")
@pytest.mark.parametrize("energy", ["exact", "line"])
def test_mala_keeps_the_variance_that_langevin_changes_by_a_known_factor(energy: Any) -> None:
    """At tau = 0.9·v Langevin's is v/(1 - 0.45) = 1.82·v; both start in the exact distribution, of mean 3."""
    n, v = 20_000, 1.7 + 0.01
    field, tau = Gaussian([3.0], [[1.7]], NEAR), 0.9 * v
    start = exact_at(field, 0.0, n)
    error = 5 * v * math.sqrt(2 / n)
    adjusted = last_of(field, Mala(tau=tau, steps=30, energy=energy), start).x
    plain = last_of(field, Langevin(tau=tau, steps=30), start).x
    assert abs(float(((adjusted - 3) ** 2).mean()) - v) < error
    assert abs(float(adjusted.mean()) - 3) < 5 * math.sqrt(v / n)
    assert abs(float(((plain - 3) ** 2).mean()) - v / 0.55) < error / 0.55
    assert v / 0.55 - v > 10 * error
    assert float((adjusted != start).double().mean()) > 0.99  # it has moved


def test_mala_keeps_the_covariance_of_an_image_shaped_gaussian() -> None:
    """Four pixels of variances 2, 1, 1/2, 1/4 with one tau: a sum over one axis instead of all would show."""
    n, variances = 20_000, doubles(2.0, 1.0, 0.5, 0.25)
    field = Gaussian(torch.zeros(1, 2, 2), torch.diag(variances), NEAR)
    x = last_of(field, Mala(tau=0.25, steps=30), exact_at(field, 0.0, n)).x.flatten(1)
    truth = variances + 0.01
    assert bool((((x**2).mean(dim=0) - truth).abs() < 5 * truth * math.sqrt(2 / n)).all())
    biased = truth / (1 - 0.25 / (2 * truth))
    assert float((biased - truth)[3]) > 10 * 5 * float(truth[3]) * math.sqrt(2 / n)


def cdf_misfit(x: torch.Tensor) -> float:
    """The largest misfit of MIXTURE's distribution function at nine points, in standard errors."""
    points, n = numpy.linspace(-2, 3, 9), len(x)
    weights, means, stds = MIXTURE.weights.tolist(), MIXTURE.means[:, 0].tolist(), (MIXTURE.stds**2 + 0.01).sqrt().tolist()
    truth: Any = sum(w * stats.norm.cdf(points, m, s) for w, m, s in zip(weights, means, stds, strict=True))
    seen = numpy.array([float((x < p).double().mean()) for p in points])
    return float(numpy.max(numpy.abs(seen - truth) / numpy.sqrt(truth * (1 - truth) / n)))


@pytest.mark.theorem("metropolis-ratio")
def test_a_mixture_is_stationary_under_mala_and_not_with_half_of_the_ratio() -> None:
    """The same steps, accepted by p(x')/p(x) alone or by Langevin's own q alone, or always, are wrong for all to see."""
    n, tau = 20_000, 0.3
    start = exact_at(MIXTURE, 0.0, n)
    assert cdf_misfit(start) < 5
    assert cdf_misfit(last_of(MIXTURE, Mala(tau=tau, steps=25), start).x) < 5

    def log_q(there: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return -((there - x - tau * MIXTURE(x, at(0.0, n)).score) ** 2).sum(1) / (4 * tau)

    for halves in ((1, 0), (0, 1), (-1, 1), (1, -1)):
        x, rng = start, SampleRng(range(n), stream=2)
        for _ in range(25):
            there = x + tau * MIXTURE(x, at(0.0, n)).score + math.sqrt(2 * tau) * rng.normal((1,))
            gain = MIXTURE.log_prob(there, at(0.0, n)) - MIXTURE.log_prob(x, at(0.0, n))
            log_r = halves[0] * gain + halves[1] * (log_q(x, there) - log_q(there, x))
            x = torch.where((rng.uniform().log() < log_r)[:, None], there, x)
        assert cdf_misfit(x) > 10, halves


# --- the ratio --------------------------------------------------------------------------------------------------------


def bottom(field: Any) -> Step:
    return steps_of(field.process, LOWEST)[0]


def probability(field: Any, a: float, b: float, tau: float, exact: bool = True) -> float:
    """The probability with which a proposal from a to b is accepted, as the chain reports it."""
    x = doubles([a])
    z = (b - a - tau * float(field(x, LOWEST).score)) / math.sqrt(2 * tau)
    *_, info = metropolis_step(CountedField(field, None), x, bottom(field), Chain((tau,), exact), Scripted(doubles([z])))
    return info.acceptance[0]


@pytest.mark.theorem("metropolis-ratio")
def test_the_flow_from_a_to_b_is_the_flow_from_b_to_a() -> None:
    """p(a)·q(b|a)·min(1, r) on all pairs of a grid over a mixture; one of the two directions is always accepted."""
    tau, grid = 0.4, [-2.3, -1.1, -0.4, 0.1, 0.9, 1.6, 2.8]

    def flow(a: float, b: float) -> float:
        there = a + tau * float(MIXTURE(doubles([a]), LOWEST).score)
        return math.exp(float(MIXTURE.log_prob(doubles([a]), LOWEST))) * stats.norm.pdf(b, there, math.sqrt(2 * tau))

    uneven = 0
    for i, a in enumerate(grid):
        for b in grid[:i]:
            up, down = probability(MIXTURE, a, b, tau), probability(MIXTURE, b, a, tau)
            assert math.isclose(flow(a, b) * up, flow(b, a) * down, rel_tol=1e-10)
            assert max(up, down) == 1.0
            uneven += abs(math.log(flow(a, b) / flow(b, a))) > 0.1
    assert uneven > 10  # without the test most pairs are out of balance


@pytest.mark.theorem("acceptance-on-a-normal")
@pytest.mark.parametrize("z", [-2.0, 0.3, 1.0])
@pytest.mark.parametrize("exact", [True, False])
def test_a_step_from_the_mode_of_a_standard_normal_is_accepted_with_a_probability_known_by_hand(z: float, exact: bool) -> None:
    """From 0 to x' = sqrt(2·tau)·z: log r = -x'²/2 + x'²/(4·tau) - (1 - tau)²·x'²/(4·tau) = -tau·x'²/4 = -(tau·z)²/2.

    And the sample moves if and only if its uniform number is below that.
    """
    field, tau = Gaussian([0.0], [[0.99]], NEAR), 0.8
    there, truth = math.sqrt(2 * tau) * z, math.exp(-((tau * z) ** 2) / 2)
    assert math.isclose(probability(field, 0.0, there, tau, exact), truth, rel_tol=1e-12)
    for u, end in ((truth - 1e-9, there), (truth + 1e-9, 0.0)):
        chain = Chain((tau,), exact)
        x, *_ = metropolis_step(CountedField(field, None), doubles([0.0]), bottom(field), chain, Scripted(doubles([z]), u))
        assert math.isclose(float(x), end, rel_tol=1e-15)


@pytest.mark.theorem("acceptance-on-a-normal")
def test_the_reported_acceptance_is_the_integral_of_min_1_r_over_the_stationary_density() -> None:
    """On N(0, 1), r = exp(tau·(x² - x'²)/4) by hand; the mean over N(0, 1) and over the proposal by quadrature."""
    n, steps, tau = 20_000, 20, 1.5
    field = Gaussian([0.0], [[0.99]], NEAR)
    z = numpy.linspace(-8, 8, 1601)
    x = z[:, None]
    there = (1 - tau) * x + math.sqrt(2 * tau) * z
    joint = stats.norm.pdf(x) * stats.norm.pdf(z) * numpy.minimum(1, numpy.exp(tau * (x**2 - there**2) / 4))
    truth = integrate.simpson(integrate.simpson(joint, x=z), x=z)
    acceptance = last_of(field, Mala(tau=tau, steps=steps), exact_at(field, 0.0, n)).info.acceptance
    assert len(acceptance) == 1
    # a probability lies in [0, 1], so its standard deviation is at most 1/2; the n samples are independent
    assert abs(acceptance[0] - truth) < 5 * 0.5 / math.sqrt(n)
    assert truth < 0.9


def acceptance_in(d: float, tau: float) -> float:
    """E min(1, r) of one step of size tau on N(0, I), in many dimensions d, where log r is normal.

    log r = tau/4·(|x|² - |x'|²) is a sum of d terms x²·(1 - (1-tau)²) - 2·(1-tau)·sqrt(2·tau)·x·z - 2·tau·z², whose mean and
    variance are those of squares and a product of normal numbers; and E min(1, exp(Y)) of a normal Y is known.
    """
    mean = -d * tau**3 / 4
    std = math.sqrt(d * tau**2 / 16 * (2 * (2 * tau - tau**2) ** 2 + 8 * tau * (1 - tau) ** 2 + 8 * tau**2))
    normal = stats.norm.cdf
    return float(normal(mean / std) + math.exp(mean + std**2 / 2) * normal(-std - mean / std))


@pytest.mark.theorem("best-mala-step")
def test_the_default_step_moves_a_sample_farthest_in_many_dimensions_with_acceptance_0_574() -> None:
    """Roberts and Rosenthal's optimum: an accepted step's squared length is 2·tau·d, so tau·acceptance is to be largest."""
    d = 1e9
    shares = numpy.linspace(0.5, 2, 301)
    speeds = [share * acceptance_in(d, share * optimal_step(10**9)) for share in shares]
    assert abs(shares[numpy.argmax(speeds)] - 1) < 0.02
    assert abs(acceptance_in(d, optimal_step(10**9)) - 0.574) < 3e-3


@pytest.mark.theorem("best-mala-step")
def test_in_a_thousand_dimensions_a_step_is_accepted_as_often_as_the_central_limit_says() -> None:
    n, d = 2000, 1000
    truth, error = acceptance_in(d, optimal_step(d)), 5 * 0.5 / math.sqrt(n)
    field = GaussianMixture([1.0], torch.zeros(1, 10, 100), [0.0], NEAR)  # N(0, 0.01·I) at t = 0
    found = last_of(field, Mala(steps=1), 0.1 * SampleRng(range(n)).normal((10, 100))).info.acceptance[0]
    assert abs(found - truth) < error
    for factor in (0.5, 2):
        assert abs(acceptance_in(d, factor * optimal_step(d)) - truth) > 2 * error


# --- the line integral ------------------------------------------------------------------------------------------------


def difference(field: Any, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    counted = CountedField(field, None)
    return line_integral(counted, x, there, 0.0, counted(x, 0.0).score, counted(there, 0.0).score)


@pytest.mark.theorem("line-integral")
def test_the_line_integral_of_a_gaussians_score_is_its_difference_of_energies() -> None:
    field = Gaussian(torch.tensor([[[1.0, -2.0]]]), [[1.5, 0.4], [0.4, 0.3]], NEAR)
    x, there = (SampleRng(range(9), stream=s).normal((1, 1, 2)) * 3 for s in (1, 2))
    truth = field.log_prob(there, at(0.0, 9)) - field.log_prob(x, at(0.0, 9))
    numpy.testing.assert_allclose(difference(field, x, there), truth, rtol=1e-11)


@pytest.mark.theorem("line-integral")
def test_the_line_integral_of_a_mixtures_score_is_wrong_by_the_fifth_power_of_the_step() -> None:
    x, direction = (SampleRng(range(50), stream=k).normal((2,)) for k in (1, 2))
    errors = []
    for length in (0.1, 0.05, 0.025):
        there = x + length * direction
        truth = PLANE.log_prob(there, at(0.0, 50)) - PLANE.log_prob(x, at(0.0, 50))
        errors.append(float((difference(PLANE, x, there) - truth).abs().max()))
    orders = numpy.log2(numpy.divide(errors[:-1], errors[1:]))
    assert abs(float(orders[-1]) - 5) < 0.2, (errors, orders)


@pytest.mark.theorem("line-integral")
def test_a_line_integral_around_a_triangle_is_what_stokes_says() -> None:
    """0 for a gradient; with a rotation of strength w added to a Gaussian's score, 2·w times the triangle's area."""
    corners = [doubles([0.0, 0.0]), doubles([2.0, 0.5]), doubles([-0.5, 1.0])]
    base = Gaussian([0.3, -0.2], [[1.5, 0.4], [0.4, 0.3]], NEAR)
    area = 0.5 * (2.0 * 1.0 - 0.5 * -0.5)
    for spin in (0.0, 0.7):
        field = ScoreOnly(base, spin)
        loop = sum(float(difference(field, corners[i], corners[(i + 1) % 3])) for i in range(3))
        assert math.isclose(loop, 2 * spin * area, rel_tol=1e-11, abs_tol=1e-12)


# --- curl -------------------------------------------------------------------------------------------------------------


def test_the_curl_of_a_density_is_zero_to_the_error_of_its_differences() -> None:
    x = SampleRng(range(50)).normal((2,)) * 2
    errors = [float(curl(PLANE, x, at(0.3, 50), SampleRng(range(50)), step=step).max()) for step in (0.2, 0.02, 0.002)]
    assert errors[2] < 1e-5
    assert errors[1] / errors[2] > 50  # second order: 100
    assert bool((curl(Gaussian([0.0], [[0.0]], NEAR), x[:, :1], at(0.0, 50), SampleRng(range(50))) < 1e-10).all())


class Turns(Scripted):
    """Directions (1, 0) and (cos, sin) of an angle, in turn."""

    def __init__(self, batch: int, angle: float) -> None:
        super().__init__(torch.zeros(batch, 2))
        self.angle = angle

    def normal(self, shape: Any = ()) -> torch.Tensor:
        self.draws += 1
        u = doubles(1.0, 0.0) if self.draws % 2 else doubles(math.cos(self.angle), math.sin(self.angle))
        return 3.0 * u.expand(len(self), 2)


@pytest.mark.parametrize("angle", [0.3, 1.2])
def test_the_curl_of_one_probe_is_known_for_a_rotation_added_to_a_gaussian(angle: float) -> None:
    """J = -I/v + w·R: vᵀJu = -cos/v + w·sin and uᵀJv = -cos/v - w·sin for unit vectors at that angle."""
    v, spin = 0.5 + 0.01, 0.7
    field = ScoreOnly(Gaussian([1.0, 2.0], [[0.5, 0.0], [0.0, 0.5]], NEAR), spin)
    truth = spin * math.sin(angle) / math.hypot(math.cos(angle) / v, spin * math.sin(angle))
    found = curl(field, doubles([0.4, -1.0], [3.0, 3.0]), at(0.0, 2), Turns(2, angle), probes=1)
    numpy.testing.assert_allclose(found, [truth, truth], rtol=1e-9)


@pytest.mark.theorem("curl-share")
def test_the_curl_of_many_probes_is_the_antisymmetric_share_of_the_jacobian() -> None:
    """In four dimensions, J = -I/v + w·R with R turning two of them: ‖wR‖² = 2·w² of ‖J‖² = 4/v² + 2·w²."""
    batch, probes, v, spin = 100, 400, 0.51, 1.5
    field = ScoreOnly(Gaussian(torch.zeros(1, 2, 2), 0.5 * torch.eye(4), NEAR), spin)
    x = SampleRng(range(batch), stream=5).normal((1, 2, 2))
    squares = curl(field, x, at(0.0, batch), SampleRng(range(batch)), probes=probes) ** 2
    truth = 2 * spin**2 / (4 / v**2 + 2 * spin**2)
    error = float(squares.std()) / math.sqrt(batch)
    assert abs(float(squares.mean()) - truth) < 5 * error < 0.1 * truth


def test_a_curl_needs_a_probe_and_of_a_constant_score_is_zero() -> None:
    class Constant(ScoreOnly):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            return Prediction.of_score(self.process, x, t, torch.ones_like(x))

    x = doubles([0.0, 1.0])
    assert curl(Constant(PLANE), x, LOWEST, SampleRng([0])).tolist() == [0.0]
    with pytest.raises(ScorefieldError, match="got 0 probes, expected at least 1"):
        curl(PLANE, x, LOWEST, SampleRng([0]), probes=0)


# --- what a run costs, and what stops it --------------------------------------------------------------------------------


@pytest.mark.parametrize(("energy", "each"), [("exact", 1), ("auto", 1), ("line", 2)])
def test_score_and_energy_of_a_state_are_carried_so_that_a_step_costs_its_proposal_only(energy: Any, each: int) -> None:
    """And one evaluation at the start of every level, where the density is another one."""
    ladder = geometric(NEAR, 4)
    for sampler in (Mala(tau=0.01, steps=5, energy=energy), AnnealedMala(5, energy=energy)):
        *_, last = simulate(PLANE, sampler, ladder, rng=SampleRng(range(3)), denoise=False)
        assert last.evaluations == 4 * (1 + 5 * each)
        assert len(last.info.acceptance) == 4
        assert all(0 < rate <= 1 for rate in last.info.acceptance)


@pytest.mark.parametrize("sampler", [Mala(tau=0.4, steps=20), AnnealedMala(3)], ids=["mala", "annealed-mala"])
@each_process
def test_what_is_carried_is_what_would_be_evaluated(sampler: Any, process: Process) -> None:
    """A chain that is made to forget what is known of x before every step makes the same run."""
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    ladder = process.time_of_sigma(doubles(3.0, 1.0, 0.3))

    class Forgets(type(sampler)):  # type: ignore[misc]
        def step(self, field: Any, x: Any, step: Any, state: Any, noise: Any) -> Any:
            known = state if state.step is not step else replace(state, x=None)  # on entering a level the last score is needed
            return super().step(field, x, step, known, noise)

    forgetful = Forgets(**{each.name: getattr(sampler, each.name) for each in fields(sampler)})
    run, again = (list(simulate(field, one, ladder, rng=SampleRng(range(20)), denoise=False)) for one in (sampler, forgetful))
    assert torch.equal(run[-1].x, again[-1].x)
    assert again[-1].evaluations > run[-1].evaluations  # it has forgotten


@pytest.mark.parametrize("make", [lambda e: Mala(tau=0.3, steps=20, energy=e), lambda e: AnnealedMala(3, energy=e)])
def test_on_a_gaussian_the_line_integral_makes_the_same_run_as_the_energy(make: Any) -> None:
    field, ladder = Gaussian([1.5, -0.5], [[1.5, 0.4], [0.4, 0.3]], VE(0.1, 5.0)), geometric(VE(0.1, 5.0), 6)
    runs = [(field, "exact"), (field, "line"), (ScoreOnly(field), "auto")]
    ends = [list(simulate(f, make(energy), ladder, rng=SampleRng(range(50))))[-1].x for f, energy in runs]
    numpy.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-10)
    assert torch.equal(ends[1], ends[2])


@pytest.mark.parametrize("sampler", [Mala(tau=0.4, steps=20, energy="line"), AnnealedMala(3, energy="line")])
def test_batch_mates_never_matter(sampler: Any) -> None:
    whole = list(simulate(PLANE, sampler, geometric(NEAR, 4), rng=SampleRng(range(16))))[-1].x
    for i in (0, 7, 15):
        alone = list(simulate(PLANE, sampler, geometric(NEAR, 4), rng=SampleRng([i])))[-1].x
        numpy.testing.assert_allclose(alone[0], whole[i], rtol=0, atol=1e-12)


def test_exact_energies_are_refused_for_a_field_that_has_none() -> None:
    with pytest.raises(
        ScorefieldError, match="got energy = 'exact' and a field without one, expected an energy: use energy = 'line'"
    ):
        last_of(ScoreOnly(PLANE), Mala(tau=0.1, steps=1, energy="exact"), doubles([0.0, 0.0]))


class Half(Gaussian):
    """A normal density cut off where the first coordinate is negative."""

    def energy(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        return torch.where(x[:, 0] < 0, math.inf, super().energy(x, t))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        score = torch.where(x[:, :1] < 0, math.nan, super().__call__(x, t, cond).score)
        return Prediction.of_score(self.process, x, t, score)


def test_a_proposal_of_density_zero_is_refused_and_the_half_normal_is_stationary() -> None:
    """Its mean is sqrt(2·v/pi); the score beyond the edge, a NaN, is never used."""
    n, field = 20_000, Half([0.0], [[0.99]], NEAR)
    start = exact_at(Gaussian([0.0], [[0.99]], NEAR), 0.0, n).abs()
    x = last_of(field, Mala(tau=0.3, steps=20), start).x
    assert float(x.min()) >= 0
    assert abs(float(x.mean()) - math.sqrt(2 / math.pi)) < 5 * math.sqrt((1 - 2 / math.pi) / n)
    assert float((x != start).double().mean()) > 0.99


class Broken(Gaussian):
    """A field whose energy or score is broken right of 1."""

    def __init__(self, energy: float, score: float) -> None:
        super().__init__([0.0], [[1.0]], NEAR)
        self.broken = energy, score

    def energy(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        return torch.where(x[:, 0] > 1, super().energy(x, t) + self.broken[0], super().energy(x, t))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        score = super().__call__(x, t, cond).score
        return Prediction.of_score(self.process, x, t, torch.where(x > 1, score + self.broken[1], score))


@pytest.mark.parametrize(
    ("energy", "score"), [(math.nan, 0.0), (0.0, math.nan), (0.0, math.inf), (0.0, -math.inf), (math.nan, math.nan)]
)
@each_case(change=["exact", "line"], start=[0.0, 1.5])
def test_a_nan_or_an_infinite_score_is_no_reason_to_refuse_but_to_stop(
    energy: float, score: float, change: Any, start: float
) -> None:
    """Whether it is met at a proposal or at the state itself; the sample beside it, far on the good side, is not blamed."""
    if change == "line" and score == 0.0:
        return  # the energy is not asked for
    with pytest.raises(NotFinite, match=r"in 1 of 2 samples at step \d+ .* of Mala"):
        last_of(Broken(energy, score), Mala(tau=0.01, steps=2000, energy=change), doubles([start], [-1e3]))


def test_a_step_in_units_of_a_noise_of_zero_is_refused() -> None:
    field = Gaussian([0.0], [[1.0]], Noiseless())
    rng = SampleRng([0])
    for sampler in (Mala(steps=2), AnnealedMala()):
        with pytest.raises(ScorefieldError, match=r"got sigma = 0 on a level, .*: set tau of 'mala'"):
            list(simulate(field, sampler, LOWEST, rng=rng))
    last = last_of(field, Mala(tau=0.5, steps=2), doubles([0.0]))
    assert last.evaluations == 3


# --- annealed ---------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("entering-a-level")
@pytest.mark.parametrize("v", [0.0, 2.0])
@pytest.mark.parametrize("steps", [1, 3])
@each_process
def test_annealed_mala_meets_every_level_of_a_round_gaussian_exactly(process: Process, steps: int, v: float) -> None:
    """On N(m, v·I), from a point to one wider than most levels, x is N(alpha_j·m, alpha_j²·v + sigma_j²) on every level, though
    each has half of the noise of the last; annealed Langevin lags behind, and the smaller posterior variance falls short."""
    n, point = 20_000, doubles(1.0, -2.0)
    field = Gaussian(point, v * torch.eye(2), process)
    ladder = process.time_of_sigma(torch.tensor(3 * 0.5 ** numpy.arange(5)))
    alpha, std = process.alpha(ladder), (process.alpha(ladder) ** 2 * v + process.sigma(ladder) ** 2).sqrt()
    start = alpha[0] * point + std[0] * SampleRng(range(n)).normal((2,))

    def misfit(sampler: Sampler, each: int) -> float:
        snapshots = list(simulate(field, sampler, ladder, start, rng=SampleRng(range(n), stream=1), denoise=False))
        units = [(snapshots[each * (j + 1)].x - alpha[j] * point) / std[j] for j in range(1, 5)]
        spread = max(float(((u**2).mean(dim=0) - 1).abs().max()) for u in units) / math.sqrt(2 / n)
        return max(spread, *(float(u.mean(dim=0).abs().max()) * math.sqrt(n) for u in units))

    assert misfit(AnnealedMala(steps), steps) < 5
    assert misfit(Annealed(steps), steps) > 20
    if v:
        *_, last = simulate(field, Consistent(), ladder, start, rng=SampleRng(range(n), stream=1), denoise=False)
        assert 1 - float((((last.x - alpha[-1] * point) / std[-1]) ** 2).mean()) > 20 * math.sqrt(1 / n)


def test_annealed_mala_gives_eight_modes_their_weights_and_spreads_in_100_evaluations() -> None:
    """The share of every mode, and the variance within modes, to 5 standard errors; annealed Langevin misses the variance."""
    n, process = 5000, VE(0.01, 80.0)
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = 5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    field = GaussianMixture(torch.arange(1.0, 9.0), means, [0.5] * 8, process)

    def misfits(sampler: Sampler, levels: int) -> tuple[float, float]:
        *_, last = simulate(field, sampler, geometric(process, levels), rng=SampleRng(range(n)))
        assert last.evaluations <= 100
        mode = field.responsibilities(last.x, at(0.0, n)).argmax(dim=1)
        shares, w = mode.bincount(minlength=8) / n, field.weights
        variance = float(((last.x - means[mode]) ** 2).mean()) / 0.5**2
        return float(((shares - w) / (w * (1 - w) / n).sqrt()).abs().max()), abs(variance - 1) / math.sqrt(2 / (2 * n))

    assert max(misfits(AnnealedMala(), 49)) < 5
    assert misfits(Annealed(), 19)[1] > 10
