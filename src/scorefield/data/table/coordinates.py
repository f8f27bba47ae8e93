"""Coordinates: the columns of a table as vectors of numbers, and back.

Nothing is lost on the way: `decode` of coordinates, with `exact`, gives back the very columns that made them. What is drawn by
a sampler comes back as values that the column can have: an atom exactly, everything else on its grid or its levels and inside
the range of the training rows. What a draw has beyond an end of the range is reflected at it, as an estimate of a density near
a boundary must be: what noise carries across the boundary then does not pile up there.

Integers stay where they are, without dequantisation. Spread evenly over its bin, an integer has a density, which a likelihood
needs; a sampler needs the contrary: with all mass at the centre of a bin, errors of up to half a unit are rounded away; with
mass up to its edges the smallest error moves a sample into the next one.

The map to model space. Each single coordinate gets mean 0 and variance 1. The k coordinates of a category share one scale, by
which their variances are 1 on average. Isotropic noise then treats all texts of a column alike: any two are equally distant,
and the largest coordinate is the nearest text, so argmax is the most probable one. Columns also become distinguishable at
about the same noise level: two of k equally frequent texts lie k·sqrt(2/(k - 1)) from each other, 2.8 for k = 2 and 4.7 for k
= 10, while numbers of standard deviation 1 lie a few units from each other. Scaled one by one, a text that is seen once in
10,000 rows would lie 100 away from 0, and the noise that reaches it would be spent on nothing else. For the same reason no
coordinate of 0 and 1 is stretched by more than 10, as if it were at least as frequent as 1 in 100. A number whose tails are
heavy gets mean 0 and variance 1 after its transform (`tails.py`); its coordinate in the data's own unit is the number itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.normaliser import Normaliser
from scorefield.data.table.columns import Column, choices, transform_in, transforms_of, typed, width
from scorefield.data.table.series import Series
from scorefield.data.transforms import Transform, bent
from scorefield.data.views import ArrayView

Table = dict[str, list[Any]]
Numbers = NDArray[np.float64]
RARE = 0.1  # the smallest scale of a coordinate of 0 and 1: that of 1 in 100


def encode(series: Series, column: Column) -> Numbers:
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
            column, numbers without one are rounded to a millionth of their spread, and all stay in the range of the
            training rows.

    Returns:
        Name -> n values: float, int, bool, str, date, datetime, time or timedelta; None where one is missing.

    >>> colour = {"name": "colour", "type": "category", "missing": True, "values": ["blue", "red", None]}
    >>> decode(np.array([[0.1, 0.9, 0.2], [0.3, 0.2, 0.8]]), [colour])
    {'colour': ['red', None]}
    """
    x = np.asarray(rows, dtype=np.float64)
    table: Table = {}
    first = 0
    for column in columns:
        size = width(column)
        table[column["name"]] = _decode_column(x[:, first : first + size], column, exact)
        first += size
    return table


def _decode_column(part: Numbers, column: Column, exact: bool) -> list[Any]:
    """Return the values of one column from its coordinates `(n, width)`."""
    if "constant" in column:
        return [typed(column["constant"], column)] * len(part)
    if column["type"] == "category":
        texts = [None if text is None else typed(text, column) for text in column["values"]]
        return [texts[i] for i in part.argmax(axis=1)]
    values = _numbers(part, column, exact)
    return [
        None if missing else typed(value, column)
        for value, missing in zip(values.tolist(), np.isnan(values).tolist(), strict=True)
    ]


def _numbers(part: Numbers, column: Column, exact: bool) -> Numbers:
    """Return the numbers of one column from its coordinates `(n, width)`: NaN where one is missing."""
    values = part[:, 0] if exact or column["type"] == "boolean" else _admissible(part[:, 0], column)
    if "atoms" in column:
        return _with_atoms(values, part[:, 1:].argmax(axis=1), column)
    return np.where(part[:, 1] > 0.5, math.nan, values) if part.shape[1] > 1 else values


def _with_atoms(values: Numbers, which: NDArray[np.int64], column: Column) -> Numbers:
    """Return numbers where a row is none of the atoms, else its atom, or NaN where it is missing."""
    kinds = np.array([math.nan if kind is None else kind for kind in choices(column)])
    return np.where(which == 0, values, kinds[which])


def _admissible(values: Numbers, column: Column) -> Numbers:
    """Return what a sampler drew as numbers that the column can have: in its range, and on its grid or levels."""
    low, high = column["low"], column["high"]
    whole = column["type"] in ("integer", "date") or column.get("whole", False)
    step = column.get("step", 1.0 if whole else 0.0)
    inside = _reflected(values, low - step / 2, high + step / 2, transform_in(column))
    if "levels" in column:
        levels = np.array(column["levels"])
        return levels[np.searchsorted((levels[1:] / 2 + levels[:-1] / 2), inside)]
    if step:
        inside = low + step * np.round((inside - low) / step)
    if "digits" in column and column["digits"] < 300:
        inside = np.round(inside, column["digits"])
    return inside.clip(low, high)


def _reflected(values: Numbers, below: float, above: float, transform: Transform | None) -> Numbers:
    """Return numbers reflected at the ends that they lie beyond, after a transform if there is one; far beyond, the ends."""
    if transform is not None:
        low, high = transform(torch.tensor([below, above], dtype=torch.float64)).tolist()
        inside = _reflected(transform(torch.from_numpy(values)).numpy(), low, high, None)
        found: Numbers = transform.inverse(torch.from_numpy(inside)).numpy()
        return np.where((values < below) | (values > above), found, values)  # those inside stay as they are, to the last bit
    reach = above / 2 - below / 2
    inside = np.where(values < below, np.where(below - values <= reach, below + (below - values), below), values)
    return np.where(inside > above, np.where(inside - above <= reach, above - (inside - above), above), inside)


def snapped(rows: Tensor, columns: list[Column]) -> Tensor:
    """Return coordinates at the values that they stand for: those of `encode` of what `decode` reads in them, `(n, d)`.

    A sampler's 0.97 of a category is a 1 in the table that a person gets; what compares samples with data must see it so.

    >>> colour = {"name": "colour", "type": "category", "missing": True, "values": ["blue", "red", None]}
    >>> import torch
    >>> snapped(torch.tensor([[0.1, 0.9, 0.2]]), [colour])
    tensor([[0., 1., 0.]], dtype=torch.float64)
    """
    x = np.asarray(rows, dtype=np.float64)
    parts, first = list[Numbers](), 0
    for column in columns:
        part = x[:, first : first + width(column)]
        first += part.shape[1]
        if column["type"] == "category" or "constant" in column:
            values = np.array(column.get("values", []), dtype=object)[part.argmax(axis=1)] if part.shape[1] else part
        else:
            values = _whole(_numbers(part, column, False), column)
        parts.append(encode(Series(column["name"], column["type"], values), column))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _whole(values: Numbers, column: Column) -> Numbers:
    """Return numbers as what `typed` makes of them stands for: whole ones, 0 and 1, and microseconds."""
    match column["type"]:
        case "boolean":
            return np.where(np.isnan(values), math.nan, values > 0.5)
        case "datetime" if not column["whole"]:
            return np.round(values * 1e6) / 1e6
        case "integer" | "date" | "datetime":
            return np.round(values)
    return values


def normaliser_of(columns: list[Column], train: Tensor | ArrayView) -> Normaliser:
    """Return the map of training rows `(n, d)` to model space; the coordinates of a category share one scale."""
    transforms = transforms_of(columns)
    plain = Normaliser.standard(bent(train[:], transforms) if transforms else train)
    scale, first = list(plain.scale), 0
    for column in columns:
        size = width(column)
        group = scale[first : first + size]
        if column["type"] == "category" and size:
            group = [_common_scale(plain.shift[first : first + size])] * size
        elif column["type"] == "boolean" and size:
            group[0] = max(group[0], RARE)
        if "atoms" in column:
            group[1:] = [_common_scale(plain.shift[first + 1 : first + size])] * (size - 1)
        elif column["type"] != "category" and size > 1:
            group[1] = max(group[1], RARE)
        scale[first : first + size], first = group, first + size
    return Normaliser(shift=plain.shift, scale=tuple(scale), transforms=transforms)


def _common_scale(shares: tuple[float, ...]) -> float:
    """Return the common scale of indicators with these shares of ones: the root of their mean variance p·(1 - p)."""
    return max(math.sqrt(math.fsum(p * (1 - p) for p in shares) / len(shares)), RARE)
