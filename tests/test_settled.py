"""What an imputation settles on held-out rows: with fields that are exact, or have learned their rows by heart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scorefield import VE, Gaussian, GaussianMixture, app
from scorefield.guidance.conditional import BOTTOM, WAYS
from scorefield.imputation.numbers import legal
from scorefield.imputation.settled import NAME
from scorefield.runs import Run, open_run

Rows = NDArray[np.float64]
COVARIANCE = np.array([[1.0, 0.9, 0.3], [0.9, 1.0, 0.2], [0.3, 0.2, 0.5]])
MODES = np.array([[-1.0, 1.0, 0.5], [1.0, -1.0, -0.5]])  # any number tells the mode
N = 250


def gaussian(n: int, seed: int) -> Rows:
    return np.random.default_rng(seed).normal(size=(n, 3)) @ np.linalg.cholesky(COVARIANCE).T


def modes(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return MODES[rng.integers(2, size=n)] + 0.02 * rng.normal(size=(n, 3))


def run_on(rows: Rows, folder: Path) -> Path:
    """A run on these rows that has learned nothing, into which a field is put."""
    np.savetxt(folder / "rows.csv", rows, delimiter=",", header="a,b,c", comments="", fmt="%.5f")
    settings = ("network.width=16", "training.pictures=0")
    app.train(str(folder / "rows.csv"), out=folder / "run", steps=1, settings=settings)
    return folder / "run"


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], Any]], None]:
    """Give every run that is opened this field of its model space."""

    class Placed:
        def __init__(self, field: Any) -> None:
            self.field = field

        def __getattr__(self, name: str) -> Any:
            return getattr(self.field, name)

        def __call__(self, *given: Any) -> Any:
            return self.field(*given)

        def to(self, _: Any) -> Any:
            return self.field

    return lambda make: monkeypatch.setattr(Run, "field", property(lambda run: Placed(make(run))))


def exact(run: Run) -> Gaussian:
    shift, scale = np.array(run.normaliser.shift), np.array(run.normaliser.scale)
    return Gaussian((-shift / scale).tolist(), (COVARIANCE / np.outer(scale, scale)).tolist(), VE(0.01, 20.0))


def narrow(run: Run) -> GaussianMixture:
    shift, scale = np.array(run.normaliser.shift), np.array(run.normaliser.scale)
    return GaussianMixture([1.0] * 2, ((MODES - shift) / scale).tolist(), [0.02 / scale.mean()] * 2, VE(0.01, 20.0))


def by_heart(run: Run) -> GaussianMixture:
    z = run.normaliser.encode(torch.as_tensor(run.data.train[:])).double()
    return GaussianMixture([1.0] * len(z), z.tolist(), [0.02] * len(z), VE(0.01, 20.0))


def held(run: Path, truth: Rows) -> tuple[float, Any]:
    """The share of cells that their intervals hold, one hidden in each row, and the report."""
    holes: dict[str, list[float | None]] = {name: column.round(5).tolist() for name, column in zip("abc", truth.T, strict=True)}
    for row in range(len(truth)):
        holes["abc"[row % 3]][row] = None
    report = app.impute(run, holes, draws=1)
    cells = report.imputed.cells.items()
    return float(np.mean([cell.low <= truth[row, "abc".index(name)] <= cell.high for (row, name), cell in cells])), report


def test_intervals_of_the_exact_field_hold_nine_of_ten_cells_as_the_draws_have_them(put: Any, tmp_path: Path) -> None:
    put(exact)
    run = run_on(gaussian(N, 0), tmp_path)
    share, report = held(run, gaussian(N, 1))
    assert report.imputed.widened == 0
    assert abs(share - 0.9) < 5 * math.sqrt(0.09 / N)


def test_a_field_that_knows_its_rows_by_heart_is_asked_at_high_levels_and_its_intervals_are_widened_until_they_hold(
    put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(by_heart)
    run = run_on(gaussian(60, 0), tmp_path)
    share, _ = held(run, gaussian(N, 1))
    assert json.loads((run / NAME).read_text())["bottom"] == WAYS[-1].bottom
    (run / NAME).unlink()
    monkeypatch.setattr("scorefield.imputation.settled.ways_of", lambda field: WAYS[:1])
    monkeypatch.setattr("scorefield.imputation.settled.Settled.widening", lambda self, columns: (0.0, 0, 0))
    sure, _ = held(run, gaussian(N, 1))
    assert sure < 0.7
    # widened by the shares of six held-out rows, less one standard error of these, which is seldom more than 0.1
    assert share > 0.9 - 0.1 - 5 * math.sqrt(0.09 / N)


def test_a_field_of_narrow_modes_that_is_right_is_asked_down_to_the_lowest_level(put: Any, tmp_path: Path) -> None:
    put(narrow)
    run = run_on(modes(N, 0), tmp_path)
    held(run, modes(6, 1))
    assert json.loads((run / NAME).read_text())["bottom"] == BOTTOM


@pytest.mark.parametrize(
    ("column", "ends", "low", "high"),
    [
        ({"type": "number", "digits": 1}, [1.23, 1.3, 9.0], [1.2, 1.3, 5.0], [1.3, 1.3, 5.0]),
        ({"type": "number", "levels": [0.0, 0.5, 5.0]}, [0.2, 0.5, -1.0], [0.0, 0.5, 0.0], [0.5, 0.5, 0.0]),
        ({"type": "integer", "step": 2.0}, [1.0, 2.0, 4.9], [0.0, 2.0, 4.0], [2.0, 2.0, 5.0]),
        ({"type": "date"}, [1.5, 2.0, 3.999], [1.0, 2.0, 3.0], [2.0, 2.0, 4.0]),
        ({"type": "number", "digits": 300, "atoms": [-3.0]}, [-3.5, 0.123, 2.0], [-3.0, 0.123, 2.0], [-3.0, 0.123, 2.0]),
    ],
)
def test_the_ends_of_an_interval_are_the_nearest_values_outwards_that_a_column_can_have(
    column: dict[str, Any], ends: list[float], low: list[float], high: list[float]
) -> None:
    column = {"low": 0.0, "high": 5.0, **column}
    found = [legal(torch.tensor(ends, dtype=torch.float64), column, side) for side in (-1, 1)]
    assert [one.tolist() for one in found] == [low, high]


def test_what_was_settled_is_kept_and_serves_when_the_data_are_gone_and_no_longer_than_the_weights_stay(
    put: Any, tmp_path: Path
) -> None:
    put(exact)
    run = run_on(gaussian(100, 0), tmp_path)
    _, first = held(run, gaussian(9, 1))
    (tmp_path / "rows.csv").unlink()
    _, again = held(run, gaussian(9, 1))
    assert again.imputed.cells == first.imputed.cells
    assert again.imputed.measured == first.imputed.measured > 0
    kept = json.loads((run / NAME).read_text())
    (run / NAME).write_text(json.dumps({**kept, "made_from": {**kept["made_from"], "model_sha256": "other"}}))
    _, other = held(run, gaussian(9, 1))
    assert other.imputed.measured == 0
    assert any("not where they were" in note for note in other.notes)
    assert open_run(run).made_from["model_sha256"] == kept["made_from"]["model_sha256"]
