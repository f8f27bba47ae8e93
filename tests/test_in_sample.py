"""A table that is filled by a run trained on its own holes: against the law that made it, and what is refused before."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command
from numpy.typing import NDArray

from scorefield import ScoreDensity, ScorefieldError, app
from scorefield.data import DataConfig, open_data
from scorefield.data.table.partial import without_values
from scorefield.imputation.settled import settled
from scorefield.runs import open_run
from scorefield.specs import TrainSpec

N = 400
COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.2], [0.3, 0.2, 0.5]])
FEW = TrainSpec(steps=60, settings=("network.width=32",))


def rows(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(N, 3)) @ np.linalg.cholesky(COVARIANCE).T


def holes(x: NDArray[np.float64], seed: int = 1) -> NDArray[np.bool_]:
    """The first column is always there, and where it is high the second is missing more often; the third at random."""
    u = np.random.default_rng(seed).random(x.shape)
    return np.stack([np.zeros(N, bool), u[:, 1] < 1 / (1 + np.exp(-4 * x[:, 0])), u[:, 2] < 0.2], axis=1)


def written(x: NDArray[np.float64], missing: NDArray[np.bool_], place: Path) -> Path:
    lines = (",".join("" if m else f"{v:.4f}" for v, m in zip(*row, strict=True)) for row in zip(x, missing, strict=True))
    place.write_text("a,b,c\n" + "\n".join(lines) + "\n")
    return place


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float64], NDArray[np.bool_], app.ImputeReport]:
    place = tmp_path_factory.mktemp("holes") / "table.csv"
    x = rows()
    missing = holes(x)
    return x, missing, app.impute(written(x, missing, place), training=FEW)


def test_a_table_is_filled_from_its_own_holes_with_intervals_that_hold(filled: Any) -> None:
    x, missing, report = filled
    cells = report.imputed.cells
    assert len(cells) == missing.sum()
    held = [cell.low <= round(x[row, "abc".index(name)], 4) <= cell.high for (row, name), cell in cells.items()]
    told = report.to_dict()["calibration"]  # its own error counts, too
    error = math.sqrt(0.09 / len(held) + 0.09 / told["rows"])
    assert abs(float(np.mean(held)) - 0.9) < 4 * error
    assert report.to_dict()["way"] in ("learned conditional", "weighted particles")


def test_what_is_missing_by_another_column_is_filled_without_the_bias_of_what_is_there(filled: Any) -> None:
    x, missing, report = filled
    there = x[~missing[:, 1], 1].mean()
    draws = np.array([np.mean([float(v) for v in report.table(draw)["b"]]) for draw in range(20)])
    error = math.sqrt(1 / N + 0.36 * missing[:, 1].mean() / (N * (1 - missing[:, 1].mean())))  # of the mean, by regression
    assert there < -5 * error  # without the rows whose first column is high
    assert abs(draws.mean() - x[:, 1].mean()) < 3 * error


def test_the_observed_cells_stay_byte_for_byte_and_nothing_but_two_files_is_left(tmp_path: Path) -> None:
    x = rows(3)
    missing = holes(x)
    source = written(x, missing, tmp_path / "table.csv")
    command("impute", str(source), "--draws", "1", "--steps", "2")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["table-filled-intervals.csv", "table-filled.csv", "table.csv"]
    before, after = (place.read_text().splitlines() for place in (source, tmp_path / "table-filled.csv"))
    for old, new in zip(before, after, strict=True):
        for one, other in zip(old.split(","), new.split(","), strict=True):
            assert (one == other) if one else other


def test_numbers_kept_aside_are_holes_to_training_and_all_else_is_as_it_was() -> None:
    x, missing = rows(4), holes(rows(4))
    table = {"a": x[:, 0], "b": np.where(missing[:, 1], np.nan, x[:, 1]), "c": np.where(missing[:, 2], np.nan, x[:, 2]),
             "t": [None if i % 5 == 0 else "xy"[i % 2] for i in range(N)]}  # fmt: skip
    whole, data = (open_data(table, DataConfig(aside=share)) for share in (0.0, 0.3))
    assert whole.aside is None and data.aside is not None
    hidden, columns = data.aside.hidden, data.columns or []
    assert not hidden[:, [0, 3]].any()  # nothing is missing in the first, and the last holds texts
    there = (~missing[:, 1:]).sum() * len(data.train) / N
    chance = there * 0.3  # of a number that is there; its row has the first column, so that it is never all there is
    assert abs(int(hidden.sum()) - chance) < 4 * math.sqrt(chance * 0.7) + 0.3 * math.sqrt(N)
    assert torch.equal(data.aside.rows, torch.as_tensor(whole.train[:]))
    gaps = {column["name"]: hidden[:, i].numpy() for i, column in enumerate(columns)}
    assert torch.equal(torch.as_tensor(data.train[:]), without_values(data.aside.rows, gaps, columns))
    again = open_data({name: list(values) for name, values in table.items()}, DataConfig(aside=0.3))
    assert again.fingerprint == data.fingerprint != whole.fingerprint
    with pytest.raises(ScorefieldError, match=r"data\.aside for the vectors"):
        open_data(x, DataConfig(aside=0.1))


def test_the_intervals_of_rows_that_were_learned_from_are_measured_on_the_numbers_kept_aside(tmp_path: Path) -> None:
    x = rows(8)
    table = dict(zip("abc", np.where(holes(x), np.nan, x).T, strict=True))
    app.train(table, out=tmp_path / "run", steps=2, settings=("data.aside=0.05", "network.width=8", "training.pictures=0"))
    run = open_run(tmp_path / "run", table)
    assert run.data.aside is not None
    found = settled(run, torch.device("cpu"))
    assert {name: len(pairs) for name, pairs in found.scores.items()} == dict(
        zip("bc", run.data.aside.hidden[:, 1:].sum(dim=0).tolist(), strict=True)
    )


def test_what_cannot_be_filled_is_refused_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("scorefield.app.impute"), "train", lambda *_, **__: pytest.fail("it trained"))
    x = rows()
    with pytest.raises(ScorefieldError, match="without holes, expected empty cells"):
        app.impute(written(x, np.zeros_like(x, bool), tmp_path / "whole.csv"))
    source = written(x, holes(x), tmp_path / "table.csv")
    (tmp_path / "table-filled.csv").write_text("mine")
    with pytest.raises(ScorefieldError, match="table-filled"):
        app.impute(source)
    with pytest.raises(ScorefieldError, match="expected at least 1"):
        app.impute(source, draws=0)
    with pytest.raises(ScorefieldError, match="expected a table"):
        app.impute("digits")
    assert (tmp_path / "table-filled.csv").read_text() == "mine"


def test_a_column_without_values_stays_empty_and_is_named(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("a,b,c\n" + "\n".join(f"{i * i % 7},{'' if i == 4 else i % 5}," for i in range(12)) + "\n")
    report = app.impute(source, draws=1, training=TrainSpec(steps=2, settings=("network.width=8",)))
    assert [line.rpartition(",")[2] for line in report.written[0].read_text().splitlines()[1:]] == [""] * 12
    assert list(report.imputed.cells) == [(4, "b")] and report.notes[0].startswith("column 'c' stays as it is: no values")


# --- an array -------------------------------------------------------------------------------------------------------------


def test_a_density_learned_from_rows_with_holes_has_the_means_of_whole_ones() -> None:
    x = rows(5)
    missing = holes(x)
    density = ScoreDensity(max_steps=60, random_state=0, settings=("network.width=32",)).fit(np.where(missing, np.nan, x))
    drawn = density.sample(2000, random_state=0)
    error = np.sqrt(COVARIANCE.diagonal() * (1 / 2000 + 1 / (N * (1 - missing.mean(axis=0)))))
    assert (abs(drawn.mean(axis=0)) < 5 * error).all()
    there = np.array([x[~missing[:, j], j].mean() for j in range(3)])
    assert there[1] < -5 * error[1]
    filled = density.impute(np.where(missing, np.nan, x), n_draws=3, random_state=0)
    assert (filled[:, ~missing] == x[~missing]).all() and np.isfinite(filled).all()


def test_a_column_without_numbers_is_refused_and_a_row_without_any_is_drawn_from_the_density() -> None:
    x = rows(6)
    x[:, 1] = np.nan
    tiny = ScoreDensity(max_steps=2, random_state=0, settings=("network.width=8",))
    with pytest.raises(ScorefieldError, match="column 1 with NaN alone"):
        tiny.fit(x)
    x = rows(6)
    x[3] = np.nan
    tiny.fit(x)
    drawn = tiny.impute(np.full((500, 3), np.nan), random_state=0)
    scale = np.nanstd(x, axis=0)
    assert (abs(drawn.mean(axis=0) - np.nanmean(x, axis=0)) < 5 * scale / math.sqrt(500)).all()


def test_complete_rows_learn_what_is_given_too_and_a_choice_by_hand_stands() -> None:
    x = rows(7)
    learned = ScoreDensity(max_steps=2, random_state=0).fit(x)
    by_hand = ScoreDensity(max_steps=2, random_state=0, settings=("training.given=0",)).fit(x)
    assert learned.field_.takes_given and not by_hand.field_.takes_given
    one = ScoreDensity(max_steps=2, random_state=0).fit(x[:, :1])  # of one column nothing can be given
    assert not one.field_.takes_given
    assert torch.isfinite(torch.from_numpy(one.score_samples(x[:, :1]))).all()
