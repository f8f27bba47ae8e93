"""Tables: rows of numbers, integers, booleans, texts and dates, some of them missing.

Delimited text is read by the standard library (`delimited.py`). Parquet and Arrow files, and the data frames of pandas, polars
and pyarrow, are read through narwhals, which knows them all. `columns.py` says what the columns become.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.base import LEAST, DataConfig, DataIssue, Dataset, Examples, build, format_number, split
from scorefield.data.table import arrow, labelled
from scorefield.data.table.aside import Aside, kept_aside
from scorefield.data.table.columns import Column, describe, fits, transform_in
from scorefield.data.table.coordinates import Table, decode, encode, normaliser_of
from scorefield.data.table.evidence import interpreted
from scorefield.data.table.frames import of_mapping, of_native
from scorefield.data.table.series import Series
from scorefield.data.text.delimited import read_text
from scorefield.data.text.written import text_of
from scorefield.errors import ScorefieldError, unknown

TEXT = (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz")  # delimited; Arrow reads the others
HELD_OUT = 0.1


def read(path: str, config: DataConfig, columns: list[Column] | None = None) -> Dataset:
    """Read a table from a file of delimited text, or from a .parquet, .feather or .arrow file.

    Args:
        path: of the file.
        config: how it is read.
        columns: what its coordinates mean, as a run on the same table recorded it; None to find it out.

    Returns:
        The data set, in the order of the file; `columns` says what the coordinates mean.

    Raises:
        ScorefieldError: a broken file, one that is not what its ending says, no column to learn, or fewer than 8 rows.
        NotFinite: an infinite value.
    """
    series, notes, issues, style = _file(path, columns)
    return _table(os.path.basename(path), series, notes, issues, config, columns, style)


def aligned(path: str, columns: list[Column]) -> torch.Tensor:
    """Read a table in the coordinates of another one, to be compared with it.

    Args:
        path: of a file that `read` takes, with at least the columns of the other; the rest is left out.
        columns: `Dataset.columns` of the other.

    Returns:
        Coordinates in the data's own units, `(n, d)`, float64.

    Raises:
        ScorefieldError: a broken file, a column that is not there or is of another type, a text that the other table does not
            have, or a missing value where it has none.
    """
    name = os.path.basename(path)
    series = {one.name: one for one in interpreted(_file(path, columns)[0], columns, None)[0]}
    parts = []
    for column in columns:
        if "constant" not in column:
            if (one := series.get(column["name"])) is None:
                raise unknown(f"column of {name!r}", column["name"], series)
            parts.append(encode(as_column(one, column, f"column {column['name']!r} of {name!r}"), column))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def as_column(one: Series, column: Column, here: str, *, holes: bool = False) -> Series:
    """Return a series as one of the type of another table's column; `here` is what messages call it, `holes` may be missing."""
    if (one.type == "category") != (column["type"] == "category") and one.type not in ("integer", "boolean"):
        raise ScorefieldError(f"got {here} as {one.type}, expected {column['type']}: write it as in the run's table")
    if column["type"] != "category":
        if not (column["missing"] or holes) and one.missing.any():
            raise ScorefieldError(f"got missing values in {here}, expected none, as in the run's table: fill or drop them")
        return replace(one, type=column["type"])
    texts = one.values if one.type == "category" else [_text(v, one.type, column["values"]) for v in one.values]
    allowed = [*column["values"], *([None] if holes else [])]
    if odd := sorted({str(text) for text in texts} - {str(text) for text in allowed}):
        known = ", ".join(map(str, column["values"][:5]))
        raise ScorefieldError(f"got {odd[0]!r} in {here}, expected the texts of the run's table ({known}): map it to one")
    return replace(one, type="category", values=np.array(texts, dtype=object))


def _text(value: float, type_: str, known: list[str | None]) -> str | None:
    """Return a whole number or a boolean as the text that it was read from, or would be."""
    if math.isnan(value):
        return None
    if type_ == "integer":
        return str(int(value))
    wanted = "true" if value else "false"
    return next((text for text in known if text is not None and text.lower() == wanted), wanted)


def _file(path: str, known: list[Column] | None) -> tuple[list[Series], list[str], list[DataIssue], dict[str, Any] | None]:
    """Return the columns of a file, notes about them, what was left out, and the style of a text."""
    name = os.path.basename(path)
    if path.lower().endswith(TEXT):
        text = read_text(path, name, known)
        return text.columns, text.notes, text.issues, text.style
    if path.lower().endswith(tuple(labelled.READERS)):
        return *labelled.read(path), None
    return *of_native(arrow.read(path)), None


def of_arrow(
    table: Any, config: DataConfig, *, name: str, columns: list[Column] | None = None, issues: Sequence[DataIssue] = ()
) -> Dataset:
    """Read a table of pyarrow, as `of_frame` does.

    Args:
        table: a `pyarrow.Table`.
        config: how it is read.
        name: what messages call it.
        columns: as of `read`.
        issues: what was found before.
    """
    series, notes, odd = of_native(table)
    return _table(name, series, notes, [*issues, *odd], config, columns)


def of_frame(frame: Any, config: DataConfig, *, name: str = "table", columns: list[Column] | None = None) -> Dataset:
    """Read a table from a data frame.

    Args:
        frame: of pandas, polars (lazy or not), pyarrow, or any other that narwhals knows; a series is a table of one column.
        config: how it is read.
        name: what messages call it.
        columns: as of `read`.

    Raises:
        ScorefieldError: not a data frame, two columns of one name, no column to learn, or fewer than 8 rows.
        NotFinite: an infinite value.
    """
    return _table(name, *of_native(frame), config, columns)


def of_columns(
    values: Mapping[Any, Any], config: DataConfig, *, name: str = "table", columns: list[Column] | None = None
) -> Dataset:
    """Read a table from columns by name: a dictionary of lists or arrays, or the fields of a structured array.

    Args:
        values: name -> n numbers, texts, booleans or dates; None, NaN or a masked value where one is missing.
        config: how it is read.
        name: what messages call it.
        columns: as of `read`.

    Raises:
        ScorefieldError: columns of unequal lengths or of more than one axis, else as `of_frame`.
        NotFinite: an infinite value.

    >>> of_columns({"a": [1.5, None, 3.25, 4.0] * 2, "b": list("xyxy") * 2}, DataConfig()).shape
    (4,)
    """
    return _table(name, *of_mapping(values, name), config, columns)


def _table(
    name: str,
    series: list[Series],
    notes: list[str],
    issues: list[DataIssue],
    config: DataConfig,
    given: list[Column] | None = None,
    style: dict[str, Any] | None = None,
) -> Dataset:
    """Return the data set of columns of one length, in the coordinates that are given or in its own."""
    count = len(series[0].values) if series else 0
    if count < LEAST:
        raise ScorefieldError(f"got {count} rows in {name!r}, expected at least {LEAST}: add more data")
    train = split(count, config.held_out or HELD_OUT, None, config.seed)[0].numpy()
    series, odd = interpreted(series, given, config.missing)
    left = {issue.where for issue in odd if not issue.used}  # of what is left out nothing else need be said
    issues = [one for one in issues if one.where not in left] + odd
    columns, learned, missing = list[Column](), list[Series](), 0
    for one in series:
        column, odd = describe(one, train, transform=config.transform)
        issues = issues + odd
        if given is not None:
            column = next((own for own in given if own["name"] == one.name and fits(one, own)), None)
        if column is not None:
            columns.append(column)
            learned.append(one)
            missing += int(one.missing.sum())
    parts = [encode(one, column) for one, column in zip(learned, columns, strict=True)]
    rows, aside = np.concatenate(parts, axis=1) if parts else np.empty((count, 0)), None
    if not rows.shape[1]:
        causes = "; ".join(f"{issue.where}: {issue.cause}" for issue in issues[:5])
        raise ScorefieldError(f"got {name!r} without a column to learn ({causes}), expected one that varies: add some")
    if config.aside:
        hidden = kept_aside(np.stack([one.missing for one in learned], axis=1), columns, config.aside, config.seed)
        aside = Aside(torch.from_numpy(rows), torch.from_numpy(hidden))
        rows = np.concatenate(
            [encode(_without(one, gone), column) for one, column, gone in zip(learned, columns, hidden.T, strict=True)], axis=1
        )
    examples = Examples(
        name,
        "table",
        torch.from_numpy(rows),
        normaliser=lambda rows: normaliser_of(columns, rows),
        notes=(*notes, *_about(columns, rows.shape[1], missing=missing)),
        issues=tuple(issues),
        columns=columns,
        style=style,
        held_out=HELD_OUT,
        aside=aside,
    )
    return build(examples, config)


def _without(one: Series, gone: NDArray[np.bool_]) -> Series:
    """Return a series of numbers of which some are missing."""
    return replace(one, values=np.where(gone, np.nan, one.values)) if gone.any() else one


def _about(columns: list[Column], coordinates: int, *, missing: int) -> list[str]:
    """Return notes on the columns: their types, their atoms, and how many values are missing."""
    types = ", ".join(f"{column['name']} {'constant' if 'constant' in column else column['type']}" for column in columns[:20])
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    notes = [f"{len(columns)} columns, {coordinates} coordinates: {types}{more}."]
    if atoms := [f"{column['name']} at {_listed(column)}" for column in columns if "atoms" in column]:
        notes.append(f"Values that hold a share of their own, which is learned as such: {'; '.join(atoms)}.")
    for column in columns:
        if (transform := transform_in(column)) is not None:
            notes.append(
                f"{column['name']} is learned as {transform.name}, under which it is {column['transform']['gain']:.2f} nats a "
                "value nearer to a normal law; --set data.transform=false keeps it as it is."
            )
    if missing:
        notes.append(f"{missing:,} missing values: that one is missing is learned with the rest.")
    return notes


def _listed(column: Column) -> str:
    """Return a column's atoms in words."""
    values = decode(encode(Series(column["name"], column["type"], np.array(column["atoms"])), column), [column], exact=True)
    return " and ".join(format_number(value) if isinstance(value, float) else str(value) for value in values[column["name"]])


def csv_of(table: Table, delimiter: str = ",", *, header: bool = True) -> bytes:
    """Return a table as delimited text, UTF-8 with a header, if it is wanted; nothing stands for a missing value.

    >>> csv_of({"a": [1, None], "b": ["x, y", "z"]})
    b'a,b\\n1,"x, y"\\n,z\\n'
    """
    head, rows = text_of([{"name": name} for name in table], {"delimiter": delimiter, "ending": ".csv", "header": header})
    return head + rows(table)


def parquet_of(table: Table) -> bytes:
    """Return a table as Parquet; raises `ScorefieldError` without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ScorefieldError(f"got a request for Parquet without pyarrow installed, {arrow.EXTRA}") from None
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(table), sink)
    return sink.getvalue()
