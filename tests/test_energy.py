"""Energies: a field that is the gradient of something, and learning it by contrast with its own samples."""

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import shaken
from torch import Tensor, nn

from scorefield import (
    EDM,
    VE,
    EnergyField,
    EnergyModel,
    Gaussian,
    GaussianMixture,
    Noiseless,
    Prediction,
    SampleRng,
    ScorefieldError,
    ScoreModel,
    Uniform,
    registry,
)
from scorefield.config import from_dict, override, to_dict
from scorefield.data import DataConfig, open_source
from scorefield.levels import Levels
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.nets.unet import UNet
from scorefield.objectives.contrastive import Contrastive, Persistent, walk
from scorefield.objectives.denoising import Denoising
from scorefield.prediction import Energy
from scorefield.process import Process
from scorefield.recipes import data_stats
from scorefield.runs import build_model
from scorefield.training.loop import Trainer

FORMS = ["inner", "residual", "plain"]
each_form = pytest.mark.parametrize("form", FORMS)
EPS = torch.finfo(torch.float64).eps
N = 20_000


def vectors(form: Any, process: Process | None = None, classes: int = 0) -> EnergyModel:
    network = Potential(MLP((3,), width=16, depth=2, classes=classes), form)
    return EnergyModel(shaken(network), Energy(data_std=0.7, form=form), process or VE(0.1, 5.0), (3,))


def images(form: Any) -> EnergyModel:
    network = Potential(UNet((2, 6, 4), channels=(8, 16), blocks=1), form)
    return EnergyModel(shaken(network), Energy(form=form), VE(0.1, 5.0), (2, 6, 4))


def places(shape: tuple[int, ...], n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64), torch.linspace(0.05, 0.9, n, dtype=torch.float64)


# --- a field without curl ---------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("make", [vectors, images])
def test_the_score_is_minus_the_slope_of_the_energy(make: Any, form: str) -> None:
    """Central differences along random directions: their error is h²·f'''/6 + eps·|E|/h, which halving h must show."""
    model = make(form)
    x, t = places(model.shape)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slope = (model(x, t).score * direction).flatten(1).sum(1).detach()

    def error(h: float) -> Tensor:
        with torch.no_grad():
            ahead, behind = model.energy(x + h * direction, t), model.energy(x - h * direction, t)
        return (slope + (ahead - behind) / (2 * h)).abs()

    coarse, fine = error(2e-3), error(1e-3)
    assert bool((coarse > 1e-9).any())  # there is a third derivative to see
    rounding = 100 * EPS * model.energy(x, t).abs().max().detach() / 1e-3
    assert bool((fine < coarse / 3.8 + rounding).all())  # 4 to leading order: the limit is the slope itself
    assert bool((fine < 1e-3 * slope.abs()).all())  # and no factor 2, no sign


def jacobian(field: Any, x: Tensor, t: Tensor) -> Tensor:
    rows = []
    for i in range(x.shape[1]):
        inside = x.clone().requires_grad_(True)
        (row,) = torch.autograd.grad(field(inside, t).score[:, i].sum(), inside)
        rows.append(row)
    return torch.stack(rows, dim=1)


@pytest.mark.theorem("energy-no-curl")
@each_form
def test_an_energy_has_no_curl_whatever_its_weights_and_a_score_network_has(form: str) -> None:
    model = vectors(form)
    x, t = places((3,))
    slopes = jacobian(model, x, t)
    assert float((slopes - slopes.mT).abs().max()) < 1e3 * EPS * float(slopes.abs().max())
    free = ScoreModel(model.network.network, EDM(data_std=0.7), model.process, (3,))
    turned = jacobian(free, x, t)
    assert float((turned - turned.mT).abs().max()) > 1e-2 * float(turned.abs().max())


def test_every_form_is_the_scalar_that_its_docstring_prints() -> None:
    network, (u, label) = shaken(MLP((3,), width=16)), places((3,))
    f = network(u, label).detach()
    truth = {
        "inner": [float(a @ b) for a, b in zip(u, f, strict=True)],
        "residual": [float((a - b).norm() ** 2 - a.norm() ** 2) / 2 for a, b in zip(u, f, strict=True)],
        "plain": [float(sum(b)) for b in f],
    }
    for form, numbers in truth.items():
        assert Potential(network, form)(u, label).tolist() == pytest.approx(numbers, rel=1e-12)
    assert set(truth) == set(FORMS)


@pytest.mark.theorem("energy-preconditioned")
@each_form
@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_before_training_the_energy_is_that_of_the_gaussian_with_the_spread_of_the_data(form: Any, sd: float) -> None:
    """phi starts at zero, and what is left is -log N(0, sd² + sigma²) up to the constant: the best of all Gaussians."""
    process = VE(0.1, 5.0)
    model = EnergyModel(Potential(MLP((3,)), form).double(), Energy(data_std=sd, form=form), process, (3,))
    truth = Gaussian([0.0] * 3, sd**2 * torch.eye(3, dtype=torch.float64), process)
    x, t = places((3,))
    with torch.no_grad():
        assert float((model(x, t).score - truth(x, t).score).abs().max()) < 1e-12
        energy = model.energy(x, t) - model.energy(0 * x, t)
        assert float((energy - (truth.energy(x, t) - truth.energy(0 * x, t))).abs().max()) < 1e-12


@pytest.mark.theorem("energy-preconditioned")
@each_form
def test_the_network_behind_an_energy_is_asked_for_edms_output(form: Any) -> None:
    """With y = -grad phi the score is the one that EDM makes of the output y: same input, same target, same unit size."""
    model = vectors(form)
    x, t = places((3,))
    alpha, sigma = model.process.alpha(t), model.process.sigma(t)
    edm = EDM(data_std=0.7)
    u = (edm.input_scale(alpha, sigma)[:, None] * x).requires_grad_(True)
    (slope,) = torch.autograd.grad(model.network(u, sigma.log()).sum(), u)
    same = Prediction(model.process, x, t, -slope, *edm.pair(alpha, sigma)).score
    assert float((model(x, t).score - same).detach().abs().max()) < 1e-10 * float(same.detach().abs().max())


def test_an_energy_without_noise_is_finite_and_has_its_slope() -> None:
    model = vectors("inner", Noiseless())
    x, t = places((3,))[0], torch.zeros(5, dtype=torch.float64)
    assert bool(model.energy(x, t).isfinite().all())
    u = (x / 0.7).requires_grad_(True)
    (slope,) = torch.autograd.grad(model.network(u, t).sum(), u)
    assert float((model(x, t).score + x / 0.49 + slope / 0.7).detach().abs().max()) < 1e-12


@each_form
@pytest.mark.parametrize("make", [vectors, images])
def test_a_loss_on_the_score_reaches_every_weight_through_two_backward_passes(make: Any, form: str) -> None:
    """Attention too, whose fused kernels have no second derivative. A gradient forgets only what is constant in x."""
    model = make(form).train()
    x, t = places(model.shape)
    (model(x, t).score ** 2).sum().backward()
    dead = [name for name, weight in model.named_parameters() if weight.grad is None or not bool((weight.grad != 0).any())]
    assert dead == ([name for name, _ in model.named_parameters() if name.endswith("last.bias")] if form == "plain" else [])


def test_scores_are_had_with_gradients_on_and_off_and_the_state_is_left_alone() -> None:
    model, (x, t) = vectors("inner"), places((3,))
    with torch.no_grad():
        off = model(x, t).score
    assert not off.requires_grad and not x.requires_grad
    on = model(x, t).score
    assert on.requires_grad and not x.requires_grad
    frozen = model.requires_grad_(False)(x, t).score
    for score in (on.detach(), frozen.detach()):
        assert float((score - off).abs().max()) < 100 * EPS * float(off.abs().max())


def test_an_energy_in_float32_serves_a_state_in_float64() -> None:
    double = vectors("inner")
    x, t = places((3,))
    with torch.no_grad():
        truth, energy = double(x, t).score, double.energy(x, t)
        single = double.float()
        assert single(x, t).score.dtype == single.energy(x, t).dtype == torch.float64
        assert float((single(x, t).score - truth).abs().max()) < 1e-5 * float(truth.abs().max())
        assert float((single.energy(x, t) - energy).abs().max()) < 1e-5 * float(energy.abs().max())


def test_class_labels_reach_the_energy_and_its_slope() -> None:
    model, (x, t) = vectors("inner", classes=2), places((3,))
    one, two = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    assert bool((model.energy(x, t, one) != model.energy(x, t, two)).all())
    assert bool((model(x, t, one).score != model(x, t, two).score).all())


def test_only_energies_are_energy_fields() -> None:
    model = vectors("inner")
    assert isinstance(model, EnergyField)
    assert not isinstance(ScoreModel(MLP((3,)), EDM(), VE(), (3,)), EnergyField)


# --- learning it by denoising -----------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """E = k·|x|²/2 with the one weight k: the Gaussian N(0, 1/k)."""

    def __init__(self, k: float, process: Process | None = None) -> None:
        super().__init__()
        self.process, self.shape, self.data_std = process or Noiseless(), (1,), 1.0
        self.data_mean = torch.zeros(1, dtype=torch.float64)
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def energy(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.k * (x**2).flatten(1).sum(1) / 2

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        return Prediction.of_score(self.process, x, t, -self.k * x)


def test_denoising_matching_finds_the_curvature_of_a_gaussians_energy() -> None:
    """A linear network makes phi a quadratic form: its curvature at one level must become 1/(v_i + sigma²) along every axis."""
    process, spread = VE(0.5, 0.500001), torch.tensor([0.4, 1.5])
    truth = Gaussian([0.0, 0.0], torch.diag(spread**2), process)

    class Linear(nn.Linear):
        def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
            return super().forward(x)

    model = EnergyModel(Potential(Linear(2, 2, bias=False).double()), Energy(), process, (2,))
    objective, x0 = Denoising(), truth.sample(SampleRng(range(N)))
    optimiser = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=50, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective(model, x0, rng=SampleRng(range(N), stream=1)).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    x, t = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    curvature = -(jacobian(model, x, t)[0])
    total = spread.double() ** 2 + 0.25
    # least squares of -noise/sigma on x: residual variance 1/sigma² - k, textbook standard error of a slope
    errors = ((4 - 1 / total) / total / N).sqrt()
    assert bool(((curvature.diagonal() - 1 / total).abs() < 5 * errors).all())
    assert bool((errors < 0.05 / total).all())  # so a factor 2 would be 10 errors away or more


@functools.cache
def losses_of(form: Any, steps: int) -> Tensor:
    """The loss above the truth, on every example, of an energy of a form after so many steps; None is a score network.

    Levels 0.01 to 10, and the same weights in every network.
    """
    process = VE(0.01, 10.0)
    truth = GaussianMixture([0.6, 0.4], [[-1.0, 0.0], [1.0, 0.6]], [0.3, 0.2], process)
    sd = truth.data_std
    torch.manual_seed(0)
    network = MLP((2,), width=48, depth=2)
    model = (
        EnergyModel(Potential(network, form), Energy(sd, form), process, (2,))
        if form
        else ScoreModel(network, EDM(sd), process, (2,))
    )
    objective = Denoising(noise_distribution=Uniform(), weighting=registry.find("weighting", "edm")(data_std=sd))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        rng = SampleRng(range(128 * step, 128 * (step + 1)))
        loss = objective(model, truth.sample(rng).float(), rng=rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        optimiser.step()
    x0 = truth.sample(SampleRng(range(4000), stream=1))
    with torch.no_grad():
        found, best = (objective(field, x0, rng=SampleRng(range(4000), stream=2)) for field in (model, truth))
    return found - best


@each_form
def test_an_energy_learns_a_mixtures_score_as_well_as_a_score_network_does_in_as_many_steps(form: str) -> None:
    def excess(losses: Tensor) -> float:
        """How many standard errors it lies above the score network's, on the same examples."""
        difference = losses - losses_of(None, 150)
        return float(difference.mean()) * math.sqrt(len(difference)) / float(difference.std())

    assert excess(losses_of(form, 150)) < 5
    assert excess(losses_of(form, 0)) > 5


# --- contrastive divergence -------------------------------------------------------------------------------------------

V = 0.8  # the variance of the data


def data(n: int = N) -> Tensor:
    return Gaussian([0.0], [[V]], Noiseless()).sample(SampleRng(range(n)))


def slopes(objective: Any, k: float, n: int = N) -> Tensor:
    """d loss/dk of every example, from one backward pass an example's own copy of k would give: E is linear in k."""
    model, x0 = Quadratic(k), data(n)
    # loss = k·(x² - negative²)/2 with the negative held, so the slope is loss/k
    loss = objective(model, x0, rng=SampleRng(range(n), stream=1), learned=objective.prepare(model))
    (whole,) = torch.autograd.grad(loss.sum(), model.k)
    each = (loss / model.k).detach()
    assert float(whole) == pytest.approx(float(each.sum()), rel=1e-9)  # nothing flows through the chain
    return each


def is_mean(values: Tensor, truth: float) -> bool:
    return abs(float(values.mean()) - truth) < 5 * float(values.std()) / math.sqrt(len(values))


def after(k: float, tau: float, steps: int) -> float:
    """Variance of the negatives: x <- (1 - tau·k)·x + sqrt(2·tau)·z from N(0, V)."""
    variance = V
    for _ in range(steps):
        variance = (1 - tau * k) ** 2 * variance + 2 * tau
    return variance


@pytest.mark.theorem("likelihood-gradient")
def test_with_many_exact_steps_the_gradient_is_that_of_maximum_likelihood() -> None:
    """d/dk of the negative log-likelihood k·V/2 - ln(k)/2 is V/2 - 1/(2k)."""
    k, tau = 2.0, 0.3
    truth = V / 2 - 1 / (2 * k)
    assert is_mean(slopes(Contrastive(steps=25, tau=tau, adjusted=True), k), truth)
    few = slopes(Contrastive(steps=1, tau=tau, adjusted=True), k)
    assert not is_mean(few, truth)  # one step does not reach the model
    assert not is_mean(few, 2 * truth) and not is_mean(few, -truth)
    assert not is_mean(slopes(Contrastive(steps=25, tau=tau), k), truth)  # and unadjusted steps reach another density


@pytest.mark.theorem("contrastive-divergence")
@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_of_cd_k_is_that_of_k_langevin_steps(steps: int) -> None:
    for k, tau in ((3.0, 0.1), (0.6, 0.5)):
        found = slopes(Contrastive(steps=steps, tau=tau), k)
        assert is_mean(found, (V - after(k, tau, steps)) / 2)
        assert not is_mean(found, (after(k, tau, steps) - V) / 2)
    assert not is_mean(found, (V - after(k, 2 * tau, steps)) / 2)  # a lost factor 2 of either convention
    assert not is_mean(found, (V - after(k, tau / 2, steps)) / 2)
    assert not is_mean(found, (V - after(k, tau, steps - 1)) / 2)


@pytest.mark.theorem("contrastive-divergence")
@pytest.mark.parametrize("steps", [1, 5])
def test_cd_settles_where_the_langevin_steps_and_not_the_model_have_the_datas_variance(steps: int) -> None:
    """V = v/(1 - tau/(2v)) for v = 1/k, hence k = (1 - sqrt(1 - 2·tau/V))/tau; with a Metropolis test k = 1/V."""
    tau = 0.3
    biased, right = (1 - math.sqrt(1 - 2 * tau / V)) / tau, 1 / V
    assert is_mean(slopes(Contrastive(steps=steps, tau=tau), biased), 0.0)
    assert not is_mean(slopes(Contrastive(steps=steps, tau=tau), right), 0.0)
    assert is_mean(slopes(Contrastive(steps=steps, tau=tau, adjusted=True), right), 0.0)
    assert not is_mean(slopes(Contrastive(steps=steps, tau=tau, adjusted=True), biased), 0.0)


def fitted(objective: Persistent, visits: int = 120) -> float:
    """1/k after gradient steps with falling length, from a model that is three times too narrow."""
    model, x0 = Quadratic(3 / V).train(), data(objective.chains)
    chains = objective.prepare(model)
    tail = []
    for visit in range(visits):
        rng = SampleRng(range(visit * len(x0), (visit + 1) * len(x0)), stream=1)
        loss = objective(model, x0, rng=rng, learned=chains).mean()
        (slope,) = torch.autograd.grad(loss, model.k)
        with torch.no_grad():
            model.k -= 0.8 / (1 + visit / 40) * slope
        tail.append(float(model.k.detach()))
    return 1 / (sum(tail[visits // 2 :]) / (visits - visits // 2))


def test_persistent_chains_find_the_variance_up_to_the_bias_of_langevin_steps() -> None:
    """v with v/(1 - tau/(2v)) = the data's second moment m; the chains' own noise is sqrt(2/chains)·v a visit at most."""
    chains, tau = 10_000, 0.3
    m = float((data(chains) ** 2).mean())
    error = 5 * m * math.sqrt(2 / chains)
    biased = tau / (1 - math.sqrt(1 - 2 * tau / m))
    found = fitted(Persistent(steps=2, tau=tau, chains=chains, restart=0.0))
    assert abs(found - biased) < error
    assert abs(found - m) > error  # the bias is there to be seen
    exact = fitted(Persistent(steps=2, tau=tau, chains=chains, restart=0.0, adjusted=True))
    assert abs(exact - m) < error
    assert abs(exact - biased) > error


def test_the_metropolis_test_keeps_a_mixture_as_it_is_and_a_step_without_it_does_not() -> None:
    """Every moment of an exact sample stays: here the mean of cos(3x), which large unadjusted steps wash out."""
    field = GaussianMixture([0.7, 0.3], [[-1.0], [1.0]], [0.4, 0.3], Noiseless())
    x, t, tau = (
        field.sample(SampleRng(range(N))),
        torch.zeros(N, dtype=torch.float64),
        torch.full((N,), 0.1, dtype=torch.float64),
    )
    weights, means, stds = (torch.tensor(v, dtype=torch.float64) for v in ([0.7, 0.3], [-1.0, 1.0], [0.4, 0.3]))
    truth = float((weights * (3 * means).cos() * (-4.5 * stds**2).exp()).sum())
    for adjusted in (True, False):
        moved = walk(field, x, t, steps=10, tau=tau, adjusted=adjusted, rng=SampleRng(range(N), stream=1))
        assert is_mean((3 * moved[:, 0]).cos(), truth) == adjusted
        assert float(((moved - x).abs() > 0.1).double().mean()) > 0.5  # they do move


def test_noise_levels_are_those_of_the_density_and_the_data_are_noised_to_them() -> None:
    """At level sigma the energy contrasted is that of N(0, V + sigma²): its slope vanishes there with adjusted steps."""
    process = VE(0.5, 3.0)

    class Noisy(Quadratic):
        def energy(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
            return super().energy(x, t) / (V + self.process.sigma(t) ** 2)

        def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
            return Prediction.of_score(self.process, x, t, -self.k * x / (V + self.process.sigma(t) ** 2)[:, None])

    for k, right in ((1.0, True), (1.2, False), (0.8, False)):
        terms = Contrastive(Uniform(), steps=3, adjusted=True).terms(
            Noisy(k, process), data(), rng=SampleRng(range(N), stream=1)
        )
        assert is_mean(terms.loss.detach(), 0.0) == right
        assert terms.t is not None and float(terms.t.min()) >= 0 and float(terms.t.std()) > 0.2


@pytest.mark.parametrize("objective", [Contrastive(steps=2), Persistent(steps=2, chains=16)], ids=["contrastive", "persistent"])
def test_an_examples_loss_does_not_depend_on_its_batch(objective: Any) -> None:
    model = images("inner").eval()  # in training the chains would go on
    learned = objective.prepare(model)
    x0 = places(model.shape, 6)[0]
    whole = objective(model, x0, rng=SampleRng(range(6)), learned=learned).detach()
    alone = torch.cat([objective(model, x0[i : i + 1], rng=SampleRng([i]), learned=learned) for i in range(6)]).detach()
    assert whole.shape == (6,)
    assert float((whole - alone).abs().max()) < 1e-9 * float(whole.abs().max())


# --- chains are state -------------------------------------------------------------------------------------------------


def test_chains_move_in_training_only_and_each_example_moves_its_own() -> None:
    model = vectors("inner").train()
    objective = Persistent(steps=2, chains=8, restart=0.0)
    learned = objective.prepare(model)
    x0, before = places((3,), 3)[0], learned.chains.clone()
    objective(model.eval(), x0, rng=SampleRng(range(3)), learned=learned)
    with torch.no_grad():
        objective(model.train(), x0, rng=SampleRng(range(3)), learned=learned)
    assert torch.equal(learned.chains, before)
    objective(model, x0, rng=SampleRng([8 + 1, 5, 16 + 7]), learned=learned)
    moved = (learned.chains != before).any(dim=1)
    assert moved.tolist() == [i in (1, 5, 7) for i in range(8)]
    middle = learned.chains.clone()
    objective(model, x0, rng=SampleRng([1, 5, 7]), learned=learned)
    tau = 0.1 * model.process.sigma(objective.times(model, torch.tensor([1, 5, 7]))) ** 2
    step = (learned.chains - middle)[[1, 5, 7]].norm(dim=1)
    assert bool((step < 10 * (2 * 2 * tau * 3).sqrt()).all())  # they went on from where they were


def test_a_restart_is_at_the_data_or_in_the_prior() -> None:
    """With restart = 1 the chain's past is forgotten; born at the data, persistent chains are contrastive divergence."""
    n, k, tau = N, 2.0, 0.2
    at_data = Persistent(steps=1, tau=tau, chains=n, restart=1.0)
    found = slopes(at_data, k)
    assert is_mean(found, (V - after(k, tau, 1)) / 2)
    from_noise = slopes(replace(at_data, born="noise"), k)
    assert is_mean(from_noise, (V - ((1 - tau * k) ** 2 * 1.0 + 2 * tau)) / 2)  # data_std is 1 here
    assert not is_mean(found, float(from_noise.mean()))


def test_the_chains_of_any_stretch_of_a_batch_see_every_part_of_the_density() -> None:
    model, objective = vectors("inner"), Persistent(Uniform(), chains=1024)
    for first in (0, 100, 511):
        t = objective.times(model, torch.arange(first, first + 64)).sort().values
        assert float(t.diff().max()) < 3 / 64
        assert t[0] < 2 / 64 and t[-1] > 1 - 2 / 64


def test_what_has_no_energy_no_chains_or_too_few_of_them_is_refused_with_a_sentence() -> None:
    x0 = places((3,))[0]
    score = ScoreModel(MLP((3,)).double(), EDM(), VE(), (3,))
    for objective in (Contrastive(), Persistent()):
        with pytest.raises(ScorefieldError, match=r"no energy.*parametrisation=energy"):
            objective.check(score)
        with pytest.raises(ScorefieldError, match=r"network\.dropout=0"):
            network = Potential(UNet((1, 4, 4), channels=(8,), blocks=1, dropout=0.1))
            objective.check(EnergyModel(network, Energy(), VE(), (1, 4, 4)))
        objective.check(vectors("inner"))
    with pytest.raises(ScorefieldError, match="prepare"):
        Persistent()(vectors("inner"), x0, rng=SampleRng(range(5)))
    model = vectors("inner").train()
    few = Persistent(chains=4, steps=1)
    chains = few.prepare(model)
    with pytest.raises(ScorefieldError, match=r"5 examples on 4 persistent chains.*objective\.chains"):
        few(model, x0, rng=SampleRng(range(5)), learned=chains)
    with pytest.raises(ScorefieldError, match="labels"):
        few(model, x0, torch.zeros(5, dtype=torch.long), rng=SampleRng(range(5)), learned=chains)


def test_a_chain_that_runs_away_is_named_by_the_loss_and_not_kept() -> None:
    model = Quadratic(-1e9).train()
    objective = Persistent(steps=60, tau=1.0, chains=4, restart=0.0)
    learned = objective.prepare(model)
    loss = objective(model, data(4), rng=SampleRng(range(4)), learned=learned)
    assert not bool(loss.isfinite().all())
    assert bool(learned.chains.isfinite().all())


# --- a whole run ------------------------------------------------------------------------------------------------------

RUN = ("parametrisation=energy", "network.width=16", "network.depth=1", "training.pictures=0", "training.seconds=none")


def trainer(folder: Path, *settings: str) -> Trainer:
    source = open_source("two-moons", DataConfig(examples=300))
    stats = data_stats(source)
    config = override(registry.find("recipe", "auto")(stats).config, [*RUN, "training.batch=32", *settings])
    assert from_dict(to_dict(config)) == config
    model = build_model(config, source.shape, stats.std, stats.mean)
    assert isinstance(model, EnergyModel)
    return Trainer(config, source, model, folder, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "precision"),
    [("denoising", "float32"), ("contrastive", "bfloat16"), ("persistent", "float32"), ("persistent", "bfloat16")],
)
def test_a_run_of_an_energy_that_was_stopped_goes_on_bit_for_bit(name: str, precision: str, tmp_path: Path) -> None:
    settings = (f"objective={name}", f"training.precision={precision}", "training.steps=6")
    whole = trainer(tmp_path / "whole", *settings)
    list(whole.run())
    first = trainer(tmp_path / "parts", *settings)
    list(first.run(stop=lambda: first.clock.step == 3))
    second = trainer(tmp_path / "parts", *settings)
    assert second.resume() and second.clock.step == 3
    list(second.run())
    for one, two in ((whole.model, second.model), (whole.average, second.average)):
        assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    assert ("chains" in whole.model.state_dict()) == (name == "persistent")
    fresh = build_model(whole.config, (2,), whole.model.data_std)
    assert all(bool((a != b).any()) for a, b in zip(fresh.parameters(), whole.model.parameters(), strict=True))  # it did learn
    fresh.load_state_dict(whole.average.state_dict())  # and what was learned fits into a model made anew, chains and all


def test_the_same_levels_serve_as_one_or_as_many() -> None:
    assert Contrastive().noise_distribution == Persistent().noise_distribution == Levels()
