"""Denoising score matching in its variants: sums over levels, little noise, noise of any covariance, weights that learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from helpers import Learner, OfScore, standard_error, within_five
from torch.distributions import MultivariateNormal

from scorefield import VE, VP, Gaussian, LogNormal, Prediction, RectifiedFlow, SampleRng, ScorefieldError, Tabulated, Uniform
from scorefield.levels import Level, Levels, Steps
from scorefield.objectives.denoising import Denoising, DenoisingMatrix
from scorefield.objectives.weightings import Learned, LevelTable, Likelihood, MinSNR, Unweighted

N = 20_000
PROCESS = VE(0.3, 3.0)
MEAN, SPREAD = [0.8, -0.5], [[1.3, 0.4], [0.4, 0.6]]
COLOUR = ((0.9, -0.5), (-0.5, 1.4))


def gaussian(process: Any = PROCESS) -> Gaussian:
    return Gaussian(MEAN, SPREAD, process)


def wrong(true: Any, c: float = 0.7) -> OfScore:
    return OfScore(true, lambda x, t: true(x, t).score + c * torch.sin(x + 1))


# --- the constant -------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("denoising-loss", "denoising-constant")
@pytest.mark.parametrize("process", [PROCESS, VP(t_min=0.05)], ids=["ve", "vp"])
@pytest.mark.parametrize("ratio", [0.4, 2.0])
def test_the_loss_is_the_divergence_plus_half_the_variance_of_the_target_whatever_the_model(process: Any, ratio: float) -> None:
    """On a Gaussian both are known: E‖s‖² = tr S⁻¹ with S = alpha²·SPREAD + sigma²·I, and C = 1/2·(d/sigma² - tr S⁻¹)."""
    true, t = gaussian(process), process.time_of_sigma(torch.tensor([ratio], dtype=torch.float64))
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    total = alpha**2 * numpy.array(SPREAD) + sigma**2 * numpy.eye(2)
    square = float(numpy.trace(numpy.linalg.inv(total)))
    constant, h = 0.5 * (2 / sigma**2 - square), torch.tensor([1.0, -0.5], dtype=torch.float64) / sigma
    models = {  # each with its divergence
        "the truth": (true, 0.0),
        "shifted": (OfScore(true, lambda x, t: true(x, t).score + h), 0.5 * float(h @ h)),
        "halved": (OfScore(true, lambda x, t: 0.5 * true(x, t).score), 0.125 * square),
        "nothing": (OfScore(true, lambda x, t: 0 * x), 0.5 * square),
        "its negative": (OfScore(true, lambda x, t: -true(x, t).score), 2 * square),
    }
    x0 = true.sample(SampleRng(range(N)))
    for model, divergence in models.values():
        loss = Denoising(Level(ratio), Unweighted())(model, x0, rng=SampleRng(range(N), stream=1))
        assert within_five(loss, divergence + constant)
        assert not within_five(loss, divergence + 1 / sigma**2) and not within_five(loss, divergence + 2 * constant)


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "process", [VE(0.3, 3.0), VP(), RectifiedFlow(), Tabulated.linear(50)], ids=["ve", "vp", "rectified-flow", "tabulated"]
)
def test_one_level_is_the_one_that_was_stated(process: Any) -> None:
    field = wrong(gaussian(process))
    x0 = gaussian().sample(SampleRng(range(8)))
    for every_level in (False, True):
        Denoising(Level(0.45), every_level=every_level)(field, x0, rng=SampleRng(range(8)))
    ratios = torch.cat([process.sigma(t) / process.alpha(t) for _, t in field.asked])
    assert len(field.asked) == 2
    numpy.testing.assert_allclose(ratios, 0.45, rtol=1e-6 if isinstance(process, Tabulated) else 1e-12)


@pytest.mark.parametrize("ratio", [0.29, 3.1])
def test_a_level_that_the_process_does_not_reach_is_refused(ratio: float) -> None:
    with pytest.raises(ScorefieldError, match=r"expected one from 0\.3 to 3"):
        Denoising(Level(ratio))(gaussian(), torch.zeros(2, 2), rng=SampleRng(range(2)))


DENSITIES = [Uniform(), LogNormal(0.0, 0.8), Levels(5), Level(1.0)]
each_density = pytest.mark.parametrize("density", DENSITIES, ids=lambda density: type(density).__name__)


@pytest.mark.theorem("ncsn-loss")
@pytest.mark.theorem("loss-floor")
@pytest.mark.parametrize("slope", [None, 0.4])
def test_the_loss_of_a_linear_score_over_the_levels_of_a_ladder_is_known_by_hand(slope: float | None) -> None:
    """For s = -k·x and x0 ~ N(0, v): E(sigma·s + noise)² = sigma²·k²·v + (1 - sigma²·k)², v/(v + sigma²) for the true k."""
    v, process = 1.7, VE(0.2, 5.0)
    true = Gaussian([0.0], [[v]], process)
    field = true if slope is None else OfScore(true, lambda x, t: -slope * x)
    x0 = true.sample(SampleRng(range(N)))
    squares = (5.0 * (0.2 / 5.0) ** (numpy.arange(6) / 5)) ** 2
    truth = v / (v + squares) if slope is None else squares * slope**2 * v + (1 - squares * slope) ** 2
    for every_level in (False, True):
        loss = Denoising(Levels(6), every_level=every_level)(field, x0, rng=SampleRng(range(N), stream=1))
        assert within_five(loss, 0.5 * truth.mean())
    assert not within_five(loss, truth.mean())
    assert not within_five(loss, 0.5 * truth[1:].mean())  # a level less


@each_density
@pytest.mark.parametrize("levels", [None, 4])
def test_every_level_of_any_density_has_the_expectation_of_one_drawn(density: Any, levels: int | None) -> None:
    """With 4 parts of 5 levels too, where each part is drawn from and not represented by its middle."""
    field, n = wrong(gaussian()), 8000
    drawn = Denoising(density)(field, gaussian().sample(SampleRng(range(n))), rng=SampleRng(range(n), stream=1))
    summed = Denoising(density, every_level=True, levels=levels)(
        field, gaussian().sample(SampleRng(range(n), stream=2)), rng=SampleRng(range(n), stream=3)
    )
    assert within_five(drawn, summed)
    assert not within_five(drawn, 1.2 * summed)
    if levels != 4 or not isinstance(density, Level):
        parts = levels or density.parts(PROCESS)
        assert parts == 1 or float(summed.var()) < float(drawn.var())


@each_density
def test_every_level_asks_the_field_once_in_each_part_of_equal_probability(density: Any) -> None:
    field, x0 = wrong(gaussian()), gaussian().sample(SampleRng(range(200)))
    Denoising(density, every_level=True, levels=5)(field, x0, rng=SampleRng(range(200)))
    assert len(field.asked) == 5
    for part, (_, t) in enumerate(field.asked):
        edges = density.quantile(PROCESS, torch.tensor([part + 1e-9, part + 1 - 1e-9], dtype=torch.float64) / 5)
        assert bool(((t >= edges[0]) & (t <= edges[1])).all())
    times = torch.cat([t for _, t in field.asked])
    if isinstance(density, (Levels, Level)):
        assert len(times.unique()) == density.parts(PROCESS)
    else:  # a log-normal puts what is outside the range at its ends
        assert len(times[(times > PROCESS.t_min) & (times < PROCESS.t_max)].unique()) > 800


def test_a_density_knows_how_many_levels_it_has() -> None:
    chain = Tabulated.linear(30)
    assert [d.parts(chain) for d in (Levels(7), Level(), Steps(), Steps(4), Uniform())] == [7, 1, 30, 4, 10]


# --- the control variate ----------------------------------------------------------------------------------------------


@pytest.mark.theorem("control-variate")
@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
def test_the_control_variate_leaves_the_expectation_as_it_is(ratio: float) -> None:
    field, x0 = wrong(gaussian()), gaussian().sample(SampleRng(range(N)))
    plain, controlled = (
        Denoising(Level(ratio), control_variate=on)(field, x0, rng=SampleRng(range(N), stream=1)) for on in (False, True)
    )
    assert within_five(plain - controlled, 0.0)
    # the noise's own part, d/(2·sigma²)·lambda = 1, is kept as its mean: without it this would fail
    assert not within_five(plain - controlled + 1, 0.0)


@pytest.mark.theorem("loss-variance")
@pytest.mark.parametrize("sigma", [1e-1, 1e-2, 1e-3])
def test_the_variance_stays_bounded_as_the_noise_vanishes_where_the_plain_one_diverges(sigma: float) -> None:
    """For N(0, 1) the bracket is 1/2·(1 + sigma²)⁻²·x² - noise²/(1 + sigma²) + const: variance 1/2 + 2 as sigma -> 0.

    The plain loss is 1/2·y² with y = noise/sigma - x_t/(1 + sigma²), a Gaussian, so its variance is half of Var[y]² ~ 1/sigma⁴.
    """
    true = Gaussian([0.0], [[1.0]], VE(1e-4, 10.0))
    x0 = true.sample(SampleRng(range(N)))
    plain, controlled = (
        Denoising(Level(sigma), Unweighted(), control_variate=on)(true, x0, rng=SampleRng(range(N), stream=1))
        for on in (False, True)
    )

    def variance(loss: torch.Tensor) -> tuple[float, float]:
        """Of the losses, with its standard error from the fourth moment."""
        square = (loss - loss.mean()) ** 2
        return float(square.mean()), float(square.std()) / math.sqrt(N)

    v = 1 / sigma**2 - 1 / (1 + sigma**2)  # of y
    found, error = variance(plain)
    assert abs(found - v**2 / 2) < 5 * error
    found, error = variance(controlled)
    # 1/2·x0² - noise² up to terms of size sigma, whose covariances vanish by symmetry up to sigma²
    assert abs(found - 2.5) < 5 * error + 20 * sigma**2
    assert abs(found - 2.5) < 1


def test_gradients_keep_their_expectation_and_lose_their_variance() -> None:
    """The slope of every example's loss by k, for the score -k·x + sin x at sigma = 0.01."""
    true = Gaussian([0.0], [[1.0]], VE(1e-3, 10.0))
    x0 = true.sample(SampleRng(range(N)))

    def slopes(on: bool) -> torch.Tensor:
        ks = torch.full((N, 1), 0.6, dtype=torch.float64, requires_grad=True)
        field = OfScore(true, lambda x, t: torch.sin(x) - ks * x)
        loss = Denoising(Level(0.01), Unweighted(), control_variate=on)(field, x0, rng=SampleRng(range(N), stream=1))
        return torch.autograd.grad(loss.sum(), ks)[0][:, 0]

    plain, controlled = slopes(False), slopes(True)
    assert within_five(plain - controlled, 0.0)
    # d/dk of 1/2·E s² + E s' (Hyvarinen's form, which this becomes as sigma -> 0) = k·E x² - E x·sin x - 1, E x·sin x = e^-1/2
    assert abs(float(controlled.mean()) - (0.6 - math.exp(-0.5) - 1)) < 5 * standard_error(controlled) + 1e-3
    assert float(controlled.var()) < 1e-3 * float(plain.var())


def test_the_control_variate_costs_one_more_evaluation_at_the_unnoised_point() -> None:
    field, x0 = wrong(gaussian(VP())), gaussian().sample(SampleRng(range(5)))
    t = Denoising(control_variate=True).terms(field, x0, rng=SampleRng(range(5))).t
    assert t is not None
    (_, first), (x, second) = field.asked
    assert torch.equal(first, t)
    assert torch.equal(second, t)
    numpy.testing.assert_allclose(x, field.process.alpha(t)[:, None] * x0, rtol=1e-14)


# --- noise of any covariance ------------------------------------------------------------------------------------------


def coloured(process: Any, colour: Any) -> OfScore:
    """The score of N(MEAN, SPREAD) under noise of covariance sigma²·C: the truth that the objective should find."""
    mean, spread = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(SPREAD, dtype=torch.float64)
    matrix = torch.tensor(colour, dtype=torch.float64)
    matrix = torch.diag(matrix.expand(2)) if matrix.ndim == 1 else matrix

    def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = process.alpha(t), process.sigma(t)
        total = alpha[:, None, None] ** 2 * spread + sigma[:, None, None] ** 2 * matrix
        return -torch.linalg.solve(total, x - alpha[:, None] * mean)

    return OfScore(gaussian(process), score)


each_norm = pytest.mark.parametrize("norm", ["noise", "identity"])
each_colour = pytest.mark.parametrize("colour", [(0.5,), (0.4, 2.0), COLOUR], ids=["number", "diagonal", "matrix"])
each_process = pytest.mark.parametrize("process", [PROCESS, VP(t_min=0.3)], ids=["ve", "vp"])


@pytest.mark.theorem("noising-score")
@each_norm
@each_colour
@each_process
def test_the_loss_is_the_error_against_the_gradient_of_the_noising_density(norm: Any, colour: Any, process: Any) -> None:
    """1/2·sigma²·(error' C error or |error|²), the target by automatic differentiation of torch's own Gaussian."""
    field = wrong(gaussian(process))
    x0 = gaussian().sample(SampleRng(range(40)))
    loss = DenoisingMatrix(colour, Uniform(), norm=norm)(field, x0, rng=SampleRng(range(40), stream=1))
    ((x, t),) = field.asked
    matrix = torch.tensor(colour, dtype=torch.float64)
    matrix = torch.diag(matrix.expand(2)) if matrix.ndim == 1 else matrix
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)
    asked = x.clone().requires_grad_(True)
    density = MultivariateNormal(alpha * x0, sigma[:, None, None] ** 2 * matrix).log_prob(asked)
    (target,) = torch.autograd.grad(density.sum(), asked)
    error = field.score(x, t) - target
    weighed = error @ matrix if norm == "noise" else error
    numpy.testing.assert_allclose(loss, 0.5 * sigma**2 * (error * weighed).sum(1), rtol=1e-9)


@each_colour
def test_the_noise_has_the_covariance_that_was_asked_for(colour: Any) -> None:
    field, x0 = wrong(gaussian()), torch.zeros(N, 2, dtype=torch.float64)
    DenoisingMatrix(colour, Level(2.0))(field, x0, rng=SampleRng(range(N)))
    ((x, _),) = field.asked
    matrix = torch.tensor(colour, dtype=torch.float64)
    matrix = 4 * (torch.diag(matrix.expand(2)) if matrix.ndim == 1 else matrix)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        assert within_five(x[:, i] * x[:, j], float(matrix[i, j]))


@each_norm
@each_colour
@each_process
def test_the_excess_is_the_divergence_in_the_norm_and_the_coloured_score_its_minimum(
    norm: Any, colour: Any, process: Any
) -> None:
    true, objective = coloured(process, colour), DenoisingMatrix(colour, Uniform(), norm=norm)
    x0 = gaussian().sample(SampleRng(range(N)))
    bent = wrong(true)
    excess = objective(bent, x0, rng=SampleRng(range(N), stream=1)) - objective(true, x0, rng=SampleRng(range(N), stream=1))
    # the divergence, from another draw of x_t
    other = OfScore(true, lambda x, t: torch.zeros_like(x))
    DenoisingMatrix(colour, Uniform())(
        other, gaussian().sample(SampleRng(range(N), stream=2)), rng=SampleRng(range(N), stream=3)
    )
    ((x, t),) = other.asked
    matrix = torch.tensor(colour, dtype=torch.float64)
    matrix = torch.diag(matrix.expand(2)) if matrix.ndim == 1 else matrix
    h = 0.7 * torch.sin(x + 1)
    divergence = 0.5 * process.sigma(t) ** 2 * (h * (h @ matrix if norm == "noise" else h)).sum(1)
    assert within_five(excess, divergence)
    assert not within_five(excess, 2 * divergence)
    # the score for white noise is another one, and worse
    white = objective(gaussian(process), x0, rng=SampleRng(range(N), stream=1))
    loss = objective(true, x0, rng=SampleRng(range(N), stream=1))
    assert float((white - loss).mean()) > 5 * standard_error(white - loss)


@pytest.mark.theorem("tweedie-covariance")
@each_colour
@each_process
def test_the_denoised_point_is_the_posterior_mean_under_that_noise(colour: Any, process: Any) -> None:
    """For a Gaussian: m + alpha·K·(alpha²·K + S)⁻¹·(x - alpha·m), here by conditioning the joint covariance."""
    x, t = torch.randn(30, 2, dtype=torch.float64), torch.linspace(process.t_min, process.t_max, 30, dtype=torch.float64)
    got = DenoisingMatrix(colour).denoised(coloured(process, colour), x, t)
    matrix = numpy.array(colour) if numpy.ndim(colour) == 2 else numpy.diag(numpy.broadcast_to(colour, 2))
    for i in range(30):
        alpha, sigma = float(process.alpha(t[i])), float(process.sigma(t[i]))
        gain = alpha * numpy.array(SPREAD) @ numpy.linalg.inv(alpha**2 * numpy.array(SPREAD) + sigma**2 * matrix)
        numpy.testing.assert_allclose(got[i], MEAN + gain @ (x[i].numpy() - alpha * numpy.array(MEAN)), rtol=1e-9, atol=1e-11)


@pytest.mark.theorem("posterior-covariance")
@each_colour
@each_process
def test_the_slope_of_the_denoised_point_times_the_noise_is_the_posterior_covariance(colour: Any, process: Any) -> None:
    """Cov[x0 | x] = grad D·S/alpha, for a Gaussian (K⁻¹ + alpha²·S⁻¹)⁻¹, with S = sigma²·C of any shape."""
    matrix = numpy.array(colour) if numpy.ndim(colour) == 2 else numpy.diag(numpy.broadcast_to(colour, 2))
    for t in torch.linspace(process.t_min, process.t_max, 5, dtype=torch.float64)[:, None]:
        alpha, noise = float(process.alpha(t)), float(process.sigma(t)) ** 2 * matrix
        field, objective = coloured(process, colour), DenoisingMatrix(colour)
        x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(lambda x: objective.denoised(field, x, t)[0], x)[:, 0]  # noqa: B023
        covariance = numpy.linalg.inv(numpy.linalg.inv(numpy.array(SPREAD)) + alpha**2 * numpy.linalg.inv(noise))
        numpy.testing.assert_allclose(slope.numpy() @ noise / alpha, covariance, rtol=1e-8, atol=1e-10)


def test_white_noise_is_the_plain_objective_and_a_diagonal_is_a_matrix() -> None:
    x0 = gaussian().sample(SampleRng(range(50)))

    def loss(objective: Any) -> torch.Tensor:
        return objective(wrong(gaussian()), x0, rng=SampleRng(range(50), stream=1))

    plain = loss(Denoising(Uniform()))
    for colour in ((1.0,), (1.0, 1.0), ((1.0, 0.0), (0.0, 1.0))):
        for norm in ("noise", "identity"):
            numpy.testing.assert_allclose(loss(DenoisingMatrix(colour, Uniform(), norm=norm)), plain, rtol=1e-12)
    diagonal, matrix = (loss(DenoisingMatrix(colour, Uniform())) for colour in ((0.3, 2.0), ((0.3, 0.0), (0.0, 2.0))))
    numpy.testing.assert_allclose(diagonal, matrix, rtol=1e-12)


@pytest.mark.parametrize(
    ("colour", "sentence"),
    [
        (((1.0, 2.0), (2.0, 1.0)), "not symmetric positive definite"),
        (((1.0, 0.5), (0.2, 1.0)), "not symmetric positive definite"),
        (((1.0, 0.5),), "square"),
        ((), "at least one number"),
    ],
)
def test_what_is_no_covariance_is_refused(colour: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DenoisingMatrix(colour)


def test_a_covariance_of_another_size_than_the_samples_is_refused() -> None:
    for colour in ((1.0, 2.0, 3.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))):
        with pytest.raises(ScorefieldError, match="over 3 coordinates, expected 2"):
            DenoisingMatrix(colour)(gaussian(), torch.zeros(2, 2), rng=SampleRng(range(2)))


# --- weightings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weighs_the_denoised_image_by_the_clipped_signal_to_noise_ratio(gamma: float) -> None:
    process = VP()
    field, x0 = wrong(gaussian(process)), gaussian().sample(SampleRng(range(300)))
    loss = Denoising(Uniform(), MinSNR(gamma))(field, x0, rng=SampleRng(range(300), stream=1))
    ((x, t),) = field.asked
    snr = (process.alpha(t) / process.sigma(t)) ** 2
    said = Prediction.of_score(process, x, t, field.score(x, t)).denoised
    numpy.testing.assert_allclose(loss, 0.5 * snr.clamp(max=gamma) * ((said - x0) ** 2).sum(1), rtol=1e-8)
    assert 20 < int((snr > gamma).sum()) < 280


@pytest.mark.parametrize("process", [VE(0.3, 3.0), VP(t_min=0.05)], ids=["ve", "vp"])
def test_the_likelihood_weighting_makes_the_loss_a_kullback_leibler_divergence(process: Any) -> None:
    """Integral of 1/2·g²·E|grad log q_t - grad log p_t|² dt = KL(p ‖ q) at t_min - KL at t_max, both under the same noise."""
    p, q = (Gaussian([mean], [[variance]], process) for mean, variance in ((0.8, 1.7), (-0.4, 0.6)))
    x0, objective = p.sample(SampleRng(range(N))), Denoising(Uniform(), Likelihood(), every_level=True)
    excess = objective(q, x0, rng=SampleRng(range(N), stream=1)) - objective(p, x0, rng=SampleRng(range(N), stream=1))

    def divergence(t: float) -> float:
        alpha, sigma = (float(f(torch.tensor(t, dtype=torch.float64))) for f in (process.alpha, process.sigma))
        one, two = alpha**2 * 1.7 + sigma**2, alpha**2 * 0.6 + sigma**2
        return 0.5 * (one / two - 1 - math.log(one / two) + (alpha * 1.2) ** 2 / two)

    lost = divergence(process.t_min) - divergence(process.t_max)
    assert within_five((process.t_max - process.t_min) * excess, lost)
    assert not within_five((process.t_max - process.t_min) * excess, 2 * lost)
    assert not within_five((process.t_max - process.t_min) * excess, lost / 2)


@pytest.mark.theorem("loss-floor")
def test_the_learned_weighting_finds_the_mean_squared_error_of_every_level() -> None:
    """For N(0, v) in d coordinates the noise is predicted up to v/(v + sigma²) a coordinate: that is what e^u comes to."""
    v, d, process = 1.7, 3, VE(0.1, 5.0)
    true = Gaussian([0.0] * d, torch.eye(d) * v, process)
    objective = Denoising(Levels(6), Learned(knots=6), every_level=True)
    model = Learner(true)
    learned = objective.prepare(model).double()
    x0 = true.sample(SampleRng(range(1000)))
    descent = torch.optim.LBFGS(
        learned.parameters(), lr=1, max_iter=100, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        descent.zero_grad()
        loss = objective(model, x0, rng=SampleRng(range(1000), stream=1), learned=learned).mean()
        loss.backward()
        return loss

    descent.step(closure)
    times = Levels(6).quantile(process, (torch.arange(6, dtype=torch.float64) + 0.5) / 6)
    found = learned.loss_by_level(process, times).exp().detach()
    best = v / (v + process.sigma(times) ** 2)
    # the mean of 1000·d squares of a Gaussian of that variance: relative standard error sqrt(2/(1000·d))
    assert float((found / best - 1).abs().max()) < 5 * math.sqrt(2 / (1000 * d))
    balanced = objective(model, x0, rng=SampleRng(range(1000), stream=1), learned=learned).mean()
    expected = 0.5 * d * (1 + found.log().mean())
    numpy.testing.assert_allclose(float(balanced.detach()), float(expected), rtol=1e-8)


def test_the_table_of_levels_is_linear_in_log_snr_between_its_knots() -> None:
    process, table = VP(), LevelTable(5).double()
    with torch.no_grad():
        table.values.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0, 7.0]))
    ends = process.log_snr(torch.tensor([process.t_min, process.t_max], dtype=torch.float64)).numpy()
    t = torch.linspace(process.t_min, process.t_max, 77, dtype=torch.float64)
    position = (process.log_snr(t).numpy() - ends[0]) / (ends[1] - ends[0]) * 4
    numpy.testing.assert_allclose(
        table(process, t).detach(), numpy.interp(position, range(5), [1.0, -2.0, 0.5, 3.0, 7.0]), atol=1e-12
    )


def test_a_model_that_was_not_prepared_is_refused_and_an_exact_field_has_nothing_to_learn() -> None:
    x0, objective = torch.zeros(3, 2, dtype=torch.float64), Denoising(weighting=Learned())
    with pytest.raises(ScorefieldError, match=r"pass learned=, which objective\.prepare"):
        objective(Learner(gaussian()), x0, rng=SampleRng(range(3)))
    assert torch.equal(objective(gaussian(), x0, rng=SampleRng(range(3))), Denoising()(gaussian(), x0, rng=SampleRng(range(3))))


def test_a_run_with_a_learned_weighting_trains_and_opens_again(tmp_path: Path) -> None:
    from scorefield.config import Optimiser, RunConfig, Training, from_dict, to_dict
    from scorefield.data import DataConfig, open_source
    from scorefield.files import write_json
    from scorefield.nets.mlp import MLPConfig
    from scorefield.objectives.weightings import EDMWeight
    from scorefield.prediction import EDM
    from scorefield.runs import build_model, manifest_of, open_run, save_model
    from scorefield.samplers import Annealed
    from scorefield.training.loop import Trainer

    data = open_source("mixture", DataConfig(examples=100))
    config = RunConfig(
        source="mixture",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=8, depth=1),
        objective=Denoising(LogNormal(), Learned(EDMWeight(data_std=1.0), knots=5)),
        sampler=Annealed(),
        levels=8,
        optimiser=Optimiser(lr=1e-2, warmup=0),
        training=Training(steps=2, seconds=None, batch=16, ema=0.9, precision="float32", pictures=0),
    )
    assert from_dict(to_dict(config)) == config
    trainer = Trainer(config, data, build_model(config, data.shape, 1.0), tmp_path / "checkpoints", torch.device("cpu"))
    for _ in trainer.run():
        pass
    learned = trainer.average.learned.loss_by_level.values
    assert learned.shape == (5,)
    assert bool((learned != 0).any())
    save_model(tmp_path, trainer.average, manifest_of(data, 1.0, (), 0))
    write_json(tmp_path / "config.json", to_dict(config))
    opened = open_run(tmp_path).field
    assert torch.equal(opened.learned.loss_by_level.values, learned)
    again = Trainer(config, data, build_model(config, data.shape, 1.0), tmp_path / "checkpoints", torch.device("cpu"))
    assert again.resume()
    assert torch.equal(again.average.learned.loss_by_level.values, learned)
