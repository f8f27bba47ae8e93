"""What has a density: coordinates by their values; and probabilities of separate values, beside densities of the rest."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from scorefield import VE, Gaussian, Process, SampleRng, ScorefieldError, app
from scorefield.data import DataConfig, open_data
from scorefield.evaluation import subject
from scorefield.evaluation.likelihood import LikelihoodSpec, bound_gap, measure_likelihood
from scorefield.likelihood import Exact, Section, data_log_prob, elbo, log_prob, spread, support_of
from scorefield.prediction import Prediction
from scorefield.randomness import subsample
from scorefield.runs import open_run
from scorefield.shapes import over

CPU = torch.device("cpu")
LOW = 0.01


class Mixed:
    """Exactly: a mixture of Gaussians of any covariance, singular ones too."""

    def __init__(self, weights: list[float], means: list[list[float]], variances: list[list[float]], process: Process) -> None:
        self.process, self.shape = process, (len(means[0]),)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.parts = [Gaussian(m, np.diag(v), process) for m, v in zip(means, variances, strict=True)]
        self.data_mean, self.data_std = torch.tensor(means, dtype=torch.float64).mean(dim=0), 1.0

    def to(self, _device: torch.device) -> Mixed:
        return self

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        return (torch.stack([part.log_prob(x, t) for part in self.parts], dim=1) + self.weights.log()).logsumexp(dim=1)

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        share = (torch.stack([part.log_prob(x, t) for part in self.parts], dim=1) + self.weights.log()).softmax(dim=1)
        score = sum(over(share[:, k], x) * part(x, t).score for k, part in enumerate(self.parts))
        return Prediction.of_score(self.process, x, t.double(), score)  # type: ignore[arg-type]


def normals(n: int, seed: int = 0) -> Tensor:
    return SampleRng(range(n), stream=seed).normal()


def half_of(*columns: Tensor) -> list[float]:
    rows = torch.stack([column.double() for column in columns], dim=1)
    size = rows.abs().amax(dim=0)
    return support_of(rows, LOW * size * (rows / size).std(dim=0, correction=0)).half.tolist()


# --- what each coordinate is -------------------------------------------------------------------------------------------


def test_half_steps_whole_numbers_and_days_have_cells_of_half_their_step() -> None:
    z, rest = normals(1000), normals(1000, 1)
    for step in (0.5, 1.0, 86_400.0, 1e-160, 1e160):
        assert half_of(step * (2 * z).round(), rest) == [pytest.approx(step / 2), 0.0]


def test_yes_or_no_is_separate_and_so_are_a_few_uneven_codes() -> None:
    z, rest = normals(1000), normals(1000, 1)
    assert half_of((z > 0).double(), rest)[0] == 0.5
    codes = torch.tensor([1.0, 2.5, 10.0])[(z > 0).long() + (z > 1).long()]
    assert half_of(codes, rest)[0] == 0.75


def test_numbers_rounded_finer_than_the_noise_are_continuous() -> None:
    z, rest = normals(2000), normals(2000, 1)
    assert half_of((z * 200).round() / 200, rest) == [0.0, 0.0]
    assert half_of((z * 20_000).round(), rest) == [0.0, 0.0]  # incomes in whole units


def test_the_rounding_of_float32_makes_no_atoms() -> None:
    z = SampleRng(range(50_000)).normal((2,)).float()
    assert support_of(z, torch.full((2,), 0.002)).half.tolist() == [0.0, 0.0]


def test_a_constant_is_left_out_and_another_value_of_it_is_named() -> None:
    rows = torch.stack([normals(100), torch.full((100,), 2024.0, dtype=torch.float64)], dim=1)
    support = support_of(rows, torch.full((2,), LOW))
    assert support.varies.tolist() == [True, False]
    assert support.outside(rows) is None
    rows[3, 1] = 2025.0
    assert support.outside(rows) == "1"


def test_padding_that_is_always_zero_is_constant_and_padding_that_varies_is_refused() -> None:
    signal = SampleRng(range(500)).normal((1, 6))
    signal[:, :, 4:] = 0.0
    assert support_of(signal, torch.full((6,), LOW)).varies.tolist() == [True] * 4 + [False] * 2
    signal[::3, :, 3] = 0.0
    with pytest.raises(ScorefieldError, match=r"coordinate '3', of which 33% of the values repeat \(such as 0\)"):
        support_of(signal, torch.full((6,), LOW))


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (lambda z: (z[0], z[1], z[0]), "'0' and '2'"),  # twins
        (lambda z: (z[0], z[1], -3 * z[0] + 7), "'0' and '2'"),
        (lambda z: (z[0].abs(), z[1].abs(), 100 - z[0].abs() - z[1].abs()), "follow exactly"),  # shares of 100 %
        (lambda z: (z[0], (z[1] > 0).double(), z[0] + (z[1] > 0).double()), "'0' and '2'"),  # given the yes or no, twins
    ],
)
def test_coordinates_that_others_give_away_are_refused(columns: Any, named: str) -> None:
    with pytest.raises(ScorefieldError, match=named):
        half_of(*columns([normals(400), normals(400, 1)]))


def test_twins_are_found_where_there_are_more_coordinates_than_rows() -> None:
    rows = SampleRng(range(40)).normal((60,))
    support_of(rows, torch.full((60,), LOW))
    rows[:, 50] = -rows[:, 7]
    with pytest.raises(ScorefieldError, match="'7' and '50'"):
        support_of(rows, torch.full((60,), LOW))


def test_strong_correlation_is_no_exact_dependence_and_separate_values_may_depend() -> None:
    z, e = normals(1000), normals(1000, 1)
    assert half_of(z, z + 1e-3 * e) == [0.0, 0.0]
    yes = (z > 0).double()
    assert half_of(yes, 1 - yes, e) == [0.5, 0.5, 0.0]


def test_rows_that_repeat_have_no_density() -> None:
    rows = SampleRng(range(300)).normal((3,))
    with pytest.raises(ScorefieldError, match="of which 100% are there three times or more"):
        support_of(rows.repeat(3, 1), torch.full((3,), LOW))
    support_of(rows.repeat(2, 1)[:303], torch.full((3,), LOW))
    grid = (3 * rows).round()  # few values, many rows: that they repeat is their nature
    assert support_of(grid.repeat(9, 1), torch.full((3,), LOW)).half.tolist() == pytest.approx([0.5] * 3)


# --- what is computed --------------------------------------------------------------------------------------------------


def test_a_section_has_the_density_of_the_coordinates_that_vary() -> None:
    """Of N(m, C) with one coordinate constant: the closed form of the other two."""
    process = VE(LOW, 1000.0)
    part = Gaussian([1.0, -1.0], [[2.0, 0.5], [0.5, 1.0]], process)
    whole = Gaussian([1.0, 4.0, -1.0], [[2.0, 0.0, 0.5], [0.0, 0.0, 0.0], [0.5, 0.0, 1.0]], process)
    section = Section(whole, torch.tensor([True, False, True]), torch.tensor([9.0, 4.0, 9.0]))
    assert section.data_std == pytest.approx(part.data_std)
    x = part.sample(SampleRng(range(20)))
    found = log_prob(section, x, rng=SampleRng(range(20)), tolerance=1e-7).value
    np.testing.assert_allclose(found, part.log_prob(x, torch.zeros(20)), rtol=0, atol=1e-5)


def test_separate_values_have_their_probability_and_the_rest_its_density() -> None:
    """Half of a is missing: log 1/2, and the density of what is there; exact for the true field, whatever the draw of u."""
    field = Mixed([0.5, 0.5], [[0.0, 0.0, 0.0], [0.3, 1.0, 0.0]], [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], VE(LOW, 1000.0))
    x = torch.tensor([[0.7, 0.0, -1.0], [-1.5, 0.0, 0.2], [0.3, 1.0, 0.5], [0.3, 1.0, -2.0]], dtype=torch.float64)
    cells = torch.tensor([[0.0, 0.5, 0.0]] * 2 + [[torch.inf, 0.5, 0.0]] * 2, dtype=torch.float64)
    rng = SampleRng(range(4))
    u, log_r = spread(cells, LOW, rng)
    found = data_log_prob(field, x + u, rng=rng, divergence=Exact(), tolerance=1e-6).value - log_r
    seen = norm(0, math.hypot(1, LOW)).logpdf(x.numpy())
    np.testing.assert_allclose(found, math.log(0.5) + seen[:, 2] + np.array([1, 1, 0, 0]) * seen[:, 0], rtol=0, atol=1e-4)


def test_a_wider_spread_is_a_looser_bound_by_the_kl_divergence_of_the_two() -> None:
    """r = N(0, w²) on an atom that the field sees as N(0, lambda²): KL = (w²/lambda² - 1)/2 - log(w/lambda)."""
    process, n, w = VE(LOW, 1000.0), 400, 2 * LOW
    field = Gaussian([0.0], [[0.0]], process)
    rng = SampleRng(range(n))
    u, log_r = spread(torch.full((n, 1), 0.5, dtype=torch.float64), w, rng)
    bound = field.log_prob(u, torch.zeros(n)) - log_r
    error = float(bound.std()) / math.sqrt(n)
    assert abs(float(bound.mean()) + 1.5 - math.log(2)) < 5 * error


def test_the_cut_spread_is_a_density_on_its_cell() -> None:
    """E_r[1/r] is the width of the cell."""
    n = 2000
    for half, level in ((0.5, 0.3), (0.01, 1.0)):
        u, log_r = spread(torch.full((n, 1), half, dtype=torch.float64), level, SampleRng(range(n)))
        assert bool((u.abs() <= half).all())
        inverse = (-log_r).exp()
        assert abs(float(inverse.mean()) - 2 * half) < 5 * float(inverse.std()) / math.sqrt(n) + 1e-9


def test_the_bound_of_the_chain_counts_cells_as_probabilities() -> None:
    """On atoms alone, with the true field, the evidence is log P; a cell of infinite width says nothing."""
    field = Mixed([0.2, 0.8], [[0.0], [1.0]], [[0.0], [0.0]], VE(LOW, 100.0))
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat_interleave(400, dim=0)
    ladder = torch.linspace(1, 0, 60, dtype=torch.float64)
    how: dict[str, Any] = {"rng": SampleRng(range(len(x))), "continuous": True}
    found = elbo(field, x, ladder, cells=torch.full_like(x, 0.5), **how)
    for k, share in enumerate((0.2, 0.8)):
        mine = found.value[400 * k : 400 * (k + 1)]
        assert abs(float(mine.mean()) - math.log(share)) < 5 * float(mine.std()) / 20
    assert bool((elbo(field, x, ladder, cells=torch.full_like(x, torch.inf), **how).decoder == 0).all())


# --- runs --------------------------------------------------------------------------------------------------------------


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_a_table_with_missing_numbers_a_category_and_a_constant_has_its_mixed_log_density(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true field in the place of the learned one: the figure is the closed form's average, in the table's own units."""
    n = 400
    a, b = 3 * normals(n) + 5, normals(n, 1)
    colour = ["red" if i % 4 else "blue" for i in range(n)]
    cells = {"a": ["" if i % 2 else f"{v:.9f}" for i, v in enumerate(a.tolist())], "b": [f"{v:.9f}" for v in b.tolist()]}
    source = table(tmp_path / "half.csv", cells | {"colour": colour, "year": [2024] * n})
    small = ("network.width=8", "network.depth=1", "training.precision=float32", "training.pictures=0")
    app.train(str(source), out=tmp_path / "run", steps=2, settings=small)
    run = open_run(tmp_path / "run")
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (run.normaliser.shift, run.normaliser.scale))
    fill = run.data.columns[0]["fill"]  # type: ignore[index]
    weights, means, variances = list[float](), list[list[float]](), list[list[float]]()
    for gone in (0.0, 1.0):
        for red in (0.0, 1.0):
            weights.append(0.5 * (0.75 if red else 0.25))
            raw = torch.tensor([fill if gone else 5.0, gone, 0.0, 1 - red, red], dtype=torch.float64)
            means.append(((raw - shift) / scale).tolist())
            variances.append((torch.tensor([0.0 if gone else 9.0, 0.0, 1.0, 0.0, 0.0]) / scale**2).tolist())
    low = 0.05
    field = Mixed(weights, means, variances, VE(low, 100.0))
    monkeypatch.setitem(run.__dict__, "field", field)
    monkeypatch.setattr(subject, "TRIED", 3)
    report = measure_likelihood(run, LikelihoodSpec(n=6, levels=40, tolerance=1e-4), CPU)
    held = run.data.held_out[:][subsample(len(run.data.held_out), 6)].double()
    lows = (low * scale).tolist()
    there = torch.from_numpy(norm(5, math.hypot(3, lows[0])).logpdf(held[:, 0].numpy()))
    truth = (
        math.log(0.5)
        + torch.where(held[:, 1] > 0.5, 0.0, there)
        + torch.from_numpy(norm(0, math.hypot(1, lows[2])).logpdf(held[:, 2].numpy()))
        + torch.where(held[:, 4] > 0.5, math.log(0.75), math.log(0.25))
    )
    assert len(held) == report.examples
    assert report.flow.value == pytest.approx(float(truth.mean()), abs=2e-3)
    assert report.elbo.value < float(truth.mean()) + 5 * report.elbo.standard_error
    assert report.elbo.value > float(truth.mean()) - 1.0
    assert report.separate == ("a", "colour")
    assert "probability of what takes separate values (a, colour) times the density of the rest" in report.meaning
    gap = bound_gap(run, n=40, levels=20, device=CPU)
    assert abs(gap.value) < 5 * gap.standard_error


def test_a_row_of_exact_zero_says_nothing_by_its_amount_and_an_amount_has_a_density() -> None:
    """Cells (amount, none, zero, b): where the row is an atom its amount's cell is the whole line; else its density counts."""
    a = torch.where(torch.arange(400) % 5 == 0, normals(400).exp(), 0.0)
    data = open_data({"a": a.numpy(), "b": normals(400, 1).numpy()}, DataConfig())
    support = support_of(data.train, torch.tensor([LOW, 0.1, 0.1, LOW]), data.columns)
    assert support.void == ((0, 2),)
    assert support.separate == ("a", "a")
    cells = support.cells(data.train[:])
    zero = data.train[:, 2] == 1
    assert int(zero.sum()) == pytest.approx(0.8 * len(data.train), abs=2)
    assert cells[zero].unique(dim=0).tolist() == [[math.inf, 0.5, 0.5, 0.0]]
    assert cells[~zero].unique(dim=0).tolist() == [[0.0, 0.5, 0.5, 0.0]]


def test_a_constant_column_changes_no_figure_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = SampleRng(range(200)).normal((2,)).numpy()
    np.save(tmp_path / "with.npy", np.insert(points, 1, 7.0, axis=1).astype(np.float32))
    app.train(str(tmp_path / "with.npy"), out=tmp_path / "run", steps=1, settings=("network.width=8", "training.pictures=0"))
    run = open_run(tmp_path / "run")
    shift, scale = (torch.tensor(v, dtype=torch.float64).expand(3) for v in (run.normaliser.shift, run.normaliser.scale))
    mean, variance = ((torch.tensor([0.0, 7.0, 0.0]) - shift) / scale).tolist(), (torch.tensor([1.0, 0, 1]) / scale**2).tolist()
    monkeypatch.setitem(run.__dict__, "field", Mixed([1.0], [mean], [variance], VE(LOW, 1000.0)))
    report = measure_likelihood(run, LikelihoodSpec(n=5, levels=5), CPU)
    held = run.data.held_out[:][subsample(len(run.data.held_out), 5)].double()[:, [0, 2]].numpy()
    spreads = torch.hypot(torch.ones(2), LOW * scale[[0, 2]]).numpy()
    assert report.flow.value == pytest.approx(norm(0, spreads).logpdf(held).sum(axis=1).mean(), abs=1e-3)
    assert report.constant == 1
    assert "a point of 2 coordinates" in report.meaning
    assert "left out: 1 constant coordinate" in report.meaning


@pytest.mark.parametrize("spoilt", ["zeros", "twins"])
def test_a_run_on_what_has_no_density_is_refused_in_a_sentence_and_nothing_is_written(tmp_path: Path, spoilt: str) -> None:
    a, b = normals(200), normals(200, 1)
    a = torch.where(torch.arange(200) % 4 == 0, 0.0, a)
    np.save(tmp_path / "x.npy", torch.stack([a, b] if spoilt == "zeros" else [b, 2 * b], dim=1).numpy())
    app.train(str(tmp_path / "x.npy"), out=tmp_path / "run", steps=1, settings=("network.width=8", "training.pictures=0"))
    with pytest.raises(ScorefieldError, match="2[0-9]% of the values repeat" if spoilt == "zeros" else "follow exactly"):
        app.likelihood(tmp_path / "run")
    assert not (tmp_path / "run" / "likelihood.json").exists()
