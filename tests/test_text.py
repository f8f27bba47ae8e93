"""Delimited text: what scientists' files hold means what they meant, and comes back in the file's own style, byte by byte."""

from __future__ import annotations

import datetime
import gzip
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case

from scorefield import ScorefieldError, app
from scorefield.data import DataConfig, Dataset, open_source
from scorefield.data.base import split
from scorefield.data.table.coordinates import decode
from scorefield.data.text.delimited import read_text
from scorefield.data.text.header import names_of
from scorefield.data.text.written import text_of

CONFIG = DataConfig()
R = np.random.default_rng(0)
N = 40
X = [round(float(v), 3) for v in R.normal(size=N)]  # three decimals, some of which end in 0: written without it
SHORT = ("network.width=8", "training.batch=16", "training.pictures=0", "levels=3")
DAYS = [datetime.date(2023, 1, 1) + datetime.timedelta(int(v)) for v in R.integers(0, 365, N)]
PLAIN = [f"{v:.2f}" for v in R.normal(size=N)]
COMMAS = [text.replace(".", ",") for text in PLAIN]


def write(path: Path, content: str | bytes, name: str = "t.csv") -> str:
    (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path / name)


def read(path: Path, content: str | bytes, name: str = "t.csv") -> Dataset:
    return open_source(write(path, content, name), CONFIG)


def lines(*columns: Any, head: str = "", delimiter: str = ",", newline: str = "\n") -> str:
    rows = [delimiter.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "".join(f"{line}{newline}" for line in ([head] if head else []) + rows)


def back(data: Dataset) -> dict[str, list[Any]]:
    """The columns of all rows, in the order of the file."""
    train, held = split(len(data.train) + len(data.held_out), 0.1, None)
    order = torch.cat([train, held]).argsort()
    assert data.columns is not None
    return decode(torch.cat([data.train[:], data.held_out[:]])[order], data.columns, exact=True)


def written(data: Dataset, ending: str = ".csv") -> str:
    """All rows as a file of text, in the style of the one that they came from."""
    assert data.columns is not None
    head, rows = text_of(data.columns, data.style, ending)
    return (head + rows(back(data))).decode()


def causes(data: Dataset) -> dict[str, str]:
    return {issue.where: issue.cause for issue in data.issues}


def column_of(data: Dataset, name: str) -> dict[str, Any]:
    return next(column for column in data.columns or [] if column["name"] == name)


def types(data: Dataset) -> list[str]:
    return [column["type"] for column in data.columns or []]


# --- what a file holds comes back byte by byte --------------------------------------------------------------------------

FILES = {
    "plain": ("t.csv", lines(X, DAYS, head="x,day")),
    "fixed decimals": ("t.csv", lines(PLAIN, X, head="x,y")),
    "semicolons and decimal commas": ("t.csv", lines(COMMAS, X, head="x;y", delimiter=";")),
    "tabs": ("t.tsv", lines(X, DAYS, head="x\tday", delimiter="\t")),
    "bars": ("t.csv", lines(X, DAYS, head="x|day", delimiter="|")),
    "a comma and a blank": ("t.csv", lines(X, PLAIN, head="x, y", delimiter=", ")),
    "no header": ("t.csv", lines(X, PLAIN)),
    "line ends of Windows": ("t.csv", lines(X, DAYS, head="x,day", newline="\r\n")),
    "a mark of UTF-8": ("t.csv", "\ufeff" + lines(X, head="größe")),
    "quotes around all": ("t.csv", lines(*([f'"{v}"' for v in c] for c in (X, PLAIN)), head='"x","y"')),
    "quotes around texts": ("t.csv", lines(X, ['"a"', '"b"'] * (N // 2), head='"x","t"')),
    "quotes where they must be": ("t.csv", lines(X, ["a", '"b, c"', '"d ""e"""', "f"] * (N // 4), head='x,"t, u"')),
    "blanks": ("t.txt", lines(X, PLAIN, head="x y", delimiter=" ")),
    "thousands": ("t.csv", lines([f'"{52000.12 + 317.77 * i:,.2f}"' for i in range(N)], PLAIN, head="x,y")),
    "thousands by points": (
        "t.csv",
        lines([f"{i * 31717:,}".replace(",", ".") for i in range(N)], COMMAS, head="x;y", delimiter=";"),
    ),
    "percents": ("t.csv", lines([f"{i * i % 101}%" for i in range(N)], PLAIN, head="x,y")),
    "money": ("t.csv", lines([f"${v:.2f}" if v >= 0 else f"-${-v:.2f}" for v in X], PLAIN, head="x,y")),
    "powers of ten": ("t.csv", lines([f"{v:.3e}" for v in X], PLAIN, head="x,y")),
    "days before months": ("t.csv", lines([f"{d:%d.%m.%Y}" for d in DAYS], PLAIN, head="day,y")),
    "days with slashes": ("t.csv", lines([f"{d:%d/%m/%Y}" for d in DAYS], PLAIN, head="day,y")),
    "months before days": ("t.csv", lines([f"{d:%m/%d/%Y}" for d in DAYS], PLAIN, head="day,y")),
    "years first": ("t.csv", lines([f"{d:%Y/%m/%d}" for d in DAYS], PLAIN, head="day,y")),
    "days without zeros": ("t.csv", lines([f"{d.day}/{d.month}/{d.year}" for d in DAYS], PLAIN, head="day,y")),
    "eight digits": ("t.csv", lines([f"{d:%Y%m%d}" for d in DAYS], PLAIN, head="day,y")),
    "months": ("t.csv", lines([f"{d:%Y-%m}" for d in DAYS], PLAIN, head="month,y")),
    "moments": ("t.csv", lines([f"{d:%d.%m.%Y} {i % 24:02}:30" for i, d in enumerate(DAYS)], PLAIN, head="at,y")),
    "universal time": ("t.csv", lines([f"{d}T{i % 24:02}:30:05Z" for i, d in enumerate(DAYS)], PLAIN, head="at,y")),
    "a time zone": ("t.csv", lines([f"{d} {i % 24:02}:30:05.25+02:00" for i, d in enumerate(DAYS)], PLAIN, head="at,y")),
    "times": ("t.csv", lines([f"{i % 24:02}:{i:02}:05" for i in range(N)], PLAIN, head="time,y")),
    "hours and minutes": ("t.csv", lines([f"{i % 24}:{i:02}" for i in range(N)], PLAIN, head="time,y")),
    "true and false": ("t.csv", lines(["TRUE", "FALSE"] * (N // 2), ["true", "false"] * (N // 2), PLAIN, head="a,b,c")),
    "yes and no": ("t.csv", lines(["yes", "no"] * (N // 2), ["T", "F"] * (N // 2), ["0", "1"] * (N // 2), head="a,b,c")),
    "marks of nothing": (
        "t.csv",
        lines(["NA", *PLAIN[1:]], ["a", "-", "n/a", "b"] * (N // 4), ["", *X[1:]], head="x,t,y"),
    ),
    "codes": (
        "t.csv",
        lines(["1E05", "1A07", "2B11", "1E07"] * (N // 4), [f"00{i % 7}" for i in range(N)], PLAIN, head="code,zip,y"),
    ),
    "units": ("t.csv", "p,T,t\nhPa,°C,\n" + lines(PLAIN, X, ["a", "b"] * (N // 2))),
    "years over numbers": ("t.csv", lines(X, PLAIN, X[::-1], head="2019,2020,2021")),
    "units beside the numbers": ("t.csv", lines([f"{x} kg" for x in X], [f"{p}mm" for p in PLAIN], head="mass,length")),
    "signs": ("t.csv", lines([f"{x:+.3f}" for x in X], PLAIN, head="x,y")),
    "a word for spreadsheets": ("t.csv", "sep=;\n" + lines(X, PLAIN, head="x;y", delimiter=";")),
    "a delimiter at the end": ("t.csv", "x;y;\n" + "".join(f"{x};{p};\n" for x, p in zip(X, PLAIN, strict=True))),
    "another mark of nothing": ("t.csv", lines(["-", *X[1:20], "-", *X[21:]], PLAIN, head="x,y")),
    "a number for nothing": ("t.csv", lines(["-9999.00", *PLAIN[1:20], "-9999.00", *PLAIN[21:]], X, head="x,y")),
    "numpy.savetxt": ("t.txt", "# x y\n" + lines([f"{v:.18e}" for v in X], X, delimiter=" ")),
}  # fmt: skip


@each_case(kind=list(FILES))
def test_what_was_read_is_written_as_it_was_byte_by_byte(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    assert written(read(tmp_path, content, name), Path(name).suffix) == content


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_is_written_in_its_own_encoding(tmp_path: Path, encoding: str) -> None:
    content = lines(X, ["süß", "ölig"] * (N // 2), head="größe,été").encode(encoding)
    data = read(tmp_path, content)
    assert data.columns is not None
    head, rows = text_of(data.columns, data.style)
    assert head + rows(back(data)) == content


@pytest.mark.parametrize("kind", ["semicolons and decimal commas", "units", "months before days", "numpy.savetxt"])
def test_samples_are_written_in_the_style_of_the_file_by_every_command(tmp_path: Path, kind: str) -> None:
    """A few steps of training: the samples may be anything, but read back they are columns of the same types and style."""
    name, content = FILES[kind]
    source = write(tmp_path, content, name)
    app.train(source, out=tmp_path / "run", steps=2, settings=SHORT)
    app.sample(tmp_path / "run", n=N, steps=3, out=tmp_path / f"more-{name}")
    text = (tmp_path / f"more-{name}").read_bytes().decode()
    rows = 2 if kind == "units" else 1
    assert text.splitlines()[:rows] == content.splitlines()[:rows]
    ours, theirs = read_text(str(tmp_path / f"more-{name}"), name), read_text(source, name)
    assert ours.style == theirs.style
    assert [one.type for one in ours.columns] == [one.type for one in theirs.columns]


def test_samples_are_packed_if_their_name_says_so_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = write(tmp_path, gzip.compress(lines(X, PLAIN, head="x,y").encode()), "t.csv.gz")
    app.train(source, out=tmp_path / "run", steps=2, settings=SHORT)
    for name in ("a.csv.gz", "b.csv.gz", "c.csv"):
        app.sample(tmp_path / "run", n=9, steps=3, out=tmp_path / name)
    one, two, plain = ((tmp_path / name).read_bytes() for name in ("a.csv.gz", "b.csv.gz", "c.csv"))
    assert one == two
    assert gzip.decompress(one) == plain
    assert plain.startswith(b"x,y\n") and plain.count(b"\n") == 10


def test_a_file_of_another_ending_gets_the_delimiter_that_is_usual_there(tmp_path: Path) -> None:
    data = read(tmp_path, FILES["semicolons and decimal commas"][1])
    first = PLAIN[0].replace(".", ",")
    assert written(data, ".tsv").splitlines()[:2] == ["x\ty", f"{first}\t{X[0]}"]
    assert written(data, ".txt").splitlines()[:2] == ["x y", f"{first} {X[0]}"]
    tabs = read(tmp_path, lines(X, PLAIN, head="x\ty", delimiter="\t"), "t.tsv")
    assert written(tabs, ".csv").splitlines()[:2] == ["x,y", f"{X[0]},{PLAIN[0]}"]


# --- headers of numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("2019,2020,2021", ([i % 7 for i in range(N)], [i % 5 for i in range(N)], [i * i % 6 for i in range(N)])),
        ("2019,2020", (PLAIN, X)),
        ("0,1,2,3", (X, PLAIN, X[::-1], PLAIN[::-1])),
        ("station,2019,2020,2021", (["a", "b"] * (N // 2), PLAIN, X, X[::-1])),
        ("station,2019", (["a", "b"] * (N // 2), [i % 5 for i in range(N)])),
        (",2019,2020,2021", (range(0, 3 * N, 3), PLAIN, X, X[::-1])),
        ("350.5,351.7,353.1,354.0,355.9,357.7", (X, PLAIN, X[::-1], PLAIN[::-1], X[5:] + X[:5], PLAIN[5:] + PLAIN[:5])),
        ("5,10,15", (PLAIN, X, X[::-1])),
    ],
)
def test_a_header_of_numbers_is_no_row(tmp_path: Path, head: str, columns: Any) -> None:
    data = read(tmp_path, lines(*columns, head=head))
    assert [c["name"] for c in data.columns or []] == [name or "column 1" for name in head.split(",")]
    assert len(data.train) + len(data.held_out) == N
    assert any("was read as names: its numbers are in line" in note for note in data.notes)


@pytest.mark.parametrize(
    "columns",
    [
        (PLAIN, X, X[::-1]),
        ([2019, *[2020 + i % 4 for i in range(N - 1)]], [i % 12 for i in range(N)]),  # a year and a month
        ([1, *[i % 9 for i in range(N - 1)]], [2, *[i % 7 for i in range(N - 1)]], [3, *[i % 5 for i in range(N - 1)]]),
        (list(range(N)), [i + 1 for i in range(N)], [i + 2 for i in range(N)], [i + 3 for i in range(N)]),  # all in line
        ([7.25, *PLAIN[1:]], [9.5, *X[1:]]),  # an outlier
        (range(N, 2 * N), X),
    ],
)
def test_a_file_of_numbers_without_a_header_keeps_its_first_row(tmp_path: Path, columns: Any) -> None:
    text = read_text(write(tmp_path, lines(*columns)), "t.csv")
    assert [len(one.values) for one in text.columns] == [N] * len(columns)
    assert [one.values[0] for one in text.columns] == [float(column[0]) for column in columns]
    assert text.style["header"] is False


def test_rows_of_random_numbers_are_no_header() -> None:
    """Of 200 tables of each law none loses its first row: each has many rows that are as good names."""
    rng = np.random.default_rng(5)
    laws = {
        "digits": lambda: rng.integers(0, 10, (30, 3)),
        "floats": lambda: rng.normal(size=(30, 3)).round(3),
        "a year and a month": lambda: np.column_stack([rng.integers(1990, 2024, 30), rng.integers(1, 13, 30)]),
        "sums": lambda: np.cumsum(rng.integers(0, 5, (30, 3)), axis=0),
        "sorted": lambda: np.sort(rng.random((30, 6)).round(3), axis=1),
        "heavy tails": lambda: np.abs(100 * rng.standard_cauchy((12, 3))).astype(int),
    }
    for law, table in laws.items():
        found = [names_of([list(map(str, row)) for row in table().tolist()], [])[1] for _ in range(200)]
        assert not any(found), law


def test_a_first_row_that_may_be_a_header_is_said(tmp_path: Path) -> None:
    data = read(tmp_path, lines(X, PLAIN, [abs(x) for x in X], head="17,101,23"))
    assert len(data.train) + len(data.held_out) == N + 1
    assert causes(data)["the first row"] == "may name the columns: read as data; write names over them if it does"


# --- what is above the table --------------------------------------------------------------------------------------------


def test_comments_above_the_header_are_left_out_and_said(tmp_path: Path) -> None:
    for mark in ("#", "%", "!", "//"):
        text = f"{mark} a station, on a hill\n{mark}\n{mark} made in 2023\n" + lines(X, PLAIN, head="x,y") + f"{mark} the end\n"
        data = read(tmp_path, text)
        assert back(data) == {"x": X, "y": list(map(float, PLAIN))}
        assert any(note.startswith(f"4 lines of comments, after {mark}, left out") for note in data.notes)
        assert not data.issues


def test_the_last_comment_is_the_header_of_what_numpy_writes(tmp_path: Path) -> None:
    values = R.normal(size=(N, 3))
    for name, delimiter in (("t.txt", " "), ("t.dat", "\t"), ("t.csv", ",")):
        stream = io.StringIO()
        np.savetxt(stream, values, header="of a run\n" + delimiter.join("abc"), delimiter=delimiter)
        data = read(tmp_path, stream.getvalue(), name)
        assert list(back(data)) == ["a", "b", "c"]
        assert np.array_equal(
            np.array(list(back(data).values())).T, np.loadtxt(io.StringIO(stream.getvalue()), delimiter=delimiter)
        )
        assert np.array_equal(np.loadtxt(io.StringIO(written(data, Path(name).suffix)), delimiter=delimiter), values)


def test_a_column_of_colours_is_no_comment(tmp_path: Path) -> None:
    colours = ["#ff0000", "#00ff00", "#0000ff", "#000000"] * (N // 4)
    data = read(tmp_path, lines(colours, X, head="colour,x"))
    assert back(data)["colour"] == colours
    mixed = ["#ff0000", "red"] * (N // 2)
    assert back(read(tmp_path, lines(mixed, X, head="colour,x")))["colour"] == mixed


@pytest.mark.parametrize("head", ["#,x", "%change,x", "!,x", "x,#"])
def test_a_mark_in_a_name_is_a_part_of_it(tmp_path: Path, head: str) -> None:
    data = read(tmp_path, lines(X, PLAIN, head=head))
    assert list(back(data)) == head.split(",")
    assert written(data) == lines(X, PLAIN, head=head)


def test_a_header_after_a_mark_in_a_csv_is_one(tmp_path: Path) -> None:
    text = lines(X, PLAIN, head="#x,y")
    data = read(tmp_path, text)
    assert list(back(data)) == ["x", "y"]
    assert written(data) == text


@pytest.mark.parametrize("title", ["Results of March", "Station;Hill\n\nHeight;120;m;over sea", "one\ntwo\nthree\nfour\nfive"])
def test_a_title_above_the_table_is_left_out_and_said(tmp_path: Path, title: str) -> None:
    data = read(tmp_path, f"{title}\n" + lines(X[:9], PLAIN[:9], head="x,y"))
    assert back(data) == {"x": X[:9], "y": list(map(float, PLAIN[:9]))}
    assert any("above the table, with other numbers of cells, left out" in note for note in data.notes)


def test_a_title_in_the_first_cell_of_a_spreadsheet_is_left_out(tmp_path: Path) -> None:
    data = read(tmp_path, "Table 1,,\n" + lines(X, PLAIN, X[::-1], head="x,y,z"))
    assert list(back(data)) == ["x", "y", "z"]


# --- units --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["hPa,°C,m/s", "[m],[s],[-]", "(mm),(mm),(mm)", "hPa,-,", "W/m2,ratio,count"])
def test_a_row_of_units_is_no_row_of_data_and_numbers_stay_numbers(tmp_path: Path, row: str) -> None:
    text = f"p,T,v\n{row}\n" + lines(X, PLAIN, PLAIN[::-1])
    data = read(tmp_path, text)
    assert types(data) == ["number"] * 3 and not data.issues
    assert back(data)["p"] == X
    assert any(note.startswith("A row of units under the header: p in ") for note in data.notes)
    assert written(data) == text


def test_the_rows_of_a_data_logger_are_read(tmp_path: Path) -> None:
    """TOA5, as Campbell's loggers write it: a line about the logger, names, units, and what was done."""
    head = (
        '"TOA5","hill","CR1000","1234","CR1000.Std.32","CPU:hill.CR1","5678","Table1"\n'
        '"TIMESTAMP","RECORD","AirTC_Avg","RH"\n"TS","RN","Deg C","%"\n"","","Avg","Smp"\n'
    )
    rows = "".join(
        f'"2023-07-01 {i // 4:02}:{i % 4 * 15:02}:00",{3 * i + i % 2},{PLAIN[i]},{"NAN" if i == 4 else 40 + i}\n'
        for i in range(N)
    )
    data = read(tmp_path, head + rows, "hill.dat")
    assert types(data) == ["datetime", "integer", "number", "integer"]
    assert back(data)["RH"] == [None if i == 4 else 40 + i for i in range(N)]
    assert written(data, ".dat") == head.partition("\n")[2] + rows


def test_one_wrong_cell_under_the_header_is_no_unit(tmp_path: Path) -> None:
    data = read(tmp_path, lines(["broken", *X[1:]], ["a", "b"] * (N // 2), head="x,t"))
    assert causes(data)["column 'x'"] == "1 values among numbers that are none (such as 'broken' in line 2): read as missing"
    unit = read(tmp_path, lines(["mm", *X[1:]], ["", *["a"] * 20, *["b"] * (N - 21)], head="x,t"))
    assert len(unit.train) + len(unit.held_out) == N - 1


# --- numbers ------------------------------------------------------------------------------------------------------------

THREE = [f"{1 + i % 9},{(37 * i) % 1000:03}" for i in range(N)]  # 1,000 to 9,999, or 1.000 to 9.999
QUOTED = [f'"{text}"' for text in THREE]
DECIMAL, THOUSANDS = ([float(text.replace(",", mark)) for text in THREE] for mark in (".", ""))


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        (lines(THREE, COMMAS, head="x;y", delimiter=";"), DECIMAL, "as the other columns have decimal commas"),
        (lines(["0,500", *THREE[1:]], X, head="x;y", delimiter=";"), [0.5, *DECIMAL[1:]], "decimal commas (such as 0,500)"),
        (lines(["0,500", *THREE[1:]], X, head="x\ty", delimiter="\t"), [0.5, *DECIMAL[1:]], "decimal commas (such as 0,500)"),
        (lines(THREE, range(0, 3 * N, 3), head="x;y", delimiter=";"), DECIMAL, "as semicolons stand between the cells"),
        (lines(["1234", *THREE[1:]], X, head="x\ty", delimiter="\t"), [1234, *DECIMAL[1:]], "as 1234 is written without one"),
        (lines(QUOTED, PLAIN, head="x,y"), THOUSANDS, "as the other columns have decimal points"),
        (lines(QUOTED, range(0, 3 * N, 3), head="x,y"), THOUSANDS, "as commas stand between the cells"),
        (lines(['"1,234,567"', *QUOTED[1:]], X, head="x\ty", delimiter="\t"), [1234567, *THOUSANDS[1:]], None),
        (lines(["0,500", *THREE[1:]], PLAIN, head="x\ty", delimiter="\t"), [0.5, *DECIMAL[1:]], "decimal commas"),
    ],
)  # fmt: skip
def test_a_comma_before_three_digits_is_decided_by_the_column_and_by_the_file(
    tmp_path: Path, text: str, values: list[float], says: str | None
) -> None:
    data = read(tmp_path, text)
    assert back(data)["x"] == values
    assert (says in causes(data)["column 'x'"]) if says else "column 'x'" not in causes(data)
    assert written(data) == text.replace('"x"', "x")


def test_a_comma_that_nothing_decides_is_text_and_the_way_out_is_said(tmp_path: Path) -> None:
    data = read(tmp_path, lines(THREE[:10] * 4, range(0, 3 * N, 3), head="x\ty", delimiter="\t"), "t.tsv")
    assert column_of(data, "x")["type"] == "category"
    assert causes(data)["column 'x'"] == (
        "commas that may stand for thousands or for decimals (such as 1,000): read as text; write 1234 for thousands, or 1.234 "
        "for decimals"
    )


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["52,000.12", "7.5", "999.99"], [52000.12, 7.5, 999.99]),
        (["1.234.567,8", "12,5", "0,25"], [1234567.8, 12.5, 0.25]),
        (["1 234,5", "12,5", "999 999,0"], [1234.5, 12.5, 999999.0]),
        (["1'234.5", "12.5", "999'999.0"], [1234.5, 12.5, 999999.0]),
        (["61%", "7%", "100%"], [61, 7, 100]),
        (["61,5 %", "7,0 %", "99,9 %"], [61.5, 7.0, 99.9]),
        (["\u22125.5", "3.25", "\u22120.75"], [-5.5, 3.25, -0.75]),
        (["$1,234.50", "-$3.25", "$0.75"], [1234.5, -3.25, 0.75]),
        (["21.5°C", "-3.25°C", "0.75°C"], [21.5, -3.25, 0.75]),
    ],
)
def test_numbers_are_read_in_the_style_in_which_they_are_written(tmp_path: Path, cells: list[str], values: list[float]) -> None:
    content = lines(
        [f'"{cell}"' for cell in itertools.islice(itertools.cycle(cells), N)],
        [f'"{i}"' for i in range(0, 2 * N, 2)],
        head='"x";"n"',
        delimiter=";",
    )
    data = read(tmp_path, content)
    assert back(data)["x"] == (values * N)[:N]
    assert written(data) == content


def test_decimal_points_in_groups_of_three_are_thousands_where_commas_are_decimals(tmp_path: Path) -> None:
    cells = [f"{1 + i % 9}.{(37 * i) % 1000:03}" for i in range(N)]
    data = read(tmp_path, lines(cells, COMMAS, head="x;y", delimiter=";"))
    assert back(data)["x"] == [int(cell.replace(".", "")) for cell in cells]
    assert (
        "points between thousands (such as 1.000): read as numbers, as the other columns have decimal commas"
        in causes(data)["column 'x'"]
    )
    alone = read(tmp_path, lines(cells, X, head="x;y", delimiter=";"))
    assert back(alone)["x"] == list(map(float, cells))


# --- dates and times ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("%d.%m.%Y", "dates (such as {}): read as DD.MM.YYYY, the day before the month, by days after the 12th"),
        ("%d/%m/%Y", "dates (such as {}): read as DD/MM/YYYY, the day before the month, by days after the 12th"),
        ("%m/%d/%Y", "dates (such as {}): read as MM/DD/YYYY, the month before the day, by days after the 12th"),
        ("%Y/%m/%d", "dates (such as {}): read as YYYY/MM/DD"),
        ("%Y%m%d", "dates (such as {}): read as YYYYMMDD"),
        ("%Y-%m-%d", None),
    ],
)
def test_dates_are_dates_in_every_form(tmp_path: Path, form: str, says: str | None) -> None:
    cells = [f"{day:{form}}" for day in DAYS]
    data = read(tmp_path, lines(cells, X, head="day,x"))
    assert back(data)["day"] == DAYS
    assert causes(data).get("column 'day'") == (says and says.format(cells[0]))


def test_dates_without_a_day_after_the_12th_are_decided_by_their_order_or_left_as_text(tmp_path: Path) -> None:
    days = [datetime.date(2023, 1 + i // 4, 1 + 3 * (i % 4)) for i in range(N)] if N <= 48 else []
    data = read(tmp_path, lines([f"{day:%d/%m/%Y}" for day in days], X, head="day,x"))
    assert back(data)["day"] == days
    assert "the day before the month, as the rows then are in the order of time" in causes(data)["column 'day'"]
    mixed = days[7:] + days[:7]
    data = read(tmp_path, lines([f"{day:%d/%m/%Y}" for day in mixed[:10] * 4], X, head="day,x"))
    assert column_of(data, "day")["type"] == "category"
    assert causes(data)["column 'day'"] == (
        f"dates (such as {mixed[0]:%d/%m/%Y}) that may have the day or the month first: read as text; write them as 2023-12-31"
    )
    data = read(tmp_path, lines([f"{day:%d.%m.%Y}" for day in mixed], X, head="day,x"))
    assert back(data)["day"] == mixed
    assert "the day before the month, as is usual with points" in causes(data)["column 'day'"]


def test_a_moment_keeps_its_time_zone_and_a_time_of_day_its_seconds(tmp_path: Path) -> None:
    cells = [f"2023-03-{1 + i % 28:02}T12:30:05+02:00" for i in range(N)]
    data = read(tmp_path, lines(cells, [f"12:30:{i * i % 59:02}" for i in range(N)], head="at,time"))
    assert back(data)["at"][0] == datetime.datetime(2023, 3, 1, 10, 30, 5, tzinfo=datetime.UTC)
    assert back(data)["time"] == [12 * 3600 + 30 * 60 + i * i % 59 for i in range(N)]
    assert causes(data)["column 'time'"] == "times (such as 12:30:00): learned as seconds"


def test_months_are_counted_and_come_back_as_months(tmp_path: Path) -> None:
    data = read(tmp_path, lines([f"{2020 + i // 12}-{1 + i % 12:02}" for i in range(0, 3 * N, 3)], X, head="month,x"))
    assert back(data)["month"] == [600 + i for i in range(0, 3 * N, 3)]
    drawn = decode(torch.tensor([[640.4, 0.0], [643.4, 0.0]], dtype=torch.float64), data.columns or [])
    _, rows = text_of(data.columns or [], data.style)
    assert [line.split(",")[0] for line in rows(drawn).decode().splitlines()] == ["2023-04", "2023-07"]


@pytest.mark.parametrize("cells", [["20230131", "20231301"], ["18991231", "20230131"], ["20000003", "20000004"]])
def test_eight_digits_are_dates_only_if_all_of_them_are(tmp_path: Path, cells: list[str]) -> None:
    assert types(read(tmp_path, lines(cells * (N // 2), X, head="n,x"))) == ["integer", "number"]


def test_moments_of_summer_and_winter_are_written_in_universal_time_and_said(tmp_path: Path) -> None:
    cells = [f"{day}T01:30:00+0{1 + (3 < day.month < 10)}:00" for day in DAYS]
    data = read(tmp_path, lines(cells, X, head="at,x"))
    moments = [datetime.datetime.fromisoformat(cell) for cell in cells]
    assert back(data)["at"] == moments
    assert causes(data)["column 'at'"].startswith(
        f"moments of several time zones (such as {cells[0]}): read, and written, in univ"
    )
    utc = [f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S}+00:00" for moment in moments]
    assert written(data) == lines(utc, X, head="at,x")


@pytest.mark.parametrize("form", ["%d.%m.%y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y %H:%M", "%I:%M %p"])
def test_forms_of_dates_that_are_not_read_are_said_with_one_that_is(tmp_path: Path, form: str) -> None:
    cells = [f"{datetime.datetime(2023, 1 + i % 12, 1 + i % 28, i % 24, i):{form}}" for i in range(N)]
    data = read(tmp_path, lines([f'"{cell}"' for cell in cells], X, head="when,x"))
    said = [issue.cause for issue in data.issues if issue.where == "column 'when'"]
    assert said[0] == f"look like dates or times (such as {cells[0]}): read as text; write them as 2023-12-31 or 23:59:59"


def test_numbers_in_several_styles_are_text_and_said(tmp_path: Path) -> None:
    cells = [text if i % 2 else text.replace(".", ",") for i, text in enumerate(PLAIN)]
    data = read(tmp_path, lines([f'"{cell}"' for cell in cells], X, head="y,x"))
    said = [issue.cause for issue in data.issues if issue.where == "column 'y'"]
    assert said[0] == f"numbers in several styles (such as {cells[0]} and {cells[1]}): read as text; write them in one"


def test_texts_with_digits_stay_texts_without_a_word(tmp_path: Path) -> None:
    for cells in (
        ["3 rooms", "4 rooms"],
        ["10.0.11.12", "10.0.11.13"],
        ["1A", "2A"],
        ["0-9", "10-19"],
        ["2:1", "3:1"],
    ):
        data = read(tmp_path, lines(cells * (N // 2), X, head="t,x"))
        assert back(data)["t"] == cells * (N // 2)
        assert not data.issues


def test_a_wrong_date_among_dates_is_missing_and_named(tmp_path: Path) -> None:
    cells = [f"{day:%d.%m.%Y}" for day in DAYS]
    data = read(tmp_path, lines([*cells[:5], "31.02.2023", "unknown", *cells[7:]], X, head="day,x"))
    assert back(data)["day"] == [*DAYS[:5], None, None, *DAYS[7:]]
    assert causes(data)["column 'day'"].startswith("2 values among dates that are none (such as '31.02.2023' in line 7)")


# --- texts that look like something else ----------------------------------------------------------------------------------


def test_na_is_namibia_beside_other_countries_and_nothing_elsewhere(tmp_path: Path) -> None:
    countries = (["NA", "DE", "FR", "US", "ZA", "BW", "AO", ""] * N)[:N]
    data = read(tmp_path, lines(countries, X, head="country,x"))
    assert back(data)["country"] == [text or None for text in countries]
    assert causes(data)["column 'country'"] == "NA stands beside codes of two letters: read as one of them, not as missing"
    for others in (["CA", "NY", "TX", "WA", "OR", "NV"], ["yes", "no"], ["DE", "FR"]):
        texts = (["NA", *others] * N)[:N]
        assert back(read(tmp_path, lines(texts, X, head="t,x")))["t"] == [None if t == "NA" else t for t in texts]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["1E05", "1A07", "2B11"], "codes of digits and letters (such as 1E05 beside 1A07): read as text"),
        (["1E05", "2E07"], "codes of digits and letters (such as 1E05): read as text"),
        (["1205", "1E05", "1307"], "codes of digits and letters (such as 1E05): read as text"),
        (["1205", "1306", "1407", "1508", "1609", "1701", "1802", "1903", "2004", "2105", "12A5"], "such as 12A5"),
        (["007", "012", "113"], "codes with leading zeros (such as 007): read as text"),
        (["+4915112345", "+4915254321"], "phone numbers (such as +4915112345): read as text"),
    ],
)
def test_codes_are_texts_and_said(tmp_path: Path, cells: list[str], says: str) -> None:
    texts = (cells * N)[:N]
    data = read(tmp_path, lines(texts, X, head="code,x"))
    assert back(data)["code"] == texts
    assert says in causes(data)["column 'code'"]


def test_powers_of_ten_are_numbers(tmp_path: Path) -> None:
    for cells in (["1e5", "2e3", "5e4"], ["1E+05", "2E+03", "5E-04"], ["1.0E5", "2.5E3"]):
        texts = (cells * N)[:N]
        assert back(read(tmp_path, lines(texts, X, head="x,y")))["x"] == list(map(float, texts))


def test_numbers_of_things_are_said_by_their_name(tmp_path: Path) -> None:
    data = read(tmp_path, lines([7919 * i % 100003 for i in range(N)], X, head="station_id,x"))
    assert "leave it out unless it is one" in causes(data)["column 'station_id'"]


# --- another table in the coordinates of the first --------------------------------------------------------------------------


def test_what_is_open_in_a_file_is_decided_by_the_columns_of_the_run(tmp_path: Path) -> None:
    """Eight rows with no day after the 12th, and with nothing that tells decimals from thousands."""
    from scorefield.data.table.tables import aligned

    days = [f"{day:%d/%m/%Y}" for day in DAYS]
    data = read(tmp_path, lines(days, ["0,500", *THREE[1:]], head="day\tx", delimiter="\t"), "t.tsv")
    other = write(tmp_path, lines(["03/04/2023", "01/02/2023"] * 4, THREE[:8], head="day\tx", delimiter="\t"), "other.tsv")
    found = decode(aligned(other, data.columns or []), data.columns or [], exact=True)
    assert found["day"][:2] == [datetime.date(2023, 4, 3), datetime.date(2023, 2, 1)]
    assert found["x"] == DECIMAL[:8]


def test_a_run_that_read_a_column_otherwise_goes_on_as_it_did(tmp_path: Path) -> None:
    """Runs recorded eight digits as whole numbers, and commas as texts, before these were read as dates and numbers."""
    source = write(tmp_path, lines([f"{day:%Y%m%d}" for day in DAYS], THREE[:10] * 4, X, head="day;t;x", delimiter=";"))
    whole = {"name": "day", "type": "integer", "missing": False, "low": 20230101.0, "high": 20231231.0, "fill": 20230601.0}
    texts = {"name": "t", "type": "category", "missing": False, "values": sorted(set(THREE[:10]))}
    number = {"name": "x", "type": "number", "missing": False, "low": -3.0, "high": 3.0, "fill": 0.0, "digits": 6}
    data = open_source(source, CONFIG, [whole, texts, number])
    assert data.columns == [whole, texts, number]
    assert back(data)["day"] == [int(f"{day:%Y%m%d}") for day in DAYS]
    assert back(data)["t"] == THREE[:10] * 4


# --- packed files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.txt.gz", "T.CSV.GZ"])
def test_a_packed_file_is_the_file_in_it(tmp_path: Path, name: str) -> None:
    delimiter = {"tsv": "\t", "txt": " "}.get(name.split(".")[1].lower(), ",")
    content = lines(X, PLAIN, head=delimiter.join("xy"), delimiter=delimiter)
    plain = read(tmp_path, content, name[:-3])
    packed = read(tmp_path, gzip.compress(content[:100].encode()) + gzip.compress(content[100:].encode()), name)
    assert packed.fingerprint == plain.fingerprint


def test_a_packed_file_that_is_cut_broken_or_a_bomb_is_refused_by_its_cause(tmp_path: Path, monkeypatch: Any) -> None:
    whole = gzip.compress(lines(X, PLAIN, head="x,y").encode())
    broken = whole[:-8] + b"\0" * 8
    for content, says in (
        (b"", "an empty file, expected a whole .gz file"),
        (whole[: len(whole) // 2], r"which is cut off( after [1-9][0-9,]* unpacked bytes)?, expected a whole .gz file"),
        (whole[:5], "which is cut off, expected a whole .gz file"),
        (broken, r"which cannot be unpacked \(CRC check failed"),
        (whole[:40] + b"\xff" * 20 + whole[60:], "which cannot be unpacked|cut off"),
        (b"x,y\n1,2\n", r"which cannot be unpacked \(Not a gzipped file"),
        (gzip.compress(whole), "it looks like a .gz file"),
    ):
        with pytest.raises(ScorefieldError, match=says):
            read(tmp_path, content, "t.csv.gz")
    monkeypatch.setattr("scorefield.data.text.gunzip.FREE", 2**20)
    with pytest.raises(
        ScorefieldError, match=r"bytes that unpack to more than 1,048,576, expected a data file: unpack it yourself"
    ):
        read(tmp_path, gzip.compress(b"1,2\n" * 2**20), "t.csv.gz")
    monkeypatch.setattr("scorefield.data.text.gunzip.MOST_UNPACKED", 2**10)
    with pytest.raises(ScorefieldError, match="bytes that unpack to more than 1,024, expected a data file"):
        read(tmp_path, gzip.compress(R.bytes(2**12)), "t.csv.gz")


# --- blanks between cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "  1.5   2.25\n -3.5  14.75\n",
        "1.5\t 2.25 \n-3.5\t 14.75\n",
        "x y\n1.5 2.25\n-3.5 14.75\n",
        "  x     y\n  1.50e+00  2.25e+00\n -3.50e+00  1.475e+01\n",
    ],
)
def test_any_number_of_blanks_stands_between_the_cells_of_a_txt_file(tmp_path: Path, text: str) -> None:
    head, *rows = text.splitlines() if "x" in text else ["", *text.splitlines()]
    data = read(tmp_path, "\n".join(filter(None, [head, *rows * (N // 2)])), "t.txt")
    assert list(back(data).values()) == [[1.5, -3.5] * (N // 2), [2.25, 14.75] * (N // 2)]


def test_texts_with_blanks_and_commas_stay_whole(tmp_path: Path) -> None:
    texts = ["New York, NY", "Rome"] * (N // 2)
    content = lines([f'"{t}"' for t in texts], X, head="city x", delimiter=" ")
    data = read(tmp_path, content, "t.txt")
    assert back(data) == {"city": texts, "x": X}
    commas = read(tmp_path, lines(X, PLAIN, head="x,y"), "t.txt")
    assert back(commas) == {"x": X, "y": list(map(float, PLAIN))}
    words = read(tmp_path, lines(["a word", "two words"] * (N // 2), head="text") + "", "t.csv")
    assert back(words) == {"text": ["a word", "two words"] * (N // 2)}


def test_decimal_commas_between_blanks_are_no_delimiters(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        lines(COMMAS, COMMAS[::-1], delimiter=" "),
        "t.dat",
    )
    assert list(back(data).values()) == [list(map(float, PLAIN)), list(map(float, PLAIN[::-1]))]


def test_a_binary_dat_file_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match="which is no text, expected delimited text: check what it is"):
        read(tmp_path, np.arange(99, dtype=np.float32).tobytes(), "t.dat")


# --- rows that are not what the header says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "end"), [("x,y", ","), ("x,y,", ""), ("x,y,", ","), ("x,y", "")])
def test_a_delimiter_at_the_end_of_rows_or_header_shifts_no_name(tmp_path: Path, head: str, end: str) -> None:
    data = read(tmp_path, head + "\n" + "".join(f"{x},{i * i}{end}\n" for i, x in enumerate(X)))
    assert back(data) == {"x": X, "y": [i * i for i in range(N)]}


def test_a_cell_more_than_names_is_a_name_of_the_row_only_where_all_differ(tmp_path: Path) -> None:
    data = read(tmp_path, "x,y\n" + "".join(f"row{i},{x},{i * i}\n" for i, x in enumerate(X)))
    assert {name: back(data)[name] for name in ("x", "y")} == {"x": X, "y": [i * i for i in range(N)]}
    said = r"whose rows have a cell more than the names above them \(line 2\), expected as many: name that column, or put"
    with pytest.raises(ScorefieldError, match=said):
        read(tmp_path, "price,qty\n" + "3,14,2\n2,71,8\n" * N)


def test_a_quote_that_is_not_closed_is_refused_by_the_line_on_which_it_opens(tmp_path: Path) -> None:
    rows = [f"word{i},{x}" for i, x in enumerate(X)]
    rows[9], rows[19] = f'"word9,{X[9]}', f'"word19",{X[19]}'  # in lines 11 and 21
    with pytest.raises(ScorefieldError, match=r"where a quote in line 11 takes in the rows up to line 21, expected it to be"):
        read(tmp_path, "\n".join(["word,x", *rows]))


def test_lines_within_a_cell_in_quotes_stay_lines_of_the_cell(tmp_path: Path) -> None:
    data = read(tmp_path, "word,x\n" + "".join(f'"a\nb\nc",{x}\n"d",{-x}\n' for x in X))
    assert back(data)["word"] == ["a\nb\nc", "d"] * N


def test_a_mark_of_no_value_that_holds_the_delimiter_is_written_in_quotes() -> None:
    head, rows = text_of([{"name": "x", "type": "number", "text": {"missing": "no, none"}}, {"name": "y", "type": "integer"}])
    assert head + rows({"x": [None, 1.5], "y": [1, 2]}) == b'x,y\n"no, none",1\n1.5,2\n'


def test_the_euro_sign_of_windows_is_one_and_is_written_as_it_was(tmp_path: Path) -> None:
    content = "coin,x\n" + "".join(f"{'€' if i % 2 else '$'},{x}\n" for i, x in enumerate(X))
    data = read(tmp_path, content.encode("cp1252"))
    assert back(data)["coin"] == ["$", "€"] * (N // 2)
    head, rows = text_of(data.columns or [], data.style, ".csv")
    assert (head + rows(back(data))).decode("cp1252") == content


@pytest.mark.parametrize(("delimiter", "ending"), [(",", ".csv"), ("    ", ".txt")])
def test_more_cells_than_the_memory_holds_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: Any, delimiter: str, ending: str
) -> None:
    content = "".join(f"{x}{delimiter}{i}\n" for i, x in enumerate(X))
    monkeypatch.setattr("scorefield.data.text.delimited.MOST_CELLS", 2 * N)
    assert next(iter(back(read(tmp_path, content, f"t{ending}")).values())) == X
    monkeypatch.setattr("scorefield.data.text.delimited.MOST_CELLS", 2 * N - 1)
    for name, packed in ((f"t{ending}", content.encode()), (f"t{ending}.gz", gzip.compress(content.encode()))):
        with pytest.raises(ScorefieldError, match=f"a text of {2 * N} cells, expected at most {2 * N - 1}: write a part"):
            read(tmp_path, packed, name)


@pytest.mark.parametrize(
    "above",
    [
        "Instrument;XYZ;;\nDate;2023-01-01;;\n;;;\n",
        "Instrument;XYZ;;\nSample;5;;\nDate;2023-01-01;;\n",
        "Instrument: X\nOperator: A;B;C;D\n\n",
    ],
)
def test_what_stands_above_the_names_is_none_of_the_table(tmp_path: Path, above: str) -> None:
    data = read(tmp_path, above + lines(X, X[::-1], [i * i for i in range(N)], PLAIN, head="a;b;c;d", delimiter=";"))
    assert back(data)["a"] == X and list(back(data)) == ["a", "b", "c", "d"]
    assert any("above the table" in note for note in data.notes)


def test_a_row_without_a_number_below_an_empty_line_is_no_header(tmp_path: Path) -> None:
    rows = [f"Ann{i},{x}" for i, x in enumerate(X)]
    data = read(tmp_path, "\n".join(["name,score", *rows[:3], "", "Bob,absent", *rows[3:]]))
    assert back(data) == {"score": [*X[:3], None, *X[3:]]}
    mixed = read(tmp_path, "town,note,x\nUlm,,\n" + "".join(f"Ulm,a,{x}\nBonn,b,{-x}\n" for x in X))
    assert list(back(mixed)) == ["town", "note", "x"]


def test_instrument_files_with_commas_in_their_first_lines_are_read(tmp_path: Path) -> None:
    above = "Instrument: X\nDate: 2023-01-01\nOperator: A, B\n\n"
    data = read(tmp_path, above + lines(X, X[::-1], head="time,T"))
    assert back(data) == {"time": X, "T": X[::-1]}


def test_weeks_and_compact_moments_are_texts_and_the_form_that_is_read_is_said(tmp_path: Path) -> None:
    for texts in ([f"2023-W{i + 1:02}-1" for i in range(4)], [f"2023010{i + 1}T120000Z" for i in range(4)]):
        data = read(tmp_path, lines(texts * (N // 4), X, head="when,x"))
        assert back(data)["when"] == texts * (N // 4)
        said = f"look like dates or times (such as {texts[0]}): read as text; write them as 2023-12-31 or 23:59:59"
        assert {issue.cause for issue in data.issues if issue.where == "column 'when'"} == {said}


def test_na_beside_few_codes_of_countries_is_missing_and_said(tmp_path: Path) -> None:
    data = read(tmp_path, lines(["DE", "NA", "FR", "IT"] * (N // 4), X, head="country,x"))
    assert back(data)["country"] == ["DE", None, "FR", "IT"] * (N // 4)
    assert [issue.cause for issue in data.issues if issue.where == "column 'country'"] == [
        "NA stands beside few codes of two letters: read as missing; write NAM if it is Namibia"
    ]


def test_doubles_of_fortran_are_numbers_and_are_written_as_such(tmp_path: Path) -> None:
    cells = [f"{v:.3E}".replace("E", "D") for v in np.array(X) * 1e4]
    content = lines(cells, [f"{i * i}" for i in range(N)], head="x,n")
    data = read(tmp_path, content)
    assert back(data)["x"] == [float(cell.replace("D", "E")) for cell in cells]
    assert written(data) == content


@pytest.mark.parametrize("sign", ["", "$"])
def test_amounts_in_brackets_are_below_zero(tmp_path: Path, sign: str) -> None:
    values = [float(text) for text in PLAIN]
    cells = [f"({sign}{-v:.2f})" if v < 0 else f"{sign}{v:.2f}" for v in values]
    content = lines(cells, [f"{i * i}" for i in range(N)], head="x,n")
    data = read(tmp_path, content)
    assert back(data)["x"] == values
    assert written(data) == content


def test_amounts_after_the_code_of_a_currency_are_numbers(tmp_path: Path) -> None:
    values = [abs(float(text)) for text in PLAIN]
    content = lines([f"CHF {v:.2f}" for v in values], [f"{i * i}" for i in range(N)], head="x,n")
    data = read(tmp_path, content)
    assert back(data)["x"] == values
    assert written(data) == content


def test_spans_of_time_are_read_as_they_are_written(tmp_path: Path) -> None:
    spans = [datetime.timedelta(seconds=int(v)) for v in R.integers(-(10**6), 10**6, N)]
    head, rows = text_of([{"name": "t", "type": "number", "stored": {"as": "duration"}}, {"name": "x", "type": "number"}])
    content = (head + rows({"t": spans, "x": X})).decode()
    data = read(tmp_path, content)
    assert back(data) == {"t": spans, "x": X}
    assert written(data) == content


def test_numbers_in_brackets_alone_and_seats_are_texts(tmp_path: Path) -> None:
    for texts in (["(1)", "(2)", "(3)", "(4)"], ["12D3", "14D1", "2D2", "10D4"]):
        assert back(read(tmp_path, lines(texts * (N // 4), X, head="name,x")))["name"] == texts * (N // 4)
    bracketed = read(tmp_path, lines(PLAIN, X, head="(1),(2)"))
    assert list(back(bracketed)) == ["(1)", "(2)"]


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("# time [s]   T [K]\n", ["time [s]", "T [K]"]),
        ("# time [s] T [K]\n", ["time [s]", "T [K]"]),
        ("#time T\n#s K\n", ["time", "T"]),
        ("# made by hand\n#time T\n#s K\n", ["time", "T"]),
        ("# s K\n", ["s", "K"]),
    ],
)
def test_names_in_comments_may_have_units_behind_or_below_them(tmp_path: Path, head: str, names: list[str]) -> None:
    data = read(tmp_path, head + lines(X, PLAIN, delimiter=" "), "t.txt")
    assert back(data) == dict(zip(names, [X, list(map(float, PLAIN))], strict=True))
