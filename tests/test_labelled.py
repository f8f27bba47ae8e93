"""Files of Stata, SPSS and SAS: labels are categories, declared missing values are missing, samples go back as such files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefield import app
from scorefield.data import DataConfig, Dataset, open_source
from scorefield.data.split import split
from scorefield.data.table import labelled
from scorefield.data.table.coordinates import decode
from scorefield.errors import ScorefieldError
from scorefield.outputs.labelled import DTA, SAV

pyreadstat = pytest.importorskip("pyreadstat")
pandas = pytest.importorskip("pandas")

CONFIG, N = DataConfig(), 40
R = np.random.default_rng(0)
LABELS = {3: "never", 1: "always", 2: "sometimes"}
DAYS = [dt.date(2020, 1, 1) + dt.timedelta(days=i * i) for i in range(N)]
MOMENTS = [dt.datetime(2020, 1, 1, 12) + dt.timedelta(minutes=7 * i) for i in range(N)]
AGES = [999.0 if i % 8 == 3 else -2.0 if i % 8 == 5 else 20.0 + i for i in range(N)]
FRAME = pandas.DataFrame(
    {
        "often": [None if i == 7 else [1, 2, 3][i % 3] for i in range(N)],
        "age": AGES,
        "scale": [[1, 4, 7, 10][i % 4] for i in range(N)],
        "income": R.normal(size=N).astype("f4"),
        "count": R.integers(0, 90, N).astype("i1"),
        "born": DAYS,
        "seen": MOMENTS,
        "town": [["Ulm", "", "Bonn"][i % 3] for i in range(N)],
    }
)
ENDS = {1: "not at all", 10: "fully"}
SAID: dict[str, Any] = {
    "variable_value_labels": {"often": LABELS, "scale": ENDS},
    "column_labels": {"age": "Age in years"},
}


def read(path: Path) -> tuple[Dataset, dict[str, list[Any]]]:
    data = open_source(str(path), CONFIG)
    order = torch.cat(split(N, 0.1, None, 0)).argsort()
    return data, decode(torch.cat([data.train[:], data.held_out[:]])[order], data.columns or [], exact=True)


def write(path: Path) -> Path:
    if path.suffix == ".dta":
        pyreadstat.write_dta(FRAME, str(path), **SAID)
    else:
        ranges = {"age": [999, {"lo": -9, "hi": -1}]}
        pyreadstat.write_sav(FRAME, str(path), **SAID, missing_ranges=ranges, variable_format={"count": "F8.0"})
    return path


def column(data: Dataset, name: str) -> dict[str, Any]:
    return next(one for one in data.columns or [] if one["name"] == name)


@pytest.mark.parametrize("ending", [".dta", ".sav"])
def test_labels_are_categories_dates_are_dates_and_gaps_are_missing(ending: str, tmp_path: Path) -> None:
    data, found = read(write(tmp_path / f"survey{ending}"))
    assert found["often"] == [None if i == 7 else ["always", "sometimes", "never"][i % 3] for i in range(N)]
    assert found["born"] == DAYS
    assert found["seen"] == MOMENTS
    assert found["town"] == [["Ulm", None, "Bonn"][i % 3] for i in range(N)]
    assert found["count"] == FRAME["count"].tolist()
    assert column(data, "count")["type"] == "integer"
    assert found["scale"] == FRAME["scale"].tolist()
    issues = {issue.where: issue.cause for issue in data.issues}
    assert issues["column 'scale'"] == "2 of 4 different values have a label (such as 'not at all'): read as numbers"


def test_what_spss_declares_missing_is_missing_and_said(tmp_path: Path) -> None:
    data, found = read(write(tmp_path / "survey.sav"))
    assert found["age"] == [None if value in (999, -2) else value for value in AGES]
    assert {issue.where: issue.cause for issue in data.issues}["column 'age'"] == (
        "declared missing (-9 to -1, 999): read as missing"
    )


def test_the_types_of_stata_come_back(tmp_path: Path) -> None:
    data, found = read(write(tmp_path / "survey.dta"))
    DTA.put(str(tmp_path / "back.dta"), found, data.columns or [])
    again, about = pyreadstat.read_dta(tmp_path / "back.dta")
    first, before = pyreadstat.read_dta(tmp_path / "survey.dta")
    kept = [name for name in FRAME.columns if name != "age"]
    assert {k: about.readstat_variable_types[k] for k in kept} == {k: before.readstat_variable_types[k] for k in kept}
    assert again[kept].equals(first[kept])


@pytest.mark.parametrize("ending", [".dta", ".sav"])
def test_labels_titles_and_formats_go_back(ending: str, tmp_path: Path) -> None:
    data, found = read(write(tmp_path / f"survey{ending}"))
    writer, reader = (DTA, pyreadstat.read_dta) if ending == ".dta" else (SAV, pyreadstat.read_sav)
    writer.put(str(tmp_path / f"back{ending}"), found, data.columns or [])
    about = reader(tmp_path / f"back{ending}")[1]
    assert about.variable_value_labels["often"] == LABELS
    assert about.variable_value_labels["scale"] == ENDS
    assert about.column_names_to_labels["age"] == "Age in years"
    assert about.original_variable_types["born"] == reader(tmp_path / f"survey{ending}")[1].original_variable_types["born"]
    assert read(tmp_path / f"back{ending}")[1] == found


def test_the_order_of_labels_is_that_of_the_file(tmp_path: Path) -> None:
    data, _ = read(write(tmp_path / "survey.sav"))
    assert column(data, "often")["stored"]["categories"] == ["never", "always", "sometimes"]


def test_two_numbers_of_one_label_stay_apart(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"why": [[1, 8, 9][i % 3] for i in range(N)], "x": R.normal(size=N)})
    pyreadstat.write_sav(frame, str(tmp_path / "t.sav"), variable_value_labels={"why": {1: "work", 8: "other", 9: "other"}})
    _, found = read(tmp_path / "t.sav")
    assert found["why"] == [["work", "other (8)", "other (9)"][i % 3] for i in range(N)]


def test_the_transport_file_of_sas_is_read(tmp_path: Path) -> None:
    frame = FRAME[["income", "town"]]
    pyreadstat.write_xport(frame, str(tmp_path / "t.xpt"), file_format_version=5)
    _, found = read(tmp_path / "t.xpt")
    assert np.allclose(found["income"], frame["income"], rtol=1e-7, atol=0)
    assert found["town"] == [value or None for value in frame["town"]]


@pytest.mark.parametrize("ending", [".dta", ".sav", ".sas7bdat"])
@pytest.mark.parametrize("content", ["empty", "cut", "other"])
def test_a_broken_file_is_named_with_its_cause(ending: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{ending}"
    whole = b"" if ending == ".sas7bdat" else write(tmp_path / f"whole{ending}").read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "other": b"a,b\n1,2\n" * 40}[content])
    with pytest.raises(
        ScorefieldError, match=rf"^got 't{ending}', which cannot be read \(.+\), expected a whole {ending} file"
    ):
        open_source(str(path), CONFIG)


def test_a_file_that_declares_too_many_rows_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.dta")
    monkeypatch.setattr(labelled, "MOST_BYTES", 8 * 8 * 39)
    with pytest.raises(ScorefieldError, match="which declares 40 rows of 8 columns"):
        open_source(str(path), CONFIG)


def test_a_sample_of_a_survey_is_a_survey_and_a_name_that_stata_has_not_is_refused(tmp_path: Path) -> None:
    few = ("network.width=8", "training.pictures=0", "training.batch=8")
    app.train(write(tmp_path / "survey.dta"), out=tmp_path / "run", steps=2, settings=few)
    app.sample(tmp_path / "run", n=9, out=tmp_path / "drawn.dta", steps=3)
    drawn, about = pyreadstat.read_dta(tmp_path / "drawn.dta")
    assert len(drawn) == 9 and set(drawn["often"].dropna()) <= {1, 2, 3}
    assert about.variable_value_labels["often"] == LABELS
    (tmp_path / "t.csv").write_text("my height,x\n" + "".join(f"{a},{b}\n" for a, b in R.normal(size=(N, 2))))
    app.train(tmp_path / "t.csv", out=tmp_path / "other", steps=2, settings=few)
    with pytest.raises(ScorefieldError, match=r"got a column 'my height' for .*, expected a name of letters, digits and _"):
        app.sample(tmp_path / "other", n=9, out=tmp_path / "drawn.sav")


@pytest.mark.parametrize("ending", [".dta", ".sav"])
def test_a_mark_of_no_data_is_written_back_as_a_number(ending: str, tmp_path: Path) -> None:
    frame = pandas.DataFrame({"depth": [-9999.0 if i % 7 == 0 else i / 8 for i in range(N)], "x": R.normal(size=N)})
    getattr(pyreadstat, f"write_{ending[1:]}")(frame, str(tmp_path / f"t{ending}"))
    data, found = read(tmp_path / f"t{ending}")
    assert found["depth"] == [None if i % 7 == 0 else i / 8 for i in range(N)]
    (DTA if ending == ".dta" else SAV).put(str(tmp_path / f"back{ending}"), found, data.columns or [])
    again = getattr(pyreadstat, f"read_{ending[1:]}")(tmp_path / f"back{ending}")[0]
    assert again["depth"].tolist() == frame["depth"].tolist()


def test_every_type_and_format_of_stata_goes_back_with_gaps_and_labels(tmp_path: Path) -> None:
    gaps = np.arange(N) % 6 == 0
    frame = pandas.DataFrame(
        {
            "b": pandas.array(np.where(gaps, None, R.integers(0, 90, N)), dtype="Int8"),
            "i": R.integers(-9000, 9000, N).astype("i2"),
            "l": pandas.array(np.where(gaps, None, R.integers(0, 10**6, N)), dtype="Int32"),
            "f": np.where(gaps, np.nan, R.normal(size=N)).astype("f4"),
            "d": R.normal(size=N),
            "answer": pandas.array([None if i == 3 else i % 2 for i in range(N)], dtype="Int8"),
            "born": pandas.to_datetime(DAYS),
            "seen": pandas.to_datetime(MOMENTS),
            "town": ["Ulm", "", "Bönn", "x" * 3000] * (N // 4),
        }
    )
    said = {"variable_labels": {"b": "A title"}, "value_labels": {"answer": {0: "no", 1: "yes"}}}
    frame.to_stata(
        tmp_path / "t.dta", write_index=False, version=118, convert_strl=["town"], convert_dates={"born": "td"}, **said
    )
    data, found = read(tmp_path / "t.dta")
    columns = [
        {**one, "stored": {**one["stored"], "format": "%9.3f"}} if one["name"] == "d" else one for one in data.columns or []
    ]
    DTA.put(str(tmp_path / "back.dta"), found, columns)
    first, before = pyreadstat.read_dta(tmp_path / "t.dta")
    again, about = pyreadstat.read_dta(tmp_path / "back.dta")
    types = {"b": "int8", "i": "int16", "l": "int32", "f": "float", "d": "double", "answer": "int8"}
    assert {name: about.readstat_variable_types[name] for name in types} == types
    assert about.original_variable_types == {**before.original_variable_types, "d": "%9.3f"}
    assert about.variable_value_labels == {"answer": {0: "no", 1: "yes"}} and about.column_names_to_labels["b"] == "A title"
    assert again.equals(first)
    assert read(tmp_path / "back.dta")[1] == found
