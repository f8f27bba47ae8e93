"""Processes: alpha and sigma are the moments of the very SDE that is derived from them, and the published ones."""

import math

import mpmath
import numpy
import pytest
import torch
from helpers import between, doubles, each_case

from scorefield import (
    VE,
    VP,
    Cosine,
    DDPMChain,
    LinearVE,
    Noiseless,
    Process,
    RectifiedFlow,
    ScorefieldError,
    SubVP,
    Tabulated,
    registry,
)

NEEDS_SETTINGS = {"tabulated": Tabulated.linear(1000)}
PROCESSES = {
    name: NEEDS_SETTINGS[name] if name in NEEDS_SETTINGS else kind() for name, kind in registry.every("process").items()
}
NOISY = {name: process for name, process in PROCESSES.items() if process.t_max > process.t_min}
each = each_case(process=PROCESSES)
each_noisy = each_case(process=NOISY)


def grid_of(process: Process, start: float, end: float) -> numpy.ndarray:
    """Times from start to end, fine in t and in log-SNR, with a point at every kink of a tabulated process."""
    inside = torch.linspace(process.t_min, process.t_max, 1000, dtype=torch.float64)
    ratios = (process.sigma(inside[[0, -1]]) / process.alpha(inside[[0, -1]])).log()
    levels = process.time_of_sigma(torch.linspace(*ratios.tolist(), 1000, dtype=torch.float64).exp())
    times = torch.cat([inside, levels, doubles(start, end)]).unique().numpy()
    return times[(times >= start) & (times <= end)]


NODES, WEIGHTS = numpy.polynomial.legendre.leggauss(3)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2
# Row i integrates the interpolating quadratic from 0 to node i: the collocation method of Gauss, order 6.
COLLOCATION = numpy.array(
    [[numpy.polyval(numpy.polyint(numpy.poly1d(numpy.linalg.solve(numpy.vander(NODES, 3), e)).c), c) for e in numpy.eye(3)]
     for c in NODES]
)  # fmt: skip


def integrate_moments(process: Process, times: numpy.ndarray, mean: float, variance: float) -> tuple[numpy.ndarray, ...]:
    """Integrate m' = f·m and v' = 2f·v + g² through `times` by Gauss's implicit method; nodes are never on a kink."""
    steps = numpy.diff(times)
    nodes = torch.tensor(times[:-1, None] + steps[:, None] * NODES)
    f, g2 = process.drift(nodes).numpy(), process.diffusion(nodes).numpy() ** 2
    out = numpy.array([[mean, variance]] * len(times))
    for i, h in enumerate(steps):
        for j, (rate, source) in enumerate([(f[i], 0 * f[i]), (2 * f[i], g2[i])]):
            slopes = numpy.linalg.solve(numpy.eye(3) - h * rate[:, None] * COLLOCATION, rate * out[i, j] + source)
            out[i + 1, j] = out[i, j] + h * WEIGHTS @ slopes
    return out[:, 0], out[:, 1]


@pytest.mark.theorem("sde-moments", "drift-and-diffusion")
@each
def test_integrating_the_moments_returns_alpha_and_sigma(process: Process) -> None:
    times = grid_of(process, process.t_min, process.t_max)
    alpha, sigma = process.alpha(torch.tensor(times)).numpy(), process.sigma(torch.tensor(times)).numpy()
    mean, variance = integrate_moments(process, times, alpha[0], sigma[0] ** 2)
    numpy.testing.assert_allclose(mean, alpha, rtol=1e-11)
    numpy.testing.assert_allclose(variance, sigma**2, rtol=1e-11)


@pytest.mark.theorem("transition")
@each_noisy
@each_case(early__late=[(0.1, 0.2), (0.3, 0.9), (0.0, 1.0)])
def test_a_transition_has_the_moments_of_the_sde_started_from_a_point(process: Process, early: float, late: float) -> None:
    start, end = between(process, early), between(process, late)
    mean, variance = integrate_moments(process, grid_of(process, start, end), 1.0, 0.0)
    k, std = process.transition(doubles(end), doubles(start))
    numpy.testing.assert_allclose([float(k), float(std) ** 2], [mean[-1], variance[-1]], rtol=1e-11)


@pytest.mark.theorem("transition")
@each_noisy
def test_transitions_compose(process: Process) -> None:
    for low, middle, high in [(0.0, 0.2, 0.4), (0.1, 0.5, 1.0), (0.9, 0.95, 0.951)]:
        r, s, t = (doubles(between(process, share)) for share in (low, middle, high))
        (k_sr, std_sr), (k_ts, std_ts), (k, std) = process.transition(s, r), process.transition(t, s), process.transition(t, r)
        rounding = 8 * numpy.finfo(float).eps * float(process.sigma(t)) ** 2
        assert math.isclose(float(k), float(k_ts * k_sr), rel_tol=1e-14)
        assert abs(float(std**2 - (k_ts**2 * std_sr**2 + std_ts**2))) <= rounding


@each
def test_a_transition_that_takes_no_time_changes_nothing(process: Process) -> None:
    t = doubles(process.t_min, between(process, 0.4), process.t_max)
    k, std = process.transition(t, t)
    assert k.tolist() == [1, 1, 1]
    assert std.tolist() == [0, 0, 0]


def test_a_transition_back_in_time_is_refused() -> None:
    with pytest.raises(ScorefieldError, match=r"got s = 0\.5 > t = 0\.4, expected s <= t"):
        VE().transition(doubles(0.4), doubles(0.5))


# --- published numbers ------------------------------------------------------------------------------------------------

mpmath.mp.dps = 30


def _vp(t: float) -> tuple[mpmath.mpf, ...]:
    """Song et al. (2021), appendix C: alpha = exp(-t²(20 - 0.1)/4 - 0.1·t/2), beta = 0.1 + 19.9·t."""
    t = mpmath.mpf(t)
    alpha, beta = (
        mpmath.exp(-t * t * mpmath.mpf("19.9") / 4 - mpmath.mpf("0.1") * t / 2),
        mpmath.mpf("0.1") + mpmath.mpf("19.9") * t,
    )
    return alpha, mpmath.sqrt(1 - alpha**2), -beta / 2, beta


def _sub_vp(t: float) -> tuple[mpmath.mpf, ...]:
    alpha, _, drift, beta = _vp(t)
    return (
        alpha,
        1 - alpha**2,
        drift,
        beta * (1 - mpmath.exp(-2 * (mpmath.mpf("9.95") * mpmath.mpf(t) ** 2 + mpmath.mpf("0.1") * t))),
    )


def _cosine(t: float) -> tuple[mpmath.mpf, ...]:
    """Nichol and Dhariwal (2021), equation 17; its derivative by mpmath."""
    s = mpmath.mpf("0.008")

    def abar(u: mpmath.mpf) -> mpmath.mpf:
        return mpmath.cos((u + s) / (1 + s) * mpmath.pi / 2) ** 2 / mpmath.cos(s / (1 + s) * mpmath.pi / 2) ** 2

    beta = -mpmath.diff(lambda u: mpmath.log(abar(u)), t)
    return mpmath.sqrt(abar(mpmath.mpf(t))), mpmath.sqrt(1 - abar(mpmath.mpf(t))), -beta / 2, beta


def _ddpm(t: float) -> tuple[mpmath.mpf, ...]:
    """Ho et al. (2020): 1000 betas from 1e-4 to 0.02; inside step n the SDE's rate is the constant -ln(1 - beta_n)."""
    betas = [mpmath.mpf("1e-4") + mpmath.mpf("0.0199") * n / 999 for n in range(1000)]
    abar = mpmath.fprod(1 - beta for beta in betas[: int(t)])
    rate = -mpmath.log(1 - betas[min(int(t), 999)])
    return mpmath.sqrt(abar), mpmath.sqrt(1 - abar), -rate / 2, rate


LN = math.log(5000)
PUBLISHED = {  # time: (alpha, sigma, f, g²)
    "ve": {0.0: (1, 0.01, 0, 2e-4 * LN), 0.5: (1, math.sqrt(0.5), 0, LN), 1.0: (1, 50, 0, 5000 * LN)},
    "linear-ve": {0.002: (1, 0.002, 0, 0.004), 1.5: (1, 1.5, 0, 3), 80.0: (1, 80, 0, 160)},
    "vp": {t: _vp(t) for t in (0.001, 0.5, 1.0)},
    "sub-vp": {t: _sub_vp(t) for t in (0.001, 0.5, 1.0)},
    "cosine": {t: _cosine(t) for t in (0.001, 0.5, 0.99)},
    "rectified-flow": {0.2: (0.8, 0.2, -1.25, 0.5), 0.5: (0.5, 0.5, -2, 2), 0.75: (0.25, 0.75, -4, 6)},
    "tabulated": {t: _ddpm(t) for t in (1.0, 500.0, 1000.0)},
    "ddpm-chain": {t: _ddpm(t) for t in (1.0, 500.0, 1000.0)},
    "noiseless": {0.0: (1, 0, 0, 0)},
}


@pytest.mark.theorem("drift-and-diffusion")
@each_case(name=list(PROCESSES))
def test_every_process_has_its_published_coefficients(name: str) -> None:
    process = PROCESSES[name]
    for time, published in PUBLISHED[name].items():
        t = doubles(time)
        got = [process.alpha(t), process.sigma(t), process.drift(t), process.diffusion(t) ** 2]
        numpy.testing.assert_allclose([float(c) for c in got], [float(c) for c in published], rtol=2e-13, err_msg=f"t = {time}")


def test_ddpm_ends_at_the_signal_that_is_printed_everywhere() -> None:
    assert f"{float(PROCESSES['tabulated'].alpha(doubles(1000.0)) ** 2):.4e}" == "4.0358e-05"


def test_vp_ends_at_the_signal_of_its_paper() -> None:
    assert math.isclose(float(VP().alpha(doubles(1.0))), math.exp(-5.025), rel_tol=1e-14)


@pytest.mark.parametrize("time", [1e-3, 1e-6, 1e-12])
def test_sigma_keeps_all_its_digits_where_there_is_hardly_any_noise(time: float) -> None:
    with mpmath.workdps(60):
        for process, exact in [(VP(), _vp), (SubVP(), _sub_vp)]:
            assert math.isclose(float(process.sigma(doubles(time))), float(exact(time)[1]), rel_tol=1e-14)
        s, t = mpmath.mpf("0.008"), mpmath.mpf(time)
        start, here = (u / (1 + s) * mpmath.pi / 2 for u in (s, t + s))
        exact = mpmath.sqrt(1 - mpmath.cos(here) ** 2 / mpmath.cos(start) ** 2)
    # the angle of t + s is rounded before it is compared with the angle of s: that, relative to t, is the loss
    assert math.isclose(float(Cosine().sigma(doubles(time))), float(exact), rel_tol=8 * 2.2e-16 * max(1, 0.008 / time))


@pytest.mark.theorem("cosine-schedule")
def test_the_cosine_chain_is_the_published_one_with_its_last_beta_cut() -> None:
    process = DDPMChain(1000, kind="cosine")
    assert len(process.betas) == 1000
    assert float(process.betas[-1]) == 0.999
    for n in (1, 500, 998):
        assert math.isclose(float(process.alpha(doubles(float(n)))), float(_cosine(n / 1000)[0]), rel_tol=1e-12)


@pytest.mark.theorem("ddpm-marginal")
def test_tabulated_alpha_and_sigma_are_the_products_of_ho_et_al_at_every_whole_time() -> None:
    betas = numpy.random.default_rng(0).uniform(0.01, 0.5, size=20)
    process, n = Tabulated(tuple(betas)), torch.arange(1, 21, dtype=torch.float64)
    numpy.testing.assert_allclose(process.alpha(n) ** 2, numpy.cumprod(1 - betas), rtol=1e-14)
    numpy.testing.assert_allclose(process.sigma(n) ** 2, 1 - numpy.cumprod(1 - betas), rtol=1e-13)


def test_the_scaled_linear_chain_ends_at_the_signal_of_latent_diffusion() -> None:
    """Betas from 0.00085 to 0.012, equally spaced in their roots: abar_1000 = 0.0047 (Rombach et al. 2022, 0.00466)."""
    betas = [(mpmath.sqrt("0.00085") + (mpmath.sqrt("0.012") - mpmath.sqrt("0.00085")) * n / 999) ** 2 for n in range(1000)]
    abar = mpmath.fprod(1 - beta for beta in betas)
    process = DDPMChain(1000, 0.00085, 0.012, "scaled-linear")
    assert math.isclose(float(process.alpha(doubles(1000.0)) ** 2), float(abar), rel_tol=1e-12)
    assert f"{float(abar):.4f}" == "0.0047"


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_chain_of_four_numbers_is_the_chain_with_its_betas_written_out(kind: str) -> None:
    named = DDPMChain(50, 1e-3, 0.3, kind)
    table = Tabulated(tuple(named.betas.tolist()))
    t = torch.linspace(1.0, 50.0, 301, dtype=torch.float64)
    for function in ("alpha", "sigma", "drift", "diffusion"):
        assert torch.equal(getattr(named, function)(t), getattr(table, function)(t))


def test_a_chain_that_leaves_nothing_of_the_data_is_refused() -> None:
    for make in (lambda: DDPMChain(200_000), lambda: Tabulated((0.9,) * 400)):
        with pytest.raises(ValueError, match=r"of the signal's variance|less than 1"):
            make()


@pytest.mark.theorem("ddpm-marginal")
def test_one_ddpm_step_shrinks_by_the_root_of_one_minus_beta_and_adds_beta() -> None:
    process = Tabulated.linear(1000)
    t = torch.arange(2, 1001, dtype=torch.float64)
    k, std = process.transition(t, t - 1)
    beta = numpy.linspace(1e-4, 0.02, 1000)[1:]
    numpy.testing.assert_allclose(k**2, 1 - beta, rtol=1e-12)
    numpy.testing.assert_allclose(std**2, beta, atol=4 * 2.3e-16, rtol=1e-12)


def test_a_fine_ddpm_chain_tends_to_vp() -> None:
    """beta_n = beta(n/T)/T: the distance to the SDE falls like 1/T, so ten times the steps leave a tenth of it."""
    t = doubles(0.25, 0.5, 1.0)
    gaps = []
    for steps in (1000, 10_000):
        rates = 0.1 + 19.9 * (numpy.arange(steps) + 0.5) / steps
        gaps.append(float((Tabulated(tuple(rates / steps)).alpha(t * steps).log() - VP().alpha(t).log()).abs().max()))
    assert math.isclose(gaps[0] / gaps[1], 10, rel_tol=0.02)


@pytest.mark.parametrize("process", [VP(), Cosine(), DDPMChain(1000), DDPMChain(50, kind="cosine")], ids=repr)
def test_variance_preserving_means_alpha_squared_plus_sigma_squared_is_one(process: Process) -> None:
    t = torch.linspace(process.t_min, process.t_max, 257, dtype=torch.float64)
    numpy.testing.assert_allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1, rtol=4e-15)


# --- derived quantities -----------------------------------------------------------------------------------------------


@each_noisy
def test_noise_to_signal_rises_with_time_and_log_snr_is_its_logarithm(process: Process) -> None:
    t = torch.linspace(process.t_min, process.t_max, 1001, dtype=torch.float64)
    log_snr = process.log_snr(t).numpy()
    assert bool((numpy.diff(log_snr) < 0).all())
    numpy.testing.assert_allclose(log_snr, numpy.log((process.alpha(t) / process.sigma(t)).numpy() ** 2), atol=1e-13)


@each_noisy
def test_rates_are_the_slopes_of_alpha_and_sigma(process: Process) -> None:
    """Against central differences of order 6, at times whose neighbourhood has no kink of the table."""
    t = doubles(*(between(process, share) for share in (0.1, 0.37, 0.8)))
    h = 1e-5 * t
    for function, rate in zip((process.alpha, process.sigma), process.rates(t), strict=True):
        weighted = sum(w * (function(t + k * h) - function(t - k * h)) for k, w in [(1, 45), (2, -9), (3, 1)])
        size = torch.maximum(process.alpha(t), process.sigma(t))
        assert bool(((weighted / (60 * h) - rate).abs() <= 20 * 2.3e-16 * size / h + 1e-11 * rate.abs()).all())


@each_noisy
def test_time_of_sigma_inverts_the_noise_to_signal_ratio(process: Process) -> None:
    t = torch.linspace(process.t_min, process.t_max, 41, dtype=torch.float64)
    log_ratio = (process.sigma(t) / process.alpha(t)).log()
    found = process.time_of_sigma(log_ratio.exp())
    numpy.testing.assert_allclose((process.sigma(found) / process.alpha(found)).log(), log_ratio, rtol=0, atol=2e-12)
    assert bool(((found >= process.t_min) & (found <= process.t_max)).all())


@each_noisy
def test_the_closed_form_of_time_of_sigma_is_what_bisection_finds(process: Process) -> None:
    """On the whole line, so that ratios far out of range are compared as well: both stop at the same end."""
    ratios = torch.logspace(-9, 9, 1801, dtype=torch.float64)
    found, halved = process.time_of_sigma(ratios), Process._time_at(process, ratios).clamp(process.t_min, process.t_max)
    levels = [(process.sigma(t) / process.alpha(t)).log() for t in (found, halved)]
    # A last bit of t is the most that either can get right: log(sigma/alpha) then moves by t·(log sigma/alpha)' bits.
    alpha_rate, sigma_rate = process.rates(found)
    slope = found * (sigma_rate / process.sigma(found) - alpha_rate / process.alpha(found))
    assert bool(((levels[0] - levels[1]).abs() <= 8 * 2.3e-16 * (slope.abs() + levels[0].abs() + 1)).all())


def test_a_process_without_a_closed_form_finds_its_times_by_bisection() -> None:
    class Square(Process):
        t_min, t_max = 0.1, 2.0

        def alpha(self, t: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(t)

        def sigma(self, t: torch.Tensor) -> torch.Tensor:
            return t**2

    numpy.testing.assert_allclose(Square().time_of_sigma(doubles(0.25, 1.0, 2.25)), [0.5, 1.0, 1.5], rtol=1e-15)
    assert Square().time_of_sigma(doubles(0.0, 1e9)).tolist() == [0.1, 2.0]


@each_noisy
def test_time_of_sigma_returns_the_ends_for_noise_out_of_range(process: Process) -> None:
    assert process.time_of_sigma(doubles(0.0, 1e-9, 1e9, math.inf)).tolist() == [
        process.t_min,
        process.t_min,
        process.t_max,
        process.t_max,
    ]


def test_perturb_is_alpha_x0_plus_sigma_noise_with_each_samples_own_time() -> None:
    process, t = VP(), doubles(0.1, 0.9)
    x0, noise = torch.full((2, 1, 2, 2), 3.0, dtype=torch.float64), torch.full((2, 1, 2, 2), -2.0, dtype=torch.float64)
    x_t = process.perturb(x0, t, noise)
    for row, time in zip(x_t, (0.1, 0.9), strict=True):
        alpha, sigma = _vp(time)[:2]
        numpy.testing.assert_allclose(row, float(3 * alpha - 2 * sigma), rtol=1e-13)


@each
def test_the_prior_has_the_variance_of_noised_data(process: Process) -> None:
    """By the law of total variance over two equally likely data points, -3 and 3."""
    alpha, spread = process.prior(process.t_max, data_std=3.0)
    a, s = float(process.alpha(doubles(process.t_max))), float(process.sigma(doubles(process.t_max)))
    means = numpy.array([-3 * a, 3 * a])
    assert alpha == a
    assert math.isclose(spread**2, means.var() + s**2, rel_tol=1e-14)


@each
def test_single_precision_times_give_single_precision_coefficients(process: Process) -> None:
    t = torch.tensor([between(process, 0.5)], dtype=torch.float32)
    for function in (process.alpha, process.sigma):
        assert function(t).dtype == torch.float32
        numpy.testing.assert_allclose(function(t), function(t.double()), rtol=16 * numpy.finfo(numpy.float32).eps)


@each
def test_coefficients_are_functions_of_the_time_alone_whatever_its_shape(process: Process) -> None:
    t = torch.linspace(process.t_min, process.t_max, 6, dtype=torch.float64)
    for function in (process.alpha, process.sigma, process.drift, process.diffusion):
        assert torch.equal(function(t.reshape(2, 3)).flatten(), torch.stack([function(one) for one in t]))


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD = [
    (VE, {"sigma_min": 1.0, "sigma_max": 1.0}, "got sigma_min = 1 and sigma_max = 1, expected sigma_min < sigma_max"),
    (VE, {"sigma_min": 2.0, "sigma_max": 1.0}, "expected sigma_min < sigma_max"),
    (VE, {"sigma_min": 0.0}, "greater than 0"),
    (VE, {"sigma_max": math.inf}, "finite"),
    (LinearVE, {"sigma_min": 3.0, "sigma_max": 1.0}, "expected sigma_min < sigma_max"),
    (VP, {"beta_min": 20.0, "beta_max": 0.1}, "expected beta_min < beta_max"),
    (VP, {"t_min": 0.0}, "greater than 0"),
    (SubVP, {"beta_min": 20.0, "beta_max": 0.1}, "expected beta_min < beta_max"),
    (Cosine, {"t_min": 0.5, "t_max": 0.5}, "expected t_min < t_max"),
    (Cosine, {"t_max": 1.0}, "less than 1"),
    (RectifiedFlow, {"t_min": 0.9, "t_max": 0.1}, "expected t_min < t_max"),
    (RectifiedFlow, {"t_max": 1.0}, "less than 1"),
    (Tabulated, {"betas": (0.1,)}, "got 1 betas, expected at least 2"),
    (Tabulated, {"betas": (0.1, 1.0)}, "less than 1"),
    (Tabulated, {"betas": (0.1, 0.0)}, "greater than 0"),
    (Tabulated, {"betas": (0.1, math.nan)}, "than"),
]


@each_case(kind__settings__sentence=BAD)
def test_settings_without_meaning_are_refused_with_a_sentence(kind: type, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(**settings)


@each
def test_a_process_is_frozen_and_equals_its_twin(process: Process) -> None:
    twin = NEEDS_SETTINGS["tabulated"] if isinstance(process, Tabulated) else type(process)()
    assert process == twin
    assert hash(process) == hash(twin)
    with pytest.raises(Exception, match=r"frozen|cannot assign"):
        process.sigma_min = 1.0


def test_still_adds_no_noise_and_leaves_the_data_as_they_are() -> None:
    process, x0 = Noiseless(), torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(process.perturb(x0, torch.zeros(4, dtype=torch.float64), torch.ones_like(x0)), x0)
