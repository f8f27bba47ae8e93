"""Rows with given columns: the others have the closed-form law given them, and the given ones are exactly what was given."""

from __future__ import annotations

import csv
import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents, each_case

from scorefield import VE, Gaussian, ScorefieldError, app
from scorefield.data.table.tables import csv_of
from scorefield.guidance.conditional import EXACT
from scorefield.imputation.given import Given, values_of
from scorefield.imputation.settled import Settled
from scorefield.runs import Run, open_run
from scorefield.web.forms import fields_of
from scorefield.web.refusals import command as as_command
from scorefield.web.refusals import field_of

SMALL = ("network.width=16", "training.pictures=0")
COLORS = ("blue", "red")
N = 400


class Placed(Gaussian):
    """A closed form where a run has its network."""

    def to(self, _device: torch.device) -> Placed:
        return self


def people(n: int, seed: int = 0) -> dict[str, list[Any]]:
    """A column of every type; rows depend on a hidden kind."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    return {
        "age": (30 + 10 * kind + rng.integers(9, size=n)).tolist(),
        "height": (1.5 + 0.1 * kind + 0.05 * rng.normal(size=n)).round(2).tolist(),
        "income": np.where(rng.random(n) < 0.3, 0, rng.lognormal(9, 1, n)).tolist(),
        "smoker": np.where(rng.random(n) < 0.4, "yes", "no").tolist(),
        "member": (rng.random(n) < 0.5).tolist(),
        "day": [datetime.date(2023, 1, 1) + datetime.timedelta(int(d)) for d in rng.integers(365, size=n)],
        "gap": [None if one else float(v) for one, v in zip(rng.random(n) < 0.4, rng.normal(size=n), strict=True)],
        "a=b": rng.normal(size=n).tolist(),
        "unit": ["cm"] * n,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    (folder / "people.csv").write_bytes(csv_of(people(N)))
    app.train(str(folder / "people.csv"), out=folder / "run", steps=120, settings=SMALL)
    return folder / "run"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --- the law of the others ------------------------------------------------------------------------------------------------

MEAN = np.array([1.0, 0.5, 0.5, -2.0])  # of a, blue, red, b
ROOT = np.array([[1.0, 0, 0, 0], [0.2, 0.4, 0, 0], [-0.2, -0.3, 0.2, 0], [0.7, 0.5, -0.4, 0.6]])
COVARIANCE = ROOT @ ROOT.T


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"a": 1.8}, {0: 1.8}),
        ({"colour": "red"}, {1: 0.0, 2: 1.0}),
        ({"a": "0.25", "colour": "blue"}, {0: 0.25, 1: 1.0, 2: 0.0}),
    ],
    ids=["a number", "a text", "both"],
)
def test_the_others_have_the_closed_form_mean_and_variance_given_what_is_given(
    given: dict[str, Any], known: dict[int, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Gaussian of (a, blue, red, b): m_b + C_bk·C_kk⁻¹·(k - m_k), and C_bb - C_bk·C_kk⁻¹·C_kb."""
    rng = np.random.default_rng(1)
    table = {"a": rng.normal(size=N).tolist(), "colour": rng.choice(COLORS, N).tolist(), "b": (5 * rng.normal(size=N)).tolist()}
    (tmp_path / "t.csv").write_bytes(csv_of(table))
    app.train(str(tmp_path / "t.csv"), out=tmp_path / "run", steps=1, settings=SMALL)

    def field(run: Run) -> Placed:
        shift, scale = np.array(run.normaliser.shift), np.array(run.normaliser.scale)
        return Placed(((MEAN - shift) / scale).tolist(), (COVARIANCE / np.outer(scale, scale)).tolist(), VE(0.01, 20.0))

    monkeypatch.setattr(Run, "field", property(field))
    monkeypatch.setattr("scorefield.imputation.given.settled", lambda *_: Settled(EXACT, {}))  # any way is right here
    app.sample(tmp_path / "run", n=N, given=given, out=tmp_path / "drawn.csv")
    rows = rows_of(tmp_path / "drawn.csv")
    assert len(rows) == N
    assert {row[name] for row in rows for name in given} == {str(value) for value in given.values()}
    b, k = np.array([float(row["b"]) for row in rows]), list(known)
    gain = COVARIANCE[3, k] @ np.linalg.inv(COVARIANCE[np.ix_(k, k)])
    mean = MEAN[3] + gain @ (np.array(list(known.values())) - MEAN[k])
    variance = COVARIANCE[3, 3] - gain @ COVARIANCE[k, 3]
    assert abs(b.mean() - mean) < 5 * math.sqrt(variance / N)
    assert abs(b.var() - variance) < 5 * variance * math.sqrt(2 / N)


def test_row_i_is_the_same_for_any_number_of_rows_at_a_time_and_another_seed_gives_others(run: Path, tmp_path: Path) -> None:
    for name, n, more in (("all", 9, {}), ("few", 9, {"batch": 4}), ("less", 5, {}), ("other", 9, {"seed": 1})):
        app.sample(run, n=n, given={"age": 40}, out=tmp_path / f"{name}.csv", **more)  # type: ignore[arg-type]
    rows = {name: rows_of(tmp_path / f"{name}.csv") for name in ("all", "few", "less", "other")}
    assert rows["few"] == rows["all"]
    assert rows["less"] == rows["all"][:5]
    assert rows["other"] != rows["all"]
    assert len({row["height"] + row["day"] for row in rows["all"]}) > 5


# --- what comes back ------------------------------------------------------------------------------------------------------


def test_given_columns_come_out_exactly_as_given_and_all_others_are_legal(run: Path, tmp_path: Path) -> None:
    train = people(N)
    given = {"age": 60, "height": 1.7321, "income": 0, "smoker": "yes", "member": False, "day": datetime.date(2023, 2, 28)}
    for name, value in given.items():
        app.sample(run, n=20, given={name: value}, out=tmp_path / f"{name}.csv")
        rows = rows_of(tmp_path / f"{name}.csv")
        assert {row[name] for row in rows} <= {str(value), f"{value}.0", f"{value}".lower()}
        for row in rows:
            if name != "age":
                assert min(train["age"]) <= int(row["age"]) <= max(train["age"])
            if name != "height":
                assert re.fullmatch(r"\d\.\d{1,2}", row["height"])
            assert float(row["income"]) >= 0
            assert row["smoker"] in ("yes", "no")
            assert row["member"] in ("True", "False")
            assert row["unit"] == "cm"
            assert datetime.date(2023, 1, 1) <= datetime.date.fromisoformat(row["day"]) <= datetime.date(2023, 12, 31)
    assert {row["gap"] == "" for row in rows} == {True, False}  # as of the table, some are missing


def test_all_columns_may_be_given(run: Path, tmp_path: Path) -> None:
    row = {name: values[3] for name, values in people(N).items()}
    app.sample(run, n=2, given=row, out=tmp_path / "one.csv")
    for found in rows_of(tmp_path / "one.csv"):
        assert found == {name: "" if value is None else str(value) for name, value in row.items()}


def test_other_files_hold_the_given_value_too(run: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    app.sample(run, n=3, given={"height": 1.7321}, out=tmp_path / "x.parquet")
    assert pandas.read_parquet(tmp_path / "x.parquet")["height"].tolist() == [1.7321] * 3
    app.sample(run, n=3, given={"height": 1.7321}, out=tmp_path / "x.npz")
    assert np.load(tmp_path / "x.npz")["x"][:, 1].tolist() == [1.7321] * 3


def test_python_and_the_command_give_the_same_bytes_and_the_report_says_what_was_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = app.sample(run, n=5, given={"age": 40, "smoker": "no", "a=b": 0.5}, out=tmp_path / "python.csv")
    asked = ["--given", "age=40", "--given", "smoker=no", "--given", "a=b=0.5"]
    assert command("sample", run, "-n", 5, *asked, "--out", tmp_path / "command.csv") == 0
    assert "5 samples given age = 40, smoker = no, a=b = 0.5" in capsys.readouterr().out
    assert contents(tmp_path)["command.csv"] == contents(tmp_path)["python.csv"]
    assert json.loads(json.dumps(report.to_dict()))["given"] == "age = 40, smoker = no, a=b = 0.5"


# --- how values are read, and what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "coordinate", "value"),
    [
        ("age=40", 0, 40.0),
        ("member=yes", 7, 1.0),
        ("member=FALSE", 7, 0.0),
        ("day=2023-01-31", 8, 19388.0),
        ("day=31.01.2023", 8, 19388.0),
        ("height= 1.62 ", 1, 1.62),
        ("age=4.1e1", 0, 41.0),
    ],
)
def test_a_text_is_read_by_the_type_of_its_column(run: Path, given: str, coordinate: int, value: float) -> None:
    row = Given.of(open_run(run), (given,)).row
    assert float(row[coordinate]) == value


def test_what_is_given_is_read_in_the_style_of_the_table(tmp_path: Path) -> None:
    text = "when;price\n" + "".join(
        f"{1 + i % 28:02d}.{1 + i % 12:02d}.2023;{i * 1.37:.2f}\n".replace(".", ".", 1) for i in range(99)
    )
    (tmp_path / "t.csv").write_text(re.sub(r";(\d+)\.", r";\1,", text))
    app.train(str(tmp_path / "t.csv"), out=tmp_path / "run", steps=1, settings=SMALL)
    row = Given.of(open_run(tmp_path / "run"), ("when=02.01.2023", "price=12,5")).row
    assert row.tolist() == [19359.0, 12.5]


@each_case(
    given__says=[
        (("agee=4",), "unknown column of --given 'agee': did you mean 'age'?"),
        (("age",), "got --given age, expected COLUMN=VALUE"),
        (("age=40", "age=41"), "got --given for 'age' twice, 40 and 41"),
        (("age=40.5",), "got --given age=40.5, expected a whole number"),
        (("age=old",), "got --given age=old, expected a whole number"),
        (("age=",), "got --given age=, expected a whole number"),
        (("height=inf",), "got --given height=inf, expected a number"),
        (("height=nan",), "got --given height=nan, expected a number"),
        (("age=400",), r"got --given age=400, expected a value like those of the run's table \(30 to 58\), or at most 10%"),
        (("income=-5",), r"got --given income=-5, .*\(0 or \d"),
        (("smoker=yess",), "unknown text of --given smoker 'yess': did you mean 'yes'"),
        (("member=perhaps",), "expected true or false: write --given member=False"),
        (("day=40",), "got --given day=40, expected a day: write --given day=2023-01-0"),
        (("day=2031-01-01",), r"\(2023-01-0\d to 2023-12-\d\d\)"),
        (("age=2023-01-01",), "got --given age=2023-01-01, expected a whole number"),
        (("unit=mm",), "unknown text of --given unit 'mm'"),
        ({"gap": None}, "got --given gap=None, expected a number"),
        ({"age": [1]}, r"got --given age=\[1\], expected a whole number"),
    ]
)
def test_a_value_that_a_column_cannot_have_is_refused_in_a_sentence_and_nothing_is_written(
    run: Path, tmp_path: Path, given: Any, says: str
) -> None:
    with pytest.raises(ScorefieldError, match=says) as refused:
        app.sample(run, n=5, given=given, out=tmp_path / "x.csv")
    assert "\n" not in str(refused.value)
    assert field_of(str(refused.value), ("n", "given", "out", "label")) == "given"
    assert contents(tmp_path) == {}


def test_up_to_a_tenth_of_the_range_outside_may_be_asked_for_and_no_more(run: Path, tmp_path: Path) -> None:
    opened = open_run(run)
    low, high = min(people(N)["age"]), max(people(N)["age"])
    reach = math.floor(0.1 * (high - low))
    for age in (low - reach, high + reach):
        assert Given.of(opened, {"age": age}).row[0] == age
    for age in (low - reach - 1, high + reach + 1):
        with pytest.raises(ScorefieldError, match="never seen"):
            Given.of(opened, {"age": age})


@pytest.mark.parametrize(
    "asked", [{"steps": 5}, {"sampler": "heun"}, {"label": "a"}, {"temperature": 0.5}, {"guidance": 2.0}, {"gif": True}]
)
def test_what_draws_otherwise_is_refused_together_with_given_columns(run: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ScorefieldError, match=f"got --{next(iter(asked))} with --given"):
        app.sample(run, n=5, given={"age": 40}, out=tmp_path / "x.csv", **asked)
    assert contents(tmp_path) == {}


def test_a_run_of_no_table_has_no_columns(tmp_path: Path) -> None:
    app.train(np.random.default_rng(0).normal(size=(60, 2)), out=tmp_path / "run", steps=1, settings=SMALL)
    with pytest.raises(ScorefieldError, match="a run of vectors, expected one that learned from a table"):
        app.sample(tmp_path / "run", n=5, given={"age": 40})


def test_the_longest_column_that_fits_is_meant() -> None:
    assert values_of(("a=b=c",), ("a", "a=b")) == {"a=b": "c"}
    assert values_of(("a=b=c",), ("a", "b")) == {"a": "b=c"}


# --- the page -------------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_given_columns_one_a_line_and_shows_them_in_the_command() -> None:
    field = next(field for field in fields_of("sample") if field.name == "given")
    assert (field.kind, field.default) == ("list", [])
    shown = as_command("sample", [{"name": "given", "default": []}], {"run": "runs/t", "given": ["age=40", "city=New York"]})
    assert shown == "scorefield sample runs/t --given age=40 --given 'city=New York'"
