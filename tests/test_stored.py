"""Types come back: what a frame or a file stores is what samples are stored as, and what was decided about a column is said."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case

from scorefield.data import DataConfig, Dataset, open_again, open_data, open_source
from scorefield.data.table.coordinates import decode
from scorefield.errors import ScorefieldError

pa = pytest.importorskip("pyarrow")
from pyarrow import feather, ipc, parquet  # noqa: E402

from scorefield.outputs.parquet import _array, _schema  # noqa: E402

CONFIG = DataConfig()
N = 40
R = np.random.default_rng(0)
X = R.normal(size=N)


def order_of(data: Dataset) -> torch.Tensor:
    from scorefield.data.split import split

    train, held = split(len(data.train) + len(data.held_out), 0.1, None, 0)
    return torch.cat([train, held]).argsort()


def back(data: Dataset) -> dict[str, list[Any]]:
    """The rows of a data set in the order of their source."""
    rows = torch.cat([data.train[:], data.held_out[:]])[order_of(data)]
    return decode(rows, data.columns or [], exact=True)


def table_of(data: Dataset) -> Any:
    """The rows of a data set as the table that `sample` would write."""
    columns, values = data.columns or [], back(data)
    schema = _schema(columns)
    arrays = [_array(values[one["name"]], one, kind) for one, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def said(data: Dataset) -> dict[str, str]:
    return {issue.where: issue.cause for issue in data.issues}


# Types

BERLIN = [dt.datetime(2024, 3, 30, 12, tzinfo=dt.UTC) + dt.timedelta(hours=7 * i * i % 61) for i in range(N)]
TYPES: dict[str, Any] = {
    "int8": pa.array(R.integers(-5, 90, N), pa.int8()),
    "uint8": pa.array(R.integers(0, 200, N), pa.uint8()),
    "int16": pa.array([None, *R.integers(-5, 9000, N - 1)], pa.int16()),
    "int32": pa.array(R.integers(0, 2, N), pa.int32()),
    "float32": pa.array(X.astype("f4")),
    "float64": pa.array(X),
    "decimal": pa.array([Decimal(f"{value:.2f}") for value in X], pa.decimal128(10, 2)),
    "berlin": pa.array(BERLIN, pa.timestamp("us", "Europe/Berlin")),
    "offset": pa.array(BERLIN, pa.timestamp("ms", "+05:30")),
    "nanoseconds": pa.array([value.replace(tzinfo=None) for value in BERLIN], pa.timestamp("ns")),
    "day": pa.array([value.date() for value in BERLIN], pa.date32()),
    "time": pa.array([dt.time(12, i, 5) for i in range(N)], pa.time64("us")),
    "span": pa.array([None, *(dt.timedelta(minutes=i * i) for i in range(1, N))], pa.duration("ms")),
    "truth": pa.array([i % 3 == 0 for i in range(N)]),
    "text": pa.array(["ab"[i % 2] for i in range(N)]),
    "size": pa.DictionaryArray.from_arrays(
        pa.array([i % 3 for i in range(N)], pa.int32()), ["S", "M", "L", "XL"], ordered=True
    ),
    "huge": pa.array([2**60 + i % 4 for i in range(N)], pa.int64()),
    "unsigned": pa.array([2**64 - 1 - i % 4 for i in range(N)], pa.uint64()),
}


@each_case(name=list(TYPES))
@each_case(ending=["parquet", "arrow"])
def test_a_column_comes_back_from_an_arrow_file_as_it_was_type_and_values(name: str, ending: str, tmp_path: Path) -> None:
    whole, path = pa.table({name: TYPES[name], "x": X}), str(tmp_path / f"t.{ending}")
    if ending == "parquet":
        parquet.write_table(whole, path)
    else:
        feather.write_feather(whole, path)
    found = table_of(open_source(path, CONFIG))
    assert found.schema.field(name).type == whole.schema.field(name).type
    assert found[name].to_pylist() == whole[name].to_pylist()


def test_the_order_of_the_categories_of_pandas_and_polars_comes_back() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    texts, order = [["low", "high"][i % 2] for i in range(N)], ["none", "low", "high"]
    ordered = pandas.DataFrame({"c": pandas.Categorical(texts, categories=order, ordered=True), "x": X})
    enum = polars.DataFrame({"c": polars.Series(texts, dtype=polars.Enum(order)), "x": X})
    free = pandas.DataFrame({"c": pandas.Categorical(texts, categories=order), "x": X})
    for frame, has_order in ((ordered, True), (enum, True), (free, False)):
        column = table_of(open_data(frame, CONFIG))["c"]
        assert column.type.ordered is has_order
        assert column.combine_chunks().dictionary.to_pylist() == order
        assert column.to_pylist() == texts
    assert table_of(open_data(ordered, CONFIG)).to_pandas()["c"].dtype == ordered["c"].dtype


def test_the_order_of_categories_changes_no_coordinate_so_that_old_runs_go_on() -> None:
    pandas = pytest.importorskip("pandas")
    texts = [["low", "high"][i % 2] for i in range(N)]
    plain = open_data({"c": texts, "x": X}, CONFIG)
    frame = pandas.DataFrame({"c": pandas.Categorical(texts, categories=["low", "high"], ordered=True), "x": X})
    assert open_data(frame, CONFIG).coordinates_print == plain.coordinates_print


def test_a_summer_time_and_a_winter_time_of_one_zone_come_back_with_their_own_offsets() -> None:
    found = back(open_data(pa.table({"t": TYPES["berlin"], "x": X}), CONFIG))["t"]
    offsets = {value.utcoffset() for value in found}
    assert offsets == {dt.timedelta(hours=1), dt.timedelta(hours=2)}
    assert found == BERLIN


# Codes


def test_days_of_eight_digits_are_dates_and_come_back_as_whole_numbers() -> None:
    first = dt.date(2023, 1, 20)
    codes = [int((first + dt.timedelta(days=i)).strftime("%Y%m%d")) for i in range(N)]
    data = open_data({"day": np.array(codes, dtype=np.int32), "x": X}, CONFIG)
    assert data.columns is not None and data.columns[0]["type"] == "date"
    assert back(data)["day"] == codes
    assert table_of(data)["day"].type == pa.int32()
    assert said(data)["column 'day'"] == ("days (such as 20230120): learned as dates, and written as whole numbers again")
    between = decode(np.array([[(dt.date(2023, 1, 31) - dt.date(1970, 1, 1)).days + 0.6, 0.0]]), data.columns)
    assert between["day"] == [20230201]  # not 20230131.6


def test_whole_numbers_of_eight_digits_with_one_that_is_no_day_stay_numbers() -> None:
    data = open_data({"n": [20230100 + i for i in range(1, N + 1)][::-1], "x": X}, CONFIG)
    assert data.columns is not None and data.columns[0]["type"] == "integer"


def test_a_run_that_learned_days_as_numbers_goes_on_with_numbers() -> None:
    codes = [20230101 + i % 28 for i in range(N)]
    frame = {"day": codes, "x": X}
    old = [{"name": "day", "type": "integer", "missing": False, "low": 20230101.0, "high": 20230128.0, "fill": 20230114.0}]
    again = open_again(frame, CONFIG, {"columns": old, "fingerprint": "old"})
    assert sorted(torch.cat([again.train[:], again.held_out[:]])[:, 0].tolist()) == sorted(codes)
    new = open_data(frame, CONFIG)
    assert open_again(frame, CONFIG, {"columns": new.columns, "fingerprint": "old"}).coordinates_print == new.coordinates_print


def test_names_of_stations_are_said_to_look_like_names() -> None:
    stations = [[20000003, 20000417, 20009120, 20071234][i % 4] for i in range(N)]
    data = open_data({"station": stations, "x": X}, CONFIG)
    assert back(data)["station"] == stations
    assert said(data)["column 'station'"] == (
        "whole numbers that look like names of things (such as 20000003): learned as numbers; write them with a letter before "
        "if so"
    )
    years = open_data({"year": [1990 + i % 20 for i in range(N)], "x": X}, CONFIG)
    assert "column 'year'" not in said(years)


# Numbers of rows


@pytest.mark.parametrize(
    "index", [R.permutation(N), R.permutation(1000)[:N], np.arange(N) * 3], ids=["shuffled", "part", "every"]
)
def test_an_index_that_pandas_saved_is_left_out_and_said(index: np.ndarray, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = str(tmp_path / "t.parquet")
    pandas.DataFrame({"x": X, "y": X**2}, index=index).to_parquet(path)
    data = open_source(path, CONFIG)
    assert [column["name"] for column in data.columns or []] == ["x", "y"]
    assert said(data)["column '__index_level_0__'"].startswith("numbers the rows")


def test_row_numbers_without_a_name_are_left_out_and_ranks_with_a_name_are_kept() -> None:
    ranks = R.permutation(N) + 1
    names = [column["name"] for column in open_data({"Unnamed: 0": ranks, "rank": ranks, "x": X}, CONFIG).columns or []]
    assert names == ["rank", "x"]


def test_a_named_index_of_a_frame_is_said_to_be_left_out() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": X, "y": X**2}, index=pandas.Index([f"s{i}" for i in range(N)], name="site"))
    assert said(open_data(frame, CONFIG))["index 'site'"] == "of the frame: left out; reset_index() makes it a column"
    assert said(open_data(frame.reset_index(drop=True).sample(frac=1), CONFIG)) == {}


# Marks of no data


@pytest.mark.parametrize("mark", [-9999.0, -999.0, 999.0, 9999.0, -99999.0, -1e30, 1e20, 9.969209968386869e36, -9999.9])
def test_a_mark_far_from_all_others_is_missing_said_and_written_back(mark: float) -> None:
    values = [mark if i % 9 == 4 else float(X[i]) for i in range(N)]
    data = open_data({"t": values, "y": X**2}, CONFIG)
    assert back(data)["t"] == [None if value == mark else value for value in values]
    assert table_of(data)["t"].to_pylist() == values
    assert "read as missing; --set data.missing=[] keeps them as values" in said(data)["column 't'"]
    assert data.notes[-1] == "4 missing values: that one is missing is learned with the rest."
    kept = open_data({"t": values, "y": X**2}, DataConfig(missing=()))
    assert back(kept)["t"] == values and "read as missing" not in said(kept).get("column 't'", "")


@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(N) % 9 == 4, -9999, np.linspace(-20000, 20000, N)),  # a fine spread goes through it
        np.where(np.arange(N) % 9 == 4, 0, X),  # an exact zero is a value
        np.where(np.arange(N) == 4, 999, X),  # once only
        np.where(np.arange(N) % 9 == 4, 999, 300 * R.random(N)),  # not three ranges away
        np.where(np.arange(N) % 9 == 4, -77, X),  # not a known mark
        np.where(np.arange(N) % 2, 9999.0, 0.0),  # one of two levels
    ],
    ids=["through", "zero", "once", "near", "unknown", "level"],
)
def test_an_ordinary_value_is_no_mark(values: np.ndarray) -> None:
    data = open_data({"t": values, "y": X**2}, CONFIG)
    assert back(data)["t"] == values.tolist()


def test_a_mark_that_is_said_is_missing_wherever_it_lies() -> None:
    values = [-1.0 if i % 9 == 4 else float(i % 5) for i in range(N)]
    data = open_data({"t": values, "y": X**2}, DataConfig(missing=(-1,)))
    assert back(data)["t"] == [None if value == -1 else value for value in values]
    with pytest.raises(ScorefieldError, match=r"got data.missing for the vectors .*, expected it for tables only"):
        open_data(np.stack([X, X**2], axis=1), DataConfig(missing=(-1,)))


def test_a_run_that_learned_a_mark_as_a_value_goes_on_with_it() -> None:
    frame = {"t": [-9999.0 if i % 9 == 4 else float(X[i]) for i in range(N)], "y": X**2}
    old = open_data(frame, DataConfig(missing=()))
    again = open_again(frame, CONFIG, {"columns": old.columns, "fingerprint": "old"})
    assert again.coordinates_print == old.coordinates_print
    new = open_data(frame, CONFIG)
    assert (
        open_again(frame, CONFIG, {"columns": new.columns, "fingerprint": "old"}).coordinates_print
        == new.coordinates_print
        != old.coordinates_print
    )


def test_a_column_without_any_value_is_not_counted_among_what_is_learned() -> None:
    data = open_data({"empty": [None] * N, "t": [None, *X[1:].tolist()], "y": X**2}, CONFIG)
    assert said(data)["column 'empty'"] == "no values at all"
    assert data.notes[-1] == "1 missing values: that one is missing is learned with the rest."


# Files


@pytest.mark.parametrize("ending", ["arrow", "arrows", "feather"])
def test_an_arrow_stream_is_read_whatever_its_ending(ending: str, tmp_path: Path) -> None:
    whole = pa.table({"x": X, "c": ["ab"[i % 2] for i in range(N)]})
    with ipc.new_stream(str(tmp_path / f"t.{ending}"), whole.schema) as sink:
        sink.write_table(whole, max_chunksize=7)
    assert back(open_source(str(tmp_path / f"t.{ending}"), CONFIG)) == whole.to_pydict()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"FEA1" + bytes(40), "in the first version of Feather, which is no longer read"),
        (b"PARE" + bytes(40), "whose footer is encrypted"),
        (b"PK\x03\x04" + bytes(40), "as no Parquet or Arrow file does"),
        (b"", "which is empty"),
    ],
)
def test_a_file_that_is_no_arrow_is_named_by_its_cause(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.arrow").write_bytes(content)
    with pytest.raises(ScorefieldError, match=r"^got 't.arrow'.*expected .*: ") as refusal:
        open_source(str(tmp_path / "t.arrow"), CONFIG)
    assert says in str(refusal.value)


@pytest.mark.parametrize("kind", ["file", "stream", "parquet"])
def test_a_file_cut_in_the_middle_is_named(kind: str, tmp_path: Path) -> None:
    whole, path = pa.table({"x": R.normal(size=5000)}), tmp_path / f"t.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        parquet.write_table(whole, path)
    else:
        with (ipc.new_file if kind == "file" else ipc.new_stream)(str(path), whole.schema) as sink:
            sink.write_table(whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ScorefieldError, match=r"^got 't\..*', which cannot be read .*, expected a whole .* file: write it again$"
    ):
        open_source(str(path), CONFIG)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows"])
def test_a_file_that_declares_more_than_a_table_may_have_is_refused_before_it_is_read(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scorefield.data.table import arrow

    whole, path = pa.table({"x": np.zeros(200_000)}), str(tmp_path / f"t.{ending}")
    if ending == "parquet":
        parquet.write_table(whole, path, compression="zstd")
        monkeypatch.setattr(parquet.ParquetFile, "read", lambda *_: pytest.fail("it was read"))
    else:
        options = ipc.IpcWriteOptions(compression="zstd")
        with (ipc.new_file if ending == "arrow" else ipc.new_stream)(path, whole.schema, options=options) as sink:
            sink.write_table(whole)
    assert Path(path).stat().st_size < 10_000
    monkeypatch.setattr(arrow, "MOST_BYTES", 2**20)
    with pytest.raises(ScorefieldError, match=r"which declares .* rows of 1 columns, .* unpacked, expected at most"):
        open_source(path, CONFIG)


def test_a_stream_that_was_cut_between_two_batches_is_said_to_have_no_end(tmp_path: Path) -> None:
    whole, path = pa.table({"x": X}), tmp_path / "t.arrows"
    with ipc.new_stream(str(path), whole.schema) as sink:
        sink.write_table(whole, max_chunksize=10)
    assert said(open_source(str(path), CONFIG)) == {}
    content = path.read_bytes()
    starts = [at for at in range(0, len(content), 8) if content[at : at + 4] == b"\xff\xff\xff\xff"]
    path.write_bytes(content[: starts[3]])  # a schema and two batches
    data = open_source(str(path), CONFIG)
    assert len(data.train) + len(data.held_out) == 20
    assert said(data) == {"t.arrows": "has no mark of its end, so that rows may be missing: is it cut?"}


# Lists


def lists(shape: tuple[int, ...], **others: Any) -> Any:
    values: Any = pa.array(R.normal(size=(N, *shape)).astype("f4").reshape(-1))
    for length in reversed(shape):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    return pa.table({"v": values, **others})


def test_a_column_of_lists_alone_is_vectors_and_goes_back_as_lists(tmp_path: Path) -> None:
    whole, path = lists((5,)), str(tmp_path / "t.parquet")
    parquet.write_table(whole, path)
    data = open_source(path, CONFIG)
    assert (data.kind, data.shape, data.train[:].dtype) == ("vector", (5,), torch.float32)
    from scorefield.data.formats.arrow import ArrowFile

    rows = torch.cat([data.train[:], data.held_out[:]])[order_of(data)].numpy()
    ArrowFile().write(str(tmp_path / "back.parquet"), data.layout.to_source(rows), data.layout)
    assert parquet.read_table(tmp_path / "back.parquet").equals(whole)


def test_lists_beside_labels_and_names_are_labelled_vectors(tmp_path: Path) -> None:
    names = [f"image-{i}" for i in range(N)]
    parquet.write_table(lists((5,), label=["ab"[i % 2] for i in range(N)], name=names), tmp_path / "t.parquet")
    data = open_source(str(tmp_path / "t.parquet"), CONFIG)
    assert (data.kind, data.classes) == ("vector", ("a", "b"))
    assert said(data) == {"column 'name'": "left out: the lists of 'v' are learned as arrays"}


def test_lists_beside_measurements_are_a_table_that_says_how_to_learn_the_lists(tmp_path: Path) -> None:
    parquet.write_table(lists((5,), height=X, width=X**2), tmp_path / "t.parquet")
    data = open_source(str(tmp_path / "t.parquet"), CONFIG)
    assert [column["name"] for column in data.columns or []] == ["height", "width"]
    assert "--set data.key=v learns as arrays" in said(data)["column 'v'"]
    assert open_source(str(tmp_path / "t.parquet"), DataConfig(key="v")).shape == (5,)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_column_of_lists_of_a_frame_is_learned_by_its_name(library: str) -> None:
    pytest.importorskip(library)
    whole = lists((5,), height=X)
    frame = {"pandas": lambda t: t.to_pandas(), "polars": lambda t: pytest.importorskip("polars").from_arrow(t)}.get(library)
    data = open_data(frame(whole) if frame else whole, DataConfig(key="v"))
    rows = torch.cat([data.train[:], data.held_out[:]])[order_of(data)]
    assert rows.tolist() == whole["v"].to_pylist()


def test_several_columns_of_lists_are_asked_about_and_uneven_ones_named(tmp_path: Path) -> None:
    parquet.write_table(lists((5,), w=pa.array([[1.0, 2.0]] * N)), tmp_path / "t.parquet")
    with pytest.raises(ScorefieldError, match=r"with columns of lists \('v', 'w'\), expected one: add --set data.key=v"):
        open_source(str(tmp_path / "t.parquet"), CONFIG)
    parquet.write_table(pa.table({"v": [[1.0] * (1 + i % 3) for i in range(N)]}), tmp_path / "u.parquet")
    with pytest.raises(ScorefieldError, match=r"got lists of 1 to 3 numbers in column 'v' of 'u.parquet', expected one length"):
        open_source(str(tmp_path / "u.parquet"), CONFIG)


# Samples


@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_an_array_of_samples_of_a_table_has_the_numbers_of_its_csv(ending: str, tmp_path: Path) -> None:
    """Station 20000003 is no float32, and no two minutes of a Julian date are different ones."""
    from scorefield import app

    path = tmp_path / "t.parquet"
    jd = 2460000.5 + R.integers(0, 900, N) / 1440
    parquet.write_table(pa.table({"station": 20000003 + 2 * R.integers(0, 20, N), "jd": jd}), path)
    few = ("network.width=8", "training.pictures=0", "training.batch=8")
    app.train(path, out=tmp_path / "run", steps=2, settings=few)
    for out in (f"s.{ending}", "s.parquet"):
        app.sample(tmp_path / "run", n=9, out=tmp_path / out, steps=3)
    found = np.load(tmp_path / f"s.{ending}")
    values = found["x"] if ending == "npz" else found
    drawn = parquet.read_table(tmp_path / "s.parquet").to_pydict()
    assert values.dtype == np.float64
    assert values[:, 0].tolist() == drawn["station"] and values[:, 1].tolist() == drawn["jd"]
    assert all(station % 2 for station in drawn["station"]) and len(set(drawn["jd"])) > 1


@pytest.mark.parametrize("columns", [["span", "time"], ["berlin", "size"]])
def test_a_run_on_spans_times_zones_and_categories_draws_pictures_and_samples_of_the_same_types(
    columns: list[str], tmp_path: Path
) -> None:
    from scorefield import app

    whole = pa.table({name: TYPES[name] for name in columns})
    parquet.write_table(whole, tmp_path / "t.parquet")
    few = ("network.width=8", "training.pictures=1", "training.batch=8")
    report = app.train(tmp_path / "t.parquet", out=tmp_path / "run", steps=2, settings=few)
    assert not [sentence for sentence in report.messages if "passed over" in sentence]
    app.sample(tmp_path / "run", n=9, out=tmp_path / "s.parquet", steps=3)
    drawn = parquet.read_table(tmp_path / "s.parquet")
    assert drawn.schema.types == whole.schema.types
    app.sample(tmp_path / "run", n=9, out=tmp_path / "s.csv", steps=3)
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(tmp_path / "s.csv")
    for name in columns:
        values = [value for value in drawn[name].to_pylist() if value is not None]
        texts = frame[name].dropna()
        assert len(texts) == len(values)
        found = pandas.to_timedelta(texts).tolist() if name in ("span", "time") else texts.tolist()
        assert [str(value) for value in found] == [
            str(pandas.Timedelta(value) if name == "span" else pandas.to_timedelta(str(value)) if name == "time" else value)
            for value in values
        ]


def test_times_and_spans_are_compared_as_seconds_and_not_as_texts() -> None:
    from scorefield.metrics.marginals import compare

    spans = [dt.timedelta(minutes=i) for i in range(N)]
    times = [dt.time(i % 24, i) for i in range(N)]
    numbers = {"span": [span.total_seconds() for span in spans], "time": [3600.0 * t.hour + 60 * t.minute for t in times]}
    values = {"span": spans, "time": times}
    halves = [{name: column[part::2] for name, column in values.items()} for part in (0, 1)]
    plain = [{name: column[part::2] for name, column in numbers.items()} for part in (0, 1)]
    assert compare(*halves) == compare(*plain)
