"""Odd rows: on exact fields everything is known: the rate of false alarms, what density alone misses, which numbers are odd."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from helpers import command, contents, each_case
from test_impute import in_python, table, text_of

from scorefield import VE, Gaussian, GaussianMixture, LinearVE, SampleRng, ScorefieldError, app
from scorefield.anomaly import detector
from scorefield.anomaly.blend import Blend, best_weights, squares
from scorefield.anomaly.detector import Detector, surprisal
from scorefield.app.odd import rate_of

COVARIANCE = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 0.5]], dtype=torch.float64)
GAUSSIAN = Gaussian([0.0, 0.0, 0.0], COVARIANCE.tolist(), VE(0.01, 20.0))
MIXTURE = GaussianMixture([0.3, 0.7], [[-2.0, 0.0, 1.0], [2.0, 1.0, 0.0]], [0.4, 0.8], VE(0.01, 20.0))


def gaussian_rows(n: int, stream: int) -> torch.Tensor:
    return SampleRng(range(n), stream=stream).normal((3,)) @ torch.linalg.cholesky(COVARIANCE).mT


def mixture_rows(n: int, stream: int) -> torch.Tensor:
    rng = SampleRng(range(n), stream=stream)
    first = (rng.uniform() < 0.3).unsqueeze(1)
    means = [torch.tensor(mean, dtype=torch.float64) for mean in ([-2.0, 0.0, 1.0], [2.0, 1.0, 0.0])]
    noise = rng.normal((3,))
    return torch.where(first, means[0] + 0.4 * noise, means[1] + 0.8 * noise)


def learned_alone(grams: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(grams.shape[1], 3)


# --- what is known in closed form ---------------------------------------------------------------------------------------


@pytest.mark.theorem("conformal-p-value")
@pytest.mark.parametrize(("field", "rows"), [(GAUSSIAN, gaussian_rows), (MIXTURE, mixture_rows)], ids=["gaussian", "mixture"])
def test_alarms_on_normal_rows_come_at_the_rate_that_was_asked_for(field: Any, rows: Any) -> None:
    unseen, fresh = 999, 2000
    found = Detector(field, rows(200, 1), rows(unseen, 2))(rows(fresh, 3))
    for rate in (0.01, 0.1, 0.3):
        alarms = float((found.p_value <= rate).double().mean())
        # given the unseen rows the rate is a Beta variable, and the fresh ones scatter around it
        error = math.sqrt(rate * (1 - rate) * (1 / (unseen + 2) + 1 / fresh))
        assert abs(alarms - rate) < 5 * error, rate


@pytest.mark.theorem("conformal-p-value")
def test_the_rate_is_kept_by_a_field_that_is_wrong_too() -> None:
    wrong = Gaussian([3.0, 0.0, 0.0], torch.eye(3).tolist(), VE(0.01, 20.0))
    found = Detector(wrong, mixture_rows(200, 1), mixture_rows(999, 2))(mixture_rows(2000, 3))
    alarms = float((found.p_value <= 0.1).double().mean())
    assert abs(alarms - 0.1) < 5 * math.sqrt(0.09 * (1 / 1001 + 1 / 2000))


@pytest.mark.theorem("conditional-surprisal")
def test_shares_are_the_conditional_surprisals_of_the_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 1000
    monkeypatch.setattr(detector, "REFERENCE", count)
    monkeypatch.setattr(detector, "best_weights", learned_alone)
    found = Detector(GAUSSIAN, gaussian_rows(count, 1), gaussian_rows(50, 2))
    rows = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 3.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    truth = torch.zeros(3, 3, dtype=torch.float64)
    near = [level for level in found.levels if 0.3 <= level / found.std <= 3.0001]
    for level in near:
        covariance, parts = COVARIANCE + level**2 * torch.eye(3), []
        for i in range(3):
            rest = [j for j in range(3) if j != i]
            gain = torch.linalg.solve(covariance[rest][:, rest], covariance[rest, i])
            off, variance = rows[:, i] - rows[:, rest] @ gain, covariance[i, i] - gain @ covariance[rest, i]
            parts.append(off**2 / variance)
        whole = torch.stack(parts, dim=1)
        truth += whole / whole.sum(dim=1, keepdim=True) / len(near)
    # the variances that the detector divides by are means over the training rows, each with the relative error sqrt(2/n)
    error = 5 * math.sqrt(2 * 2 / count) * truth * (1 - truth)
    assert bool(((found(rows).shares - truth).abs() < error + 1e-9).all())


@pytest.mark.theorem("density-from-denoising")
def test_denoising_errors_over_all_levels_and_the_entropy_of_the_noise_are_minus_the_log_density() -> None:
    """For a mixture in one dimension: the noise by Gauss-Hermite quadrature, the levels by the trapezoidal rule."""
    lowest, highest, count = 0.3, 3000.0, 2000
    field = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.6, 0.9], LinearVE(lowest, highest))
    nodes, weights = (torch.from_numpy(part) for part in numpy.polynomial.hermite_e.hermegauss(60))
    weights = weights / weights.sum()
    levels = torch.logspace(math.log10(lowest), math.log10(highest), count, dtype=torch.float64).clamp(lowest, highest)
    for x in (-1.0, 0.2, 3.0):
        z = x + levels[:, None] * nodes
        denoised = field(z.reshape(-1, 1), levels.repeat_interleave(len(nodes))).denoised.reshape(z.shape)
        squares = ((x - denoised) / levels[:, None]).square() @ weights
        integral = torch.trapezoid(squares, levels.log()) + squares[-1] / 2  # beyond, where the square falls as 1/lambda²
        near = field.log_prob(z[0].reshape(-1, 1), levels[:1].expand(len(nodes)))
        entropy = 0.5 * math.log(2 * math.pi * math.e * lowest**2)
        step = math.log(highest / lowest) / (count - 1)
        assert float(integral) + entropy == pytest.approx(-float(near @ weights), abs=5 * float(squares.max()) * step**2)


@pytest.mark.theorem("density-from-denoising")
def test_the_density_is_minus_the_log_density_but_for_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "LEVELS", 100)
    monkeypatch.setattr(detector, "HIGHEST", 20.0)
    monkeypatch.setattr(detector, "best_weights", learned_alone)
    found = Detector(GAUSSIAN, gaussian_rows(20, 1), gaussian_rows(20, 2))
    rows = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, -0.5, 1.0]], dtype=torch.float64)
    values, _ = found._statistics(found._grams(rows, found.weights, None, lambda *_: None), found.weights)
    lowest = found.levels[found.seen[0]]
    truth = 0.5 * (rows @ torch.linalg.inv(COVARIANCE + lowest**2 * torch.eye(3, dtype=torch.float64)) * rows).sum(dim=1)
    # the trapezoidal rule with step h has the relative error h²/12 times what its derivative changes, 2 at most, at either end
    step = math.log(found.levels[1] / found.levels[0])
    assert torch.allclose(values - values[0], truth, rtol=2 * 2 * step**2 / 12, atol=1e-12)


def test_what_is_likelier_than_any_row_is_found_by_the_norms_where_the_density_is_fooled() -> None:
    d = 30  # where rows lie on a shell around the mean, the likeliest point of all
    field = Gaussian([0.0] * d, torch.eye(d).tolist(), VE(0.01, 20.0))
    rows = SampleRng(range(800)).normal((d,))
    found = Detector(field, rows[:400], rows[400:])(torch.zeros(1, d, dtype=torch.float64))
    assert float(found.density) < 0.01
    assert float(found.norms) > math.log(400)
    assert float(found.p_value) == 1 / 401


def test_means_of_two_rows_are_found_where_the_density_calls_each_of_them_usual() -> None:
    d = 200
    field = Gaussian([0.0] * d, torch.eye(d).tolist(), VE(0.01, 20.0))
    rows = SampleRng(range(900)).normal((d,))
    found = Detector(field, rows[:400], rows[400:800])((rows[800:850] + rows[850:]) / 2)
    # |x|² is chi²(200) of a row and half of that of a mean: 13 deviations of it are between the two
    assert bool((found.density < math.log(2)).all())
    assert bool((found.p_value < 0.01).all())


def test_no_blend_gains_on_an_exact_field_and_the_blend_of_a_wrong_one_does() -> None:
    levels, wrong = [0.1, 0.5, 2.0], Gaussian([1.0, 0.0, 0.0], torch.eye(3).tolist(), VE(0.01, 20.0))
    learned = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(3, 3)
    for field, rows in ((GAUSSIAN, gaussian_rows), (MIXTURE, mixture_rows), (wrong, gaussian_rows)):
        blend, gains = Blend(field, rows(100, 1)), []
        weights = best_weights(blend.grams(rows(1000, 2), levels))
        for draw in range(40):  # new rows and new noise
            blend.noise = torch.cat([torch.zeros(1, 3), SampleRng(range(4), stream=100 + draw).normal((3,))])
            new = blend.grams(rows(100, 10 + draw), levels)
            gains.append((squares(new, learned)[1] - squares(new, weights)[1]).mean(dim=0))
        gain, error = torch.stack(gains).mean(dim=0), torch.stack(gains).std(dim=0) / math.sqrt(40)
        assert bool((gain > 5 * error).all() if field is wrong else (gain <= 5 * error).all())


def test_no_point_is_denoised_by_itself() -> None:
    rows, own = gaussian_rows(20, 1), torch.arange(20)
    blend = Blend(GAUSSIAN, rows)
    found = blend.each(rows, 0.7, [False, False, True], own)[2]
    for i in range(3):
        rest = GaussianMixture.empirical(rows[own != i], VE(0.01, 20.0))
        t = rest.process.time_of_sigma(torch.tensor([0.7], dtype=torch.float64))
        truth = rest(rows[i : i + 1], t).denoised[0]
        assert torch.allclose(found[i], truth, rtol=0, atol=1e-9)


def test_a_row_that_breaks_a_correlation_is_odd_though_each_of_its_numbers_is_usual() -> None:
    odd, usual = [1.2, -1.2, 0.0], [1.2, 1.2, 0.0]
    found = Detector(GAUSSIAN, gaussian_rows(200, 1), gaussian_rows(500, 2))(torch.tensor([odd, usual], dtype=torch.float64))
    assert float(found.p_value[0]) == 1 / 501
    assert float(found.p_value[1]) > 0.2
    assert float(found.shares[0, :2].sum()) > 0.8


def test_a_rows_answer_does_not_depend_on_the_others() -> None:
    found, rows = Detector(MIXTURE, mixture_rows(100, 1), mixture_rows(50, 2)), mixture_rows(20, 3)
    together, alone = found(rows), found(rows[7:8])
    # rows of a batch share the steps of the flow's solver, which is asked for 1 %
    assert abs(float(together.surprise[7] - alone.surprise[0])) < 0.05
    assert torch.allclose(together.shares[7], alone.shares[0], rtol=0, atol=1e-9)


def test_a_surprisal_is_minus_the_log_of_a_rank_and_goes_on_beyond_the_last() -> None:
    reference = torch.arange(99.0)
    values = surprisal(torch.tensor([-1.0, 49.5, 98.5, 98.5 + float(reference.std())]), reference).tolist()
    assert values[0] == 0.0
    assert values[1] == pytest.approx(-math.log(0.5))
    assert values[3] - values[2] == pytest.approx(1.0)


# --- tables ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "train.csv").write_text(text_of(table(400)), encoding="utf-8")
    app.train(str(folder / "train.csv"), out=folder / "run", steps=200, settings=("network.width=64", "training.pictures=0"))
    return folder / "run"


def test_odd_rows_are_named_with_their_columns_and_python_and_the_command_say_the_same(run: Path, tmp_path: Path) -> None:
    rows = table(12, seed=3)
    kind = [("red, dark", "blue", 'the "odd"').index(sort) for sort in rows["sort"]]
    rows["size"][4] = [25.0, -12.0, -12.0][kind[4]]  # usual for another sort, not for this one
    (tmp_path / "t.csv").write_text(text_of(rows))
    report = app.odd(run, tmp_path / "t.csv", rate="5%", out=tmp_path / "odd.csv").to_dict()
    assert command("odd", run, tmp_path / "t.csv", "--rate", "0.05", "--json", tmp_path / "odd.json") == 0
    assert json.loads((tmp_path / "odd.json").read_text()) == json.loads(json.dumps(report))
    assert [row["line"] for row in report["rows"]] == list(range(2, 14))
    assert report["held_out"] == 40
    assert max(report["rows"], key=lambda row: row["surprise"])["row"] == 4
    assert report["rows"][4]["odd"]
    assert report["count"] == sum(row["odd"] for row in report["rows"]) <= 4
    for row in report["rows"]:
        shares = [one["share"] for one in row["columns"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
    lines = (tmp_path / "odd.csv").read_text().splitlines()
    assert lines[0] == "row,line,surprise,p_value,odd,spoke,column,share"
    assert len(lines) == 13


def test_with_too_few_held_out_rows_for_a_rate_nothing_is_called_odd_and_that_is_said(run: Path) -> None:
    report = app.odd(run, in_python(table(3)), rate=0.001)
    assert report.to_dict()["count"] == 0
    assert "with 40 held-out rows the smallest p-value is 0.024" in report.notes[0]


@each_case(rate=["0", "1", 1.5, "-1%", "many", "100%"])
def test_a_rate_that_is_no_share_is_refused(rate: str | float) -> None:
    with pytest.raises(ScorefieldError, match="expected a share between 0 and 1"):
        rate_of(rate)


GOOD = table(4)
WRONG = [
    (text_of({**GOOD, "size": [1.5, "", 2.5, 2.0]}), "no value in column 'size' of 't.csv', line 3.*impute first"),
    (text_of({**GOOD, "new": [1, 2, 3, 4]}), "unknown column of 't.csv' 'new'"),
    (text_of({**GOOD, "size": [1.5, "tall", 2.5, 2.0]}), "got 'tall' in column 'size'"),
    (text_of({**GOOD, "sort": ["blue", "green", "blue", "blue"]}), "got 'green' in column 'sort'"),
]


@pytest.mark.parametrize(("content", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_wrong_table_gets_one_sentence_exit_code_2_and_nothing_written(
    content: str, says: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(content)
    before = contents(tmp_path)
    assert command("odd", run, tmp_path / "t.csv", "--out", tmp_path / "o.csv") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]
    assert contents(tmp_path) == before


def test_without_held_out_rows_nothing_is_usual() -> None:
    with pytest.raises(ScorefieldError, match="without held-out rows, expected some"):
        Detector(GAUSSIAN, gaussian_rows(50, 1), gaussian_rows(0, 2))
