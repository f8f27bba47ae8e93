"""Implicit, sliced and finite-difference matching: the Fisher divergence by integration by parts, and where that breaks."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from helpers import OfScore, within_five
from torch import Tensor, nn

from scorefield import VE, Gaussian, GaussianMixture, Prediction, Process, SampleRng, ScoreModel, Uniform
from scorefield.errors import ScorefieldError
from scorefield.exact import Box
from scorefield.field import EnergyModel
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.nets.residual import ConditionedResNet
from scorefield.objectives.fisher import ExplicitFisher
from scorefield.objectives.implicit import ByParts, Implicit
from scorefield.objectives.sliced import FiniteDifference, Sliced
from scorefield.objectives.weightings import Learned, SigmaSquared, Unweighted
from scorefield.prediction import Energy, Score
from scorefield.process import Noiseless

N = 20_000
MATCHINGS = {
    "implicit": Implicit(),
    "sliced": Sliced(),
    "plain": Sliced(reduced=False, projection="gaussian", projections=3),
    "finite-difference": FiniteDifference(step=1e-3),
}
each_matching = pytest.mark.parametrize("objective", MATCHINGS.values(), ids=MATCHINGS)
SHAPES = [(4,), (1, 2, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
# Every pair of an objective, a shape, and a score or an energy.
each_pair = pytest.mark.parametrize(
    ("objective", "shape", "energy"),
    [(kind, shape, (i + j) % 2 == 1) for i, kind in enumerate(MATCHINGS.values()) for j, shape in enumerate(SHAPES)],
    ids=[f"{name}-{shape}" for name in MATCHINGS for shape in SHAPES],
)


def h(x: Tensor) -> Tensor:
    """A smooth vector field that is no gradient."""
    rows = x.flatten(1)
    return (torch.sin(rows) + rows.roll(1, dims=1).cos()).reshape(x.shape)


class OfEnergy(OfScore):
    """A field of a given energy, its score by automatic differentiation."""

    def energy(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.score(x, t)

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.energy(x, t).sum(), x, create_graph=True)
        return Prediction.of_score(self.process, x, t, -slope)


def mixture(process: Process) -> GaussianMixture:
    return GaussianMixture([0.7, 0.3], [[-1.0, 0.5, 0.2], [1.5, 0.0, -0.4]], [0.5, 0.8], process)


# --- integration by parts -----------------------------------------------------------------------------------------------


def panels(low: float, high: float, count: int = 200) -> tuple[Tensor, Tensor]:
    """Nodes `(n, 1)` and weights `(n,)` on [low, high]: panels of 20 Gauss-Legendre points."""
    nodes, weights = (torch.tensor(part) for part in numpy.polynomial.legendre.leggauss(20))
    edges = torch.linspace(low, high, count + 1, dtype=torch.float64)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).reshape(-1, 1), (half * weights).flatten()


SMOOTH = {  # in one coordinate, each with a wide enough range
    "gaussian": (Gaussian([0.7], [[2.25]], Noiseless()), 15.0),
    "mixture": (GaussianMixture([0.8, 0.2], [[-2.0], [1.5]], [0.5, 0.3], Noiseless()), 10.0),
    "noised box": (Box((1,), -1.0, 2.0, VE(0.3, 0.4)), 8.0),
}
each_smooth = pytest.mark.parametrize(("truth", "wide"), SMOOTH.values(), ids=SMOOTH)


def wave(x: Tensor, t: Tensor) -> Tensor:
    """A score that grows, so that the density must fall faster."""
    return torch.sin(2 * x) - 0.5 * x + 0.2 * x**2


@pytest.mark.theorem("stein-identity")
@each_smooth
def test_the_mean_of_a_field_along_the_score_is_minus_its_mean_divergence_where_the_density_ends_smoothly(
    truth: Any, wide: float
) -> None:
    """By quadrature; cut at an edge in the middle of the density, the two differ by p·s there."""
    for edge in (wide, 0.4):
        x, weights = panels(-wide, edge)
        t = torch.zeros(len(x), dtype=torch.float64)
        mass = weights * truth.log_prob(x, t).exp()
        divergence = 2 * torch.cos(2 * x) - 0.5 + 0.4 * x
        along, spread = (float(mass @ part[:, 0]) for part in (wave(x, t) * truth(x, t).score, divergence))
        end = torch.tensor([[edge]], dtype=torch.float64)
        boundary = float(truth.log_prob(end, t[:1]).exp() * wave(end, t[:1])[0, 0])
        assert abs(along - boundary + spread) < 1e-10
        assert (abs(boundary) < 1e-14) == (edge == wide)


@pytest.mark.theorem("implicit-loss")
@each_smooth
def test_the_implicit_loss_is_the_fisher_divergence_less_half_the_mean_square_of_the_true_score(
    truth: Any, wide: float
) -> None:
    """By quadrature of both objectives, with no Monte Carlo error."""
    x, weights = panels(-wide, wide)
    t = torch.zeros(len(x), dtype=torch.float64)
    mass, model = weights * truth.log_prob(x, t).exp(), OfScore(truth, wave)
    rng = SampleRng(range(len(x)))
    implicit, explicit = (float(mass @ o.at(model, x, t, rng=rng).detach()) for o in (Implicit(), ExplicitFisher(truth)))
    constant = 0.5 * float(mass @ truth(x, t).score[:, 0] ** 2)
    assert abs(implicit - explicit + constant) < 1e-10 * (explicit + constant)
    assert constant > 0.1 and explicit > 0.1


# --- the minimum ------------------------------------------------------------------------------------------------------


@each_pair
def test_on_a_gaussian_the_slope_vanishes_at_the_true_score_and_energy(objective: Any, shape: Any, energy: bool) -> None:
    """E = k/2·|x - m|²/v without any noise: the slopes by k and m are zero at (1, mean) and only there."""
    mean, variance = torch.linspace(-1, 1, 4, dtype=torch.float64).reshape(shape), 1.7
    field = Gaussian(mean, variance * torch.eye(4), Noiseless())
    x0 = field.sample(SampleRng(range(N)))

    def slopes(k: float, shift: float) -> tuple[Tensor, Tensor]:
        ks, ms = (torch.full((N,), value, dtype=torch.float64, requires_grad=True) for value in (k, shift))

        def away(x: Tensor) -> Tensor:
            return (x - mean).flatten(1) - ms[:, None]

        if energy:
            wrong: OfScore = OfEnergy(field, lambda x, t: 0.5 * ks * (away(x) ** 2).sum(1) / variance)
        else:
            wrong = OfScore(field, lambda x, t: (-ks[:, None] * away(x) / variance).reshape(x.shape))
        loss = objective(wrong, x0, rng=SampleRng(range(N), stream=1))
        by_k, by_m = torch.autograd.grad(loss.sum(), [ks, ms])
        return by_k, by_m

    assert all(within_five(slope) for slope in slopes(1.0, 0.0))
    assert not within_five(slopes(1.1, 0.0)[0]) and not within_five(slopes(0.9, 0.0)[0])
    assert float(slopes(1.1, 0.0)[0].mean()) > 0 > float(slopes(0.9, 0.0)[0].mean())
    assert not within_five(slopes(1.0, 0.3)[1])
    assert float(slopes(1.0, 0.3)[1].mean()) > 0 > float(slopes(1.0, -0.3)[1].mean())


@pytest.mark.theorem("gaussian-by-matching")
def test_the_best_linear_score_of_a_sample_is_that_of_its_own_mean_and_covariance() -> None:
    """Hyvarinen (2005), section 3.1: for Gaussians the estimate is maximum likelihood's, with no Monte Carlo error at all."""
    field = Gaussian([1.0, -2.0, 0.5], [[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]], Noiseless())
    x0 = field.sample(SampleRng(range(50)))
    centre = x0.mean(dim=0)
    precision = torch.linalg.inv((x0 - centre).mT @ (x0 - centre) / len(x0))

    def slopes(factor: float) -> list[Tensor]:
        k, m = (factor * precision).requires_grad_(True), centre.clone().requires_grad_(True)
        line = OfScore(field, lambda x, t: -(x - m) @ k)
        return list(torch.autograd.grad(Implicit()(line, x0, rng=SampleRng(range(50), stream=1)).mean(), [k, m]))

    assert all(float(slope.abs().max()) < 1e-12 for slope in slopes(1.0))
    assert float(slopes(1.1)[0].abs().max()) > 0.01


@pytest.mark.theorem("sliced-loss", "sliced-reduced")
@pytest.mark.parametrize("projection", ["rademacher", "gaussian", "sphere"])
@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("projections", [1, 3])
def test_any_directions_with_identity_covariance_give_the_whole_fisher_divergence(
    projection: Any, reduced: bool, projections: int
) -> None:
    objective = Sliced(projection=projection, reduced=reduced, projections=projections)
    difference, divergence = excess(objective)
    assert within_five(difference, divergence)
    assert not within_five(difference, divergence / 3) and not within_five(difference, 2 * divergence)


def excess(objective: ByParts) -> tuple[Tensor, Tensor]:
    """Loss of the true score + h less that of the true score, and 1/2·|h|² at other draws of x_t."""
    true = mixture(VE(0.4, 2.0))
    wrong = OfScore(true, lambda x, t: true(x, t).score + h(x))
    x0 = true.sample(SampleRng(range(N)))
    with torch.no_grad():
        losses = [objective(field, x0, rng=SampleRng(range(N), stream=1)) for field in (wrong, true)]
    other = SampleRng(range(N), stream=2)
    t = Uniform().quantile(true.process, other.uniform(()))
    x_t = true.process.perturb(true.sample(other), t, other.normal((3,)))
    return losses[0] - losses[1], 0.5 * (h(x_t) ** 2).sum(1)


def test_unit_vectors_give_the_fisher_divergence_divided_by_the_dimension() -> None:
    difference, divergence = excess(Sliced(projection="unit", reduced=False))
    assert within_five(difference, divergence / 3)
    assert not within_five(difference, divergence)


@pytest.mark.theorem("unit-directions")
def test_unit_vectors_in_the_reduced_form_have_their_minimum_at_the_score_divided_by_the_dimension() -> None:
    """Which is why it refuses them: here they are handed to it. The slope by k of s = -k·x of N(0, I) is zero at k = 1/d."""
    d, field = 4, Gaussian([0.0] * 4, torch.eye(4), Noiseless())
    x, v = field.sample(SampleRng(range(N))), SampleRng(range(N), stream=1).normal((d,))
    v /= v.norm(dim=1, keepdim=True)

    def slope(k: float, reduced: bool) -> Tensor:
        ks = torch.full((N, 1), k, dtype=torch.float64, requires_grad=True)
        line, t = OfScore(field, lambda x, t: -ks * x), torch.zeros(N, dtype=torch.float64)
        loss = Sliced(reduced=reduced).along(line, x, t, iter([v]))
        return torch.autograd.grad(loss.sum(), ks)[0][:, 0]

    assert within_five(slope(1 / d, True))
    assert not within_five(slope(1.0, True)) and not within_five(slope(1 / d, False))
    assert within_five(slope(1.0, False))


@pytest.mark.theorem("implicit-loss")
def test_the_explicit_divergence_is_what_the_others_measure_and_is_zero_at_the_truth() -> None:
    objective = ExplicitFisher(mixture(VE(0.4, 2.0)), weighting=SigmaSquared())
    true = objective.truth
    wrong = OfScore(true, lambda x, t: true(x, t).score + h(x))
    x0 = true.sample(SampleRng(range(N)))
    explicit = objective(wrong, x0, rng=SampleRng(range(N), stream=1))
    assert float(objective(true, x0, rng=SampleRng(range(N), stream=1)).abs().max()) == 0.0
    implicit = Implicit(weighting=SigmaSquared())
    other = true.sample(SampleRng(range(N), stream=2))
    with torch.no_grad():
        gained = [implicit(field, other, rng=SampleRng(range(N), stream=3)) for field in (wrong, true)]
    assert within_five(gained[0] - gained[1], explicit)
    assert not within_five(gained[0] - gained[1], 2 * explicit)


# --- the trace and its estimates --------------------------------------------------------------------------------------


def network(shape: tuple[int, ...], energy: bool, process: Process | None = None) -> ScoreModel:
    """A small smooth network in float64, all of whose weights are away from zero."""
    net: nn.Module = MLP(shape, width=8, depth=2)
    net = Potential(net) if energy else net
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    process = process or VE(0.5, 2.0)
    model = EnergyModel(net, Energy(), process, shape) if energy else ScoreModel(net, Score(), process, shape)
    return model.double()


def example(shape: tuple[int, ...], n: int = 5) -> Tensor:
    return SampleRng(range(n)).normal(shape)


@each_shape
@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_all_coordinate_directions_together_are_the_exact_trace(shape: Any, energy: bool) -> None:
    field, x, t = network(shape, energy), example(shape), torch.full((5,), 0.3, dtype=torch.float64)
    axes = [2.0 * row.reshape(shape).expand(5, *shape) for row in torch.eye(4, dtype=torch.float64)]  # sqrt(d) = 2
    for reduced in (True, False):
        sliced = Sliced(reduced=reduced).along(field, x, t, iter(axes))
        numpy.testing.assert_allclose(sliced.detach(), Implicit().at(field, x, t, rng=SampleRng(range(5))).detach(), rtol=1e-12)


@each_shape
@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_the_exact_loss_is_the_jacobian_that_differences_of_the_score_show(shape: Any, energy: bool) -> None:
    field, x, t = network(shape, energy), example(shape), torch.full((5,), 0.3, dtype=torch.float64)
    step, trace = 1e-5, torch.zeros(5, dtype=torch.float64)
    for row in torch.eye(4, dtype=torch.float64):
        e = step * row.reshape(shape)
        trace += ((field(x + e, t).score - field(x - e, t).score) * e).flatten(1).sum(1).detach() / (2 * step**2)
    expected = trace + 0.5 * (field(x, t).score.detach() ** 2).flatten(1).sum(1)
    numpy.testing.assert_allclose(Implicit().at(field, x, t, rng=SampleRng(range(5))).detach(), expected, rtol=1e-7)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
@pytest.mark.parametrize("together", [1, 3, 7])
def test_how_many_coordinates_go_together_changes_neither_loss_nor_gradient(energy: bool, together: int) -> None:
    field, x0 = network((7,), energy), example((7,))

    def both(objective: Implicit) -> tuple[Tensor, Tensor]:
        loss = objective(field, x0, rng=SampleRng(range(5), stream=1))
        grads = torch.autograd.grad(loss.sum(), list(field.network.parameters()), materialize_grads=True, allow_unused=True)
        return loss.detach(), torch.cat([g.flatten() for g in grads])

    for one, other in zip(both(Implicit(together=together)), both(Implicit()), strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@each_pair
def test_the_gradient_by_the_weights_is_the_derivative_of_the_loss(objective: Any, shape: Any, energy: bool) -> None:
    """Double backward reaches the parameters: autograd against a central difference along a random direction of weights."""
    field, x0 = network(shape, energy), example(shape)
    weights = list(field.network.parameters())
    directions = [
        torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(i)) for i, w in enumerate(weights)
    ]

    def loss() -> Tensor:
        return objective(field, x0, rng=SampleRng(range(5), stream=1)).mean()

    grads = torch.autograd.grad(loss(), weights, materialize_grads=True, allow_unused=True)
    slope = sum(float((g * v).sum()) for g, v in zip(grads, directions, strict=True))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for w, v in zip(weights, directions, strict=True):
                w += sign * 1e-5 * v
            values.append(float(loss()))
            for w, v in zip(weights, directions, strict=True):
                w -= sign * 1e-5 * v
    assert abs(slope) > 0.01
    # an energy's second difference keeps 16 - 6 digits at step 1e-3, of which the difference by the weights costs 5
    digits = 1e-4 if energy and isinstance(objective, FiniteDifference) else 1e-6
    assert abs((values[0] - values[1]) / 2e-5 - slope) < digits * abs(slope)


@each_matching
def test_without_gradients_the_loss_is_the_same_and_holds_no_graph(objective: Any) -> None:
    field, x0 = network((4,), True), example((4,))
    with torch.no_grad():
        bare = objective(field, x0, rng=SampleRng(range(5), stream=1))
    assert not bare.requires_grad
    numpy.testing.assert_allclose(bare, objective(field, x0, rng=SampleRng(range(5), stream=1)).detach(), rtol=1e-12)
    assert x0.grad is None and not x0.requires_grad


@pytest.mark.theorem("hutchinson", "probe-variance")
@pytest.mark.parametrize("law", ["rademacher", "gaussian", "sphere", "unit"])
def test_random_directions_give_the_trace_and_have_the_variance_of_their_law(law: Any) -> None:
    """At x = 0 of the score -A·x the sliced loss is -vᵀ·A·v and nothing else; A is not symmetric, so only (A + Aᵀ)/2 counts."""
    d, matrix = 5, torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    line = OfScore(Gaussian([0.0] * d, torch.eye(d), Noiseless()), lambda x, t: -x @ matrix.mT)
    x, t = torch.zeros(N, d, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    found = -Sliced(projection=law, reduced=False).at(line, x, t, rng=SampleRng(range(N))).detach()
    even = (matrix + matrix.mT) / 2
    square, diagonal, trace = (float(v) for v in (even.square().sum(), even.diagonal().square().sum(), even.trace()))
    sphere = 2 * d / (d + 2) * (square - trace**2 / d)
    variance = {
        "rademacher": 2 * square - 2 * diagonal,
        "gaussian": 2 * square,
        "sphere": sphere,
        "unit": sphere / d**2,
    }
    mean = trace / d if law == "unit" else trace  # E[vvᵀ] = I/d
    assert within_five(found, mean)
    assert within_five((found - mean) ** 2, variance[law])
    others = {value for name, value in variance.items() if name != law}
    assert not any(within_five((found - mean) ** 2, other) for other in others)


@pytest.mark.theorem("sliced-variance")
@pytest.mark.parametrize("correlation", [0.2, 0.9])
def test_the_reduced_form_has_less_variance_over_signs_only_where_components_of_the_score_are_weakly_correlated(
    correlation: float,
) -> None:
    """At the true score of a Gaussian of precision K, exactly: all signs, and Hermite nodes for x, of which it is a quartic."""
    precision = (1 - correlation) * torch.eye(3, dtype=torch.float64) + correlation
    precision *= torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64) * torch.tensor([[1.0], [2.0], [0.5]])
    field = Gaussian([0.0] * 3, torch.linalg.inv(precision), Noiseless())
    nodes, weights = (torch.tensor(part) for part in numpy.polynomial.hermite_e.hermegauss(4))
    white = torch.cartesian_prod(nodes, nodes, nodes)
    mass = torch.cartesian_prod(weights, weights, weights).prod(dim=1) / (2 * math.pi) ** 1.5
    x, t = white @ torch.linalg.cholesky(field.covariance).mT, torch.zeros(64, dtype=torch.float64)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=3)), dtype=torch.float64)
    found = {}
    for reduced in (True, False):
        objective = Sliced(reduced=reduced)
        losses = torch.stack([objective.along(field, x, t, iter([v.expand(64, 3)])).detach() for v in signs])
        found[reduced] = float(mass @ losses.var(dim=0, correction=0))
    pairs = list(itertools.combinations(range(3), 2))
    square = sum(float(precision[i, j]) ** 2 for i, j in pairs)
    sizes = sum(float(precision[i, i] * precision[j, j]) for i, j in pairs)
    numpy.testing.assert_allclose(found[True], 4 * square, rtol=1e-10)
    numpy.testing.assert_allclose(found[False], sizes + 2 * square, rtol=1e-10)
    assert (found[True] < found[False]) == (correlation**2 < 0.5)


def test_the_variance_reduced_form_has_less_variance_and_more_projections_have_less() -> None:
    """At fixed x_t the trace's variance falls like 1/projections; the plain form adds the variance of 1/2·(vᵀs)²."""
    field, x, t = network((6,), False), example((6,), 1), torch.full((N,), 0.3, dtype=torch.float64)

    def variance(objective: Sliced) -> float:
        with torch.no_grad():
            return float(objective.at(field, x.expand(N, 6), t, rng=SampleRng(range(N), stream=2)).var())

    rademacher, gaussian = Sliced(), Sliced(projection="gaussian")
    assert variance(rademacher) < variance(gaussian)
    for objective in (rademacher, gaussian):
        assert variance(objective) < 0.7 * variance(replace(objective, reduced=False))
        ratio = variance(objective) / variance(replace(objective, projections=4))
        # the relative standard error of a variance is sqrt((kurtosis - 1)/N), here below sqrt(20/N) for both
        assert abs(ratio / 4 - 1) < 5 * math.sqrt(2 * 20 / N)


@pytest.mark.theorem("finite-difference")
@pytest.mark.parametrize("kind", [OfScore, OfEnergy], ids=["score", "energy"])
def test_the_error_of_finite_differences_is_of_second_order(kind: Any) -> None:
    """Against the sliced loss along the same directions: variance-reduced for scores, plain for energies."""
    true = mixture(VE(0.4, 2.0))
    field = kind(true, true.energy if kind is OfEnergy else lambda x, t: true(x, t).score)
    x0 = true.sample(SampleRng(range(2000)))

    def loss(objective: Any) -> Tensor:
        return objective(field, x0, rng=SampleRng(range(2000), stream=1)).detach()

    limit = loss(Sliced(reduced=kind is OfScore))
    errors = [float((loss(FiniteDifference(step=step)) - limit).abs().mean()) for step in (0.02, 0.01, 0.005)]
    orders = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert all(abs(order - 2) < 0.02 for order in orders)
    other = loss(Sliced(reduced=kind is not OfScore))
    assert float((loss(FiniteDifference(step=0.005)) - other).abs().mean()) > 100 * errors[2]


def test_finite_differences_ask_an_energy_for_no_derivative_by_x() -> None:
    true = mixture(VE(0.4, 2.0))

    class Strict(OfEnergy):
        def energy(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
            assert not x.requires_grad
            return super().energy(x, t)

        def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
            raise AssertionError("asked for the score")

    loss = FiniteDifference()(Strict(true, true.energy), true.sample(SampleRng(range(5))), rng=SampleRng(range(5), stream=1))
    assert loss.shape == (5,) and not loss.requires_grad


@each_matching
def test_conditions_reach_the_field(objective: Any) -> None:
    true = mixture(VE(0.4, 2.0))

    class Conditional(OfScore):
        def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
            assert cond is not None
            return Prediction.of_score(self.process, x, t, true(x, t).score * cond[:, None])

    x0, cond = true.sample(SampleRng(range(5))), torch.arange(5, dtype=torch.float64)
    loss = objective(Conditional(true, None), x0, cond, rng=SampleRng(range(5), stream=1)).detach()
    assert float(loss[0]) == 0 and bool((loss[1:] != 0).all())


# --- where integration by parts breaks --------------------------------------------------------------------------------


@pytest.mark.theorem("unbounded-at-bounds")
@pytest.mark.parametrize("n", [1, 5, 25])
def test_at_hard_bounds_scores_that_are_steep_there_alone_have_ever_lower_losses(n: int) -> None:
    """s = -k·(2x - 1)^n on U(0, 1), whose true score is 0: J = -2k + k²/(2·(2n + 1)), least at k = 2·(2n + 1)."""
    x, weights = panels(0.0, 1.0, count=20)
    best, uniform = 2 * (2 * n + 1), Box((1,), 0.0, 1.0, Noiseless())

    def loss(k: float) -> float:
        steep = OfScore(uniform, lambda x, t: -k * (2 * x - 1) ** n)
        t = torch.zeros(len(x), dtype=torch.float64)
        return float(weights @ Implicit().at(steep, x, t, rng=SampleRng(range(len(x)))).detach())

    assert math.isclose(loss(best), -best, rel_tol=1e-12)
    assert loss(best) < min(loss(0.9 * best), loss(1.1 * best), loss(0.0))


@pytest.mark.theorem("unbounded-at-atoms")
def test_at_atoms_without_noise_ever_steeper_scores_pay_ever_more_and_noise_mends_it() -> None:
    atoms = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    truth = GaussianMixture.empirical(atoms, VE(0.3, 0.4))
    x0 = truth.sample(SampleRng(range(N)))

    def loss(field: Any, k: float) -> Tensor:
        steep = OfScore(field, lambda x, t: k * (torch.sign(x) - x))
        with torch.enable_grad():
            return Implicit()(steep, x0, rng=SampleRng(range(N), stream=1)).detach()

    still = GaussianMixture.empirical(atoms, Noiseless())
    for k in (1.0, 100.0, 10_000.0):
        numpy.testing.assert_allclose(loss(still, k), -k, rtol=1e-12)
        excess = loss(truth, k) - Implicit()(truth, x0, rng=SampleRng(range(N), stream=1)).detach()
        assert float(excess.mean()) > 5 * float(excess.std()) / math.sqrt(N)


@pytest.mark.theorem("moving-bend")
def test_autograd_does_not_see_a_bend_move_but_finite_differences_do() -> None:
    """s = w·relu(x - b) under N(0, 1): E loss = w·Phi(-b) + w²/2·E relu(x - b)², whose slope by b autograd gets wrong."""
    true, w, b = Gaussian([0.0], [[1.0]], Noiseless()), 0.8, 0.3
    x0 = true.sample(SampleRng(range(N)))
    density, tail = math.exp(-(b**2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(b / math.sqrt(2))
    slope = -w * density - w**2 * (density - b * tail)
    value = w * tail + w**2 / 2 * ((1 + b**2) * tail - b * density)
    at = torch.full((N, 1), b, dtype=torch.float64, requires_grad=True)
    bent = OfScore(true, lambda x, t: w * torch.relu(x - at))
    losses = {kind: kind(bent, x0, rng=SampleRng(range(N), stream=1)) for kind in (Implicit(), FiniteDifference(step=0.05))}
    slopes = {kind: torch.autograd.grad(loss.sum(), at)[0][:, 0] for kind, loss in losses.items()}
    assert all(within_five(loss, value) for loss in losses.values())
    exact, differences = slopes.values()
    assert not within_five(exact, slope)
    assert within_five(exact, slope + w * density)  # the share of the moving bend is what is missing
    assert within_five(differences, slope)


class Bent(nn.Module):
    """A network with an activation of choice."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), activation, nn.Linear(8, 2))

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.layers(x)


def bent(activation: nn.Module, energy: bool, process: Process | None = None) -> ScoreModel:
    net = Bent(activation)
    process = process or VE()
    if energy:
        return EnergyModel(Potential(net), Energy(), process, (2,))
    return ScoreModel(net, Score(), process, (2,))


each_default = pytest.mark.parametrize("kind", [Implicit, Sliced, FiniteDifference])


@each_default
def test_bounded_data_without_noise_are_refused(kind: Any) -> None:
    with pytest.raises(ScorefieldError, match=r"got bounded or 8-bit data .* unbounded below, .*: add noise \(process ve\)"):
        kind().check(bent(nn.SiLU(), False, Noiseless()), bounded=True)
    kind().check(bent(nn.SiLU(), False, Noiseless()), bounded=False)
    kind().check(bent(nn.SiLU(), False, VE()), bounded=True)


@each_default
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(), nn.Hardtanh(), nn.PReLU()], ids=str)
def test_kinked_networks_are_refused_where_they_mislead(kind: Any, activation: nn.Module) -> None:
    with pytest.raises(ScorefieldError, match=r"second derivative is zero .*: use SiLU or softplus"):
        kind().check(bent(activation, energy=True))
    if kind is FiniteDifference:  # which sees bends of a score, as shown above
        kind().check(bent(activation, energy=False))
    else:
        with pytest.raises(ScorefieldError, match="use SiLU or softplus"):
            kind().check(bent(activation, energy=False))


@each_default
@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_smooth_networks_and_exact_fields_are_not_refused(kind: Any, energy: bool) -> None:
    for activation in (nn.SiLU(), nn.Softplus(), nn.Tanh(), nn.GELU()):
        kind().check(bent(activation, energy))
    kind().check(mixture(VE()))


def test_a_kink_is_found_in_plain_code_too() -> None:
    field = ScoreModel(ConditionedResNet((1, 8, 8), width=8, blocks=1), Score(), VE(), (1, 8, 8))
    assert not any(isinstance(part, nn.ReLU) for part in field.modules())
    with pytest.raises(ScorefieldError, match="got a network with relu"):
        Sliced().check(field)


@each_default
def test_dropout_in_training_mode_is_refused(kind: Any) -> None:
    with pytest.raises(ScorefieldError, match="dropout in training mode"):
        kind().check(bent(nn.Dropout(0.1), False))
    kind().check(bent(nn.Dropout(0.1), False).eval())
    kind().check(bent(nn.Dropout(0.0), False))


@each_default
def test_weights_that_vanish_or_learn_are_refused(kind: Any) -> None:
    with pytest.raises(ScorefieldError, match=r"weighting that is zero .*choose the weighting uniform"):
        kind(weighting=SigmaSquared()).check(bent(nn.SiLU(), False, Noiseless()))
    kind(weighting=SigmaSquared()).check(bent(nn.SiLU(), False, VE()))
    with pytest.raises(ScorefieldError, match="weighting that learns"):
        kind(weighting=Learned(Unweighted())).check(bent(nn.SiLU(), False))


def test_unit_vectors_are_refused_in_the_variance_reduced_form() -> None:
    with pytest.raises(ValueError, match=r"got unit vectors .* E\[vvᵀ\] = I, .*: choose the projection sphere"):
        Sliced(projection="unit")
    for setting in ({"projections": 0}, {"projection": "cube"}):
        with pytest.raises(ValueError):
            Sliced(**setting)
    with pytest.raises(ValueError):
        FiniteDifference(step=0.0)
    with pytest.raises(ValueError):
        Implicit(together=0)
