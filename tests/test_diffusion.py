"""The variational bound: its terms are the divergences of Gaussians, it bounds the likelihood, and is tight where it can be.

On Gaussian data with the exact field every term is a polynomial of degree two in x0 and in the noise, so that the four points
x0 = mean ± std, noise = ±1 give its expectation exactly: what is compared in this file has no Monte Carlo error, unless said.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mpmath
import numpy
import pytest
import torch
from helpers import OfScore, Remembers, each_case
from torch.distributions import Normal, kl_divergence

from scorefield import VE, VP, Gaussian, GaussianMixture, SampleRng, ScorefieldError, Tabulated, registry
from scorefield.bound import Chain, bound, bound_terms, mix_of, pixel_log_prob, prior_kl
from scorefield.levels import Levels, Steps, chain_times
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.diffusion import Simple, VariationalBound
from scorefield.objectives.weightings import MinSNR
from scorefield.samplers import Ancestral, simulate

BETAS = (0.02, 0.1, 0.05, 0.3, 0.2, 0.6)
CHAIN = Tabulated(BETAS)
N = 20_000
each_variance = pytest.mark.parametrize("variance", ["posterior", "transition"])


def chain_by_hand(betas: Any = BETAS) -> tuple[numpy.ndarray, numpy.ndarray]:
    """alpha² and sigma² at n = 0..T, from the definition."""
    abar = numpy.concatenate([[1.0], numpy.cumprod(1 - numpy.array(betas))])
    return abar, 1 - abar


def variances_by_hand(variance: str, betas: Any = BETAS) -> numpy.ndarray:
    """beta_n, or beta~_n with beta~_2 in the place of beta~_1, for n = 1..T (Ho et al. 2020, equation 7)."""
    abar, _ = chain_by_hand(betas)
    beta = numpy.array(betas)
    if variance == "transition":
        return beta
    tilde = beta * (1 - abar[:-1]) / (1 - abar[1:])
    return numpy.concatenate([tilde[1:2], tilde[1:]])


class Points(SampleRng):
    """A noise whose normal draws are prescribed: what makes an expectation exact."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__(range(len(values)))
        self.values = values

    def normal(self, shape: Any = ()) -> torch.Tensor:
        assert tuple(shape) == tuple(self.values.shape[1:])
        return self.values


def four(mean: float, variance: float) -> tuple[torch.Tensor, Points]:
    """x0 and noise whose averages over four examples are expectations of quadratics in x0 ~ N(mean, variance) and noise."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    return mean + math.sqrt(variance) * signs[:, :1], Points(signs[:, 1:])


def remembers(true: Any, c: float = 0.0) -> Remembers:
    """The true score of a field, plus c·sin(x)."""
    return Remembers(OfScore(true, lambda x, t: true(x, t).score + c * torch.sin(x)))


def gaussian(variance: float = 1.7, mean: float = 0.8, process: Any = CHAIN) -> Gaussian:
    return Gaussian([mean], [[variance]], process)


def gap(field: Gaussian, **how: Any) -> float:
    """E[bound + log p(x0)] over the data of a one-dimensional Gaussian field: never negative, exact."""
    mean, variance = float(field.mean), float(field.covariance)
    x0, rng = four(mean, variance)
    entropy = -Normal(mean, math.sqrt(variance)).log_prob(x0[:, 0]).mean()
    return float(bound(field, x0, rng=rng, **how).mean() - entropy)


# --- the terms --------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("ddpm-posterior")
@each_variance
@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_term_is_the_divergence_of_two_gaussians_found_by_conditioning(variance: str, n: int) -> None:
    """q by the textbook's conditional of (x_{n-1}, x_n) given x0, p by the same with the field's denoised for x0."""
    true = Gaussian([0.3, -1.0], [[1.0, 0.2], [0.2, 0.5]], CHAIN)
    field = remembers(true, c=0.7)
    x0 = true.sample(SampleRng(range(50)))
    got = bound_terms(field, x0, torch.full((50,), n), rng=SampleRng(range(50), stream=1), variance=variance)
    abar, sigma2 = chain_by_hand()
    k = math.sqrt(1 - BETAS[n - 1])
    gain = k * sigma2[n - 1] / sigma2[n]  # covariance of x_{n-1} and x_n given x0, over the variance of x_n

    def mean(clean: torch.Tensor) -> torch.Tensor:
        return math.sqrt(abar[n - 1]) * clean + gain * (field.x - math.sqrt(abar[n]) * clean)

    spread = math.sqrt(sigma2[n - 1] - gain * k * sigma2[n - 1])
    model = math.sqrt(variances_by_hand(variance)[n - 1])
    expected = kl_divergence(Normal(mean(x0), spread), Normal(mean(field.said.denoised), model)).sum(1)
    numpy.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)
    turned = kl_divergence(Normal(mean(field.said.denoised), model), Normal(mean(x0), spread)).sum(1)
    assert variance == "posterior" or not numpy.allclose(got, turned, rtol=1e-3)  # equal variances: symmetric


@pytest.mark.theorem("ddpm-posterior")
@pytest.mark.parametrize("n", [2, 4, 6])
def test_where_the_data_are_one_point_an_ancestral_step_is_the_chains_own_step_back(n: int) -> None:
    """Its mean and spread are read off with the noise 0 and 1; the truth conditions x_{n-1} on x_n, both Gaussian given x0."""
    x0, x_n = 0.8, -1.3
    field = GaussianMixture.empirical([[x0]], CHAIN)
    ladder, start = torch.tensor([float(n), n - 1.0], dtype=torch.float64), torch.full((2, 1), x_n, dtype=torch.float64)
    noise = Points(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    *_, last = simulate(field, Ancestral("posterior"), ladder, start, rng=noise, denoise=False)
    (abar, sigma2), k = chain_by_hand(), math.sqrt(1 - BETAS[n - 1])
    gain = k * sigma2[n - 1] / sigma2[n]
    mean = math.sqrt(abar[n - 1]) * x0 + gain * (x_n - math.sqrt(abar[n]) * x0)
    spread = math.sqrt(sigma2[n - 1] - gain * k * sigma2[n - 1])
    numpy.testing.assert_allclose(last.x[:, 0], [mean, mean + spread], rtol=1e-12)


@pytest.mark.theorem("ddpm-elbo")
@each_variance
def test_the_first_term_is_the_negative_log_density_of_the_decoder(variance: str) -> None:
    true = Gaussian([0.3, -1.0], [[1.0, 0.2], [0.2, 0.5]], CHAIN)
    field = remembers(true, c=0.7)
    x0 = true.sample(SampleRng(range(50)))
    got = bound_terms(field, x0, torch.ones(50, dtype=torch.long), rng=SampleRng(range(50), stream=1), variance=variance)
    decoder = Normal(field.said.denoised, math.sqrt(variances_by_hand(variance)[0]))
    numpy.testing.assert_allclose(got, -decoder.log_prob(x0).sum(1), rtol=1e-11)


@pytest.mark.theorem("ddpm-elbo")
def test_the_prior_term_is_the_divergence_from_where_samplers_start() -> None:
    field = Gaussian([0.3, -1.0], [[1.0, 0.2], [0.2, 0.5]], CHAIN)
    x0 = field.sample(SampleRng(range(20)))
    abar, sigma2 = chain_by_hand()
    top = Normal(math.sqrt(abar[-1]) * x0, math.sqrt(sigma2[-1]))
    start = Normal(math.sqrt(abar[-1]) * torch.tensor([0.3, -1.0]), math.sqrt(abar[-1] * 0.75 + sigma2[-1]))
    numpy.testing.assert_allclose(prior_kl(field, x0), kl_divergence(top, start).sum(1), rtol=1e-6)


def test_terms_of_different_steps_can_share_a_batch() -> None:
    field = gaussian()
    x0, n = field.sample(SampleRng(range(6))), torch.arange(1, 7)
    together = bound_terms(field, x0, n, rng=SampleRng(range(6), stream=1))
    for i in range(6):
        one = bound_terms(field, x0[i : i + 1], n[i : i + 1], rng=SampleRng([i], stream=1))
        numpy.testing.assert_allclose(one, together[i : i + 1], rtol=1e-12)


def test_the_bound_of_an_image_is_that_of_its_pixels_as_a_vector() -> None:
    image, vector = (Gaussian(torch.zeros(shape), torch.eye(4) * 0.3, CHAIN) for shape in ((1, 2, 2), (4,)))
    x0 = image.sample(SampleRng(range(3)))
    one = bound(image, x0, rng=SampleRng(range(3), stream=1))
    two = bound(vector, x0.flatten(1), rng=SampleRng(range(3), stream=1))
    numpy.testing.assert_allclose(one, two, rtol=1e-13)


# --- a bound, and how tight -------------------------------------------------------------------------------------------


@pytest.mark.theorem("ddpm-elbo")
@each_variance
@pytest.mark.parametrize("v", [0.05, 1.0, 4.0])
def test_the_bound_lies_above_the_negative_log_density(variance: str, v: float) -> None:
    """By Monte Carlo on the objective itself, as it is trained: one step a time, drawn at random."""
    field = gaussian(v)
    x0 = field.sample(SampleRng(range(N)))
    loss = VariationalBound(variance=variance)(field, x0, rng=SampleRng(range(N), stream=1))
    excess = loss + field.log_prob(x0, torch.zeros(N))
    error = float(excess.std()) / math.sqrt(N)
    assert float(excess.mean()) > -5 * error
    assert abs(float(excess.mean()) - gap(field, variance=variance)) < 5 * error
    assert gap(field, variance=variance) > -1e-12


@pytest.mark.theorem("ddpm-elbo")
def test_for_normal_data_and_the_transitions_variance_the_bound_is_the_density() -> None:
    """x_{n-1} given x_n then has variance 1 - k² = beta_n exactly, the decoder included (Ho et al. 2020, section 3.2)."""
    assert abs(gap(gaussian(1.0, 0.0), variance="transition")) < 1e-12
    assert gap(gaussian(1.0, 0.0), variance="posterior") > 0.1
    assert gap(gaussian(1.3, 0.0), variance="transition") > 1e-4


@pytest.mark.theorem("ddpm-term")
def test_for_data_that_are_one_point_the_posteriors_variance_makes_every_divergence_zero() -> None:
    field = gaussian(0.0, 0.8)
    x0, n = torch.full((5, 1), 0.8, dtype=torch.float64), torch.arange(2, 7)
    assert float(bound_terms(field, x0, n, rng=SampleRng(range(5)), variance="posterior").abs().max()) < 1e-12
    assert float(bound_terms(field, x0, n, rng=SampleRng(range(5)), variance="transition").min()) > 1e-3


def test_the_gap_of_the_transitions_variance_closes_at_first_order_in_the_number_of_steps() -> None:
    """In ever finer cuts of one process, betas = B/T: the measured order's distance from 1 halves with the steps."""
    gaps = [gap(gaussian(2.0, 0.8, Tabulated((4.0 / T,) * T)), variance="transition") for T in (40, 80, 160, 320)]
    orders = numpy.log2(numpy.array(gaps[:-1]) / gaps[1:])
    distance = numpy.abs(orders - 1)
    assert bool((distance[1:] < 0.6 * distance[:-1]).all())
    assert distance[-1] < 0.02
    assert gaps[-1] > 0


def test_the_gap_of_the_posteriors_variance_does_not_close() -> None:
    """The first steps are of the same relative size, n to n + 1, however small they are, and so is what they lose."""
    gaps = [gap(gaussian(0.3, 0.8, Tabulated((4.0 / T,) * T)), variance="posterior") for T in (80, 160, 320)]
    assert gaps[-1] > 0.9 * gaps[0] > 0.1


@pytest.mark.parametrize("process", [VE(0.05, 10.0), VP(t_min=0.01)], ids=["ve", "vp"])
def test_a_continuous_process_in_equal_steps_has_a_bound_too(process: Any) -> None:
    gaps = [gap(gaussian(0.7, 0.2, process), variance="transition", steps=steps) for steps in (50, 100, 200)]
    assert gaps[0] > gaps[1] > gaps[2] > 0


@pytest.mark.theorem("ddpm-term")
@each_variance
def test_the_excess_of_a_wrong_score_is_its_fisher_divergence_weighted_by_beta_squared(variance: str) -> None:
    """E bound(s + c·h) - E bound(s) = E T·beta_n²/((1 - beta_n)·w_n)/2·c²·|h(x_n)|², n uniform; against other draws."""
    true, c = gaussian(), 0.6
    x0, objective = true.sample(SampleRng(range(N))), VariationalBound(variance=variance)
    rng = [SampleRng(range(N), stream=1) for _ in range(2)]
    excess = objective(remembers(true, c), x0, rng=rng[0]) - objective(true, x0, rng=rng[1])
    other = SampleRng(range(N), stream=2)
    n = 1 + (other.uniform(()) * 6).long()
    x_n = CHAIN.perturb(true.sample(other), n.double(), other.normal((1,)))
    beta, w = torch.tensor(BETAS, dtype=torch.float64)[n - 1], torch.tensor(variances_by_hand(variance))[n - 1]
    divergence = 6 * beta**2 / ((1 - beta) * w) / 2 * c**2 * torch.sin(x_n[:, 0]) ** 2
    error = 5 * math.sqrt((float(excess.var()) + float(divergence.var())) / N)
    assert abs(float(excess.mean() - divergence.mean())) < error
    assert abs(float(excess.mean() - 2 * divergence.mean())) > error
    assert abs(float(excess.mean() - divergence.mean() / 2)) > error


def test_all_steps_and_one_step_drawn_have_the_same_expectation() -> None:
    true = gaussian()
    field = remembers(true, 0.5)
    x0 = true.sample(SampleRng(range(N)))
    one, all_ = (VariationalBound(every_step=every)(field, x0, rng=SampleRng(range(N), stream=1)) for every in (False, True))
    assert abs(float(one.mean() - all_.mean())) < 5 * math.sqrt(float(one.var() + all_.var()) / N)
    assert float(all_.var()) < float(one.var())


def test_the_times_of_the_losses_are_the_steps_of_the_chain_equally_often() -> None:
    t = VariationalBound().terms(gaussian(), torch.zeros(6000, 1, dtype=torch.float64), rng=SampleRng(range(6000))).t
    assert t is not None
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5, 6]
    assert float((counts - 1000).abs().max()) < 5 * math.sqrt(6000 / 6 * 5 / 6)


# --- the simple loss --------------------------------------------------------------------------------------------------


@pytest.mark.theorem("noise-error")
def test_the_simple_loss_is_the_squared_error_of_the_noise_at_a_step_drawn_uniformly() -> None:
    true = gaussian()
    field = remembers(true, 0.5)
    x0 = true.sample(SampleRng(range(500)))
    terms = Simple().terms(field, x0, rng=SampleRng(range(500), stream=1))
    abar, sigma2 = (torch.tensor(table)[field.t.long(), None] for table in chain_by_hand())
    noise = (field.x - abar.sqrt() * x0) / sigma2.sqrt()
    numpy.testing.assert_allclose(terms.loss, 0.5 * ((field.said.noise - noise) ** 2).sum(1), rtol=1e-9)
    assert terms.t is not None
    assert torch.equal(terms.t, field.t)
    assert set(field.t.tolist()) == {1, 2, 3, 4, 5, 6}


@pytest.mark.theorem("ddpm-term")
def test_the_simple_loss_is_not_the_bound() -> None:
    """Not even up to a factor and a constant: the ratio of their weights on the score changes from step to step."""
    true = gaussian()
    x0 = true.sample(SampleRng(range(600)))
    n = torch.arange(600) % 6 + 1

    def excess(loss: Any) -> numpy.ndarray:
        difference = loss(remembers(true, 0.5), SampleRng(range(600), stream=1)) - loss(true, SampleRng(range(600), stream=1))
        return numpy.array([float(difference[n == step].mean()) for step in range(1, 7)])

    of_bound = excess(lambda field, rng: 6 * bound_terms(field, x0, n, rng=rng, variance="transition"))
    of_simple = excess(lambda field, rng: Denoising().at(field, x0, n.double(), rng=rng))
    ratio = of_bound / of_simple
    beta, (_, sigma2) = numpy.array(BETAS), chain_by_hand()
    numpy.testing.assert_allclose(ratio, 6 * beta / ((1 - beta) * sigma2[1:]), rtol=1e-9)
    assert ratio.max() > 5 * ratio.min()


def test_the_simple_loss_takes_other_weightings() -> None:
    field, x0 = gaussian(), gaussian().sample(SampleRng(range(100)))
    plain, clipped = (Simple(**how)(field, x0, rng=SampleRng(range(100), stream=1)) for how in ({}, {"weighting": MinSNR()}))
    t = Simple().terms(field, x0, rng=SampleRng(range(100), stream=1)).t
    assert t is not None
    abar, sigma2 = (table[t.long()] for table in chain_by_hand())
    numpy.testing.assert_allclose(clipped / plain, numpy.minimum(1, 5 * sigma2 / abar), rtol=1e-12)


# --- pixels -----------------------------------------------------------------------------------------------------------


VALUES = 2 * torch.arange(256, dtype=torch.float64)[:, None] / 255 - 1


@pytest.mark.theorem("pixel-decoder")
@each_case(mean=[-30.0, -1.0, -0.2, 0.3, 1.001, 7.0], std=[1e-3, 0.02, 0.5, 40.0])
def test_the_decoder_of_pixels_is_a_probability_of_256_values(mean: float, std: float) -> None:
    log_prob = pixel_log_prob(VALUES, torch.full_like(VALUES, mean), torch.full((256,), std, dtype=torch.float64))
    assert bool((log_prob <= 0).all())
    assert abs(float(log_prob.logsumexp(0))) < 1e-11


@pytest.mark.theorem("pixel-decoder")
@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.02), (-0.5, 0.01), (0.1, 0.5), (1.2, 0.05)])
def test_the_mass_of_a_bin_keeps_its_digits_in_both_tails(mean: float, std: float) -> None:
    got = pixel_log_prob(VALUES, torch.full_like(VALUES, mean), torch.full((256,), std, dtype=torch.float64))
    mpmath.mp.dps = 60
    for k in (0, 1, 17, 100, 128, 200, 254, 255):
        centre = mpmath.mpf(2 * k) / 255 - 1
        left, right = ((centre + shift / mpmath.mpf(255) - mpmath.mpf(mean)) / mpmath.mpf(std) for shift in (-1, 1))
        left, right = (-mpmath.inf if k == 0 else left), (mpmath.inf if k == 255 else right)
        if left + right > 0:  # Phi(b) - Phi(a) = Phi(-a) - Phi(-b), or 60 digits would not do
            left, right = -right, -left
        low, high = (mpmath.erfc(-edge / mpmath.sqrt(2)) / 2 for edge in (left, right))
        expected = float(mpmath.log(high - low))
        # an edge, rounded to 1e-16, moves the log of a mass z deviations out by z/std of that
        assert abs(float(got[k]) - expected) < 1e-11 * (1 + abs(expected)) / std


def test_gradients_through_the_decoder_of_pixels_are_finite_and_right() -> None:
    mean = torch.full((6, 1), 0.1, dtype=torch.float64, requires_grad=True)
    std = torch.tensor([1e-3, 0.01, 0.1, 0.1, 1.0, 30.0], dtype=torch.float64, requires_grad=True)
    x0 = VALUES[[0, 255, 1, 254, 140, 3]]
    (slope, by_std) = torch.autograd.grad(pixel_log_prob(x0, mean, std).sum(), [mean, std])
    assert bool(slope.isfinite().all() and by_std.isfinite().all())
    assert torch.autograd.gradcheck(lambda m, s: pixel_log_prob(x0[2:5], m, s), (mean[2:5], std[2:5]))
    assert slope[:, 0].sign().tolist() == (x0[:, 0] - 0.1).sign().tolist()


def test_only_the_first_term_knows_the_decoder() -> None:
    x0 = VALUES[:6]
    field, n = gaussian(0.3, 0.0), torch.tensor([1, 2, 3, 4, 5, 6])
    real, pixels = (bound_terms(field, x0, n, rng=SampleRng(range(6)), decoder=how) for how in ("gaussian", "pixels"))
    assert torch.equal(real[1:], pixels[1:])
    assert float(pixels[0]) >= 0  # a probability
    # where the Gaussian hardly changes within a bin its mass is density times width
    wide = Gaussian([0.0], [[0.3]], Tabulated((0.2, 0.3)))
    x0, n = VALUES[100:101], torch.tensor([1])
    density = bound_terms(wide, x0, n, rng=SampleRng([3]), variance="transition")
    mass = bound_terms(wide, x0, n, rng=SampleRng([3]), variance="transition", decoder="pixels")
    assert abs(float(mass - density) + math.log(2 / 255)) < 1e-3


def test_the_decoder_of_pixels_refuses_what_is_none() -> None:
    with pytest.raises(ScorefieldError, match="no 8-bit pixels"):
        VariationalBound(decoder="pixels", every_step=True)(gaussian(), torch.full((2, 1), 0.123), rng=SampleRng(range(2)))


# --- learned variances ------------------------------------------------------------------------------------------------


@pytest.mark.theorem("ddpm-term")
@pytest.mark.parametrize("v", [0.05, 0.6, 5.0])
def test_gradient_descent_on_the_bound_finds_the_best_variance_which_makes_it_the_density(v: float) -> None:
    """w_n = Var[x_{n-1} | x_n] = V_{n-1} - (1 - beta_n)·V_{n-1}²/V_n with V_n = abar·v + 1 - abar: Analytic-DPM for a Gaussian.

    Bao et al. (2022) write it as beta~_n + c²·E tr Cov[x0 | x_n]/d, the same number.
    """
    true, objective = gaussian(v), VariationalBound(variance="learned", every_step=True)
    learned = objective.prepare(true).double()
    x0, rng = four(float(true.mean), v)
    descent = torch.optim.LBFGS(learned.parameters(), lr=1, max_iter=500, tolerance_grad=1e-13, tolerance_change=0)

    def closure() -> torch.Tensor:
        descent.zero_grad()
        loss = objective(true, x0, rng=rng, learned=learned).mean()
        loss.backward()
        return loss

    descent.step(closure)
    n = torch.arange(1, 7)
    found = Chain(CHAIN).variance(n, mix_of(true, n, learned)).detach().numpy()
    abar, sigma2 = chain_by_hand()
    total = abar * v + sigma2
    best = total[:-1] - (1 - numpy.array(BETAS)) * total[:-1] ** 2 / total[1:]
    numpy.testing.assert_allclose(found, best, rtol=1e-6)
    tilde = variances_by_hand("posterior")[1:]
    spread = sigma2[1:] * v / total[1:]  # Cov[x0 | x_n]
    numpy.testing.assert_allclose(best[1:], tilde + abar[1:-1] * (numpy.array(BETAS[1:]) / sigma2[2:]) ** 2 * spread[1:])
    entropy = 0.5 * math.log(2 * math.pi * math.e * v)
    assert abs(float(bound(true, x0, rng=rng, variance=learned).mean().detach()) - entropy) < 1e-10


def test_a_mix_of_nought_is_the_posteriors_variance_and_a_mix_of_one_the_transitions() -> None:
    n = torch.arange(1, 7)
    for mix, name in ((0.0, "posterior"), (1.0, "transition")):
        got = Chain(CHAIN).variance(n, torch.full((6,), mix, dtype=torch.float64))
        numpy.testing.assert_allclose(got, variances_by_hand(name), rtol=1e-13)


def test_a_learned_variance_is_refused_where_none_was_prepared() -> None:
    with pytest.raises(ScorefieldError, match="without learned variances"):
        VariationalBound(variance="learned")(gaussian(), torch.zeros(2, 1), rng=SampleRng(range(2)))
    assert VariationalBound(variance="posterior").prepare(gaussian()) is None


def test_a_run_with_learned_variances_trains_and_opens_again(tmp_path: Path) -> None:
    from scorefield.config import Optimiser, RunConfig, Training, to_dict
    from scorefield.data import DataConfig, open_source
    from scorefield.files import write_json
    from scorefield.nets.mlp import MLPConfig
    from scorefield.prediction import NoisePrediction
    from scorefield.runs import build_model, manifest_of, open_run, save_model
    from scorefield.samplers import Annealed
    from scorefield.training.loop import Trainer

    data = open_source("mixture", DataConfig(examples=100))
    config = RunConfig(
        source="mixture",
        recipe="auto",
        process=Tabulated.linear(20, 1e-3, 0.4),
        parametrisation=NoisePrediction(),
        network=MLPConfig(width=8, depth=1),
        objective=VariationalBound(variance="learned"),
        sampler=Annealed(),
        levels=8,
        optimiser=Optimiser(lr=1e-2, warmup=0),
        training=Training(steps=2, seconds=None, batch=16, ema=0.9, precision="float32", pictures=0),
    )
    trainer = Trainer(config, data, build_model(config, data.shape, 1.0), tmp_path / "checkpoints", torch.device("cpu"))
    for _ in trainer.run():
        pass
    learned = trainer.average.learned.variance_mix
    assert learned.shape == (20,)
    assert bool((learned != 0.5).any())
    save_model(tmp_path, trainer.average, manifest := manifest_of(data, 1.0, (), 0))
    write_json(tmp_path / "config.json", to_dict(config))
    assert manifest["model_sha256"]
    opened = open_run(tmp_path).field
    assert torch.equal(opened.learned.variance_mix, learned)
    x0 = torch.zeros(3, 2, dtype=torch.float64)
    again, before = (bound(field, x0, rng=SampleRng(range(3)), variance="learned") for field in (opened, trainer.average))
    assert torch.equal(again, before.detach())


# --- chains -----------------------------------------------------------------------------------------------------------


def test_the_steps_of_a_chain_are_its_whole_numbers() -> None:
    process = Tabulated.linear(1000)
    assert torch.equal(chain_times(process), torch.arange(1, 1001, dtype=torch.float64))
    chain = Chain(process)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    numpy.testing.assert_allclose(chain.transition[1:], betas, rtol=1e-11)
    assert Steps().parts(process) == 1000
    assert Steps(7).quantile(VP(), torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)).tolist() == [VP().t_min, 1.0]


@pytest.mark.parametrize("objective", [Simple(), VariationalBound()], ids=["simple", "bound"])
def test_training_on_a_chain_refuses_a_continuous_process_unless_given_its_steps(objective: Any) -> None:
    with pytest.raises(ScorefieldError, match="expected DDPM's chain"):
        objective.check(gaussian(process=VP()))
    objective.check(gaussian())
    VariationalBound(steps=100).check(gaussian(process=VP()))
    Simple(noise_distribution=Steps(100)).check(gaussian(process=VP()))
    Simple(noise_distribution=Levels(10)).check(gaussian(process=VP()))


@pytest.mark.parametrize("n", [0, 7])
def test_a_step_outside_the_chain_is_refused(n: int) -> None:
    with pytest.raises(ScorefieldError, match="expected 1 to 6"):
        bound_terms(gaussian(), torch.zeros(2, 1), torch.tensor([1, n]), rng=SampleRng(range(2)))


def test_the_objectives_are_found_by_name() -> None:
    assert registry.find("objective", "simple") is Simple
    assert registry.find("objective", "bound") is VariationalBound
