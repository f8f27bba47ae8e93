"""Holes: cells that are NaN are unknown. What is learned is the marginal of the known ones, what was never known comes back."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import double, each_case, within_five
from torch import Tensor, nn

from scorefield import VE, DDPMChain, Process, ScorefieldError, registry
from scorefield.config import Optimiser, RunConfig, Training
from scorefield.data import DataConfig, Dataset, Normaliser
from scorefield.data.base import Examples, build
from scorefield.data.holes import Holes, holes_of
from scorefield.field import ScoreModel
from scorefield.levels import Levels, karras
from scorefield.likelihood import Exact, Hutchinson, data_log_prob
from scorefield.nets.known_cells import KnownCells
from scorefield.nets.mlp import MLP, MLPConfig
from scorefield.objectives import Denoising
from scorefield.objectives.base import Objective
from scorefield.prediction import EDM, Energy, Parametrisation, Score
from scorefield.randomness import SampleRng
from scorefield.recipes import data_stats
from scorefield.runs import build_model
from scorefield.samplers import Heun
from scorefield.samplers.base import sample
from scorefield.shapes import over
from scorefield.training.loop import Trainer

NAN = math.nan
CPU = torch.device("cpu")
NOWHERE = torch.zeros(4, dtype=torch.bool)
CELLS = [0, 2, 3]  # the known ones of four


class CellByCell(nn.Module):
    """A network of (x, known) whose output in a cell depends on that cell alone."""

    def __init__(self, cells: Sequence[int], doubled: bool) -> None:
        super().__init__()
        weights = torch.linspace(0.5, 1.7, 4, dtype=torch.float64)[list(cells)]
        self.weights, self.doubled = nn.Parameter(weights), doubled

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        x = x[:, : x.shape[1] // 2] if self.doubled else x
        y = torch.tanh(self.weights * x + over(0.1 * label, x))
        return torch.cat([y, 7.0 + y], dim=1) if self.doubled else y


class Picked(SampleRng):
    """The numbers of a sample of four cells, of which only some are handed out."""

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        return super().normal((4,))[:, CELLS] if tuple(shape) == (len(CELLS),) else super().normal(shape)

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return super().uniform((4,))[:, CELLS] if tuple(shape) == (len(CELLS),) else super().uniform(shape)


def models(parametrisation: Parametrisation, process: Process) -> tuple[ScoreModel, ScoreModel]:
    """The same field of single cells: of four that may be unknown, and of three that are known."""
    network = KnownCells(CellByCell(range(4), doubled=True), NOWHERE)
    holed = ScoreModel(network, parametrisation, process, (4,), takes_unknown=True)
    return holed.double(), ScoreModel(CellByCell(CELLS, doubled=False), parametrisation, process, (3,)).double()


def losses(objective: Objective, model: ScoreModel, x0: Tensor, rng: SampleRng) -> tuple[Tensor, Tensor]:
    """The losses, and the gradient of their sum by the weights of the known cells."""
    learned = objective.prepare(model)
    found = objective(model, x0, rng=rng, learned=None if learned is None else learned.double())
    (gradient,) = torch.autograd.grad(found.sum(), model.network.parameters())
    return found.detach(), gradient


ROWS = double([[0.3, NAN, -1.2, 0.8], [1.5, NAN, 0.2, -0.4]])
OBJECTIVES = {name: kind for name, kind in registry.every("objective").items() if kind().counts_known_cells}
WHOLE = {name: kind for name, kind in registry.every("objective").items() if name not in OBJECTIVES}
OUTPUTS = {name: kind for name, kind in registry.every("parametrisation").items() if kind is not Energy}


@pytest.mark.theorem("known-cells")
@each_case(objective=OBJECTIVES, parametrisation=OUTPUTS, process={"ve": VE(0.1, 10.0), "chain": DDPMChain(50)})
def test_the_loss_of_known_cells_is_that_of_an_example_that_has_no_others(
    objective: Any, parametrisation: Any, process: Process
) -> None:
    if objective is registry.find("objective", "simple") and not process.discrete:
        return
    holed, whole = models(parametrisation(), process)
    found, by_weights = losses(objective(), holed, ROWS, SampleRng(range(2)))
    wanted, by_known = losses(objective(), whole, ROWS[:, CELLS], Picked(range(2)))
    assert torch.allclose(found, wanted, rtol=1e-12, atol=0)
    assert torch.allclose(by_weights[CELLS], by_known, rtol=1e-9, atol=1e-12) and float(by_weights[1]) == 0


@each_case(weighting={n: k for n, k in registry.every("weighting").items() if n != "learned"}, every_level=[False, True])
def test_so_it_is_with_every_weighting_and_at_every_level(weighting: Any, every_level: bool) -> None:
    objective = Denoising(weighting=weighting(), every_level=every_level)
    holed, whole = models(EDM(data_std=1.0), VE(0.1, 10.0))
    found, by_weights = losses(objective, holed, ROWS, SampleRng(range(2)))
    wanted, by_known = losses(objective, whole, ROWS[:, CELLS], Picked(range(2)))
    assert torch.allclose(found, wanted, rtol=1e-12, atol=0)
    assert torch.allclose(by_weights[CELLS], by_known, rtol=1e-9, atol=1e-12)


def test_the_control_variate_and_a_learned_weight_add_what_no_weight_of_the_network_changes() -> None:
    for objective in (Denoising(control_variate=True), Denoising(weighting=registry.find("weighting", "learned")())):
        holed, whole = models(EDM(data_std=1.0), VE(0.1, 10.0))
        _, by_weights = losses(objective, holed, ROWS, SampleRng(range(2)))
        _, by_known = losses(objective, whole, ROWS[:, CELLS], Picked(range(2)))
        assert torch.allclose(by_weights[CELLS], by_known, rtol=1e-9, atol=1e-12)


# --- what is learned --------------------------------------------------------------------------------------------------

COVARIANCE = double([[1.0, 0.8, 0.3], [0.8, 1.5, -0.2], [0.3, -0.2, 0.7]])
PATTERNS = [pattern for pattern in itertools.product([True, False], repeat=3) if any(pattern)]


def marginal_slope(pattern: Sequence[bool], sigma: float) -> Tensor:
    """The matrix of the score of the known cells, (3, 3), of data N(0, COVARIANCE) with noise: 0 where a cell is unknown."""
    cells = torch.tensor(pattern).nonzero().flatten()
    slope = torch.zeros(3, 3, dtype=torch.float64)
    slope[cells[:, None], cells] = -torch.linalg.inv(
        COVARIANCE[cells[:, None], cells] + sigma**2 * torch.eye(len(cells)).double()
    )
    return slope


class LinearByPattern(nn.Module):
    """For every set of known cells a matrix of its own: all linear scores that there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8, 3, 3, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        rows = (x[:, 3:] @ double([4, 2, 1]).to(x)).long()
        y = torch.einsum("nij,nj->ni", self.table[rows], x[:, :3])
        return torch.cat([y, y], dim=1)


def holed_rows(count: int, stream: int = 0) -> Tensor:
    """Draws of N(0, COVARIANCE), each cell unknown with chance 0.3, whatever its value."""
    rng = SampleRng(range(count), stream=stream)
    rows = rng.normal((3,)) @ torch.linalg.cholesky(COVARIANCE).T
    return torch.where(rng.uniform((3,)) < 0.3, NAN, rows)


@pytest.mark.theorem("known-cells")
def test_the_minimum_of_the_loss_is_the_score_of_the_marginal_of_the_known_cells() -> None:
    """At one level and for linear scores the minimum is found exactly, by one step of Newton's method, on 40 sets of data."""
    process, sigma = VE(0.5, 0.51), 0.5
    objective = Denoising(noise_distribution=Levels(1))
    sigma = float(process.sigma(objective.noise_distribution.times(process))[0])
    fits = []
    for index in range(40):
        network = LinearByPattern()
        model = ScoreModel(KnownCells(network, NOWHERE[:3]), Score(), process, (3,), takes_unknown=True)
        x0, rng = holed_rows(2000, index), SampleRng(range(2000), stream=100 + index)
        (slope,) = torch.autograd.grad(objective(model, x0, rng=rng).mean(), network.table, create_graph=True)
        flat = slope.flatten()
        curvature = torch.stack([torch.autograd.grad(one, network.table, retain_graph=True)[0].flatten() for one in flat])
        fits.append(-torch.linalg.pinv(curvature, hermitian=True) @ flat.detach())
    found = torch.stack(fits).reshape(40, 8, 3, 3)
    for pattern in PATTERNS:
        row = int(double(pattern) @ double([4, 2, 1]))
        wanted = marginal_slope(pattern, sigma)
        for i, j in itertools.product(range(3), repeat=2):
            if pattern[i] and pattern[j]:
                assert within_five(found[:, row, i, j], float(wanted[i, j])), (pattern, i, j)
            else:
                assert float(found[:, row, i, j].abs().max()) < 1e-12


def test_the_loss_does_not_depend_on_what_lies_in_an_unknown_cell() -> None:
    objective = Denoising()
    model = ScoreModel(KnownCells(MLP((8,), width=16), NOWHERE), EDM(1.0), VE(0.1, 10.0), (4,), takes_unknown=True)
    other = ROWS.clone()
    other.view(torch.int64)[:, 1] += 99  # NaN with other bits
    assert bool(other[:, 1].isnan().all()) and other.numpy().tobytes() != ROWS.numpy().tobytes()
    found = [objective(model, x.float(), rng=SampleRng(range(2))) for x in (ROWS, other)]
    assert bool((found[0] == found[1]).all()) and bool(found[0].isfinite().all())


def test_an_absent_cell_is_unknown_whatever_number_the_state_of_a_sampler_holds_there() -> None:
    absent = torch.tensor([False, True, False, False])
    network = KnownCells(MLP((8,), width=16), absent)
    nn.init.normal_(network.network.last.weight)
    model = ScoreModel(network, EDM(1.0), VE(0.1, 10.0), (4,), takes_unknown=True)
    t = torch.full((2,), 0.5, dtype=torch.float64)
    found = [model(torch.where(absent, value, ROWS), t).score[:, ~absent] for value in (-3.0, 1e20, NAN)]
    assert bool((found[0] == found[1]).all()) and bool((found[0] == found[2]).all())
    assert bool(model(ROWS, t).score[:, 1].isnan().all())  # NaN in, NaN out


def test_without_an_unknown_cell_the_field_is_that_of_the_whole_mask() -> None:
    network = MLP((8,), width=16)
    nn.init.normal_(network.last.weight)
    x, label = torch.randn(5, 4), torch.randn(5)
    wanted = network(torch.cat([x, torch.ones(5, 4)], dim=1), label)[:, :4]
    assert bool((KnownCells(network, NOWHERE)(x, label) == wanted).all())


@pytest.mark.parametrize("name", WHOLE)
def test_an_objective_that_counts_all_cells_is_refused_before_training(name: str, tmp_path: Path) -> None:
    data = data_of(holed_rows(200))
    kind = registry.find("objective", name)
    process = DDPMChain(50) if name == "bound" else VE(0.1, 10.0)
    energy = Energy() if name in ("contrastive", "persistent") else EDM(1.0)
    config = config_of(objective=kind(), process=process, parametrisation=energy)
    with pytest.raises(ScorefieldError, match=r"unknown cells \(NaN\).*expected.*choose another|set objective=denoising"):
        trainer_of(config, data, tmp_path)


# --- the data ---------------------------------------------------------------------------------------------------------


def data_of(rows: Tensor, kind: Any = "vector", **settings: Any) -> Dataset:
    """A data set of raw rows as a format would give it."""
    normaliser = Normaliser.standard if kind == "vector" else lambda train: Normaliser(shift=(0.0,), scale=(1.0,))
    return build(Examples("rows", kind, rows, normaliser), DataConfig(**settings))


def config_of(**changes: object) -> RunConfig:
    """A small, fast, exactly repeatable run."""
    run = RunConfig(
        source="rows",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=32, depth=2),
        objective=Denoising(noise_distribution=Levels(8)),
        sampler=Heun(),
        levels=8,
        optimiser=Optimiser(lr=3e-3, warmup=5),
        training=Training(steps=30, seconds=None, batch=32, ema=0.9, precision="float32", pictures=0),
    )
    return replace(run, **changes)


def trainer_of(config: RunConfig, data: Dataset, folder: Path | None) -> Trainer:
    return Trainer(config, data, build_model(config, data.shape, 1.0, holes=data.normaliser.holes), folder, CPU)


def test_the_runs_of_holes_say_which_cells_no_training_example_knows() -> None:
    train = double([[NAN, 1, NAN, NAN, 2], [NAN, NAN, NAN, 3, 4], [NAN, 5, NAN, NAN, NAN]])
    holes = holes_of(train, train[:1], "x")
    assert holes is not None
    assert (holes.known, holes.whole, holes.runs) == (pytest.approx(5 / 15), 0, (0, 1, 1, 1, 2))
    assert holes.absent.tolist() == [True, False, True, False, False]
    assert holes_of(train[:, 4:][:2], train[:1, 4:], "x") is None
    known = holes_of(train[:2, 4:], train[2:, 4:], "x")  # the held-out part alone has a hole
    assert known == Holes(known=1.0, whole=2, runs=(1,))


def test_the_mean_and_the_scale_are_those_of_the_numbers_that_are_there() -> None:
    rows = holed_rows(500)
    for part, axes in ((rows, 0), (rows.reshape(100, 5, 3), (0, 2))):
        normaliser = Normaliser.standard(part, per_channel=part.ndim == 3)
        columns = part.numpy()
        assert np.allclose(normaliser.shift, np.nanmean(columns, axis=axes), rtol=1e-12, atol=1e-14)
        assert np.allclose(normaliser.scale, np.nanstd(columns, axis=axes), rtol=1e-12, atol=0)
    rows = double([[NAN, 7.0, NAN], [1e-200, 7.0, NAN], [3e-200, NAN, NAN]])
    normaliser = Normaliser.standard(rows)
    assert normaliser.shift == (2e-200, 7.0, 0.0) and normaliser.scale == (1e-200, 1.0, 1.0)


def test_absent_cells_are_nan_in_both_spaces_and_others_keep_their_numbers() -> None:
    rows = holed_rows(100).float()
    rows[:, 1] = NAN
    data = data_of(rows, held_out=0.2)
    decoded = data.normaliser.decode(torch.zeros(2, 3, dtype=torch.float64))
    assert decoded.isnan().tolist() == [[False, True, False]] * 2
    assert decoded[0, ::2].tolist() == [data.normaliser.shift[0], data.normaliser.shift[2]]
    assert bool((data.x0(slice(None)).isnan() == data.train.isnan()).all())
    assert float(data.normaliser.encode(torch.zeros(3)).isnan().sum()) == 1


def test_the_statistics_of_the_known_cells_are_those_of_whole_examples() -> None:
    """Of 4,000 examples of which a quarter is taken away: they agree with those of the whole ones, to what chance allows."""
    rng = SampleRng(range(4000))
    whole = (rng.normal((3,)) @ torch.linalg.cholesky(COVARIANCE).T).float()
    holed = torch.where(rng.uniform((3,)) < 0.25, NAN, whole)
    one, other = (data_stats(data_of(rows)) for rows in (whole, holed))
    assert float((one.mean - other.mean).abs().max()) < 5 / math.sqrt(3600) and abs(other.std - 1) < 1e-6
    assert one.detail == pytest.approx(other.detail, abs=0.05) and one.distance == pytest.approx(other.distance, rel=0.2)
    assert (other.mean.shape, other.shape, other.examples) == ((3,), (3,), 3600)


def test_all_nan_are_one_for_the_fingerprint_and_a_number_is_another() -> None:
    rows = holed_rows(100)
    other, third = rows.clone(), rows.clone()
    where = other.isnan()
    other.view(torch.int64)[where] += 5
    third[where] = 0.0
    prints = [data_of(part).fingerprint for part in (rows, other, third)]
    assert prints[0] == prints[1] != prints[2]


def test_images_that_would_be_mirrored_with_a_hole_of_their_own_are_refused() -> None:
    images = torch.rand(20, 1, 4, 4)
    images[3, 0, 1, 1] = NAN
    assert data_of(images, "image", flip=True).normaliser.holes is not None
    images[:, 0, 0, 0] = NAN
    with pytest.raises(ScorefieldError, match=r"got data\.flip for 'rows' with cells that are unknown in every example \(1\)"):
        data_of(images, "image", flip=True)


def test_what_the_holes_are_is_said_in_words() -> None:
    images = torch.rand(400, 1, 4, 4)
    images[:, 0, 0, :3] = NAN
    images[7, 0, 2, 2] = NAN
    assert data_of(images, "image").notes == (
        "18.8% of the training examples' cells are unknown (NaN): training goes around them. 3 of 16 cells are unknown in "
        "every training example and come back so.",
    )
    rows = torch.rand(100, 2)
    rows[::2, 0], rows[1::2, 1] = NAN, NAN
    (note,) = data_of(rows).notes
    assert note.endswith(
        "None of the 90 examples knows all the cells: samples, which do, are put together from what is known of their parts."
    )
    with pytest.raises(ScorefieldError, match="got 'rows' with NaN alone"):
        data_of(torch.full((20, 2), NAN))


# --- what a field of known cells is good for --------------------------------------------------------------------------


class TrueMarginals(nn.Module):
    """The score of the known cells of N(0, COVARIANCE) with noise, for every set of them."""

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        seen, known = x[:, :3], x[:, 3:]
        cov = COVARIANCE * known.unsqueeze(1) * known.unsqueeze(2) + torch.diag_embed(1 - known)
        noise = torch.diag_embed(known * label.exp().unsqueeze(1) ** 2)
        y = -torch.linalg.solve(cov + noise, seen.unsqueeze(2))[..., 0]
        return torch.cat([y, torch.full_like(y, 9.0)], dim=1)


def true_marginals(process: Process, absent: Tensor = NOWHERE[:3]) -> ScoreModel:
    std = math.sqrt(float(COVARIANCE.diagonal().mean()))
    network = KnownCells(TrueMarginals(), absent)
    return ScoreModel(network, Score(), process, (3,), data_std=std, takes_unknown=True).double()


def test_the_log_density_of_a_point_with_holes_is_that_of_its_known_cells() -> None:
    field = true_marginals(VE(0.1, 300.0))
    rows = double([[0.5, -1.0, 0.3], [0.5, NAN, 0.3], [NAN, 1.2, NAN], [NAN, NAN, -0.7], [NAN, NAN, NAN]])
    for divergence, within in ((Exact(), 1e-4), (Hutchinson(16), None)):
        found = data_log_prob(field, rows, rng=SampleRng(range(5)), divergence=divergence, tolerance=1e-6, within=None)
        for row, value, error in zip(rows, found.value, found.standard_error, strict=True):
            cells = ~row.isnan()
            cov = COVARIANCE[cells][:, cells] + 0.1**2 * torch.eye(int(cells.sum())).double()
            there = torch.distributions.MultivariateNormal(torch.zeros(len(cov)).double(), cov) if len(cov) else None
            wanted = float(there.log_prob(row[cells])) if there else 0.0
            assert abs(float(value) - wanted) < (within or 5 * float(error) + 1e-4), row


def test_samples_of_the_true_field_have_the_covariance_of_whole_examples_and_absent_cells_are_left_out() -> None:
    """A linear field makes every step affine, so that moments of the samples are those of the prior pushed through."""
    process, none = VE(0.01, 200.0), torch.tensor([False, True, False])
    for absent in (NOWHERE[:3], none):
        x = sample(true_marginals(process, absent), Heun(), karras(process, 40), rng=SampleRng(range(4000)))
        there = ~absent
        found, wanted = x[:, there].T.cov(), COVARIANCE[there][:, there]
        for i, j in itertools.product(range(int(there.sum())), repeat=2):
            products = x[:, there][:, i] * x[:, there][:, j]
            assert abs(float(found[i, j] - wanted[i, j])) < 5 * float(products.std()) / math.sqrt(4000)
        assert bool(x.isfinite().all())
