"""Tables: what was read comes back as it was, missing values and all; what cannot be used is named by column or line."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield import pictures
from scorefield.data import DataConfig, Dataset, of_frame, of_sequence, open_source
from scorefield.data.base import split
from scorefield.data.table.coordinates import decode, snapped
from scorefield.data.table.tables import aligned, csv_of, of_columns, parquet_of
from scorefield.data.text.written import text_of
from scorefield.errors import NotFinite, ScorefieldError

CONFIG = DataConfig()
DAY, NIGHT = datetime.date(2024, 2, 29), datetime.datetime(2023, 12, 31, 23, 59, 59)
GENERATOR = np.random.default_rng(0)
N = 40
VALUES: dict[str, list[Any]] = {
    "length": [round(float(v), 6) for v in GENERATOR.normal(1e6, 3, N)],
    "count": [int(v) for v in GENERATOR.integers(-(2**40), 2**40, N)],
    "member": [bool(v) for v in GENERATOR.integers(0, 2, N)],
    "farbe, größe": [("rot", 'grün "hell"', "blau;\nweiß")[v] for v in GENERATOR.integers(0, 3, N)],
    "day": [DAY + datetime.timedelta(int(v)) for v in GENERATOR.integers(-20000, 20000, N)],
    "at": [NIGHT + datetime.timedelta(seconds=int(v)) for v in GENERATOR.integers(-(10**9), 10**9, N)],
    "odd": [float(v) for v in GENERATOR.normal(size=N)],
    "same": [7] * N,
}
TABLE = {
    name: [None if (3 * i + k) % 11 == 0 and k < 6 else v for i, v in enumerate(column)]
    for k, (name, column) in enumerate(VALUES.items())
}


def write(path: Path, content: str | bytes, name: str = "t.csv") -> str:
    (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path / name)


def read(path: Path, content: str | bytes, config: DataConfig = CONFIG) -> Dataset:
    return open_source(write(path, content), config)


def back(data: Dataset) -> dict[str, list[Any]]:
    """The columns of all rows, in the order of the file."""
    train, held = split(len(data.train) + len(data.held_out), 0.1, None)
    order = torch.cat([train, held]).argsort()
    assert data.columns is not None
    return decode(torch.cat([data.train[:], data.held_out[:]])[order], data.columns, exact=True)


def causes(data: Dataset) -> dict[str, str]:
    return {issue.where: issue.cause for issue in data.issues}


def column_of(data: Dataset, name: str) -> dict[str, Any]:
    return next(column for column in data.columns or [] if column["name"] == name)


# What was read comes back


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_type_of_column_comes_back_from_a_csv_file_with_its_missing_values(tmp_path: Path, delimiter: str) -> None:
    data = read(tmp_path, csv_of(TABLE, delimiter))
    assert data.kind == "table"
    assert back(data) == TABLE
    assert read(tmp_path, csv_of(back(data), delimiter)).fingerprint == data.fingerprint


def test_every_type_of_column_comes_back_from_parquet_and_feather(tmp_path: Path) -> None:
    feather = pytest.importorskip("pyarrow.feather")
    import pyarrow

    data = open_source(write(tmp_path, parquet_of(TABLE), "t.parquet"), CONFIG)
    assert back(data) == TABLE
    feather.write_feather(pyarrow.table(TABLE), tmp_path / "t.feather")
    assert open_source(str(tmp_path / "t.feather"), CONFIG).fingerprint == data.fingerprint


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_the_frames_of_three_libraries_are_one_data_set(library: str) -> None:
    frame = pytest.importorskip(library)
    table = {name: column for name, column in TABLE.items() if name != "member"}
    made = frame.table(table) if library == "pyarrow" else frame.DataFrame(table)
    if library == "pandas":
        made = made.astype({"count": "Int64", "farbe, größe": "category"})
    assert back(of_frame(made, CONFIG)) == table


def test_a_lazy_frame_of_polars_is_collected() -> None:
    polars = pytest.importorskip("polars")
    assert back(of_frame(polars.LazyFrame(TABLE), CONFIG)) == TABLE


def test_coordinates_survive_the_way_through_model_space() -> None:
    """float32 has 2^-24 of relative precision: integers within a few standard deviations of less than 2^20 come back whole."""
    polars = pytest.importorskip("polars")
    whole = {"count": [int(v) for v in GENERATOR.integers(-(2**18), 2**18, N)], "text": (["a", "b", None] * N)[:N]}
    data = of_frame(polars.DataFrame(whole), CONFIG)
    assert data.columns is not None
    decoded = decode(data.normaliser.decode(data.x0(slice(None))), data.columns)
    assert decoded == decode(data.train[:], data.columns, exact=True)


def test_a_time_zone_comes_back_as_universal_time(tmp_path: Path) -> None:
    data = read(tmp_path, "at,x\n" + "".join(f"2024-01-{i + 1:02}T01:30:00.25+02:00,{i * i}\n" for i in range(12)))
    found = back(data)["at"]
    assert found[0] == datetime.datetime(2023, 12, 31, 23, 30, 0, 250000, tzinfo=datetime.UTC)
    assert len(set(found)) == 12


def test_snapped_coordinates_are_those_of_the_table_that_is_read_in_them(tmp_path: Path) -> None:
    """Of a sampler's coordinates they are what a person would read back from the file written; twice is once."""
    data = read(tmp_path, csv_of(TABLE))
    assert data.columns is not None
    kept = snapped(data.train[:], data.columns)
    assert decode(kept, data.columns) == decode(data.train[:], data.columns)
    assert torch.equal(snapped(kept, data.columns), kept)
    noisy = data.train[:] + 0.3 * torch.from_numpy(GENERATOR.normal(size=tuple(data.train.shape)))
    assert not torch.equal(snapped(noisy, data.columns), noisy)
    assert decode(snapped(noisy, data.columns), data.columns, exact=True) == decode(noisy, data.columns)


def test_another_table_with_the_same_columns_is_read_in_the_coordinates_of_the_first(tmp_path: Path) -> None:
    """In any order of columns, with more of them, and of other rows: one file's rows are the same coordinates in both."""
    data = read(tmp_path, csv_of(TABLE))
    assert data.columns is not None
    rows = decode(data.held_out[:], data.columns, exact=True)
    other = {"more": ["?"] * len(data.held_out), **dict(reversed(rows.items()))}
    path = write(tmp_path, csv_of(other), "other.csv")
    assert torch.equal(aligned(path, data.columns), data.held_out[:])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nimber,colour\n1.5,red\n", "did you mean 'nimber'"),
        ("number,colour\n1.5,mauve\n", "got 'mauve' in column 'colour'"),
        ("number,colour\n,red\n2.5,blue\n", "missing values in column 'number'"),
        ("number,colour\nmany,red\nfew,blue\n", "column 'number' of 'other.csv' as category, expected number"),
    ],
)
def test_a_table_that_does_not_fit_another_is_refused_by_column(tmp_path: Path, text: str, says: str) -> None:
    data = read(tmp_path, "number,colour\n" + "".join(f"{i + 0.5 * (i % 3)},{'red' if i % 2 else 'blue'}\n" for i in range(20)))
    assert data.columns is not None
    with pytest.raises(ScorefieldError, match=says):
        aligned(write(tmp_path, text, "other.csv"), data.columns)


# Model space


def test_training_rows_have_mean_zero_and_variance_one_column_by_column_and_categories_on_average(tmp_path: Path) -> None:
    data = read(tmp_path, csv_of(TABLE))
    x = data.normaliser.encode(data.train[:]).double()
    rounding = 8 * 2**-24 * float(x.abs().max()) ** 2
    assert x.mean(dim=0).abs().max() < rounding
    variance, first = x.var(dim=0, correction=0), 0
    for column in data.columns or []:
        size = 0 if "constant" in column else len(column["values"]) if column["type"] == "category" else 1 + column["missing"]
        part, first = variance[first : first + size], first + size
        if column["type"] == "category":
            assert float(part.mean()) == pytest.approx(1, abs=rounding)
            assert len(set(data.normaliser.scale[first - size : first])) == 1
        elif size:
            assert (part - 1).abs().max() < rounding
    assert first == data.shape[0]


def test_two_texts_of_k_equally_frequent_ones_are_k_root_of_2_over_k_minus_1_apart(tmp_path: Path) -> None:
    for k in (2, 5):
        texts = [chr(97 + i % k) for i in range(20 * k)]
        data = read(tmp_path, csv_of({"text": texts, "x": list(np.linspace(0, 1, 20 * k) ** 2)}))
        corners = torch.eye(k + 1, dtype=torch.float64)[:k]
        found = torch.pdist(data.normaliser.encode(corners).double())
        share = torch.tensor(data.normaliser.shift[:k], dtype=torch.float64)  # of the training rows: nearly 1/k
        assert share.sum().item() == pytest.approx(1)
        wanted = math.sqrt(2 * k / float((share * (1 - share)).sum()))
        assert found.tolist() == pytest.approx([wanted] * len(found), rel=1e-6)
        assert wanted == pytest.approx(k * math.sqrt(2 / (k - 1)), rel=0.05)


def test_a_rare_mark_is_not_stretched_beyond_ten(tmp_path: Path) -> None:
    marks = [None if i == 777 else i % 17 for i in range(2000)]
    data = read(tmp_path, csv_of({"x": marks, "y": [i * i for i in range(2000)]}))
    assert data.shape == (3,)
    assert data.normaliser.scale[1] == 0.1


def test_statistics_come_from_the_training_rows_only(tmp_path: Path) -> None:
    train, held = split(N, 0.1, None)
    numbers, texts = [float(i % 7) for i in range(N)], ["a" if i % 2 else "b" for i in range(N)]
    one = read(tmp_path, csv_of({"x": numbers, "n": list(range(0, 2 * N, 2)), "t": texts}))
    other_numbers, other_counts = list(numbers), list(range(0, 2 * N, 2))
    for row in held.tolist():
        other_numbers[row], other_counts[row] = 1e9 + row, 10**6 + row
    two = read(tmp_path, csv_of({"x": other_numbers, "n": other_counts, "t": texts}))
    assert one.normaliser == two.normaliser
    assert one.columns == two.columns
    assert not one.held_out.equal(two.held_out)
    sample = decode(two.held_out, two.columns or [])
    assert max(sample["n"]) == max(other_counts[row] for row in train.tolist())


def test_a_missing_number_stands_at_the_mean_of_the_training_rows_that_have_one(tmp_path: Path) -> None:
    numbers = [None if i % 5 == 0 else i * i for i in range(N)]
    data = read(tmp_path, csv_of({"x": numbers, "y": [i % 3 for i in range(N)]}))
    train = split(N, 0.1, None)[0].tolist()
    known = [numbers[i] for i in train if numbers[i] is not None]
    gone = torch.tensor([numbers[i] is None for i in train])
    assert data.train[:][gone, 0].unique().tolist() == pytest.approx([sum(known) / len(known)])
    assert data.train[:][:, 1].bool().equal(gone)


# Samples


def test_samples_are_rounded_and_kept_in_range_and_the_largest_text_wins(tmp_path: Path) -> None:
    data = read(
        tmp_path, "n,b,t,d\n" + "".join(f"{3 + i % 6},{i % 2 == 0},{'xyz'[i % 3]},2024-01-{1 + i % 9:02}\n" for i in range(90))
    )
    rows = torch.tensor(
        [[4.4, 0.6, 0.2, 0.1, 0.3, 19724.2], [99.0, -3.0, -5.0, -6.0, -7.0, 0.0], [-99.0, 0.4, 0.9, 2.0, 1.0, 1e6]]
    )
    assert decode(rows, data.columns or []) == {
        "n": [4, 8, 3],
        "b": [True, False, False],
        "t": ["z", "x", "y"],
        "d": [datetime.date(2024, 1, 2), datetime.date(2024, 1, 1), datetime.date(2024, 1, 9)],
    }


def test_numbers_of_samples_are_rounded_to_a_millionth_of_their_spread(tmp_path: Path) -> None:
    data = read(tmp_path, csv_of({"x": [i * math.e for i in range(90)], "y": [i * math.e * 1e6 for i in range(90)]}))
    assert decode(torch.tensor([[math.pi, 12345678.9]], dtype=torch.float64), data.columns or []) == {
        "x": [3.14159],
        "y": [12345680.0],
    }


def test_a_table_has_a_picture_and_signals_have_one() -> None:
    pytest.importorskip("matplotlib")
    first = pictures.png(pictures.histograms(TABLE))
    assert first == pictures.png(pictures.histograms(dict(TABLE)))
    assert first != pictures.png(pictures.histograms({**TABLE, "odd": TABLE["odd"][:20]}))
    waves = torch.linspace(0, 9, 60).reshape(3, 2, 10).sin()
    assert pictures.png(pictures.lines(waves)) != pictures.png(pictures.lines(-waves))


# What is odd is named


def test_what_has_no_density_is_left_out_by_name(tmp_path: Path) -> None:
    rows = "".join(f"{i},person {i},,{i * i % 13},7,a\n" for i in range(N))
    data = read(tmp_path, "id,name,empty,x,seven,letter\n" + rows)
    assert [column["name"] for column in data.columns or []] == ["x", "seven", "letter"]
    assert data.shape == (1,)
    found = causes(data)
    assert found["column 'id'"] == "counts the rows"
    assert found["column 'name'"].startswith("40 different texts in 40 rows")
    assert found["column 'empty'"] == "no values at all"
    assert "7 in every row" in found["column 'seven'"]
    assert {issue.where for issue in data.issues if not issue.used} == {f"column {c!r}" for c in ("id", "name", "empty")}
    assert decode(torch.zeros(2, 1), data.columns or []) == {"x": [0, 0], "seven": [7, 7], "letter": ["a", "a"]}


def test_a_text_in_held_out_rows_only_is_named_and_kept(tmp_path: Path) -> None:
    held = split(N, 0.1, None)[1].tolist()
    texts = ["rare" if i == held[0] else "ab"[i % 2] for i in range(N)]
    data = read(tmp_path, csv_of({"t": texts, "x": [i * i for i in range(N)]}))
    assert causes(data)["column 't'"] == "'rare' is in held-out rows only"
    assert back(data)["t"] == texts
    assert len(set(data.normaliser.scale[:3])) == 1


def test_ragged_rows_are_left_out_by_line_and_empty_lines_are_none(tmp_path: Path) -> None:
    lines = ["a,b"] + [f"{i * i},{i % 4}" for i in range(20)]
    lines[5], lines[9] = "1,2,3", "4"
    lines[12:12] = ["", " , ", ""]
    data = read(tmp_path, "\r\n".join(lines) + "\r\n\r\n")
    assert {p.where: p.cause for p in data.issues} == {"line 6": "3 cells, expected 2", "line 10": "1 cells, expected 2"}
    assert back(data)["a"] == [i * i for i in range(20) if i not in (4, 8)]


def test_columns_of_one_name_get_different_ones(tmp_path: Path) -> None:
    data = read(tmp_path, "x,x,x\n" + "".join(f"{i * i},{i % 3},{i % 5}\n" for i in range(N)))
    assert list(back(data)) == ["x", "x (2)", "x (3)"]
    assert "called 'x (3)'" in data.issues[1].cause
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ScorefieldError, match="whose columns have different names"):
        of_frame(pandas.DataFrame([[1, 2]] * 9, columns=["a", "a"]), CONFIG)


def test_decimal_commas_are_read_and_named(tmp_path: Path) -> None:
    data = read(tmp_path, "a;b\n" + "".join(f"{i},5;{i % 7},250\n" for i in range(N)))
    assert back(data)["a"] == [i + 0.5 for i in range(N)]
    assert causes(data)["column 'a'"] == "decimal commas (such as 0,5): read as numbers"
    assert back(data)["b"] == [i % 7 + 0.25 for i in range(N)]
    assert causes(data)["column 'b'"] == "decimal commas (such as 0,250): read as numbers"


def test_a_few_texts_among_numbers_are_read_as_missing_and_named_by_line(tmp_path: Path) -> None:
    data = read(tmp_path, "x,y\n" + "".join(f"{'broken' if i == 7 else i * i},{i % 3}\n" for i in range(N)))
    assert back(data)["x"] == [None if i == 7 else i * i for i in range(N)]
    assert causes(data)["column 'x'"] == "1 values among numbers that are none (such as 'broken' in line 9): read as missing"


def test_codes_with_leading_zeros_and_whole_numbers_too_large_to_be_exact_are_no_numbers(tmp_path: Path) -> None:
    data = read(tmp_path, "code,large,x\n" + "".join(f"00{i % 4},{2**60 + i % 3},{i * i}\n" for i in range(N)))
    assert back(data)["code"] == [f"00{i % 4}" for i in range(N)]
    assert back(data)["large"] == [str(2**60 + i % 3) for i in range(N)]


def test_far_values_are_named(tmp_path: Path) -> None:
    data = read(tmp_path, csv_of({"x": [1e6 if i == 9 else i % 5 for i in range(2000)]}))
    assert "standard deviations" in causes(data)["column 'x'"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("1,2\n" * 4 + "3,4\n" * 6, ["column 1", "column 2"]),
        ("id,2019\n" + "".join(f"{i * i},{i % 3}\n" for i in range(9)), ["id", "2019"]),
        (",0,1\n" + "".join(f"{i},{i * i},{i % 3}\n" for i in range(9)), ["0", "1"]),
        ("a\tb\n" + "x y\t1\nz\t2\n" * 8, ["a", "b"]),
        ("größe\n" + "1\n2\n" * 8, ["größe"]),
        ("a,b\n" + "".join(f'"{i}",{i * i},{i % 3}\n' for i in range(9)), ["a", "b"]),
    ],
)
def test_a_header_is_distinguished_from_data(tmp_path: Path, content: str, names: list[str]) -> None:
    assert [column["name"] for column in read(tmp_path, content).columns or []] == names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_accents_survive_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = "größe,été\n" + "".join(f"{'süß' if i % 2 else 'ölig'},{i * i}\n" for i in range(N))
    data = read(tmp_path, text.encode(encoding))
    assert list(back(data)) == ["größe", "été"]
    assert set(back(data)["größe"]) == {"süß", "ölig"}
    assert any("Windows-1252" in note for note in data.notes) == (encoding == "latin-1")


# Refusals: one sentence


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", b"", "without any value"),
        ("t.csv", b"\n\n , \n", "without any value"),
        ("t.csv", b"a,b\n", "a header and no rows|got 1 rows"),
        ("t.csv", b"a,b\n1,2\n", "got 1 rows"),
        ("t.csv", b"PAR1" + bytes(99), "looks like a .parquet file"),
        ("t.csv", b"PK\x03\x04" + bytes(99), "looks like a .xlsx or .zip file"),
        ("t.tsv", bytes(range(256)) * 9, "which is no text"),
        ("t.csv", b"a,b\n" + b"same,1\n" * 20, "without a column to learn"),
        ("t.csv", b'a,b\n1,"' + b"x" * 200_000, "check its quotes"),
        ("t.parquet", b"a,b\n1,2\n", "expected a whole .parquet file"),
        ("t.feather", b"", "expected a whole .feather file"),
        ("t.arrow", b"ARROW1" + bytes(30), "expected a whole .arrow file"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    if not name.endswith(("csv", "tsv")):
        pytest.importorskip("pyarrow")
    with pytest.raises(ScorefieldError, match=match) as refusal:
        open_source(write(tmp_path, content, name), CONFIG)
    assert "\n" not in str(refusal.value)


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    whole = parquet_of(TABLE)
    for size in range(0, len(whole), len(whole) // 23):
        with pytest.raises(ScorefieldError, match=r"expected a whole \.parquet file"):
            open_source(write(tmp_path, whole[:size], "t.parquet"), CONFIG)


def test_infinity_is_refused_by_column_and_line(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"got '-inf' in column 'x', line 5"):
        read(tmp_path, "x\n" + "".join(f"{'-inf' if i == 3 else i / 3}\n" for i in range(N)))
    polars = pytest.importorskip("polars")
    with pytest.raises(NotFinite, match="got inf in column 'x', row 3"):
        of_frame(polars.DataFrame({"x": [math.inf if i == 3 else i / 3 for i in range(N)]}), CONFIG)


@pytest.mark.parametrize("thing", [None, 3, {"a": 1}, np.zeros((9, 2))])
def test_what_is_no_frame_is_refused(thing: object) -> None:
    with pytest.raises(ScorefieldError, match="that cannot be read as a table"):
        of_frame(thing, CONFIG)


def test_a_column_of_lists_is_left_out_by_name() -> None:
    polars = pytest.importorskip("polars")
    data = of_frame(polars.DataFrame({"l": [[1, 2]] * N, "x": [i * i for i in range(N)]}), CONFIG)
    assert "have no coordinates" in causes(data)["column 'l'"]
    assert data.shape == (1,)


# Sequences


class Listed:
    """Only a length and things by number."""

    def __init__(self, *things: Any) -> None:
        self.things = things

    def __len__(self) -> int:
        return len(self.things)

    def __getitem__(self, index: int) -> Any:
        return self.things[index]


def test_a_sequence_is_the_data_set_that_its_array_is() -> None:
    rows = GENERATOR.normal(size=(N, 3))
    plain = of_sequence(rows, CONFIG).fingerprint
    for same in (torch.from_numpy(rows), rows.tolist(), list(rows), Listed(*rows), Listed(*torch.from_numpy(rows))):
        assert of_sequence(same, CONFIG).fingerprint == plain


def test_pictures_are_grey_only_if_all_are_and_keep_their_labels() -> None:
    grey = [Image.new("L", (5, 6), i) for i in range(12)]
    assert of_sequence(grey, CONFIG).shape == (1, 6, 5)
    data = of_sequence(Listed(*((one if i else one.convert("RGB"), "ab"[i % 2]) for i, one in enumerate(grey))), CONFIG)
    assert data.kind == "image"
    assert data.classes == ("a", "b")
    assert data.labels is not None
    pixels = data.train[:][:, :, 2, 3]
    assert pixels.unique(dim=1).shape == (len(pixels), 1)
    assert (pixels[:, 0] % 2).long().equal(data.labels)


def test_pictures_of_several_sizes_need_one_and_get_it() -> None:
    mixed = [Image.new("L", (4 + i, 4), 9) for i in range(9)]
    with pytest.raises(ScorefieldError, match=r"got example 1 in 'data' of shape \(4, 5\).*set data\.size"):
        of_sequence(mixed, CONFIG)
    assert of_sequence(mixed, DataConfig(size=(3, 2))).shape == (1, 3, 2)


@pytest.mark.parametrize(
    ("things", "match"),
    [
        ([object()] * 9, "got example 0 in 'data', which cannot be read"),
        ([np.zeros(2)] * 8 + [np.zeros(3)], r"got example 8 in 'data' of shape \(3,\)"),
        ([(np.zeros(2), 1.5)] * 9, "got the label 1.5"),
        ([(np.zeros(2), 1)] * 8 + [np.zeros(2)], "got example 8"),
        ([np.zeros(2)] * 7, "got 7 examples"),
        ([Image.new("L", (4, 4))] * 8 + [np.zeros((4, 4))], "among images"),
    ],
)
def test_a_sequence_of_other_things_is_refused_by_number(things: list[Any], match: str) -> None:
    with pytest.raises(ScorefieldError, match=match):
        of_sequence(things, CONFIG)


def test_days_as_floats_with_gaps_are_days_and_go_back_as_floats(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from scorefield.outputs.parquet import _array, _type

    pandas = pytest.importorskip("pandas")
    days = [None if i % 5 == 0 else 20230101.0 + i for i in range(28)]
    frame = pandas.DataFrame({"day": days, "x": GENERATOR.normal(size=28)})
    wanted = [None if day is None else int(day) for day in days]
    frame.to_parquet(tmp_path / "t.parquet")
    data = open_source(str(tmp_path / "t.parquet"), CONFIG)
    assert back(data)["day"] == wanted
    column = (data.columns or [])[0]
    assert (column["type"], str(_type(column))) == ("date", "double")
    assert _array(wanted, column, _type(column)).equals(parquet.read_table(tmp_path / "t.parquet")["day"].combine_chunks())
    frame.to_csv(tmp_path / "t.csv")  # with the numbers of the rows in a column without a name
    text = open_source(str(tmp_path / "t.csv"), CONFIG)
    assert [one["name"] for one in text.columns or []] == ["day", "x"]
    head, rows = text_of(text.columns or [], text.style, ".csv")
    assert (head + rows(back(text))).decode().splitlines()[1:3] == [f",{frame['x'][0]}", f"20230102.0,{frame['x'][1]}"]


def test_numbers_of_rows_as_floats_say_nothing_where_they_have_no_name() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"Unnamed: 0": np.arange(N, dtype=float), "x": GENERATOR.normal(size=N)})
    assert [one["name"] for one in of_frame(frame, CONFIG).columns or []] == ["x"]
    timed = frame.rename(columns={"Unnamed: 0": "seconds"})
    assert [one["name"] for one in of_frame(timed, CONFIG).columns or []] == ["seconds", "x"]


def test_decimals_of_more_digits_than_floats_have_stay_exact(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from decimal import Decimal

    from pyarrow import parquet

    from scorefield.outputs.parquet import _array, _type

    exact = [Decimal("1234567890123456789.125"), None, Decimal("-0.001"), Decimal("9007199254740.993")] * 6
    small = [Decimal("1.125"), None, Decimal("-0.001"), Decimal("9007199254740.992")] * 6
    kind = pyarrow.decimal128(25, 3)
    for values, type_ in ((exact, "category"), (small, "number")):
        table = pyarrow.table({"v": pyarrow.array(values, kind), "x": GENERATOR.normal(size=24)})
        parquet.write_table(table, tmp_path / "t.parquet")
        data = open_source(str(tmp_path / "t.parquet"), CONFIG)
        column = (data.columns or [])[0]
        assert (column["type"], _type(column)) == (type_, kind)
        assert _array(back(data)["v"], column, kind).to_pylist() == values


def test_nanoseconds_that_are_cut_are_said_and_others_not() -> None:
    pandas = pytest.importorskip("pandas")
    micro = pandas.to_datetime(["2023-01-01 00:00:00.000001"] * N).as_unit("ns") + pandas.to_timedelta(range(N), unit="h")
    nano = micro + pandas.to_timedelta(1, unit="ns")
    frame = pandas.DataFrame({"fine": nano, "span": nano - nano[0].floor("us"), "plain": micro})
    said = {"column 'fine'", "column 'span'"}
    for data in (of_frame(frame, CONFIG), of_columns({name: frame[name].to_numpy() for name in frame}, CONFIG)):
        assert {
            w for w, cause in causes(data).items() if "has nanoseconds: read, and written, to the microsecond" in cause
        } == said


@pytest.mark.parametrize("marks", [[-9999.0], [-9999.0, -8888.0], [-9999.0, -9999.0, -8888.0, -8888.0]])
def test_a_number_that_may_be_a_mark_of_no_data_is_said(marks: list[float]) -> None:
    values = np.append(GENERATOR.normal(size=N), marks)
    said = causes(of_columns({"depth": values, "x": GENERATOR.normal(size=len(values))}, CONFIG))
    assert said["column 'depth'"].startswith("-9999 is far from most others and may stand for no data: read as a value; --set ")
    wide = np.append(np.linspace(-9000, 9000, N), -9999.0)
    assert "column 'depth'" not in causes(of_columns({"depth": wide, "x": wide**2}, CONFIG))


def test_two_columns_of_one_name_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(np.arange(9.0))] * 2, names=["a", "a"])
    parquet.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, tmp_path / "t.feather", compression="uncompressed")
    for name in ("t.parquet", "t.feather"):
        with pytest.raises(ScorefieldError, match=f"^got '{name}' with 2 columns called 'a', expected different names: rename"):
            open_source(str(tmp_path / name), CONFIG)


def test_a_column_that_numbers_the_rows_is_said_to_be_left_out_and_nothing_else(tmp_path: Path) -> None:
    data = read(tmp_path, "id,x\n" + "".join(f"{i + 1},{v}\n" for i, v in enumerate(GENERATOR.normal(size=N))))
    assert [(issue.cause, issue.used) for issue in data.issues if issue.where == "column 'id'"] == [("counts the rows", False)]
