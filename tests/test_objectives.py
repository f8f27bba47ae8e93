"""Objectives: the excess loss of a wrong score is the weighted Fisher divergence, so the minimum is the true score."""

import contextlib
import math
from dataclasses import fields, replace
from typing import Any

import numpy
import pytest
import torch
from helpers import OfScore, Remembers, each_case, within_five

from scorefield import (
    EDM,
    VE,
    VP,
    Gaussian,
    GaussianMixture,
    LogNormal,
    Prediction,
    Process,
    SampleRng,
    ScoreModel,
    Tabulated,
    Uniform,
    registry,
)
from scorefield.errors import ScorefieldError
from scorefield.levels import Levels
from scorefield.objectives.base import Objective
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.fisher import Matching
from scorefield.objectives.weightings import EDMWeight, Power, SigmaSquared, Unweighted, Weighting
from scorefield.registry import every

OBJECTIVES = {name: kind for name, kind in registry.every("objective").items() if kind.divergence != "none"}
WEIGHTINGS = {name: kind() for name, kind in registry.every("weighting").items()}
PROCESSES = {"ve": VE(0.3, 3.0), "vp": VP(t_min=0.1)}
CHAIN = Tabulated.linear(10, 0.02, 0.4)  # for objectives that refuse a process without steps
each_objective = pytest.mark.parametrize("kind", OBJECTIVES.values(), ids=OBJECTIVES)
each_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
N = 10_000
C = 1.0

# lambda on the score, in the words of the papers, of (alpha, sigma, sd).
LAMBDAS = {
    "sigma2": lambda alpha, sigma, sd: sigma**2,
    "uniform": lambda alpha, sigma, sd: 1 + 0 * sigma,
    "power": lambda alpha, sigma, sd: sigma**2,  # with its default exponent
    # Karras et al. (2022), table 1, on D for z = x_t/alpha at level s: (s² + sd²)/(s·sd)²; D - x0 = s²·(score of z) - ..., and
    # the score of z is alpha times that of x_t.
    "edm": lambda alpha, sigma, sd: (
        ((sigma / alpha) ** 2 + sd**2) / (sigma / alpha * sd) ** 2 * ((sigma / alpha) ** 2 * alpha) ** 2
    ),
    # Hang et al. (2023): min(1, 5/SNR) on the squared error of the noise, which is sigma times that of the score.
    "min-snr": lambda alpha, sigma, sd: torch.minimum(sigma**2, 5 * sigma**4 / alpha**2),
    # Song et al. (2021): g², for this VE 2·ln(10)·sigma², for VP beta(t) = sqrt(0.1² + 2·19.9·B) with B = -2·ln(alpha).
    "likelihood": lambda alpha, sigma, sd: (
        2 * math.log(10) * sigma**2 if bool((alpha == 1).all()) else (0.01 - 4 * 19.9 * alpha.log()).sqrt()
    ),
    "learned": lambda alpha, sigma, sd: sigma**2,  # of a field that learns nothing
}


def of_the_bound(alpha: torch.Tensor, sigma: torch.Tensor, sd: float) -> torch.Tensor:
    """Ho et al. (2020), equation 12, on the score: T·beta²/(alpha_n·w), with w = beta~_n and, at n = 1, beta~_2."""
    betas = torch.tensor(CHAIN.betas, dtype=torch.float64)
    abar = (1 - betas).cumprod(0)
    posterior = betas[1:] * (1 - abar[:-1]) / (1 - abar[1:])
    table = len(betas) * betas**2 / (1 - betas) / torch.cat([posterior[:1], posterior])
    return table[(alpha[:, None] ** 2 - abar).abs().argmin(dim=1)]


NATURE = {"denoising-matrix": LAMBDAS["sigma2"], "bound": of_the_bound}  # lambda where there is no choice of it


def h(x: torch.Tensor) -> torch.Tensor:
    """A smooth vector field that is no gradient and no multiple of any score here."""
    rows = x.flatten(1)
    return (torch.sin(rows) + rows.roll(1, dims=1).cos()).reshape(x.shape)


class Wrong(OfScore):
    """The true score of a field, plus c·h."""

    def __init__(self, true: Any, c: float) -> None:
        super().__init__(true, lambda x, t: true(x, t).score + c * h(x))
        self.true, self.c = true, c


def mixture(process: Process) -> GaussianMixture:
    return GaussianMixture([0.7, 0.3], [[-1.0, 0.5], [1.5, 0.0]], [0.5, 0.8], process)


def of_weighting(kind: type[Objective], weighting: Weighting) -> Objective:
    """The objective with this weighting, or as it is where that is its nature; a declared error O(step²) is made small."""
    objective = kind(weighting=weighting) if chooses_its_weighting(kind) else kind()
    return replace(objective, step=1e-3) if "step^2" in kind.divergence else objective


def chooses_its_weighting(kind: type[Objective]) -> bool:
    return "weighting" in {f.name for f in fields(kind)}


def processes_of(kind: type[Objective]) -> list[Process]:
    """Those that the objective does not refuse; all these data are smooth, so it is for the process that it refuses."""
    fitting = []
    for process in PROCESSES.values():
        with contextlib.suppress(ScorefieldError):
            kind().check(mixture(process))
            fitting.append(process)
    return fitting or [CHAIN]


CASES = [  # of every objective, process and weighting that go together
    pytest.param(kind, process, weighting, id=f"{name}-{type(process).__name__}-{weighting}")
    for name, kind in OBJECTIVES.items()
    for process in processes_of(kind)
    for weighting in (WEIGHTINGS if chooses_its_weighting(kind) else [""])
    if (process, weighting) != (CHAIN, "likelihood")  # whose g² jumps at every step of a chain
]


# --- the Fisher divergence --------------------------------------------------------------------------------------------


@pytest.mark.theorem("fisher-divergence", "denoising-loss")
@pytest.mark.parametrize(("kind", "process", "name"), CASES)
@torch.no_grad()
def test_the_excess_loss_of_a_wrong_score_is_the_weighted_fisher_divergence(kind: Any, process: Process, name: str) -> None:
    """E loss(s + c·h) - E loss(s) = E[lambda/2·c²·|h(x_t)|²]: paired differences against an independent draw of x_t."""
    true, objective = mixture(process), of_weighting(kind, WEIGHTINGS.get(name, SigmaSquared()))
    x0 = true.sample(SampleRng(range(N)))
    difference = objective(Wrong(true, C), x0, rng=SampleRng(range(N), stream=1)) - objective(
        true, x0, rng=SampleRng(range(N), stream=1)
    )
    other = SampleRng(range(N), stream=2)
    t = objective.noise_distribution.quantile(process, other.uniform(()))
    x_t = process.perturb(true.sample(other), t, other.normal((2,)))
    formula = LAMBDAS[name] if name else NATURE[registry.name_of("objective", kind)]
    weight = formula(process.alpha(t), process.sigma(t), getattr(WEIGHTINGS.get(name), "data_std", 1.0))
    divergence = 0.5 * weight * C**2 * (h(x_t) ** 2).sum(1)
    assert within_five(difference, divergence)
    assert not within_five(difference)  # and it is not zero: the test has the power to see a wrong sign or a lost factor
    assert not within_five(difference, 2 * divergence)
    assert not within_five(difference, divergence / 2)


def test_every_registered_weighting_has_its_formula_written_down_here() -> None:
    assert set(WEIGHTINGS) == set(LAMBDAS)


@pytest.mark.parametrize(("kind", "process", "name"), [case for case in CASES if case.values[1] != PROCESSES["vp"]])
@torch.no_grad()
def test_no_other_score_has_a_smaller_expected_loss(kind: Any, process: Process, name: str) -> None:
    """To both sides of the true score, and with its sign turned round: a missing minus doubles the score's own norm."""
    true, objective = mixture(process), of_weighting(kind, WEIGHTINGS.get(name, SigmaSquared()))
    x0 = true.sample(SampleRng(range(N)))

    def losses(field: Any) -> torch.Tensor:
        return objective(field, x0, rng=SampleRng(range(N), stream=1))

    class Turned(Wrong):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            return Prediction.of_score(self.process, x, t, -self.true(x, t).score)

    for wrong in (Wrong(true, C), Wrong(true, -C), Turned(true, 0.0)):
        excess = losses(wrong) - losses(true)
        assert float(excess.mean()) > 5 * float(excess.std()) / math.sqrt(N)


@pytest.mark.parametrize(("kind", "process"), list({case.values[:2]: None for case in CASES}))
def test_on_a_gaussian_the_slope_of_the_loss_vanishes_at_the_true_score(kind: Any, process: Process) -> None:
    """Among s = -k·(x - alpha·m)/(alpha²·v + sigma²) the derivatives by k and by m are zero at (1, mean) and only there."""
    mean, variance = 0.8, 1.7
    field, objective = Gaussian([mean], [[variance]], process), of_weighting(kind, SigmaSquared())
    x0 = field.sample(SampleRng(range(N)))

    def slopes(k: float, m: float) -> torch.Tensor:
        """The derivative of every example's loss by k and m, each entering that example alone."""
        ks, ms = (
            torch.full((N,), k, dtype=torch.float64, requires_grad=True),
            torch.full((N,), m, dtype=torch.float64, requires_grad=True),
        )

        class Linear(Wrong):
            def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
                alpha, sigma = self.process.alpha(t), self.process.sigma(t)
                total = alpha**2 * variance + sigma**2
                return Prediction.of_score(self.process, x, t, (-ks * (x[:, 0] - alpha * ms) / total)[:, None])

        loss = objective(Linear(field, 0.0), x0, rng=SampleRng(range(N), stream=1))
        return torch.stack(torch.autograd.grad(loss.sum(), [ks, ms]))

    by_k, by_m = slopes(1.0, mean)
    assert within_five(by_k)
    assert within_five(by_m)
    assert not within_five(slopes(1.1, mean)[0])
    assert not within_five(slopes(0.9, mean)[0])
    assert not within_five(slopes(1.0, mean + 0.5)[1])
    assert float(slopes(1.1, mean)[0].mean()) > 0 > float(slopes(0.9, mean)[0].mean())  # a minimum, not a maximum


@pytest.mark.parametrize("kind", [kind for kind in OBJECTIVES.values() if not issubclass(kind, Matching)])
def test_at_one_level_least_squares_finds_the_slope_and_the_centre_of_the_gaussian(kind: Any) -> None:
    """The loss is quadratic in s = b - k·x: three values give its minimum, to compare with k = 1/(v + sigma²), b = k·m."""
    mean, variance, process = 0.8, 1.7, VE(0.5, 1.0)
    one_level = {"noise_distribution": Levels(1)} if "noise_distribution" in {f.name for f in fields(kind)} else {"steps": 1}
    field, objective = Gaussian([mean], [[variance]], process), kind(**one_level)
    sigma2 = float(process.sigma(torch.tensor(process.t_max, dtype=torch.float64))) ** 2
    x0 = field.sample(SampleRng(range(N)))

    class Line(Wrong):
        def __init__(self, k: float, b: float) -> None:
            super().__init__(field, 0.0)
            self.k, self.b = k, b

        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            return Prediction.of_score(self.process, x, t, self.b - self.k * x)

    def loss(k: float, b: float) -> float:
        return float(objective(Line(k, b), x0, rng=SampleRng(range(N), stream=1)).mean())

    base = loss(0, 0)
    kk, bb = loss(1, 0) + loss(-1, 0) - 2 * base, loss(0, 1) + loss(0, -1) - 2 * base
    k1, b1 = (loss(1, 0) - loss(-1, 0)) / 2, (loss(0, 1) - loss(0, -1)) / 2
    kb = loss(1, 1) - base - (kk + bb) / 2 - k1 - b1
    k, b = numpy.linalg.solve([[kk, kb], [kb, bb]], [-k1, -b1])
    # Regressing -noise/sigma on x with residual variance 1/sigma² - k: the textbook standard errors of slope and intercept.
    total = variance + sigma2
    residual = 1 / sigma2 - 1 / total
    assert abs(k - 1 / total) < 5 * math.sqrt(residual / total / N)
    assert abs(b - mean / total) < 5 * math.sqrt(residual * (1 + mean**2 / total) / N)


# --- one loss per example ---------------------------------------------------------------------------------------------


@each_objective
@each_case(weighting=WEIGHTINGS)
@torch.no_grad()
def test_an_examples_loss_does_not_depend_on_its_batch(kind: Any, weighting: Weighting) -> None:
    true, objective = mixture(PROCESSES["ve"]), of_weighting(kind, weighting)
    x0 = true.sample(SampleRng(range(6)))
    wrong = Wrong(true, C)
    whole = objective(wrong, x0, rng=SampleRng(range(6), stream=1))
    alone = torch.cat([objective(wrong, x0[i : i + 1], rng=SampleRng([i], stream=1)) for i in range(6)])
    numpy.testing.assert_allclose(whole, alone, rtol=1e-11)


@each_objective
@torch.no_grad()
def test_the_loss_of_an_image_is_that_of_its_pixels_as_a_vector(kind: Any) -> None:
    """All axes but the batch are summed, not the last one alone."""
    means = torch.randn(2, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = GaussianMixture([1, 1], means, [0.5, 0.5], VE(0.1, 5.0))
    vector = GaussianMixture([1, 1], means.flatten(1), [0.5, 0.5], VE(0.1, 5.0))
    x0, objective = image.sample(SampleRng(range(5))), kind()
    one = objective(Wrong(image, C), x0, rng=SampleRng(range(5), stream=1))
    two = objective(Wrong(vector, C), x0.flatten(1), rng=SampleRng(range(5), stream=1))
    assert torch.equal(one, two)


@each_objective
@torch.no_grad()
def test_the_terms_of_an_objective_are_its_losses_at_times_inside_the_range(kind: Any) -> None:
    process = processes_of(kind)[-1]
    true, objective = mixture(process), kind()
    x0 = true.sample(SampleRng(range(50)))
    terms = objective.terms(true, x0, rng=SampleRng(range(50), stream=1))
    assert torch.equal(terms.loss, objective(true, x0, rng=SampleRng(range(50), stream=1)))
    assert terms.t is not None
    assert bool(((terms.t >= process.t_min) & (terms.t <= process.t_max)).all())


# --- denoising score matching: what the weights mean ------------------------------------------------------------------


def asked(objective: Denoising, process: Process) -> tuple[Any, ...]:
    """The losses of a wrong field with all that entered them, each recovered from outside."""
    true = mixture(process)
    x0, field = true.sample(SampleRng(range(200))), Remembers(Wrong(true, C))
    loss = objective(field, x0, rng=SampleRng(range(200), stream=1))
    alpha, sigma = process.alpha(field.t)[:, None], process.sigma(field.t)[:, None]
    return loss, x0, (field.x - alpha * x0) / sigma, field.said, alpha, sigma


@pytest.mark.theorem("noise-error", "noise-prediction")
@each_process
def test_sigma_squared_makes_the_loss_the_squared_error_of_the_predicted_noise(process: Process) -> None:
    loss, _, noise, said, _, sigma = asked(Denoising(Uniform(), SigmaSquared()), process)
    error = said.noise - noise
    # the noise is recovered as a difference divided by sigma: its digits are those of x_t/sigma
    assert bool(((loss - 0.5 * (error**2).sum(1)).abs() <= 100 * 2.3e-16 * (1 + loss) * (1 + 5 / sigma[:, 0])).all())


@each_process
@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_the_edm_weight_makes_the_loss_the_squared_error_of_the_unit_variance_output(process: Process, sd: float) -> None:
    loss, x0, noise, said, alpha, sigma = asked(Denoising(Uniform(), EDMWeight(data_std=sd)), process)
    r = (alpha**2 * sd**2 + sigma**2).sqrt()
    target = (sigma * x0 / sd - alpha * sd * noise) / r  # the output that EDM trains, of x0 and the noise
    output = (sigma * said.denoised / sd - alpha * sd * said.noise) / r
    # said.denoised is (x + sigma²·score)/alpha: its digits are those of x_t/alpha, and those of the noise are x_t/sigma
    lost = (1 + 5 / sigma + 5 * sigma**2 / alpha)[:, 0] * (1 + said.score.abs().amax(1))
    assert bool(((loss - 0.5 * ((output - target) ** 2).sum(1)).abs() <= 400 * 2.3e-16 * (1 + loss) * lost).all())


@each_process
def test_power_interpolates_between_unweighted_and_sigma_squared(process: Process) -> None:
    t = torch.linspace(process.t_min, process.t_max, 9, dtype=torch.float64)
    assert torch.equal(Power(2.0)(process, t), SigmaSquared()(process, t))
    assert torch.equal(Power(0.0)(process, t), Unweighted()(process, t))
    numpy.testing.assert_allclose(Power(1.0)(process, t) ** 2, process.sigma(t) ** 2, rtol=1e-15)


def test_the_edm_weight_on_a_network_with_edm_output_is_the_plain_squared_error_of_the_network() -> None:
    """Through a ScoreModel: the loss is 1/2·|network's answer - target|² whatever the level, here for the answer 0."""

    class Zero(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x: torch.Tensor, label: torch.Tensor, cond: Any) -> torch.Tensor:
            return self.weight * x

    sd, process = 0.5, VE(0.01, 50.0)
    field = Remembers(ScoreModel(Zero(), EDM(data_std=sd), process, (2,)))
    x0 = mixture(process).sample(SampleRng(range(200)))
    with torch.no_grad():
        loss = Denoising(LogNormal(), EDMWeight(data_std=sd))(field, x0, rng=SampleRng(range(200), stream=1))
    sigma = process.sigma(field.t)[:, None]
    target = (sigma * x0 / sd - sd * (field.x - x0) / sigma) / (sd**2 + sigma**2).sqrt()
    lost = (1 + 5 / sigma**2)[:, 0]
    assert bool(((loss - 0.5 * (target**2).sum(1)).abs() <= 100 * 2.3e-16 * (1 + loss) * lost).all())


@pytest.mark.theorem("ncsn-loss")
@each_process
def test_all_levels_summed_have_the_expectation_of_levels_drawn(process: Process) -> None:
    true = mixture(process)
    drawn = Denoising(Levels(6))
    losses = [
        objective(Wrong(true, C), true.sample(SampleRng(range(N), stream=s)), rng=SampleRng(range(N), stream=s + 1))
        for objective, s in ((drawn, 0), (replace(drawn, every_level=True), 2))
    ]
    assert within_five(*losses)
    assert float(losses[1].var()) < float(losses[0].var())


def test_the_noise_of_a_level_is_one_draw_and_levels_have_different_noise() -> None:
    """Recorded from outside: on every level of `every_level` the same x0 is noised by other numbers."""
    process = PROCESSES["ve"]
    true = mixture(process)
    seen = []

    class Listens(Remembers):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            seen.append(((x - x0) / self.process.sigma(t)[:, None], t))
            return super().__call__(x, t)

    x0 = true.sample(SampleRng(range(4)))
    Denoising(Levels(3), every_level=True)(Listens(true), x0, rng=SampleRng(range(4), stream=1))
    numpy.testing.assert_allclose(sorted(float(t[0]) for _, t in seen), [0.0, 0.5, 1.0], atol=1e-14)
    assert all(float((a - b).abs().min()) > 1e-6 for i, (a, _) in enumerate(seen) for b, _ in seen[:i])


@pytest.mark.parametrize("name", every("objective"))
def test_the_times_that_an_objective_says_it_visits_are_those_of_its_losses(name: str) -> None:
    """A few times, each of them visited; or none named, and then a thousand examples have a thousand times of their own."""
    kind = every("objective")[name]
    for density in every("noise_distribution").values():
        objective = kind(noise_distribution=density()) if "noise_distribution" in kind.__dataclass_fields__ else kind()
        process = CHAIN if name in ("simple", "bound") else VE(0.1, 10.0)
        named = objective.visited(process)
        if name == "persistent":  # its times are those of its chains, which a model holds
            assert (named is None) == (objective.noise_distribution.times(process) is None)
            continue
        field = GaussianMixture([1.0], [[0.0, 0.0]], [1.0], process)
        x0 = field.sample(SampleRng(range(1000)))
        try:
            found = objective.terms(field, x0, rng=SampleRng(range(1000), stream=1)).t
        except ScorefieldError:  # a level out of the process's range, energies alone, a batch that it refuses
            continue
        if found is None:
            continue
        assert (len(found.unique()) == 1000) if named is None else torch.equal(found.unique(), named)
