"""Given columns: what a mixture says of noisy cells given others, and draws from a field that begins with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefield import EDM, VE, VP, Gaussian, GaussianMixture, SampleRng, ScorefieldError, app
from scorefield.data.table.groups import Groups
from scorefield.field import ScoreModel
from scorefield.given import GivenField
from scorefield.guidance.conditional import EXACT, LEARNED
from scorefield.guidance.learned import learned_draws
from scorefield.guidance.ways import best_way
from scorefield.mixtures import Mixture, fitted
from scorefield.nets.known_cells import KnownCells, widened
from scorefield.nets.mixture import SURE, MixturePart
from scorefield.nets.mlp import MLP
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.given import with_given
from scorefield.prediction import NoisePrediction, Score

NAN = math.nan
MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.5, 0.3, 0.7]], dtype=torch.float64)
COVARIANCE = ROOT @ ROOT.mT
WEIGHTS, MEANS, STDS = [0.3, 0.7], [[-2.0, -1.0, 0.0], [2.0, 1.0, 1.0]], [0.7, 0.9]
ONE = Mixture(torch.zeros(1), MEAN.unsqueeze(0), COVARIANCE.unsqueeze(0))
TWO = Mixture(torch.tensor(WEIGHTS).log(), torch.tensor(MEANS), torch.stack([std**2 * torch.eye(3) for std in STDS]).double())


def model(mixture: Mixture, meaning: Any = EDM(), process: Any = VE(0.001, 50.0), **how: Any) -> ScoreModel:  # noqa: B008
    """A model whose network has learned nothing yet, so that it says what the mixture does; in double precision."""
    part = MixturePart(3).double()
    part.put(mixture)
    network = KnownCells(MLP(widened((3,), takes_given=True), width=8), torch.zeros(3, dtype=torch.bool), part)
    return ScoreModel(network, meaning, process, (3,), takes_unknown=True, **how).double().requires_grad_(False)


@pytest.mark.parametrize("meaning", [EDM(), NoisePrediction(), Score()])
@pytest.mark.parametrize("process", [VE(0.001, 50.0), VP()])
def test_before_it_learns_a_network_says_what_the_mixture_does_whatever_its_output_means(meaning: Any, process: Any) -> None:
    x = SampleRng(range(40)).normal((3,)) * 2
    t = torch.linspace(process.t_min, process.t_max, 40, dtype=torch.float64)
    exact: Any
    for mixture, exact in (
        (ONE, Gaussian(MEAN.tolist(), COVARIANCE.tolist(), process)),
        (TWO, GaussianMixture(WEIGHTS, MEANS, STDS, process)),
    ):
        own, true = model(mixture, meaning, process)(x, t), exact(x, t)
        sigma = process.sigma(t).unsqueeze(1)  # numbers of the mixture are kept in single precision
        assert float((sigma * (own.score - true.score)).abs().max()) < 2e-4
        assert float((own.denoised - true.denoised)[process.sigma(t) < 5].abs().max()) < 2e-3


def conditional(known: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the unknown numbers of a Gaussian row, where known ones have noise of deviation SURE."""
    there = ~known.isnan()
    c = covariance[there][:, there] + SURE**2 * torch.eye(int(there.sum()), dtype=torch.float64)
    gain = covariance[~there][:, there] @ torch.linalg.inv(c)
    mean = MEAN[: len(known)]
    return mean[~there] + gain @ (known - mean)[there], covariance[~there][:, ~there] - gain @ covariance[there][:, ~there]


@pytest.mark.parametrize("mixture", [ONE, TWO])
def test_draws_of_one_row_share_its_factor_and_say_what_each_says_alone(mixture: Mixture) -> None:
    part = MixturePart(3).double()
    part.put(mixture)
    z = SampleRng(range(15)).normal((3,))
    given = torch.tensor([[NAN, 0.4, NAN], [NAN, NAN, NAN], [-1.0, NAN, NAN]], dtype=torch.float64).repeat_interleave(5, dim=0)
    z, lam = z.masked_fill(~given.isnan(), NAN), torch.full((15,), 0.6, dtype=torch.float64)
    shuffled = torch.tensor([0, 5, 10, 1, 6, 11, 2, 7, 12, 3, 8, 13, 4, 9, 14])  # no row like the one before
    together, apart = part(z, lam, given), part(z[shuffled], lam, given[shuffled])
    for one, other in zip(together, apart, strict=True):
        assert float((one[shuffled] - other).abs().max()) < 1e-12 * float(other.abs().max())
        for i in (0, 7, 14):
            alone = part(z[i : i + 1], lam[:1], given[i : i + 1])
            assert float((torch.stack(alone) - torch.stack(together)[:, i : i + 1]).abs().max()) < 1e-12 * 50


@pytest.mark.parametrize("noise", [0.01, 1.0, 20.0])
def test_given_cells_condition_a_field_and_unknown_ones_are_left_out(noise: float) -> None:
    field, t = model(ONE), torch.tensor([noise], dtype=torch.float64)
    # the first noisy, the second given, the third unknown
    x, given = torch.tensor([[0.7, NAN, NAN]], dtype=torch.float64), torch.tensor([[NAN, -2.0, NAN]], dtype=torch.float64)
    mean, covariance = conditional(torch.tensor([NAN, -2.0], dtype=torch.float64), COVARIANCE[:2, :2])
    score = -(x[0, 0] - mean) / (covariance[0, 0] + noise**2)
    found = GivenField(field, given)(x, field.process.time_of_sigma(t)).score
    assert float((found[0, 0] - score).abs()) < 1e-4 * float(score.abs())


def test_draws_of_the_learned_way_have_the_conditional_mean_and_covariance_of_a_gaussian() -> None:
    n, known = 4000, torch.tensor([[1.5, NAN, NAN], [NAN, -2.0, 0.5], [NAN] * 3], dtype=torch.float64)
    found = learned_draws(model(ONE), known, Groups.single(3), n, rng=SampleRng(range(3)))
    for i, row in enumerate(known):
        mean, covariance = conditional(row, COVARIANCE)
        x = found.x[:, i, row.isnan()]
        assert bool(((x.mean(dim=0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()), i
        wishart = ((covariance**2 + torch.outer(covariance.diagonal(), covariance.diagonal())) / n).sqrt()
        assert bool(((x.mT.cov().reshape(covariance.shape) - covariance).abs() < 5 * wishart).all()), i
        assert bool((found.x[:, i, ~row.isnan()] == row[~row.isnan()]).all())


def test_draws_of_the_learned_way_have_the_conditional_weights_of_a_mixture() -> None:
    n, known = 4000, torch.tensor([[0.3, NAN, NAN], [NAN, -0.4, 0.7]], dtype=torch.float64)
    found = learned_draws(model(TWO), known, Groups.single(3), n, rng=SampleRng(range(2)))
    for i, row in enumerate(known):
        there, logs = ~row.isnan(), []
        for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
            off, v = (row - torch.tensor(mean))[there], std**2 + SURE**2
            logs.append(math.log(weight) - 0.5 * float((off**2).sum()) / v - 0.5 * int(there.sum()) * math.log(v))
        share = float(torch.tensor(logs).softmax(0)[1])
        centre = share * torch.tensor(MEANS[1]) + (1 - share) * torch.tensor(MEANS[0])
        x = found.x[:, i, ~there]
        error = (x.var(dim=0) / n).sqrt()
        assert bool(((x.mean(dim=0) - centre[~there]).abs() < 5 * error).all()), i


def test_a_row_has_the_same_draws_whatever_the_other_rows_are() -> None:
    known = torch.tensor([[1.5, NAN, NAN], [NAN, -2.0, 0.5]], dtype=torch.float64)
    both = learned_draws(model(TWO), known, Groups.single(3), 5, rng=SampleRng(range(2)))
    last = learned_draws(model(TWO), known[1:], Groups.single(3), 5, rng=SampleRng([1]))
    torch.testing.assert_close(both.x[:, 1:], last.x, rtol=0, atol=1e-9)


# --- the fit --------------------------------------------------------------------------------------------------------------


def test_a_fit_to_values_missing_by_the_others_is_the_maximum_of_their_likelihood() -> None:
    """Two columns, the second missing where the first is high: Anderson (1957) has the maximum in closed form."""
    n = 4000
    z = SampleRng(range(n)).normal((2,))
    x = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], dim=1)
    there = (x[:, 0] + SampleRng(range(n), stream=1).normal()) < 0
    a, b = x[there, 0], x[there, 1]
    slope = ((a - a.mean()) * (b - b.mean())).mean() / (a - a.mean()).square().mean()
    rest = (b - b.mean() - slope * (a - a.mean())).square().mean()
    mean = b.mean() + slope * (x[:, 0].mean() - a.mean())
    variance = rest + slope**2 * x[:, 0].var(correction=0)
    found = fitted(torch.where(torch.stack([there | True, there], dim=1), x, NAN), most=1)
    error = math.sqrt(float(variance) / int(there.sum()))
    assert abs(b.mean() - mean) > 10 * error  # what is there alone is far off
    assert abs(float(found.means[0, 1] - mean)) < 0.5 * error
    assert abs(float(found.covariances[0, 1, 1] - variance)) < 0.5 * error * math.sqrt(2)


def test_the_number_of_components_is_that_of_well_separated_ones() -> None:
    for count in (1, 2, 4):
        centres = 8.0 * torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.float64)[:count]
        x = centres.repeat(150, 1) + SampleRng(range(150 * count)).normal((3,))
        found = fitted(x)
        assert len(found.means) == count
        nearest = torch.cdist(centres, found.means).amin(dim=1)
        assert float(nearest.max()) < 5 * math.sqrt(3 / 150)


# --- which columns are given ----------------------------------------------------------------------------------------------


def test_columns_are_given_whole_and_a_missing_one_is_neither_given_nor_learned() -> None:
    n, groups = 4000, Groups((1, 2, 3), (None, 1, None), (True, True, False))
    x0 = SampleRng(range(n)).normal((6,))
    x0[:, 2] = torch.where(torch.arange(n) % 4 == 0, 2.0, -0.5).double()  # a quarter misses the second column
    network = KnownCells(MLP(widened((6,), takes_given=True), width=8), torch.zeros(6, dtype=torch.bool), MixturePart(6))
    field, x = with_given(
        ScoreModel(network, EDM(), VE(0.01, 9.0), (6,), takes_unknown=True), x0, groups, 0.5, SampleRng(range(n))
    )
    assert isinstance(field, GivenField)
    clean, noisy = ~field.given.isnan(), ~x.isnan()
    assert not bool((clean & noisy).any())
    for part in (clean, noisy):
        assert bool((part[:, 3:] == part[:, 3:4]).all())
    # that the second is not missing is given where its value is noisy
    some = clean.any(dim=1)
    assert bool((clean[:, 2] | ~noisy[:, 1] | ~some).all()) and not bool(noisy[some, 2].any())
    missing = torch.arange(n) % 4 == 0
    assert not bool((clean | noisy)[some & missing, 1:3].any())
    assert bool((clean | noisy)[some & ~missing].all()) and bool(noisy[~some].all())
    assert bool(noisy[some].any(dim=1).all())
    assert bool((field.given[clean] == x0[clean]).all()) and bool((x[noisy] == x0[noisy]).all())
    # of three columns all are on one side with probability 1/2 where the rate is uniform, of two with 2/3
    share = 0.5 * (0.75 / 2 + 0.25 / 3)
    assert abs(float(some.double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_the_law_that_made_the_rows_has_a_smaller_loss_of_given_columns_than_a_network_that_adds_to_it() -> None:
    n = 4000
    x0 = MEAN + SampleRng(range(n), stream=3).normal((3,)) @ ROOT.mT
    field = model(ONE, data_mean=MEAN)
    torch.nn.init.normal_(field.network.network.last.weight, std=0.5, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    given, x = with_given(field, x0, Groups.single(3), 0.9, SampleRng(range(n)))
    losses = Denoising().of_known(given, x, rng=SampleRng(range(n))).loss
    torch.nn.init.zeros_(field.network.network.last.weight)  # type: ignore[union-attr]
    least = Denoising().of_known(given, x, rng=SampleRng(range(n))).loss
    gap = losses - least
    assert float(gap.mean()) > 5 * float(gap.std()) / math.sqrt(n)


def test_what_cannot_have_given_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"got training.given=0.5 for examples of shape \(1, 8, 8\)"):
        app.train("digits", out=tmp_path / "run", steps=1, settings=("training.given=0.5",))
    assert not (tmp_path / "run").exists()


def test_in_half_precision_a_mixture_says_the_same() -> None:
    field, x, t = model(TWO).float(), SampleRng(range(40)).normal((3,)).float(), torch.linspace(0.01, 9.0, 40)
    given = torch.where(torch.arange(3) == 1, x, torch.nan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = field.network.explained(x, t, given)  # type: ignore[operator]
    assert torch.equal(half[0], field.network.explained(x, t, given)[0])  # type: ignore[operator]


def test_without_rows_to_choose_by_a_field_of_given_columns_is_asked_itself_and_others_by_particles() -> None:
    none, groups = torch.empty(0, 3, dtype=torch.float64), Groups.single(3)
    assert best_way(model(ONE), none, groups) == LEARNED
    assert best_way(Gaussian(MEAN.tolist(), COVARIANCE.tolist(), VE(0.001, 50.0)), none, groups) == EXACT
