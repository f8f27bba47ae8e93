"""Numbers of a table's columns: from draws in its coordinates to numbers, and intervals at values that the columns can have."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scorefield.conformal import interval
from scorefield.data.table.columns import Column, choices, width
from scorefield.runs import Run

SHARE = 0.9  # of the true values that intervals hold


def numbers_of(drawn: Tensor, columns: list[Column]) -> list[Tensor | None]:
    """Return the numbers of each column, `(draws, n)`; None of a column without numbers."""
    found, first = list[Tensor | None](), 0
    for column in columns:
        part, first = drawn[..., first : first + width(column)], first + width(column)
        if "constant" in column or column["type"] in ("category", "boolean"):
            found.append(None)
        elif "atoms" in column:
            kinds = torch.tensor([math.nan if kind is None else kind for kind in choices(column)], dtype=torch.float64)
            which = part[..., 1:].argmax(dim=-1)
            found.append(torch.where(which == 0, part[..., 0], kinds[which]))
        else:
            found.append(part[..., 0])
    return found


def units_of(run: Run) -> list[Tensor]:
    """Return the unit of each column's first coordinate, by which its numbers are measured."""
    scales, found, first = run.normaliser.units(run.shape), list[Tensor](), 0
    for column in run.manifest["data"]["columns"]:
        found.append(scales[min(first, len(scales) - 1)])
        first += width(column)
    return found


def ends_of(numbers: Tensor, column: Column) -> tuple[Tensor, Tensor]:
    """Return the ends of the draws' own intervals, at values that the column can have."""
    low, high = interval(numbers, SHARE)
    return legal(low, column, -1), legal(high, column, 1)


def range_of(column: Column) -> tuple[float, float]:
    """Return the smallest and the largest value of a column's training rows."""
    atoms = column.get("atoms", [])
    return min([column["low"], *atoms]), max([column["high"], *atoms])


def legal(ends: Tensor, column: Column, side: int) -> Tensor:
    """Return ends at the nearest values outwards that a column can have; `side` is -1 for low ends and 1 for high ones."""
    if "levels" in column:
        levels = torch.tensor(sorted({*column["levels"], *column.get("atoms", [])}), dtype=torch.float64)
        place = torch.searchsorted(levels, ends.contiguous(), right=side < 0) - int(side < 0)
        return levels[place.clamp(0, len(levels) - 1)]
    whole = column["type"] in ("integer", "date") or column.get("whole", False)
    digits = column.get("digits", 300)
    step, origin = column.get("step", 1.0 if whole else 0.0), column["low"]
    if not step and digits < 300:
        step, origin = 10.0**-digits, 0.0
    if step:
        off = (ends - origin) / step
        ends = origin + step * (off + 1e-9).floor() if side < 0 else origin + step * (off - 1e-9).ceil()
        ends = torch.from_numpy(np.round(ends.numpy(), digits)) if digits < 300 else ends
    return ends.clamp(*range_of(column))
