"""Frames: the columns of a data frame, of a dictionary or of a structured array as series of numbers, texts and dates.

Frames are read through narwhals, which knows those of pandas, polars, pyarrow and others; dictionaries and fields of arrays
need no library. A value is missing where the holder says so: null, NaN, NaT, None, or masked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from scorefield.data.issues import DataIssue
from scorefield.data.numeric import array_of, mask_of, masked_as_nan
from scorefield.data.table.series import Series, seconds_of_day, series_of_dates
from scorefield.errors import NotFinite, ScorefieldError


def of_native(frame: Any) -> tuple[list[Series], list[str], list[DataIssue]]:
    """Read the columns of a data frame.

    Args:
        frame: of pandas, polars (lazy or not), pyarrow, or any other that narwhals knows; or a series.

    Returns:
        Columns, no notes, and what was left out or is odd.

    Raises:
        ScorefieldError: not a data frame, or two columns of one name.
        NotFinite: an infinite value.
    """
    try:
        wrapped = nw.from_native(frame, allow_series=True)
        wrapped = wrapped.to_frame() if isinstance(wrapped, nw.Series) else wrapped
        whole = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
        columns = list(whole.iter_columns())
    except Exception as cause:  # the error of narwhals, or of the frame behind it
        found = f"got a {type(frame).__name__} that cannot be read as a table ({str(cause).strip().splitlines()[0]})"
        raise ScorefieldError(f"{found}, expected a data frame whose columns have different names: convert it") from cause
    issues = _index_left_out(frame)
    titles = _distinct([column.name for column in columns], issues)
    read = [_series(title, column, issues) for title, column in zip(titles, columns, strict=True)]
    return [one for one in read if one is not None], [], issues


def _index_left_out(frame: Any) -> list[DataIssue]:
    """Return an issue on the index of a pandas frame, if it has a name or is no numbers of rows."""
    if not nw.dependencies.is_pandas_dataframe(frame):
        return []
    names = [str(name) for name in frame.index.names if name is not None]
    if not names and nw.dependencies.is_pandas_index(frame.index) and frame.index.inferred_type == "integer":
        return []
    where = f"index {', '.join(map(repr, names))}" if names else "index"
    return [DataIssue(where, "of the frame: left out; reset_index() makes it a column")]


def of_mapping(values: Mapping[Any, Any], name: str) -> tuple[list[Series], list[str], list[DataIssue]]:
    """Read columns by name, as `tables.of_columns` says.

    Args:
        values: name -> n values.
        name: what messages call the table.

    Returns:
        Columns, no notes, and what was left out or is odd.

    Raises:
        ScorefieldError: columns of unequal lengths.
        NotFinite: an infinite value.
    """
    issues: list[DataIssue] = []
    titles = _distinct(list(values), issues)
    read = [_of_values(title, column, issues) for title, column in zip(titles, values.values(), strict=True)]
    columns = [one for one in read if one is not None]
    if len(lengths := {len(one.values) for one in columns}) > 1:
        raise ScorefieldError(f"got columns of {sorted(lengths)} values in {name!r}, expected one length: give whole columns")
    return columns, [], issues


def _distinct(titles: list[Any], issues: list[DataIssue]) -> list[str]:
    """Return names of columns as texts, all different: 0 and "0" may both be there."""
    names: list[str] = []
    for title in map(str, titles):
        called, count = title, 2
        while called in names or (called != title and called in map(str, titles)):
            called, count = f"{title} ({count})", count + 1
        if called != title:
            issues.append(DataIssue(f"column {title!r}", f"a second one of this name: called {called!r}", used=True))
        names.append(called)
    return names


def _series(name: str, column: nw.Series[Any], issues: list[DataIssue]) -> Series | None:
    """Return one column of a frame, or None and an issue if values of this type have no coordinates."""
    kind, missing = column.dtype, np.asarray(column.is_null().to_numpy(), dtype=bool)
    stored = _stored(kind)
    if kind.is_integer():
        whole = np.asarray(column.fill_null(0).to_numpy()) if missing.any() else np.asarray(column.to_numpy())
        return _of_integers(name, whole, missing, stored)
    if kind.is_numeric():
        if isinstance(kind, nw.Decimal) and (large := _beyond_floats(name, column, stored)):
            return large
        numbers = np.array(column.cast(nw.Float64).fill_null(math.nan).to_numpy(), dtype=np.float64)
        return replace(_of_floats(name, numbers), stored=stored)
    dense = np.asarray(column.to_numpy()) if isinstance(kind, nw.Unknown) else np.empty(0, dtype=object)
    if dense.dtype.kind in "fiub" and dense.ndim == 1:  # a sparse column of pandas
        return _of_values(name, dense, issues)
    if isinstance(kind, nw.Datetime | nw.Duration) and kind.time_unit == "ns":
        known = column.drop_nulls()
        fine = known.dt.nanosecond() if isinstance(kind, nw.Datetime) else known.dt.total_nanoseconds()
        _say_cut(name, bool((fine % 1000 != 0).any()), issues)
    listed = isinstance(kind, nw.List | nw.Array)
    values = [None if no else value for value, no in zip(column.to_list(), missing.tolist(), strict=True)]
    found = of_objects(name, values, f"{kind}" + f", which --set data.key={name} learns as arrays" * listed, issues)
    if found is None or found.type not in ("category", "date", "datetime", "number"):
        return found
    return replace(found, stored={**found.stored, **stored, **(_categories(kind, column) if found.type == "category" else {})})


def _beyond_floats(name: str, column: nw.Series[Any], stored: dict[str, Any]) -> Series | None:
    """Return decimals with more digits than float64 has as texts, or None where it has them all."""
    values, scale = column.to_list(), column.dtype.scale  # type: ignore[attr-defined]
    if all(value is None or abs(value).scaleb(scale) <= 2**53 for value in values):
        return None
    texts = [None if value is None else format(value, "f") for value in values]
    return Series(name, "category", np.array(texts, dtype=object), stored=stored)


def _say_cut(name: str, finer: bool, issues: list[DataIssue]) -> None:
    if finer:
        issues.append(DataIssue(f"column {name!r}", "has nanoseconds: read, and written, to the microsecond", used=True))


def _stored(kind: Any) -> dict[str, Any]:
    """Return how a frame stores values of a type of narwhals, as `Series.stored` has it; nothing of what is usual."""
    if isinstance(kind, nw.Decimal):
        return {"type": f"decimal128({kind.precision}, {kind.scale})"}
    if kind.is_numeric() and kind not in (nw.Int64, nw.Float64):
        return {"type": str(kind).lower()}
    stored: dict[str, Any] = {}
    if isinstance(kind, nw.Datetime | nw.Duration) and kind.time_unit != "us":
        stored["unit"] = kind.time_unit
    if isinstance(kind, nw.Datetime) and kind.time_zone not in (None, "UTC"):
        stored["zone"] = kind.time_zone
    return stored


def _categories(kind: Any, column: nw.Series[Any]) -> dict[str, Any]:
    """Return all categories of a column in the order of their holder, and whether that has a meaning."""
    if not isinstance(kind, nw.Categorical | nw.Enum):
        return {}
    native, ordered = column.to_native(), isinstance(kind, nw.Enum)
    if isinstance(kind, nw.Enum):
        texts = list(kind.categories)
    elif column.implementation.is_pyarrow():
        texts, ordered = native.unify_dictionaries().combine_chunks().dictionary.to_pylist(), bool(native.type.ordered)
    elif column.implementation.is_pandas_like():
        texts = native.cat.categories.tolist()
    else:
        return {}  # of polars: in the order of their appearance, which says nothing
    return {"categories": [str(text) for text in texts], **({"ordered": True} if ordered else {})}


def _of_integers(name: str, whole: NDArray[Any], missing: NDArray[np.bool_], stored: dict[str, Any] | None = None) -> Series:
    """Return whole numbers, those too large to be exact as texts."""
    held = stored or {}
    if len(whole) and max(abs(int(whole.min())), abs(int(whole.max()))) > 2**53:
        texts = [None if no else str(value) for value, no in zip(whole, missing, strict=True)]
        return Series(name, "category", np.array(texts, dtype=object), stored={**held, "as": "integer"})
    return Series(name, "integer", np.where(missing, math.nan, whole.astype(np.float64)), stored=held)


def _of_floats(name: str, numbers: NDArray[np.float64]) -> Series:
    """Return numbers with NaN where one is missing; infinite ones are refused."""
    if np.isinf(numbers).any():
        place = int(np.isinf(numbers).argmax())
        raise NotFinite(f"got {numbers[place]} in column {name!r}, row {place}, expected finite numbers: remove or fill it")
    return Series(name, "number", numbers)


def _of_values(name: str, values: Any, issues: list[DataIssue]) -> Series | None:
    """Return a column of a dictionary or of a structured array, or None and an issue."""
    mask = mask_of(values)
    if isinstance(values, list | tuple):
        return of_objects(name, list(values if mask is None else masked_as_nan(values).tolist()), "list", issues)
    array = np.asarray(values if isinstance(values, np.ndarray) else array_of(values, name))
    if array.ndim != 1:
        issues.append(DataIssue(f"column {name!r}", f"holds values of shape {array.shape[1:]}, which have no coordinates"))
        return None
    missing: Any = np.zeros(len(array), dtype=bool) if mask is None else mask.reshape(len(array), -1).any(axis=1)
    stored = {} if array.dtype in (np.int64, np.float64) else {"type": array.dtype.name}
    if array.dtype.kind in "iu":
        return _of_integers(name, np.where(missing, 0, array), missing, stored)
    if array.dtype.kind in "fb":
        numbers = np.where(missing, math.nan, array.astype(np.float64))
        return (
            Series(name, "boolean", numbers) if array.dtype.kind == "b" else replace(_of_floats(name, numbers), stored=stored)
        )
    if array.dtype.kind in "mM":
        missing, given, array = missing | np.isnat(array), array, array.astype(f"{array.dtype.kind}8[us]")
        _say_cut(name, bool((array != given)[~missing].any()), issues)
    values, absent = list(array.tolist()), list(missing.tolist())
    objects = [None if no else one for one, no in zip(values, absent, strict=True)]
    return of_objects(name, objects, str(array.dtype), issues)


def of_objects(name: str, values: list[Any], kind: str, issues: list[DataIssue]) -> Series | None:
    """Return a column of Python objects, None where one is missing; or None and an issue."""
    values = [
        value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value for value in values
    ]
    values = [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in values]
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    types = {bool if isinstance(value, np.bool_) else type(value) for value in values if value is not None}
    if types == {bool}:
        return Series(name, "boolean", np.array([math.nan if value is None else float(value) for value in values]))
    if types and types <= {int, float}:
        numbers = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        if types == {int}:
            return _of_integers(name, np.array([value or 0 for value in values], dtype=object), np.isnan(numbers))
        return _of_floats(name, numbers)
    if types and all(issubclass(type_, date) for type_ in types):
        return series_of_dates(name, values)
    for held, seconds_of in ((time, seconds_of_day), (timedelta, timedelta.total_seconds)):
        if types and all(issubclass(type_, held) for type_ in types):
            seconds = np.array([math.nan if value is None else seconds_of(value) for value in values])
            return Series(name, "number", seconds, stored={"as": "time" if held is time else "duration"})
    if types - {str, int, float, bool}:
        issues.append(DataIssue(f"column {name!r}", f"holds values of type {kind}, which have no coordinates"))
        return None
    return Series(name, "category", np.array([None if value is None else str(value) for value in values], dtype=object))
