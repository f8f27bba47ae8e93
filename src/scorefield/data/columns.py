"""Columns of a table as coordinates of a vector, and back.

    number, integer, date, datetime    one coordinate: the value (days or seconds since 1970); with atoms, one more for each
                                       of these and for "none of them", as of a category
    boolean                            one coordinate: 0 or 1
    category                           a coordinate for each text, 1 for the row's own; "missing" counts as one of the texts
    constant                           no coordinate: there is nothing to learn, and it is given back as it is

A number that is missing is put at the mean of its column, where it says nothing, and one more coordinate, 0 or 1, says that it
is missing. So nothing is lost: `decode` of coordinates gives back the very columns that made them.

An atom, a value that holds a share of its own (`natures.py`), is a text of a category beside the numbers: its rows stand at the
mean of the others, and say which atom they are; "missing" is one more of them then. What is drawn comes back in the nature of
the column: an atom exactly, everything else on its grid or its levels and inside the range of the training rows. What a draw
has beyond an end of the range is folded back from it, as an estimate of a density near a wall must be: noise that leaks through
a wall then leaves no heap at it.

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

from scorefield.data.base import ArrayView, DataIssue, Normaliser
from scorefield.data.natures import mean_and_spread, nature_of

Table = dict[str, list[Any]]
Column = dict[str, Any]
Type = Literal["number", "integer", "boolean", "date", "datetime", "category"]
MOST_TEXTS = 100
FAR = 20  # standard deviations, beyond which a value is odd
FINE = 0.01  # standard deviations: the step of a grid below which it has a density, seen through the least noise of a training
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
    snapshot = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return (snapshot - EPOCH) / timedelta(seconds=1)


def describe(series: Series, train: NDArray[np.int64]) -> tuple[Column | None, list[DataIssue]]:
    """Return what a column's coordinates mean, as JSON values, or None if it is left out; and what is odd about it.

    Args:
        series: the column.
        train: numbers of the training rows.
    """
    where, missing = f"column {series.name!r}", series.missing
    column: Column = {"name": series.name, "type": series.type, "missing": bool(missing.any())}
    if missing.all():
        return None, [DataIssue(where, "no values at all")]
    if series.type == "category":
        return _category(series, column, where, train)
    known = series.values[~missing]
    if series.type == "datetime":
        column |= {"utc": series.utc, "whole": bool((known == np.round(known)).all())}
    if (known == known[0]).all() and not missing.any():
        return _constant(column, _plain(known[0], column), where)
    seen = series.values[train][~missing[train]]
    if not len(seen):
        return None, [DataIssue(where, "no values in the training part")]
    if series.type == "integer" and not missing.any() and (np.diff(series.values) == 1).all() and len(known) > 2:
        return None, [DataIssue(where, "counts the rows")]
    column, seen = column | _nature(series.type, seen, column), _rest(seen, column)
    issues = []
    mean, std = mean_and_spread(seen)
    if series.type in ("number", "integer") and std > 0 and (reach := float(np.abs(seen / std - mean / std).max())) > FAR:
        issues.append(
            DataIssue(where, f"reaches {reach:.0f} standard deviations: its logarithm may be easier to learn", used=True)
        )
    return column, issues


def _nature(type_: Type, seen: NDArray[np.float64], column: Column) -> Column:
    """Return what is known of the numbers of a column's training rows, as JSON values.

    `continuous` says whether those that are there have a density; with `missing`, a share of the rows has none of them.
    """
    if type_ == "boolean":
        return {"low": float(seen.min()), "high": float(seen.max()), "fill": mean_and_spread(seen)[0], "continuous": False}
    found = nature_of(seen, whole=type_ in ("integer", "date") or column.get("whole", False))
    rest = seen[~np.isin(seen, found.atoms)]
    mean, std = mean_and_spread(rest)
    known: Column = {"low": float(rest.min()), "high": float(rest.max()), "fill": mean}
    known["continuous"] = not found.atoms and not found.levels and found.step <= FINE * std and std > 0
    if type_ == "number" and std > 0:
        known["digits"] = found.digits
    parts = {"atoms": list(found.atoms), "levels": list(found.levels), "step": found.step}
    return known | {name: value for name, value in parts.items() if value}


def _rest(values: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    return values[~np.isin(values, column.get("atoms", []))]


def _constant(column: Column, value: Any, where: str) -> tuple[Column, list[DataIssue]]:
    text = str(value) if isinstance(value, date) else value
    odd = DataIssue(where, f"is {text!r} in every row: it is given back, there is nothing to learn", used=True)
    number = (
        _seconds(value) if column["type"] == "datetime" else (value - EPOCH.date()).days if column["type"] == "date" else value
    )
    return {**column, "constant": number}, [odd]


def _category(series: Series, column: Column, where: str, train: NDArray[np.int64]) -> tuple[Column | None, list[DataIssue]]:
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


def width(column: Column) -> int:
    """Return the number of a column's coordinates."""
    if "constant" in column:
        return 0
    if column["type"] == "category":
        return len(column["values"])
    return 1 + len(_kinds(column)) if "atoms" in column else 1 + column["missing"]


def _kinds(column: Column) -> list[float | None]:
    """Return what a row of a column with atoms may be: NaN for a number of the rest, an atom, or None where one is missing."""
    return [math.nan, *column["atoms"], *[None] * column["missing"]]


def silent(column: Column) -> range:
    """Return which of a column's coordinates, counted from its first, are 1 where its number says nothing: missing, or an atom.

    >>> silent({"name": "a", "type": "number", "missing": True, "atoms": [0.0]})
    range(2, 4)
    """
    if column["type"] == "category" or "constant" in column:
        return range(0)
    return range(2 if "atoms" in column else 1, width(column))


def fits(series: Series, column: Column) -> bool:
    """Whether a series can be encoded as a column of another table: of its type, with no text or gap that is new to it."""
    if series.type != column["type"] or (not column["missing"] and bool(series.missing.any())):
        return False
    if "constant" in column:
        return bool((series.values == column["constant"]).all())
    return series.type != "category" or set(series.values.tolist()) <= set(column["values"])


def encode(series: Series, column: Column) -> NDArray[np.float64]:
    """Return a column's coordinates `(n, width)`."""
    if "constant" in column:
        return np.empty((len(series.values), 0))
    if column["type"] == "category":
        place = {text: i for i, text in enumerate(column["values"])}
        return np.eye(len(place))[[place[text] for text in series.values.tolist()]]
    missing = series.missing
    if "atoms" not in column:
        parts = [np.where(missing, column["fill"], series.values)] + [missing.astype(np.float64)] * column["missing"]
        return np.stack(parts, axis=1)
    kinds = [series.values == atom for atom in column["atoms"]] + [missing] * column["missing"]
    none = ~np.any(kinds, axis=0)
    return np.stack([np.where(none, series.values, column["fill"]), none, *kinds], axis=1).astype(np.float64)


def decode(rows: Tensor | NDArray[Any], columns: list[Column], *, exact: bool = False) -> Table:
    """Return coordinates as the columns of a table.

    Args:
        rows: coordinates in the data's own units (after `Normaliser.decode`), `(n, d)`.
        columns: what they mean: `Dataset.columns`.
        exact: rows of data: give back every value as it was. Otherwise values are put on the grid or the levels of their
            column, numbers without one are rounded to a millionth of their spread, and all are kept in the range of the
            training rows.

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
            values = part[:, 0] if exact or column["type"] == "boolean" else _natural(part[:, 0], column)
            gone = np.zeros(len(x), dtype=bool)
            if "atoms" in column:
                values = _with_atoms(values, part[:, 1:].argmax(axis=1), column)
                gone = np.isnan(values)
            elif size > 1:
                gone = part[:, 1] > 0.5
            table[column["name"]] = [
                None if no else _plain(value, column) for value, no in zip(values.tolist(), gone.tolist(), strict=True)
            ]
    return table


def _with_atoms(values: NDArray[np.float64], which: NDArray[np.int64], column: Column) -> NDArray[np.float64]:
    """Return numbers where a row is none of the atoms, else its atom, or NaN where it is missing."""
    kinds = np.array([math.nan if kind is None else kind for kind in _kinds(column)])
    return np.where(which == 0, values, kinds[which])


def _natural(values: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    """Return what a sampler drew as numbers that the column can have: in its range, and on its grid or levels."""
    low, high = column["low"], column["high"]
    whole = column["type"] in ("integer", "date") or column.get("whole", False)
    step = column.get("step", 1.0 if whole else 0.0)
    below, above = low - step / 2, high + step / 2
    reach = above / 2 - below / 2
    inside = np.where(values < below, np.where(below - values <= reach, below + (below - values), low), values)
    inside = np.where(inside > above, np.where(inside - above <= reach, above - (inside - above), high), inside)
    if "levels" in column:
        levels = np.array(column["levels"])
        return levels[np.searchsorted((levels[1:] / 2 + levels[:-1] / 2), inside)]
    if step:
        inside = low + step * np.round((inside - low) / step)
    if "digits" in column and column["digits"] < 300:
        inside = np.round(inside, column["digits"])
    return inside.clip(low, high)


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
            snapshot = EPOCH + timedelta(seconds=round(value, 0 if column["whole"] else 6))
            return snapshot.replace(tzinfo=UTC) if column["utc"] else snapshot
    return value


def normaliser_of(columns: list[Column], train: Tensor | ArrayView) -> Normaliser:
    """Return the map of training rows `(n, d)` to model space; the coordinates of a category share one scale."""
    plain = Normaliser.standard(train)
    scale, first = list(plain.scale), 0
    for column in columns:
        size = width(column)
        group = scale[first : first + size]
        if column["type"] == "category" and size:
            group = [_common(plain.shift[first : first + size])] * size
        elif column["type"] == "boolean" and size:
            group[0] = max(group[0], RARE)
        if "atoms" in column:
            group[1:] = [_common(plain.shift[first + 1 : first + size])] * (size - 1)
        elif column["type"] != "category" and size > 1:
            group[1] = max(group[1], RARE)
        scale[first : first + size], first = group, first + size
    return Normaliser(shift=plain.shift, scale=tuple(scale))


def _common(shares: tuple[float, ...]) -> float:
    """Return the scale that yes-or-no coordinates of some shares have in common: the root of their mean variance p·(1 - p)."""
    return max(math.sqrt(math.fsum(p * (1 - p) for p in shares) / len(shares)), RARE)
