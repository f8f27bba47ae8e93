"""Columns of a table as coordinates of a vector, and back.

    number, integer, date, datetime    one coordinate: the value (days or seconds since 1970)
    boolean                            one coordinate: 0 or 1
    category                           a coordinate for each text, 1 for the row's own; "missing" counts as one of the texts
    constant                           no coordinate: there is nothing to learn, and it is given back as it is

A number that is missing is put at the mean of its column, where it says nothing, and one more coordinate, 0 or 1, says that it
is missing. So nothing is lost: `decode` of coordinates gives back the very columns that made them.

Integers stay where they are, without dequantisation. Spread evenly over its bin, an integer has a density, which a likelihood
needs; a sampler needs the contrary: with all mass at the centre of a bin, errors of up to half a unit are rounded away, with
mass up to its edges the smallest error moves a sample into the next one.

What a file tells before one looks at its numbers (names, types, which texts there are, whether any may be missing) is taken
from all rows; every statistic (means, scales, ranges) from the training rows.

The map to model space. Each lone coordinate gets mean 0 and variance 1. The k coordinates of a category share one scale, by
which their variances are 1 on average: isotropic noise then treats all texts of a column alike (any two are as far apart as any
other two, and the largest coordinate is the nearest text, so argmax is the most probable one), and one column starts to be told
apart at about the noise level of any other: two texts of k equally frequent ones lie k·sqrt(2/(k - 1)) apart, 2.8 for k = 2 and
4.7 for k = 10, numbers of standard deviation 1 a few. Scaled one by one, a text that is seen once in 10,000 rows would lie 100
away from 0, and the noise that reaches it would be spent on nothing else. For the same reason no yes-or-no coordinate is
stretched by more than 10, as if it were at least as frequent as 1 in 100.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.base import Affine, Problem, Rows

Table = dict[str, list[Any]]
Column = dict[str, Any]
Type = Literal["number", "integer", "boolean", "date", "datetime", "category"]
MOST_TEXTS = 100
FAR = 20  # standard deviations, beyond which a value is odd
RARE = 0.1  # the smallest scale of a yes-or-no coordinate: that of 1 in 100
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Series:
    """One column as it was read.

    Attributes:
        name: of the column.
        type: number, integer, boolean, date, datetime or category.
        values: float64 `(n,)` with NaN where it is missing, days or seconds since 1970 for dates; or texts, with None.
        utc: whether a datetime has a time zone.
    """

    name: str
    type: Type
    values: NDArray[Any]
    utc: bool = False

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value, `(n,)`."""
        if self.type == "category":
            return np.array([value is None for value in self.values], dtype=bool)
        gone: NDArray[np.bool_] = np.isnan(self.values)
        return gone


def of_moments(name: str, values: list[Any]) -> Series:
    """Return a series of dates, of datetimes, or of None where one is missing; dates alone stay dates."""
    known = [value for value in values if value is not None]
    if not any(isinstance(value, datetime) for value in known):
        days = [math.nan if value is None else (value - EPOCH.date()).days for value in values]
        return Series(name, "date", np.array(days, dtype=np.float64))
    utc = any(isinstance(value, datetime) and value.tzinfo is not None for value in known)
    return Series(name, "datetime", np.array([_seconds(value) for value in values]), utc)


def _seconds(value: date | datetime | None) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return (moment - EPOCH) / timedelta(seconds=1)


def describe(series: Series, train: NDArray[np.int64]) -> tuple[Column | None, list[Problem]]:
    """Return what a column's coordinates mean, as JSON values, or None if it is left out; and what is odd about it.

    Args:
        series: the column.
        train: numbers of the training rows.
    """
    where, missing = f"column {series.name!r}", series.missing
    column: Column = {"name": series.name, "type": series.type, "missing": bool(missing.any())}
    if missing.all():
        return None, [Problem(where, "no values at all")]
    if series.type == "category":
        return _category(series, column, where, train)
    known = series.values[~missing]
    if series.type == "datetime":
        column |= {"utc": series.utc, "whole": bool((known == np.round(known)).all())}
    if (known == known[0]).all() and not missing.any():
        return _constant(column, _plain(known[0], column), where)
    seen = series.values[train][~missing[train]]
    if not len(seen):
        return None, [Problem(where, "no values in the training part")]
    if series.type == "integer" and not missing.any() and (np.diff(series.values) == 1).all() and len(known) > 2:
        return None, [Problem(where, "counts the rows")]
    mean, std = float(seen.mean()), float(seen.std())
    column |= {"low": float(seen.min()), "high": float(seen.max()), "fill": mean}
    if series.type == "number" and std > 0:
        column["digits"] = 6 - math.floor(math.log10(std))
    problems = []
    if series.type in ("number", "integer") and std > 0 and (reach := float(np.abs(seen - mean).max()) / std) > FAR:
        problems.append(
            Problem(where, f"reaches {reach:.0f} standard deviations: its logarithm may be easier to learn", used=True)
        )
    return column, problems


def _constant(column: Column, value: Any, where: str) -> tuple[Column, list[Problem]]:
    text = str(value) if isinstance(value, date) else value
    odd = Problem(where, f"is {text!r} in every row: it is given back, there is nothing to learn", used=True)
    number = (
        _seconds(value) if column["type"] == "datetime" else (value - EPOCH.date()).days if column["type"] == "date" else value
    )
    return {**column, "constant": number}, [odd]


def _category(series: Series, column: Column, where: str, train: NDArray[np.int64]) -> tuple[Column | None, list[Problem]]:
    count = Counter(series.values.tolist())
    texts: list[str | None] = sorted(text for text in count if text is not None)
    if len(texts) > min(MOST_TEXTS, len(series.values) / 2):
        cause = (
            f"{len(texts):,} different texts in {len(series.values):,} rows: names or numbers of things, which have no density"
        )
        return None, [Problem(where, cause)]
    if len(count) == 1:
        return _constant(column, texts[0], where)
    column["values"] = texts + [None] * column["missing"]
    unseen = set(count) - set(series.values[train].tolist())
    named = sorted("a missing value" if text is None else repr(text) for text in unseen)
    return column, [Problem(where, f"{', '.join(named)} is in held-out rows only", used=True)] if named else []


def width(column: Column) -> int:
    """Return the number of a column's coordinates."""
    if "constant" in column:
        return 0
    return len(column["values"]) if column["type"] == "category" else 1 + column["missing"]


def encode(series: Series, column: Column) -> NDArray[np.float64]:
    """Return a column's coordinates `(n, width)`."""
    if "constant" in column:
        return np.empty((len(series.values), 0))
    if column["type"] == "category":
        place = {text: i for i, text in enumerate(column["values"])}
        return np.eye(len(place))[[place[text] for text in series.values.tolist()]]
    missing = series.missing
    parts = [np.where(missing, column["fill"], series.values)] + [missing.astype(np.float64)] * column["missing"]
    return np.stack(parts, axis=1)


def decode(rows: Tensor | NDArray[Any], columns: list[Column], *, exact: bool = False) -> Table:
    """Return coordinates as the columns of a table.

    Args:
        rows: coordinates in the data's own units (after `Affine.decode`), `(n, d)`.
        columns: what they mean: `Dataset.columns`.
        exact: rows of data: give back every value as it was. Otherwise integers and dates are kept inside the range of the
            training rows, and numbers rounded to a millionth of their spread.

    Returns:
        Name -> n values: float, int, bool, str, date or datetime; None where one is missing.

    >>> colour = {"name": "colour", "type": "category", "missing": True, "values": ["blue", "red", None]}
    >>> decode(np.array([[0.1, 0.9, 0.2], [0.3, 0.2, 0.8]]), [colour])
    {'colour': ['red', None]}
    """
    x = np.asarray(rows, dtype=np.float64)
    table: Table = {}
    first = 0
    for column in columns:
        size = width(column)
        part, first = x[:, first : first + size], first + size
        if not size:
            table[column["name"]] = [_plain(column["constant"], column)] * len(x)
        elif column["type"] == "category":
            table[column["name"]] = [column["values"][i] for i in part.argmax(axis=1)]
        else:
            values = part[:, 0]
            if not exact and column["type"] in ("integer", "date", "datetime"):
                values = values.clip(column["low"], column["high"])
            if not exact and "digits" in column:
                values = np.round(values, column["digits"]) if column["digits"] < 300 else values
            gone = part[:, 1] > 0.5 if size > 1 else np.zeros(len(x), dtype=bool)
            table[column["name"]] = [
                None if no else _plain(value, column) for value, no in zip(values.tolist(), gone.tolist(), strict=True)
            ]
    return table


def snapped(rows: Tensor, columns: list[Column]) -> Tensor:
    """Return coordinates at the values that they stand for: those of `encode` of what `decode` reads in them, `(n, d)`.

    A sampler's 0.97 of a category is a 1 in the table that a person gets; what compares samples with data must see it so.

    >>> colour = {"name": "colour", "type": "category", "missing": True, "values": ["blue", "red", None]}
    >>> import torch
    >>> snapped(torch.tensor([[0.1, 0.9, 0.2]]), [colour])
    tensor([[0., 1., 0.]], dtype=torch.float64)
    """
    table, parts = decode(rows, columns), list[NDArray[np.float64]]()
    for column in columns:
        values = table[column["name"]]
        if column["type"] in ("date", "datetime"):
            series = of_moments(column["name"], values)
            numbers = series.values if series.type == column["type"] else np.full(len(values), math.nan)  # all are missing
        elif column["type"] == "category":
            numbers = np.array(values, dtype=object)
        else:
            numbers = np.array([math.nan if value is None else float(value) for value in values])
        parts.append(encode(Series(column["name"], column["type"], numbers), column))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _plain(value: Any, column: Column) -> Any:
    """Return a number as a value of the column's type."""
    match column["type"]:
        case "integer":
            return round(value)
        case "boolean":
            return bool(value > 0.5)
        case "number":
            return float(value)
        case "date":
            return EPOCH.date() + timedelta(days=round(value))
        case "datetime":
            moment = EPOCH + timedelta(seconds=round(value, 0 if column["whole"] else 6))
            return moment.replace(tzinfo=UTC) if column["utc"] else moment
    return value


def affine_of(columns: list[Column], train: Tensor | Rows) -> Affine:
    """Return the map of training rows `(n, d)` to model space; the coordinates of a category share one scale."""
    plain = Affine.standard(train)
    scale, first = list(plain.scale), 0
    for column in columns:
        size = width(column)
        group = scale[first : first + size]
        if column["type"] == "category" and size:
            # A constant coordinate says scale 1 where its variance is 0: take the variance p·(1 - p) from its mean p.
            spread = math.sqrt(math.fsum(p * (1 - p) for p in plain.shift[first : first + size]) / size)
            group = [max(spread, RARE)] * size
        elif column["type"] == "boolean" and size:
            group[0] = max(group[0], RARE)
        if column["type"] != "category" and size > 1:
            group[1] = max(group[1], RARE)
        scale[first : first + size], first = group, first + size
    return Affine(shift=plain.shift, scale=tuple(scale))
