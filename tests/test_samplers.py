"""Samplers: what each step does to a Gaussian is known without Monte Carlo, and what the loop promises is held.

On Gaussian data every score is affine, so every step is affine in the state and in the noise. `affine_map` reads the map of a
whole run off from outside (`scorefield.verification.affine`); mean and covariance are then pushed through it exactly.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy
import pytest
import torch
from helpers import between, doubles, each_case
from scipy import integrate, linalg, optimize

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
    SubVP,
    Tabulated,
    geometric,
    registry,
    uniform,
)
from scorefield.samplers import (
    ABM,
    DDIM,
    DEIS,
    Ancestral,
    Annealed,
    Consistent,
    DPMSolver,
    Euler,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
    Snapshot,
    UniPC,
    sample,
    simulate,
)
from scorefield.verification import affine
from scorefield.verification.affine import Scripted

SAMPLERS: dict[str, Any] = {name: kind() for name, kind in registry.every("sampler").items()} | {
    "abm of order 1": ABM(1, corrector=False),
    "abm of order 2": ABM(2, corrector=False),
    "abm of order 2, corrected": ABM(2),
    "abm of order 3, not corrected": ABM(3, corrector=False),
    "ancestral with beta": Ancestral("transition"),
    "ddim with noise": DDIM(eta=0.6),
    "deis of order 2": DEIS(2),
    "dpm-solver++ 3m": DPMSolver(3),
    "dpm-solver++ sde 2m": DPMSolver(2, eta=1.0),
    "dpm-solver++ sde 3m": DPMSolver(3, eta=1.0),
    "heun with churn": Heun(churn=10.0),
    "predictor-corrector over heun": PredictorCorrector(Heun(), corrections=2),
    "unipc of order 2": UniPC(2),
}
JUMPING = {name: sampler for name, sampler in SAMPLERS.items() if sampler.order is not None}
PROCESSES = {
    "ve": VE(0.05, 8.0),
    "vp": VP(),
    "cosine": Cosine(),
    "rectified-flow": RectifiedFlow(),
    "karras": LinearVE(0.05, 8.0),
    "tabulated": Tabulated.linear(1000),
}
each_sampler = each_case(sampler=SAMPLERS)
each_process = each_case(process=PROCESSES)


def in_turn(samplers: dict[str, Any], *families: tuple[str, ...]) -> Any:
    """Every sampler with one process of each family, one after the other, so that every process meets many samplers."""
    names = [[family[i % len(family)] for family in families] for i in range(len(samplers))]
    return pytest.mark.parametrize(("sampler", "names"), list(zip(samplers.values(), names, strict=True)), ids=samplers)


MEAN, COVARIANCE = numpy.array([1.5, -0.5]), numpy.array([[1.5, 0.4], [0.4, 0.3]])


def affine_map(
    field: Any, sampler: Sampler, ladder: torch.Tensor, denoise: bool = False
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """(A, B, c) of x_end = A·x_start + B·z + c, z being all the noise of the run laid end to end."""
    a, b, c = affine.affine_map(field, sampler, ladder, denoise)
    return a.numpy(), b.numpy(), c.numpy()


def push(mean: numpy.ndarray, covariance: numpy.ndarray, run: tuple[numpy.ndarray, ...]) -> tuple[numpy.ndarray, numpy.ndarray]:
    a, b, c = run
    return a @ mean + c, a @ covariance @ a.T + b @ b.T


def moments_at(process: Process, t: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The mean and covariance of x_t when x0 ~ N(MEAN, COVARIANCE)."""
    alpha, sigma = float(process.alpha(doubles(t))), float(process.sigma(doubles(t)))
    return alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * numpy.eye(2)


def draws_no_noise(sampler: Sampler) -> bool:
    field, probe = Gaussian(MEAN, COVARIANCE, VE(0.1, 1.0)), Scripted(1)
    list(simulate(field, sampler, geometric(field.process, 3), torch.zeros(1, 2, dtype=torch.float64), rng=probe))
    return probe.draws == 0


DETERMINISTIC = {name: sampler for name, sampler in JUMPING.items() if draws_no_noise(sampler)}


def short(sampler: Any, steps: int = 12) -> tuple[Any, int]:
    """The sampler and the number of levels of a run of about `steps` steps."""
    return sampler.within(steps)


def ladder_for(sampler: Any, process: Process, levels: int) -> torch.Tensor:
    return registry.find("ladder", sampler.ladder)(process, levels)


# --- declared properties ----------------------------------------------------------------------------------------------


@each_sampler
def test_a_sampler_declares_its_properties(sampler: Any) -> None:
    assert sampler.order is None or sampler.order >= 1
    assert sampler.evaluations_per_step is None or sampler.evaluations_per_step >= 1
    assert sampler.levels >= 1
    assert sampler.ladder in registry.names("ladder")


@each_sampler
def test_a_sampler_within_a_number_of_steps_takes_about_that_many(sampler: Any) -> None:
    for steps in (10, 100):
        within, levels = sampler.within(steps)
        assert type(within) is type(sampler)
        assert abs(levels * within.steps_per_level - steps) <= steps / 2


@each_sampler
def test_the_declared_evaluations_are_the_ones_that_are_made(sampler: Any) -> None:
    """Every step makes them, the last level of a jumping sampler is no step, and the final denoising makes one more."""
    calls = []

    class Counting(Gaussian):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            calls.append(t)
            return super().__call__(x, t, cond)

    short_sampler, levels = short(sampler)
    field = Counting(MEAN, COVARIANCE, VE(0.1, 1.0))
    *_, last = simulate(field, short_sampler, ladder_for(sampler, field.process, levels), rng=SampleRng(range(2)))
    assert len(calls) == last.evaluations
    steps = levels * short_sampler.steps_per_level if sampler.order is None else levels - 1
    if sampler.evaluations_per_step is not None:
        assert len(calls) == steps * sampler.evaluations_per_step + 1


# --- measured order ---------------------------------------------------------------------------------------------------


@pytest.mark.theorem("order-of-a-sampler")
@in_turn(JUMPING, ("vp",), ("ve", "karras"), ("cosine", "rectified-flow", "tabulated"))
@each_case(family=range(3))
def test_the_measured_order_on_a_gaussian_is_the_declared_one(sampler: Any, names: list[str], family: int) -> None:
    """The error of the mean and of the covariance at the end of the ladder, as steps are halved: no Monte Carlo.

    The ladder is part of the range only, in which a tabulated process is cut into whole numbers of its own steps.
    """
    process = PROCESSES[names[family]]
    field = Gaussian(MEAN, COVARIANCE, process)
    low, high = (process.t_min + share * (process.t_max - process.t_min) for share in (0.3, 0.7))
    errors = []
    # The higher the order, the later the first term of the error outweighs the second, and the sooner both are rounding.
    for steps in (50, 100) if sampler.order <= 2 else (80, 160) if sampler.order == 3 else (32, 64):
        ladder = torch.linspace(high, low, steps + 1, dtype=torch.float64)
        mean, covariance = push(*moments_at(process, high), affine_map(field, sampler.at_fixed_steps(), ladder))
        true_mean, true_covariance = moments_at(process, low)
        errors.append(numpy.abs(mean - true_mean).max() + numpy.abs(covariance - true_covariance).max())
    assert errors[1] < 1e-11 or math.log2(errors[0] / errors[1]) >= sampler.order - 0.1, errors


@functools.cache
def along_the_flow_of_a_mixture(process: Process) -> tuple[GaussianMixture, float, float, torch.Tensor, numpy.ndarray]:
    """A mixture, two times, points at the first, and scipy's eighth-order solution of dx/dt = f·x - g²·score/2 there."""
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    low, high = between(process, 0.2), between(process, 0.8)
    start = doubles([-3.0, 1.0], [0.4, 0.1], [2.0, -2.0], [-0.3, -0.4])

    def slope(t: float, x: numpy.ndarray) -> numpy.ndarray:
        time = torch.full((4,), t, dtype=torch.float64)
        state = torch.tensor(x).reshape(4, 2)
        f, g = process.drift(time)[:, None], process.diffusion(time)[:, None]
        return (f * state - g**2 * field(state, time).score / 2).flatten().numpy()

    exact = integrate.solve_ivp(slope, (high, low), start.flatten().numpy(), method="DOP853", rtol=5e-14, atol=5e-14).y[:, -1]
    return field, low, high, start, exact


@pytest.mark.theorem("flow-in-lambda", "order-of-a-sampler", "exponential-step")
@in_turn(DETERMINISTIC, ("vp",), ("ve", "rectified-flow"))
@each_case(family=range(2))
def test_the_measured_order_on_a_mixture_is_the_declared_one(sampler: Any, names: list[str], family: int) -> None:
    """From points between and around the modes."""
    field, low, high, start, exact = along_the_flow_of_a_mixture(PROCESSES[names[family]])
    errors = []
    for steps in (80, 160) if sampler.order <= 2 else (160, 320) if sampler.order == 3 else (60, 120):
        ladder = torch.linspace(high, low, steps + 1, dtype=torch.float64)
        *_, last = simulate(field, sampler.at_fixed_steps(), ladder, start, rng=Scripted(4), denoise=False)
        errors.append(numpy.abs(last.x.flatten().numpy() - exact).max())
    assert math.log2(errors[0] / errors[1]) >= sampler.order - 0.1, errors


@pytest.mark.theorem("exponential-step")
@each_case(process=PROCESSES)
@each_case(sampler=DETERMINISTIC)
def test_on_a_single_point_a_deterministic_sampler_is_exact_in_any_number_of_steps(sampler: Any, process: Process) -> None:
    """The noise is then constant along the path: x = alpha·m + sigma·z with the z of the start."""
    field, z = GaussianMixture([1.0], [[1.0, -2.0]], [0.0], process), doubles([0.3, -1.2])
    ladder = uniform(process, 4)
    alpha, sigma = process.alpha(ladder)[:, None], process.sigma(ladder)[:, None]
    path = alpha * doubles(1.0, -2.0) + sigma * z
    seen = [snapshot.x for snapshot in simulate(field, sampler, ladder, path[:1], rng=Scripted(1), denoise=False)]
    for j in range(4):
        # the score of a point mass, (alpha·m - x)/sigma², is a difference; it is lost by |x|/sigma at every level passed,
        # and x/alpha passes the rounding of x on by the growth of alpha
        growth = float(alpha[j].max() / alpha[: j + 1].min())
        lost = 20 * 2.3e-16 * (1 + 5 / float(sigma[: j + 1].min())) * 5 * growth
        assert bool(((seen[j] - path[j : j + 1]).abs() <= lost).all())


# --- the reverse equation ---------------------------------------------------------------------------------------------

REVERSED = {"euler-maruyama": EulerMaruyama(), "reverse-diffusion": ReverseDiffusion(), "ancestral": Ancestral()}


@pytest.mark.theorem("reverse-sde")
@each_case(sampler=REVERSED, process={"ve": VE(0.05, 8.0), "sub-vp": SubVP()})
def test_two_times_of_a_reverse_run_have_the_joint_law_of_the_forward_process(sampler: Sampler, process: Process) -> None:
    """E[x_s | x_t] and Cov[x_s | x_t] by conditioning the forward pair (x_s, x_t = k·x_s + std·z); the error is of order 1.

    The probability flow has the same two marginals, and no noise: its pairs are others.
    """
    field = Gaussian(MEAN, COVARIANCE, process)
    low, high = between(process, 0.3), between(process, 0.7)
    (_, early), (_, late) = moments_at(process, low), moments_at(process, high)
    k = float(process.transition(doubles(high), doubles(low))[0])
    gain = k * early @ numpy.linalg.inv(late)
    rest = early - k * gain @ early
    errors = []
    for steps in (30, 60):
        a, b, _ = affine_map(field, sampler, torch.linspace(high, low, steps + 1, dtype=torch.float64))
        errors.append(numpy.abs(a - gain).max() + numpy.abs(b @ b.T - rest).max())
    assert math.log2(errors[0] / errors[1]) > 0.9, errors
    flow, _, _ = affine_map(field, Heun(), torch.linspace(high, low, 61, dtype=torch.float64))
    assert numpy.abs(flow - gain).max() > 3 * errors[1]


@pytest.mark.theorem("reverse-diffusion-bias")
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_reversed_steps_that_each_take_a_share_of_the_variance_leave_it_too_large_by_one_over_one_minus_the_share(
    share: float,
) -> None:
    """n steps from the true variance, on VE: v/V = 1/(1 - share) - (1/(1 - share) - 1)·(1 - share)^n."""
    process, c = VE(0.05, 8.0), 1.7
    field = Gaussian([0.4], [[c]], process)
    true = 60.0 * (1 - share) ** torch.arange(9, dtype=torch.float64)
    ladder, limit = process.time_of_sigma((true - c).sqrt()), 1 / (1 - share)
    for n in range(1, 9):
        mean, variance = push(
            *(numpy.array(v) for v in ([0.4], [[60.0]])), affine_map(field, ReverseDiffusion(), ladder[: n + 1])
        )
        assert math.isclose(float(variance.item()) / float(true[n]), limit - (limit - 1) * (1 - share) ** n, rel_tol=1e-10)
        assert math.isclose(mean.item(), 0.4, rel_tol=1e-10)


# --- the steps, against the papers ------------------------------------------------------------------------------------


@pytest.mark.theorem("flow-in-lambda")
@each_process
def test_euler_is_ddim(process: Process) -> None:
    """Song, Meng, Ermon (2021), equation 12 with sigma_t = 0: predict x0, predict the noise, join them one level down."""
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    ladder = uniform(process, 9)[1:-1]
    start = doubles([0.4, 0.1], [-3.0, 1.0])
    x = start
    for t, s in pairwise(ladder):
        view = field(x, t.expand(2))
        x = process.alpha(s) * view.denoised + process.sigma(s) * view.noise
    *_, last = simulate(field, Euler(), ladder, start, rng=Scripted(2), denoise=False)
    numpy.testing.assert_allclose(last.x, x, rtol=1e-11)


def test_heun_is_algorithm_1_of_edm() -> None:
    """Karras et al. (2022), algorithm 1, on sigma(t) = t: d = (x - D(x))/t, an Euler step, and the mean of both slopes."""
    process = LinearVE(0.05, 8.0)
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    ladder = geometric(process, 9)
    start = doubles([0.4, 0.1], [-3.0, 1.0])
    x = start
    for t, s in pairwise(ladder):
        d = (x - field(x, t.expand(2)).denoised) / t
        ahead = x + (s - t) * d
        x = x + (s - t) * (d + (ahead - field(ahead, s.expand(2)).denoised) / s) / 2
    *_, last = simulate(field, Heun(), ladder, start, rng=Scripted(2), denoise=False)
    numpy.testing.assert_allclose(last.x, x, rtol=1e-11)


# --- Langevin ---------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("langevin-bias")
@pytest.mark.parametrize("share", [0.001, 0.1, 1.5])
@each_process
def test_the_stationary_variance_of_plain_langevin_is_v_over_one_minus_tau_over_2v(process: Process, share: float) -> None:
    """The fixed point of one step's map, on every principal axis; its mean is the true one, without bias.

    tau goes up to 3/4 of the largest stable step, which is twice the smallest variance.
    """
    field = Gaussian(MEAN, COVARIANCE, process)
    time = between(process, 0.5)
    true_mean, true_covariance = moments_at(process, time)
    variances, axes = numpy.linalg.eigh(true_covariance)
    tau = share * float(variances.min())
    a, b, c = affine_map(field, Langevin(tau=tau, steps=1), doubles(time))
    stationary = linalg.solve_discrete_lyapunov(a, b @ b.T)
    numpy.testing.assert_allclose(
        stationary, axes @ numpy.diag(variances / (1 - tau / (2 * variances))) @ axes.T, rtol=1e-9, atol=1e-10
    )
    numpy.testing.assert_allclose(numpy.linalg.solve(numpy.eye(2) - a, c), true_mean, rtol=1e-9)


def test_plain_langevin_without_a_step_size_takes_a_tenth_of_the_variance_of_the_noise() -> None:
    process = VE(0.05, 8.0)
    field = Gaussian([0.0, 0.0], COVARIANCE, process)
    _, b, _ = affine_map(field, Langevin(steps=1), doubles(0.0))
    numpy.testing.assert_allclose(b, math.sqrt(2 * 0.1 * 0.05**2) * numpy.eye(2), rtol=1e-13, atol=1e-17)


def steps_seen(field: Any, sampler: Sampler, ladder: torch.Tensor) -> tuple[list[float], list[float], list[float]]:
    """(time, tau by the drift, tau by the noise) of every step of a run on N(0, ·), measured from outside.

    Row 0 starts at 1 and gets no noise; row 1 gets 1 at every draw. With s = -k·x a step multiplies by 1 - tau·k and adds
    sqrt(2·tau)·z, so both taus can be solved for.
    """

    def script(k: int, draw: torch.Tensor) -> None:
        draw[1] = 1.0

    snapshots = list(simulate(field, sampler, ladder, doubles([1.0], [0.0]), rng=Scripted(2, script), denoise=False))
    times, drifts, noises = [], [], []
    for before, after in pairwise(snapshots):
        level = (after.step - 1) // sampler.steps_per_level
        t = float(ladder[level])
        slope = 1 / (float(field.covariance) + float(field.process.sigma(doubles(t))) ** 2)
        (x0, x1), (y0, y1) = before.x.flatten().tolist(), after.x.flatten().tolist()
        times.append(t)
        drifts.append((1 - y0 / x0) / slope)
        noises.append((y1 - (y0 / x0) * x1) ** 2 / 2)
    return times, drifts, noises


@pytest.mark.theorem("annealed-step")
@pytest.mark.parametrize("sampler", [Annealed(3, eps=1e-5), Annealed.from_ncsn(steps=4)], ids=["annealed", "from_ncsn"])
def test_annealed_steps_are_eps_times_the_variance_of_the_level_over_the_smallest(sampler: Annealed) -> None:
    """tau_j = eps·sigma_j²/sigma_min², in the drift and in the noise, with j = i // k; eps of the code of NCSN is ours."""
    process = VE(0.01, 1.0)
    field, ladder = Gaussian([0.0], [[0.5]], process), geometric(process, 10)
    times, drifts, noises = steps_seen(field, sampler, ladder)
    eps = {3: 1e-5, 4: 2e-5}[sampler.steps_per_level]
    sigma = [10 ** (-2 * (i // sampler.steps_per_level) / 9) for i in range(10 * sampler.steps_per_level)]
    numpy.testing.assert_allclose(noises, [eps * s**2 / 0.01**2 for s in sigma], rtol=1e-9)
    numpy.testing.assert_allclose(drifts, [eps * s**2 / 0.01**2 for s in sigma], rtol=1e-9)
    assert times == [float(ladder[i // sampler.steps_per_level]) for i in range(10 * sampler.steps_per_level)]


@pytest.mark.theorem("annealed-step")
def test_from_ncsn_is_the_published_setting() -> None:
    """Song and Ermon (2019): 100 steps a level with 2e-5, so 0.2 on the first of the levels 1 to 0.01."""
    sampler, process = Annealed.from_ncsn(), VE(0.01, 1.0)
    assert sampler.steps_per_level == 100
    _, _, noises = steps_seen(Gaussian([0.0], [[0.5]], process), replace(sampler, steps_per_level=1), geometric(process, 10))
    assert math.isclose(noises[0], 0.2, rel_tol=1e-9)
    assert math.isclose(noises[-1], 2e-5, rel_tol=1e-9)


@pytest.mark.theorem("variance-after-steps")
@pytest.mark.parametrize("gamma", [1.04, 1.668])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_annealed_without_eps_keeps_the_variance_closest_to_the_levels(gamma: float, steps: int) -> None:
    """On a single data point and two levels: no other eps brings the variance nearer to the second level's after k steps."""
    field = GaussianMixture([1.0], [[0.0]], [0.0], VE(0.01, 0.01 * gamma))
    ladder = geometric(field.process, 2)

    def misfit(eps: float | None) -> float:
        a, b, _ = affine_map(field, Annealed(steps, eps), ladder)
        # 2k equal shrinkages multiply x by a, so k of them multiply its variance by a; the last k draws are the second level's.
        return abs(a.item() * gamma**2 + float((b[0, -steps:] ** 2).sum()) / 0.01**2 - 1)

    best = optimize.minimize_scalar(
        lambda log_eps: misfit(math.exp(log_eps)), bounds=(math.log(1e-8), math.log(0.9e-4)), method="bounded"
    )
    assert misfit(None) <= best.fun * (1 + 1e-6)


@each_process
def test_annealed_langevin_is_the_same_in_x_over_alpha_whatever_the_process(process: Process) -> None:
    """x/alpha has noise of level sigma/alpha on every process, so the same levels give the same mean and covariance as on VE.

    In particular the mean, right at the start, stays right: a step that forgets that alpha grew leaves the old one in x.
    """
    ends = []
    for which in (process, LinearVE(0.05, 8.0)):
        ladder = which.time_of_sigma(torch.tensor(0.7 ** numpy.arange(9)))
        first, last = (float(which.alpha(t)) for t in ladder[[0, -1]])
        run = affine_map(Gaussian(MEAN, COVARIANCE, which), Annealed(3), ladder)
        mean, covariance = push(first * MEAN, first**2 * (COVARIANCE + numpy.eye(2)), run)
        ends.append((mean / last, covariance / last**2))
    numpy.testing.assert_allclose(ends[0][0], MEAN, rtol=1e-10)
    numpy.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-10)


def test_the_score_is_evaluated_at_the_previous_state_and_at_the_levels_own_time() -> None:
    asked: list[tuple[torch.Tensor, float]] = []

    class Listening(Gaussian):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            asked.append((x, float(t[0])))
            return super().__call__(x, t, cond)

    field = Listening(MEAN, COVARIANCE, VE(0.1, 1.0))
    ladder = geometric(field.process, 4)
    snapshots = list(simulate(field, Annealed(3), ladder, rng=SampleRng(range(2))))
    for i, (x, t) in enumerate(asked[:-1]):
        assert torch.equal(x, snapshots[i].x)
        assert t == float(ladder[i // 3])
    assert asked[-1][1] == float(ladder[-1])


# --- two modes with weights 0.8 and 0.2 -------------------------------------------------------------------------------

PAIR = GaussianMixture([0.8, 0.2], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0], VE(0.01, 10.0))
SAMPLES = 2000


def share_on_the_left(x: torch.Tensor) -> float:
    return float((x[:, 0] < 0).double().mean())


@pytest.mark.theorem("annealed-share")
def test_annealed_langevin_gives_two_modes_their_weights() -> None:
    """With 200 levels of 20 steps. The lag of a finite ladder behind its levels is 0.006 here, well inside 5 standard errors;
    with 10 levels of 100 steps it would be 0.055, and outside."""
    x = sample(PAIR, Annealed(20), geometric(PAIR.process, 200), rng=SampleRng(range(SAMPLES)))
    assert abs(share_on_the_left(x) - 0.8) < 5 * math.sqrt(0.8 * 0.2 / SAMPLES)


@pytest.mark.theorem("share-of-the-start")
def test_plain_langevin_at_one_level_keeps_the_weights_of_its_start() -> None:
    """From N(0, 10²), half of the samples begin on either side, and stay there: 0.5, which is 33 standard errors from 0.8."""
    rng = SampleRng(range(SAMPLES))
    start = 10 * rng.normal((2,))
    *_, last = simulate(PAIR, Langevin(tau=0.1, steps=300), doubles(0.0), start, rng=rng)
    share = share_on_the_left(last.x)
    assert abs(share - 0.8) > 5 * math.sqrt(0.8 * 0.2 / SAMPLES)
    assert abs(share - share_on_the_left(start)) < 5 * math.sqrt(0.25 / SAMPLES)
    near = (last.x[:, 0].abs() - 5).abs() < 5  # they have long arrived in the modes: it is not that they need more time
    assert bool(near.all())


# --- consistent annealed sampling -------------------------------------------------------------------------------------


@each_case(eta=[None, 0.5, 1.0, 1.3])
@each_process
def test_consistent_sampling_puts_the_noise_on_every_level_exactly(process: Process, eta: float | None) -> None:
    """On a single data point m: from N(alpha_0·m, sigma_0²) every step leads to N(alpha_j·m, sigma_j²), whatever eta."""
    point = numpy.array([1.0, -2.0])
    field = GaussianMixture([1.0], [point.tolist()], [0.0], process)
    ladder = process.time_of_sigma(torch.tensor(0.7 ** numpy.arange(9)))  # 1 - 0.7 < eta < 1 + 0.7
    alpha, sigma = process.alpha(ladder).numpy(), process.sigma(ladder).numpy()
    for j in range(1, 9):
        mean, covariance = push(
            alpha[0] * point, sigma[0] ** 2 * numpy.eye(2), affine_map(field, Consistent(eta), ladder[: j + 1])
        )
        numpy.testing.assert_allclose(mean, alpha[j] * point, rtol=1e-10)
        numpy.testing.assert_allclose(covariance, sigma[j] ** 2 * numpy.eye(2), rtol=1e-10, atol=1e-14)


def test_consistent_sampling_of_itself_draws_from_the_posterior_of_the_next_level() -> None:
    """Bayes: given x0 (here known) and x_t = x0 + sigma·z, x_s is normal with weights by precision; a VE process."""
    process = VE(0.1, 2.0)
    ladder = geometric(process, 2)
    field = GaussianMixture([1.0], [[0.0]], [0.0], process)
    a, b, _ = affine_map(field, Consistent(), ladder)
    s2, t2 = 0.1**2, 2.0**2
    precision = 1 / s2 + 1 / (t2 - s2)  # of x_s given x0 = 0 and x_t: prior N(0, s²) and likelihood N(x_t; x_s, t² - s²)
    assert math.isclose((b @ b.T).item(), 1 / precision, rel_tol=1e-12)
    assert math.isclose(a.item(), 1 / (t2 - s2) / precision, rel_tol=1e-12)


@pytest.mark.parametrize("eta", [0.1, 1.9])
def test_consistent_sampling_refuses_an_eta_that_cannot_reach_the_next_level(eta: float) -> None:
    field = Gaussian(MEAN, COVARIANCE, VE(0.1, 10.0))
    with pytest.raises(ScorefieldError, match=rf"got eta = {eta} for neighbouring levels of ratio .*, expected 0\..* to 1\."):
        sample(field, Consistent(eta), geometric(field.process, 5), rng=SampleRng([0]))


# --- the loop ---------------------------------------------------------------------------------------------------------


def run(sampler: Any, rng: SampleRng, process: Process | None = None, **more: Any) -> Iterator[Snapshot]:
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process or VE(0.1, 5.0))
    sampler, levels = short(sampler)
    return simulate(field, sampler, ladder_for(sampler, field.process, levels), rng=rng, **more)


@each_sampler
def test_a_sample_is_the_same_alone_and_in_a_batch_of_64(sampler: Any) -> None:
    *_, whole = run(sampler, SampleRng(range(64)))
    for i in (0, 17, 63):
        *_, alone = run(sampler, SampleRng([i]))
        numpy.testing.assert_allclose(alone.x[0], whole.x[i], rtol=0, atol=1e-12)


class Turns:
    """A field whose answer is the score for one sample, the denoised sample for the next: a and c of their own."""

    def __init__(self, field: GaussianMixture) -> None:
        self.exact, self.process, self.shape = field, field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        seen, a = self.exact(x, t), (torch.arange(len(x)) % 2).double()
        return Prediction(self.process, x, t, torch.where(a[:, None] > 0, seen.denoised, seen.score), a, 1 - a)


@each_sampler
def test_a_field_may_answer_each_sample_in_terms_of_its_own(sampler: Any) -> None:
    """The loop takes one a, c and time for all samples where they are the same; here they are not."""
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], VP())
    short_sampler, levels = short(sampler)
    ladder = ladder_for(sampler, field.process, levels)
    found, expected = (sample(one, short_sampler, ladder, rng=SampleRng(range(6))) for one in (Turns(field), field))
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@each_sampler
def test_the_same_seeds_give_the_same_samples_and_others_others(sampler: Any) -> None:
    first, again, other = (list(run(sampler, SampleRng(range(s, s + 5))))[-1].x for s in (0, 0, 5))
    assert torch.equal(first, again)
    assert bool((first != other).all())


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 2, 2)], ids=["an image", "a volume"])
@each_sampler
def test_samples_of_an_image_or_a_volume_are_those_of_its_numbers_as_a_vector(sampler: Any, shape: tuple[int, ...]) -> None:
    means = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    short_sampler, levels = short(sampler)
    ends = []
    for shaped in (means, means.flatten(1)):
        field = GaussianMixture([1, 1], shaped, [0.5, 0.3], VE(0.1, 5.0))
        ends.append(sample(field, short_sampler, ladder_for(sampler, field.process, levels), rng=SampleRng(range(4))))
    assert ends[0].shape == (4, *shape)
    numpy.testing.assert_allclose(ends[0].flatten(1), ends[1], rtol=0, atol=1e-12)


@each_process
def test_the_loop_starts_from_the_mean_and_spread_of_noised_data(process: Process) -> None:
    """alpha·mean for zero noise, and the root of alpha²·Var + sigma² beside it for unit noise."""
    field = Gaussian([1.5, -0.5], [[2.0, 0.0], [0.0, 2.0]], process)

    def script(k: int, draw: torch.Tensor) -> None:
        draw[1] = 1.0

    x = next(simulate(field, Euler(), uniform(process, 3), rng=Scripted(2, script))).x
    mean, _ = moments_at(process, process.t_max)
    alpha, sigma = float(process.alpha(doubles(process.t_max))), float(process.sigma(doubles(process.t_max)))
    numpy.testing.assert_allclose(x[0], mean, rtol=1e-14)
    numpy.testing.assert_allclose(x[1] - x[0], math.sqrt(2 * alpha**2 + sigma**2), rtol=1e-13)


@pytest.mark.theorem("final-denoise")
@each_sampler
def test_the_run_ends_with_the_posterior_mean_of_its_last_state(sampler: Any) -> None:
    process = VE(0.1, 5.0)
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    *_, before, last = run(sampler, SampleRng(range(5)), process)
    expected = before.x + 0.1**2 * field(before.x, torch.full((5,), process.t_min, dtype=torch.float64)).score
    numpy.testing.assert_allclose(last.x, expected, rtol=0, atol=1e-13)
    assert last.t == 0.0
    *_, raw = run(sampler, SampleRng(range(5)), process, denoise=False)
    assert torch.equal(raw.x, before.x)


@each_sampler
def test_snapshots_count_the_steps_and_the_evaluations_never_fall(sampler: Any) -> None:
    snapshots = list(run(sampler, SampleRng(range(2))))
    assert [snapshot.step for snapshot in snapshots] == list(range(len(snapshots)))
    assert {snapshot.steps for snapshot in snapshots} == {len(snapshots) - 1}
    assert snapshots[0].evaluations == 0
    assert all(a.evaluations <= b.evaluations for a, b in pairwise(snapshots))
    assert all(snapshot.x.dtype == torch.float64 and not snapshot.x.requires_grad for snapshot in snapshots)


@each_sampler
@each_case(hold=[1, 3])
def test_a_snapshots_time_is_the_one_at_which_its_state_lives(sampler: Any, hold: int) -> None:
    """After a Langevin step x still has the noise of its level; after a jump it has that of the next; at the end none."""
    names = {"steps_per_level", "steps"} & set(type(sampler).__dataclass_fields__)
    held = replace(sampler, **dict.fromkeys(names, hold))
    field = Gaussian(MEAN, COVARIANCE, VE(0.1, 5.0))
    ladder = geometric(field.process, 4)
    times = [snapshot.t for snapshot in simulate(field, held, ladder, rng=SampleRng([0]))]
    steps = ladder.tolist()
    if sampler.order is None:
        assert times == [steps[0], *[t for t in steps for _ in range(held.steps_per_level)], 0.0]
    else:
        assert times == [*steps, steps[-1], 0.0]


def test_a_given_start_is_used_as_it_is_and_one_of_the_wrong_shape_is_refused() -> None:
    field, start = Gaussian(MEAN, COVARIANCE, VE(0.1, 5.0)), doubles([7.0, 8.0])
    assert torch.equal(next(simulate(field, Euler(), geometric(field.process, 3), start, rng=SampleRng([0]))).x, start)
    with pytest.raises(ScorefieldError, match=r"got a start of shape \(1, 2\), expected \(2, 2\): one sample per seed"):
        next(simulate(field, Euler(), geometric(field.process, 3), start, rng=SampleRng([0, 1])))


class Spoilt(Gaussian):
    """A field whose score is NaN (or infinite) for one sample below a time."""

    def __init__(self, below: float, value: float, which: int) -> None:
        super().__init__(MEAN, COVARIANCE, VE(0.1, 5.0))
        self.below, self.value, self.which = below, value, which

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        score = super().__call__(x, t, cond).score.clone()
        if float(t[0]) < self.below:
            score[self.which] = self.value
        return Prediction.of_score(self.process, x, t, score)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_stops_the_loop_and_is_named(value: float) -> None:
    """Times 1, 3/4, 1/2, 1/4, 0 with 2 steps each: the first bad score is that of step 5, at t = 0.5."""
    field = Spoilt(0.6, value, which=1)
    snapshots = simulate(field, Annealed(2), geometric(field.process, 5), rng=SampleRng(range(3)))
    seen = []
    with pytest.raises(NotFinite, match=r"got NaN or infinity in 1 of 3 samples at step 5 \(t = 0\.5\) of Annealed"):
        seen.extend(snapshot.step for snapshot in snapshots)
    assert seen == [0, 1, 2, 3, 4]


@each_sampler
def test_every_sampler_stops_at_a_nan(sampler: Any) -> None:
    field = Spoilt(2.0, math.nan, which=0)
    short_sampler, levels = short(sampler)
    with pytest.raises(NotFinite, match=r"in 1 of 2 samples at step 1 |for example 0"):
        sample(field, short_sampler, ladder_for(sampler, field.process, levels), rng=SampleRng(range(2)))


BAD_LADDERS = {
    "turned round": (lambda ladder: ladder.flip(0), "do not turn it round"),
    "standing still": (lambda ladder: ladder[[0, 1, 1, 2]], "do not fall strictly"),
    "empty": (lambda ladder: ladder[:0], "got a ladder of 0 times"),
    "too noisy": (lambda ladder: ladder + 0.5, r"got times from 1\.5 to 0\.5, expected them inside \[0, 1\]"),
    "too clean": (lambda ladder: ladder - 0.5, r"expected them inside \[0, 1\]"),
    "not a number": (lambda ladder: ladder * math.nan, "got"),
    "of levels instead of times": (lambda ladder: VE(0.1, 5.0).sigma(ladder), r"expected them inside \[0, 1\]"),
}


@each_sampler
@each_case(bad=BAD_LADDERS)
def test_a_ladder_that_does_not_fall_inside_the_range_is_refused(sampler: Any, bad: tuple[Any, str]) -> None:
    spoil, sentence = bad
    field = Gaussian(MEAN, COVARIANCE, VE(0.1, 5.0))
    with pytest.raises(ScorefieldError, match=sentence) as refusal:
        next(simulate(field, short(sampler)[0], spoil(uniform(field.process, 5)), rng=SampleRng([0])))
    assert not isinstance(refusal.value, NotFinite)  # refused before it is used, not after


def test_a_ladder_below_the_smallest_time_of_its_process_is_refused() -> None:
    """VP stops at t = 0.001, for at 0 there is no noise to divide by."""
    field = Gaussian(MEAN, COVARIANCE, VP())
    with pytest.raises(ScorefieldError, match=r"expected them inside \[0\.001, 1\]"):
        next(simulate(field, Euler(), doubles(1.0, 0.5, 0.0), rng=SampleRng([0])))


@pytest.mark.theorem("probability-flow")
def test_samples_of_a_fine_deterministic_run_have_the_distribution_of_the_data() -> None:
    """End to end on a Gaussian, without Monte Carlo: the map of the whole run, its start and its last step included.

    The start, N(alpha·mean, alpha²·std² + sigma²), has the mean of the data's variances; that and the final Tweedie step are
    the only errors left, and both are known: the covariance that must come out is computed for them by hand.
    """
    process = VE(0.01, 50.0)
    field = Gaussian(MEAN, COVARIANCE, process)
    mean, covariance = push(
        MEAN, (0.9 + 50.0**2) * numpy.eye(2), affine_map(field, Heun(), geometric(process, 400), denoise=True)
    )
    variances, axes = numpy.linalg.eigh(COVARIANCE)
    flow = (variances + 0.01**2) / (variances + 50.0**2)  # the probability flow scales an axis by the ratio of its deviations
    shrink = (variances / (variances + 0.01**2)) ** 2  # the posterior mean
    expected = axes @ numpy.diag((0.9 + 50.0**2) * flow * shrink) @ axes.T
    coarse = push(MEAN, (0.9 + 50.0**2) * numpy.eye(2), affine_map(field, Heun(), geometric(process, 200), denoise=True))[1]
    numpy.testing.assert_allclose(mean, MEAN, rtol=1e-9)
    # Heun's error is of second order: taking it away by extrapolation from 199 and 399 steps must leave far less than it was.
    extrapolated = covariance + (covariance - coarse) / ((399 / 199) ** 2 - 1)
    assert numpy.abs(covariance - expected).max() < numpy.abs(coarse - expected).max() / 3.5
    assert numpy.abs(extrapolated - expected).max() < numpy.abs(covariance - expected).max() / 20
