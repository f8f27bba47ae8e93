"""The named alternatives of posterior sampling: what each is exact for, how wrong it is else, and that every sampler takes it.

A guided field is measured as a field: against the score of the posterior, which a Gaussian prior has in closed form at every
level. What a method says of its bias is measured by pushing mean and covariance through its steps, where they are affine.
"""

import dataclasses
import math
from typing import Any

import numpy
import pytest
import torch
from helpers import OfScore, double, each_case, shaken, within_five
from torch import Tensor

from scorefield import (
    VE,
    VP,
    Gaussian,
    GaussianMixture,
    Process,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    ScoreModel,
    geometric,
    registry,
)
from scorefield.field import EnergyModel
from scorefield.guidance import Replacement
from scorefield.guidance.posterior import Measured, posterior_sample
from scorefield.guidance.posterior.base import measured_of
from scorefield.guidance.posterior.diffpir import DiffpirField
from scorefield.guidance.posterior.dps import Dps, DpsField
from scorefield.guidance.posterior.guided import Guided, GuidedMethod
from scorefield.guidance.posterior.mmps import MmpsField
from scorefield.guidance.posterior.pigdm import Pigdm, PigdmField
from scorefield.guidance.posterior.repaint import Repaint, known_of
from scorefield.guidance.posterior.split_gibbs import SplitGibbs, likely
from scorefield.guidance.posterior.tmpd import TmpdField
from scorefield.levels import ladder_of
from scorefield.moments import Moments
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.operators import (
    Absolute,
    Blur,
    Compose,
    Crop,
    Downsample,
    Fourier,
    InUnits,
    Mask,
    Matrix,
    Project,
    dense,
)
from scorefield.prediction import EDM, Energy, Prediction
from scorefield.process import DDPMChain
from scorefield.samplers import Ancestral, simulate
from scorefield.verification.affine import affine_map, push

METHODS = registry.every("posterior")
GUIDED = {name: kind for name, kind in METHODS.items() if issubclass(kind, GuidedMethod)}
PROCESSES = {"ve": VE(0.01, 20.0), "vp": VP(), "flow": RectifiedFlow()}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
each_method = pytest.mark.parametrize("name", METHODS)
each_guided = pytest.mark.parametrize("name", GUIDED)

MEAN = double([1.0, 0.0, -1.0])
COVARIANCE = double([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 2.0]])
MATRIX = double([[1.0, -2.0, 0.5], [0.3, 0.1, 1.0]])
Y, NOISE = double([0.7, -0.4]), double([0.3, 0.1])
FIRST = Mask([True, False])
RHO = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
MODES = GaussianMixture([0.7, 0.3], [[-2.0, -1.0], [2.0, 1.0]], [0.7, 0.7], VE(0.01, 20.0))
X = SampleRng(range(16), stream=7).normal((3,)) * 2


def levels_of(process: Process, count: int = 9) -> list[float]:
    return [float(t) for t in geometric(process, count)]


def one_of(process: Process) -> float:
    """The time at which the noise is about as large as the data."""
    return float(process.time_of_sigma(double([1.0])))


def posterior_of(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x0 ~ N(mean, covariance) given y = matrix·x0 + noise, by precisions."""
    weight = torch.diag((torch.as_tensor(noise, dtype=torch.float64).expand(len(y))) ** -2)
    given = torch.linalg.inv(torch.linalg.inv(covariance) + matrix.mT @ weight @ matrix)
    return given @ (torch.linalg.inv(covariance) @ mean + matrix.mT @ weight @ y), given


def guided_scores(field: Any, guided: Guided, t: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of a guided field and of another, at x_t = alpha·x + sigma·x."""
    times = torch.full((len(x),), t, dtype=torch.float64)
    alpha, sigma = field.process.alpha(times[0]), field.process.sigma(times[0])
    return guided(alpha * x + sigma * x, times).score, field(alpha * x + sigma * x, times).score


def largest(difference: Tensor, of: Tensor) -> float:
    return float(difference.abs().max() / of.abs().max())


# --- where a guided field is the score of the posterior ---------------------------------------------------------------


@each_process
@pytest.mark.parametrize("noise", [0.3, NOISE], ids=["one noise", "a noise for each number"])
def test_mmps_is_the_score_of_the_posterior_at_every_level_for_a_gaussian_prior(process: Process, noise: Any) -> None:
    prior = Gaussian(MEAN, COVARIANCE, process)
    truth = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, noise), process)
    guided = MmpsField(prior, measured_of(prior, Matrix(MATRIX), Y, noise), iterations=len(Y))
    for t in levels_of(process):
        found, true = guided_scores(truth, guided, t, X)
        assert largest(found - true, true) < 1e-8, t


LINEAR = {
    "mask": Mask(torch.arange(16).reshape(4, 4) % 3 > 0),
    "blur": Blur(0.6),
    "circular blur": Blur(0.6, padding="circular"),
    "downsample": Downsample(2),
    "crop": Crop(3),
    "fourier": Fourier(0.5),
    "project": Project(5),
    "composition": Compose(Blur(0.6), Downsample(2)),
    "in units": InUnits(Blur(0.6), torch.full((1, 4, 4), 3.0), torch.ones(1, 4, 4)),
}


@pytest.mark.theorem("pigdm")
@pytest.mark.parametrize("operator", LINEAR.values(), ids=LINEAR)
def test_mmps_and_pigdm_are_the_score_of_the_posterior_of_an_image_for_every_linear_operator(operator: Any) -> None:
    shape, process = (1, 4, 4), VE(0.01, 20.0)
    root = SampleRng(range(16), stream=1).normal((16,)) / 4 + torch.eye(16)
    prior = Gaussian(torch.zeros(shape), root @ root.mT, process)
    y = SampleRng([3]).normal(operator.shape_out(shape))[0]
    mean, covariance = posterior_of(prior.mean, prior.covariance, dense(operator, shape), y.flatten(), 0.5)
    truth = Gaussian(mean.reshape(shape), covariance, process)
    measured, x = measured_of(prior, operator, y, 0.5), SampleRng(range(4)).normal(shape)
    for guided in (MmpsField(prior, measured, 3 * y.numel()), Pigdm(covariance="data").guided(prior, measured)):
        for t in levels_of(process):
            found, true = guided_scores(truth, guided, t, x)
            assert largest(found - true, true) < 1e-8, t


@pytest.mark.theorem("pigdm")
@each_process
def test_pigdm_with_the_covariance_of_the_data_is_the_score_of_the_posterior_for_a_gaussian_prior(process: Process) -> None:
    prior = Gaussian(MEAN, COVARIANCE, process)
    truth = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, NOISE), process)
    measured = measured_of(prior, Matrix(MATRIX), Y, NOISE)
    known = Pigdm(covariance="data").guided(prior, measured)
    stated = PigdmField(prior, measured, Moments.of_covariance(MEAN, COVARIANCE))
    published = Pigdm().guided(prior, measured)
    for t in levels_of(process):
        for guided in (known, stated):
            found, true = guided_scores(truth, guided, t, X)
            assert largest(found - true, true) < 1e-8, t
    found, true = guided_scores(truth, published, one_of(process), X)
    assert largest(found - true, true) > 0.01


@pytest.mark.theorem("pigdm")
@each_process
def test_pigdm_as_published_is_exact_where_the_data_are_an_isotropic_gaussian(process: Process) -> None:
    prior = Gaussian(MEAN, 0.49 * torch.eye(3), process)
    truth = Gaussian(*posterior_of(MEAN, prior.covariance, MATRIX, Y, NOISE), process)
    guided = Pigdm().guided(prior, measured_of(prior, Matrix(MATRIX), Y, NOISE))
    for t in levels_of(process):
        found, true = guided_scores(truth, guided, t, X)
        assert largest(found - true, true) < 1e-8, t


@each_process
def test_tmpd_is_exact_for_one_number_and_not_for_two_that_depend_on_each_other(process: Process) -> None:
    prior = Gaussian(MEAN, COVARIANCE, process)
    one = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX[:1], Y[:1], 0.3), process)
    both = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, 0.3), process)
    for t in levels_of(process):
        found, true = guided_scores(one, TmpdField(prior, measured_of(prior, Matrix(MATRIX[:1]), Y[:1], 0.3)), t, X)
        assert largest(found - true, true) < 1e-8, t
    found, true = guided_scores(both, TmpdField(prior, measured_of(prior, Matrix(MATRIX), Y, 0.3)), one_of(process), X)
    assert largest(found - true, true) > 0.01


@each_process
def test_diffpir_is_exact_in_the_limit_of_a_flat_prior(process: Process) -> None:
    """J and C = lambda²·J differ from what it takes for them by lambda²/variance, and so does the score."""
    for t in levels_of(process)[3:]:
        time = torch.tensor(t, dtype=torch.float64)
        lam = float(process.sigma(time) / process.alpha(time))
        variance = 1e4 * max(lam, 1.0) ** 2
        prior = Gaussian(MEAN, variance * torch.eye(3), process)
        measured = measured_of(prior, Matrix(MATRIX), Y, NOISE)
        truth = Gaussian(*posterior_of(MEAN, prior.covariance, MATRIX, Y, NOISE), process)
        found, true = guided_scores(truth, DiffpirField(prior, measured, 1.0), t, X)
        assert largest(found - true, true) < 5 * lam**2 / variance, t


def test_fewer_iterations_than_numbers_leave_mmps_short_of_y() -> None:
    """Of two numbers of one size in separate directions, conjugate gradients reach in one step what is common to both."""
    prior = Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0))
    measured = measured_of(prior, Matrix(MATRIX), Y, 0.1)
    truth = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, 0.1), prior.process)
    short, true = guided_scores(truth, MmpsField(prior, measured, 1), 0.5, X)
    assert largest(short - true, true) > 0.01


@pytest.mark.parametrize("rows", [1, 2], ids=["one number and any network", "two and an energy, whose Jacobian is symmetric"])
def test_mmps_of_a_network_solves_its_equation_with_the_networks_own_jacobian(rows: int) -> None:
    parts = (MLP((2,), width=16), EDM()) if rows == 1 else (Potential(MLP((2,), width=16)), Energy())
    kind: Any = ScoreModel if rows == 1 else EnergyModel
    field = kind(shaken(parts[0], by=0.3), parts[1], VE(0.01, 20.0), (2,))
    matrix, y, sigma, s = double([[1.0, -0.5], [0.3, 0.8]])[:rows], double([0.4, -0.2])[:rows], 0.7, 0.3
    time, solvable = field.process.time_of_sigma(double([sigma])), 0
    guided = MmpsField(field, measured_of(field, Matrix(matrix), y, s), 20)
    for x in X[:, :2]:
        jacobian = torch.autograd.functional.jacobian(lambda v: field(v.unsqueeze(0), time).denoised[0], x)
        pull = jacobian.mT @ matrix.mT
        inner = s**2 * torch.eye(rows, dtype=torch.float64) + sigma**2 * matrix @ pull
        seen = field(x.unsqueeze(0), time)
        wanted = seen.score[0] + pull @ torch.linalg.solve(inner, y - matrix @ seen.denoised[0])
        if bool((torch.linalg.eigvalsh((inner + inner.mT) / 2) > 0).all()):  # of a network, not of every x
            numpy.testing.assert_allclose(guided(x.unsqueeze(0), time).score[0].detach(), wanted.detach(), rtol=1e-6)
            solvable += 1
    assert solvable >= 8


# --- DPS --------------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("dps")
@each_process
def test_dps_pulls_with_the_length_of_ddpms_step_whatever_the_noise_and_the_distance(process: Process) -> None:
    """In one dimension: zeta/beta·D'(z) towards y, beta = g²(t)/1000 of VP where its lambda is the same."""
    prior, chain = Gaussian([0.0], [[1.0]], process), VP()
    for t in levels_of(process)[2:-2]:
        time = torch.full((16,), t, dtype=torch.float64)
        alpha, lam = process.alpha(time), process.sigma(time) / process.alpha(time)
        x = alpha.unsqueeze(1) * X[:, :1]
        beta = chain.diffusion(chain.time_of_sigma(lam)) ** 2 / 1000
        for y, noise in ((9.0, 0.01), (9.0, 5.0), (50.0, 0.3)):
            guided = DpsField(prior, measured_of(prior, Matrix([[1.0]]), double([y]), noise), zeta=0.02)
            added = (guided(x, time).score - prior(x, time).score)[:, 0] * alpha
            assert bool((added - 0.02 / beta / (1 + lam**2)).abs().max() < 1e-6 * added.abs().max()), t


@pytest.mark.theorem("dps")
def test_dps_with_ancestral_steps_on_ddpms_chain_is_the_published_algorithm() -> None:
    """x - step·grad ‖y - A·D(x)‖ after every step, to the 2 % by which a chain and its limit differ from the 50th step on."""
    process = DDPMChain(1000)
    prior = GaussianMixture([0.7, 0.3], [[-1.0, -0.5, 0.2], [1.0, 0.5, 0.0]], [0.5, 0.5], process)
    prior.data_std = 1.0  # the unit of its steps
    measured = measured_of(prior, Matrix(MATRIX), Y, 0.1)
    guided, sampler = DpsField(prior, measured, zeta=0.3 / math.sqrt(2)), Ancestral()
    times = torch.arange(1000, 49, -1, dtype=torch.float64)[::60]
    for t in times.tolist():
        ladder = double([t, t - 1])
        plain, pulled = (
            [*simulate(field, sampler, ladder, X, rng=SampleRng(range(16)), denoise=False)][1].x for field in (prior, guided)
        )
        x = X.clone().requires_grad_(True)
        denoised = prior(x, torch.full((16,), t, dtype=torch.float64)).denoised
        (slope,) = torch.autograd.grad((Y - denoised @ MATRIX.mT).norm(dim=1).sum(), x)
        assert largest(pulled - plain + 0.3 * slope, 0.3 * slope) < 0.02, t


def test_dps_takes_any_operator_with_a_gradient() -> None:
    prior = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.5], VE(0.01, 20.0))
    found = posterior_sample(prior, Absolute(), double([2.5]), 0.1, rng=SampleRng(range(200)), method=Dps())
    other = posterior_sample(prior, Absolute(), double([1.5]), 0.1, rng=SampleRng(range(200)), method=Dps())
    assert float((found.x.abs().mean() - 2.5).abs()) < 0.1 and float((other.x.abs().mean() - 1.5).abs()) < 0.1
    assert within_five((found.x[:, 0] > 0).double(), 0.5)


def test_dps_stays_where_it_is_when_nothing_is_left_to_explain() -> None:
    prior = Gaussian([0.0], [[1.0]], VE(0.01, 20.0))
    guided = DpsField(prior, measured_of(prior, Matrix([[1.0]]), double([0.0]), 0.1), zeta=1.0)
    x = double([[0.0]])
    assert torch.equal(guided(x, double([0.5])).score, prior(x, double([0.5])).score)


# --- what holds for every guided field --------------------------------------------------------------------------------


def mixture(process: Process) -> GaussianMixture:
    return GaussianMixture([0.7, 0.3], [[-2.0, -1.0, 0.0], [2.0, 1.0, 0.5]], [0.7, 0.4], process)


def small(kind: Any, levels: int = 12) -> Any:
    """A method with few levels, turns and repeats."""
    cheap = {"levels": levels, "turns": 3, "repeats": 2, "together": False}
    return kind(**{key: value for key, value in cheap.items() if key in {field.name for field in dataclasses.fields(kind)}})


@each_guided
def test_a_guided_field_is_the_same_for_every_process_in_z(name: str) -> None:
    kind = GUIDED[name]()
    lams = torch.logspace(-1.5, 1, 16, dtype=torch.float64)
    found = []
    for process in PROCESSES.values():
        field, times = mixture(process), process.time_of_sigma(lams)
        guided = kind.guided(field, measured_of(field, Matrix(MATRIX), Y, NOISE))
        alpha = process.alpha(times).unsqueeze(1)
        found.append(alpha * guided(alpha * X, times).score)
    for other in found[1:]:
        numpy.testing.assert_allclose(other, found[0], rtol=1e-7, atol=1e-9)


@each_guided
def test_the_guided_score_of_a_row_does_not_depend_on_the_batch(name: str) -> None:
    field, times = mixture(VE(0.01, 20.0)), torch.linspace(0.1, 1, 16, dtype=torch.float64)
    guided = GUIDED[name]().guided(field, measured_of(field, Matrix(MATRIX), Y, NOISE))
    together = guided(X, times).score
    for row in (0, 7, 15):
        alone = guided(X[row : row + 1], times[row : row + 1]).score
        numpy.testing.assert_allclose(together[row : row + 1], alone, rtol=1e-10)


@each_guided
def test_a_guided_field_writes_to_nothing_and_leaves_no_gradient(name: str) -> None:
    field, x, y = mixture(VE(0.01, 20.0)), X.clone(), Y.clone()
    guided = GUIDED[name]().guided(field, Measured(Matrix(MATRIX), y, 0.1))
    with torch.no_grad():
        score = guided(x, torch.full((16,), 0.5, dtype=torch.float64)).score
    assert torch.equal(x, X) and torch.equal(y, Y)
    assert not x.requires_grad and not score.requires_grad and torch.is_grad_enabled()


SAMPLERS = registry.names("sampler")


@each_case(name=SAMPLERS)
def test_every_sampler_draws_from_mmps_what_it_draws_from_the_score_of_the_posterior(name: str) -> None:
    """With the same seeds, step for step: for a Gaussian prior the two are one field."""
    process = VE(0.05, 10.0)
    prior = Gaussian(MEAN, COVARIANCE, process)
    truth = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, NOISE), process)
    guided = MmpsField(prior, measured_of(prior, Matrix(MATRIX), Y, NOISE), len(Y))
    sampler = registry.find("sampler", name)().within(12)[0]
    ladder = ladder_of(prior, sampler.ladder, 1 if sampler.ladder == "lowest" else 8)
    ends = [
        list(simulate(field, sampler, ladder, rng=SampleRng(range(8))))[-1]
        for field in (guided, OfScore(prior, lambda x, t: truth(x, t).score))
    ]
    assert ends[0].evaluations == ends[1].evaluations > 0
    numpy.testing.assert_allclose(ends[0].x, ends[1].x, rtol=1e-6, atol=1e-6)


# Every sampler with two guided fields; it meets that of MMPS above, exactly.
IN_TURN = [(list(GUIDED)[(i + k) % len(GUIDED)], sampler) for i, sampler in enumerate(SAMPLERS) for k in (0, 2)]


@each_case(name__sampler=IN_TURN)
def test_every_sampler_comes_nearer_to_y_than_the_prior_with_every_guided_field(name: str, sampler: str) -> None:
    field = mixture(VE(0.05, 10.0))
    measured = measured_of(field, Matrix([[1.0, 0.0, 0.0]]), double([2.0]), 0.3)
    how, levels = registry.find("sampler", sampler)().within(20)
    if sampler == "adaptive":
        how = dataclasses.replace(how, tolerance=0.3)
    method = GUIDED[name](sampler=how, levels=max(levels, 2))
    if how.ladder == "lowest":  # one level, which does not lead there: it stays there
        start = double([[2.0, 1.0, 0.5]]).expand(16, 3)
        *_, last = simulate(method.guided(field, measured), how, ladder_of(field, "lowest", 1), start, rng=SampleRng(range(16)))
        x = last.x
    else:
        x = method.draw(field, measured, rng=SampleRng(range(16))).x
    prior = field.sample(SampleRng(range(1000)))
    assert float(((x[:, 0] - 2) ** 2).mean()) < 0.5 * float(((prior[:, 0] - 2) ** 2).mean())


# --- what holds for every method --------------------------------------------------------------------------------------


@each_method
def test_a_method_gives_one_draw_for_each_seed_and_says_what_it_cost(name: str) -> None:
    field, method = mixture(VE(0.05, 10.0)), small(METHODS[name])
    keep, y, seen = Mask([True, False, True]), double([1.0, 0.2]), list[float]()
    found = method.draw(field, Measured(keep, y, 0.2), rng=SampleRng(range(5)), progress=lambda share, _: seen.append(share))
    assert found.x.shape == (5, 3) and found.x.dtype == torch.float64 and found.method == name
    assert torch.equal(y, double([1.0, 0.2]))
    assert found.evaluations > 0 and seen == sorted(seen) and seen[-1] == 1
    residual = ((found.x[:, [0, 2]] - y) ** 2 / 0.2**2).mean(dim=1).sqrt()
    numpy.testing.assert_allclose(found.residual, residual, rtol=1e-12)
    assert bool(found.effective.isnan().all()) != METHODS[name].keeps_weights


@each_method
def test_a_draw_is_a_function_of_its_seed_alone(name: str) -> None:
    field, method = mixture(VE(0.05, 10.0)), small(METHODS[name])
    y = double([1.0, 0.2])
    keep = Mask([True, False, True])
    many = posterior_sample(field, keep, y, 0.2, rng=SampleRng(range(16)), method=method).x
    alone = posterior_sample(field, keep, y, 0.2, rng=SampleRng([11]), method=method).x
    numpy.testing.assert_allclose(many[11:12], alone, rtol=1e-7, atol=1e-8)
    assert len({tuple(row) for row in many.tolist()}) == 16


class OfClass:
    """Gaussian data around -2 or 2, by the class."""

    def __init__(self) -> None:
        self.process, self.shape, self.data_mean, self.data_std = VE(0.05, 10.0), (2,), torch.zeros(2), 2.1

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        assert cond is not None and len(cond) == len(x)
        middle = (4.0 * cond - 2).unsqueeze(1)
        return Prediction.of_score(self.process, x, t, (middle - x) / (0.25 + self.process.sigma(t).unsqueeze(1) ** 2))


@each_method
def test_every_draw_has_its_own_class(name: str) -> None:
    classes, y = torch.arange(32) % 2, double([0.3])
    found = posterior_sample(OfClass(), FIRST, y, 1.0, rng=SampleRng(range(32)), method=small(METHODS[name], 30), cond=classes)
    assert bool(((found.x[:, 1] > 0) == (classes == 1)).all())


@each_method
def test_a_method_for_linear_operators_refuses_others_before_it_draws(name: str) -> None:
    field = mixture(VE(0.05, 10.0))
    asked = OfScore(field, lambda x, t: field(x, t).score)
    if METHODS[name].linear_only:
        with pytest.raises(ScorefieldError, match=r"which is not linear, for .*, expected a linear operator"):
            posterior_sample(asked, Absolute(), double([1.0, 1.0, 1.0]), 0.1, rng=SampleRng([0]), method=name)
        assert asked.asked == []
    else:
        prior = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.4, 0.4], VE(0.05, 10.0))
        found = posterior_sample(
            prior, Absolute(), double([1.0]), 0.2, rng=SampleRng(range(100)), method=small(METHODS[name], 60)
        )
        assert within_five((found.x[:, 0] > 0).double(), 0.5) and float((found.x.abs() - 1).abs().mean()) < 0.3


@each_method
def test_two_readings_of_one_number_that_differ_are_averaged_where_there_is_no_noise(name: str) -> None:
    """The equations have no solution; what the operator cannot have measured is not answered by a number without limit."""
    if name in ("dps", "repaint", "split-gibbs"):  # of a scatter of its own; of masks only; smoothed by its last rho
        return
    method, y = small(METHODS[name], 30), double([1.0, 1.2, 0.7])
    twice = Matrix([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = posterior_sample(mixture(VE(0.01, 10.0)), twice, y, 0.0, rng=SampleRng(range(8)), method=method)
    numpy.testing.assert_allclose(found.x[:, 0], 1.1, atol=1e-3)


def test_split_gibbs_has_an_answer_to_two_readings_that_differ() -> None:
    twice = Matrix([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    v = likely(Measured(twice, double([1.0, 1.2, 0.7]), 0.0), X, 0.5, double([1.0, 1.0, 0.0]), SampleRng(range(16)))
    numpy.testing.assert_allclose(v[:, 0], 1.1, atol=1e-6)


@each_method
def test_a_method_is_its_own_configuration(name: str) -> None:
    method = METHODS[name]()
    assert dataclasses.replace(method) == method
    with pytest.raises(ValueError, match="Unexpected keyword argument"):
        METHODS[name](nonsense=1)


# --- what the docstrings say of the bias ------------------------------------------------------------------------------

STATED = {  # of `guided.py`: means, variances, share of the second mode
    "exact": (1.376, 1.101, 0.083, 0.413, 0.490),
    "mmps": (1.376, 1.100, 0.082, 0.412, 0.450),
    "tmpd": (1.376, 1.100, 0.082, 0.412, 0.450),
    "pigdm": (1.344, 1.045, 0.091, 0.434, 0.487),
    "diffpir": (1.350, 0.691, 0.073, 0.544, 0.447),
}


def test_the_exact_answers_to_the_two_questions_are_those_stated() -> None:
    mean, covariance = posterior_of(RHO.mean, RHO.covariance, double([[1.0, 0.0]]), double([1.5]), 0.3)
    joint = double([0.7, 0.3]).log() - 0.5 * (0.3 - double([-2.0, 2.0])) ** 2 / (0.49 + 1)
    numpy.testing.assert_allclose([*mean, *covariance.diagonal(), joint.softmax(0)[1]], STATED["exact"], atol=5e-4)


@pytest.mark.parametrize("name", [name for name in STATED if name != "exact"])
def test_a_guided_field_has_the_stated_bias_on_a_gaussian_to_every_digit(name: str) -> None:
    """Its steps are affine there, so mean and covariance are pushed through them without Monte Carlo."""
    method = METHODS[name]()
    field = method.guided(RHO, measured_of(RHO, FIRST, double([1.5]), 0.3))
    start = torch.zeros(2, dtype=torch.float64), (20.0**2 + 1) * torch.eye(2, dtype=torch.float64)
    ladder = ladder_of(RHO, method.sampler.ladder, method.levels)
    mean, covariance = push(*start, affine_map(field, method.sampler, ladder, denoise=True))
    numpy.testing.assert_allclose([*mean, *covariance.diagonal()], STATED[name][:4], atol=5e-4)


@pytest.mark.parametrize("name", [name for name in STATED if name != "exact"])
def test_a_guided_field_gives_a_mode_the_stated_share(name: str) -> None:
    found = posterior_sample(MODES, FIRST, double([0.3]), 1.0, rng=SampleRng(range(3000)), method=name)
    share = MODES.responsibilities(found.x, torch.zeros(3000, dtype=torch.float64))[:, 1]
    assert abs(float(share.mean()) - STATED[name][4]) < 5 * float(share.std()) * math.sqrt(1 / 3000 + 1 / 20000)


# --- RePaint and split Gibbs ------------------------------------------------------------------------------------------


def test_repaint_puts_y_back_exactly_and_is_replacement_with_repeats() -> None:
    method = Repaint(repeats=3, levels=20)
    found = posterior_sample(RHO, FIRST, double([1.5]), 0.3, rng=SampleRng(range(50)), method=method).x
    observed = double([[1.5, math.nan]]).expand(50, 2)
    ladder = ladder_of(RHO, "geometric", 20)
    *_, same = simulate(RHO, Replacement(Ancestral(), observed, repeats=3), ladder, rng=SampleRng(range(50)))
    assert torch.equal(found[:, 1], same.x[:, 1]) and bool((found[:, 0] == 1.5).all())


def test_repaint_takes_any_choice_of_coordinates_in_any_units_and_nothing_else() -> None:
    swapped = Matrix([[0.0, 0.0, 1.0], [-2.0, 0.0, 0.0]])
    known = known_of(Measured(swapped, double([5.0, 7.0]), 0.0), (3,))
    assert known[[0, 2]].tolist() == [-3.5, 5.0] and bool(known[1].isnan())
    cut = InUnits(Crop(2), torch.full((1, 4, 4), 3.0), torch.ones(1, 4, 4))
    known = known_of(Measured(cut, torch.arange(4.0, dtype=torch.float64).reshape(1, 2, 2), 0.0), (1, 4, 4))
    assert known[0, 1:3, 1:3].flatten().tolist() == [0.0, 1 / 3, 2 / 3, 1.0] and int(known.isnan().sum()) == 12
    for operator in (Matrix([[1.0, 1.0, 0.0]]), Matrix([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), Project(2), Blur(0.5)):
        shape = (1, 8, 8) if isinstance(operator, Blur) else (3,)
        y = torch.ones(operator.shape_out(shape), dtype=torch.float64)
        with pytest.raises(
            ScorefieldError, match=r"for RePaint, .* expected an operator that leaves some coordinates as they are"
        ):
            known_of(Measured(operator, y, 0.0), shape)


def test_the_copy_with_the_likelihood_is_drawn_from_its_conditional() -> None:
    """v given x is Gaussian: prior N(x, rho²·I), measured by A with noise s."""
    rho, n = 0.7, 20_000
    x = MEAN.expand(n, 3)
    v = likely(Measured(Matrix(MATRIX), Y, NOISE), x, rho, MATRIX.square().sum(dim=1), SampleRng(range(n)))
    mean, covariance = posterior_of(MEAN, rho**2 * torch.eye(3, dtype=torch.float64), MATRIX, Y, NOISE)
    assert bool(((v.mean(dim=0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all())
    scale = covariance.diagonal().sqrt()
    error = (torch.cov(v.mT) - covariance).abs() / torch.outer(scale, scale)
    assert float(error.max()) < 5 * math.sqrt(2 / n)


def test_split_gibbs_at_a_fixed_rho_is_the_posterior_of_a_noisier_measurement() -> None:
    """N(y; A·x, s²·I + rho²·A·Aᵀ): with one coordinate measured, s² + rho² for s²."""
    n, rho, s = 3000, 1.0, 0.3
    method = SplitGibbs(turns=15, first=rho, last=rho, levels=30)
    x = posterior_sample(RHO, FIRST, double([1.5]), s, rng=SampleRng(range(n)), method=method).x
    mean, covariance = posterior_of(RHO.mean, RHO.covariance, double([[1.0, 0.0]]), double([1.5]), math.hypot(s, rho))
    assert bool(((x.mean(dim=0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all())
    assert bool(((x.var(dim=0) / covariance.diagonal() - 1).abs() < 5 * math.sqrt(2 / n)).all())
    exact, _ = posterior_of(RHO.mean, RHO.covariance, double([[1.0, 0.0]]), double([1.5]), s)
    assert bool(((x.mean(dim=0) - exact).abs() > 5 * (covariance.diagonal() / n).sqrt()).all())


def test_split_gibbs_refuses_what_it_cannot_anneal() -> None:
    for method in (SplitGibbs(first=0.1, last=1.0),):
        with pytest.raises(ScorefieldError, match="expected first >= last"):
            posterior_sample(RHO, FIRST, double([1.5]), 0.3, rng=SampleRng([0]), method=method)


STATED_BY_MONTE_CARLO = {  # of `guided.py`, from so many draws
    "dps": (Dps(), 10_000, (1.420, 1.041, 0.065, 0.514, 0.672)),
    "split-gibbs": (SplitGibbs(), 3000, (1.336, 1.003, 0.096, 0.454, 0.416)),
    "repaint": (Repaint(), 2000, (1.500, 1.157, 0.000, 0.330, 0.780)),
}


@pytest.mark.parametrize("name", STATED_BY_MONTE_CARLO)
def test_the_others_have_the_stated_bias(name: str) -> None:
    n = 300
    method, of, (*means, first, second, share) = STATED_BY_MONTE_CARLO[name]
    x = posterior_sample(RHO, FIRST, double([1.5]), 0.3, rng=SampleRng(range(10_000, 10_000 + n)), method=method).x
    z = posterior_sample(MODES, FIRST, double([0.3]), 1.0, rng=SampleRng(range(10_000, 10_000 + n)), method=method).x
    variances = double([first, second])
    chance = math.sqrt(1 / n + 1 / of)
    assert bool(((x.mean(dim=0) - double(means)).abs() <= 5 * variances.sqrt() * chance + 5e-4).all())
    assert bool(((x.var(dim=0) - variances).abs() <= 5 * math.sqrt(2) * variances * chance + 5e-4).all())
    shares = MODES.responsibilities(z, torch.zeros(n, dtype=torch.float64))[:, 1]
    assert abs(float(shares.mean()) - share) < 5 * float(shares.std()) * chance
