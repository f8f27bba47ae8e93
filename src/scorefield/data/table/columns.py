"""Columns: what the values of a table's column are, and how many coordinates of a vector they take.

    number, integer, date, datetime    one coordinate: the value (days or seconds since 1970); with atoms, one more for each
                                       of these and for "none of them", as of a category
    boolean                            one coordinate: 0 or 1
    category                           a coordinate for each text, 1 for the row's own; "missing" counts as one of the texts
    constant                           no coordinate: there is nothing to learn, and it is given back as it is

A number that is missing is put at the mean of its column, and one more coordinate, an indicator of 0 or 1, says that it is
missing. An atom, a value that holds a share of its own (`granularity.py`), is a text of a category beside the numbers: its rows
stand at the mean of the others, and say which atom they are; "missing" is one more of them then. `coordinates.py` turns values
into coordinates and back. Numbers of heavy tails have a `transform` (`tails.py`), which is applied on the way to model space;
their coordinate is the number itself.

What a file says before one looks at its numbers (names, types, which texts there are, whether any may be missing) is taken
from all rows; every statistic (means, scales, ranges) from the training rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, time, timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.issues import DataIssue
from scorefield.data.table.codes import code_of
from scorefield.data.table.granularity import digits_of, granularity_of, mean_and_spread
from scorefield.data.table.series import EPOCH, Series, Type, seconds_of, zone_of
from scorefield.data.table.tails import transform_of
from scorefield.data.transforms import Transform

Column = dict[str, Any]
MOST_TEXTS = 100
FAR = 20  # standard deviations, beyond which a value is odd
FINE = 0.01  # standard deviations: the step of a grid below which it has a density, seen through the least noise of a training


def describe(series: Series, train: NDArray[np.int64], *, transform: bool = True) -> tuple[Column | None, list[DataIssue]]:
    """Return what a column's coordinates mean, as JSON values, or None if it is left out; and what is odd about it.

    Args:
        series: the column.
        train: numbers of the training rows.
        transform: whether numbers of heavy tails get a transform.
    """
    where, missing = f"column {series.name!r}", series.missing
    column: Column = {"name": series.name, "type": series.type, "missing": bool(missing.any())}
    for name, said in (("stored", series.stored), ("text", series.text)):
        column |= {name: dict(said)} if said else {}
    if missing.all():
        return None, [DataIssue(where, "no values at all")]
    if series.type == "category":
        return _category(series, column, where, train)
    present = series.values[~missing]
    if series.type == "datetime":
        column |= {"utc": series.utc, "whole": bool((present == np.round(present)).all())}
    if (present == present[0]).all() and not missing.any():
        return _constant(column, float(present[0]), where)
    seen = series.values[train][~missing[train]]
    if not len(seen):
        return None, [DataIssue(where, "no values in the training part")]
    column = column | _numbers(series.type, seen, column)
    if transform and series.type in ("number", "integer") and "levels" not in column:
        column = _transformed(column, seen[~np.isin(seen, column.get("atoms", []))])
    seen = seen[~np.isin(seen, column.get("atoms", []))]
    issues = []
    mean, std = mean_and_spread(seen)
    heavy = series.type in ("number", "integer") and std > 0 and "transform" not in column
    if heavy and (reach := float(np.abs(seen / std - mean / std).max())) > FAR:
        cause = f"reaches {reach:.0f} standard deviations: its logarithm may be easier to learn"
        issues.append(DataIssue(where, cause, used=True))
    return column, issues


def _numbers(type_: Type, seen: NDArray[np.float64], column: Column) -> Column:
    """Return what the numbers of a column's training rows are, as JSON values.

    `continuous` says whether those that are there have a density; with `missing`, a share of the rows has none of them.
    """
    if type_ == "boolean":
        return {"low": float(seen.min()), "high": float(seen.max()), "fill": mean_and_spread(seen)[0], "continuous": False}
    found = granularity_of(seen, whole=type_ in ("integer", "date") or column.get("whole", False))
    rest = seen[~np.isin(seen, found.atoms)]
    mean, std = mean_and_spread(rest)
    numbers: Column = {"low": float(rest.min()), "high": float(rest.max()), "fill": mean}
    numbers["continuous"] = not found.atoms and not found.levels and found.step <= FINE * std and std > 0
    if type_ == "number" and std > 0:
        numbers["digits"] = found.digits
    parts = {"atoms": list(found.atoms), "levels": list(found.levels), "step": found.step}
    return numbers | {name: value for name, value in parts.items() if value}


def _transformed(column: Column, values: NDArray[np.float64]) -> Column:
    """Return a column with the transform that its values ask for; a missing one then stands at the mean of the transformed."""
    step = column.get("step", 1.0 if column["type"] == "integer" else 0.0)
    if (found := transform_of(values, step)) is None:
        return column
    transform, gain = found
    x = torch.from_numpy(values)
    column = column | {"transform": {**asdict(transform), "gain": gain}, "fill": float(transform.inverse(transform(x).mean()))}
    if "digits" in column and not step:  # as exact among the small values as among the large ones
        column["digits"] = digits_of(values, float(transform(x).std()) / float(transform.log_slope(x).exp().quantile(0.99)))
    return column


def transform_in(column: Column) -> Transform | None:
    """Return the transform of a column's number; None of one that is learned as it is."""
    said = column.get("transform")
    return None if said is None else Transform(**{key: value for key, value in said.items() if key != "gain"})


def transforms_of(columns: Sequence[Column]) -> tuple[tuple[int, Transform], ...]:
    """Return the transforms of a table's columns, each with the number of its coordinate."""
    found, first = list[tuple[int, Transform]](), 0
    for column in columns:
        if (transform := transform_in(column)) is not None:
            found.append((first, transform))
        first += width(column)
    return tuple(found)


def _constant(column: Column, value: Any, where: str) -> tuple[Column, list[DataIssue]]:
    """Return a column of one value, stored as a number or a text."""
    shown = typed(value, column)
    text = str(shown) if isinstance(shown, date | time | timedelta) else shown
    odd = DataIssue(where, f"is {text!r} in every row: it is given back, there is nothing to learn", used=True)
    match column["type"]:
        case "datetime":
            value = seconds_of(shown)
        case "date":
            value = round(value)
        case "integer":
            value = round(value)
        case "boolean":
            value = shown
    return {**column, "constant": value}, [odd]


def _category(series: Series, column: Column, where: str, train: NDArray[np.int64]) -> tuple[Column | None, list[DataIssue]]:
    """Return a column of texts, or None if they are too many to be categories."""
    count = Counter(series.values.tolist())
    texts: list[str | None] = sorted(text for text in count if text is not None)
    if len(texts) > min(MOST_TEXTS, len(series.values) / 2):
        cause = (
            f"{len(texts):,} different texts in {len(series.values):,} rows: names or numbers of things, which have no density"
        )
        return None, [DataIssue(where, cause)]
    if len(count) == 1:
        return _constant(column, texts[0], where)
    column |= {"values": texts + [None] * column["missing"], "continuous": False}
    unseen = set(count) - set(series.values[train].tolist())
    named = sorted("a missing value" if text is None else repr(text) for text in unseen)
    return column, [DataIssue(where, f"{', '.join(named)} is in held-out rows only", used=True)] if named else []


def fits(series: Series, column: Column) -> bool:
    """Whether a series can be encoded as a column of another table: of its type, with no text or gap that is new to it."""
    if series.type != column["type"] or (not column["missing"] and bool(series.missing.any())):
        return False
    if "constant" in column:
        return bool((series.values == column["constant"]).all())
    return series.type != "category" or set(series.values.tolist()) <= set(column["values"])


def width(column: Column) -> int:
    """Return the number of a column's coordinates."""
    if "constant" in column:
        return 0
    if column["type"] == "category":
        return len(column["values"])
    return 1 + (len(choices(column)) if "atoms" in column else column["missing"])


def choices(column: Column) -> list[float | None]:
    """Return what a row of a column with atoms may be: NaN for a number of the rest, an atom, or None where one is missing."""
    return [math.nan, *column["atoms"], *[None] * column["missing"]]


def indicators(column: Column) -> range:
    """Return the indicators among a column's coordinates, counted from its first: 1 where its number is missing, or an atom.

    >>> indicators({"name": "a", "type": "number", "missing": True, "atoms": [0.0]})
    range(2, 4)
    """
    if column["type"] == "category" or "constant" in column:
        return range(0)
    return range(2 if "atoms" in column else 1, width(column))


def typed(value: Any, column: Column) -> Any:
    """Return a number as a value of the column's type."""
    stored = column.get("stored", {})
    match column["type"]:
        case "number" | "integer" if "as" in stored:
            since = EPOCH + timedelta(seconds=round(value, 6))
            return since.time() if stored["as"] == "time" else since - EPOCH
        case "integer":
            return round(value)
        case "boolean":
            return bool(value > 0.5)
        case "number":
            return float(value)
        case "date":
            day = EPOCH.date() + timedelta(days=round(value))
            return code_of(day) if stored.get("as") == "yyyymmdd" else day
        case "datetime":
            when = EPOCH + timedelta(seconds=round(value, 0 if column["whole"] else 6))
            if not column["utc"]:
                return when
            aware = when.replace(tzinfo=UTC)
            return aware.astimezone(zone_of(stored["zone"])) if "zone" in stored else aware
        case "category" if stored.get("as") == "integer":
            return int(value)
    return value
