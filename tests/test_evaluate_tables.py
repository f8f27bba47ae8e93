"""Evaluate on a table: training rows score as the floor does, the report says everything, wrong targets are refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import small_evaluations

from scorefield import ScorefieldError, app
from scorefield.drawing import Drawing
from scorefield.evaluation import table_quality
from scorefield.metrics.base import Estimate
from scorefield.randomness import subsample
from scorefield.runs import open_run


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """What is not of tables alone is measured on little: it has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        small_evaluations(patch)
        patch.setattr("scorefield.metrics.tstr.SETS", 2)
        patch.setattr("scorefield.evaluation.html._levels", None)  # the picture is left out
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on numbers with holes, a spike, dates, a boolean, categories with holes and a constant; it has learned little."""
    folder, rng, n = tmp_path_factory.mktemp("tables"), np.random.default_rng(0), 300
    age, flag = rng.integers(18, 80, n), rng.random(n) < 0.4
    rain = np.where(rng.random(n) < 0.5, 0, rng.gamma(2, 3, n)).round(1)
    day = np.datetime64("2020-01-01") + (age * 20 + rng.integers(0, 90, n)).astype("timedelta64[D]")
    holes = rng.random((n, 2)) < 0.15
    with (folder / "people.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["age", "smoker", "rain", "day", "job <b>", "one", "height"])
        for i in range(n):
            job = "retired" if age[i] > 60 else ["farm", "school"][int(flag[i])]
            out.writerow(
                [
                    "" if holes[i, 0] else age[i],
                    flag[i],
                    rain[i],
                    day[i],
                    "" if holes[i, 1] else job,
                    "x",
                    f"{rng.normal():.4f}",
                ]
            )
    return Path(
        app.train(
            folder / "people.csv", out=folder / "run", steps=5, settings=("data.held_out=0.3", "training.pictures=0")
        ).folder
    )


def test_training_rows_in_place_of_samples_score_exactly_as_the_floor_does_and_are_copies(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the way from model space to values and back, for every kind of column."""
    data = open_run(run).data
    rows = data.train[subsample(len(data.train), 150)]
    monkeypatch.setattr(Drawing, "draw", lambda _, n, **__: data.normaliser.encode(rows)[:n].double())
    report = app.evaluate(run, n=150)
    found = report.table
    assert found is not None
    assert found.detection == found.real_detection
    assert found.dependence == found.real_dependence
    assert found.closest is not None and found.real_closest is not None
    assert found.closest.value == 1.0
    assert abs(found.real_closest.value - 0.5) < 5 * found.real_closest.standard_error
    assert found.utility is not None
    assert list(found.utility.columns) == ["smoker", "job <b>", "age", "rain", "day", "height"]
    for one in (*found.utility.columns.values(), *found.utility.means.values()):
        assert abs(one.gap.value) < 5 * one.gap.standard_error
    figures, table, page = (path.read_text(encoding="utf-8") for path in report.written)
    said = json.loads(figures)["table"]
    assert said["detection"]["value"] == found.detection.value  # type: ignore[union-attr]
    assert said["dependence"]["columns"] == ["age", "smoker", "rain", "day", "job <b>", "height"]
    assert said["utility"]["columns"]["age"]["score"] == "R2"
    (sentence,) = [one for one in report.verdict if one.startswith("Rows: ")]
    assert sentence in table and sentence in page
    for name, one in found.utility.columns.items():
        assert f"| {name} | " in table and str(one.gap) in table and str(one.gap) in page
    assert "<b>" not in page and "job &lt;b&gt;" in page
    assert page.count("data:image/png;base64,") == 2  # columns, dependence


def test_a_measure_that_fails_is_left_out_by_name_and_one_column_is_predicted_on_request(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Estimate:
        raise MemoryError

    monkeypatch.setattr(table_quality, "detection", fail)
    monkeypatch.setattr(table_quality, "dependence", fail)
    shown = list[str]()
    report = app.evaluate(run, n=60, target="day", progress=lambda _, text: shown.append(text))
    found = report.table
    assert found is not None and found.utility is not None and found.closest is not None
    assert found.detection is None and found.dependence is None and found.real_dependence is None
    assert list(found.utility.columns) == ["day"]
    assert {"detection: MemoryError", "dependence: MemoryError"} <= set(report.left_out)
    assert "predicting column day" in shown
    assert "mean of R²" not in report.written[1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("smokr", "unknown column 'smokr': did you mean 'smoker'"),
        ("one", "got --target one, which is 'x' in every row, expected a column that varies: choose another"),
        ("", "unknown column ''"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_is_drawn(run: Path, target: str, says: str) -> None:
    before = sorted(run.iterdir())
    with pytest.raises(ScorefieldError, match=says):
        app.evaluate(run, n=40, target=target, progress=lambda *_: pytest.fail("it began"))
    assert sorted(run.iterdir()) == before


def test_a_target_of_a_run_that_is_not_on_a_table_is_refused(tmp_path: Path) -> None:
    moons = app.train("two-moons", out=tmp_path / "run", steps=1, settings=("data.examples=300",)).folder
    with pytest.raises(ScorefieldError, match="got --target x for a run on vectors, expected one on a table"):
        app.evaluate(moons, n=40, target="x")


def test_a_table_of_one_column_is_measured_as_far_as_one_column_can_be(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a\n" + "\n".join(f"{v:.4f}" for v in np.random.default_rng(0).normal(size=200)))
    settings = ("data.held_out=0.3", "training.pictures=0")
    report = app.evaluate(app.train(tmp_path / "one.csv", out=tmp_path / "run", steps=1, settings=settings).folder, n=40)
    assert report.table is not None and report.table.detection is not None and report.table.closest is not None
    assert "dependence: fewer than two columns vary in the held-out rows" in report.left_out
    assert any(one.startswith("prediction: no column can be predicted") for one in report.left_out)
