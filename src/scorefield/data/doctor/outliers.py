"""Outliers: values far from their column's median, examples far from their nearest neighbour, and blank images.

Reference: Tukey (1977), "Exploratory data analysis", for the outer fence: three interquartile ranges above the upper quartile
(here of the logarithm of distances, which are skewed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.data.base import DataIssue, Dataset, format_number
from scorefield.data.doctor.survey import FEATURES, Survey, encoded, evenly, where
from scorefield.data.table.columns import width
from scorefield.data.table.coordinates import decode

COMPARED = 4096  # examples whose nearest neighbours are found
AT_ONCE = 512
FAR = 10.0  # robust standard deviations from a column's median
NAMED = 5  # outliers of each sort that are named


@dataclass(frozen=True)
class Distances:
    """Root mean square distances to the nearest training example, in units of model space.

    Attributes:
        training: of training examples to the nearest other one, `(n,)`.
        rows: which training examples those are.
        held_out: of held-out examples, `(m,)`.
    """

    training: Tensor
    rows: Tensor
    held_out: Tensor


def measure_distances(data: Dataset, seen: Survey) -> Distances:
    """Return distances of at most 4096 examples, evenly spread."""
    size = math.prod(data.shape)
    most = max(64, min(COMPARED, 2**23 // size))
    rows = seen.rows[: seen.training][evenly(seen.training, most)]
    held = seen.rows[seen.training :][evenly(len(seen.rows) - seen.training, most // 4)]
    x, y = encoded(data, rows).double(), encoded(data, held).double()
    x, y = x - x.mean(dim=0), y - x.mean(dim=0)
    to_training = torch.cat([torch.cdist(part, x).amin(dim=1) for part in torch.split(y, AT_ONCE)])
    return Distances(_among(x) / math.sqrt(size), rows, to_training / math.sqrt(size))


def _among(x: Tensor) -> Tensor:
    """Return the distance of each row to the nearest other one; each pair is computed once, but within a block."""
    nearest = torch.full((len(x),), torch.inf, dtype=x.dtype)
    for first in range(0, len(x), AT_ONCE):
        distances = torch.cdist(x[first : first + AT_ONCE], x[first:])
        distances.fill_diagonal_(torch.inf)
        nearest[first:] = torch.minimum(nearest[first:], distances.amin(dim=0))
        nearest[first : first + AT_ONCE] = torch.minimum(nearest[first : first + AT_ONCE], distances.amin(dim=1))
    return nearest


def find_outliers(data: Dataset, seen: Survey, distances: Distances, *, named: bool) -> list[DataIssue]:
    """Return a few examples worth a look, the oddest first.

    Args:
        data: the data set.
        seen: the survey of it.
        distances: to the nearest training example.
        named: whether the source has named blank images by file already.
    """
    blank = [] if named else seen.blank
    issues = [
        DataIssue(where(data, i), "is unknown in every cell: nothing is learned from it", used=True) for i in seen.unknown
    ]
    issues += [
        DataIssue(where(data, i), "is blank: all its values are equal", used=True) for i in blank if i not in seen.unknown
    ]
    if data.kind in ("vector", "table") and math.prod(data.shape) <= FEATURES:
        issues += _far_values(data, seen)
    return issues + _far_examples(data, distances, {issue.where for issue in issues})


def _far_values(data: Dataset, seen: Survey) -> list[DataIssue]:
    """Return rows with a value far from its column's median."""
    x, issues = seen.features, []
    median = x.median(dim=0).values
    spread = (x - median).abs().median(dim=0).values * 1.4826
    away = torch.where(spread > 0, (x - median).abs() / spread, 0.0)
    worst, column = away.max(dim=1)
    for i in worst.argsort(descending=True)[:NAMED].tolist():
        if float(worst[i]) > FAR:
            value = _value(data, int(seen.rows[i]), int(column[i]))
            if value == "nan":  # the mean in its place is far from the median
                continue
            away_by = f"{float(worst[i]):,.0f} spreads from its median"
            cause = f"{_column(data, int(column[i]))} is {value}, {away_by}: an outlier?"
            issues.append(DataIssue(where(data, int(seen.rows[i])), cause, used=True))
    return issues


def _far_examples(data: Dataset, distances: Distances, named: set[str]) -> list[DataIssue]:
    """Return examples whose nearest neighbour is beyond the outer fence, but for those that have been named."""
    among, rows, issues = distances.training, distances.rows, []
    positive = among[among > 0]
    if len(positive) < 16:
        return []
    logs = positive.log()
    lower, upper = torch.quantile(logs, torch.tensor([0.25, 0.75], dtype=logs.dtype)).tolist()
    fence, middle = math.exp(upper + 3 * (upper - lower)), float(positive.median())
    for i in among.argsort(descending=True)[:NAMED].tolist():
        if float(among[i]) > fence and where(data, int(rows[i])) not in named:
            cause = f"is {float(among[i]) / middle:.1f} times as far from all others as is usual: an outlier?"
            issues.append(DataIssue(where(data, int(rows[i])), cause, used=True))
    return issues


def _column(data: Dataset, coordinate: int) -> str:
    """Return the name of the column that a coordinate belongs to."""
    names = [repr(column["name"]) for column in data.columns or () for _ in range(width(column))]
    return f"column {names[coordinate] if names else coordinate}"


def _value(data: Dataset, index: int, coordinate: int) -> str:
    """Return what a person would find in the source: of a table in its own type, such as a date."""
    training = len(data.train)
    part, i = (data.train, index) if index < training else (data.held_out, index - training)
    row = part[torch.tensor([i])]
    if data.columns is None:
        return format_number(float(row.flatten()[coordinate]))
    owners = [column["name"] for column in data.columns for _ in range(width(column))]
    value = decode(row, data.columns, exact=True)[owners[coordinate]][0]
    return format_number(value) if isinstance(value, float) else str(value)
