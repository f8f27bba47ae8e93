"""Impute: observed cells stay byte for byte, what is filled in is legal, and Python and the command give the same bytes."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents

from scorefield import ScorefieldError, app
from scorefield.data.table.partial import partial_of

COLORS = ("red, dark", "blue", 'the "odd"')


def table(n: int, seed: int = 0) -> dict[str, list[Any]]:
    """Rows whose columns depend on each other: a number, a whole number, texts, days, booleans, and amounts with many zeros."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    size = (10 * kind + rng.normal(size=n)).round(2)
    return {
        "size": size.tolist(),
        "count": (5 * kind + rng.poisson(2.0, size=n)).tolist(),
        "sort": [COLORS[k] for k in kind],
        "day": [f"{1 + d:02d}.{1 + m:02d}.2023" for d, m in zip(rng.integers(28, size=n), 4 * kind + 1, strict=True)],
        "on": ["True" if k > 1 else "False" for k in kind],
        "rain": np.where(rng.random(n) < 0.4, 0.0, rng.gamma(2.0, 3.0, size=n).round(3) + kind).tolist(),
        "unit": ["cm"] * n,
    }


GOOD = table(4)


def text_of(rows: dict[str, list[Any]], delimiter: str = ",", newline: str = "\n") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=newline)
    writer.writerow(rows)
    writer.writerows(zip(*rows.values(), strict=True))
    return stream.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("impute")
    (folder / "train.csv").write_text(text_of(table(120)), encoding="utf-8")
    app.train(str(folder / "train.csv"), out=folder / "run", steps=150, settings=("network.width=64", "training.pictures=0"))
    return folder / "run"


def with_holes(n: int, seed: int = 1) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """A table, and the same with a quarter of its cells empty."""
    whole, rng = table(n, seed), np.random.default_rng(seed)
    return whole, {name: ["" if rng.random() < 0.25 else value for value in values] for name, values in whole.items()}


def read(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def in_python(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same with days and booleans as Python has them, and None in the holes."""
    of = {"day": lambda text: datetime.strptime(text, "%d.%m.%Y").date(), "on": lambda text: text == "True"}
    return {
        name: [None if value == "" else of[name](value) if name in of else value for value in values]
        for name, values in rows.items()
    }


# --- what is filled in --------------------------------------------------------------------------------------------------


def test_observed_cells_stay_byte_for_byte_and_every_hole_gets_a_legal_value(run: Path, tmp_path: Path) -> None:
    _, holes = with_holes(30)
    source = text_of(holes, newline="\r\n")
    (tmp_path / "holes.csv").write_bytes(source.encode())
    report = app.impute(run, tmp_path / "holes.csv", draws=1)
    filled = report.written[0].read_bytes().decode()
    assert report.written[0].name == "holes-filled.csv"
    outside_quotes = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
    for old, new in zip(source.split("\r\n"), filled.split("\r\n"), strict=True):
        cells = list(zip(outside_quotes.split(old), outside_quotes.split(new), strict=True))
        assert all(b == a if a else b or not old for a, b in cells), (old, new)
    rows, before = read(report.written[0]), read(tmp_path / "holes.csv")
    train = table(120)
    for row, old in zip(rows, before, strict=True):
        assert all(row[name] == old[name] for name in row if old[name])
        assert re.fullmatch(r"-?\d+\.\d{1,2}", row["size"])
        assert min(train["size"]) <= float(row["size"]) <= max(train["size"]) or old["size"]
        assert re.fullmatch(r"\d+", row["count"])
        assert row["sort"] in COLORS
        assert re.fullmatch(r"\d\d\.\d\d\.2023", row["day"])
        assert row["on"] in ("True", "False")
        assert float(row["rain"]) >= 0
        assert row["unit"] == "cm"


def test_draws_go_below_each_other_with_their_number_and_differ_in_the_holes_alone(run: Path, tmp_path: Path) -> None:
    _, holes = with_holes(12)
    (tmp_path / "holes.csv").write_text(text_of(holes))
    rows = read(app.impute(run, tmp_path / "holes.csv", draws=3, out=tmp_path / "long.csv").written[0])
    before = read(tmp_path / "holes.csv")
    assert [row.pop("draw") for row in rows] == [str(draw) for draw in (1, 2, 3) for _ in range(12)]
    differ = 0
    for place, row in enumerate(rows):
        old = before[place % 12]
        assert list(row) == list(old)
        assert all(row[name] == old[name] for name in row if old[name])
        assert all(row.values())
        differ += row != rows[place % 12]
    assert differ > 12


def test_what_the_draws_say_is_near_the_truth_where_the_rest_of_the_row_tells_it(run: Path) -> None:
    whole = table(40, seed=5)
    holes = in_python({**whole, "sort": [""] * 40, "on": [""] * 40})
    found = app.impute(run, holes, draws=1).table()
    right = sum(a == b for a, b in zip(found["sort"], whole["sort"], strict=True))
    assert right > 30  # by guessing 13: the size alone tells the sort


def test_the_report_holds_the_rows_with_holes_alone_and_its_intervals_hold_their_values(run: Path, tmp_path: Path) -> None:
    _, holes = with_holes(20)
    (tmp_path / "holes.csv").write_text(text_of(holes))
    report = app.impute(run, tmp_path / "holes.csv", draws=5)
    values = json.loads(json.dumps(report.to_dict()))
    expected = {i: {name for name in holes if holes[name][i] == ""} for i in range(20)}
    assert {row["row"]: set(row["cells"]) for row in values["rows"]} == {i: names for i, names in expected.items() if names}
    assert all(row["line"] == row["row"] + 2 for row in values["rows"])
    for row in values["rows"]:
        for name, cell in row["cells"].items():
            if name in ("size", "count", "rain"):
                assert cell["low"] <= cell["value"] <= cell["high"]
            elif name == "day":
                assert re.fullmatch(r"\d\d\.\d\d\.2023", cell["low"])
            else:
                assert cell["low"] is None
                assert 0 < cell["share"] <= 1
    lines = read(report.written[1])
    assert [(int(line["row"]), line["column"]) for line in lines] == [
        (row["row"], name) for row in values["rows"] for name in row["cells"]
    ]
    assert values["calibration"]["cells"] > 20


def test_a_row_has_the_same_draws_whatever_the_other_rows_are(run: Path) -> None:
    _, holes = with_holes(6)
    first = {name: values[:1] for name, values in holes.items()}
    first["size"], holes["size"][0] = [""], ""
    one, all_ = (app.impute(run, in_python(rows)) for rows in (first, holes))
    assert one.table(0)["size"][0] == pytest.approx(
        all_.table(0)["size"][0], abs=0.011
    )  # a float32 rounds otherwise in a batch


def test_an_empty_row_is_a_new_one_and_an_empty_column_is_filled_from_the_others_which_is_said(run: Path) -> None:
    holes: dict[str, list[Any]] = {name: ["", values[1]] for name, values in table(2).items()} | {"count": ["", ""]}
    report = app.impute(run, in_python(holes))
    assert any("row 0: nothing is known there" in note for note in report.notes)
    assert any("'count' is empty" in note for note in report.notes)
    assert all(None not in values for values in report.table().values())


def test_a_line_of_delimiters_alone_is_a_row_to_fill_between_others_and_nothing_at_the_end(run: Path, tmp_path: Path) -> None:
    lines = text_of(table(3)).splitlines()
    empty = "," * (len(GOOD) - 1)
    (tmp_path / "t.csv").write_text("\n".join([lines[0], lines[1], empty, "", lines[2], lines[3], empty, ""]))
    report = app.impute(run, tmp_path / "t.csv", draws=1)
    assert [(row["row"], row["line"], len(row["cells"])) for row in report.to_dict()["rows"]] == [(1, 3, len(GOOD))]
    filled = report.written[0].read_text().split("\n")
    assert [i for i, (a, b) in enumerate(zip(filled, (tmp_path / "t.csv").read_text().split("\n"), strict=True)) if a != b] == [
        2
    ]
    assert any("row 1: nothing is known there" in note for note in report.notes)


def test_a_table_without_holes_comes_back_as_it_is(run: Path, tmp_path: Path) -> None:
    (tmp_path / "whole.csv").write_text(text_of(table(9)))
    report = app.impute(run, tmp_path / "whole.csv", draws=1)
    assert report.written[0].read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert any("no holes" in note for note in report.notes)


def test_a_column_that_had_holes_in_training_is_never_filled_with_one(tmp_path: Path) -> None:
    _, holes = with_holes(100)
    (tmp_path / "train.csv").write_text(text_of({**holes, "unit": ["cm"] * 100}))
    app.train(str(tmp_path / "train.csv"), out=tmp_path / "run", steps=20, settings=("network.width=32", "training.pictures=0"))
    rows = read(app.impute(tmp_path / "run", tmp_path / "train.csv", out=tmp_path / "filled.csv", draws=2).written[0])
    assert len(rows) == 200
    assert all(all(row.values()) for row in rows)


# --- the style of the file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('a;b\n1,5;x\n;"y"\n', 'a;b\n1,5;x\n#;"y"\n'),
        ("a,b\r\n1.5, x\r\nNA , y\r\n", "a,b\r\n1.5, x\r\n# , y\r\n"),
        ("# from me\n# a b\n1.5 x\nnan y\n", "# from me\n# a b\n1.5 x\n# y\n"),
        ('"a","b"\n"1.5","x"\n"","y\n z"\n', '"a","b"\n"1.5","x"\n#,"y\n z"\n'),
        ("sep=;\na;b\n1,5;x\n;y\n\n", "sep=;\na;b\n1,5;x\n#;y\n\n"),
        ("a\tb\t\n1.5\tx\t\n\ty\t\n", "a\tb\t\n1.5\tx\t\n#\ty\t\n"),
        ("\ufeffa,b\n1.5,ä\n?,y", "\ufeffa,b\n1.5,ä\n#,y"),
    ],
)
def test_only_the_bytes_of_a_hole_change_whatever_the_style_of_the_file(old: str, new: str, tmp_path: Path) -> None:
    columns: list[dict[str, Any]] = [
        {"name": "a", "type": "number", "missing": False, "low": 0.0, "high": 9.0, "fill": 1.0, "digits": 1},
        {"name": "b", "type": "category", "missing": False, "values": ["x", "y", "ä", "y\n z"]},
    ]
    path = tmp_path / ("t.dat" if "#" in old else "t.csv")
    path.write_bytes(old.encode())
    partial = partial_of(path, columns)
    assert partial.file is not None
    assert partial.holes["a"].tolist() == [False, True]
    assert torch.equal(partial.rows[:, 0].isnan(), torch.tensor([False, True]))
    assert partial.file.filled({(1, "a"): "#"}).decode() == new
    written = partial.written({(1, "a"): 2.5})[1, "a"]
    assert written.strip('"') == ("2,5" if ";" in old else "2.5")


def test_a_long_file_keeps_what_is_above_the_rows_once(tmp_path: Path) -> None:
    number = {"type": "number", "missing": False, "low": 0.0, "high": 9.0, "fill": 1.0, "digits": 1}
    columns: list[dict[str, Any]] = [{"name": name, **number} for name in ("draw", "b")]
    (tmp_path / "t.csv").write_text("# from me\ndraw,b\nm,hPa\n1.5,2\n\n,3")
    file = partial_of(tmp_path / "t.csv", columns).file
    assert file is not None
    assert file.long([{(1, "draw"): "7"}, {(1, "draw"): "8"}]).decode() == (
        "# from me\ndraw (2),draw,b\n,m,hPa\n1,1.5,2\n1,7,3\n2,1.5,2\n2,8,3\n"
    )


# --- faces ----------------------------------------------------------------------------------------------------------------


def test_python_and_the_command_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    _, holes = with_holes(10)
    (tmp_path / "holes.csv").write_text(text_of(holes))
    python = app.impute(run, tmp_path / "holes.csv", out=tmp_path / "a.csv", draws=2, seed=3)
    words = ("impute", run, tmp_path / "holes.csv", "--out", tmp_path / "b.csv", "--draws", 2, "--seed", 3)
    assert command(*words, "--json", tmp_path / "b.json") == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a-intervals.csv").read_bytes() == (tmp_path / "b-intervals.csv").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads(json.dumps(python.to_dict()))
    other = app.impute(run, tmp_path / "holes.csv", out=tmp_path / "c.csv", draws=2, seed=4).written[0].read_bytes()
    assert other != (tmp_path / "a.csv").read_bytes()


# --- bad input --------------------------------------------------------------------------------------------------------------


def cut(rows: dict[str, list[Any]], **changes: Any) -> str:
    return text_of({name: changes.get(name, values) for name, values in rows.items() if changes.get(name, values) is not None})


WRONG = [
    (text_of({**GOOD, "szie": [1, 2, 3, 4]}), "unknown column of 't.csv' 'szie': did you mean 'size'"),
    (cut(GOOD, rain=None), "without the column 'rain'"),
    (cut(GOOD, size=[1.5, "tall", "", 2.5]), "got 'tall' in column 'size' of 't.csv', line 3, expected number"),
    (cut(GOOD, size=[1.5, "inf", "", 2.5]), "got 'inf' in column 'size', line 3"),
    (cut(GOOD, sort=["blue", "green", "", "blue"]), "got 'green' in column 'sort'"),
    (cut(GOOD, day=["31.04.2023x", "", "", ""]), "'day'"),
    (text_of({name: [] for name in GOOD}), "t.csv"),
    (text_of(GOOD) + "1,2\n", "line 6 of 't.csv' with 2 cells, expected 7"),
    ("", "t.csv"),
]


@pytest.mark.parametrize(("content", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_wrong_table_gets_one_sentence_exit_code_2_and_nothing_written(
    content: str, says: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(content)
    before = contents(tmp_path)
    assert command("impute", run, tmp_path / "t.csv") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]
    assert contents(tmp_path) == before


def test_one_mistake_among_many_numbers_is_refused_with_its_line_and_not_overwritten(run: Path, tmp_path: Path) -> None:
    whole = table(40)
    whole["size"][7] = "1.2.3"
    (tmp_path / "t.csv").write_text(text_of(whole))
    with pytest.raises(ScorefieldError, match=r"got '1\.2\.3' in column 'size' of 't\.csv', line 9, expected number"):
        app.impute(run, tmp_path / "t.csv")


def test_places_and_numbers_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text_of(GOOD))
    for options, says in (
        ({"draws": 0}, "--draws 0"),
        ({"out": tmp_path / "t.csv", "force": True}, "the table itself"),
        ({"out": tmp_path / "x.png"}, "expected a name ending in .csv"),
        ({"out": tmp_path / "none" / "x.csv"}, "make it first"),
        ({"out": tmp_path / "run.csv"}, "where there is a file already"),
    ):
        (tmp_path / "run-intervals.csv").write_text("mine")
        with pytest.raises(ScorefieldError, match=says):
            app.impute(run, tmp_path / "t.csv", **options)
    with pytest.raises(ScorefieldError, match="no file"):
        app.impute(run, tmp_path / "none.csv")


def test_a_run_of_something_else_is_refused(tmp_path: Path) -> None:
    app.train("two-moons", out=tmp_path / "moons", steps=2, settings=("data.examples=100", "training.pictures=0"))
    with pytest.raises(ScorefieldError, match="a run of vectors, expected one that learned from a table"):
        app.impute(tmp_path / "moons", {"a": [1.0]})
