"""Tables: rows of numbers, integers, booleans, texts and dates, some of them missing.

A .csv or .tsv file is read by the standard library (`delimited.py`). Parquet and Arrow files, and the data frames of pandas,
polars and pyarrow, are read through narwhals, which knows them all. What the columns become is told in `columns.py`.
"""

from __future__ import annotations

import csv
import io
import math
import os
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
import torch

from scorefield.data.base import LEAST, DataConfig, Dataset, Problem, build, split
from scorefield.data.columns import Column, Series, Table, affine_of, decode, describe, encode, of_moments
from scorefield.data.delimited import read_text
from scorefield.errors import NotFinite, ScorefieldError, unknown

__all__ = ["SUFFIXES", "csv_of", "decode", "of_frame", "parquet_of", "read"]
TEXT = (".csv", ".tsv")
SUFFIXES = (*TEXT, ".parquet", ".feather", ".arrow")
EXTRA = "expected the extra: run pip install 'scorefield[tables]'"
HELD_OUT = 0.1


def read(path: str, config: DataConfig) -> Dataset:
    """Read a table from a .csv, .tsv, .parquet, .feather or .arrow file.

    Args:
        path: of the file.
        config: how it is read.

    Returns:
        The data set, in the order of the file; `columns` says what the coordinates mean.

    Raises:
        ScorefieldError: a broken file, one that is not what its ending says, no column to learn, or fewer than 8 rows.
        NotFinite: an infinite value.
    """
    return _table(os.path.basename(path), *_file(path), config)


def aligned(path: str, columns: list[Column]) -> torch.Tensor:
    """Read a table as the coordinates of another one: somebody else's rows, to be compared with it.

    Args:
        path: of a .csv, .tsv, .parquet, .feather or .arrow file with at least the columns of the other; the rest is left out.
        columns: `Dataset.columns` of the other.

    Returns:
        Coordinates in the data's own units, `(n, d)`, float64.

    Raises:
        ScorefieldError: a broken file, a column that is not there or is of another type, a text that the other table does not
            have, or a missing value where it has none.
    """
    name, found = os.path.basename(path), {one.name: one for one in _file(path)[0]}
    parts = []
    for column in columns:
        if "constant" in column:
            continue
        here = f"column {column['name']!r} of {name!r}"
        if (one := found.get(column["name"])) is None:
            raise unknown(f"column of {name!r}", column["name"], found)
        if (one.type == "category") != (column["type"] == "category") and one.type not in ("integer", "boolean"):
            raise ScorefieldError(f"got {here} as {one.type}, expected {column['type']}: write it as in the run's table")
        if column["type"] == "category":
            texts = one.values if one.type == "category" else [None if v != v else f"{v:g}" for v in one.values]
            if odd := sorted({str(text) for text in texts} - {str(text) for text in column["values"]}):
                known = ", ".join(map(str, column["values"][:5]))
                raise ScorefieldError(
                    f"got {odd[0]!r} in {here}, expected the texts of the run's table ({known}): map it to one"
                )
            one = Series(one.name, "category", np.array(texts, dtype=object))
        elif not column["missing"] and one.missing.any():
            raise ScorefieldError(f"got missing values in {here}, expected none, as in the run's table: fill or drop them")
        parts.append(encode(Series(one.name, column["type"], one.values, one.utc), column))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _file(path: str) -> tuple[list[Series], list[str], list[Problem]]:
    """Return the columns of a file, notes about them, and what was left out."""
    name = os.path.basename(path)
    if path.lower().endswith(TEXT):
        return read_text(path, name)
    try:
        from pyarrow import feather, parquet
    except ImportError:
        raise ScorefieldError(f"got {name!r} without pyarrow installed, {EXTRA}") from None
    try:
        frame = parquet.ParquetFile(path).read() if path.lower().endswith(".parquet") else feather.read_table(path)
    except Exception as cause:  # an OSError, or one of Arrow's own
        found = f"got {name!r}, which cannot be read ({str(cause).splitlines()[0]})"
        raise ScorefieldError(f"{found}, expected a whole {os.path.splitext(name)[1]} file: write it again") from cause
    return _frame(frame)


def of_frame(frame: Any, config: DataConfig, *, name: str = "table") -> Dataset:
    """Read a table from a data frame.

    Args:
        frame: of pandas, polars (lazy or not), pyarrow, or any other that narwhals knows.
        config: how it is read.
        name: what messages call it.

    Raises:
        ScorefieldError: not a data frame, two columns of one name, no column to learn, or fewer than 8 rows.
        NotFinite: an infinite value.
    """
    return _table(name, *_frame(frame), config)


def _frame(frame: Any) -> tuple[list[Series], list[str], list[Problem]]:
    """Return the columns of a data frame, no notes, and what was left out."""
    try:
        known = nw.from_native(frame)
        whole = known.collect() if isinstance(known, nw.LazyFrame) else known
        columns = list(whole.iter_columns())
    except Exception as cause:  # the error of narwhals, or of the frame behind it
        found = f"got a {type(frame).__name__} that cannot be read as a table ({str(cause).strip().splitlines()[0]})"
        raise ScorefieldError(f"{found}, expected a data frame whose columns have different names: convert it") from cause
    problems: list[Problem] = []
    return [one for column in columns if (one := _series(column, problems)) is not None], [], problems


def _series(column: nw.Series[Any], problems: list[Problem]) -> Series | None:
    """Return one column of a frame, or None and a problem if nothing is known about values like these."""
    name, kind, gone = str(column.name), column.dtype, np.asarray(column.is_null().to_numpy(), dtype=bool)
    if kind.is_integer():
        whole = np.asarray(column.fill_null(0).to_numpy()) if gone.any() else np.asarray(column.to_numpy())
        if len(whole) and max(abs(int(whole.min())), abs(int(whole.max()))) > 2**53:
            return Series(
                name, "category", np.array([None if no else str(v) for v, no in zip(whole, gone, strict=True)], object)
            )
        return Series(name, "integer", np.where(gone, math.nan, whole.astype(np.float64)))
    if kind.is_numeric():
        numbers = np.array(column.cast(nw.Float64).fill_null(math.nan).to_numpy(), dtype=np.float64)
        if np.isinf(numbers).any():
            place = int(np.isinf(numbers).argmax())
            raise NotFinite(f"got {numbers[place]} in column {name!r}, row {place}, expected finite numbers: remove or fill it")
        return Series(name, "number", numbers)
    values = [None if no else value for value, no in zip(column.to_list(), gone.tolist(), strict=True)]
    types = {bool if isinstance(value, np.bool_) else type(value) for value in values if value is not None}
    if types == {bool}:
        return Series(name, "boolean", np.array([math.nan if value is None else float(value) for value in values]))
    if types and all(issubclass(type_, date) for type_ in types):
        return of_moments(name, values)
    if types - {str, int, float, bool}:
        problems.append(Problem(f"column {name!r}", f"holds values of type {kind}, which have no coordinates"))
        return None
    return Series(name, "category", np.array([None if value is None else str(value) for value in values], dtype=object))


def _table(name: str, series: list[Series], notes: list[str], problems: list[Problem], config: DataConfig) -> Dataset:
    """Return the data set of some columns of one length."""
    count = len(series[0].values) if series else 0
    if count < LEAST:
        raise ScorefieldError(f"got {count} rows in {name!r}, expected at least {LEAST}: add more data")
    train = split(count, config.held_out or HELD_OUT, None, config.seed)[0].numpy()
    columns, parts = [], []
    for one in series:
        column, odd = describe(one, train)
        problems = problems + odd
        if column is not None:
            columns.append(column)
            parts.append(encode(one, column))
    rows = np.concatenate(parts, axis=1) if parts else np.empty((count, 0))
    if not rows.shape[1]:
        causes = "; ".join(f"{problem.where}: {problem.cause}" for problem in problems[:5])
        raise ScorefieldError(f"got {name!r} without a column to learn ({causes}), expected one that varies: add some")
    kinds = ", ".join(f"{column['name']} {'constant' if 'constant' in column else column['type']}" for column in columns[:20])
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    notes = [*notes, f"{len(columns)} columns, {rows.shape[1]} coordinates: {kinds}{more}."]
    gone = sum(int(one.missing.sum()) for one in series)
    if gone:
        notes.append(f"{gone:,} missing values: that one is missing is learned with the rest.")
    return build(
        name,
        "table",
        torch.from_numpy(rows),
        config,
        affine=lambda rows: affine_of(columns, rows),
        notes=tuple(notes),
        problems=tuple(problems),
        columns=columns,
        held_out=HELD_OUT,
    )


def csv_of(table: Table, delimiter: str = ",", *, header: bool = True) -> bytes:
    """Return a table as delimited text, UTF-8 with a header, if it is wanted; nothing stands for a missing value.

    >>> csv_of({"a": [1, None], "b": ["x, y", "z"]})
    b'a,b\\n1,"x, y"\\n,z\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue().encode()


def parquet_of(table: Table) -> bytes:
    """Return a table as Parquet; raises `ScorefieldError` without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ScorefieldError(f"got a request for Parquet without pyarrow installed, {EXTRA}") from None
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(table), sink)
    return sink.getvalue()
